import struct
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paretoscope.base.errors import ArtefactError
from paretoscope.codec.layout import ESCAPE, join_zeros, read_narrow, read_wide, split_zeros, write_narrow, write_wide
from paretoscope.codec.streams import Stream, StreamReader, StreamWriter

CODERS = ("ans", "huffman")

bounded = settings(derandomize=True, deadline=None, max_examples=100)

gaps = st.lists(st.sampled_from([0, 1, 2, 254, 255, 256, 509, 510, 511, 1000]) | st.integers(0, 30), max_size=12)


def with_gaps(gaps: list[int], trailing: int, zero: int, kind: type) -> np.ndarray:
    """A value other than `zero` after each gap of zeros, then trailing zeros."""
    values = [value for value in range(len(gaps) + 1) if value != zero]
    parts = [[zero] * gap + [value] for gap, value in zip(gaps, values, strict=False)]
    return np.array([symbol for part in parts for symbol in part] + [zero] * trailing, kind)


def slow_runs(flat: np.ndarray, zero: int) -> list[int]:
    runs, run = [], 0
    for symbol in flat.tolist():
        if symbol == zero:
            run += 1
            continue
        while run >= ESCAPE:
            runs.append(ESCAPE)
            run -= ESCAPE
        runs.append(run)
        run = 0
    return runs


def narrow_block(symbols: np.ndarray, alphabet: int, zero: int, coder: str) -> bytes:
    writer = StreamWriter(coder)
    write_narrow(writer, symbols, alphabet, zero)
    assert writer.size() == len(writer.finish())
    return writer.finish()


def read_all(block: bytes, coder: str, read: Callable[[StreamReader], np.ndarray]) -> np.ndarray:
    reader = StreamReader(block, coder)
    result = read(reader)
    reader.close()
    return result


@given(gaps, st.integers(0, 600), st.integers(0, 12), st.sampled_from([np.uint8, np.uint16, np.uint32, np.uint64]))
@bounded
def test_runs_equal_a_slow_twin_and_join_again(gaps, trailing, zero, kind):
    flat = with_gaps(gaps, trailing, zero, kind)
    runs, values = split_zeros(flat, zero)
    assert runs.dtype == np.uint8
    assert runs.tolist() == slow_runs(flat, zero)
    assert values.dtype == kind
    assert values.tolist() == flat[flat != zero].tolist()
    joined = join_zeros(runs, values, len(flat), zero)
    assert joined.dtype == kind
    np.testing.assert_array_equal(joined, flat)


@pytest.mark.parametrize(
    ("gap", "runs"),
    [(0, [0]), (254, [254]), (255, [255, 0]), (256, [255, 1]), (510, [255, 255, 0]), (765, [255, 255, 255, 0])],
)
def test_a_run_of_255_or_more_goes_on(gap, runs):
    flat = np.array([0] * gap + [9, 0, 0], np.uint8)
    assert split_zeros(flat, 0)[0].tolist() == runs


@pytest.mark.parametrize(
    ("runs", "values", "count"),
    [
        ([3], [9], 3),
        ([0, 0], [9], 5),
        ([0], [9, 9], 5),
        ([255, 0], [9], 255),
        ([255], [9], 999),
        ([], [9], 5),
        ([1], [], 5),
    ],
)
def test_runs_that_do_not_fit_are_refused(runs, values, count):
    with pytest.raises(ArtefactError, match="runs of zeros"):
        join_zeros(np.array(runs, np.uint8), np.array(values, np.uint8), count, 0)


@pytest.mark.parametrize("coder", CODERS)
@given(
    alphabet=st.integers(1, 512),
    zero=st.integers(0, 511),
    count=st.sampled_from([0, 1, 2, 50, 700]),
    density=st.sampled_from([0.0, 0.003, 0.1, 0.49, 0.6, 1.0]),
    seed=st.integers(0, 2**32 - 1),
)
@bounded
def test_narrow_symbols_come_back(coder, alphabet, zero, count, density, seed):
    zero %= alphabet
    kind = np.uint8 if alphabet <= 256 else np.uint16
    random = np.random.default_rng(seed)
    symbols = np.where(random.random(count) < density, random.integers(0, alphabet, count), zero).astype(kind)
    block = narrow_block(symbols, alphabet, zero, coder)
    read = read_all(block, coder, lambda reader: read_narrow(reader, count, alphabet, zero))
    assert read.dtype == kind
    np.testing.assert_array_equal(read, symbols)


@pytest.mark.parametrize("coder", CODERS)
@given(gaps, st.integers(0, 600))
@bounded
def test_narrow_symbols_with_long_runs_come_back(coder, gaps, trailing):
    symbols = with_gaps(gaps, trailing, 7, np.uint8)
    block = narrow_block(symbols, 15, 7, coder)
    np.testing.assert_array_equal(
        read_all(block, coder, lambda reader: read_narrow(reader, len(symbols), 15, 7)), symbols
    )


@pytest.mark.parametrize("coder", CODERS)
@pytest.mark.parametrize("kind", [np.uint16, np.uint32, np.uint64])
@given(
    values=st.lists(st.integers(0, 2**64 - 1) | st.sampled_from([0, 1, 255, 256, 2**16 - 1]), max_size=60),
    zeros=st.sampled_from([0, 1, 300]),
)
@bounded
def test_wide_values_come_back(coder, kind, values, zeros):
    top = np.iinfo(kind).max
    values = np.array([*(min(value, top) for value in values), *[0] * zeros, top], kind)
    writer = StreamWriter(coder)
    write_wide(writer, values)
    block = writer.finish()
    assert writer.size() == len(block)
    read = read_all(block, coder, lambda reader: read_wide(reader, len(values), kind))
    assert read.dtype == kind
    np.testing.assert_array_equal(read, values)


