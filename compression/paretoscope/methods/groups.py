"""Group dropping: after weight sharing, the values that few weights use are given up, which shortens the table and
the codes of all others.
"""

import dataclasses

import numpy as np

from paretoscope.methods import bound, share
from paretoscope.methods.registry import Stage, WeightMethod, Work, weight_methods
from paretoscope.model.tensors import Codebook, Integers, Plain


def drop(codebook: Codebook, population: int, rarest: int, moved: str, weight: np.ndarray) -> Codebook:
    """A codebook without its groups of fewer than `population` weights and its `rarest` rarest groups.

    Of equally rare groups the first entries go; at least one group, the largest, stays. weight: float32 of the
    codebook's shape, what it stands for. moved: what becomes of the weights of a dropped group, "zero", or "nearest"
    for the group left whose entry is nearest to the weight. Entries must ascend.
    """
    count = codebook.entries.shape[0]
    uses = np.bincount(codebook.indices.reshape(-1), minlength=count + 1)[1:]
    order = np.argsort(uses, kind="stable")
    dropped = min(max(np.count_nonzero(uses < population), rarest), count - 1)
    if dropped <= 0:
        return codebook
    kept = np.sort(order[dropped:])
    entries = _taken(codebook.entries, kept)
    table = np.zeros(count + 1, np.uint8 if len(kept) <= 255 else np.uint16)
    table[kept + 1] = np.arange(1, len(kept) + 1)
    indices = table[codebook.indices]
    if moved == "nearest":
        homeless = (indices == 0) & (codebook.indices != 0)
        indices[homeless] = share.assign(weight[homeless], entries.decode())
    return Codebook(indices, entries)


def _taken(entries: Plain | Integers, kept: np.ndarray) -> Plain | Integers:
    if isinstance(entries, Plain):
        return Plain(entries.values[kept])
    return dataclasses.replace(entries, codes=entries.codes[kept])


def merged(codebook: Codebook) -> Codebook:
    """The codebook without what rounding made equal or zero: zero has its own symbol, and every entry one."""
    entries = codebook.entries
    codes = entries.codes if isinstance(entries, Integers) else entries.values
    kept = np.unique(codes[codes != 0])
    if len(kept) == len(codes):
        return codebook
    table = np.zeros(len(codes) + 1, np.uint8 if len(kept) <= 255 else np.uint16)
    table[1:] = np.where(codes == 0, 0, np.searchsorted(kept, codes) + 1)
    unique = Integers(kept, entries.scale, entries.bits) if isinstance(entries, Integers) else Plain(kept)
    return Codebook(table[codebook.indices], unique)


def _regroup(work: Work) -> Work:
    codebook, step = merged(work.tensor), work.plan.share
    if step.population or step.rarest:
        codebook = drop(codebook, step.population, step.rarest, step.moved, work.weight)
        codebook = bound.bounded(work.weight, codebook, None)
    return dataclasses.replace(work, tensor=codebook)


weight_methods.add(WeightMethod("groups", Stage.REGROUP, lambda work: isinstance(work.tensor, Codebook), _regroup))
