"""What is coded of a tensor: integer codes, their distances from zero points, ranks in a codebook; and back."""

import math
from collections.abc import Iterable

import numpy as np

from paretoscope.base.errors import ArtefactError
from paretoscope.codec.kinds import TensorKind
from paretoscope.codec.side import stored
from paretoscope.model.powers import GREATEST, LEAST, ZERO, from_steps
from paretoscope.model.tensors import Codebook, CompressedTensor, Integers, Plain


def is_finite(kind: TensorKind, tensor: CompressedTensor) -> bool:
    return bool(kind.plain) or all(np.isfinite(part).all() for part in _finest(tensor))


def _finest(tensor: CompressedTensor) -> Iterable[np.ndarray]:
    """Floats that are finite exactly where all that a tensor decodes to is; the whole of it only where in doubt."""
    grid = tensor.entries if isinstance(tensor, Codebook) else tensor
    if not isinstance(grid, Integers):
        return [stored(grid)]
    with np.errstate(over="ignore", invalid="ignore"):
        # No step from a zero point is larger than 2**bits.
        most = np.abs(grid.scale) * np.float32(2**grid.bits)
        return [most] if np.isfinite(most).all() else [grid.scale, grid.decode()]


def within(codes: np.ndarray, kind: TensorKind, low: int, high: int) -> np.ndarray:
    """The codes; raises ArtefactError unless all are in low..high."""
    if codes.size and (codes.min() < low or codes.max() > high):
        raise ArtefactError(
            f"codes of kind {kind.label} must be in {low}..{high}; got {codes.min()}..{codes.max()}. "
            "The file is damaged: copy it again."
        )
    return codes


def scales_of(steps: np.ndarray) -> np.ndarray:
    scales = from_steps(steps)
    if scales is None:
        raise ArtefactError(
            f"steps of scales must be in {LEAST}..{GREATEST} or {ZERO}; got {steps.min()}..{steps.max()}. "
            "The file is damaged: copy it again."
        )
    return scales


def code_range(kind: TensorKind) -> tuple[int, int]:
    """The least and the greatest number that stands for a code."""
    if kind.form == "k":
        return -kind.entries, kind.entries
    return (-(2 ** (kind.bits - 1)), 2 ** (kind.bits - 1) - 1) if kind.form == "a" else (-kind.top, kind.top)


def steps(tensor: CompressedTensor) -> np.ndarray:
    """What is coded of integer codes: themselves, or their distance from the zero point modulo 2**bits."""
    if not isinstance(tensor, Integers) or tensor.zero is None:
        return stored(tensor).astype(np.int16)
    return wrapped(tensor.codes.astype(np.int32) - beside(tensor.zero, tensor.codes), tensor.bits)


def ranks(tensor: Codebook) -> np.ndarray:
    """Symbols as signed ranks: 1, 2, ... for the entries that are not negative, ..., -2, -1 for those that are."""
    below = _below(tensor.entries)
    symbols = tensor.indices.astype(np.int16)
    return np.where(symbols == 0, 0, symbols - below - (symbols <= below)).astype(np.int16)


def symbols_of(ranks: np.ndarray, entries: Plain | Integers) -> np.ndarray:
    """Undo `ranks`."""
    below, count = _below(entries), entries.shape[0]
    if ranks.size and (ranks.min() < -below or ranks.max() > count - below):
        raise ArtefactError(
            f"ranks must be in {-below}..{count - below} for {count} entries of which {below} are negative; got "
            f"{ranks.min()}..{ranks.max()}. The file is damaged: copy it again."
        )
    symbols = np.where(ranks == 0, 0, ranks + below + (ranks < 0))
    return symbols.astype(np.uint8 if count <= 255 else np.uint16)


def _below(entries: Plain | Integers) -> int:
    return int(np.count_nonzero(stored(entries) < 0))


def beside(zero: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Zero points, one or one for each row, in a shape that broadcasts over the codes."""
    return zero.reshape(zero.shape + (1,) * (codes.ndim - 1)) if zero.ndim else zero


def wrapped(steps: np.ndarray, bits: int) -> np.ndarray:
    """Integers modulo 2**bits, into -2**(bits - 1) .. 2**(bits - 1) - 1: int16."""
    half = 2 ** (bits - 1)
    wrapped: np.ndarray = ((steps + half) & (2 * half - 1)) - half
    return wrapped.astype(np.int16)


def count_of(shape: tuple[int, ...]) -> int:
    return math.prod(shape)
