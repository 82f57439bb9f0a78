"""Two evaluations held against each other on the same samples: the paired test, and what became of each answer."""

from dataclasses import dataclass

import numpy as np

from paretoscope.measure.record import Record
from paretoscope.measure.subject import Evaluation
from paretoscope.tasks import Answers, Flip, Flips, Task


@dataclass(frozen=True, slots=True)
class Pair:
    """One model after another on the same n samples.

    points: change of the headline figure, times `Words.factor`. p_value: of the task's paired test, two-sided.
    measurable: whether that tells the two apart at the 5 % level. broken, mended, changed: samples whose answer got
    worse, got better, or is another, as `Words.flips` has it. same: whether every sample is answered alike.
    """

    points: float
    p_value: float
    measurable: bool
    broken: int
    mended: int
    changed: int
    n: int
    same: bool

    @property
    def counts(self) -> dict[Flip, int]:
        """How many samples are of each kind that is not `Flip.SAME`."""
        return {Flip.BROKEN: self.broken, Flip.MENDED: self.mended, Flip.CHANGED: self.changed}


def pairable(one: Record, other: Record, task: Task) -> bool:
    """Whether two records are of the same samples and the same truth, so that a paired test may be made of them.

    Where what the baseline says is the truth, that of another network is another truth.
    """
    alike = one.task == other.task and one.digests.dataset == other.digests.dataset
    return alike and (task.needs_labels or one.digests.model == other.digests.model)


def pair(task: Task, before: Evaluation, after: Evaluation, labels: np.ndarray) -> Pair | None:
    """The paired test of two evaluations; None where they are not `pairable`, or not of the same samples.

    labels: of all samples of the test split, or of more than the evaluations have.
    """
    was, now = before.predictions, after.predictions
    if len(was) != len(now) or not pairable(before.record, after.record, task):
        return None
    return pair_of(task, was, now, labels)


def pair_of(task: Task, was: Answers, now: Answers, labels: np.ndarray) -> Pair:
    """The paired test of two models' answers to the same samples; one of them may be the baseline."""
    found = task.compare(was, now, labels[: len(was)])
    flips = flipped(task, was, now, labels)
    return Pair(
        points=found.points,
        p_value=found.p_value,
        measurable=found.distinguishable,
        broken=flips.count(Flip.BROKEN),
        mended=flips.count(Flip.MENDED),
        changed=flips.count(Flip.CHANGED),
        n=len(was),
        same=flips.same,
    )


def flipped(task: Task, before: Answers, after: Answers, labels: np.ndarray) -> Flips:
    """What became of each sample's answer."""
    return task.flips(before, after, labels[: len(before)])


def chosen(flips: Flips, labels: np.ndarray, kinds: frozenset[Flip], label: int | None = None) -> np.ndarray:
    """The samples of some kinds, the starkest difference first, those as stark in their order: int64 (m,).

    label: only samples of that true class; None for all.
    """
    wanted = np.isin(flips.kinds, [int(kind) for kind in kinds])
    if label is not None:
        wanted &= labels[: len(flips.kinds)] == label
    places = np.flatnonzero(wanted)
    return places[np.argsort(-flips.sizes[places], kind="stable")]
