"""The compressed-tensor family: integer codes and what turns them back into floats.

Codes are the truth: `decode()` gives exactly the floats that are evaluated, and the artefact stores exactly these
codes. All arrays are NumPy; the first axis of a weight is its output channel, as in PyTorch.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from paretoscope.base.errors import ModelError

LARGEST = float(np.finfo(np.float32).max)


class CompressedTensor(Protocol):
    """What all members of the family offer."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def decode(self) -> np.ndarray:
        """The tensor as it is evaluated (float32 for weights), of this shape."""
        ...


@dataclass(frozen=True, eq=False, slots=True)
class Plain:
    """Values as they are: float32, float16 (decodes to float32) or int64 (counters of normalisation layers)."""

    values: np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        return self.values.shape

    def decode(self) -> np.ndarray:
        return self.values.astype(np.float32) if self.values.dtype == np.float16 else self.values


@dataclass(frozen=True, eq=False, slots=True)
class Integers:
    """Integer codes: `(codes - zero) * scale`.

    codes: int8 (bits <= 8) or int16, any shape, |code| < 2**(bits - 1), or in {-1, 0, 1} for 1 bit; with a zero point
    -2**(bits - 1) too. scale: float32, shape () for one scale or (codes.shape[0],) for one per output channel.
    zero: the zero points of an asymmetric grid, of the type of the codes and the shape of the scale; None for all 0.
    trellis: whether the codes are paths of the trellis (`paretoscope.model.trellis`) down their first axis.
    """

    codes: np.ndarray
    scale: np.ndarray
    bits: int
    zero: np.ndarray | None = None
    trellis: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        return self.codes.shape

    def decode(self) -> np.ndarray:
        axes = self.scale.shape + (1,) * (self.codes.ndim - self.scale.ndim)
        steps = self.codes if self.zero is None else self.codes.astype(np.int32) - self.zero.reshape(axes)
        values: np.ndarray = np.multiply(steps, self.scale.reshape(axes), dtype=np.float32)
        return values


@dataclass(frozen=True, eq=False, slots=True)
class Codebook:
    """Shared weights: symbol 0 is zero, symbol j >= 1 is `entries[j - 1]`.

    indices: uint8, or uint16 for 256 entries, any shape.
    entries: a compressed tensor of shape (k,): Plain float32, or Integers on the tensor's grid with one scale.
    """

    indices: np.ndarray
    entries: Plain | Integers

    @property
    def shape(self) -> tuple[int, ...]:
        return self.indices.shape

    def decode(self) -> np.ndarray:
        table = np.concatenate([np.zeros(1, np.float32), self.entries.decode()])
        values: np.ndarray = table[self.indices]
        return values


def integers_of(tensor: CompressedTensor) -> Integers | None:
    """`as_integers`, or None for a tensor that integer kernels cannot take."""
    try:
        return as_integers(tensor)
    except ModelError:
        return None


def as_integers(tensor: CompressedTensor) -> Integers:
    """This tensor as integer codes of at most 8 bits, for integer kernels; decodes to the same floats.

    Raises ModelError for a tensor that does not lie on a grid of 8 bits or fewer.
    """
    if isinstance(tensor, Codebook) and tensor.entries.shape[0] == 0:
        return Integers(np.zeros(tensor.shape, np.int8), np.ones((), np.float32), 8)
    if isinstance(tensor, Codebook) and isinstance(tensor.entries, Integers) and tensor.entries.bits <= 8:
        table = np.concatenate([np.zeros(1, np.int8), tensor.entries.codes])
        return Integers(table[tensor.indices], tensor.entries.scale, tensor.entries.bits)
    if isinstance(tensor, Integers) and tensor.bits <= 8:
        return tensor
    raise ModelError(
        "integer kernels need weights of at most 8 bits; this tensor has more. Quantize to 8 bits or fewer."
    )
