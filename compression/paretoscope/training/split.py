"""The train split in two parts: one to train on, one to choose the best epoch by."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from paretoscope.base.lock import machine
from paretoscope.data.data import Data, Part
from paretoscope.measure.subject import Subject
from paretoscope.tasks import Task
from paretoscope.tasks.reference import Forward

# Share of the train split that is kept back for validation, and the most images; chosen by hand, no benchmark.
VALIDATION_SHARE, VALIDATION_LIMIT = 0.15, 5_000
# Images that are validated at once, between which a timing may take the machine; chosen by hand, no benchmark.
CHUNK = 200


@dataclass(frozen=True, eq=False, slots=True)
class Split:
    """The train split in two parts; images float32 (n, C, H, W), labels int64 (n,).

    The validation part, 15 % of all and at most 5,000 images, is kept back to choose the best epoch by.
    """

    images: Tensor
    labels: Tensor
    validation_images: Tensor
    validation_labels: Tensor
    task: Task

    @classmethod
    def of(cls, subject: Subject, seed: int) -> "Split":
        """Split the subject's train split at random, by the seed."""
        images, labels = train_split(subject.data)
        order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
        kept = min(round(VALIDATION_SHARE * len(labels)), VALIDATION_LIMIT)
        validation, training = order[:kept], order[kept:]
        return cls(images[training], labels[training], images[validation], labels[validation], subject.task)

    @torch.inference_mode()
    def validate(self, network: Forward) -> tuple[float, float]:
        """Share of the validation part that a network answers correctly, and the mean of the task's loss.

        network: from images (n, C, H, W) to logits (n, classes).
        """
        parts = []
        for images in self.validation_images.split(CHUNK):
            with machine(exclusive=False):
                parts.append(network(images))
        logits = torch.cat(parts)
        right = self.task.correct(logits, self.validation_labels)
        return float(right.float().mean()), float(self.task.loss(logits, self.validation_labels))


def train_split(data: Data) -> tuple[Tensor, Tensor]:
    """All images and labels of the train split. They may be the data's own tensors: do not write to them."""
    whole = data.length(Part.TRAIN)
    return _joined(data.samples(Part.TRAIN, whole)), _joined(data.labels(Part.TRAIN, whole))


def _joined(chunks: Iterator[Tensor]) -> Tensor:
    """One tensor of all chunks; a single chunk is not copied."""
    parts = list(chunks)
    return parts[0] if len(parts) == 1 else torch.cat(parts)
