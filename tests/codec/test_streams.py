import heapq
import struct
from collections.abc import Iterable
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paretoscope.base.errors import ArtefactError
from paretoscope.codec.streams import (
    PRECISIONS,
    Stream,
    StreamReader,
    StreamWriter,
    _frequencies,
    code_lengths,
    histogram,
)

CODERS = ("ans", "huffman")
SHAPES = ("uniform", "constant", "skewed", "two", "sparse", "ramp")

bounded = settings(derandomize=True, deadline=None, max_examples=100)


@st.composite
def sequences(draw: st.DrawFn) -> tuple[np.ndarray, int]:
    """Symbols and their alphabet, 1..512; empty ones, single ones and every kind of distribution."""
    alphabet = draw(st.integers(1, 512))
    count = draw(st.sampled_from([0, 1, 2, 3, 17, 400]))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    first, second = random.integers(0, alphabet, 2)
    symbols = {
        "uniform": lambda: random.integers(0, alphabet, count),
        "constant": lambda: np.full(count, first),
        "skewed": lambda: np.minimum(random.geometric(0.6, count) - 1, alphabet - 1),
        "two": lambda: np.where(random.random(count) < 0.01, first, second),
        "sparse": lambda: np.where(random.random(count) < 0.9, first, random.integers(0, alphabet, count)),
        "ramp": lambda: np.arange(count) % alphabet,
    }[draw(st.sampled_from(SHAPES))]()
    return symbols.astype(np.uint8 if alphabet <= 256 else np.uint16), alphabet


def written(coder: str, streams: Iterable[tuple[np.ndarray, int]]) -> StreamWriter:
    writer = StreamWriter(coder)
    for symbols, alphabet in streams:
        writer.stream(Stream.of(symbols, alphabet))
    return writer


def gamma(values: Iterable[int]) -> str:
    """Elias gamma code of value + 1, bit by bit."""
    binary = [f"{value + 1:b}" for value in values]
    return "".join("0" * (len(digits) - 1) + digits for digits in binary)


def section(bits: str) -> bytes:
    """Bits as the numbers section of a block: its length, then the bits padded to whole bytes."""
    data = bytes(int(bits[i : i + 8].ljust(8, "0"), 2) for i in range(0, len(bits), 8))
    return struct.pack("<I", len(data)) + data


def entropy_bits(symbols: np.ndarray) -> float:
    counts = np.unique(symbols, return_counts=True)[1]
    return float(-(counts * np.log2(counts / counts.sum())).sum())


def slow_huffman_cost(counts: Iterable[int]) -> int:
    """Bits of an optimal prefix code: the sum of all merged weights."""
    heap = [count for count in counts if count]
    heapq.heapify(heap)
    cost = 0
    while len(heap) > 1:
        merged = heapq.heappop(heap) + heapq.heappop(heap)
        cost += merged
        heapq.heappush(heap, merged)
    return cost


@pytest.mark.parametrize("coder", CODERS)
@given(streams=st.lists(sequences(), max_size=5), numbers=st.lists(st.integers(0, 2**40), max_size=5))
@bounded
def test_streams_and_numbers_come_back_in_order(coder, streams, numbers):
    writer = StreamWriter(coder)
    for position in range(max(len(streams), len(numbers))):
        for value in numbers[position : position + 1]:
            writer.number(value)
        for symbols, alphabet in streams[position : position + 1]:
            writer.stream(Stream.of(symbols, alphabet))
    block = writer.finish()
    assert writer.size() == len(block)
    assert writer.finish() == block

    reader = StreamReader(block, coder)
    for position in range(max(len(streams), len(numbers))):
        for value in numbers[position : position + 1]:
            assert reader.number(value) == value
        for symbols, alphabet in streams[position : position + 1]:
            read = reader.stream(len(symbols), alphabet)
            assert read.dtype == symbols.dtype
            np.testing.assert_array_equal(read, symbols)
    reader.close()


