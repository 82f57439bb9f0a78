"""Data in memory: samples that are there already, of any shape and type."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from paretoscope.base.batch import joined, length, parts
from paretoscope.data.data import CHUNK, Part

if TYPE_CHECKING:
    from torch import Tensor

    from paretoscope.base.batch import Batch


@dataclass(frozen=True, eq=False, slots=True)
class ArrayData:
    """Samples in memory. The tensors are shared between callers: do not write to them.

    train, test, calibration: what a network takes, (n, ...) for each of its inputs. train_labels, test_labels: int64
    (n, ...), None without. digest: of the test split and its labels. drawn: whether the samples are random numbers.
    """

    train: "Batch"
    test: "Batch"
    calibration: "Batch"
    digest: str
    train_labels: "Tensor | None" = None
    test_labels: "Tensor | None" = None
    drawn: bool = False

    @classmethod
    def of(
        cls,
        train: "Batch",
        test: "Batch",
        calibration: "Batch",
        train_labels: "Tensor | None" = None,
        test_labels: "Tensor | None" = None,
    ) -> "ArrayData":
        """Of tensors, as the class describes them; the digest is that of the test split."""
        return cls(train, test, calibration, _digest(test, test_labels), train_labels, test_labels)

    @property
    def labelled(self) -> bool:
        return self.test_labels is not None

    def length(self, part: Part) -> int:
        return length(self._batch(part))

    def samples(self, part: Part, size: int = CHUNK) -> "Iterator[Batch]":
        for chunk in zip(*(tensor.split(size) for tensor in parts(self._batch(part))), strict=True):
            yield joined(chunk)

    def labels(self, part: Part, size: int = CHUNK) -> "Iterator[Tensor]":
        labels = self.train_labels if part is Part.TRAIN else self.test_labels
        if labels is not None:
            yield from labels.split(size)

    def _batch(self, part: Part) -> "Batch":
        return self.train if part is Part.TRAIN else self.test


def _digest(batch: "Batch", labels: "Tensor | None") -> str:
    digest = hashlib.sha256()
    for tensor in (*parts(batch), *(() if labels is None else (labels,))):
        digest.update(repr((tuple(tensor.shape), str(tensor.dtype))).encode())
        digest.update(tensor.contiguous().numpy().data)
    return digest.hexdigest()
