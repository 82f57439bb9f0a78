import collections

import numpy as np
import pytest
from paretoscope.measure.rates import rates
from paretoscope.model.compressed import CompressedModel
from paretoscope.model.tensors import Codebook, CompressedTensor, Integers, Plain
from paretoscope.recipe.recipe import Recipe

RECIPES = [
    {},
    {"sparsity": 0.5},
    {"sparsity": 0.9, "scope": "layer", "bits": 8},
    {"bits": 1},
    {"bits": 1, "sparsity": 0.5},
    {"bits": 2},
    {"bits": 8},
    {"bits": 3, "symmetric": False},
    {"bits": 8, "symmetric": False, "granularity": "tensor", "sparsity": 0.7},
    {"bits": 10, "symmetric": False, "sparsity": 0.7},
    {"bits": 1, "ternary": 0.7},
    {"pattern": "1:4"},
    {"threshold": 0.05, "bits": 4},
    {"clusters": 4},
    {"clusters": 256},
    {"clusters": 200, "sparsity": 0.8},
    {"clusters": 16, "rarest": 5, "moved": "zero"},
    {"clusters": 32, "bits": 3, "sparsity": 0.3},
]


def bare(**weights: CompressedTensor) -> CompressedModel:
    return CompressedModel("bare", "0" * 64, Recipe(), weights, {}, tuple(weights))


@pytest.mark.parametrize("settings", RECIPES, ids=str)
def test_rates_are_those_of_the_decoded_weights(make, settings):
    """No tensor here holds -0.0 or an entry of its own that equals another, so values tell the entries apart."""
    model = make(**settings)
    zeros = shared = total = 0
    for tensor in model.weights.values():
        values = tensor.decode().reshape(-1).tolist()
        uses = collections.Counter(values)
        total += len(values)
        zeros += uses.pop(0.0, 0)
        if isinstance(tensor, Codebook):
            shared += sum(count for count in uses.values() if count >= 2)
    found = rates(model)
    assert found.sparse_rate == zeros / total
    assert found.shared_rate == shared / total
    assert found.architecture_simplification == 1.0
    assert (found.shared_rate > 0) == ("clusters" in settings)


def test_rates_weigh_layers_by_their_weights():
    model = bare(
        a=Plain(np.array([[0.0, -0.0, 1.0, 2.0]], np.float32)),
        b=Codebook(np.array([[0, 1, 1, 2, 3, 3]], np.uint8), Plain(np.array([1, 2, 3], np.float32))),
    )
    found = rates(model)
    assert found.sparse_rate == 3 / 10
    assert found.shared_rate == 4 / 10


def test_entries_that_no_weight_uses_share_nothing():
    model = bare(w=Codebook(np.array([[0, 0, 2]], np.uint8), Plain(np.array([1, 2, 3], np.float32))))
    assert rates(model).shared_rate == 0
    assert rates(model).sparse_rate == 2 / 3


def test_a_channel_with_a_scale_of_zero_is_zero():
    """A dead channel binarized by its range: its codes are one, its weights are not."""
    model = bare(w=Integers(np.ones((2, 3), np.int8), np.array([0.0, 0.5], np.float32), 1))
    assert not model.decode("w")[0].any()
    assert rates(model).sparse_rate == 0.5
