import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch
from framing import inflate, sections, unpack
from hypothesis import given, settings
from hypothesis import strategies as st
from paretoscope import codec
from paretoscope.methods.pipeline import compress
from paretoscope.model.compressed import CompressedModel
from paretoscope.model.statistics import ModelStatistics
from paretoscope.model.tensors import Codebook, CompressedTensor, Integers, Plain
from paretoscope.networks import zoo
from paretoscope.recipe.recipe import BITS, CODERS, Recipe
from torch import nn

PINNED_ZERO_POINTS = "07000000f55418437bad4000000000000f0f040cfe8f0788f80001"

RECIPES = [
    {},
    {"sparsity": 0.6},
    {"sparsity": 0.999, "scope": "layer"},
    *({"bits": bits} for bits in BITS),
    *({"bits": bits, "granularity": "tensor", "calibration": "mse", "sparsity": 0.3} for bits in (1, 2, 8, 16)),
    *({"bits": bits, "symmetric": False, "sparsity": 0.3} for bits in (2, 5, 8, 9, 16)),
    {"bits": 4, "symmetric": False, "granularity": "tensor", "calibration": "kl"},
    {"bits": 1, "ternary": 0.7, "power_of_two": True},
    {"pattern": "1:2", "bits": 8},
    {"threshold": 0.05, "clusters": 8, "start": "best", "rarest": 3, "moved": "zero"},
    {"bits": 3, "keep_ends": True, "overrides": [{"layers": "4", "symmetric": False, "bits": 12}]},
    *({"clusters": clusters} for clusters in (2, 16, 255, 256)),
    *({"clusters": 256, "bits": bits} for bits in (1, 3, 8, 16)),
    {"clusters": 16, "bits": 8, "sparsity": 0.8},
    {"clusters": 2, "bits": 1, "sparsity": 0.5},
]


def parts(tensor: CompressedTensor) -> list[np.ndarray]:
    match tensor:
        case Plain(values=values):
            return [values]
        case Integers(codes=codes, scale=scale, bits=bits, zero=zero):
            return [codes, scale, np.array([bits, tensor.trellis]), np.array([]) if zero is None else zero]
        case Codebook(indices=indices, entries=entries):
            return [indices, *parts(entries)]


def assert_same(left: CompressedModel, right: CompressedModel) -> None:
    """Equal bit for bit, types and orders included."""
    for field in ("architecture", "source", "recipe", "order"):
        assert getattr(left, field) == getattr(right, field)
    for one, other in ((left.weights, right.weights), (left.rest, right.rest)):
        assert list(one) == list(other)
        for name in one:
            assert type(one[name]) is type(other[name]), name
            for a, b in zip(parts(one[name]), parts(other[name]), strict=True):
                assert (a.dtype, a.shape) == (b.dtype, b.shape), name
                assert a.tobytes() == b.tobytes(), name
            assert one[name].decode().tobytes() == other[name].decode().tobytes(), name


def assert_round_trip(model: CompressedModel) -> None:
    data = codec.write(model)
    again = codec.read(data)
    assert_same(again, model)
    assert codec.write(model) == data
    assert codec.write(again) == data


@pytest.mark.parametrize("coder", CODERS)
@pytest.mark.parametrize("rest", ["fp32", "fp16"])
@pytest.mark.parametrize("recipe", RECIPES, ids=str)
def test_every_recipe_comes_back(little, recipe, rest, coder):
    assert_round_trip(compress(little, Recipe.of(**recipe, rest=rest, coder=coder)))


@pytest.mark.slow
@pytest.mark.parametrize("coder", CODERS)
def test_every_corner_of_the_family_comes_back(assemble, edge_cases, coder):
    rest = {
        "counter": Plain(np.array(2**63 - 1)),
        "counters": Plain(np.array([[0, -1], [-(2**63), 7]])),
        "bias": Plain(np.array([0.0, -0.0, 1.0], np.float32)),
        "half": Plain(np.array([65504, -0.0, 6e-8], np.float16)),
        "no values": Plain(np.zeros((0, 3), np.float32)),
        "a scalar": Plain(np.array(2.5, np.float32)),
    }
    assert_round_trip(assemble(edge_cases, rest, coder))
    for name, tensor in edge_cases.items():
        assert_round_trip(assemble({name: tensor}, coder=coder))
    assert_round_trip(assemble({}, rest, coder))


def test_bits_of_special_floats_come_back(assemble):
    bits = np.array([0, 1 << 31, 1, 0x7F800000, 0xFF800000, 0x7FC00001, 0xFFFFFFFF, 0x7F7FFFFF], np.uint32)
    model = assemble({"w": Plain(bits.view(np.float32))}, {"b": Plain(bits.view(np.float16))})
    again = codec.read(codec.write(model))
    assert again.weights["w"].values.view(np.uint32).tolist() == bits.tolist()
    assert again.rest["b"].values.tobytes() == bits.tobytes()


