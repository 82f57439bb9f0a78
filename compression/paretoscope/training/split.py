"""The train split in two parts: one to train on, one to choose the best epoch by."""

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from paretoscope.base.batch import Batch, call, joined, length, mapped, parts
from paretoscope.base.errors import RecipeError
from paretoscope.base.lock import machine
from paretoscope.data.data import CHUNK as DATA_CHUNK
from paretoscope.data.data import Data, Part
from paretoscope.data.dataset import digest_of
from paretoscope.measure.subject import Subject
from paretoscope.tasks import Task
from paretoscope.tasks.reference import Forward, run

# Share of the train split that is kept back for validation, and the most samples; chosen by hand, no benchmark.
VALIDATION_SHARE, VALIDATION_LIMIT = 0.15, 5_000
# Samples that are validated at once, between which a timing may take the machine; chosen by hand, no benchmark.
CHUNK = 200
# Most bytes of samples to train on, which stay in memory: the first of the split that fit; by hand, no benchmark.
TRAIN_BYTES = 2 * 2**30


@dataclass(frozen=True, eq=False, slots=True)
class Split:
    """The train split in two parts; labels are (n, 0) where there are none.

    The validation part, 15 % of all and at most 5,000 samples, is kept back to choose the best epoch by. chunk: how
    many of them run at once.
    """

    samples: Batch
    labels: Tensor
    validation_samples: Batch
    validation_labels: Tensor
    task: Task
    model: Forward
    chunk: int = CHUNK

    @classmethod
    def of(cls, subject: Subject, seed: int) -> "Split":
        """Split the subject's train split at random, by the seed; raises RecipeError where it has too few samples."""
        samples, labels = train_split(subject.data)
        order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
        kept = min(round(VALIDATION_SHARE * len(labels)), VALIDATION_LIMIT)
        if not 0 < kept < len(labels):
            raise RecipeError(
                f"training needs at least 4 samples, some of which choose the best epoch; got {len(labels)}. Add data "
                "to train on."
            )
        validation, training = order[:kept], order[kept:]
        return cls(
            _picked(samples, training),
            labels[training],
            _picked(samples, validation),
            labels[validation],
            subject.task,
            subject.model,
            min(CHUNK, 2 * subject.judged.chunk),
        )

    def batch(self, places: Tensor) -> tuple[Batch, Tensor]:
        """The samples of the training part at these places, and their labels."""
        return _picked(self.samples, places), self.labels[places]

    def truth(self, samples: Batch, labels: Tensor) -> Any:
        """What outputs are held against: the labels, or what the baseline says."""
        if self.task.needs_labels:
            return labels
        # Not in inference mode: gradients are taken of what is compared with it.
        with torch.no_grad(), machine(exclusive=False):
            return call(self.model, samples)

    def validate(self, network: Forward) -> tuple[float, float]:
        """How right a network is on the validation part, from 0 to 1 (the share of correct answers where there are
        such), and the mean of the task's loss."""
        return self._by_labels(network) if self.task.needs_labels else self._by_baseline(network)

    @torch.inference_mode()
    def _by_labels(self, network: Forward) -> tuple[float, float]:
        outputs = torch.cat([run(network, chunk) for chunk in self._chunks()])
        right = self.task.correct(outputs, self.validation_labels)
        return float(right.float().mean()), float(self.task.loss(outputs, self.validation_labels))

    @torch.inference_mode()
    def _by_baseline(self, network: Forward) -> tuple[float, float]:
        right, losses = [], []
        for chunk in self._chunks():
            outputs, truth = run(network, chunk), run(self.model, chunk)
            with machine(exclusive=False):
                right += self.task.correct(outputs, truth).tolist()
                losses.append(length(chunk) * float(self.task.loss(outputs, truth)))
        return math.fsum(right) / len(right), math.fsum(losses) / len(right)

    def _chunks(self) -> Iterator[Batch]:
        for chunk in zip(*(each.split(self.chunk) for each in parts(self.validation_samples)), strict=True):
            yield joined(chunk)


def train_split(data: Data) -> tuple[Batch, Tensor]:
    """Samples and labels of the train split, all that fit into TRAIN_BYTES; labels (n, 0) where there are none.

    They may be the data's own tensors: do not write to them.
    """
    whole = data.length(Part.TRAIN)
    one = max(1, sum(each[:1].nbytes for each in parts(data.calibration)))
    n = min(whole, TRAIN_BYTES // one)
    # Samples that fit are asked for at once: data in memory are not copied then.
    size = whole if n == whole else DATA_CHUNK
    samples = _joined(data.samples(Part.TRAIN, size), n)
    if not data.labelled:
        return samples, torch.empty(n, 0)
    labels = _joined(data.labels(Part.TRAIN, size), n)
    assert isinstance(labels, Tensor)  # labels are one tensor
    return samples, labels


def train_digest(data: Data) -> str:
    """SHA-256 of what is trained on."""
    samples, labels = train_split(data)
    digests = [digest_of(each, labels) for each in parts(samples)]
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def _picked(samples: Batch, places: Tensor) -> Batch:
    return mapped(samples, lambda each: each[places])


def _joined(chunks: Iterator[Batch], n: int) -> Batch:
    """The first n samples of all chunks; a single chunk is not copied."""
    found, got = [], 0
    for chunk in chunks:
        found.append(parts(chunk))
        got += length(chunk)
        if got >= n:
            break
    whole = tuple(each[0] if len(each) == 1 else torch.cat(each) for each in zip(*found, strict=True))
    return joined(whole if got == n else tuple(each[:n] for each in whole))
