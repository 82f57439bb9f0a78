"""The interface of data: samples and labels of a split, read in chunks."""

from collections.abc import Iterator
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from paretoscope.base.batch import Batch

# Samples that run at once: figures, harm and conversions are measured in these chunks; chosen by hand; no benchmark.
CHUNK = 100


class Part(StrEnum):
    """A split of the data: one to train on, one to measure on."""

    TRAIN = "train"
    TEST = "test"


class Data(Protocol):
    """Samples of the splits as a network takes them, and labels, where there are any; they need not fit into memory.

    calibration: a fixed small part of the train split, for what must be seen before quantizing. digest: SHA-256 of the
    test split as a network is fed with it (64 hexadecimal characters). labelled: whether there are labels. drawn:
    whether the samples are random numbers, which stand in for data that nobody gave.
    """

    @property
    def calibration(self) -> "Batch": ...

    @property
    def digest(self) -> str: ...

    @property
    def labelled(self) -> bool: ...

    @property
    def drawn(self) -> bool: ...

    def length(self, part: Part) -> int:
        """How many samples a split has."""
        ...

    def samples(self, part: Part, size: int = CHUNK) -> "Iterator[Batch]":
        """The split's samples in their order, in chunks of `size`; the last may be smaller."""
        ...

    def labels(self, part: Part, size: int = CHUNK) -> "Iterator[Tensor]":
        """The labels of the chunks that `samples` gives, in their order; none where there are no labels."""
        ...
