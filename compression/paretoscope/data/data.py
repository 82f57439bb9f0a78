"""The interface of data: samples and labels of a split, read in chunks."""

from collections.abc import Iterator
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor

# Samples that run at once: figures, harm and conversions are measured in these chunks; chosen by hand; no benchmark.
CHUNK = 100


class Part(StrEnum):
    """A split of the data: one to train on, one to measure on."""

    TRAIN = "train"
    TEST = "test"


class Data(Protocol):
    """Samples and labels of the splits at one input shape; they need not fit into memory.

    calibration_images: a fixed small part of the train split, for what must be seen before quantizing, float32
    (n, ...). digest: SHA-256 of the test split as a network is fed with it (64 hexadecimal characters).
    """

    @property
    def calibration_images(self) -> "Tensor": ...

    @property
    def digest(self) -> str: ...

    def length(self, part: Part) -> int:
        """How many samples a split has."""
        ...

    def samples(self, part: Part, size: int = CHUNK) -> "Iterator[Tensor]":
        """The split's samples in their order, in chunks of `size`; the last may be smaller."""
        ...

    def labels(self, part: Part, size: int = CHUNK) -> "Iterator[Tensor]":
        """The labels of the chunks that `samples` gives, in their order."""
        ...