@pytest.mark.slow
@given(
    st.lists(st.integers(-127, 127), max_size=50),
    # Codes are at most 127: what they stand for is finite.
    st.lists(st.floats(-(2.0**120), 2.0**120, width=32), min_size=1, max_size=8),
    st.text(max_size=8),
    st.sampled_from(CODERS),
)
@settings(derandomize=True, deadline=None, max_examples=100)
def test_any_codes_scales_and_names_come_back(assemble, codes, floats, name, coder):
    floats = np.array(floats, np.float32)
    codes = np.array(codes, np.int8)
    model = assemble(
        {
            name + "i": Integers(codes, floats[:1].reshape(()), 8),
            name + "c": Codebook((codes != 0).astype(np.uint8), Plain(floats)),
        },
        {name + "r": Plain(floats)},
        coder,
    )
    assert_round_trip(model)


def test_zeros_are_as_cheap_with_a_zero_point_as_without(assemble):
    """Rows whose zeros are different codes: what is stored is the distance from zero, so their zeros are one symbol."""
    random = np.random.default_rng(0)
    steps = np.where(random.random((16, 2000)) < 0.9, 0, random.integers(-20, 20, (16, 2000)))
    zero = np.arange(-64, 64, 8)
    plain = Integers(steps.astype(np.int8), np.ones(16, np.float32), 8)
    moved = Integers((steps + zero[:, None]).astype(np.int8), np.ones(16, np.float32), 8, zero.astype(np.int8))
    assert np.array_equal(plain.decode(), moved.decode())
    sizes = [len(codec.write(assemble({"w": tensor}))) for tensor in (plain, moved)]
    assert 0 < sizes[1] - sizes[0] < 40


def test_the_layout_of_zero_points_is_pinned(assemble):
    model = assemble(
        {
            "a": Integers(
                np.array([[-8, 7, 0], [1, 1, 1]], np.int8),
                np.array([0.5, 2.0], np.float32),
                4,
                np.array([-8, 1], np.int8),
            ),
            "b": Codebook(np.array([[1, 0]], np.uint8), Integers(np.array([3], np.int8), np.float32(1).reshape(()), 4)),
            "c": Integers(np.array([[500, -2048]], np.int16), np.float32(1).reshape(()), 12, np.array(-2048, np.int16)),
        }
    )
    header, streams = unpack(codec.write(model))
    assert header["tensors"] == [["a", "a4cp", [2, 3]], ["b", "k1q4p", [1, 2]], ["c", "a12tp", [1, 2]]]
    assert streams.hex() == PINNED_ZERO_POINTS
    assert_round_trip(model)


@pytest.mark.parametrize(("coder", "rest"), [("ans", "fp32"), ("huffman", "fp16")])
@pytest.mark.parametrize("name", ["lenet-300-100", "resnet-20"])
def test_a_model_of_the_zoo_comes_back_as_a_module(name, coder, rest):
    statistics = ModelStatistics.of(zoo.load_model(name), name)
    model = compress(statistics, Recipe.of(sparsity=0.7, clusters=16, bits=8, coder=coder, rest=rest))
    assert_round_trip(model)
    again = codec.read(codec.write(model)).load_into(zoo.build(name))
    state = again.state_dict()
    assert list(state) == list(statistics.order)
    for key, value in model.state_dict().items():
        assert torch.equal(state[key], value), key


def test_a_lossless_artefact_holds_the_very_model():
    original = zoo.load_model("simple-cnn")
    model = compress(ModelStatistics.of(original, "simple-cnn"), Recipe())
    state = codec.read(codec.write(model)).state_dict()
    for name, value in original.state_dict().items():
        assert state[name].numpy().tobytes() == value.numpy().tobytes()
    # Floats do not compress well, but they must not grow.
    assert len(codec.write(model)) < 4 * sum(value.numel() for value in original.state_dict().values())


@pytest.mark.parametrize("rest", ["fp32", "fp16"])
def test_counters_and_shapes_of_normalisation_come_back(little, rest):
    again = codec.read(codec.write(compress(little, Recipe.of(rest=rest))))
    assert again.rest["1.num_batches_tracked"].values.dtype == np.int64
    assert again.rest["1.num_batches_tracked"].values.shape == ()
    assert int(again.rest["1.num_batches_tracked"].values) == 1
    assert np.signbit(again.rest["1.bias"].values[0])
    assert again.rest["1.running_var"].values.dtype == {"fp32": np.float32, "fp16": np.float16}[rest]


def test_the_source_is_the_models_digest(little):
    again = codec.read(codec.write(compress(little, Recipe.of(bits=4))))
    assert (again.architecture, again.source) == ("little", little.digest)


