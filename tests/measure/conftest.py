"""A subject that is quick to measure, and a small compressed model for every recipe."""

from collections.abc import Callable

import pytest
import torch
from paretoscope.measure.subject import Subject
from paretoscope.methods.pipeline import compress
from paretoscope.model.compressed import CompressedModel
from paretoscope.model.statistics import ModelStatistics
from paretoscope.recipe.recipe import Recipe
from paretoscope.service import subjects
from torch import nn


@pytest.fixture(scope="session")
def subject() -> Subject:
    return subjects.load("lenet-300-100")


@pytest.fixture(scope="session")
def network() -> nn.Module:
    """A convolution, normalisation (one int64 counter), a linear layer, and one whose weights are all zero."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        net = nn.Sequential(nn.Conv2d(2, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(128, 40), nn.Linear(40, 5))
    nn.init.zeros_(net[4].weight)
    return net.eval()


@pytest.fixture(scope="session")
def make(network) -> Callable[..., CompressedModel]:
    """make(sparsity=..., bits=..., ...): the network compressed by that recipe."""
    statistics = ModelStatistics.of(network, "network")
    return lambda **settings: compress(statistics, Recipe.of(**settings))
