"""The trellis of dependent quantization: which codes may follow which (Marcellin and Fischer 1990, trellis coded
quantization; with parity-driven transitions as in VVC, H.266, and in neural network coding, ISO/IEC 15938-17).

Down the rows of each column and tap a state runs from 0. In states 0..3 a code is even, 2k; in states 4..7 it is odd or
zero, 2k - sign(k). The parity of k leads to the next state, NEXT[state][k & 1]. Each state allows every other integer
only, and which ones depends on the codes before: the path that is nearest to given weights lies closer to them than
independent codes of the same entropy do.

NEXT is Ungerboeck's convolutional code with eight states, parity check polynomials 13 and 4 (octal). Measured on a
Gaussian source at high rates, it has 1.15 dB less squared error than rounding (at most 1.53 dB are possible); four
states have 1.04 dB, sixteen 1.22 dB. `python -m benchmarks.constants` shows the figure of the eight; no benchmark shows
the other two.
"""

import math

import numpy as np

from paretoscope.base.compiled import compiled
from paretoscope.base.errors import ModelError

NEXT = ((0, 2), (2, 0), (4, 6), (6, 4), (5, 7), (7, 5), (1, 3), (3, 1))
_NEXT = np.array(NEXT, np.uint8)


def split(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The indices k of paths down the first axis, those of even codes and those of odd ones: int32, each row by row.

    A code is even where its state is in 0..3. Raises ModelError for codes that no path has.
    """
    rows = np.ascontiguousarray(codes, np.int32).reshape(_rows(codes.shape))
    even, odd = np.empty(rows.size, np.int32), np.empty(rows.size, np.int32)
    evens, odds = _split(rows, even, odd)
    if evens + odds < rows.size:
        raise ModelError("trellis codes must follow a path from state 0. Quantize the tensor with the trellis.")
    return even[:evens], odd[:odds]


def join(even: np.ndarray, odd: np.ndarray, shape: tuple[int, ...]) -> np.ndarray | None:
    """Undo `split`: int32 codes of this shape; None where there are not as many of both as their paths ask for."""
    rows = np.empty(_rows(shape), np.int32)
    fit = _join(np.ascontiguousarray(even, np.int32), np.ascontiguousarray(odd, np.int32), rows)
    return rows.reshape(shape) if fit else None


def follows(codes: np.ndarray) -> bool:
    """Whether codes, integers (rows, ...), are paths of the trellis down their first axis."""
    try:
        split(codes)
    except ModelError:
        return False
    return True


def _rows(shape: tuple[int, ...]) -> tuple[int, int]:
    return (shape[0], math.prod(shape[1:])) if shape else (1, 1)


@compiled()
def _split(rows: np.ndarray, even: np.ndarray, odd: np.ndarray) -> tuple[int, int]:
    """Fill both; returns how many of each, fewer than there are codes where one is off the trellis."""
    states = np.zeros(rows.shape[1], np.uint8)
    evens = odds = 0
    for row in rows:
        for place, code in enumerate(row):
            quantizer = states[place] >> 2
            if code and code & 1 != quantizer:
                return 0, 0
            size = (abs(code) + 1) >> 1
            states[place] = _NEXT[states[place], size & 1]
            if quantizer:
                odd[odds] = np.sign(code) * size
                odds += 1
            else:
                even[evens] = np.sign(code) * size
                evens += 1
    return evens, odds


@compiled()
def _join(even: np.ndarray, odd: np.ndarray, rows: np.ndarray) -> bool:
    """Fill the rows; returns whether the indices were as many as wanted."""
    states = np.zeros(rows.shape[1], np.uint8)
    evens = odds = 0
    for row in rows:
        for place in range(len(row)):
            quantizer = states[place] >> 2
            if quantizer:
                if odds == len(odd):
                    return False
                index = odd[odds]
                odds += 1
            else:
                if evens == len(even):
                    return False
                index = even[evens]
                evens += 1
            row[place] = 2 * index - quantizer * np.sign(index)
            states[place] = _NEXT[states[place], index & 1]
    return evens == len(even) and odds == len(odd)
