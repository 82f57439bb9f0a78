"""Integer quantization: b-bit codes times a scale (Krishnamoorthi 2018, Quantizing deep convolutional networks for
efficient inference, section 2).

Symmetric: `code = clip(round(w / scale), -L, L)` with `L = 2**(b - 1) - 1`. Asymmetric: `code = clip(round(w / scale) +
zero, -2**(b - 1), L)`, its range from the smallest to the largest weight, zero included. Either way zero is exact and
pruned weights stay pruned.

The range reaches the largest weights ("range") or is clipped at a magnitude, the same at both ends: that of least
squared error ("mse"), a percentile of the magnitudes ("percentile") or the one of least Kullback-Leibler divergence
("kl"), see `clipping`.
"""

from dataclasses import replace

import numpy as np

from paretoscope.methods import share
from paretoscope.methods.catalogue import MethodEntry, Picture, Section, explained
from paretoscope.methods.clipping import grids, levels, symmetric
from paretoscope.methods.registry import Stage, WeightMethod, Work
from paretoscope.model.tensors import Codebook, Integers
from paretoscope.recipe.recipe import CLIPPINGS, Quantize, Recipe
from paretoscope.recipe.steps.quantize import Calibration, Granularity


def apply(weight: np.ndarray, channel_max: np.ndarray, quantize: Quantize) -> Integers:
    """Quantize a weight, pruned or not, to 2..16 bits.

    weight: float32, first axis the output channel. channel_max: float32 (shape[0],), largest magnitudes. The scale
    of the result has shape (shape[0],) or (), as the granularity says, and so have the zero points.
    """
    scale, zero = scales(weight, channel_max, quantize)
    codes = _round(
        weight.reshape(scale.size, -1), scale.reshape(-1), None if zero is None else zero.reshape(-1), quantize.bits
    )
    return Integers(codes.reshape(weight.shape), scale, quantize.bits, zero)


def scales(weight: np.ndarray, channel_max: np.ndarray, quantize: Quantize) -> tuple[np.ndarray, np.ndarray | None]:
    """Scale (float32) and zero points (int8, or int16 above 8 bits; None where symmetric) that `apply` would use.

    Both of shape (shape[0],) for granularity "channel", or () for "tensor". With "kl", channels of fewer than 2048
    non-zero weights are clipped by one ratio, that of the whole tensor with each channel scaled to its largest weight.
    """
    channels = quantize.granularity == Granularity.CHANNEL
    rows = weight.reshape(weight.shape[0] if channels else 1, -1)
    largest = channel_max if channels else channel_max.max(keepdims=True)
    scale, zero = grids(rows, np.ones(rows.shape[1], np.int64), largest, quantize)
    if channels:
        return scale, zero
    return scale.reshape(()), None if zero is None else zero.reshape(())


def grid(entries: np.ndarray, counts: np.ndarray, quantize: Quantize) -> Integers:
    """Round a codebook to its tensor's symmetric grid of 2..16 bits, with one scale.

    entries: float32 (k,), k >= 1. counts: int64 (k,), the weights that use each entry; the range does not ask for
    them. Entries may collide.
    """
    rows = entries.reshape(1, -1)
    scale = symmetric(rows, counts, np.abs(rows).max(axis=1), quantize)
    return Integers(_round(rows, scale, None, quantize.bits).reshape(-1), scale.reshape(()), quantize.bits)


def _round(rows: np.ndarray, scale: np.ndarray, zero: np.ndarray | None, bits: int) -> np.ndarray:
    top = levels(bits)
    with np.errstate(over="ignore"):  # of what is clipped
        codes: np.ndarray = np.divide(rows, scale[:, None])
    np.rint(codes, out=codes)
    if zero is not None:
        codes += zero[:, None]
    np.clip(codes, -top if zero is None else -top - 1, top, out=codes)
    return codes.astype(np.int8 if bits <= 8 else np.int16)


def per_row(weight: np.ndarray, quantize: Quantize) -> Quantize:
    """The step for a weight: of one dimension, a row would be one value with a scale of its own."""
    one_value = weight.ndim < 2 and quantize.granularity == Granularity.CHANNEL
    return replace(quantize, granularity="tensor") if one_value else quantize


def _takes(work: Work) -> bool:
    step = work.plan.quantize
    return step is not None and step.bits > 1 and step.calibration in CLIPPINGS


def _quantize(work: Work) -> Work:
    if isinstance(work.tensor, Codebook):
        return share.on_grid(work, grid)
    step = per_row(work.weight, work.quantize)
    return replace(work, tensor=apply(work.weight, work.layer.channel_max, step))


