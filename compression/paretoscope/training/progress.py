"""What follows from the epochs of a training: how long the rest takes, what an earlier end would keep."""

from collections.abc import Sequence
from dataclasses import replace

from paretoscope.base.units import duration
from paretoscope.recipe.recipe import Recipe
from paretoscope.training.epochs import Epoch, Recovery, best_of

__all__ = ["cut", "duration", "seconds_left"]

# Epochs from which the rest is estimated: earlier ones, of a ramp, may have had less to do. Chosen by hand, no
# benchmark.
_RECENT = 5


def seconds_left(epochs: Sequence[Epoch], total: int) -> float | None:
    """Estimate for the epochs up to `total`; None before the first has ended. Patience may end it earlier."""
    if len(epochs) < 2:
        return None
    before, last = epochs[max(0, len(epochs) - 1 - _RECENT)], epochs[-1]
    return (total - last.number) * (last.seconds - before.seconds) / (last.number - before.number)


def cut(recovery: Recovery, recipe: Recipe) -> Recovery | None:
    """The result of a training, had it been ended where `recipe` says; None where it did not get that far.

    None too where `recipe` is another in anything but that end.
    """
    if recovery.recipe == recipe:
        return recovery
    step, own = recipe.recover, recovery.recipe.recover
    if step is None or own is None:
        return None
    if replace(recovery.recipe, recover=replace(own, stopped=step.stopped)) != recipe:
        return None
    last = step.stopped or step.epochs
    epochs = tuple(epoch for epoch in recovery.epochs if epoch.number <= last)
    best = best_of(epochs)
    if best is None or epochs[-1].number < last:
        return None
    return Recovery(recipe, best.number, epochs)
