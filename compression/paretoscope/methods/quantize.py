"""Integer quantization: b-bit codes times a scale (Krishnamoorthi 2018, Quantizing deep convolutional networks for
efficient inference, section 2).

Symmetric: `code = clip(round(w / scale), -L, L)` with `L = 2**(b - 1) - 1`. Asymmetric: `code = clip(round(w / scale) +
zero, -2**(b - 1), L)`, its range from the smallest to the largest weight, zero included. Either way zero is exact and
pruned weights stay pruned.

The range reaches the largest weights ("range") or is clipped at a magnitude, the same at both ends: that of least
squared error ("mse"), a percentile of the magnitudes ("percentile") or the one of least Kullback-Leibler divergence
between the histogram of the magnitudes and what quantization makes of it ("kl", after Migacz 2017, 8-bit inference with
TensorRT). The divergence says nothing where a histogram has fewer weights than bins, 2048, or is of fewer than 4
values a code: "kl" is "mse" for such tensors and codebooks. Above 8 bits it clips nothing.
"""

from dataclasses import replace

import numba
import numpy as np

from paretoscope.methods import share
from paretoscope.methods.catalogue import MethodEntry, Picture, Section, explained
from paretoscope.methods.registry import Stage, WeightMethod, Work
from paretoscope.model.tensors import LARGEST, Codebook, Integers
from paretoscope.recipe.recipe import CLIPPINGS, Quantize, Recipe

# Clip ratios 1 .. 1/64 in quarter octaves, then twice finer steps around the best one.
RATIOS = (2.0 ** (-np.arange(25) / 4), 2.0 ** (np.arange(-7, 8) / 32), 2.0 ** (np.arange(-7, 8) / 256))
BINS = 2048
BINS_PER_STEP = 8
# A histogram of fewer weights than bins is mostly gaps, which say more of the sample than of the channel.
MIN_WEIGHTS = BINS
# What a code counts that stands for clipped weights only: not nothing, or it would forbid any clipping there.
ALMOST_NONE = 1e-4
# With more bits a code has fewer than 16 of the bins, down to less than one, and all clippings look alike.
MOST_BITS = 8
# The histogram of few values can be cut off bin by bin without any divergence, as that of nine weights can.
VALUES_PER_CODE = 4


def levels(bits: int) -> int:
    """The largest code of a b-bit grid."""
    return 2 ** (bits - 1) - 1


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
    channels = quantize.granularity == "channel"
    rows = weight.reshape(weight.shape[0] if channels else 1, -1)
    largest = channel_max if channels else channel_max.max(keepdims=True)
    scale, zero = _grids(rows, np.ones(rows.shape[1], np.int64), largest, quantize)
    if channels:
        return scale, zero
    return scale.reshape(()), None if zero is None else zero.reshape(())


def grid(entries: np.ndarray, counts: np.ndarray, quantize: Quantize) -> Integers:
    """Round a codebook to its tensor's symmetric grid of 2..16 bits, with one scale.

    entries: float32 (k,), k >= 1. counts: int64 (k,), the weights that use each entry; the range does not ask for
    them. Entries may collide.
    """
    rows = entries.reshape(1, -1)
    scale = _symmetric(rows, counts, np.abs(rows).max(axis=1), quantize)
    return Integers(_round(rows, scale, None, quantize.bits).reshape(-1), scale.reshape(()), quantize.bits)


def _grids(
    rows: np.ndarray, counts: np.ndarray, largest: np.ndarray, quantize: Quantize
) -> tuple[np.ndarray, np.ndarray | None]:
    if quantize.symmetric:
        return _symmetric(rows, counts, largest, quantize), None
    return _asymmetric(np.ascontiguousarray(rows), counts, quantize)


def _least_squares(rows: np.ndarray, counts: np.ndarray, quantize: Quantize) -> bool:
    if quantize.calibration != "kl" or quantize.bits > MOST_BITS:
        return quantize.calibration == "mse"
    return not _tell(rows, counts, levels(quantize.bits))


def _tell(rows: np.ndarray, counts: np.ndarray, top: int) -> bool:
    """Whether there are weights and values enough for a histogram of them."""
    used = (rows != 0) & (counts > 0)
    weights = (used @ counts).sum()
    return weights >= MIN_WEIGHTS and used.sum() >= VALUES_PER_CODE * (top + 1)


