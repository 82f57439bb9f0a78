"""Scales and zero points of integer grids, and where their range is clipped.

It reaches the largest weights, or to a percentile, the least squared error or the least divergence.

The divergence is that of Kullback and Leibler between the histogram of the magnitudes and what quantization makes of it
(after Migacz 2017, 8-bit inference with TensorRT). It says nothing where a histogram has fewer weights than bins, 2048,
or is of fewer than 4 values a code: "kl" is "mse" for such tensors and codebooks. Above 8 bits it clips nothing.
"""

import numpy as np

from paretoscope.base.compiled import compiled
from paretoscope.model.tensors import LARGEST
from paretoscope.recipe.recipe import Quantize
from paretoscope.recipe.steps.quantize import Calibration

# Clip ratios 1 .. 1/64 in quarter octaves, then twice finer steps around the best one. These and the bins below were
# chosen by hand; no benchmark.
RATIOS = (2.0 ** (-np.arange(25) / 4), 2.0 ** (np.arange(-7, 8) / 32), 2.0 ** (np.arange(-7, 8) / 256))
BINS = 2048
BINS_PER_STEP = 8
# A histogram of fewer weights than bins is mostly gaps, which say more of the sample than of the channel.
MIN_WEIGHTS = BINS
# The count of a code that stands for clipped weights only: not zero, or it would forbid any clipping there.
ALMOST_NONE = 1e-4
# With more bits a code has fewer than 16 of the bins, down to less than one, and all clippings look alike.
MOST_BITS = 8
# The histogram of few values can be cut off bin by bin without any divergence, as that of nine weights can.
VALUES_PER_CODE = 4


def levels(bits: int) -> int:
    """The largest code of a b-bit grid."""
    return (1 << bits - 1) - 1


def grids(
    rows: np.ndarray, counts: np.ndarray, largest: np.ndarray, quantize: Quantize
) -> tuple[np.ndarray, np.ndarray | None]:
    """Scale, float32 (rows,), and zero points (int8, or int16 above 8 bits; None where symmetric) of each row.

    rows: float32 (rows, n). counts: int64 (n,), how often each column counts. largest: float32 (rows,), magnitudes.
    """
    if quantize.symmetric:
        return symmetric(rows, counts, largest, quantize), None
    return _asymmetric(np.ascontiguousarray(rows), counts, quantize)


def symmetric(rows: np.ndarray, counts: np.ndarray, largest: np.ndarray, quantize: Quantize) -> np.ndarray:
    """Scale of each row of a symmetric grid, float32 (rows,); see `grids` for the arguments."""
    top = levels(quantize.bits)
    scale = largest / np.float32(top)
    # The least floats are far apart: rounded down, a scale would not reach the largest weight, or be 0.
    short = scale * np.float64(top + 0.5) < largest
    scale = np.nextafter(scale, np.float32(np.inf), out=scale.copy(), where=short)
    if _least_squares(rows, counts, quantize):
        for ratios in RATIOS:
            scale = _least_error(np.ascontiguousarray(rows), counts, scale, top, ratios)
    elif quantize.calibration != Calibration.RANGE:
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
    elif quantize.calibration != Calibration.RANGE:
        clip = clip * _clipped(rows, counts, clip, quantize)
    scale, zero = _affine_rows(np.maximum(low, -clip), np.minimum(high, clip), quantize.bits)
    return scale, zero.astype(np.int8 if quantize.bits <= 8 else np.int16)


def _least_squares(rows: np.ndarray, counts: np.ndarray, quantize: Quantize) -> bool:
    if quantize.calibration != Calibration.KL or quantize.bits > MOST_BITS:
        return quantize.calibration == Calibration.MSE
    return not _tell(rows, counts, levels(quantize.bits))


def _tell(rows: np.ndarray, counts: np.ndarray, top: int) -> bool:
    """Whether there are weights and values enough for a histogram of them."""
    used = (rows != 0) & (counts > 0)
    weights = (used @ counts).sum()
    return bool(weights >= MIN_WEIGHTS and used.sum() >= VALUES_PER_CODE * (top + 1))


@compiled()
def _affine_rows(lows: np.ndarray, highs: np.ndarray, bits: int) -> tuple[np.ndarray, np.ndarray]:
    scale, zero = np.empty(len(lows), np.float32), np.empty(len(lows))
    for row in range(len(lows)):
        scale[row], zero[row] = _affine(lows[row], highs[row], bits)
    return scale, zero


@compiled()
def _affine(low: float, high: float, bits: int) -> tuple[np.float32, float]:
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
    if quantize.calibration == Calibration.PERCENTILE:
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


# Sums may be reordered, so that they vectorise: which of two scales of equal error wins does not matter.
@compiled(fastmath={"reassoc", "contract"})
def _least_error(rows: np.ndarray, counts: np.ndarray, scales: np.ndarray, top: int, ratios: np.ndarray) -> np.ndarray:
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


@compiled(fastmath={"reassoc", "contract"})
def _least_affine_error(
    rows: np.ndarray,
    counts: np.ndarray,
    lows: np.ndarray,
    highs: np.ndarray,
    clips: np.ndarray,
    bits: int,
    ratios: np.ndarray,
) -> np.ndarray:
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


@compiled()
def _percentiles(rows: np.ndarray, counts: np.ndarray, fraction: float) -> np.ndarray:
    """A percentile of each row's non-zero magnitudes, weighted by counts; linear between two as numpy's, 0 for none."""
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


@compiled()
def _histogram(row: np.ndarray, counts: np.ndarray, peak: float) -> np.ndarray:
    """Counts of the non-zero magnitudes in BINS bins from 0 to `peak`."""
    histogram = np.zeros(BINS)
    if peak == 0:
        return histogram
    for i in range(len(row)):
        if row[i] != 0:
            place = int(abs(float(row[i])) / peak * BINS)
            histogram[min(place, BINS - 1)] += counts[i]
    return histogram


@compiled()
def _least_divergence(histogram: np.ndarray, top: int) -> float:
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
