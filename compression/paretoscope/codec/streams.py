"""Symbol streams: sequences over small alphabets, entropy coded one after another into one block of bytes.

Two coders, both from constriction: "ans" (asymmetric numeral systems, Duda 2009), which sits at the cross-entropy of
its frequency table and shares one state among all streams, so that a short stream costs no rounding; and "huffman"
(Huffman 1952), whole bits a symbol. Each stream gets the cheaper of a table of its own and equal code lengths.

A block is: the length of the numbers section (4 bytes, little-endian), the numbers (tables and counts, Elias gamma
coded), the payload (32-bit little-endian words).
"""

import struct
from dataclasses import dataclass, field
from functools import lru_cache

import constriction
import numpy as np

from paretoscope.base.compiled import compiled
from paretoscope.base.errors import ArtefactError
from paretoscope.codec.elias import GammaReader, encode, gamma_bits

Categorical, Uniform = constriction.stream.model.Categorical, constriction.stream.model.Uniform
AnsCoder = constriction.stream.stack.AnsCoder
QueueEncoder, QueueDecoder = constriction.symbol.QueueEncoder, constriction.symbol.QueueDecoder
EncoderHuffmanTree = constriction.symbol.huffman.EncoderHuffmanTree
DecoderHuffmanTree = constriction.symbol.huffman.DecoderHuffmanTree

# Frequencies of an ANS table sum to 2 ** precision. Short streams want coarse tables, long ones fine tables.
PRECISIONS = (5, 8, 11, 14)
MAX_ALPHABET = 512


@dataclass(frozen=True, eq=False, slots=True)
class Stream:
    """One sequence to be coded: `symbols` (n,) in range(alphabet), and how often each of them occurs."""

    symbols: np.ndarray
    alphabet: int
    counts: np.ndarray

    @classmethod
    def of(cls, symbols: np.ndarray, alphabet: int) -> "Stream":
        return cls(symbols, alphabet, histogram(symbols, alphabet))


@dataclass(frozen=True, eq=False, slots=True)
class _Plan:
    """How one stream is coded: the numbers that tell the reader, and the payload's bits.

    first, weights: the table, from its first symbol on; frequencies for ANS, code lengths for Huffman (0: absent).
    total_bits: bits of the payload and of the numbers.
    """

    numbers: list[int]
    bits: float
    first: int
    weights: np.ndarray
    total_bits: float

    @classmethod
    def of(cls, numbers: list[int], bits: float, first: int, weights: np.ndarray) -> "_Plan":
        return cls(numbers, bits, first, weights, bits + gamma_bits(numbers))


