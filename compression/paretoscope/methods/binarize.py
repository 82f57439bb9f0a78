"""Binarization: every weight becomes `sign(w) * alpha` (Rastegari et al. 2016, XNOR-Net).

alpha is the mean magnitude, which is the alpha of least squared error (XNOR-Net, equation 6), and may be rounded to a
power of two, so that multiplying by it is a shift. The largest magnitude would be farther from the weights than zeros
are. Pruned weights stay zero and do not count for the mean. An unpruned weight of exactly zero becomes +alpha: one bit
has no third value.

Ternarization (Li et al. 2016, Ternary Weight Networks, equations 3 to 6) adds it: weights of a magnitude below
`ternary` times the mean become zero, and alpha is the mean magnitude of those that are left.
"""

from dataclasses import replace

import numpy as np

from paretoscope.methods import share
from paretoscope.methods.catalogue import MethodEntry, Section, explained
from paretoscope.methods.quantize import per_row
from paretoscope.methods.registry import Stage, WeightMethod, Work
from paretoscope.model.tensors import Codebook, Integers
from paretoscope.recipe.recipe import Quantize, Recipe
from paretoscope.recipe.steps.quantize import Granularity

# Exponents of the least and the largest power of two in float32.
EXPONENTS = (-149, 127)


def apply(weight: np.ndarray, kept: np.ndarray | None, quantize: Quantize) -> Integers:
    """Binarize a weight.

    weight: float32, first axis the output channel. kept: bool of its shape, False where pruned, or None for all kept.
    Codes are -1, 1, and 0 where pruned or, ternary, where small; scale has shape (shape[0],) or ().
    """
    codes = np.where(weight < 0, np.int8(-1), np.int8(1))
    if kept is not None:
        codes *= kept
    channels = quantize.granularity == Granularity.CHANNEL
    rows = weight.reshape(weight.shape[0] if channels else 1, -1)
    if quantize.ternary:
        small = np.abs(rows) < quantize.ternary * _means(rows, codes)[:, None]
        codes[small.reshape(codes.shape) | (weight == 0)] = 0
        rows = rows * (codes.reshape(rows.shape) != 0)
    alpha = _rounded(_means(rows, codes).astype(np.float32), quantize)
    return Integers(codes, alpha if channels else alpha.reshape(()), 1)


def grid(entries: np.ndarray, counts: np.ndarray, quantize: Quantize) -> Integers:
    """Round a codebook to the two values of one bit, or three if ternary, with one alpha.

    See `quantize.grid` for the arguments.
    """
    codes = np.where(entries < 0, np.int8(-1), np.int8(1))
    magnitude = np.abs(entries.astype(np.float64))
    if quantize.ternary:
        codes[magnitude < quantize.ternary * np.average(magnitude, weights=counts)] = 0
    used = (codes != 0) & (counts > 0)
    alpha = np.average(magnitude[used], weights=counts[used]) if used.any() else 0.0
    return Integers(codes, _rounded(np.array(alpha, np.float32), quantize).reshape(()), 1)


def _means(rows: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Mean magnitude of each row over the weights whose code is not zero, float64; 0 without any."""
    count = np.count_nonzero(codes.reshape(rows.shape), axis=1)
    means: np.ndarray = np.abs(rows).sum(axis=1, dtype=np.float64) / np.maximum(count, 1)
    return means


def _rounded(alpha: np.ndarray, quantize: Quantize) -> np.ndarray:
    if not quantize.power_of_two:
        return np.asarray(alpha)
    exponent = np.log2(alpha, out=np.zeros(alpha.shape), where=alpha > 0, dtype=np.float64)
    power = np.exp2(np.clip(np.rint(exponent), *EXPONENTS))
    return np.where(alpha > 0, power, 0).astype(np.float32)


def _takes(work: Work) -> bool:
    return work.plan.quantize is not None and work.plan.quantize.bits == 1


def _binarize(work: Work) -> Work:
    if isinstance(work.tensor, Codebook):
        return share.on_grid(work, grid)
    return replace(work, tensor=apply(work.weight, work.kept, per_row(work.weight, work.quantize)))


METHODS = (
    WeightMethod("binary", Stage.QUANTIZE, _takes, _binarize),
    MethodEntry(
        name="binarize",
        title="Binarization",
        summary=(
            "The extreme: of each weight only the sign is kept, one bit, and all weights of a channel share one "
            "magnitude, their mean, which has the least squared error. The file becomes tiny. Without training the "
            "network again, accuracy usually collapses, and the accuracy plot shows it."
        ),
        formula=(
            r"\begin{gathered} \hat w_i = \alpha \operatorname{sign}(w_i) \\ "
            r"\alpha = \tfrac{1}{n} \textstyle\sum |w_i| \end{gathered}"
        ),
        settings=explained(bits="b", granularity="", power_of_two=""),
        reference=(
            "Rastegari, Ordonez, Redmon and Farhadi, *XNOR-Net*, ECCV 2016, "
            "[arXiv:1603.05279](https://arxiv.org/abs/1603.05279)"
        ),
        section=Section.QUANTIZE,
        place=50,
        example=Recipe(quantize=Quantize(1, granularity="tensor", calibration="mse")),
        used_by=lambda recipe: (step := recipe.quantize) is not None and step.bits == 1 and not step.ternary,
    ),
    MethodEntry(
        name="ternary",
        title="Ternary weights",
        summary=(
            "One value more than binary: minus, zero or plus. Weights that are small beside the others of their "
            "channel become zero instead of being blown up to the common magnitude. That keeps far more of the "
            "network, and zeros are cheap to write down."
        ),
        formula=(
            r"\begin{gathered} \Delta = t \cdot \tfrac{1}{n} \textstyle\sum |w_i| \\ \hat w_i = \begin{cases} "
            r"\alpha \operatorname{sign}(w_i) & |w_i| \ge \Delta \\ 0 & \text{otherwise} \end{cases} \\ "
            r"\alpha = \text{mean } |w_i| \text{ of those kept} \end{gathered}"
        ),
        settings=explained(ternary="t"),
        reference=(
            "Li, Zhang and Liu, *Ternary weight networks*, 2016, [arXiv:1605.04711](https://arxiv.org/abs/1605.04711)"
        ),
        section=Section.QUANTIZE,
        place=60,
        example=Recipe(quantize=Quantize(1, calibration="mse", ternary=0.7)),
        used_by=lambda recipe: recipe.quantize is not None and recipe.quantize.ternary > 0,
    ),
)
