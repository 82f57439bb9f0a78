"""What stands beside the codes of weights: groups of numbers, each of one type, tensor by tensor.

In the order of a file: integer entries of codebooks and zero points; codes of what is no weight; steps of scales;
scales; entries that are floats; plain values by their type. FORMAT.md, section 4, has them as groups 2 to 7.
"""

import math
from collections.abc import Iterable, Mapping

import numpy as np

from paretoscope.base.errors import ArtefactError
from paretoscope.codec.kinds import PLAIN_TYPES, TensorKind
from paretoscope.codec.layout import UNSIGNED, Unsigned
from paretoscope.model.powers import to_steps
from paretoscope.model.tensors import Codebook, CompressedTensor, Integers, Plain

Described = tuple[TensorKind, tuple[int, ...]]
Side = dict[str, np.ndarray]

SHORT = ("integers", "codes", "powers")
GROUPS: dict[str, np.dtype] = {
    **dict.fromkeys(SHORT, np.dtype("<i2")),
    **dict.fromkeys(("scales", "entries"), np.dtype("<f4")),
    **PLAIN_TYPES,
}
# What a context coder takes as values of its own; all else is coded by its frequencies.
MIXED = (*SHORT, "scales", "entries", "f4", "f2", "i8")
# The pattern of 2**-6: patterns are coded as the distance from it.
_CENTRES = {2: 2 * 0x2400, 4: 2 * 0x3C800000}


def collected(tensors: Iterable[tuple[TensorKind, CompressedTensor]]) -> Side:
    """The groups of a model's tensors, weights first; each (n,) of its type in GROUPS."""
    found: dict[str, list[np.ndarray]] = {name: [] for name in GROUPS}
    for kind, tensor in tensors:
        grid = tensor.entries if isinstance(tensor, Codebook) else tensor
        if isinstance(grid, Integers):
            steps = to_steps(grid.scale) if kind.powers else None
            found["scales" if steps is None else "powers"].append(grid.scale if steps is None else steps)
        if isinstance(tensor, Codebook):
            found["integers" if kind.bits else "entries"].append(stored(grid))
        elif isinstance(grid, Integers) and grid.zero is not None:
            found["integers"].append(grid.zero)
        elif kind.rest:
            found[kind.plain or "codes"].append(stored(grid))
    return {
        name: np.concatenate([np.zeros(0, dtype), *(array.reshape(-1).astype(dtype) for array in found[name])])
        for name, dtype in GROUPS.items()
    }


def stored(tensor: CompressedTensor) -> np.ndarray:
    """The integers or floats that a tensor is held as, in its shape: codes, symbols of a codebook, or values."""
    match tensor:
        case Integers():
            return tensor.codes
        case Codebook():
            return tensor.indices
        case Plain():
            return tensor.values
    raise TypeError(f"a tensor holds codes, symbols of a codebook or values; got {type(tensor).__name__}")


def counted(tensors: Iterable[Described]) -> dict[str, int]:
    """How many numbers each group has, from what the header says."""
    counts = dict.fromkeys(GROUPS, 0)
    for kind, shape in tensors:
        counts["powers" if kind.powers else "scales"] += kind.scales(shape)
        counts["integers"] += kind.integers(shape)
        counts["entries"] += kind.floats()
        if kind.rest:
            counts[kind.plain or "codes"] += math.prod(shape)
    return counts


class Cursor:
    """Groups that are taken piece by piece, each from its start."""

    def __init__(self, side: Mapping[str, np.ndarray]) -> None:
        self._side, self._position = side, dict.fromkeys(side, 0)

    def take(self, group: str, count: int) -> np.ndarray:
        start = self._position[group]
        self._position[group] += count
        return self._side[group][start : start + count]


# Patterns: what is coded by frequencies.


def to_pattern(group: str, values: np.ndarray) -> np.ndarray:
    """Numbers as unsigned integers of their width."""
    if group in SHORT:
        return zigzag(values)
    return float_bits(values) if values.dtype.kind == "f" else values.view(f"u{values.itemsize}")


def from_pattern(group: str, bits: np.ndarray) -> np.ndarray:
    """Undo `to_pattern`; raises ArtefactError for truth values that are neither 0 nor 1."""
    dtype = GROUPS[group]
    if dtype.kind == "b" and bits.size and bits.max() > 1:
        raise ArtefactError(f"truth values must be 0 or 1; got {bits.max()}. The file is damaged: copy it again.")
    if group in SHORT:
        return unzigzag(bits)
    return bits_float(bits) if dtype.kind == "f" else bits.view(dtype)


def unsigned(group: str) -> Unsigned:
    """NumPy's type of the patterns."""
    return UNSIGNED[GROUPS[group].itemsize]


# Values: what is coded in contexts, of at most 63 bits.


def to_values(group: str, numbers: np.ndarray) -> list[np.ndarray]:
    """Numbers of a MIXED group as int64: floats by their distance from 2**-6, 64 bits in two halves."""
    if group in SHORT:
        return [numbers.astype(np.int64)]
    if GROUPS[group].kind == "f":
        return [float_bits(numbers).astype(np.int64) - _CENTRES[numbers.itemsize]]
    return [numbers >> np.int64(32), numbers & np.int64(0xFFFFFFFF)]


def from_values(group: str, parts: list[np.ndarray]) -> np.ndarray:
    """Undo `to_values`; raises ArtefactError for values that are out of range."""
    if group in SHORT:
        return _within(parts[0], -(2**15), 2**15 - 1).astype(np.int16)
    if GROUPS[group].kind == "f":
        width = GROUPS[group].itemsize
        patterns = _within(parts[0], -_CENTRES[width], 2 ** (8 * width) - 1 - _CENTRES[width]) + _CENTRES[width]
        return bits_float(patterns.astype(unsigned(group)))
    high, low = _within(parts[0], -(2**31), 2**31 - 1), _within(parts[1], 0, 2**32 - 1)
    whole: np.ndarray = (high << np.int64(32)) | low
    return whole


def halves(group: str) -> int:
    """How many arrays `to_values` gives."""
    return 2 if group == "i8" else 1


def _within(values: np.ndarray, low: int, high: int) -> np.ndarray:
    if values.size and (values.min() < low or values.max() > high):
        raise ArtefactError(
            f"values beside codes must be in {low}..{high} here; got {values.min()}..{values.max()}. "
            "The file is damaged: copy it again."
        )
    return values


def zigzag(codes: np.ndarray) -> np.ndarray:
    """Signed to unsigned 16 bits, small magnitudes first: 0, -1, 1, -2 -> 0, 1, 2, 3."""
    wide = codes.astype(np.int16)
    return ((wide << 1) ^ (wide >> 15)).view(np.uint16)


def unzigzag(codes: np.ndarray) -> np.ndarray:
    """Undo `zigzag`: int16."""
    return ((codes >> 1) ^ -(codes & 1)).astype(np.int16) if codes.size else codes.astype(np.int16)


def float_bits(values: np.ndarray) -> np.ndarray:
    """Floats as unsigned integers, rotated by one: the exponent fills the top byte and the sign is the last bit."""
    bits = np.ascontiguousarray(values).view(f"u{values.itemsize}")
    kind = bits.dtype.type
    rotated: np.ndarray = (bits << kind(1)) | (bits >> kind(8 * bits.itemsize - 1))
    return rotated


def bits_float(bits: np.ndarray) -> np.ndarray:
    """Undo `float_bits`."""
    kind = bits.dtype.type
    rotated: np.ndarray = (bits >> kind(1)) | (bits << kind(8 * bits.itemsize - 1))
    return rotated.view(f"f{bits.itemsize}")
