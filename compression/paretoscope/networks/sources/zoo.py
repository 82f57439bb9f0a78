"""The networks that ship with weights that we trained."""

from paretoscope.data.dataset import datasets
from paretoscope.networks import zoo
from paretoscope.networks.network import Input, Network, sources


class Zoo:
    """Networks of `paretoscope.networks.zoo`, by the names of its models."""

    name = "zoo"
    title = "Zoo"
    summary = "Networks with weights that we trained, on data that everyone can have."
    reference = "The models' own, in paretoscope.networks.zoo"

    def names(self) -> tuple[str, ...]:
        return zoo.models.names()

    def get(self, name: str) -> Network:
        entry = zoo.models.get(name)
        return Network(
            name=entry.name,
            title=entry.title,
            inputs=(Input("images", entry.input_shape),),
            output=(len(datasets.get(entry.dataset).classes),),
            data=entry.dataset,
            bare=entry.build,
            opened=lambda: zoo.load_model(name),
        )


sources.add(Zoo())
