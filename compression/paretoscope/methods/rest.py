"""What is not compressed otherwise, biases and normalisation: its format in the file."""

import numpy as np

from paretoscope.methods import dependent
from paretoscope.model.tensors import Integers, Plain
from paretoscope.recipe.recipe import Recipe
from paretoscope.recipe.steps.code import Rest
from paretoscope.recipe.steps.quantize import Weighting


def coded(array: np.ndarray, recipe: Recipe, fisher: np.ndarray | None) -> Plain | Integers:
    """An entry in the recipe's format. fisher: its diagonal Fisher information, where there is one."""
    step = recipe.quantize
    if recipe.code.rest == Rest.RATE and step is not None and array.dtype == np.float32 and array.size:
        by_magnitude = step.weighting == Weighting.MAGNITUDE
        # Variances and gains span orders of magnitude, and no harm is known of statistics: they keep their digits.
        if (fisher is not None or by_magnitude) and not (array > 0).all() and np.isfinite(array).all():
            sensitivity = float(dependent.sensitivity(array.reshape(1, -1), step, fisher).mean())
            return dependent.round_values(array, sensitivity, step.exchange)
    return _plain(array, recipe.code.rest)


def like(before: Plain | Integers, array: np.ndarray, recipe: Recipe) -> Plain | Integers:
    """New values of an entry, in the format that it had."""
    return dependent.on_grid(array, before.scale) if isinstance(before, Integers) else _plain(array, recipe.code.rest)


def _plain(array: np.ndarray, rest: str) -> Plain:
    if rest != Rest.FP32 and array.dtype == np.float32:
        with np.errstate(over="ignore"):
            half = array.astype(np.float16)
        if np.array_equal(np.isfinite(half), np.isfinite(array)):
            return Plain(half)
    return Plain(array)
