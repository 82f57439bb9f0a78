"""How a compressed tensor becomes symbol streams, and back.

Codes of up to 9 bits are one stream. Wider values (16-bit codes, floats) are split into byte planes, each a stream of
its own, because their high bytes are predictable and their low bytes are not; zeros among them are left out and
their places kept as run lengths. Narrow codes that are mostly zero are written as run lengths and non-zero symbols
too, when that is smaller (Deep Compression's relative indices): Huffman cannot spend less than a bit on a zero, and
zeros that come in long runs, as under dead inputs, cost any order-0 coder more than their runs do.
"""

import numpy as np

from paretoscope.base.compiled import compiled
from paretoscope.base.errors import ArtefactError
from paretoscope.codec.elias import gamma_bits
from paretoscope.codec.streams import Stream, StreamReader, StreamWriter

Unsigned = type[np.uint8] | type[np.uint16] | type[np.uint32] | type[np.uint64]
# By their bytes.
UNSIGNED: dict[int, Unsigned] = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}

ESCAPE = 255
SAMPLE = 1 << 18


def write_narrow(writer: StreamWriter, symbols: np.ndarray, alphabet: int, zero: int) -> None:
    """Write symbols (any shape) of range(alphabet), of which `zero` stands for the value 0."""
    flat = symbols.reshape(-1)
    whole = Stream.of(flat, alphabet)
    plan = writer.plan(whole)
    if 2 * whole.counts[zero] > len(flat) and (writer.coder == "huffman" or _clustered(flat, zero)):
        runs, values = split_zeros(flat, zero)
        parts = Stream.of(runs, ESCAPE + 1), Stream.of(values, alphabet)
        plans = [writer.plan(part) for part in parts]
        numbers = [1, len(flat) - len(values), len(runs) - len(values)]
        if gamma_bits(numbers) + sum(part.total_bits for part in plans) < gamma_bits([0]) + plan.total_bits:
            for number in numbers:
                writer.number(number)
            for part, its_plan in zip(parts, plans, strict=True):
                writer.stream(part, its_plan)
            return
    writer.number(0)
    writer.stream(whole, plan)


def read_narrow(reader: StreamReader, count: int, alphabet: int, zero: int) -> np.ndarray:
    """Read back (count,) symbols, uint8, or uint16 for more than 256 symbols."""
    if not reader.number(1):
        return reader.stream(count, alphabet)
    zeros = reader.number(count)
    runs = reader.stream(count - zeros + reader.number(zeros), ESCAPE + 1)
    return join_zeros(runs, reader.stream(count - zeros, alphabet), count, zero)


def write_wide(writer: StreamWriter, values: np.ndarray) -> None:
    """Write unsigned integers of 1 to 8 bytes, any shape, as run lengths and byte planes; nothing for none."""
    flat = values.reshape(-1)
    if len(flat) == 0:
        return
    zeros = len(flat) - int(np.count_nonzero(flat))
    writer.number(zeros)
    if zeros:
        runs, flat = split_zeros(flat, 0)
        writer.number(len(runs) - len(flat))
        writer.stream(Stream.of(runs, ESCAPE + 1))
    for plane in range(flat.itemsize):
        shift = flat.dtype.type(8 * plane)
        writer.stream(Stream.of((flat >> shift).astype(np.uint8), 256))


def read_wide(reader: StreamReader, count: int, kind: Unsigned) -> np.ndarray:
    """Read back (count,) unsigned integers of type `kind`."""
    if count == 0:
        return np.zeros(0, kind)
    zeros = reader.number(count)
    runs = reader.stream(count - zeros + reader.number(zeros), ESCAPE + 1) if zeros else None
    values: np.ndarray = np.zeros(count - zeros, kind)
    for plane in range(values.itemsize):
        wide: np.ndarray = reader.stream(len(values), 256).astype(kind)
        values |= wide << kind(8 * plane)
    return values if runs is None else join_zeros(runs, values, count, 0)


def split_zeros(flat: np.ndarray, zero: int) -> tuple[np.ndarray, np.ndarray]:
    """Run lengths and the values between them.

    A run (uint8) below 255 says how many zeros precede the next value; 255 says that 255 zeros follow and the run goes
    on. Zeros after the last value are not written. Returns runs (m,) and values (k,), m >= k.
    """
    values = np.empty(np.count_nonzero(flat != zero), flat.dtype)
    runs = np.empty(len(values) + len(flat) // ESCAPE, np.uint8)
    return runs[: _split(flat, flat.dtype.type(zero), runs, values)], values


def join_zeros(runs: np.ndarray, values: np.ndarray, count: int, zero: int) -> np.ndarray:
    """Undo `split_zeros`: (count,) of the type of `values`; raises ArtefactError when the runs do not fit."""
    flat = np.full(count, zero, values.dtype)
    steps = runs.astype(np.int64) + (runs != ESCAPE)
    ends = np.cumsum(steps)[runs != ESCAPE] - 1
    if len(ends) != len(values) or (len(ends) and ends[-1] >= count):
        raise ArtefactError("runs of zeros must lead to each value and end inside the tensor. The file is damaged.")
    flat[ends] = values
    return flat


def _clustered(flat: np.ndarray, zero: int) -> bool:
    """Whether knowing that the last symbol was zero tells so much of the next that runs may be worth a try.

    Compares the entropy of "is zero" with its entropy given the symbol before; equal for zeros in random places. The
    first SAMPLE symbols stand for all.
    """
    pairs = _pairs(flat[:SAMPLE], flat.dtype.type(zero))
    before = pairs.sum(axis=1)
    given = sum(_entropy(row) for row in pairs)
    return _entropy(before) - given > 0.005 * _entropy(before)


def _entropy(counts: np.ndarray) -> float:
    """Bits that all the counted symbols take together."""
    present = counts[counts > 0].astype(np.float64)
    return float((present * np.log2(present.sum() / present)).sum())


@compiled()
def _pairs(flat: np.ndarray, zero: int) -> np.ndarray:
    """Counts (2, 2) of [was zero, is zero] over neighbours."""
    counts = np.zeros(4, np.int64)
    for i in range(1, len(flat)):
        counts[2 * (flat[i - 1] == zero) + (flat[i] == zero)] += 1
    return counts.reshape(2, 2)


@compiled()
def _split(flat: np.ndarray, zero: int, runs: np.ndarray, values: np.ndarray) -> int:
    position, value, run = 0, 0, 0
    for symbol in flat:
        if symbol == zero:
            run += 1
            continue
        while run >= ESCAPE:
            runs[position] = ESCAPE
            position += 1
            run -= ESCAPE
        runs[position] = run
        values[value] = symbol
        position += 1
        value += 1
        run = 0
    return position
