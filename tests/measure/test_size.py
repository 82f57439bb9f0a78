"""Every rung against a slow twin that writes the tensors out, entry by entry, and reads them back."""

import dataclasses
import math
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paretoscope import codec
from paretoscope.measure.size import ladder
from paretoscope.model.compressed import CompressedModel
from paretoscope.model.tensors import Codebook, CompressedTensor, Integers, Plain
from paretoscope.model.trellis import NEXT
from paretoscope.recipe.recipe import Recipe

RECIPES = [
    {},
    {"sparsity": 0.8},
    {"sparsity": 0.97, "scope": "layer", "rest": "fp16"},
    {"bits": 1},
    {"bits": 1, "sparsity": 0.5},
    {"bits": 2, "rest": "fp16", "granularity": "tensor"},
    {"bits": 5, "sparsity": 0.9},
    {"bits": 8},
    {"bits": 16, "sparsity": 0.6},
    {"bits": 11},
    {"bits": 4, "symmetric": False},
    {"bits": 4, "symmetric": False, "sparsity": 0.8},
    {"bits": 12, "symmetric": False, "granularity": "tensor", "sparsity": 0.7},
    {"bits": 1, "ternary": 0.7},
    {"pattern": "1:4", "bits": 8},
    {"clusters": 2},
    {"clusters": 15, "sparsity": 0.4},
    {"clusters": 16},
    {"clusters": 16, "bits": 8, "sparsity": 0.8, "rest": "fp16"},
    {"clusters": 256, "bits": 3},
    {"clusters": 256},
]


def relative_entries(flat: list[bool], width: int) -> list[tuple[int, bool]]:
    """(zeros before, whether a value) as Deep Compression stores them; a filler is a zero that is stored as a value."""
    entries, zeros = [], 0
    for value in flat:
        if value:
            # A filler stands where the index is at its largest: that many zeros, and the filler is one more.
            while zeros >= 2**width:
                entries.append((2**width - 1, False))
                zeros -= 2**width
            entries.append((zeros, True))
            zeros = 0
        else:
            zeros += 1
    assert all(gap < 2**width for gap, _ in entries)
    return entries


def expanded(entries: list[tuple[int, bool]], count: int) -> list[bool]:
    flat = []
    for gap, value in entries:
        flat += [False] * gap + [value]
    return flat + [False] * (count - len(flat))


def sparse_bits(nonzero: np.ndarray, value_bits: int) -> float:
    """Least bits over all index widths; infinite where there is no zero to leave out."""
    flat = nonzero.reshape(-1).tolist()
    if all(flat):
        return math.inf
    sizes = []
    for width in range(1, 17):
        entries = relative_entries(flat, width)
        assert expanded(entries, len(flat)) == flat
        sizes.append(len(entries) * (width + value_bits))
    return min(sizes)


def bits_for(symbols: int) -> int:
    bits = 0
    while 2**bits < symbols:
        bits += 1
    return bits


def slow_packed(tensor: CompressedTensor) -> int:
    match tensor:
        case Plain(values=values):
            return math.ceil(min(32 * values.size, sparse_bits(values != 0, 32)) / 8)
        case Integers(codes=codes, scale=scale, bits=bits, zero=zero) if zero is not None:
            bits_in_all = min(bits * codes.size, sparse_bits(tensor.decode() != 0, bits))
            # A zero point is as wide as the codes are in memory: one byte, or two above 8 bits.
            return math.ceil(bits_in_all / 8) + (4 + (1 if bits <= 8 else 2)) * scale.size
        case Integers(codes=codes, scale=scale, bits=bits):
            distinct = {1: {-1, 1} | set(codes.reshape(-1).tolist())}.get(bits, range(2**bits - 1))
            dense = codes.size * bits_for(len(distinct))
            entries = sparse_bits(tensor.decode() != 0, bits_for(max(3, len(range(2**bits - 1)))))
            return math.ceil(min(dense, entries) / 8) + 4 * scale.size
        case Codebook(indices=indices, entries=entries):
            k = entries.shape[0]
            dense = indices.size * bits_for(k + bool((indices == 0).any()))
            book = 4 * k if isinstance(entries, Plain) else math.ceil(k * entries.bits / 8) + 4
            return math.ceil(min(dense, sparse_bits(indices != 0, bits_for(k + 1))) / 8) + book


