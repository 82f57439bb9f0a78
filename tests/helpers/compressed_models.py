"""What the tests of the runtimes share: models of the zoo and of their own, compressed."""

from functools import lru_cache

import numpy as np
import torch
from paretoscope.base.threads import torch_threads
from paretoscope.methods.pipeline import compress
from paretoscope.model.compressed import CompressedModel
from paretoscope.model.statistics import ModelStatistics
from paretoscope.networks import zoo
from paretoscope.recipe.recipe import Recipe
from paretoscope.runtimes import Program, Runnable, runtimes
from torch import nn

NAMES = zoo.models_of("digits")


@lru_cache
def model_of(name: str) -> nn.Module:
    return zoo.load_model(name)


def data_of(name: str) -> zoo.ImageData:
    entry = zoo.models.get(name)
    return zoo.load_data(entry.dataset, entry.input_shape)


def shape_of(name: str) -> tuple[int, int, int]:
    return zoo.models.get(name).input_shape


@lru_cache
def statistics_of(name: str) -> ModelStatistics:
    return ModelStatistics.of(model_of(name), name)


@lru_cache
def subject(name: str, recipe: Recipe) -> Runnable:
    compressed = compress(statistics_of(name), recipe)
    module = compressed.load_into(zoo.build(name))
    images = data_of(name).calibration.numpy()
    return Runnable(module, shape_of(name), recipe.integer, compressed.weights, images)


def compress_module(module: nn.Module, recipe: Recipe) -> CompressedModel:
    """Compress a module of the test's own; the decoded weights are put into it."""
    compressed = compress(ModelStatistics.of(module, "test"), recipe)
    compressed.load_into(module)
    return compressed


def small() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3)).eval()


def small_program(runtime: str) -> Program:
    return runtimes.get(runtime).build(Runnable(small(), (1, 4, 4)))


def logits_of(module: nn.Module, images: np.ndarray) -> np.ndarray:
    with torch.no_grad(), torch_threads(1):
        return module(torch.from_numpy(images)).numpy()


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)
