"""Whether a training was worth its time: accuracy won back on the test split against minutes spent."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from paretoscope.measure.accuracy import mcnemar
from paretoscope.measure.record import SIGNIFICANCE
from paretoscope.measure.subject import Evaluation
from paretoscope.training.progress import duration
from paretoscope.training.train import Recovery


@dataclass(frozen=True, slots=True)
class Worth:
    """points: percentage points of accuracy that training changed; lost: that compression without it had cost.

    p_value: McNemar's exact test of before and after on the same images. seconds: of training, all epochs.
    """

    points: float
    lost: float
    p_value: float
    seconds: float

    @property
    def minutes(self) -> float:
        return self.seconds / 60

    @property
    def minutes_per_point(self) -> float | None:
        """Minutes a point won back; None where nothing was."""
        return self.minutes / self.points if self.points > 0 else None

    @property
    def certain(self) -> bool:
        """Whether the test tells after from before, at the 5 % level."""
        return self.p_value < SIGNIFICANCE

    @property
    def headline(self) -> str:
        """The answer in a few words."""
        spent = duration(self.seconds)
        if self.points <= 0:
            return f"Nothing won back in {spent}"
        of = f" of {self.lost:.2f}" if self.lost > 0 else ""
        return f"Won back {self.points:.2f}{of} points in {spent}: {duration(60 * self.minutes_per_point)} a point"

    @property
    def caveat(self) -> str:
        """What must be known beside it, or ""."""
        if self.points > 0 and not self.certain:
            return f"Before and after cannot be told apart on these test images (McNemar p = {self.p_value:.2g})."
        if self.points < 0:
            return f"It cost {-self.points:.2f} points: the start is the better model."
        return ""

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "points": self.points,
            "lost": self.lost,
            "p_value": self.p_value,
            "minutes": self.minutes,
            "minutes_per_point": self.minutes_per_point,
        }


def weigh(before: Evaluation, after: Evaluation, labels: np.ndarray, recovery: Recovery) -> Worth:
    """Compare a recipe without and with its training. before, after: exact; labels: integers (n,) of the test split."""
    was, now = before.predictions.classes == labels, after.predictions.classes == labels
    n = len(labels)
    return Worth(
        points=100 * (int(now.sum()) - int(was.sum())) / n,
        lost=100 * (before.record.baseline.correct - int(was.sum())) / n,
        p_value=mcnemar(int((now & ~was).sum()), int((was & ~now).sum())),
        seconds=recovery.epochs[-1].seconds,
    )
