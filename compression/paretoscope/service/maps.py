"""What two configurations say at each position of a sample: maps of classes, for networks that give such maps."""

from collections.abc import Sequence

import numpy as np

from paretoscope.base.batch import Batch, parts
from paretoscope.base.errors import ModelError
from paretoscope.data.data import Part
from paretoscope.data.taking import taken
from paretoscope.measure.subject import Subject
from paretoscope.networks.network import Network
from paretoscope.recipe.recipe import Recipe
from paretoscope.tasks.reference import run

# Where the second configuration says something else than the first: vermillion of Okabe and Ito.
OTHER = (213, 94, 0)

# Shades of the first and the last class: apart from a page's own white and black. By hand, no benchmark.
DARKEST, LIGHTEST = 40, 215
# Both maps of a sample, uint8 (height, width, 3).
Maps = tuple[np.ndarray, np.ndarray]


def mapped(network: Network) -> bool:
    """Whether a network gives a map of classes, (classes, height, width)."""
    return _place(network) is not None


def maps(subject: Subject, before: Recipe, after: Recipe, places: Sequence[int]) -> list[Maps]:
    """The maps of two recipes of some samples of the test split, classes as shades of grey.

    In the second, positions of another class than in the first have the colour OTHER. Raises RecipeError, and
    ModelError for a network that gives none.
    """
    batch = taken(subject.data, Part.TEST, places)
    was, now = (_classes(subject, recipe, batch) for recipe in (before, after))
    return [(_grey(one, one), _grey(one, other)) for one, other in zip(was, now, strict=True)]


def _place(network: Network) -> int | None:
    """Which output is a map of classes, None where none is."""
    return next((at for at, shape in enumerate(network.outputs) if len(shape) == 3 and shape[0] > 1), None)


def _classes(subject: Subject, recipe: Recipe, batch: Batch) -> np.ndarray:
    """The class at each position, as a share of the largest: (n, height, width)."""
    place = _place(subject.network)
    with subject.running(subject.compress(recipe)) as forward:
        outputs = parts(subject.task.comparable(run(forward, batch)))
    if place is None or place >= len(outputs) or outputs[place].ndim != 4:
        raise ModelError(
            f"maps are shown of networks with an output (classes, height, width); {subject.name} has none. Look at its "
            "answers in words."
        )
    found = outputs[place]
    shares: np.ndarray = (found.argmax(dim=1).double() / (found.shape[1] - 1)).numpy()
    return shares


def _grey(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    shades = np.round(DARKEST + (LIGHTEST - DARKEST) * after).astype(np.uint8)
    picture = np.repeat(shades[..., None], 3, axis=2)
    picture[before != after] = OTHER
    return picture