@pytest.mark.parametrize("coder", CODERS)
@pytest.mark.parametrize("alphabet", [1, 2, 3, 16, 17, 255, 256, 257, 511, 512])
@pytest.mark.parametrize("shape", ["all once", "skewed", "last only", "ends only"])
def test_every_alphabet_comes_back(coder, alphabet, shape):
    everything = np.arange(alphabet)
    symbols = {
        "all once": everything,
        "skewed": np.repeat(everything, np.maximum(1, 3000 >> np.minimum(everything, 30))),
        "last only": np.full(50, alphabet - 1),
        "ends only": np.array([0, alphabet - 1] * 20),
    }[shape].astype(np.uint8 if alphabet <= 256 else np.uint16)
    writer = written(coder, [(symbols, alphabet)])
    assert writer.size() == len(writer.finish())
    reader = StreamReader(writer.finish(), coder)
    np.testing.assert_array_equal(reader.stream(len(symbols), alphabet), symbols)
    reader.close()


def test_a_skew_deeper_than_any_table_comes_back():
    fibonacci = [1, 1]
    while sum(fibonacci) < 300_000:
        fibonacci.append(fibonacci[-1] + fibonacci[-2])
    symbols = np.random.default_rng(0).permutation(np.repeat(np.arange(len(fibonacci), dtype=np.uint8), fibonacci))
    lengths = code_lengths(np.array(fibonacci))
    assert lengths.max() == len(fibonacci) - 1
    for coder in CODERS:
        reader = StreamReader(written(coder, [(symbols, 32)]).finish(), coder)
        np.testing.assert_array_equal(reader.stream(len(symbols), 32), symbols)
        reader.close()


@given(
    st.lists(st.integers(0, 2**30) | st.integers(0, 4), min_size=2, max_size=512).filter(
        lambda c: sum(map(bool, c)) > 1
    )
)
@bounded
def test_huffman_lengths_are_optimal_and_fill_the_code_space(counts):
    lengths = code_lengths(np.array(counts))
    assert [bool(length) for length in lengths] == [bool(count) for count in counts]
    assert int(np.dot(lengths, counts)) == slow_huffman_cost(counts)
    assert sum(Fraction(1, 2 ** int(length)) for length in lengths if length) == 1


