"""Contexts: codes in the context of their neighbours, in lanes that are independent of each other.

The section is: the number of lanes (1 byte), their lengths (4 bytes each), the lanes, a block of what is coded by its
frequencies where there is any. The first lane ends with the groups that are coded in contexts.
"""

import math
import os
import struct
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import TypeVar

import numpy as np

from paretoscope.base.errors import ArtefactError
from paretoscope.codec import predict
from paretoscope.codec.codes import (
    code_range,
    count_of,
    ranks,
    steps,
    within,
)
from paretoscope.codec.contexts import ContextDecoder, ContextEncoder
from paretoscope.codec.kinds import TensorKind
from paretoscope.codec.order_zero import (
    read_groups,
    read_weight,
    write_groups,
    write_weight,
)
from paretoscope.codec.side import (
    GROUPS,
    MIXED,
    Cursor,
    Described,
    Side,
    from_values,
    halves,
    stored,
    to_values,
)
from paretoscope.codec.streams import StreamReader, StreamWriter
from paretoscope.model.tensors import Codebook, CompressedTensor

T = TypeVar("T")
# A lane for each so many codes; what a lane learns is lost to the others, what it takes is not waited for. Part of the
# format; chosen by hand, no benchmark.
CODES_PER_LANE, MAX_LANES = 1 << 20, 16
_COUNTED = tuple(group for group in GROUPS if group not in MIXED)


class Lanes:
    def __init__(
        self,
        weights: Mapping[str, tuple[TensorKind, CompressedTensor]],
        rest: list[tuple[TensorKind, CompressedTensor]],
        side: Side,
        coder: str,
    ) -> None:
        coded = {name: described for name, described in weights.items() if not described[0].plain}
        sizes = [count_of(tensor.shape) for _, tensor in coded.values()]
        count = _lane_count(sizes)
        lanes = lanes_of(list(coded), sizes, count)

        def encoded(lane: int) -> tuple[ContextEncoder, dict[str, float], dict[str, np.ndarray]]:
            encoder, bits, found = ContextEncoder(coder), {}, {}
            for name in lanes[lane]:
                kind, tensor = coded[name]
                values = ranks(tensor) if isinstance(tensor, Codebook) else steps(tensor)
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
                write_weight(block, kind, tensor)
                found[name] = block.spent - before
        before = block.spent
        write_groups(block, side, _COUNTED)
        self.bits = {name: found[name] for name in weights}
        self.side_bits += block.spent - before
        data = [encoder.finish() for encoder, _, _ in results]
        head = bytes([count]) + b"".join(struct.pack("<I", len(lane)) for lane in data)
        self._data = head + b"".join(data) + (block.finish() if block.spent else b"")

    def size(self) -> int:
        return len(self._data)

    def finish(self) -> bytes:
        return self._data


def read_lanes(
    weights: Mapping[str, Described], rest: list[Described], counts: dict[str, int], section: bytes, coder: str
) -> tuple[dict[str, np.ndarray], Side]:
    coded = {name: described for name, described in weights.items() if not described[0].plain}
    sizes = [count_of(shape) for _, shape in coded.values()]
    data, block = _split(section, _lane_count(sizes))
    lanes = lanes_of(list(coded), sizes, len(data))

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
        and not any(count_of(shape) for _, shape in floats.values())
    ):
        raise ArtefactError(
            f"streams must end with their lanes where nothing else is left; {len(block)} bytes follow. Copy it again."
        )
    # No block reads as one of no streams.
    reader = StreamReader(block or bytes(4), "ans")
    codes |= {name: read_weight(reader, kind, shape) for name, (kind, shape) in floats.items()}
    side |= read_groups(reader, counts, _COUNTED)
    reader.close()
    return codes, side


def _take_side(
    decoder: ContextDecoder, rest: list[Described], counts: dict[str, int], foreseen: list[np.ndarray]
) -> Side:
    """The groups that end the first lane. foreseen: levels of the weights whose scales are steps."""
    side = {}
    for group in MIXED:
        if group == "codes":
            sizes = [count_of(shape) for kind, shape in rest if kind.bits]
            values = np.concatenate([np.zeros(0, np.int64), *map(decoder.take_values, sizes)])
            side[group] = from_values(group, [values])
        elif group == "powers" and counts[group]:
            cursor = Cursor(side)
            own = [(kind, cursor.take("codes", count_of(shape)), shape) for kind, shape in rest if kind.bits]
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


def lanes_of(names: list[str], sizes: list[int], count: int) -> list[list[str]]:
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
    return within(codes, kind, *code_range(kind)).astype(np.int16)