def _symmetric(rows: np.ndarray, counts: np.ndarray, largest: np.ndarray, quantize: Quantize) -> np.ndarray:
    top = levels(quantize.bits)
    scale = largest / np.float32(top)
    # The least floats are far apart: rounded down, a scale would not reach the largest weight, or be 0.
    short = scale * np.float64(top + 0.5) < largest
    scale = np.nextafter(scale, np.float32(np.inf), out=scale.copy(), where=short)
    if _least_squares(rows, counts, quantize):
        for ratios in RATIOS:
            scale = _least_error(np.ascontiguousarray(rows), counts, scale, top, ratios)
    elif quantize.calibration != "range":
        scale = scale * _clipped(np.ascontiguousarray(rows), counts, largest, quantize)
    # Rounded up, the scale of the largest floats would decode them to infinity. A row of zeros has any scale.
    scale = np.minimum(scale, np.nextafter(np.float32(LARGEST / top), np.float32(0)))
    return np.where(scale > 0, scale, np.float32(1)).astype(np.float32)


def _asymmetric(rows: np.ndarray, counts: np.ndarray, quantize: Quantize) -> tuple[np.ndarray, np.ndarray]:
    low = np.minimum(rows.min(axis=1, initial=0), 0).astype(np.float64)
    high = np.maximum(rows.max(axis=1, initial=0), 0).astype(np.float64)
    clip = np.maximum(-low, high)
    if _least_squares(rows, counts, quantize):
        for ratios in RATIOS:
            clip = _least_affine_error(rows, counts, low, high, clip, quantize.bits, ratios)
    elif quantize.calibration != "range":
        clip = clip * _clipped(rows, counts, clip, quantize)
    scale, zero = _affine_rows(np.maximum(low, -clip), np.minimum(high, clip), quantize.bits)
    return scale, zero.astype(np.int8 if quantize.bits <= 8 else np.int16)


@numba.njit(cache=True, nogil=True)
def _affine_rows(lows, highs, bits):
    scale, zero = np.empty(len(lows), np.float32), np.empty(len(lows))
    for row in range(len(lows)):
        scale[row], zero[row] = _affine(lows[row], highs[row], bits)
    return scale, zero


