"""Second moments of a layer's inputs where there are no samples to measure them on: assumed from the weight's shape.

Inputs after a ReLU are positive. The errors of an output channel's weights then do not cancel over the inputs: their
sum moves the mean of the output (Nagel et al. 2019, Data-Free Quantization, correct it from statistics of batch
normalisation; a file of weights does not say which belong to which layer). That sum is random, so harm does not fall
smoothly as steps get finer. Rounding with error compensation (Hassibi and Stork 1992, Optimal Brain Surgeon; Frantar et
al. 2022, GPTQ) makes it good, given the second moments of inputs of unit energy. Here they are taken to be

    H = (1 - m) kron(I, S) + m 1 1^T,    S_ab = r^|a - b|

for columns that are channels times kernel positions: a part m of the energy is a mean common to all inputs, the rest is
correlated between neighbours of one channel, and not between channels. For a linear layer S is 1. First layers and
those after a normalisation have inputs of another kind. Weights alone do not tell which; one rule serves all layers.

No matrix of all columns is ever formed. With (1 - m) S = R R^T, R upper triangular, and u = R^-1 1,

    H = kron(I, R) (I + m v v^T) kron(I, R)^T,    v = u, u, ..., u

and I + m v v^T has the upper triangular factor T with, for s_i the sum of the squares of v from i on,

    T_ii^2 = (1 + m s_i) / (1 + m s_{i+1}),    T_ji / T_ii = v_j m v_i / (1 + m s_i)    for j < i

so that F = kron(I, R) T is what `compensate.factorised` would find for H, in time and memory linear in the columns.
"""

import math
from dataclasses import dataclass

import numpy as np

# The best pair of a grid on networks other than those it is judged on, by 2 % only: python -m benchmarks.moments.
MEAN = 0.1
CORRELATION = 0.7
# Kernel positions, at most: R is a matrix of them. Patches of 32 x 32 pixels have as many; what has more is no kernel.
MOST_TAPS = 1024


@dataclass(frozen=True, eq=False, slots=True)
class Assumed:
    """Assumed second moments of the inputs of a layer, and their triangular factor F.

    kernel: float64 (taps, taps), S. mean: m. pivots: float64 (columns,), F_ii^2, which without compensation would be 1.
    reach: float64 (columns,), F_ji / F_ii for every column j of a channel before that of column i.
    """

    kernel: np.ndarray
    mean: float
    pivots: np.ndarray
    reach: np.ndarray
    _factor: np.ndarray  # R over its diagonal
    _sums: np.ndarray  # (taps, taps): of R_jk u_k, j <= k < i, over R_ii
    _ratios: np.ndarray  # (columns,): m v_i / (1 + m s_i)

    @classmethod
    def of(cls, shape: tuple[int, ...], mean: float = MEAN, correlation: float = CORRELATION) -> "Assumed":
        """For a weight of this shape, (outputs, inputs / groups, *kernel), all groups alike.

        mean, correlation: m in [0, 1) and r in [0, 1).
        """
        kernel = _correlations(shape[2:], correlation)
        taps = len(kernel)
        factor = np.linalg.cholesky((1 - mean) * kernel[::-1, ::-1])[::-1, ::-1]
        diagonal = np.diagonal(factor)
        unit = np.linalg.solve(factor, np.ones(taps))
        repeated = np.tile(unit, shape[1])
        tails = 1 + mean * np.append(np.cumsum(np.square(repeated)[::-1])[::-1], 0.0)
        ratios = mean * repeated / tails[:-1]
        sums = np.cumsum(factor * unit, axis=1) - factor * unit
        return cls(
            kernel,
            mean,
            pivots=np.tile(np.square(diagonal), shape[1]) * tails[:-1] / tails[1:],
            reach=ratios / np.tile(diagonal, shape[1]),
            _factor=factor / diagonal,
            _sums=sums / diagonal,
            _ratios=ratios,
        )

    def blocks(self, most: int) -> list[slice]:
        """All columns in order: whole channels of at most `most` columns together, longer channels in parts."""
        taps, columns = len(self.kernel), len(self.pivots)
        length = most // taps * taps or taps
        return [
            slice(start, min(start + most, first + length, columns))
            for first in range(0, columns, length)
            for start in range(first, min(first + length, columns), most)
        ]

    def made_good(self, errors: np.ndarray, total: np.ndarray, block: slice) -> np.ndarray:
        """What errors before a block of `blocks` add to its targets, float64 (rows, width).

        errors: float64 (rows, columns), of the columns before. total: (rows,), their sums.
        """
        found: np.ndarray = total[:, None] * self.reach[block]
        first = block.start - block.start % len(self.kernel)
        if first < block.start:  # within a channel
            own = self.feedback(slice(first, block.stop))[: block.start - first, block.start - first :]
            found += errors[:, first : block.start] @ (own - self.reach[block])
        return found

    def corner(self, block: slice) -> np.ndarray:
        """`feedback` within a block of `blocks`."""
        skipped = block.start % len(self.kernel)
        return self.feedback(slice(block.start - skipped, block.stop))[skipped:, skipped:]

    def feedback(self, block: slice) -> np.ndarray:
        """F_ji / F_ii for j < i, float64 (width, width), 0 from the diagonal on, of columns from a channel's first."""
        taps, ratios = len(self.kernel), self._ratios[block]
        found = np.triu(np.tile(self.reach[block], (len(ratios), 1)), 1)
        for start in range(0, len(ratios), taps):
            part = slice(start, min(start + taps, len(ratios)))
            own = slice(0, part.stop - part.start)
            found[part, part] = np.triu(self._factor[own, own] + self._sums[own, own] * ratios[part], 1)
        return found

    def times(self, rows: np.ndarray) -> np.ndarray:
        """rows @ H, float64 (rows, columns)."""
        taps = len(self.kernel)
        correlated = (rows.reshape(len(rows), -1, taps) @ self.kernel).reshape(rows.shape)
        product: np.ndarray = (1 - self.mean) * correlated + self.mean * rows.sum(axis=1, keepdims=True)
        return product

    def matrix(self) -> np.ndarray:
        """H in full, float64 (columns, columns)."""
        return self.times(np.eye(len(self.pivots)))


def assumed(shape: tuple[int, ...]) -> Assumed | None:
    """What is assumed for a weight of this shape; None for no layer's: one axis, no weights, too many positions."""
    taps = math.prod(shape[2:])
    return Assumed.of(shape) if len(shape) > 1 and shape[1] and 0 < taps <= MOST_TAPS else None


def _correlations(kernel: tuple[int, ...], correlation: float) -> np.ndarray:
    """S: float64 (taps, taps), over Euclidean distances between the positions of a kernel."""
    places = np.indices(kernel, np.float64).reshape(len(kernel), math.prod(kernel)).T
    distances = np.sqrt(np.square(places[:, None] - places[None]).sum(axis=-1))
    powers: np.ndarray = np.power(correlation, distances)
    return powers
