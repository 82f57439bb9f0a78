"""The streams of a file: which numbers of a model are coded, in which order, by which coder.

"ans" and "huffman" code every tensor by the frequencies of its symbols (order 0). "context" and "smallest" code the
codes in the context of their neighbours, in lanes that are independent of each other, and float weights by their
frequencies. Which of the two is not chosen tensor by tensor: measured on the zoo, contexts take at most 0.1 % of a file
more than the better of both would.
"""

import math
import os
import struct
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Protocol, TypeVar

import numpy as np

from paretoscope.base.errors import ArtefactError, ModelError
from paretoscope.codec import predict
from paretoscope.codec.contexts import ContextDecoder, ContextEncoder
from paretoscope.codec.header import Header
from paretoscope.codec.kinds import TensorKind
from paretoscope.codec.layout import read_narrow, read_wide, write_narrow, write_wide
from paretoscope.codec.side import (
    GROUPS,
    MIXED,
    Cursor,
    Described,
    Side,
    bits_float,
    collected,
    counted,
    float_bits,
    from_pattern,
    from_values,
    halves,
    stored,
    to_pattern,
    to_values,
    unsigned,
    unzigzag,
    zigzag,
)
from paretoscope.codec.streams import StreamReader, StreamWriter
from paretoscope.model.compressed import CompressedModel
from paretoscope.model.powers import GREATEST, LEAST, ZERO, from_steps
from paretoscope.model.tensors import Codebook, CompressedTensor, Integers, Plain
from paretoscope.model.trellis import join, split

T = TypeVar("T")
ORDER_ZERO = ("ans", "huffman")
# The greatest index of the trellis that is coded as one symbol.
NARROW_TOP = 255
# A lane for each so many codes; what a lane learns is lost to the others, what it takes is not waited for.
CODES_PER_LANE, MAX_LANES = 1 << 20, 16


class Payload(Protocol):
    """Streams ready to be written. bits: what each weight's codes take. side_bits: what everything else takes."""

    bits: dict[str, float]
    side_bits: float

    def size(self) -> int:
        """Exact length of `finish()`."""
        ...

    def finish(self) -> bytes:
        """The section."""
        ...


def write_streams(model: CompressedModel, coder: str) -> Payload:
    """All streams of a model, ready to be coded with `coder`; raises ModelError for tensors that cannot be held."""
    weights = {name: (TensorKind.of(each, False), each) for name, each in _in_order(model, model.weights)}
    rest = [(TensorKind.of(each, True), each) for _, each in _in_order(model, model.rest)]
    _expect_readable(model)
    side = collected([*weights.values(), *rest])
    if coder in ORDER_ZERO:
        return _OrderZero(weights, side, coder)
    return _Contexts(weights, rest, side, coder)


def _expect_readable(model: CompressedModel) -> None:
    """Refuse what reading would."""
    for name, tensor in (*model.weights.items(), *model.rest.items()):
        if not _is_finite(TensorKind.of(tensor, name in model.rest), tensor):
            raise ModelError(
                f"codes must stand for finite numbers; those of {name!r:.60} do not, its values or their training went "
                "beyond all bounds. Leave the tensor as it is, or train with a lower learning rate."
            )


def _in_order(
    model: CompressedModel, tensors: Mapping[str, CompressedTensor]
) -> Iterable[tuple[str, CompressedTensor]]:
    return ((name, tensors[name]) for name in model.order if name in tensors)


def read_streams(header: Header, section: bytes) -> dict[str, CompressedTensor]:
    """The tensors of a header, from their streams; raises ArtefactError."""
    weights = {name: described for name, described in header.tensors.items() if not described[0].rest}
    rest = {name: described for name, described in header.tensors.items() if described[0].rest}
    counts = counted([*weights.values(), *rest.values()])
    coder = header.recipe.code.coder
    if coder in ORDER_ZERO:
        codes, side = _read_order_zero(weights, counts, section, coder)
    else:
        codes, side = _read_contexts(weights, list(rest.values()), counts, section, coder)
    return _assembled(weights, rest, codes, side, ranked=coder not in ORDER_ZERO)


