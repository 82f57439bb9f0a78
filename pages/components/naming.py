"""What models and recipes are called on the screen, and what samples they take; importing this loads nothing large."""

from functools import lru_cache

from paretoscope.base.errors import CompressionError
from paretoscope.networks import sources
from paretoscope.networks.network import Network
from paretoscope.networks.sources import find
from paretoscope.networks.zoo import models
from paretoscope.recipe.presets import presets_of

from pages.components import plain

__all__ = ["called", "find", "known", "names", "pictures", "recipes", "shown", "square", "titled"]


def known(model: str) -> bool:
    """Whether there is a model of that name: one of the zoo, or one that was added, is whole and was not removed."""
    try:
        find(model)
    except CompressionError:
        return False
    return True


def names() -> tuple[str, ...]:
    """What can be chosen: the zoo's models, then the user's; of damaged ones the page Networks tells."""
    return tuple(filter(known, sources.names()))


def called(model: str) -> str:
    """The title of a model as text from outside; its name where it was removed meanwhile."""
    return find(model).title if known(model) else model


def titled(model: str) -> str:
    """The title of a model as markdown."""
    return plain.escape(called(model), 80)


def shown(model: str) -> str:
    """One sentence below the chooser: what a model is, as markdown."""
    if model in models:
        return models.get(model).summary
    network = find(model)
    inputs = ", ".join(f"{each.name} {' x '.join(map(str, each.shape))}" for each in network.inputs)
    return plain.escape(f"Yours: {inputs}; {network.data or 'no data'}.")


@lru_cache(maxsize=64)
def recipes(model: str) -> dict[str, str]:
    """Titles of the presets of a model by the digests of their recipes."""
    return {preset.recipe.digest: preset.title for preset in presets_of(model)}


def pictures(network: Network) -> bool:
    """Whether a network takes one picture, (C, H, W) with 1 or 3 channels of floating point."""
    (first, *more) = network.inputs
    return not more and len(first.shape) == 3 and first.shape[0] in (1, 3) and first.dtype.startswith("float")


def square(network: Network) -> bool:
    """Whether it takes one square picture, which may be timed at other sizes."""
    return pictures(network) and network.input_shape[1] == network.input_shape[2]
