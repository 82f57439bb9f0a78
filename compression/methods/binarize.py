"""Binarization: every weight becomes `sign(w) * alpha` (Rastegari et al. 2016, XNOR-Net).

alpha is the largest magnitude ("range"), or the mean magnitude ("mse"), which is the alpha of least squared error
(XNOR-Net, equation 6). Pruned weights stay zero and do not count for the mean. An unpruned weight of exactly zero
becomes +alpha: one bit has no third value.
"""

import numpy as np

from compression.recipe import Quantize
from compression.tensors import Integers


def apply(weight: np.ndarray, kept: np.ndarray | None, channel_max: np.ndarray, quantize: Quantize) -> Integers:
    """Binarize a weight.

    weight: float32, first axis the output channel. kept: bool of its shape, False where pruned, or None for all kept.
    channel_max: float32 (shape[0],). Codes are -1, 1, and 0 where pruned; scale has shape (shape[0],) or ().
    """
    codes = np.where(weight < 0, np.int8(-1), np.int8(1))
    if kept is not None:
        codes *= kept
    channels = quantize.granularity == "channel"
    if quantize.calibration == "mse":
        rows = weight.reshape(weight.shape[0] if channels else 1, -1)
        count = np.count_nonzero(codes.reshape(rows.shape), axis=1)
        alpha = np.abs(rows).sum(axis=1, dtype=np.float64) / np.maximum(count, 1)
    else:
        alpha = channel_max if channels else channel_max.max(keepdims=True)
    alpha = alpha.astype(np.float32)
    return Integers(codes, alpha if channels else alpha.reshape(()), 1)


def grid(entries: np.ndarray, counts: np.ndarray, quantize: Quantize) -> Integers:
    """Round a codebook to the two values of one bit, with one alpha; see `quantize.grid` for the arguments."""
    codes = np.where(entries < 0, np.int8(-1), np.int8(1))
    magnitude = np.abs(entries.astype(np.float64))
    alpha = np.average(magnitude, weights=counts) if quantize.calibration == "mse" else magnitude.max()
    return Integers(codes, np.float32(alpha).reshape(()), 1)