@dataclass
class StreamWriter:
    """Collects numbers and streams, then codes them all with `coder` ("ans" or "huffman").

    spent: bits that they take so far, by the coder's model.
    """

    coder: str
    spent: float = 0.0
    _numbers: list[int] = field(default_factory=list)
    _streams: list[tuple[Stream, _Plan]] = field(default_factory=list)

    def number(self, value: int) -> None:
        """Add a whole number >= 0 (Elias gamma: about 2 log2(value) bits)."""
        self._numbers.append(value)
        self.spent += gamma_bits([value])

    def stream(self, stream: Stream, plan: _Plan | None = None) -> None:
        """Add a stream; the reader must know its length and alphabet. `plan` spares making it again."""
        plan = plan or self.plan(stream)
        self._numbers += plan.numbers
        self._streams.append((stream, plan))
        self.spent += plan.total_bits

    def plan(self, stream: Stream) -> _Plan:
        """How the coder would code this stream; `total_bits` says what it would take."""
        return _plan_ans(stream) if self.coder == "ans" else _plan_huffman(stream)

    def size(self) -> int:
        """Exact length of `finish()` in bytes; free of coding the payload for "huffman" only."""
        if self.coder == "ans":
            return len(self.finish())
        bits = int(sum(plan.bits for _, plan in self._streams))
        return 4 + len(encode(self._numbers)) + 4 * -(-bits // 32)

    def finish(self) -> bytes:
        """The block."""
        numbers = encode(self._numbers)
        words = self._ans() if self.coder == "ans" else self._huffman()
        return struct.pack("<I", len(numbers)) + numbers + words.astype("<u4").tobytes()

    def _ans(self) -> np.ndarray:
        coder = AnsCoder()
        for stream, plan in reversed(self._streams):
            present = np.flatnonzero(plan.weights)
            if len(stream.symbols) == 0 or len(present) == 1:
                continue
            lookup = np.zeros(stream.alphabet, np.int32)
            lookup[present + plan.first] = np.arange(len(present))
            dense = len(present) == present[-1] + 1
            positions = stream.symbols.astype(np.int32) - plan.first if dense else lookup[stream.symbols]
            coder.encode_reverse(positions, _model(plan.weights[present]))
        words: np.ndarray = coder.get_compressed()
        return words

    def _huffman(self) -> np.ndarray:
        coder = QueueEncoder()
        for stream, plan in self._streams:
            present = np.flatnonzero(plan.weights)
            if len(stream.symbols) == 0 or len(present) == 1:
                continue
            lookup = np.zeros(stream.alphabet, np.int64)
            lookup[present + plan.first] = np.arange(len(present))
            tree = EncoderHuffmanTree(_dyadic(plan.weights[present]))
            encode = coder.encode_symbol
            for symbol in lookup[stream.symbols].tolist():
                encode(symbol, tree)
        words: np.ndarray = coder.get_compressed()[0]
        return words


class StreamReader:
    """Reads back what a StreamWriter wrote, in the same order; raises ArtefactError on anything else."""

    def __init__(self, block: bytes, coder: str) -> None:
        if len(block) < 4:
            raise ArtefactError(
                "a block of streams must hold at least 4 bytes; this one ends early. Copy the file again."
            )
        (length,) = struct.unpack_from("<I", block)
        payload = block[4 + length :]
        if length > len(block) - 4 or len(payload) % 4:
            raise ArtefactError(
                f"the numbers and the words of a block must fill it; got {length} and {len(payload)} bytes of "
                f"{len(block)}. Copy the file again."
            )
        self._numbers = GammaReader(block[4 : 4 + length])
        self._ans = coder == "ans"
        words = np.frombuffer(payload, "<u4").astype(np.uint32)
        self._words = len(words)
        self._huffman_bits = 0
        try:
            self._coder = AnsCoder(words) if self._ans else QueueDecoder(words)
        except ValueError as error:
            raise ArtefactError(
                f"the payload must be words of the {coder} coder; {error}. Copy the file again."
            ) from None

    def number(self, most: int) -> int:
        """The next number, refused when greater than `most`."""
        value = self._numbers.next()
        if value > most:
            raise ArtefactError(
                f"a count must be at most {most} here; got {value}. The file is damaged: copy it again."
            )
        return value

    def stream(self, count: int, alphabet: int) -> np.ndarray:
        """The next stream: (count,) uint8, or uint16 for more than 256 symbols."""
        kind = np.uint8 if alphabet <= 256 else np.uint16
        if count == 0:
            return np.zeros(0, kind)
        read_table = _read_frequencies if self._ans else _read_lengths
        first, weights = read_table(self, alphabet)
        present = np.flatnonzero(weights)
        if len(present) == 1:
            return np.full(count, present[0] + first, kind)
        decode = self._decode_ans if self._ans else self._decode_huffman
        symbols: np.ndarray = (present + first).astype(kind)[decode(weights[present], count)]
        return symbols

    def close(self) -> None:
        """Check that nothing is left over."""
        empty = self._coder.is_empty() if self._ans else self._words == -(-self._huffman_bits // 32)
        if not (self._numbers.exhausted() and empty):
            raise ArtefactError("a block of streams must end with its last stream; bytes are left over. Copy it again.")

    def _decode_ans(self, frequencies: np.ndarray, count: int) -> np.ndarray:
        symbols: np.ndarray = self._coder.decode(_model(frequencies), count)
        return symbols

    def _decode_huffman(self, lengths: np.ndarray, count: int) -> np.ndarray:
        tree = DecoderHuffmanTree(_dyadic(lengths))
        decode = self._coder.decode_symbol
        try:
            symbols = np.fromiter((decode(tree) for _ in range(count)), np.int64, count)
        except (ValueError, AssertionError) as error:
            raise ArtefactError(f"a Huffman stream must hold {count} symbols; {error}. Copy the file again.") from None
        self._huffman_bits += int(lengths[symbols].sum())
        return symbols


def histogram(symbols: np.ndarray, alphabet: int) -> np.ndarray:
    """How often each symbol of range(alphabet) occurs: int64 (alphabet,)."""
    return _histogram(symbols.reshape(-1), alphabet)


@compiled()
def _histogram(symbols: np.ndarray, alphabet: int) -> np.ndarray:
    # Two tables in turn: equal neighbours, which are common, would otherwise wait for each other's count.
    even, odd = np.zeros(alphabet, np.int64), np.zeros(alphabet, np.int64)
    for i in range(0, len(symbols) - 1, 2):
        even[symbols[i]] += 1
        odd[symbols[i + 1]] += 1
    if len(symbols) % 2:
        even[symbols[-1]] += 1
    return even + odd


def _span(counts: np.ndarray) -> tuple[int, np.ndarray]:
    """The counts without absent symbols at either end, and the first symbol."""
    present = np.flatnonzero(counts)
    return int(present[0]), counts[present[0] : present[-1] + 1]


# ANS: precision (0: equal, 1: a single symbol, 2 + i: PRECISIONS[i]), first symbol, span, all frequencies but one.


def _plan_ans(stream: Stream) -> _Plan:
    count = len(stream.symbols)
    if count == 0:
        return _Plan.of([], 0.0, 0, np.ones(1, np.int64))
    first, counts = _span(stream.counts)
    if len(counts) == 1:
        return _Plan.of([1, first], 0.0, first, np.ones(1, np.int64))
    best = _Plan.of([0], count * float(np.log2(stream.alphabet)), 0, np.ones(stream.alphabet, np.int64))
    choice, frequencies, bits, table_bits = _best_frequencies(counts, _PRECISIONS)
    # Few tables are near the balance; only they need their exact cost.
    if choice >= 0 and bits + table_bits < best.total_bits:
        plan = _Plan.of([choice + 2, first, len(counts), *frequencies[:-1].tolist()], bits, first, frequencies)
        best = min(best, plan, key=lambda plan: plan.total_bits)
    return best


_PRECISIONS = np.array(PRECISIONS)


@compiled()
def _best_frequencies(counts: np.ndarray, precisions: np.ndarray) -> tuple[int, np.ndarray, float, float]:
    """The cheapest table among the precisions: its position (-1 for none), frequencies, payload bits, table bits."""
    present = np.count_nonzero(counts)
    best, least, least_bits, least_table = -1, np.inf, 0.0, 0.0
    chosen = np.zeros(len(counts), np.int64)
    for position in range(len(precisions)):
        precision = precisions[position]
        if present > 1 << precision:
            continue
        frequencies = _frequencies(counts, precision)
        bits, table = 0.0, 0.0
        for symbol in range(len(counts)):
            if counts[symbol] > 0:
                bits += counts[symbol] * (precision - np.log2(frequencies[symbol]))
            if symbol < len(counts) - 1:
                table += 2 * np.floor(np.log2(frequencies[symbol] + 1.0)) + 1
        if bits + table < least:
            best, least, least_bits, least_table = position, bits + table, bits, table
            chosen[:] = frequencies
    return best, chosen, least_bits, least_table


@compiled()
def _frequencies(counts: np.ndarray, precision: int) -> np.ndarray:
    """Whole frequencies in proportion to the counts, at least 1 where a symbol occurs, that sum to 2 ** precision."""
    total = 1 << precision
    everything = counts.sum()
    frequencies = np.zeros(len(counts), np.int64)
    remainders = np.full(len(counts), -np.inf)
    for symbol in range(len(counts)):
        if counts[symbol] > 0:
            frequencies[symbol] = max(1, counts[symbol] * total // everything)
            remainders[symbol] = counts[symbol] * total / everything - frequencies[symbol]
    missing = total - frequencies.sum()
    if missing > 0:
        # Each unit goes where it saves most: to the largest remainders first.
        order = np.argsort(-remainders, kind="mergesort")[: np.count_nonzero(counts)]
        for position in range(len(order)):
            frequencies[order[position]] += missing // len(order) + (position < missing % len(order))
    while missing < 0:
        largest = frequencies.argmax()
        taken = min(-missing, frequencies[largest] // 2)
        frequencies[largest] -= taken
        missing += taken
    return frequencies


def _read_frequencies(reader: StreamReader, alphabet: int) -> tuple[int, np.ndarray]:
    choice = reader.number(len(PRECISIONS) + 1)
    if choice == 0:
        return 0, np.ones(alphabet, np.int64)
    first = reader.number(alphabet - 1)
    if choice == 1:
        return first, np.ones(1, np.int64)
    span = reader.number(alphabet - first)
    total = 2 ** PRECISIONS[choice - 2]
    frequencies = np.zeros(max(span, 1), np.int64)
    left = total
    for position in range(span - 1):
        frequencies[position] = reader.number(left)
        left -= int(frequencies[position])
    frequencies[-1] = left
    if left == 0 or span < 2:
        raise ArtefactError(f"frequencies must sum to {total} with none left over. The file is damaged: copy it again.")
    return first, frequencies


def _model(frequencies: np.ndarray) -> object:
    """The model of constriction for a table."""
    if (frequencies == 1).all():
        return Uniform(len(frequencies))
    return Categorical(frequencies / frequencies.sum(), perfect=False)


# Huffman: kind (0: equal, 1: a single symbol, 2: a table), first symbol, span, code lengths (0: absent).


def _plan_huffman(stream: Stream) -> _Plan:
    count = len(stream.symbols)
    if count == 0:
        return _Plan.of([], 0.0, 0, np.ones(1, np.int64))
    first, counts = _span(stream.counts)
    if len(counts) == 1:
        return _Plan.of([1, first], 0.0, first, np.ones(1, np.int64))
    lengths = code_lengths(counts)
    bits = float(np.dot(counts, lengths))
    own = _Plan.of([2, first, len(counts), *lengths.tolist()], bits, first, lengths)
    lengths = _equal_lengths(stream.alphabet)
    equal = _Plan.of([0], float(np.dot(stream.counts, lengths)), 0, lengths)
    return min(equal, own, key=lambda plan: plan.total_bits)


@lru_cache(maxsize=2 * MAX_ALPHABET)
def _equal_lengths(alphabet: int) -> np.ndarray:
    lengths = code_lengths(np.ones(alphabet, np.int64))
    lengths.setflags(write=False)
    return lengths


@compiled()
def code_lengths(counts: np.ndarray) -> np.ndarray:
    """Lengths of a Huffman code for symbols with these counts: int64 (n,), 0 where the count is 0.

    Two-queue construction over the sorted counts; at least two counts must not be zero.
    """
    order = np.argsort(counts, kind="mergesort")
    order = order[counts[order] > 0]
    leaves = len(order)
    weight = np.empty(2 * leaves - 1, np.int64)
    parent = np.zeros(2 * leaves - 1, np.int64)
    weight[:leaves] = counts[order]
    leaf, node = 0, leaves
    for new in range(leaves, 2 * leaves - 1):
        weight[new] = 0
        for _ in range(2):
            if leaf < leaves and (node >= new or weight[leaf] <= weight[node]):
                child, leaf = leaf, leaf + 1
            else:
                child, node = node, node + 1
            weight[new] += weight[child]
            parent[child] = new
    depth = np.zeros(2 * leaves - 1, np.int64)
    for child in range(2 * leaves - 3, -1, -1):
        depth[child] = depth[parent[child]] + 1
    lengths = np.zeros(len(counts), np.int64)
    lengths[order] = depth[:leaves]
    return lengths


def _read_lengths(reader: StreamReader, alphabet: int) -> tuple[int, np.ndarray]:
    kind = reader.number(2)
    if kind == 0:
        return 0, _equal_lengths(alphabet) if alphabet > 1 else np.ones(1, np.int64)
    first = reader.number(alphabet - 1)
    if kind == 1:
        return first, np.ones(1, np.int64)
    span = reader.number(alphabet - first)
    lengths = np.array([reader.number(MAX_ALPHABET) for _ in range(span)], np.int64)
    if (0.5 ** lengths[lengths > 0]).sum() != 1:
        raise ArtefactError("Huffman code lengths must fill the code space exactly (Kraft). The file is damaged.")
    return first, lengths


def _dyadic(lengths: np.ndarray) -> np.ndarray:
    """Probabilities whose Huffman code has exactly these lengths."""
    return 0.5 ** lengths.astype(np.float64)