def test_a_module_does_not_share_memory_with_the_artefact(little):
    model = compress(little, Recipe())
    state = model.state_dict()
    for value in state.values():
        value.zero_()
    assert model.decode("4.weight").any()


@pytest.fixture
def pinned(assemble) -> Callable[[str], CompressedModel]:
    """A model of many kinds, for a coder."""
    weights = {
        "a": Integers(np.array([[3, -3, 0, 0], [1, 0, 0, 2]], np.int8), np.array([0.5, 0.3], np.float32), 3),
        "b": Codebook(np.array([[1, 2], [2, 0]], np.uint8), Plain(np.array([-1.5, 2.0], np.float32))),
        "c": Codebook(
            np.array([1, 1, 2], np.uint8), Integers(np.array([-7, 5], np.int8), np.array(0.125, np.float32), 4)
        ),
        "d": Integers(np.array([[300, -300]], np.int16), np.array(2.0, np.float32), 16),
        "e": Plain(np.array([[1.0, -0.0]], np.float32)),
        "g": Integers(np.array([[2, -2], [0, 4], [0, 0]], np.int8), np.array(0.25, np.float32), 4, trellis=True),
    }
    rest = {
        "n": Plain(np.array(7)),
        "h": Plain(np.array([0.5], np.float16)),
        "f": Plain(np.array([3.0, 0.0], np.float32)),
        "r": Integers(np.array([5, -100], np.int8), np.array(0.01, np.float32), 8),
    }
    order = ("n", "a", "b", "c", "d", "e", "g", "h", "f", "r")
    return lambda coder: dataclasses.replace(assemble(weights, rest, coder), order=order)


PINNED_STREAMS = {
    "ans": (
        "17000000ff4f55b7d3d75d7faeaaaa8040a010354071a10aaaaaaa000001008000477e7d7833ae003300341400c7bf15d25a"
        "78a707017f8f59b9ac8bf3fb7c3d960300"
    ),
    "huffman": (
        "1a000000ff4eed255b7d3d75d7f7692eaaaa8040a010354071a10aaaaaaaa85dfbe969a8eb0fe009160a6abc5fc01f800505"
        "80b90e8059dccfd7a30000ff00000000"
    ),
    "context": (
        "014600000004f9ea40315e04a2ec6039cf9ededaa800030f36774f8b513c310c7ae1bb9676f0b285beeebf361a82a4b0fbd5"
        "3601588bc274959b9b3c5fa66f8b9c3774bc31c9288c40c43702000000d560000000017f000000"
    ),
    "smallest": (
        "014400000004f9ea4c99d7516fc612f22eff79abc8eda4d76a756a99ac4409da06ebf34b794f8d7e4249f8c087e5dfbd8b04"
        "062019a45cf6590f8c6d71c311f6c9f5b8fabc6f4da6c702000000d560000000017f000000"
    ),
}


@pytest.mark.parametrize("coder", CODERS)
def test_the_layout_of_a_file_is_pinned(pinned, coder):
    """A reader of another version must be able to rely on every byte; only zlib's own choices are left to it."""
    data = codec.write(pinned(coder), codec.Figures(9, 8, 9, 0.5, "0123456789abcdef"))
    assert data[:10].hex() == "895053430d0a1a0a0200"
    found = sections(data)
    assert inflate(found[b"H"]).decode() == (
        '{"architecture":"made-up","source":"' + "0" * 64 + '",'
        '"recipe":{"version":1,"code":{"coder":"' + coder + '","rest":"fp32"}},'
        '"tensors":[["n","i8",[]],["a","q3c",[2,4]],["b","k2f",[2,2]],["c","k2q4p",[3]],["d","q16tp",[1,2]],'
        '["e","w4",[1,2]],["g","d4tp",[3,2]],["h","f2",[1]],["f","f4",[2]],["r","rq8t",[2]]]}'
    )
    assert found[b"F"].hex() == "0900000008000000090000000000003f0123456789abcdef"
    assert found[b"S"].hex() == PINNED_STREAMS[coder]
    assert codec.streams_length(data) == len(found[b"S"])
    assert_round_trip(pinned(coder))


def test_equal_modules_make_equal_files():
    def build() -> ModelStatistics:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return ModelStatistics.of(nn.Linear(30, 20), "line")

    recipe = Recipe.of(sparsity=0.5, clusters=8, bits=4)
    assert codec.write(compress(build(), recipe)) == codec.write(compress(build(), recipe))


def test_the_order_of_weights_is_part_of_the_file(assemble):
    one, other = Plain(np.ones((1, 2), np.float32)), Plain(np.zeros((1, 2), np.float32))
    assert codec.write(assemble({"a": one, "b": other})) != codec.write(assemble({"b": other, "a": one}))
