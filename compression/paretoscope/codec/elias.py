"""Elias gamma code of whole numbers v >= 0: as many zeros as v + 1 has bits after its first, then v + 1 in binary.

Elias, Universal codeword sets and representations of the integers, 1975.
"""

import numpy as np

from paretoscope.base.compiled import compiled
from paretoscope.base.errors import ArtefactError

MAX_NUMBER_BITS = 64


@compiled()
def _width(value: np.uint64) -> int:
    width = 0
    while (value + np.uint64(1)) >> np.uint64(width + 1):
        width += 1
    return width


@compiled()
def _bits_of(values: np.ndarray) -> int:
    total = 0
    for value in values:
        total += 2 * _width(value) + 1
    return total


def gamma_bits(numbers: list[int]) -> int:
    """Bits that these numbers take."""
    return _bits_of(np.array(numbers, np.uint64))


def encode(values: list[int]) -> bytes:
    """The numbers one after another, the last byte padded with zeros."""
    return np.packbits(_bit_array(np.array(values, np.uint64))).tobytes()


@compiled()
def _bit_array(values: np.ndarray) -> np.ndarray:
    bits = np.zeros(_bits_of(values), np.uint8)
    position = 0
    for value in values:
        width = _width(value)
        position += width
        for shift in range(width, -1, -1):
            bits[position] = ((value + np.uint64(1)) >> np.uint64(shift)) & np.uint64(1)
            position += 1
    return bits


class GammaReader:
    """Numbers, one after another."""

    def __init__(self, data: bytes) -> None:
        self._bits = np.unpackbits(np.frombuffer(data, np.uint8)).tobytes()
        self._position = 0

    def next(self) -> int:
        """The next number; raises ArtefactError where none is whole."""
        start = self._bits.find(b"\x01", self._position)
        end = 2 * start - self._position + 1
        if start < 0 or end > len(self._bits) or start - self._position > MAX_NUMBER_BITS:
            raise ArtefactError("a number runs past the end of its section. The file is damaged: copy it again.")
        self._position = end
        return int(self._bits[start:end].translate(_TO_DIGITS), 2) - 1

    def exhausted(self) -> bool:
        """Whether only the padding of the last byte is left."""
        return len(self._bits) - self._position < 8 and b"\x01" not in self._bits[self._position :]


_TO_DIGITS = bytes.maketrans(b"\x00\x01", b"01")
