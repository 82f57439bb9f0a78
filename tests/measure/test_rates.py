import collections

import numpy as np
import pytest
import torch
from paretoscope.measure.rates import rates, touched
from paretoscope.methods import simplify
from paretoscope.methods.pipeline import compress
from paretoscope.model import weights
from paretoscope.model.compressed import CompressedModel
from paretoscope.model.statistics import ModelStatistics
from paretoscope.model.tensors import Codebook, CompressedTensor, Integers, Plain
from paretoscope.recipe.recipe import Recipe
from torch import nn

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


class Mixed(nn.Module):
    """Of its 232 parameters 96 + 60 are weights of layers, 60 an embedding, which is the rest here, and 16 vectors."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(10, 6)
        self.one, self.two = nn.Linear(8, 12, bias=False), nn.Linear(12, 5, bias=False)
        self.norm = nn.LayerNorm(8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.two(torch.relu(self.one(self.norm(x))))


@pytest.fixture
def mixed() -> nn.Module:
    torch.manual_seed(0)
    return Mixed().eval()


def touched_by(module: nn.Module, recipe: Recipe, kept: nn.Module | None = None, **parts):
    statistics = ModelStatistics.of(module, "mixed")
    own = ModelStatistics.of(kept, "mixed") if kept is not None else statistics
    count = sum(parameter.numel() for parameter in module.parameters())
    return touched(compress(own, recipe, **parts), statistics, weights.described(kept or module), count)


@pytest.mark.parametrize(
    ("settings", "left"),
    [
        ({}, {"linear layers": 156, "embeddings": 60, "normalisation": 16}),
        ({"coder": "smallest"}, {"linear layers": 156, "embeddings": 60, "normalisation": 16}),
        ({"bits": 8}, {"embeddings": 60, "normalisation": 16}),
        ({"clusters": 4}, {"embeddings": 60, "normalisation": 16}),
        ({"sparsity": 0.5}, {"embeddings": 60, "normalisation": 16}),
        ({"threshold": 1e-9}, {"linear layers": 156, "embeddings": 60, "normalisation": 16}),
        ({"overrides": [{"layers": "one*", "bits": 4}]}, {"linear layers": 60, "embeddings": 60, "normalisation": 16}),
        ({"bits": 8, "rest": "fp16"}, {}),
    ],
    ids=str,
)
def test_what_a_recipe_acts_on_is_what_is_not_stored_as_it_was(mixed, settings, left):
    found = touched_by(mixed, Recipe.of(**settings))
    assert dict(found.left) == {kind: count / 232 for kind, count in left.items()}
    assert found.share == pytest.approx(1 - sum(left.values()) / 232)
    assert [share for _, share in found.left] == sorted((share for _, share in found.left), reverse=True)


def test_what_simplify_takes_away_counts_and_what_it_leaves_does_not(mixed):
    step = Recipe.of(nodes=0.5).simplify
    cut = simplify.apply(mixed, step, (8,))
    left = sum(parameter.numel() for parameter in cut.module.parameters())
    found = touched_by(mixed, Recipe.of(nodes=0.5), cut.module, structure=cut.structure)
    assert left < 232 and found.share == pytest.approx(1 - left / 232)
    # What else is done to the narrower layers counts.
    pruned = touched_by(mixed, Recipe.of(nodes=0.5, sparsity=0.5), cut.module, structure=cut.structure)
    assert dict(pruned.left) == {"embeddings": 60 / 232, "normalisation": 16 / 232}