@pytest.mark.parametrize("coder", CODERS)
@pytest.mark.parametrize("kind", [np.uint16, np.uint32, np.uint64])
@pytest.mark.parametrize("values", [[], [0], [0, 0, 0], [5], [0] * 256 + [1]])
def test_wide_corner_cases_come_back(coder, kind, values):
    values = np.array(values, kind)
    writer = StreamWriter(coder)
    write_wide(writer, values)
    read = read_all(writer.finish(), coder, lambda reader: read_wide(reader, len(values), kind))
    assert read.dtype == kind
    np.testing.assert_array_equal(read, values)


@pytest.mark.parametrize("coder", CODERS)
def test_shapes_are_the_callers(coder):
    symbols = np.random.default_rng(0).integers(0, 5, (4, 3, 2)).astype(np.uint8)
    assert narrow_block(symbols, 5, 0, coder) == narrow_block(symbols.reshape(-1), 5, 0, coder)


def test_bytes_of_a_wide_value_are_planes_of_their_own():
    """High bytes that are all equal cost nothing, whatever the low bytes are."""
    low = np.random.default_rng(1).integers(1, 256, 4000)
    sizes = []
    for high in (0, 0x3F2E1D00):
        writer = StreamWriter("ans")
        write_wide(writer, (high + low).astype(np.uint32))
        sizes.append(writer.size())
    assert abs(sizes[0] - 4000) < 40
    assert abs(sizes[1] - sizes[0]) < 20


def plain_size(symbols: np.ndarray, alphabet: int, coder: str) -> int:
    writer = StreamWriter(coder)
    writer.number(0)
    writer.stream(Stream.of(symbols, alphabet))
    return writer.size()


@pytest.mark.parametrize("coder", CODERS)
def test_runs_are_written_where_they_are_smaller(coder):
    # Whole rows under dead inputs are zero, as in a pruned first layer: order 0 cannot see that, runs can.
    rows = np.zeros((300, 100), np.uint8)
    rows[::10] = np.random.default_rng(2).integers(0, 16, (30, 100))
    assert len(narrow_block(rows, 16, 0, coder)) < 0.9 * plain_size(rows.reshape(-1), 16, coder)


def test_huffman_spends_less_than_a_bit_on_a_zero_of_many():
    symbols = np.where(np.random.default_rng(3).random(20_000) < 0.02, np.uint8(1), np.uint8(0))
    assert plain_size(symbols, 4, "huffman") > 20_000 / 8
    assert len(narrow_block(symbols, 4, 0, "huffman")) < 0.25 * 20_000 / 8


@pytest.mark.parametrize("coder", CODERS)
@given(st.integers(2, 40), st.floats(0.5, 1), st.integers(0, 2**32 - 1))
@bounded
def test_narrow_symbols_never_take_more_than_one_plain_stream(coder, alphabet, sparsity, seed):
    random = np.random.default_rng(seed)
    symbols = np.where(random.random(500) < sparsity, 0, random.integers(0, alphabet, 500)).astype(np.uint8)
    # Up to the rounding of the payload to words of four bytes.
    assert len(narrow_block(symbols, alphabet, 0, coder)) <= plain_size(symbols, alphabet, coder) + 4


@pytest.mark.parametrize("coder", CODERS)
def test_counts_that_no_writer_writes_are_refused(coder):
    def block(*numbers: int) -> bytes:
        writer = StreamWriter(coder)
        for number in numbers:
            writer.number(number)
        return writer.finish()

    for numbers in ([2], [1, 11], [1, 4, 5]):
        with pytest.raises(ArtefactError, match="at most"):
            read_narrow(StreamReader(block(*numbers), coder), 10, 4, 0)
    for numbers in ([11], [4, 5]):
        with pytest.raises(ArtefactError, match="at most"):
            read_wide(StreamReader(block(*numbers), coder), 10, np.uint32)


def test_the_bytes_of_long_runs_are_pinned():
    symbols = np.zeros(1000, np.uint8)
    symbols[[300, 999]] = 3
    # In runs; 998 zeros; 3 escapes; equal lengths for 255 45 255 255 188; a single symbol, 3.
    numbers = "010" + "0000000001111100111" + "00100" + "1" + "010" + "00100"
    packed = int(numbers.ljust(40, "0"), 2).to_bytes(5, "big")
    # The codes 255 45 255 255 188, each from its lowest bit on, in bytes that are filled from the lowest bit.
    payload = bytes.fromhex("ffb4ffff3d000000")
    assert narrow_block(symbols, 4, 0, "huffman") == struct.pack("<I", 5) + packed + payload


@pytest.mark.parametrize("coder", CODERS)
def test_the_bytes_of_zeros_after_the_last_value_are_pinned(coder):
    symbols = np.array([3] * 40 + [0] * 960, np.uint8)
    # In runs; 960 zeros; no escapes; 40 runs of a single symbol, 0; 40 values of a single symbol, 3.
    numbers = "010" + "0000000001111000001" + "1" + "010" + "1" + "010" + "00100"
    packed = int(numbers.ljust(40, "0"), 2).to_bytes(5, "big")
    assert narrow_block(symbols, 4, 0, coder) == struct.pack("<I", 5) + packed
