"""Small subjects for training: a slice of the digits, and a network with all that a state dict can have."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from functools import cache

import pytest
import torch
from paretoscope.measure.subject import Subject
from paretoscope.model.statistics import ModelStatistics
from paretoscope.service import subjects
from slices import sliced
from torch import Tensor, nn


class Tied(nn.Module):
    """Convolution, batch normalisation with its counter, dropout, and two linear layers that share one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.AvgPool2d(4)
        self.conv = nn.Conv2d(1, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.first, self.second = nn.Linear(24, 24), nn.Linear(24, 24)
        self.second.weight = self.first.weight
        self.drop = nn.Dropout(0.1)
        self.head = nn.Linear(24, 10)

    def forward(self, images: Tensor) -> Tensor:
        hidden = nn.functional.adaptive_avg_pool2d(torch.relu(self.norm(self.conv(self.pool(images)))), 2).flatten(1)
        return self.head(torch.relu(self.second(self.drop(torch.relu(self.first(hidden))))))


@pytest.fixture(scope="session")
def cut() -> Callable[[Subject, int], Subject]:
    return sliced


@pytest.fixture(scope="session")
def loaded() -> Callable[[str], Subject]:
    """Subjects of the zoo, each loaded once."""
    return cache(subjects.load)


@pytest.fixture(scope="session")
def whole(loaded) -> Subject:
    return loaded("lenet-300-100")


@pytest.fixture(scope="session")
def subject(whole) -> Subject:
    return sliced(whole, 200)


@pytest.fixture(scope="session")
def tied(whole) -> Subject:
    """A network of the tests' own, untrained."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        net = Tied().eval()
    statistics = ModelStatistics.of(net, whole.name)
    return replace(sliced(whole, 120), model=net, statistics=statistics, _forms=OrderedDict(), _variants=OrderedDict())
