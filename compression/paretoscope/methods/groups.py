"""Group dropping: after weight sharing, the values that few weights use are given up, which shortens the table and
the codes of all others.
"""

import dataclasses

import numpy as np

from paretoscope.methods import bound, kmeans
from paretoscope.methods.catalogue import MethodEntry, Section, explained
from paretoscope.methods.registry import Stage, WeightMethod, Work
from paretoscope.model.tensors import Codebook, Integers, Plain
from paretoscope.recipe.recipe import Recipe, Share
from paretoscope.recipe.steps.share import Moved


def drop(codebook: Codebook, population: int, rarest: int, moved: str, weight: np.ndarray) -> Codebook:
    """A codebook without its groups of fewer than `population` weights and its `rarest` rarest groups.

    Of equally rare groups the first entries go; at least one group, the largest, stays. weight: float32 of the
    codebook's shape, what it stands for. moved: what becomes of the weights of a dropped group, "zero", or "nearest"
    for the group left whose entry is nearest to the weight. Entries must ascend.
    """
    count = codebook.entries.shape[0]
    uses = np.bincount(codebook.indices.reshape(-1), minlength=count + 1)[1:]
    order = np.argsort(uses, kind="stable")
    dropped = min(max(int(np.count_nonzero(uses < population)), rarest), count - 1)
    if dropped <= 0:
        return codebook
    kept = np.sort(order[dropped:])
    entries = _taken(codebook.entries, kept)
    table = np.zeros(count + 1, np.uint8 if len(kept) <= 255 else np.uint16)
    table[kept + 1] = np.arange(1, len(kept) + 1)
    indices = table[codebook.indices]
    if moved == Moved.NEAREST:
        homeless = (indices == 0) & (codebook.indices != 0)
        indices[homeless] = kmeans.assign(weight[homeless], entries.decode())
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
    codebook, step = merged(work.codebook), work.share
    if step.population or step.rarest:
        codebook = drop(codebook, step.population, step.rarest, step.moved, work.weight)
        codebook = bound.bounded(work.weight, codebook, None)
    return dataclasses.replace(work, tensor=codebook)


METHODS = (
    WeightMethod("groups", Stage.REGROUP, lambda work: isinstance(work.tensor, Codebook), _regroup),
    MethodEntry(
        name="groups",
        title="Group dropping",
        summary=(
            "Some values of a shared table are used by a handful of weights only. Dropping them makes the table and "
            "the codes of all other weights a little shorter. Their weights become zero, or take the nearest value "
            "that is left."
        ),
        formula=(
            r"\begin{gathered} n_j = \lvert \{ i : a(i) = j \} \rvert \\ \text{drop } j \text{ if } n_j < p "
            r"\text{ or } n_j \text{ is among the } r \text{ least} \end{gathered}"
        ),
        settings=explained(population="p", rarest="r", moved=""),
        reference=(
            "It refines the tables of Han, Mao and Dally, *Deep Compression*, section 3, "
            "[arXiv:1510.00149](https://arxiv.org/abs/1510.00149)"
        ),
        section=Section.SHARE,
        place=10,
        example=Recipe(share=Share(16, rarest=8)),
        used_by=lambda recipe: recipe.share is not None and (recipe.share.population > 0 or recipe.share.rarest > 0),
    ),
)
