"""The safetensors files of a small network of the test's own."""

import json

import numpy as np
import pytest
import torch
from paretoscope.base.errors import ArtefactError
from paretoscope.export.weights import codes, decoded, read_codes
from paretoscope.methods.pipeline import compress
from paretoscope.model.compressed import CompressedModel
from paretoscope.model.statistics import ModelStatistics
from paretoscope.model.tensors import Integers
from paretoscope.recipe.recipe import Recipe
from safetensors import safe_open
from safetensors.torch import load
from torch import nn

RECIPE = Recipe.of(sparsity=0.5, clusters=4, bits=8, rest="fp16")


def build() -> nn.Module:
    return nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(64, 3))


@pytest.fixture(scope="module")
def compressed() -> CompressedModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(6)
        return compress(ModelStatistics.of(build(), "a-net"), RECIPE)


def test_the_weights_are_the_full_decoded_state(compressed):
    state = load(decoded(compressed))
    model = build()
    model.load_state_dict(state, strict=True)
    assert set(state) == set(compressed.order) == set(model.state_dict())
    for name, value in compressed.state_dict().items():
        assert state[name].dtype == value.dtype
        assert torch.equal(state[name], value)
    assert state["1.num_batches_tracked"].dtype == torch.int64
    assert state["1.weight"].dtype == torch.float32


def test_equal_models_give_equal_files_that_say_where_they_are_from(compressed, tmp_path):
    data = decoded(compressed)
    assert decoded(compressed) == data
    (tmp_path / "weights.safetensors").write_bytes(data)
    with safe_open(tmp_path / "weights.safetensors", "np") as file:
        origin = json.loads(file.metadata()["paretoscope"])
    assert origin == {"architecture": "a-net", "source": compressed.source, "recipe": RECIPE.to_dict()}
    assert Recipe.from_dict(origin["recipe"]) == RECIPE


def test_codes_keep_every_field_of_a_tensor(compressed):
    tensor = Integers(np.array([[0, 2], [-2, 0]], np.int8), np.array([0.5, 2], np.float32), 4, trellis=True)
    bias = Integers(np.array([1, -1], np.int16), np.float32(0.25).reshape(()), 10)
    model = CompressedModel("a-net", "a" * 64, RECIPE, {"w": tensor}, {"b": bias}, ("w", "v", "b"), ties={"v": "w"})
    again = read_codes(codes(model))
    assert (again.order, again.ties, again.recipe, again.source) == (model.order, model.ties, RECIPE, "a" * 64)
    for found, expected in ((again.weights["w"], tensor), (again.rest["b"], bias)):
        assert (found.bits, found.trellis, found.zero) == (expected.bits, expected.trellis, None)
        assert found.codes.dtype == expected.codes.dtype and np.array_equal(found.codes, expected.codes)
        assert found.scale.shape == expected.scale.shape and np.array_equal(found.scale, expected.scale)
    assert codes(again) == codes(model)


def test_a_zero_point_is_kept():
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    with torch.no_grad():
        model[1].weight.copy_(torch.linspace(1, 2, 12).reshape(3, 4))
    compressed = compress(ModelStatistics.of(model, "a-net"), Recipe.of(bits=4, symmetric=False))
    tensor = read_codes(codes(compressed)).weights["1.weight"]
    assert tensor.zero.any() and np.array_equal(tensor.zero, compressed.weights["1.weight"].zero)
    assert np.array_equal(tensor.decode(), compressed.decode("1.weight"))


@pytest.mark.parametrize("change", ["cut", "text", "decoded"])
def test_what_holds_no_codes_is_refused(compressed, change):
    data = {"cut": codes(compressed)[:-5], "text": b"no tensors", "decoded": decoded(compressed)}[change]
    with pytest.raises(ArtefactError, match="must hold codes as this version writes them"):
        read_codes(data)
