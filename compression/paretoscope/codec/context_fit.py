"""What a context encoder sends ahead of a tensor's codes: mean magnitude, stride and linear prediction, measured.

A decoder needs none of this: the choices are in the stream. Floats are therefore welcome here.
"""

from dataclasses import dataclass
from math import isqrt

import numpy as np

from paretoscope.base.compiled import compiled
from paretoscope.codec import context_kernels as kernels
from paretoscope.codec.context_tables import FEATURES, MAX_COEFFICIENT, level_of

SAMPLED = 1 << 16
MAX_LAG = 64
# A stride is worth its few bits from this autocorrelation on; what coefficients cost, in bits.
_LEAST_CORRELATION = 0.05
_COEFFICIENT_BITS = 60


@dataclass(frozen=True, eq=False, slots=True)
class ScanSetting:
    """level: of the mean magnitude. stride: distance of the neighbour "above" within a kernel (its width) or, without
    kernels, within a row (the width of the images that a row looks at); 0 for none.
    coefficients: int64 (8,), in 1/64, of the linear prediction; zeros for none."""

    level: int
    stride: int
    coefficients: np.ndarray


def fitted(codes: np.ndarray, unit: int) -> ScanSetting:
    """The setting for int32 codes (rows, columns, taps), not empty, whose magnitudes count `unit` / 256 each."""
    mean = int(np.abs(codes).sum(dtype=np.int64)) * unit // codes.size
    if mean == 0:
        return ScanSetting(0, 0, np.zeros(FEATURES, np.int64))
    every = max(1, codes.size // SAMPLED)
    stride = _stride(codes, every)
    products = kernels.products(codes, stride, every, unit)
    return ScanSetting(level_of(mean), stride, _coefficients(products, codes))


def _stride(codes: np.ndarray, every: int) -> int:
    _, columns, taps = codes.shape
    if taps > 1:
        return isqrt(taps) if isqrt(taps) ** 2 == taps else 0
    lags = min(MAX_LAG, columns // 2)
    if lags < 3:
        return 0
    correlations = _autocorrelations(codes[:: 4 * every, :, 0], lags)
    # A peak among its neighbours: what is merely smooth decays from lag 1 on.
    inner = correlations[1:-1]
    peaks = (inner > _LEAST_CORRELATION) & (inner >= correlations[:-2]) & (inner >= correlations[2:])
    return 3 + int(np.argmax(np.where(peaks, inner, 0))) if peaks.any() else 0


@compiled()
def _autocorrelations(rows: np.ndarray, lags: int) -> np.ndarray:
    """Autocorrelations of lags 2 to `lags`, relative to the mean square: float64 (lags - 1,)."""
    found = np.zeros(lags - 1)
    power = 0.0
    for row in rows:
        for code in row:
            power += float(code) * code
        for lag in range(2, lags + 1):
            total = 0.0
            for column in range(lag, len(row)):
                total += float(row[column]) * row[column - lag]
            found[lag - 2] += total
    return found / max(power, 1.0)


def _coefficients(products: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Least squares, rounded; zeros where that saves fewer bits than it costs."""
    power = products[-1, -1]
    if power == 0:
        return np.zeros(FEATURES, np.int64)
    square = products[:-1, :-1] + np.eye(FEATURES) * (1e-6 * power + 1)
    exact = np.linalg.solve(square, products[:-1, -1])
    rounded = np.clip(np.rint(64 * exact), -MAX_COEFFICIENT, MAX_COEFFICIENT)
    solution = np.append(-rounded / 64, 1.0)
    left = max(float(solution @ products @ solution), 1e-9 * power)
    saved = 0.5 * np.count_nonzero(codes) * np.log2(power / left)
    return rounded.astype(np.int64) if saved > _COEFFICIENT_BITS else np.zeros(FEATURES, np.int64)
