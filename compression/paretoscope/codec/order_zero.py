"""Order 0: the codes of every weight by the frequencies of their symbols, then all groups beside them."""

from collections.abc import Iterable, Mapping

import numpy as np

from paretoscope.base.errors import ArtefactError
from paretoscope.codec.codes import count_of, steps
from paretoscope.codec.kinds import TensorKind
from paretoscope.codec.layout import read_narrow, read_wide, write_narrow, write_wide
from paretoscope.codec.side import (
    GROUPS,
    Described,
    Side,
    bits_float,
    float_bits,
    from_pattern,
    stored,
    to_pattern,
    unsigned,
    unzigzag,
    zigzag,
)
from paretoscope.codec.streams import StreamReader, StreamWriter
from paretoscope.model.tensors import CompressedTensor
from paretoscope.model.trellis import join, split

# The greatest index of the trellis that is coded as one symbol.
NARROW_TOP = 255


def write_groups(writer: StreamWriter, side: Side, groups: Iterable[str]) -> None:
    for group in groups:
        write_wide(writer, to_pattern(group, side[group]))


def read_groups(reader: StreamReader, counts: dict[str, int], groups: Iterable[str]) -> Side:
    return {group: from_pattern(group, read_wide(reader, counts[group], unsigned(group))) for group in groups}


class OrderZero:
    def __init__(self, weights: Mapping[str, tuple[TensorKind, CompressedTensor]], side: Side, coder: str) -> None:
        self._writer = StreamWriter(coder)
        self.bits: dict[str, float] = {}
        for name, (kind, tensor) in weights.items():
            before = self._writer.spent
            write_weight(self._writer, kind, tensor)
            self.bits[name] = self._writer.spent - before
        before = self._writer.spent
        write_groups(self._writer, side, GROUPS)
        self.side_bits = self._writer.spent - before

    def size(self) -> int:
        return self._writer.size()

    def finish(self) -> bytes:
        return self._writer.finish()


def write_weight(writer: StreamWriter, kind: TensorKind, tensor: CompressedTensor) -> None:
    if kind.plain:
        write_wide(writer, float_bits(stored(tensor)))
    elif kind.form == "k":
        write_narrow(writer, stored(tensor), kind.entries + 1, 0)
    elif kind.form == "d":
        _write_paths(writer, stored(tensor))
    elif kind.bits > 8:
        write_wide(writer, zigzag(steps(tensor)))
    else:
        offset, alphabet = _narrow(kind)
        write_narrow(writer, (steps(tensor) + np.int16(offset)).astype(np.uint8), alphabet, offset)


def read_order_zero(
    weights: Mapping[str, Described], counts: dict[str, int], section: bytes, coder: str
) -> tuple[dict[str, np.ndarray], Side]:
    reader = StreamReader(section, coder)
    codes = {name: read_weight(reader, kind, shape) for name, (kind, shape) in weights.items()}
    side = read_groups(reader, counts, GROUPS)
    reader.close()
    return codes, side


def read_weight(reader: StreamReader, kind: TensorKind, shape: tuple[int, ...]) -> np.ndarray:
    count = count_of(shape)
    if kind.plain:
        flat = bits_float(read_wide(reader, count, np.uint32))
    elif kind.form == "k":
        flat = read_narrow(reader, count, kind.entries + 1, 0)
    elif kind.form == "d":
        flat = _read_paths(reader, kind, shape)
    elif kind.bits > 8:
        flat = unzigzag(read_wide(reader, count, np.uint16))
    else:
        offset, alphabet = _narrow(kind)
        flat = read_narrow(reader, count, alphabet, offset).astype(np.int16) - np.int16(offset)
    return flat.reshape(shape)


def _write_paths(writer: StreamWriter, codes: np.ndarray) -> None:
    """The greatest index of the trellis, how many are of the odd quantizer, and a stream of those of each quantizer.

    On networks quantized by rate two streams take up to 20 % less than one: the odd quantizer's zero is narrower.
    """
    parts = split(codes)
    top = max(int(np.abs(part).max(initial=0)) for part in parts)
    writer.number(top)
    if top == 0:
        return
    writer.number(len(parts[1]))
    for part in parts:
        if top <= NARROW_TOP:
            write_narrow(writer, (part + top).astype(np.uint16 if 2 * top > 255 else np.uint8), 2 * top + 1, top)
        else:
            write_wide(writer, zigzag(part))


def _read_paths(reader: StreamReader, kind: TensorKind, shape: tuple[int, ...]) -> np.ndarray:
    count = count_of(shape)
    top = reader.number(2 ** (kind.bits - 2))
    if top == 0:
        return np.zeros(count, np.int32)
    odds = reader.number(count)
    parts = []
    for size in (count - odds, odds):
        if top <= NARROW_TOP:
            parts.append(read_narrow(reader, size, 2 * top + 1, top).astype(np.int32) - top)
        else:
            parts.append(unzigzag(read_wide(reader, size, np.uint16)))
    codes = join(parts[0], parts[1], shape)
    if codes is None:
        raise ArtefactError(
            f"{odds} of {count} codes must be of the odd quantizer; the trellis has others. The file is damaged: "
            "copy it again."
        )
    return codes


def _narrow(kind: TensorKind) -> tuple[int, int]:
    """What is added to a code to make it a symbol, and how many symbols there are."""
    if kind.form == "a":
        return 2 ** (kind.bits - 1), 2**kind.bits
    return kind.top, 2 * kind.top + 1