@pytest.mark.parametrize("settings_of", RECIPES, ids=str)
def test_the_first_rungs_equal_a_slow_twin(make, network, settings_of):
    model = make(**settings_of)
    size = ladder(model)
    state = network.state_dict()
    weights = {name: tensor.decode() for name, tensor in model.weights.items()}
    others = sum(value.numel() * value.element_size() for name, value in state.items() if name not in weights)
    stored = sum(tensor.values.nbytes for tensor in model.rest.values())

    assert size.dense == sum(value.numel() * value.element_size() for value in state.values())
    assert size.sparse == others + sum(
        math.ceil(min(32 * weight.size, sparse_bits(weight != 0, 32)) / 8) for weight in weights.values()
    )
    assert size.packed == stored + sum(slow_packed(tensor) for tensor in model.weights.values())
    # Normalisation: 4 vectors of 8; biases of 8, 40 and 5; one counter of 8 bytes.
    assert others == 4 * (8 + 4 * 8 + 40 + 5) + 8
    assert stored == (others if settings_of.get("rest") != "fp16" else (others - 8) // 2 + 8)


def streams_of(data: bytes) -> int:
    position = 10
    while position < len(data):
        name, length, _ = struct.unpack_from("<cII", data, position)
        if name == b"S":
            return length
        position += 9 + length
    raise AssertionError("no streams")


@pytest.mark.parametrize("coder", ["ans", "huffman"])
@pytest.mark.parametrize("settings_of", RECIPES, ids=str)
def test_the_coded_rungs_are_the_lengths_of_real_streams(make, tmp_path, settings_of, coder):
    model = make(**settings_of, coder=coder)
    size = ladder(model)
    path = tmp_path / "model.psc"
    path.write_bytes(codec.write(model))
    assert size.artefact == path.stat().st_size
    for each in ("ans", "huffman"):
        written = codec.write(dataclasses.replace(model, recipe=Recipe.of(coder=each)))
        assert getattr(size, each) == streams_of(written) == codec.streams_length(written)
    assert getattr(size, coder) < size.artefact
    assert ladder(model, path.read_bytes()) == size


def test_the_file_that_the_caller_has_is_not_written_again(make, monkeypatch):
    model = make(bits=4)
    data = codec.write(model)
    monkeypatch.setattr("paretoscope.measure.size.write", lambda _: pytest.fail("written again"))
    assert ladder(model, data).artefact == len(data)


def bare(tensor: CompressedTensor) -> CompressedModel:
    return CompressedModel("bare", "0" * 64, Recipe(), {"w": tensor}, {}, ("w",))


def with_gaps(gaps: list[int], trailing: int) -> np.ndarray:
    flat = [value for gap in gaps for value in (*[0] * gap, 1)] + [0] * trailing
    return np.array(flat, np.int8).reshape(1, -1)


@given(
    st.lists(
        st.sampled_from([0, 1, 2, 3, 4, 7, 8, 15, 16, 31, 32, 255, 256, 1023, 1024]) | st.integers(0, 80),
        min_size=1,
        max_size=15,
    ),
    st.integers(1, 50),
    st.sampled_from([1, 2, 3, 8]),
)
@settings(derandomize=True, deadline=None, max_examples=50)
def test_gaps_around_the_reach_of_an_index_equal_the_slow_twin(gaps, trailing, bits):
    tensor = Integers(with_gaps(gaps, trailing), np.array(0.5, np.float32), bits)
    size = ladder(bare(tensor))
    assert size.packed == slow_packed(tensor)
    assert size.sparse == math.ceil(min(32 * tensor.codes.size, sparse_bits(tensor.codes != 0, 32)) / 8)


@pytest.mark.parametrize(
    ("gap", "entries", "width"),
    # The cheapest of 1..16 bits, by hand, for one value of 32 bits behind a gap.
    [(0, 1, 1), (1, 1, 1), (2, 1, 2), (3, 1, 2), (4, 1, 3), (255, 1, 8), (256, 1, 9), (65_535, 1, 16), (65_536, 2, 16)],
)
def test_a_long_gap_takes_a_wider_index_and_then_a_filler(gap, entries, width):
    weight = np.zeros((1, gap + 2), np.float32)
    weight[0, gap] = 1
    size = ladder(bare(Plain(weight)))
    assert size.dense == 4 * (gap + 2)
    assert size.sparse == min(4 * (gap + 2), math.ceil(entries * (32 + width) / 8))


@pytest.mark.parametrize(
    ("tensor", "packed"),
    [
        (Plain(np.zeros((10, 10), np.float32)), 0),
        (Integers(np.zeros((10, 10), np.int8), np.ones(10, np.float32), 8), 40),
        (Codebook(np.zeros((10, 10), np.uint8), Plain(np.zeros(0, np.float32))), 0),
        (Codebook(np.ones((10, 10), np.uint8), Plain(np.ones(1, np.float32))), 4),
        (Integers(np.ones((10, 10), np.int8), np.ones(10, np.float32), 1), 13 + 40),
        (Integers(np.eye(8, dtype=np.int8) * 2 - 1, np.float32(1).reshape(()), 1), 8 + 4),
        (
            Codebook(np.arange(256, dtype=np.uint16).reshape(1, -1) + 1, Plain(np.arange(1, 257, dtype=np.float32))),
            256 + 1024,
        ),
    ],
)
def test_corner_cases_by_hand(tensor, packed):
    assert ladder(bare(tensor)).packed == packed


def test_the_ladder_goes_down_for_a_real_model(subject):
    size = ladder(subject.compress(Recipe.of(sparsity=0.8, clusters=16, bits=8)))
    assert size.dense == subject.baseline.size_bytes
    assert size.dense > size.sparse > size.packed > size.huffman > size.ans
    assert size.ans < size.artefact < size.huffman


def test_the_size_does_not_know_the_order_of_layers(make):
    model = make(bits=4)
    turned = dataclasses.replace(
        model, weights=dict(reversed(model.weights.items())), rest=dict(reversed(model.rest.items()))
    )
    for rung in ("dense", "sparse", "packed"):
        assert getattr(ladder(model), rung) == getattr(ladder(turned), rung)


@pytest.mark.parametrize("coder", ["huffman", "ans"])
def test_codes_of_a_trellis_take_what_their_indices_take(coder):
    """Every other integer is ruled out by the codes before: that is a bit less for each of them."""
    draw = np.random.default_rng(0)
    k, states = draw.integers(-7, 8, (256, 64)), np.zeros(64, np.int64)
    codes = np.zeros((256, 64), np.int8)
    for row in range(256):
        codes[row] = 2 * k[row] - np.sign(k[row]) * (states >= 4)
        states = np.array(NEXT)[states, k[row] & 1]
    sizes = []
    for trellis in (True, False):
        weights = {"w": Integers(codes, np.array(0.5, np.float32), 5, trellis=trellis)}
        model = CompressedModel("made-up", "0" * 64, Recipe.of(coder="context"), weights, {}, ("w",))
        sizes.append(getattr(ladder(model), coder))
    assert abs(8 * sizes[0] / codes.size - math.log2(15)) < 0.05 * math.log2(15)
    assert sizes[1] > sizes[0] + 0.8 * codes.size / 8
