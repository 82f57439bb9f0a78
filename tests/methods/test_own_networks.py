"""Every method on networks of others: the file gives back what was compressed, and errors are within their bounds."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from own_networks import MAKERS, data, imported
from paretoscope import codec
from paretoscope.base.batch import call, head, tensors_in
from paretoscope.methods import input_moments
from paretoscope.methods.fisher import diagonal_fisher
from paretoscope.methods.pipeline import compress, repair_outputs, samples
from paretoscope.methods.registry import Sampled
from paretoscope.model.compressed import CompressedModel
from paretoscope.model.statistics import ModelStatistics
from paretoscope.model.tensors import Integers
from paretoscope.recipe.recipe import Recipe

RECIPES: list[dict[str, Any]] = [
    {},
    {"rest": "fp16", "coder": "huffman"},
    # prune
    {"sparsity": 0.7},
    {"sparsity": 0.6, "scope": "layer"},
    {"threshold": 0.02},
    {"pattern": "2:4", "coder": "smallest"},
    # share
    {"clusters": 16, "start": "best"},
    {"clusters": 16, "bits": 4, "rarest": 3, "sparsity": 0.5},
    # quantize
    *({"bits": bits} for bits in (2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, 14, 15)),
    {"bits": 8, "coder": "context"},
    {"bits": 16, "granularity": "tensor"},
    {"bits": 8, "symmetric": False, "granularity": "tensor"},
    {"bits": 4, "calibration": "mse"},
    {"bits": 4, "calibration": "kl"},
    {"bits": 4, "calibration": "percentile", "symmetric": False},
    {"bits": 4, "keep_ends": True, "overrides": [{"layers": "*", "bits": 5}]},
    # binarize
    {"bits": 1},
    {"bits": 1, "ternary": 0.7, "power_of_two": True, "sparsity": 0.3},
    # by rate
    {"bits": 8, "calibration": "rate", "exchange": 1e-4, "rest": "rate", "coder": "context"},
    {"bits": 8, "calibration": "rate", "weighting": "magnitude", "exchange": 1e-3, "coder": "smallest"},
    {"bits": 6, "calibration": "rate", "rounding": "gptq", "bias": True, "batchnorm": True, "rest": "rate"},
    # repair
    {"bits": 4, "rounding": "gptq"},
    {"clusters": 16, "sparsity": 0.3, "rounding": "gptq"},
    {"bits": 1, "calibration": "mse", "rounding": "gptq"},
    {"bits": 3, "symmetric": False, "pattern": "2:4", "rounding": "gptq"},
    {"bits": 3, "bias": True, "batchnorm": True},
]


def label(settings: dict[str, Any]) -> str:
    return " ".join(f"{name}={value}" for name, value in settings.items()) or "lossless"


def compressed_by(name: str, recipe: Recipe) -> CompressedModel:
    module, batch = imported(name).module(), head(data(name).calibration, 16)
    statistics, wanted = ModelStatistics.of(module, name), samples(recipe)
    hessians = input_moments.hessians(module, batch, statistics.layers) if Sampled.SECOND_MOMENTS in wanted else None
    fisher = diagonal_fisher(module, batch) if Sampled.FISHER in wanted else None
    return repair_outputs(compress(statistics, recipe, hessians=hessians, fisher=fisher), module, batch)


@pytest.mark.parametrize("settings", RECIPES, ids=label)
@pytest.mark.parametrize("name", MAKERS)
def test_every_method_on_every_network(name, settings):
    recipe = Recipe.of(**settings)
    compressed = compressed_by(name, recipe)
    read = codec.read(codec.write(compressed))
    state, again = compressed.state_dict(), read.state_dict()
    assert list(state) == list(again) and read.turned == compressed.turned and read.ties == compressed.ties
    for key, tensor in state.items():
        assert torch.equal(tensor.reshape(-1).view(torch.uint8), again[key].reshape(-1).view(torch.uint8)), key

    module = imported(name).module()
    batch = head(data(name).test, 8)
    with torch.no_grad():
        outputs = list(tensors_in(call(read.load_into(copy.deepcopy(module)), batch)))
        wanted = list(tensors_in(call(module, batch)))
    assert all(torch.isfinite(each).all() for each in outputs)
    if recipe == Recipe():
        assert all(torch.equal(one, other) for one, other in zip(outputs, wanted, strict=True))
    if settings.keys() <= {"bits", "granularity", "symmetric", "coder"} and recipe.bits > 1:
        is_within_half_a_step(module.state_dict(), compressed)
    if recipe.bits in (8, 16) and recipe.quantize.calibration == "range":
        bound = {8: 0.02, 16: 0.001}[recipe.bits]
        for one, other in zip(outputs, wanted, strict=True):
            assert (one - other).norm() <= bound * other.norm()


def is_within_half_a_step(state: dict[str, torch.Tensor], compressed: CompressedModel) -> None:
    """Rounding to the nearest value moves no weight by more than half a step of its own row of outputs.

    Beside that, code and value are rounded to float32, each to a part of 2**-24 of the weight.
    """
    for name, tensor in compressed.weights.items():
        if isinstance(tensor, Integers):
            axis = 1 if name in compressed.turned else 0
            weight = np.moveaxis(state[name].double().numpy(), axis, 0)
            decoded = np.moveaxis(compressed.decode(name).astype(np.float64), axis, 0)
            scale = np.broadcast_to(tensor.scale, (len(weight),)).astype(np.float64)
            most = 0.5 * scale.reshape(-1, *[1] * (weight.ndim - 1)) + 3 * 2.0**-24 * np.abs(weight)
            assert (np.abs(weight - decoded) <= most).all(), name


def test_what_a_step_cannot_treat_is_told():
    notes = compressed_by("text", Recipe.of(bits=4, rounding="gptq", bias=True)).notes
    assert notes == (
        "Rounded value by value, because samples do not show inputs that are multiplied with them: emb.weight.",
        "No bias makes good a shift of the outputs of recurrent layers, embeddings and bare products: emb.weight.",
    )
    assert compressed_by("two", Recipe.of(bits=4, rounding="gptq", bias=True)).notes == ()
