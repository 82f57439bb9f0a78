"""Accuracy from predictions: one forward pass gives the predicted class and confidence of every sample, and every
figure comes from those."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from paretoscope.base.lock import machine
from paretoscope.measure.record import Accuracy

CHUNK = 100

# Level of intervals, and the normal quantile of its upper end, ndtri(0.975): SciPy takes longer to import than all that
# is asked of it here, so it is left to other levels.
LEVEL, QUANTILE = 0.95, 1.959963984540054


@dataclass(frozen=True, eq=False, slots=True)
class Predictions:
    """What a model says of the first n test samples: classes int64 (n,), confidences float32 (n,) in [0, 1].

    harm: mean over them of the KL divergence of its outputs from the baseline's, in nats; 0 where none was given.
    """

    classes: np.ndarray
    confidences: np.ndarray
    harm: float = 0.0


def predict(
    model: nn.Module, images: torch.Tensor, chunk: int = CHUNK, reference: torch.Tensor | None = None
) -> Iterator[Predictions]:
    """Run `model` over images (n, C, H, W) chunk by chunk; yields the predictions so far after each chunk.

    reference: float64 (n, classes), the log probabilities that the baseline gives.
    """
    classes = np.empty(len(images), np.int64)
    confidences = np.empty(len(images), np.float32)
    harm = 0.0
    for start in range(0, len(images), chunk):
        found = log_probabilities(model, images[start : start + chunk], chunk)
        top = found.max(dim=1)
        end = start + len(found)
        classes[start:end], confidences[start:end] = top.indices.numpy(), top.values.exp().numpy()
        if reference is not None:
            harm += max(0.0, float(divergence(reference[start:end], found).sum()))
        yield Predictions(classes[:end], confidences[:end], harm / end)


def log_probabilities(model: nn.Module, images: torch.Tensor, chunk: int = CHUNK) -> torch.Tensor:
    """Of each class, float64 (n, classes), for logits of `model`, run over the images chunk by chunk.

    No chunk runs while a timing has the machine to itself.
    """
    parts = []
    with torch.inference_mode():
        for part in images.split(chunk):
            with machine(exclusive=False):
                parts.append(model(part).double().log_softmax(dim=1))
        return torch.cat(parts)


def divergence(reference: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """KL divergence of each row of `other` from `reference`, log probabilities (n, classes): float64 (n,), in nats.

    Where both agree, rounding may leave it a little below 0.
    """
    return (reference.exp() * (reference - other)).sum(dim=1)


def score(predictions: Predictions, labels: np.ndarray, baseline: np.ndarray, classes: int) -> Accuracy:
    """Figures of the first n samples, those of the predictions.

    labels, baseline: integer arrays of at least n samples; baseline is what the uncompressed model predicts.
    classes: how many classes the dataset has.
    """
    predicted = predictions.classes
    n = len(predicted)
    labels, baseline = labels[:n], baseline[:n]
    right, was_right = predicted == labels, baseline == labels
    correct = int(right.sum())
    low, high = wilson(correct, n)
    return Accuracy(
        n=n,
        correct=correct,
        accuracy=correct / n,
        accuracy_low=low,
        accuracy_high=high,
        f1=macro_f1(predicted, labels, classes),
        p_value=mcnemar(int((right & ~was_right).sum()), int((~right & was_right).sum())),
        harm=predictions.harm,
    )


def wilson(correct: int, n: int, level: float = LEVEL) -> tuple[float, float]:
    """Wilson's score interval of a proportion (Wilson 1927), for n >= 1."""
    z = QUANTILE if level == LEVEL else _quantile((1 + level) / 2)
    share = correct / n
    centre = share + z * z / (2 * n)
    spread = z * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    # At 0 and n the bounds are exactly 0 and 1; rounding may miss them.
    low = 0.0 if correct == 0 else float((centre - spread) / scale)
    high = 1.0 if correct == n else float((centre + spread) / scale)
    return low, high


def _quantile(share: float) -> float:
    from scipy.special import ndtri

    return float(ndtri(share))


def mcnemar(gained: int, lost: int) -> float:
    """McNemar's exact test, two-sided: the p-value of `gained` and `lost` samples under even odds (McNemar 1947)."""
    if gained == lost:
        return 1.0
    # Slow to import, and not needed for a model that answers as the baseline does.
    from scipy.special import bdtr

    # Even odds are symmetric, so both tails are twice the smaller one.
    return min(1.0, 2.0 * float(bdtr(min(gained, lost), gained + lost, 0.5)))


def macro_f1(predicted: np.ndarray, labels: np.ndarray, classes: int) -> float:
    """Mean of 2 TP / (2 TP + FP + FN) over the classes that occur among the labels or the predictions."""
    hits = np.bincount(labels[predicted == labels], minlength=classes)
    total = np.bincount(predicted, minlength=classes) + np.bincount(labels, minlength=classes)
    present = total > 0
    return float(np.mean(2.0 * hits[present] / total[present]))
