"""The best path of codes through the trellis of dependent quantization, down a column of a weight (Viterbi algorithm).

Codes are chosen for bits and harm together; bits are those of a Laplacian source.
"""

import numpy as np

from paretoscope.base.compiled import compiled

# What the array of kept weights says of a weight whose code must not be zero.
NOT_ZERO = 2


def laplace_bits(weight: np.ndarray, kept: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Bits of code index 0, of +-1 and of each further one, in both quantizers, for Laplacian weights: (rows, 2, 3)."""
    count = np.maximum(kept.sum(axis=1), 1)
    mean = np.abs(weight, where=kept, out=np.zeros(weight.shape)).sum(axis=1) / count
    # Indices are two steps apart; the second quantizer's zero is half as wide.
    decay = np.exp(-2 * steps / np.maximum(mean, 0.05 * steps))
    bits = np.empty((len(weight), 2, 3))
    for quantizer, beyond in enumerate((np.sqrt(decay), decay**0.25)):
        bits[:, quantizer, 0] = -np.log2(1 - beyond)
        bits[:, quantizer, 1] = 1 - np.log2(beyond * (1 - decay))
        bits[:, quantizer, 2] = -np.log2(decay)
    return bits


@compiled()
def code_block(
    start: int,
    weight: np.ndarray,
    targets: np.ndarray,
    feedback: np.ndarray,
    pivots: np.ndarray,
    kept: np.ndarray,
    steps: np.ndarray,
    bits: np.ndarray,
    top: int,
    price: float,
    following: np.ndarray,
    codes: np.ndarray,
    errors: np.ndarray,
) -> None:
    count, width = targets.shape
    size = count // len(feedback)
    target, path = np.empty(count), np.empty(count, np.int32)
    for i in range(width):
        for row in range(count):
            made_good = targets[row, i]
            for before in range(i):
                made_good += errors[row, start + before] * feedback[row // size, before, i]
            target[row] = made_good / steps[row]
        _best_path(target, pivots[:, i], kept[:, start + i], bits, top, price, following, path)
        for row in range(count):
            codes[row, start + i] = path[row]
            errors[row, start + i] = weight[row, start + i] - path[row] * steps[row]


@compiled()
def _best_path(
    target: np.ndarray,
    pivots: np.ndarray,
    kept: np.ndarray,
    bits: np.ndarray,
    top: int,
    price: float,
    following: np.ndarray,
    path: np.ndarray,
) -> None:
    """The codes of least cost down one column; targets in steps. Cost: squared error times pivot, and price a bit.

    kept: int8, 0 where a code is zero, NOT_ZERO where it is not, else 1.
    """
    count, states = len(target), len(following)
    size = count // len(pivots)
    cost, moved = np.full(states, np.inf), np.empty(states)
    cost[0] = 0.0
    came, chosen = np.zeros((count, states), np.int8), np.zeros((count, states), np.int32)
    code, paid = np.empty((2, 2), np.int32), np.empty((2, 2))
    for row in range(count):
        magnitude, pivot = abs(target[row]), pivots[row // size]
        sign = 1 if target[row] >= 0 else -1
        for quantizer in range(2):
            lowest = int(min((magnitude + quantizer) / 2, float((top + quantizer) // 2)))
            for parity in range(2):
                best, least = 0, np.inf
                if parity == 0 and kept[row] != NOT_ZERO:
                    least = pivot * magnitude * magnitude + price * bits[row, quantizer, 0]
                if kept[row]:
                    # The two indices of this parity around the target, or the largest one that fits.
                    k = lowest - ((lowest - parity) & 1)
                    for index in (k, k + 2):
                        value = 2 * index - quantizer
                        if index > 0 and value <= top:
                            off = magnitude - value
                            bit = bits[row, quantizer, 1] + (index - 1) * bits[row, quantizer, 2]
                            here = pivot * off * off + price * bit
                            if here < least:
                                best, least = sign * value, here
                code[quantizer, parity], paid[quantizer, parity] = best, least
        moved[:] = np.inf
        for state in range(states):
            quantizer = 1 if state >= states // 2 else 0
            for parity in range(2):
                reached = following[state, parity]
                total = cost[state] + paid[quantizer, parity]
                if total < moved[reached]:
                    moved[reached] = total
                    came[row, reached], chosen[row, reached] = state, code[quantizer, parity]
        cost[:] = moved
    state = int(cost.argmin())
    for row in range(count - 1, -1, -1):
        path[row] = chosen[row, state]
        state = came[row, state]
