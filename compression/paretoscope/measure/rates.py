"""Rates: how much of a compressed model is zero, how much is shared, and how much the recipe acted on."""

from collections import Counter
from collections.abc import Mapping

import numpy as np

from paretoscope.codec.streams import histogram
from paretoscope.measure.record import Rates, Touched
from paretoscope.model.compressed import CompressedModel
from paretoscope.model.statistics import ModelStatistics
from paretoscope.model.tensors import Codebook, CompressedTensor, Integers, Plain


def rates(model: CompressedModel) -> Rates:
    """Sparse and shared rate over all compressible weights of the model; see `Rates` for what they mean."""
    zeros = shared = total = 0
    for tensor in model.weights.values():
        codes = _codes(tensor)
        total += codes.size
        if isinstance(tensor, Codebook):
            counts = histogram(codes, tensor.entries.shape[0] + 1)
            zeros += int(counts[0])
            shared += int(counts[1:][counts[1:] >= 2].sum())
        else:
            zeros += codes.size - int(np.count_nonzero(codes))
            if isinstance(tensor, Integers) and not tensor.scale.all():
                zeros += int(np.count_nonzero(codes[tensor.scale == 0]))
    return Rates(sparse_rate=zeros / total, shared_rate=shared / total, architecture_simplification=1.0)


def touched(model: CompressedModel, before: ModelStatistics, kinds: Mapping[str, str], parameters: int) -> Touched:
    """What the recipe acted on. before: the baseline's statistics, with so many parameters.

    kinds: of each parameter that the network has now, by name (`weights.described`). Acted on are parameters that the
    recipe took away, and tensors that are not stored as they were, every bit of them; what is left of a tensor of
    which nodes were taken away is as it was, unless another step changed it.
    """
    left: Counter[str] = Counter()
    for name, kind in kinds.items():
        own = model.ties.get(name, name)
        tensor = model.weights[own] if own in model.weights else model.rest[own]
        if isinstance(tensor, Plain) and _is_as_before(tensor.values, model, before, own):
            left[kind] += tensor.values.size
    share = 1 - left.total() / parameters if parameters else 0.0
    return Touched(share, tuple((kind, count / parameters) for kind, count in left.most_common()))


def _is_as_before(values: np.ndarray, model: CompressedModel, before: ModelStatistics, name: str) -> bool:
    layer = before.layers.get(name)
    was = before.rest.get(name) if layer is None else layer.weight
    if was is None or was.dtype != values.dtype:
        return False
    if was.shape == values.shape:
        return was is values or was.tobytes() == values.tobytes()
    recipe, structure = model.recipe, model.structure
    changed = recipe.prune or recipe.overrides or recipe.repair or recipe.recover
    rewritten = {path for pair in (*structure.folded, *structure.merged) for path in pair}
    return not changed and name.rpartition(".")[0] not in rewritten


def _codes(tensor: CompressedTensor) -> np.ndarray:
    """An array of the tensor's shape that is zero where its weights are."""
    match tensor:
        case Plain(values=values):
            return values
        case Integers(codes=codes, zero=zero) if zero is not None:
            points = zero.reshape(zero.shape + (1,) * (codes.ndim - 1)) if zero.ndim else zero
            nonzero: np.ndarray = np.not_equal(codes, points)
            return nonzero
        case Integers(codes=codes):
            return codes
        case Codebook(indices=indices):
            return indices
        case _:
            return tensor.decode()
