"""Integer quantization: symmetric b-bit codes times a scale (Krishnamoorthi 2018, Quantizing deep convolutional
networks for efficient inference, section 2).

`code = clip(round(w / scale), -L, L)` with `L = 2**(b - 1) - 1`, so zero is exact and pruned weights stay pruned.
The scale comes from the largest magnitude ("range") or is the one of least squared error among clipped ranges ("mse").
"""

import numba
import numpy as np

from compression.recipe import Quantize
from compression.tensors import Integers

# Clip ratios 1 .. 1/64 in quarter octaves, then twice finer steps around the best one.
RATIOS = (2.0 ** (-np.arange(25) / 4), 2.0 ** (np.arange(-7, 8) / 32), 2.0 ** (np.arange(-7, 8) / 256))


def levels(bits: int) -> int:
    """The largest code of a b-bit symmetric grid."""
    return 2 ** (bits - 1) - 1


def apply(weight: np.ndarray, channel_max: np.ndarray, quantize: Quantize) -> Integers:
    """Quantize a weight, pruned or not, to 2..16 bits.

    weight: float32, first axis the output channel. channel_max: float32 (shape[0],), largest magnitudes. The scale
    of the result has shape (shape[0],) or (), as the granularity says.
    """
    rows = weight.reshape(weight.shape[0] if quantize.granularity == "channel" else 1, -1)
    largest = channel_max if quantize.granularity == "channel" else channel_max.max(keepdims=True)
    scale = _scales(rows, np.ones(rows.shape[1], np.int64), largest, quantize)
    codes = _round(rows, scale, quantize.bits).reshape(weight.shape)
    return Integers(codes, scale if quantize.granularity == "channel" else scale.reshape(()), quantize.bits)


def grid(entries: np.ndarray, counts: np.ndarray, quantize: Quantize) -> Integers:
    """Round a codebook to its tensor's grid of 2..16 bits, with one scale.

    entries: float32 (k,), k >= 1. counts: int64 (k,), the weights that use each entry. Entries may collide.
    """
    rows = entries.reshape(1, -1)
    scale = _scales(rows, counts, np.abs(rows).max(axis=1), quantize)
    return Integers(_round(rows, scale, quantize.bits).reshape(-1), scale.reshape(()), quantize.bits)


def _scales(rows: np.ndarray, counts: np.ndarray, largest: np.ndarray, quantize: Quantize) -> np.ndarray:
    top = levels(quantize.bits)
    scale = largest / np.float32(top)
    # Rounded up, the scale of the largest floats would decode them to infinity.
    with np.errstate(over="ignore"):
        scale = np.where(np.isinf(scale * np.float32(top)), np.nextafter(scale, np.float32(0)), scale)
    if quantize.calibration == "mse":
        for ratios in RATIOS:
            scale = _least_error(np.ascontiguousarray(rows), counts, scale, top, ratios)
    # A row of zeros, or of magnitudes too small to divide, has any scale.
    return np.where(scale > 0, scale, np.float32(1)).astype(np.float32)


def _round(rows: np.ndarray, scale: np.ndarray, bits: int) -> np.ndarray:
    top = levels(bits)
    codes = np.divide(rows, scale[:, None])
    np.rint(codes, out=codes)
    np.clip(codes, -top, top, out=codes)
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
