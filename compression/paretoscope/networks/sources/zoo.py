"""The networks that ship with weights that we trained."""

from functools import lru_cache

from paretoscope.data.dataset import datasets
from paretoscope.networks import zoo
from paretoscope.networks.network import Input, Network
from paretoscope.networks.zoo.model import ModelEntry


class Zoo:
    """Networks of `paretoscope.networks.zoo`, by the names of its models."""

    name = "zoo"
    title = "Zoo"
    summary = "Networks with weights that we trained, on data that everyone can have."
    reference = "The models' own, in paretoscope.networks.zoo"

    def names(self) -> tuple[str, ...]:
        return zoo.models.names()

    def get(self, name: str) -> Network:
        return _network(zoo.models.get(name))


# One object a name, because caches of results have the network as their key.
@lru_cache(maxsize=64)
def _network(entry: ModelEntry) -> Network:
    return Network(
        name=entry.name,
        title=entry.title,
        inputs=(Input("images", entry.input_shape),),
        outputs=((len(datasets.get(entry.dataset).classes),),),
        data=entry.dataset,
        bare=entry.build,
        opened=lambda: zoo.load_model(entry.name),
    )
