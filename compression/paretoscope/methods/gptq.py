"""Rounding with error compensation as a method: codes are chosen anew by the error of the layer's output."""

from dataclasses import replace

import numpy as np

from paretoscope.methods import bound, clipping, compensate
from paretoscope.methods.compensate import Entries, EvenGrid
from paretoscope.methods.registry import Sampled, Stage, WeightMethod, Work
from paretoscope.model.tensors import Codebook, Integers
from paretoscope.recipe.recipe import Recipe
from paretoscope.recipe.steps.repair import Rounding


def compensated(
    weight: np.ndarray, kept: np.ndarray | None, tensor: Integers | Codebook, hessian: np.ndarray
) -> Integers | Codebook:
    """The tensor with its codes chosen anew, by the error of the layer's output rather than of each weight.

    weight: as it was before pruning, so that what pruning takes away is made good too.
    """
    rounded = compensate.round_with_compensation
    if isinstance(tensor, Codebook):
        symbols = rounded(weight, hessian, tensor.indices != 0, Entries(tensor.entries.decode()))
        return replace(tensor, indices=symbols)
    if tensor.bits == 1:
        alpha = np.broadcast_to(tensor.scale, (len(weight),))
        symbols = rounded(weight, hessian, tensor.codes != 0, Entries(np.stack([-alpha, alpha], axis=1)))
        return replace(tensor, codes=np.array([0, -1, 1], np.int8)[symbols])
    top = clipping.levels(tensor.bits)
    low = -top if tensor.zero is None else -top - 1
    codes = rounded(weight, hessian, kept, EvenGrid(tensor.scale, low, top, tensor.zero))
    return replace(tensor, codes=codes.astype(tensor.codes.dtype))


def _takes(work: Work) -> bool:
    if work.hessian is None or work.settled:
        return False
    tensor = work.tensor
    return isinstance(tensor, Integers) or (isinstance(tensor, Codebook) and tensor.entries.shape[0] > 0)


def _samples(recipe: Recipe) -> tuple[Sampled, ...]:
    wanted = recipe.repair is not None and recipe.repair.rounding == Rounding.GPTQ
    return (Sampled.SECOND_MOMENTS,) * wanted


def _apply(work: Work) -> Work:
    weight = work.layer.weight
    assert isinstance(work.tensor, Integers | Codebook) and work.hessian is not None  # or it had not been taken
    tensor = compensated(weight, work.kept, work.tensor, work.hessian)
    return replace(work, tensor=bound.bounded(weight, tensor, work.hessian))


METHODS = (WeightMethod("gptq", Stage.REPAIR, _takes, _apply, samples=_samples),)
