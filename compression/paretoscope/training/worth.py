"""Whether a training was worth its time: what it won back on the test split against minutes spent."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from paretoscope.measure.subject import Evaluation
from paretoscope.tasks import Task, Words
from paretoscope.tasks.task import SIGNIFICANCE
from paretoscope.training.epochs import Recovery
from paretoscope.training.progress import duration


@dataclass(frozen=True, slots=True)
class Worth:
    """What a training won back. points: change of the task's headline figure by training; lost: by compression before.

    p_value: the task's paired test of before and after on the same samples. seconds: of training, all epochs.
    words: of the task.
    """

    points: float
    lost: float
    p_value: float
    seconds: float
    words: Words

    @property
    def minutes(self) -> float:
        """Minutes of training, all epochs."""
        return self.seconds / 60

    @property
    def minutes_per_point(self) -> float | None:
        """Minutes for each point won back; None where none was."""
        return self.minutes / self.points if self.points > 0 else None

    @property
    def certain(self) -> bool:
        """Whether the test tells after from before, at the 5 % level."""
        return self.p_value < SIGNIFICANCE

    @property
    def headline(self) -> str:
        """Points won back and the time that they took, in a few words."""
        spent, pace = duration(self.seconds), self.minutes_per_point
        if pace is None:
            return f"Nothing won back in {spent}"
        of = f" of {self.lost:.2f}" if self.lost > 0 else ""
        points, one = self.words.points, self.words.point
        return f"Won back {self.points:.2f}{of} {points} in {spent}: {duration(60 * pace)} a {one}"

    @property
    def caveat(self) -> str:
        """A sentence that limits the headline, or ""."""
        if self.points > 0 and not self.certain:
            told = f"{self.words.test}, p = {self.p_value:.2g}"
            return f"Before and after cannot be told apart on these test samples ({told})."
        if self.points < 0:
            return f"It cost {-self.points:.2f} {self.words.points}: the start is the better model."
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


def weigh(task: Task, before: Evaluation, after: Evaluation, labels: np.ndarray, recovery: Recovery) -> Worth:
    """Compare a recipe without and with its training. before, after: exact; labels: of the test split."""
    compared = task.compare(before.predictions, after.predictions, labels)
    return Worth(
        points=compared.points,
        lost=task.lost(before.record.baseline, before.record.figures),
        p_value=compared.p_value,
        seconds=recovery.epochs[-1].seconds,
        words=task.words,
    )
