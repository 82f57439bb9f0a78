"""Checkpoints: all that the rest of a training depends on, as a safetensors file.

Tensors: student.* (state dict of the student), optimizer.PLACE.* (state of each parameter), mean.PLACE (running means),
current and best (files of compressed models, uint8). Metadata: "training", JSON.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as from_safetensors
from safetensors.torch import save as to_safetensors
from torch import Tensor

from paretoscope import codec
from paretoscope.base.errors import CompressionError
from paretoscope.model.compressed import CompressedModel
from paretoscope.recipe.recipe import Recipe
from paretoscope.training.epochs import Epoch


@dataclass(frozen=True, slots=True)
class Origin:
    """What a checkpoint belongs to. model, dataset, train: digests of the baseline, the test and the train split."""

    recipe: Recipe
    model: str
    dataset: str
    train: str


@dataclass(frozen=True, eq=False, slots=True)
class Checkpoint:
    """A training after an epoch. student: its state dict. optimizer: state by the place of the parameter.

    means: running means of the parameters, in their order, or none. current: what has been learned so far. best: the
    model of epoch number `best_epoch`. epochs: all so far, the start first.
    """

    origin: Origin
    student: Mapping[str, Tensor]
    optimizer: Mapping[int, Mapping[str, Tensor]]
    means: tuple[Tensor, ...]
    current: CompressedModel
    best: CompressedModel
    best_epoch: int
    epochs: tuple[Epoch, ...]

    def to_bytes(self) -> bytes:
        """The file."""
        tensors = {f"student.{name}": tensor for name, tensor in self.student.items()}
        for place, state in self.optimizer.items():
            tensors |= {f"optimizer.{place}.{name}": value for name, value in state.items()}
        tensors |= {f"mean.{place}": mean for place, mean in enumerate(self.means)}
        tensors |= {"current": _as_tensor(codec.write(self.current)), "best": _as_tensor(codec.write(self.best))}
        notes = {
            "recipe": self.origin.recipe.to_dict(),
            "model": self.origin.model,
            "dataset": self.origin.dataset,
            "train": self.origin.train,
            "best": self.best_epoch,
            "epochs": [asdict(epoch) for epoch in self.epochs],
        }
        return to_safetensors(
            {name: tensor.contiguous() for name, tensor in tensors.items()}, {"training": json.dumps(notes)}
        )

    @classmethod
    def from_bytes(cls, data: bytes, origin: Origin) -> "Checkpoint":
        """Read what `to_bytes` wrote; raises CompressionError for anything else, and for another origin."""
        try:
            tensors = from_safetensors(data)
            notes = json.loads(_metadata(data)["training"])
            own = Origin(Recipe.from_dict(notes["recipe"]), notes["model"], notes["dataset"], notes["train"])
            if own != origin:
                raise ValueError("it is of another recipe, model or dataset")
            optimizer: dict[int, dict[str, Tensor]] = {}
            for name, tensor in _within(tensors, "optimizer.").items():
                place, key = name.split(".")
                optimizer.setdefault(int(place), {})[key] = tensor
            means = _within(tensors, "mean.")
            epochs = tuple(Epoch(**each) for each in notes["epochs"])
            if not epochs:
                raise ValueError("it has no epochs")
            return cls(
                origin=own,
                student=_within(tensors, "student."),
                optimizer=optimizer,
                means=tuple(means[str(place)] for place in range(len(means))),
                current=codec.read(_as_bytes(tensors["current"])),
                best=codec.read(_as_bytes(tensors["best"])),
                best_epoch=int(notes["best"]),
                epochs=epochs,
            )
        except (SafetensorError, LookupError, TypeError, ValueError, RuntimeError, CompressionError) as error:
            raise refused(error) from None


def refused(reason: object) -> CompressionError:
    """The error for data that are no checkpoint of the training at hand."""
    return CompressionError(f"a checkpoint must be one of this training; {reason}. Remove it, and start anew.")


def _within(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _as_tensor(data: bytes) -> Tensor:
    return torch.frombuffer(bytearray(data), dtype=torch.uint8)


def _as_bytes(tensor: Tensor) -> bytes:
    return tensor.numpy().tobytes()


def _metadata(data: bytes) -> dict[str, Any]:
    """The metadata of a safetensors file: the JSON header's `__metadata__`."""
    length = int.from_bytes(data[:8], "little")
    found: dict[str, Any] = json.loads(data[8 : 8 + length]).get("__metadata__", {})
    return found