@numba.njit(cache=True, nogil=True)
def _affine(low, high, bits):
    """Scale (float32) and zero point of the grid from low <= 0 to high >= 0."""
    bottom, top = -(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1
    scale = np.float32((high - low) / (top - bottom))
    if high == low:
        return np.float32(1), 0.0  # a row of zeros has any scale
    if (high - low) > float(scale) * (top - bottom + 0.5):
        # The least floats are far apart: rounded down, a scale would not reach both ends, or be 0.
        scale = np.nextafter(scale, np.float32(np.inf))
    zero = min(max(np.rint(bottom - low / scale), bottom), top)
    # Rounding the zero point may move an end outwards; that of the largest floats must not decode to infinity.
    limit = np.nextafter(np.float32(LARGEST / max(top - zero, zero - bottom)), np.float32(0))
    return min(scale, limit), zero


def _clipped(rows: np.ndarray, counts: np.ndarray, largest: np.ndarray, quantize: Quantize) -> np.ndarray:
    """The part of each row's range that a percentile or the KL divergence keeps: float64 (rows,), in (0, 1]."""
    peak = np.asarray(largest, np.float64)
    if quantize.calibration == "percentile":
        kept = _percentiles(rows, counts, quantize.percentile / 100)
        return np.where(kept > 0, np.minimum(kept / np.where(peak > 0, peak, 1), 1), 1)
    top = levels(quantize.bits)
    if quantize.bits > MOST_BITS:
        return np.ones(len(rows))
    ratios = np.full(len(rows), np.nan)
    whole = np.zeros(BINS)
    for row in range(len(rows)):
        histogram = _histogram(rows[row], counts, peak[row])
        whole += histogram
        if _tell(rows[row : row + 1], counts, top):
            ratios[row] = _least_divergence(histogram, top)
    if np.isnan(ratios).any():
        ratios[np.isnan(ratios)] = _least_divergence(whole, top)
    return ratios


def _round(rows: np.ndarray, scale: np.ndarray, zero: np.ndarray | None, bits: int) -> np.ndarray:
    top = levels(bits)
    with np.errstate(over="ignore"):  # of what is clipped
        codes = np.divide(rows, scale[:, None])
    np.rint(codes, out=codes)
    if zero is not None:
        codes += zero[:, None]
    np.clip(codes, -top if zero is None else -top - 1, top, out=codes)
    return codes.astype(np.int8 if bits <= 8 else np.int16)


# Sums may be reordered, so that they vectorise: which of two scales of equal error wins does not matter.
@numba.njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
def _least_error(rows, counts, scales, top, ratios):
    best_scales = scales.copy()
    for row in range(len(rows)):
        least = np.inf
        for ratio in ratios:
            scale = np.float32(scales[row] * ratio)
            if scale == 0:
                continue
            inverse = 1.0 / float(scale)
            error = 0.0
            for i in range(rows.shape[1]):
                value = float(rows[row, i])
                code = min(max(np.rint(value * inverse), -float(top)), float(top))
                miss = value - code * float(scale)
                error += counts[i] * miss * miss
            if error < least:
                least, best_scales[row] = error, scale
    return best_scales


@numba.njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
def _least_affine_error(rows, counts, lows, highs, clips, bits, ratios):
    """The multiple of each row's clip that clips low..high with the least squared error."""
    best = clips.copy()
    for row in range(len(rows)):
        least = np.inf
        for ratio in ratios:
            clip = clips[row] * ratio
            scale, zero = _affine(max(lows[row], -clip), min(highs[row], clip), bits)
            bottom, top = -(2.0 ** (bits - 1)) - zero, 2.0 ** (bits - 1) - 1 - zero
            step, inverse = float(scale), 1.0 / float(scale)
            error = 0.0
            for i in range(rows.shape[1]):
                value = float(rows[row, i])
                miss = value - min(max(np.rint(value * inverse), bottom), top) * step
                error += counts[i] * miss * miss
            if error < least:
                least, best[row] = error, clip
    return best


@numba.njit(cache=True, nogil=True)
def _percentiles(rows, counts, fraction):
    """Of each row's non-zero magnitudes, each counted so often; linear between two, as numpy's. 0 without any."""
    result = np.zeros(len(rows))
    plain = (counts == 1).all()
    magnitudes = np.empty(rows.shape[1], np.float32)
    kept_counts = np.empty(rows.shape[1], np.int64)
    for row in range(len(rows)):
        used, total = 0, 0
        for i in range(rows.shape[1]):
            magnitude = abs(rows[row, i])
            if magnitude > 0 and counts[i] > 0:
                magnitudes[used], kept_counts[used] = magnitude, counts[i]
                used += 1
                total += counts[i]
        if used == 0:
            continue
        place = fraction * (total - 1)
        first = int(place)
        if plain:
            lower = np.partition(magnitudes[:used], first)
            low = float(lower[first])
            high = float(lower[first + 1 :].min()) if first + 1 < used else low
        else:
            order = np.argsort(magnitudes[:used])
            ends = np.cumsum(kept_counts[:used][order])
            low = float(magnitudes[order[np.searchsorted(ends, first, side="right")]])
            high = float(magnitudes[order[np.searchsorted(ends, min(first + 1, total - 1), side="right")]])
        result[row] = low + (high - low) * (place - first)
    return result


@numba.njit(cache=True, nogil=True)
def _histogram(row, counts, peak):
    """Counts of the non-zero magnitudes in BINS bins from 0 to `peak`."""
    histogram = np.zeros(BINS)
    if peak == 0:
        return histogram
    for i in range(len(row)):
        if row[i] != 0:
            place = int(abs(float(row[i])) / peak * BINS)
            histogram[min(place, BINS - 1)] += counts[i]
    return histogram


@numba.njit(cache=True, nogil=True)
def _least_divergence(histogram, top):
    """The part of the range of a histogram that is best kept when it is quantized to magnitudes 0..top.

    What is clipped joins the last bin of the distribution P that is to be kept; Q spreads what each code stands for
    over the bins of P that are not empty. With prefix sums a candidate costs one term for each code.
    """
    sums = np.zeros(BINS + 1)
    filled = np.zeros(BINS + 1)
    entropies = np.zeros(BINS + 1)
    for i in range(BINS):
        count = histogram[i]
        sums[i + 1] = sums[i] + count
        filled[i + 1] = filled[i] + (count > 0)
        entropies[i + 1] = entropies[i] + (count * np.log(count) if count > 0 else 0.0)
    total = sums[BINS]
    least, best = np.inf, BINS
    kept = BINS
    while kept > max(top, BINS // 64) and total > 0:
        clipped = total - sums[kept]
        last = histogram[kept - 1] + clipped
        gained = 1.0 if clipped > 0 and histogram[kept - 1] == 0 else 0.0
        divergence = entropies[kept - 1] + (last * np.log(last) if last > 0 else 0.0)
        start = 0
        for code in range(top + 1):
            # The first bin whose middle rounds to the next code.
            end = kept if code == top else min(kept, int(np.ceil((code + 0.5) * kept / top - 0.5)))
            count, mass, places = sums[end] - sums[start], sums[end] - sums[start], filled[end] - filled[start]
            if end == kept and start < kept:
                mass += clipped
                places += gained
            if mass > 0:
                divergence -= mass * np.log(max(count, ALMOST_NONE) / places)
            start = end
        divergence = divergence / total + np.log(sums[kept] / total) if sums[kept] > 0 else np.inf
        if divergence < least:
            least, best = divergence, kept
        kept -= BINS_PER_STEP
    return best / BINS


def per_row(weight: np.ndarray, quantize: Quantize) -> Quantize:
    """The step for a weight: of one dimension, a row would be one value with a scale of its own."""
    one_value = weight.ndim < 2 and quantize.granularity == "channel"
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
            and step.calibration in ("mse", "percentile", "kl")
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
