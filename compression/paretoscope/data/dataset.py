"""Datasets: real images, split once, brought to a model's input shape.

Torch is imported by the first that is loaded: their names are to be had without.
"""

import hashlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from paretoscope.base.errors import ModelError
from paretoscope.base.registry import Registry
from paretoscope.data.data import CHUNK, Part

if TYPE_CHECKING:
    from torch import Tensor

InputShape = tuple[int, int, int]


@dataclass(frozen=True, eq=False, slots=True)
class ImageData:
    """Images in memory at one input shape (C, H, W). The tensors are shared between callers: do not write to them.

    train_images, test_images, calibration: float32 (n, C, H, W), normalised, contiguous.
    train_labels, test_labels: int64 (n,), from 0.
    calibration: a fixed part of the train split, for what a runtime must see before it can quantize.
    digest: SHA-256 of the test split as the model is fed with it (64 hexadecimal characters).
    """

    train_images: "Tensor"
    train_labels: "Tensor"
    test_images: "Tensor"
    test_labels: "Tensor"
    calibration: "Tensor"
    digest: str

    @property
    def labelled(self) -> bool:
        return True

    @property
    def drawn(self) -> bool:
        return False

    def length(self, part: Part) -> int:
        return len(self._labels(part))

    def samples(self, part: Part, size: int = CHUNK) -> "Iterator[Tensor]":
        yield from (self.train_images if part is Part.TRAIN else self.test_images).split(size)

    def labels(self, part: Part, size: int = CHUNK) -> "Iterator[Tensor]":
        yield from self._labels(part).split(size)

    def _labels(self, part: Part) -> "Tensor":
        return self.train_labels if part is Part.TRAIN else self.test_labels


@dataclass(frozen=True, slots=True)
class Download:
    """How far a download is. done, total: bytes. folder: where the files will lie."""

    done: int
    total: int
    folder: Path

    @property
    def share(self) -> float:
        """Done share in [0, 1]."""
        return min(self.done / self.total, 1.0)


@dataclass(frozen=True, slots=True)
class DatasetEntry:
    """What the screen and the engine know of a dataset.

    classes: names of what its labels say, for the task. loader: brings it to an input shape (C, H, W). here: whether
    that needs no download. download: how far the one that `loader` makes just now is, None while it makes none; safe
    from any thread.
    """

    name: str
    title: str
    summary: str
    reference: str
    classes: tuple[str, ...]
    loader: Callable[[InputShape], ImageData]
    here: Callable[[], bool] = lambda: True
    download: Callable[[], Download | None] = lambda: None


datasets: Registry[DatasetEntry] = Registry("dataset")

# One lock for each dataset: it is read, or downloaded, once for all models, while other datasets can be read.
_locks: dict[str, threading.Lock] = {}

# Images for calibration; chosen by hand; no benchmark.
DIGITS_CALIBRATION = 128
DIGITS_CLASSES = tuple("0123456789")
# Mean and standard deviation of a training pixel, ink from 0 to 1, rounded; our weights were trained with these.
DIGITS_MEAN = 0.3
DIGITS_STD = 0.375


def load_data(name: str, input_shape: tuple[int, ...]) -> ImageData:
    """The dataset at an input shape (C, H, W), with C 1 or 3; kept after the first call, which may download it.

    Raises UnknownNameError for a name that is not registered, ModelError for a shape that images cannot have or for
    data that cannot be had.
    """
    with _locks.setdefault(datasets.get(name).name, threading.Lock()):
        return _load_data(name, tuple(input_shape))


@lru_cache(maxsize=8)
def _load_data(name: str, input_shape: tuple[int, ...]) -> ImageData:
    if len(input_shape) != 3 or input_shape[0] not in (1, 3) or min(input_shape) < 1:
        raise ModelError(
            f"an input shape must be (channels, height, width) with 1 or 3 channels; got {input_shape}. "
            "Pass e.g. (3, 32, 32)."
        )
    channels, height, width = input_shape
    return datasets.get(name).loader((channels, height, width))


def _load_digits(input_shape: InputShape) -> ImageData:
    import torch

    from paretoscope.data.digits import digits_split

    train, train_classes, test, test_classes = digits_split()
    train_images, test_images = (
        as_input(torch.from_numpy(images), 16, DIGITS_MEAN, DIGITS_STD, input_shape) for images in (train, test)
    )
    test_labels = torch.from_numpy(test_classes)
    return ImageData(
        train_images=train_images,
        train_labels=torch.from_numpy(train_classes),
        test_images=test_images,
        test_labels=test_labels,
        # The split is shuffled, so its start is a random draw.
        calibration=train_images[:DIGITS_CALIBRATION],
        digest=digest_of(test_images, test_labels),
    )


def as_input(images: "Tensor", ink: int, mean: float, std: float, input_shape: InputShape) -> "Tensor":
    """Scans as the input of a model: float32 (n, C, H, W), contiguous, resized where they are of another size.

    images: uint8 (n, h, w), 0 to `ink`. mean, std: of a pixel whose ink is 0 to 1.
    """
    from torch.nn import functional as F

    channels, height, width = input_shape
    # In place: the large sets would not fit beside copies of themselves.
    batch = images.unsqueeze(1).float().div_(ink)
    if batch.shape[2:] != (height, width):
        batch = F.interpolate(batch, (height, width), mode="bilinear", align_corners=False, antialias=True)
    return batch.sub_(mean).div_(std).expand(-1, channels, -1, -1).contiguous()


def digest_of(images: "Tensor", labels: "Tensor") -> str:
    """SHA-256 of a split as the input of a model: shape and values of the images, and labels."""
    digest = hashlib.sha256(repr(tuple(images.shape)).encode())
    digest.update(images.numpy().data)
    digest.update(labels.numpy().data)
    return digest.hexdigest()


datasets.add(
    DatasetEntry(
        name="digits",
        title="Handwritten digits",
        summary="1,797 real 8x8 scans by 13 writers; 1,000 to train on, 797 to test on.",
        reference="Alpaydin and Kaynak, Optical Recognition of Handwritten Digits, UCI repository, 1998",
        classes=DIGITS_CLASSES,
        loader=_load_digits,
    )
)
