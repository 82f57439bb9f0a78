"""Progressive shrinking: a student that is smaller step by step, until one misses a requirement on accuracy.

Width or depth is reduced; every student starts from the baseline's own weights and is taught by the baseline, or by
the recipe's teacher (Hinton, Vinyals and Dean, Distilling the Knowledge in a Neural Network, 2015). Each is an ordinary
recipe with training, so that it is a record that can be made again alone. The requirement is on the validation part of
the train split.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from paretoscope.base.errors import RecipeError
from paretoscope.base.progress import SILENT, Progress
from paretoscope.measure.subject import Subject
from paretoscope.model.structure import blocks
from paretoscope.recipe.recipe import Recipe
from paretoscope.training.epochs import Epoch, Recovery
from paretoscope.training.split import Split


class Axis(StrEnum):
    """What students have less and less of."""

    WIDTH = "width"
    DEPTH = "depth"


# Shares of the channels and neurons that are removed; chosen by hand, no benchmark.
WIDTHS = (0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 0.9375)
# Weight of the teacher's answers where the recipe names none; chosen by hand, no benchmark.
DISTILL = 0.7

Train = Callable[[Recipe], Recovery]


@dataclass(frozen=True, slots=True)
class ShrinkStep:
    """A student and its training.

    recipe: as trained. best: the number of the epoch that was kept. epochs: all, the start first. holds: whether it
    meets the requirement; None while it trains.
    """

    recipe: Recipe
    best: int
    epochs: tuple[Epoch, ...]
    holds: bool | None

    @property
    def accuracy(self) -> float:
        """The accuracy of the epoch that was kept, on the validation part."""
        return self.epochs[self.best].validation_accuracy


def students(subject: Subject, recipe: Recipe, axis: str, epochs: int) -> Iterator[Recipe]:
    """Recipes of smaller and smaller students of a recipe. axis: an `Axis` or its name. epochs: of each training.

    Widths are rounded to whole groups of channels: students as wide as the one before are left out. Raises RecipeError
    for another axis, and for a network that has no blocks to drop.
    """
    if axis not in tuple(Axis):
        raise RecipeError(f"axis must be 'width' or 'depth'; got {axis!r}. Choose one of these names.")
    settings = recipe.settings()
    settings |= {"epochs": epochs, "stopped": 0, "distill": settings["distill"] or DISTILL}
    if axis == Axis.DEPTH:
        yield from (Recipe.of(**{**settings, "blocks": count}) for count in _depths(subject, recipe))
        return
    before = None
    for width in WIDTHS:
        if width > settings["nodes"]:
            student = Recipe.of(**{**settings, "nodes": width})
            layers = subject.variant(student.simplify).statistics.layers
            shapes = [layer.weight.shape for layer in layers.values()]
            if shapes != before:
                yield student
            before = shapes


def required_accuracy(subject: Subject, recipe: Recipe, points: float) -> float:
    """The baseline's accuracy on the validation part that a recipe's seed draws, less so many percentage points.

    Raises RecipeError for points that are not a number of at least 0.
    """
    if isinstance(points, bool) or not isinstance(points, int | float) or not 0 <= points < math.inf:
        raise RecipeError(f"points must be a number of at least 0; got {points!r}. Pass e.g. 0.5.")
    accuracy, _ = Split.of(subject, recipe.recover.seed if recipe.recover else 0).validate(subject.model)
    return accuracy - points / 100


def shrink(
    recipes: Iterable[Recipe], train: Train, required: float, progress: Progress = SILENT
) -> Iterator[ShrinkStep]:
    """Train one student after another, the largest first, to the first that misses the required accuracy, included.

    train: the result of training by a recipe, made anew or kept from before. progress: asked before each student; what
    it raises ends the work.
    """
    for recipe in recipes:
        progress.report()
        found = train(recipe)
        step = ShrinkStep(found.recipe, found.best, found.epochs, None)
        # Both accuracies are counts over the same images, at most 5,000: any difference is larger than this.
        step = replace(step, holds=step.accuracy >= required - 1e-6)
        yield step
        if not step.holds:
            return


def smallest(steps: Sequence[ShrinkStep]) -> ShrinkStep | None:
    """The last student that meets the requirement; None where none does."""
    return next((step for step in reversed(steps) if step.holds), None)


def _depths(subject: Subject, recipe: Recipe) -> range:
    """How many blocks to drop by harm, beside those that the recipe names."""
    dropped, done = (len(recipe.simplify.drop), recipe.simplify.blocks) if recipe.simplify else (0, 0)
    known = len(blocks(subject.model)) - dropped
    if known <= done:
        raise RecipeError(
            f"depth must have a residual block left to drop; {subject.name} has none here. Shrink the width."
        )
    return range(done + 1, known + 1)
