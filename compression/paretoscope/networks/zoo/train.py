"""Training of the zoo's models, on the train split alone, from a seed."""

import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as to_bytes
from torch import Tensor, nn
from torch.nn import functional as F

from paretoscope.base.files import write_atomically
from paretoscope.base.lock import machine
from paretoscope.data.dataset import load_data
from paretoscope.networks.zoo.model import TrainingSettings, models, weights_path

Progress = Callable[[int, int, dict[str, float]], None]


@dataclass(frozen=True, eq=False, slots=True)
class TrainingResult:
    """Weights after the last epoch, and their accuracies (correct / n) on the whole test and train splits."""

    state_dict: dict[str, Tensor]
    test_accuracy: float
    train_accuracy: float
    epochs: int
    seconds: float
    seed: int


def train(
    name: str,
    *,
    seed: int = 0,
    progress: Progress | None = None,
    threads: int | None = None,
    settings: TrainingSettings | None = None,
) -> TrainingResult:
    """Train a model from random weights; the test split is looked at once, after the last epoch.

    progress: called after each epoch with its number from 1, the number of epochs, and {"loss", "learning_rate"}.
    threads: of torch, for the time of the call; None leaves them as they are. settings: None takes the model's own.

    The same seed gives the same bits on the same machine, with the same libraries and number of threads; elsewhere
    sums are rounded in another order, and the weights differ slightly. Raises UnknownNameError.
    """
    entry = models.get(name)
    settings = settings or entry.training
    data = load_data(entry.dataset, entry.input_shape)
    start = time.perf_counter()
    with _threads(threads), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = entry.build()
        _fit(model, data.train_images, data.train_labels, settings, progress)
        return TrainingResult(
            state_dict=model.state_dict(),
            test_accuracy=_accuracy(model, data.test_images, data.test_labels),
            train_accuracy=_accuracy(model, data.train_images, data.train_labels),
            epochs=settings.epochs,
            seconds=time.perf_counter() - start,
            seed=seed,
        )


def save(result: TrainingResult, name: str, path: Path | None = None) -> Path:
    """Write the weights where `load_model` finds them (or to `path`) and return where; equal results give equal files.

    Metadata has one entry, "training": JSON with model, seed, epochs and test_accuracy. Raises CompressionError when
    the file cannot be written.
    """
    path = path or weights_path(name)
    origin = {"model": name, "seed": result.seed, "epochs": result.epochs, "test_accuracy": result.test_accuracy}
    # One entry of metadata only: safetensors writes several in a random order.
    write_atomically(path, to_bytes(result.state_dict, {"training": json.dumps(origin, sort_keys=True)}))
    return path


def _fit(
    model: nn.Module, images: Tensor, labels: Tensor, settings: TrainingSettings, progress: Progress | None
) -> None:
    n = len(images)
    steps = settings.epochs * math.ceil(n / settings.batch)
    optimizer = torch.optim.AdamW(_parameter_groups(model, settings.weight_decay), settings.learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.learning_rate, steps, pct_start=settings.warm_up, cycle_momentum=False
    )
    model.train()
    for epoch in range(1, settings.epochs + 1):
        total = 0.0
        for batch in torch.randperm(n).split(settings.batch):
            with machine(exclusive=False):
                logits = model(augment(images[batch], settings))
                loss = F.cross_entropy(logits, labels[batch], label_smoothing=settings.label_smoothing)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
            total += len(batch) * loss.item()
        if progress is not None:
            progress(epoch, settings.epochs, {"loss": total / n, "learning_rate": float(schedule.get_last_lr()[0])})
    model.eval()


def _parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Only matrices and kernels decay; biases and normalisation parameters do not."""
    parameters = list(model.parameters())
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]


def augment(images: Tensor, settings: TrainingSettings) -> Tensor:
    """Each image turned, scaled and shifted by its own random amounts, on a background of no ink."""
    n = len(images)
    angle, zoom, right, down = torch.empty(4, n).uniform_(-1, 1)
    angle = angle * math.radians(settings.rotation)
    zoom = 1 + zoom * settings.scaling
    # A grid spans [-1, 1], so a whole side is 2.
    right, down = 2 * settings.shift * right, 2 * settings.shift * down
    cos, sin = zoom * angle.cos(), zoom * angle.sin()
    affine = torch.stack([cos, -sin, right, sin, cos, down], dim=1).view(n, 2, 3)
    grid = F.affine_grid(affine, list(images.shape), align_corners=False)
    background = images.min()
    # grid_sample pads with zeros: make the background zero for it.
    return F.grid_sample(images - background, grid, padding_mode="zeros", align_corners=False) + background


def _accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    with torch.inference_mode(), machine(exclusive=False):
        correct = sum(
            int((model(x).argmax(1) == y).sum()) for x, y in zip(images.split(256), labels.split(256), strict=True)
        )
    return correct / len(labels)


@contextmanager
def _threads(threads: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