def test_huffman_spends_the_bits_of_its_code():
    symbols = np.random.default_rng(1).choice(5, 4000, p=[0.5, 0.25, 0.15, 0.06, 0.04]).astype(np.uint8)
    block = written("huffman", [(symbols, 5)]).finish()
    (numbers,) = struct.unpack_from("<I", block)
    bits = slow_huffman_cost(np.bincount(symbols))
    assert len(block) - 4 - numbers == 4 * -(-bits // 32)


@pytest.mark.parametrize(
    ("probabilities", "count"),
    [
        ([0.5, 0.25, 0.125, 0.125], 40_000),
        ([0.97, 0.01, 0.01, 0.01], 40_000),
        ([1 / 300] * 300, 40_000),
        ([0.9, *[0.1 / 400] * 400], 40_000),
        (np.arange(1, 201) / 20_100, 40_000),
        ([0.6, 0.4], 300),
    ],
)
def test_ans_sits_at_the_cross_entropy_of_its_table(probabilities, count):
    random = np.random.default_rng(2)
    symbols = random.choice(len(probabilities), count, p=probabilities).astype(np.uint16)
    stream = Stream.of(symbols, 512)
    writer = StreamWriter("ans")
    plan = writer.plan(stream)
    writer.stream(stream)
    block = writer.finish()
    (numbers,) = struct.unpack_from("<I", block)
    payload_bits = 8 * (len(block) - 4 - numbers)
    # One 64-bit state flushed as whole words, and 24-bit probabilities inside the coder.
    assert plan.bits <= payload_bits <= 1.0001 * plan.bits + 64
    assert entropy_bits(symbols) <= plan.bits + 1e-6
    # What the table costs is worth it: together they stay near the entropy.
    assert plan.total_bits <= 1.01 * entropy_bits(symbols) + 14 * len(probabilities) + 40


def test_short_ans_streams_share_one_state():
    random = np.random.default_rng(3)
    streams = [(random.integers(0, 7, 3).astype(np.uint8), 7) for _ in range(300)]
    writer = written("ans", streams)
    plans = [writer.plan(Stream.of(symbols, alphabet)) for symbols, alphabet in streams]
    block = writer.finish()
    (numbers,) = struct.unpack_from("<I", block)
    assert 8 * (len(block) - 4 - numbers) <= sum(plan.bits for plan in plans) * 1.0001 + 64


@pytest.mark.parametrize("coder", CODERS)
def test_equal_lengths_are_taken_where_a_table_does_not_pay(coder):
    symbols = np.arange(256, dtype=np.uint8)
    plan = StreamWriter(coder).plan(Stream.of(symbols, 256))
    assert plan.numbers == [0]
    assert plan.bits == 8 * 256


@pytest.mark.parametrize("coder", CODERS)
def test_a_single_symbol_takes_no_payload(coder):
    block = written(coder, [(np.full(10**6, 5, np.uint8), 9)]).finish()
    assert block == section(gamma([1, 5]))


@pytest.mark.parametrize("coder", CODERS)
def test_nothing_takes_four_bytes(coder):
    assert written(coder, [(np.zeros(0, np.uint8), 9)]).finish() == bytes(4)


def test_the_bytes_of_a_huffman_block_are_pinned():
    symbols = np.array([2, 2, 3, 2, 5, 2, 2, 3] * 4, np.uint8)
    # Twenty 2 (one bit), eight 3 and four 5 (two bits each), none of 4: a table of span 4 from symbol 2.
    # The payload begins 0 0 10 0 11 0 0 10, lowest bit first.
    expected = section(gamma([2, 2, 4, 1, 2, 0, 2])) + bytes.fromhex("64221399c8040000")
    assert written("huffman", [(symbols, 8)]).finish() == expected


def test_the_bytes_of_an_ans_block_are_pinned():
    symbols = np.array([2] * 48 + [3] * 12 + [5] * 4, np.uint8)
    # 48 : 12 : 0 : 4 of 64 are 24 : 6 : 0 : 2 of 32; the last frequency is implied.
    expected = section(gamma([2, 2, 4, 24, 6, 0])) + bytes.fromhex("8983d8cfaa7c93f536071c00")
    assert written("ans", [(symbols, 8)]).finish() == expected


@given(st.lists(st.integers(0, 2**45) | st.integers(0, 20), max_size=40))
@bounded
def test_numbers_are_elias_gamma_codes(values):
    writer = StreamWriter("ans")
    for value in values:
        writer.number(value)
    assert writer.finish() == section(gamma(values))


@pytest.mark.parametrize("coder", CODERS)
@given(sequences())
@bounded
def test_a_plan_counts_the_bits_of_its_numbers(coder, sequence):
    plan = StreamWriter(coder).plan(Stream.of(*sequence))
    assert plan.total_bits - plan.bits == pytest.approx(len(gamma(plan.numbers)))


@pytest.mark.parametrize("precision", PRECISIONS)
@given(st.lists(st.integers(0, 2**30) | st.integers(0, 3), min_size=1, max_size=512))
@bounded
def test_frequencies_fill_their_precision(precision, counts):
    counts = np.array(counts)
    counts[np.flatnonzero(counts)[2**precision :]] = 0
    if not counts.any():
        counts[0] = 1
    frequencies = _frequencies(counts, precision)
    assert frequencies.sum() == 2**precision
    assert ((frequencies > 0) == (counts > 0)).all()
    assert (frequencies >= 0).all()


@pytest.mark.parametrize(
    ("counts", "precision", "expected"),
    [
        ([1, 1, 2], 5, [8, 8, 16]),
        ([5], 8, [256]),
        ([7, 0, 7], 5, [16, 0, 16]),
        ([1, 1, 1], 5, [11, 11, 10]),
        ([10**6] + [1] * 31, 5, [1] * 32),
        ([10**6, 1], 5, [31, 1]),
    ],
)
def test_frequencies_of_known_counts(counts, precision, expected):
    assert _frequencies(np.array(counts), precision).tolist() == expected


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize("shape", [(0,), (1,), (2,), (7, 11), (5, 40)])
def test_a_histogram_counts_symbols(kind, shape):
    symbols = np.random.default_rng(4).integers(0, 200, shape).astype(kind)
    np.testing.assert_array_equal(histogram(symbols, 256), np.bincount(symbols.reshape(-1), minlength=256))


def test_a_number_above_its_limit_is_refused():
    reader = StreamReader(section(gamma([7, 8])), "ans")
    assert reader.number(7) == 7
    with pytest.raises(ArtefactError, match="at most 7 here; got 8"):
        reader.number(7)


def test_a_number_of_many_thousand_digits_is_refused():
    block = section("0" * 20_000 + "1" * 20_001)
    with pytest.raises(ArtefactError):
        StreamReader(block, "ans").number(10)


@pytest.mark.parametrize("bits", ["", "0", "0000000", "00001", "0" * 64])
def test_a_number_that_ends_early_is_refused(bits):
    with pytest.raises(ArtefactError, match="runs past the end"):
        StreamReader(section(bits), "huffman").number(10**9)


@pytest.mark.parametrize("coder", CODERS)
@pytest.mark.parametrize(
    "block", [b"", b"\0\0\0", struct.pack("<I", 1), struct.pack("<I", 2**32 - 1), bytes(4) + b"abc"]
)
def test_a_block_that_its_parts_do_not_fill_is_refused(coder, block):
    with pytest.raises(ArtefactError):
        StreamReader(block, coder)


@pytest.mark.parametrize("coder", CODERS)
@pytest.mark.parametrize("extra", ["a number", "bits in the padding", "a word", "a word of zeros"])
def test_what_is_left_over_is_refused(coder, extra):
    symbols = np.array([0, 1, 2, 0, 0, 1, 2, 2, 1, 0], np.uint8)
    block = written(coder, [(symbols, 3)]).finish()
    (length,) = struct.unpack_from("<I", block)
    numbers, words = block[4 : 4 + length], block[4 + length :]
    if extra == "a number":
        numbers += b"\xff"
    elif extra == "bits in the padding":
        numbers = numbers[:-1] + bytes([numbers[-1] | 1])
    else:
        words += b"\x01\x02\x03\x04" if extra == "a word" else bytes(4)

    def read_all() -> None:
        reader = StreamReader(struct.pack("<I", len(numbers)) + numbers + words, coder)
        reader.stream(len(symbols), 3)
        reader.close()

    with pytest.raises(ArtefactError):
        read_all()


@pytest.mark.parametrize(
    ("coder", "numbers"),
    [
        ("ans", [6]),
        ("ans", [2, 8]),
        ("ans", [2, 1, 9]),
        ("ans", [2, 0, 1]),
        ("ans", [2, 0, 0]),
        ("ans", [2, 0, 3, 30, 2]),
        ("ans", [2, 0, 3, 30, 3]),
        ("huffman", [3]),
        ("huffman", [2, 8]),
        ("huffman", [2, 0, 0]),
        ("huffman", [2, 0, 2, 1, 2]),
        ("huffman", [2, 0, 3, 1, 1, 1]),
        ("huffman", [2, 0, 2, 0, 0]),
        ("huffman", [2, 0, 1, 600]),
    ],
)
def test_a_table_that_no_writer_writes_is_refused(coder, numbers):
    reader = StreamReader(section(gamma([*numbers, 0, 0, 0])) + b"\x01\x02\x03\x04", coder)
    with pytest.raises(ArtefactError):
        reader.stream(20, 8)


def test_an_alphabet_of_one_symbol_needs_no_huffman_code():
    reader = StreamReader(section(gamma([0])), "huffman")
    try:
        symbols = reader.stream(4, 1)
    except ArtefactError:
        return
    assert symbols.tolist() == [0, 0, 0, 0]


def test_a_huffman_payload_that_ends_early_is_refused():
    symbols = np.random.default_rng(5).integers(0, 3, 200).astype(np.uint8)
    block = written("huffman", [(symbols, 3)]).finish()
    with pytest.raises(ArtefactError, match="must hold 200 symbols"):
        StreamReader(block[:-4], "huffman").stream(200, 3)