def _write_groups(writer: StreamWriter, side: Side, groups: Iterable[str]) -> None:
    for group in groups:
        write_wide(writer, to_pattern(group, side[group]))


def _read_groups(reader: StreamReader, counts: dict[str, int], groups: Iterable[str]) -> Side:
    return {group: from_pattern(group, read_wide(reader, counts[group], unsigned(group))) for group in groups}


# Order 0: the codes of every weight, then all groups beside them.


class _OrderZero:
    def __init__(self, weights: Mapping[str, tuple[TensorKind, CompressedTensor]], side: Side, coder: str) -> None:
        self._writer = StreamWriter(coder)
        self.bits: dict[str, float] = {}
        for name, (kind, tensor) in weights.items():
            before = self._writer.spent
            _write_weight(self._writer, kind, tensor)
            self.bits[name] = self._writer.spent - before
        before = self._writer.spent
        _write_groups(self._writer, side, GROUPS)
        self.side_bits = self._writer.spent - before

    def size(self) -> int:
        return self._writer.size()

    def finish(self) -> bytes:
        return self._writer.finish()


def _write_weight(writer: StreamWriter, kind: TensorKind, tensor: CompressedTensor) -> None:
    if kind.plain:
        write_wide(writer, float_bits(stored(tensor)))
    elif kind.form == "k":
        write_narrow(writer, stored(tensor), kind.entries + 1, 0)
    elif kind.form == "d":
        _write_paths(writer, stored(tensor))
    elif kind.bits > 8:
        write_wide(writer, zigzag(_steps(tensor)))
    else:
        offset, alphabet = _narrow(kind)
        write_narrow(writer, (_steps(tensor) + np.int16(offset)).astype(np.uint8), alphabet, offset)


def _read_order_zero(
    weights: Mapping[str, Described], counts: dict[str, int], section: bytes, coder: str
) -> tuple[dict[str, np.ndarray], Side]:
    reader = StreamReader(section, coder)
    codes = {name: _read_weight(reader, kind, shape) for name, (kind, shape) in weights.items()}
    side = _read_groups(reader, counts, GROUPS)
    reader.close()
    return codes, side


def _read_weight(reader: StreamReader, kind: TensorKind, shape: tuple[int, ...]) -> np.ndarray:
    count = _count(shape)
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
    count = _count(shape)
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


# Contexts: number of lanes (1 byte), the lanes' lengths (4 bytes each), the lanes, a block of what is coded by its
# frequencies where there is any. The first lane ends with the groups that are coded in contexts.

_COUNTED = tuple(group for group in GROUPS if group not in MIXED)


class _Contexts:
    def __init__(
        self,
        weights: Mapping[str, tuple[TensorKind, CompressedTensor]],
        rest: list[tuple[TensorKind, CompressedTensor]],
        side: Side,
        coder: str,
    ) -> None:
        coded = {name: described for name, described in weights.items() if not described[0].plain}
        sizes = [_count(tensor.shape) for _, tensor in coded.values()]
        count = _lane_count(sizes)
        lanes = _lanes(list(coded), sizes, count)

        def encoded(lane: int) -> tuple[ContextEncoder, dict[str, float], dict[str, np.ndarray]]:
            encoder, bits, found = ContextEncoder(coder), {}, {}
            for name in lanes[lane]:
                kind, tensor = coded[name]
                values = _ranks(tensor) if isinstance(tensor, Codebook) else _steps(tensor)
                bits[name] = encoder.add(_grid(values), kind.form == "d")
                if kind.powers:
                    found[name] = predict.levels(values, kind.scales(values.shape))
            return encoder, bits, found

        results = _each(encoded, count)
        found = {name: bits for _, own, _ in results for name, bits in own.items()}
        levels = {name: own for _, _, every in results for name, own in every.items()}
        codes = [stored(tensor) for kind, tensor in rest if kind.bits]
        foreseen = [levels[name] for name, (kind, _) in coded.items() if kind.powers]
        foreseen += [predict.levels(stored(tensor), kind.scales(tensor.shape)) for kind, tensor in rest if kind.powers]
        self.side_bits = 0.0
        for group in MIXED:
            if group == "codes":
                parts = [own.reshape(-1) for own in codes]
            elif group == "powers":
                parts = predict.to_values(side[group], foreseen)
            else:
                parts = to_values(group, side[group])
            self.side_bits += sum(results[0][0].add_values(part) for part in parts)
        block = StreamWriter("ans")
        for name, (kind, tensor) in weights.items():
            if kind.plain:
                before = block.spent
                _write_weight(block, kind, tensor)
                found[name] = block.spent - before
        before = block.spent
        _write_groups(block, side, _COUNTED)
        self.bits = {name: found[name] for name in weights}
        self.side_bits += block.spent - before
        data = [encoder.finish() for encoder, _, _ in results]
        head = bytes([count]) + b"".join(struct.pack("<I", len(lane)) for lane in data)
        self._data = head + b"".join(data) + (block.finish() if block.spent else b"")

    def size(self) -> int:
        return len(self._data)

    def finish(self) -> bytes:
        return self._data