METHODS = (
    WeightMethod("integers", Stage.QUANTIZE, _takes, _quantize),
    MethodEntry(
        name="quantize",
        title="Integer quantization",
        summary=(
            "Weights are rounded to whole numbers on an evenly spaced grid, with one scale factor to turn them back. "
            "Fewer bits mean a coarser grid and a smaller file. With 8 bits or fewer the network can run on integer "
            "kernels, which is what makes it faster on processors that have them."
        ),
        formula=(
            r"\begin{gathered} q = \operatorname{clip}\bigl(\lfloor w / s \rceil, -L, L\bigr), \quad L = 2^{b-1} - 1 "
            r"\\ \hat w = s\,q, \quad s = \tfrac{1}{L} \max |w| \end{gathered}"
        ),
        settings=explained(bits="b", granularity=""),
        reference=(
            "Krishnamoorthi, *Quantizing deep convolutional networks for efficient inference*, 2018, "
            "[arXiv:1806.08342](https://arxiv.org/abs/1806.08342)"
        ),
        section=Section.QUANTIZE,
        example=Recipe(quantize=Quantize(4)),
        used_by=lambda recipe: recipe.bits in range(2, 17),
    ),
    MethodEntry(
        name="asymmetric",
        title="Asymmetric integers",
        summary=(
            "Where a channel's weights lie mostly on one side of zero, a grid that is centred on zero wastes half of "
            "its values. An asymmetric grid reaches from the smallest to the largest weight. A zero point, one more "
            "number for each grid, says which value is zero, so that zero stays exact."
        ),
        formula=(
            r"\begin{gathered} s = \frac{\max(w, 0) - \min(w, 0)}{2^b - 1} \\ z = \Bigl\lfloor -2^{b-1} - "
            r"\frac{\min(w, 0)}{s} \Bigr\rceil \\ q = \operatorname{clip}\bigl(\lfloor w / s \rceil + z, -2^{b-1}, "
            r"2^{b-1} - 1\bigr) \\ \hat w = s\,(q - z) \end{gathered}"
        ),
        settings=explained(symmetric=""),
        reference=(
            "Jacob et al., *Quantization and training of neural networks for efficient integer-arithmetic-only "
            "inference*, CVPR 2018, [arXiv:1712.05877](https://arxiv.org/abs/1712.05877), section 2.1"
        ),
        section=Section.QUANTIZE,
        place=10,
        example=Recipe(quantize=Quantize(4, symmetric=False)),
        used_by=lambda recipe: recipe.quantize is not None and not recipe.quantize.symmetric,
    ),
    MethodEntry(
        name="statistics",
        title="Clipping by statistics",
        summary=(
            "A few large weights stretch the grid and make it coarse for all the others. Clipping them costs a little "
            "there and wins more everywhere else. Where to clip is read off the weights: where the squared error is "
            "least, at a percentile, or where the distribution changes least. That last one needs some thousand "
            "weights and at most 8 bits to go by: beyond, it is the least squared error, or no clipping."
        ),
        formula=(
            r"\begin{gathered} c = \arg\min_c \lVert w - \hat w_c \rVert^2 \;\text{ or }\; \operatorname{quantile}_p "
            r"|w| \\ \text{or }\; \arg\min_c \sum_x P_c(x) \log \frac{P_c(x)}{Q_c(x)} \end{gathered}"
        ),
        settings=explained(calibration="", percentile="p"),
        reference=(
            "Banner, Nahshan and Soudry, *Post training 4-bit quantization of convolutional networks for rapid "
            "deployment*, NeurIPS 2019, [arXiv:1810.05723](https://arxiv.org/abs/1810.05723). KL divergence: Migacz, "
            "*8-bit inference with TensorRT*, GTC 2017"
        ),
        section=Section.QUANTIZE,
        place=20,
        example=Recipe(quantize=Quantize(4, calibration="mse")),
        used_by=lambda recipe: (
            (step := recipe.quantize) is not None
            and step.bits in range(2, 17)
            and step.calibration in (Calibration.MSE, Calibration.PERCENTILE, Calibration.KL)
        ),
    ),
    MethodEntry(
        name="activations",
        title="Activation quantization",
        summary=(
            "Integer kernels multiply whole numbers with whole numbers, so what flows between the layers is rounded "
            "to 8 bits too. The range of each layer's input is measured once, on samples of the training split. The "
            "accuracy shown then includes this rounding, as the integer kernels compute it."
        ),
        formula=(
            r"\begin{gathered} \hat x = s_x \bigl(\operatorname{clip}(\lfloor x / s_x \rceil + z_x, -128, 127) - "
            r"z_x\bigr) \\ y = s_w\,s_x \textstyle\sum_i q_{w,i}\,(q_{x,i} - z_x) + b \end{gathered}"
        ),
        settings=explained(activations=""),
        reference=(
            "Jacob et al., *Quantization and training of neural networks for efficient integer-arithmetic-only "
            "inference*, CVPR 2018, [arXiv:1712.05877](https://arxiv.org/abs/1712.05877)"
        ),
        section=Section.QUANTIZE,
        place=40,
        example=Recipe(quantize=Quantize(8, activations=8)),
        used_by=lambda recipe: recipe.integer,
        picture=Picture.NONE,
    ),
)
