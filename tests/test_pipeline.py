"""The pipeline: steps in their order, nothing touched, the same again; what comes out lies where the recipe says."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from compression.errors import ModelError
from compression.pipeline import compress
from compression.recipe import Recipe
from compression.statistics import ModelStatistics
from compression.tensors import Codebook, Integers, Plain, as_integers

SETTINGS = [
    dict(zip(("sparsity", "clusters", "bits", "granularity", "calibration"), values, strict=True))
    for values in itertools.product(
        (0.0, 0.6), (None, 5, 256), (32, 16, 8, 3, 2, 1), ("channel", "tensor"), ("range", "mse")
    )
]


@pytest.fixture(scope="module")
def model() -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 7))
    return net.eval()


@pytest.fixture(scope="module")
def statistics(model: nn.Module) -> ModelStatistics:
    return ModelStatistics.of(model, "small")


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_any_recipe_gives_what_it_says(model: nn.Module, statistics: ModelStatistics, settings: dict) -> None:
    recipe = Recipe.of(**settings)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    compressed, again = compress(statistics, recipe), compress(statistics, recipe)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    for name in compressed.order:
        assert compressed.decode(name).tobytes() == again.decode(name).tobytes()

    zeros = total = 0
    for tensor in compressed.weights.values():
        decoded = tensor.decode()
        zeros += np.count_nonzero(decoded == 0)
        total += decoded.size
        assert decoded.dtype == np.float32 and np.isfinite(decoded).all()
        if settings["clusters"]:
            assert isinstance(tensor, Codebook)
            assert len(np.unique(decoded[decoded != 0])) <= settings["clusters"]
            entries = tensor.entries.decode()
            assert len(np.unique(entries)) == len(entries) and (entries != 0).all()
        elif settings["bits"] == 32:
            assert isinstance(tensor, Plain)
        else:
            assert isinstance(tensor, Integers)
            top = max(1, 2 ** (settings["bits"] - 1) - 1)
            assert np.abs(tensor.codes.astype(int)).max() <= top
            assert tensor.scale.shape == (() if settings["granularity"] == "tensor" else (decoded.shape[0],))
        if settings["bits"] <= 8:
            assert np.array_equal(as_integers(tensor).decode(), decoded)
    assert zeros >= int(settings["sparsity"] * total)


def test_lossless_recipe_gives_back_every_bit(model: nn.Module, statistics: ModelStatistics) -> None:
    compressed = compress(statistics, Recipe())
    for name, tensor in model.state_dict().items():
        assert compressed.decode(name).tobytes() == tensor.numpy().tobytes()


def test_fp16_rest_keeps_what_does_not_fit_in_fp32(model: nn.Module) -> None:
    changed = nn.Sequential(*model)
    changed[1].running_var[0] = 1e6
    rest = compress(ModelStatistics.of(changed, "small"), Recipe.of(rest="fp16")).rest
    changed[1].running_var[0] = 1.0
    assert rest["1.running_var"].values.dtype == np.float32
    assert rest["1.running_mean"].values.dtype == np.float16
    assert rest["1.num_batches_tracked"].values.dtype == np.int64


def test_loading_into_another_architecture_is_refused(statistics: ModelStatistics) -> None:
    compressed = compress(statistics, Recipe.of(bits=8))
    with pytest.raises(ModelError, match=r"needs a model of the same state dict.*0\.weight"):
        compressed.load_into(nn.Sequential(nn.Linear(3, 3)))


def test_a_loaded_model_computes_with_the_decoded_weights(model: nn.Module, statistics: ModelStatistics) -> None:
    compressed = compress(statistics, Recipe.of(sparsity=0.5, clusters=8, bits=6))
    loaded = compressed.load_into(_fresh())
    for name, tensor in loaded.state_dict().items():
        assert np.array_equal(tensor.numpy(), compressed.decode(name))
    assert not loaded.training


def _fresh() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 7))