def _read_contexts(
    weights: Mapping[str, Described], rest: list[Described], counts: dict[str, int], section: bytes, coder: str
) -> tuple[dict[str, np.ndarray], Side]:
    coded = {name: described for name, described in weights.items() if not described[0].plain}
    sizes = [_count(shape) for _, shape in coded.values()]
    data, block = _split(section, _lane_count(sizes))
    lanes = _lanes(list(coded), sizes, len(data))

    def decoded(lane: int) -> tuple[ContextDecoder, dict[str, np.ndarray], dict[str, np.ndarray]]:
        decoder = ContextDecoder(data[lane], coder)
        codes = {name: _take(decoder, *coded[name]) for name in lanes[lane]}
        if lane:
            decoder.close()
        kinds = {name: coded[name][0] for name in codes if coded[name][0].powers}
        found = {name: predict.levels(codes[name], kind.scales(codes[name].shape)) for name, kind in kinds.items()}
        return decoder, codes, found

    results = _each(decoded, len(data))
    codes = {name: array for _, found, _ in results for name, array in found.items()}
    levels = {name: array for _, _, found in results for name, array in found.items()}
    foreseen = [levels[name] for name, (kind, _) in coded.items() if kind.powers]
    side = _take_side(results[0][0], rest, counts, foreseen)
    floats = {name: described for name, described in weights.items() if described[0].plain}
    if (
        block
        and not any(counts[group] for group in _COUNTED)
        and not any(_count(shape) for _, shape in floats.values())
    ):
        raise ArtefactError(
            f"streams must end with their lanes where nothing else is left; {len(block)} bytes follow. Copy it again."
        )
    # No block reads as one of no streams.
    reader = StreamReader(block or bytes(4), "ans")
    codes |= {name: _read_weight(reader, kind, shape) for name, (kind, shape) in floats.items()}
    side |= _read_groups(reader, counts, _COUNTED)
    reader.close()
    return codes, side


def _take_side(
    decoder: ContextDecoder, rest: list[Described], counts: dict[str, int], foreseen: list[np.ndarray]
) -> Side:
    """The groups that end the first lane. foreseen: levels of the weights whose scales are steps."""
    side = {}
    for group in MIXED:
        if group == "codes":
            sizes = [_count(shape) for kind, shape in rest if kind.bits]
            values = np.concatenate([np.zeros(0, np.int64), *map(decoder.take_values, sizes)])
            side[group] = from_values(group, [values])
        elif group == "powers" and counts[group]:
            cursor = Cursor(side)
            own = [(kind, cursor.take("codes", _count(shape)), shape) for kind, shape in rest if kind.bits]
            levels = [predict.levels(codes, kind.scales(shape)) for kind, codes, shape in own if kind.powers]
            unit = from_values(group, [decoder.take_values(1)])[0]
            values = from_values(group, [decoder.take_values(counts[group])])
            side[group] = predict.from_values(int(unit), values.astype(np.int64), foreseen + levels)
        else:
            side[group] = from_values(group, [decoder.take_values(counts[group]) for _ in range(halves(group))])
    decoder.close()
    return side


def _lane_count(sizes: list[int]) -> int:
    """How many lanes a writer makes, and the most that a reader accepts: each takes memory of its own."""
    return min(MAX_LANES, 1 + sum(sizes) // CODES_PER_LANE)


def _split(section: bytes, most: int) -> tuple[list[bytes], bytes]:
    """The lanes and what follows them."""
    count = section[0] if section else 0
    if not 1 <= count <= most or len(section) < 1 + 4 * count:
        raise ArtefactError(
            f"streams in contexts must begin with 1 to {most} lanes and their lengths; got {count} lanes in "
            f"{len(section)} bytes. The file is damaged: copy it again."
        )
    lengths = struct.unpack_from(f"<{count}I", section, 1)
    ends = [1 + 4 * count, *lengths]
    if sum(ends) > len(section):
        raise ArtefactError(
            f"lanes must lie within their section; they take {sum(ends)} of {len(section)} bytes. Copy the file again."
        )
    ends = np.cumsum(ends).tolist()
    return [section[start:end] for start, end in pairwise(ends)], section[ends[-1] :]


def _lanes(names: list[str], sizes: list[int], count: int) -> list[list[str]]:
    """Which tensors each lane has, in their order: the largest first go where there is least, the first such lane."""
    load, owner = [0] * count, {}
    for place in sorted(range(len(names)), key=lambda place: (-sizes[place], place)):
        lane = load.index(min(load))
        load[lane] += sizes[place]
        owner[names[place]] = lane
    return [[name for name in names if owner[name] == lane] for lane in range(count)]


def _each(work: Callable[[int], T], count: int) -> list[T]:
    """The results for all lanes, in their order; several lanes take threads."""
    if count == 1:
        return [work(0)]
    with ThreadPoolExecutor(min(count, os.cpu_count() or 1)) as pool:
        return list(pool.map(work, range(count)))


def _grid(values: np.ndarray) -> np.ndarray:
    """Codes as (rows, columns, taps): output channels, input channels, and all else."""
    return np.ascontiguousarray(values).reshape(_axes(values.shape))


def _axes(shape: tuple[int, ...]) -> tuple[int, int, int]:
    rows, columns, *taps = (*shape, 1, 1)[: max(2, len(shape))]
    return rows, columns, math.prod(taps)


def _take(decoder: ContextDecoder, kind: TensorKind, shape: tuple[int, ...]) -> np.ndarray:
    codes = decoder.take(_axes(shape), kind.form == "d").reshape(shape)
    low, high = _range(kind)
    if codes.size and (codes.min() < low or codes.max() > high):
        raise ArtefactError(
            f"codes of kind {kind.label} must be in {low}..{high}; got {codes.min()}..{codes.max()}. "
            "The file is damaged: copy it again."
        )
    return codes.astype(np.int16)


# From codes to tensors.


def _assembled(
    weights: Mapping[str, Described],
    rest: Mapping[str, Described],
    codes: dict[str, np.ndarray],
    side: Side,
    *,
    ranked: bool,
) -> dict[str, CompressedTensor]:
    """The tensors. ranked: whether the codes of codebooks are ranks, and not symbols."""
    cursor = Cursor({**side, "powers": _powers(side["powers"])})
    tensors: dict[str, CompressedTensor] = {}
    for name, (kind, shape) in (*weights.items(), *rest.items()):
        scale = cursor.take("powers" if kind.powers else "scales", kind.scales(shape))
        if kind.bits and not kind.per_row:
            scale = scale.reshape(())
        grid = cursor.take("integers", kind.integers(shape))
        if kind.plain:
            tensors[name] = Plain(cursor.take(kind.plain, _count(shape)).reshape(shape) if kind.rest else codes[name])
        elif kind.form == "k":
            own: np.ndarray = _within(grid, kind).astype(kind.width)
            found = Integers(own, scale, kind.bits) if kind.bits else Plain(cursor.take("entries", kind.floats()))
            symbols = _symbols(codes[name], found) if ranked else codes[name]
            tensors[name] = Codebook(symbols, found)
        elif kind.form == "a":
            zero = _wrapped(grid.astype(np.int32), kind.bits).reshape(scale.shape)
            steps = _wrapped(codes[name].astype(np.int32) + _beside(zero, codes[name]), kind.bits)
            tensors[name] = Integers(steps.astype(kind.width), scale, kind.bits, zero.astype(kind.width))
        else:
            own = cursor.take("codes", _count(shape)).reshape(shape) if kind.rest else codes[name]
            own = _within(own, kind).astype(kind.width)
            tensors[name] = Integers(own, scale, kind.bits, trellis=kind.form == "d")
        _expect_finite(name, kind, tensors[name])
    return tensors


def _expect_finite(name: str, kind: TensorKind, tensor: CompressedTensor) -> None:
    """Codes stand for numbers. What is not finite is only ever written as it is, among plain values."""
    if not _is_finite(kind, tensor):
        raise ArtefactError(
            f"codes must decode to finite numbers; those of {name!r:.60} do not. The file is damaged: copy it again."
        )


def _is_finite(kind: TensorKind, tensor: CompressedTensor) -> bool:
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


def _within(codes: np.ndarray, kind: TensorKind) -> np.ndarray:
    if codes.size and (codes.min() < -kind.top or codes.max() > kind.top):
        raise ArtefactError(
            f"codes of kind {kind.label} must be in {-kind.top}..{kind.top}; got {codes.min()}..{codes.max()}. "
            "The file is damaged: copy it again."
        )
    return codes


def _powers(steps: np.ndarray) -> np.ndarray:
    scales = from_steps(steps)
    if scales is None:
        raise ArtefactError(
            f"steps of scales must be in {LEAST}..{GREATEST} or {ZERO}; got {steps.min()}..{steps.max()}. "
            "The file is damaged: copy it again."
        )
    return scales


def _range(kind: TensorKind) -> tuple[int, int]:
    """The least and the greatest number that stands for a code."""
    if kind.form == "k":
        return -kind.entries, kind.entries
    return (-(2 ** (kind.bits - 1)), 2 ** (kind.bits - 1) - 1) if kind.form == "a" else (-kind.top, kind.top)


def _steps(tensor: CompressedTensor) -> np.ndarray:
    """What is coded of integer codes: themselves, or their distance from the zero point modulo 2**bits."""
    if not isinstance(tensor, Integers) or tensor.zero is None:
        return stored(tensor).astype(np.int16)
    return _wrapped(tensor.codes.astype(np.int32) - _beside(tensor.zero, tensor.codes), tensor.bits)


def _ranks(tensor: Codebook) -> np.ndarray:
    """Symbols as signed ranks: 1, 2, ... for the entries that are not negative, ..., -2, -1 for those that are."""
    below = _below(tensor.entries)
    symbols = tensor.indices.astype(np.int16)
    return np.where(symbols == 0, 0, symbols - below - (symbols <= below)).astype(np.int16)


def _symbols(ranks: np.ndarray, entries: Plain | Integers) -> np.ndarray:
    """Undo `_ranks`."""
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


def _beside(zero: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Zero points, one or one for each row, in a shape that broadcasts over the codes."""
    return zero.reshape(zero.shape + (1,) * (codes.ndim - 1)) if zero.ndim else zero


def _wrapped(steps: np.ndarray, bits: int) -> np.ndarray:
    """Integers modulo 2**bits, into -2**(bits - 1) .. 2**(bits - 1) - 1: int16."""
    half = 2 ** (bits - 1)
    wrapped: np.ndarray = ((steps + half) & (2 * half - 1)) - half
    return wrapped.astype(np.int16)


def _count(shape: tuple[int, ...]) -> int:
    return math.prod(shape)
