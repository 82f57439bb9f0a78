"""What a task is: how answers are judged, what training lowers, and what the screen calls it."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, ClassVar, Protocol, Self

import numpy as np
from torch import Tensor

from paretoscope.base.batch import Batch
from paretoscope.base.registry import Registry
from paretoscope.tasks.reference import Forward, Reference
from paretoscope.tasks.words import Further, Words

# A paired test with a p-value below this tells two models apart: the customary 5 %.
SIGNIFICANCE = 0.05


class Answers(Protocol):
    """What a model says of the first n samples, one answer each. harm: mean divergence, 0 without."""

    @property
    def harm(self) -> float: ...

    def __len__(self) -> int: ...


class Figures(Protocol):
    """Figures of a model on the first n samples: a dataclass of JSON's types, stored under the names of its fields.

    value: the headline figure; low, high: its 95 % interval. p_value: of the paired test against the baseline. harm:
    mean divergence of the outputs from the baseline's.
    """

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def n(self) -> int: ...

    @property
    def value(self) -> float: ...

    @property
    def low(self) -> float: ...

    @property
    def high(self) -> float: ...

    @property
    def p_value(self) -> float: ...

    @property
    def harm(self) -> float: ...

    @property
    def distinguishable(self) -> bool:
        """Whether the paired test tells this model from the baseline, at the 5 % level."""
        ...


class BaselineFigures(Protocol):
    """Figures of the uncompressed fp32 model on the whole split, a dataclass too; size_bytes: of its fp32 state."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def value(self) -> float: ...

    @property
    def size_bytes(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Comparison:
    """One model after another on the same samples. points: the headline figure's change, times `Words.factor`.

    p_value: two-sided.
    """

    points: float
    p_value: float

    @property
    def distinguishable(self) -> bool:
        """Whether the paired test tells the two apart, at the 5 % level."""
        return self.p_value < SIGNIFICANCE


class Flip(IntEnum):
    """What became of a sample's answer from one model to another: as it was, worse, better, or another one of which
    neither is said. `Words.flips` has what a task means by that."""

    SAME = 0
    BROKEN = 1
    MENDED = 2
    CHANGED = 3


@dataclass(frozen=True, eq=False, slots=True)
class Flips:
    """What became of each sample from one model to another.

    kinds: int8 (n,), values of `Flip`. sizes: float64 (n,), how stark the difference is; only their order counts.
    same: whether every sample is answered alike.
    """

    kinds: np.ndarray
    sizes: np.ndarray
    same: bool

    def count(self, kind: Flip) -> int:
        """How many samples are of a kind."""
        return int(np.count_nonzero(self.kinds == kind))


class Task(Protocol):
    """How answers are judged. What does not depend on the data is an attribute of the class; `tasks` has the classes.

    further: figures beside the headline figure. answer_bytes: how many an answer takes in each of the two parts that
    `write_answers` gives. needs_labels: whether the truth is labels; if not, it is what the baseline says. classes:
    names of the values that labels and answers take.

    Outputs are whatever a module returned, a tensor or several; what is comparable is a tensor for each of them.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    summary: ClassVar[str]
    reference: ClassVar[str]
    words: ClassVar[Words]
    further: ClassVar[tuple[Further, ...]]
    answer_bytes: ClassVar[tuple[int, int]]
    needs_labels: ClassVar[bool]

    def __init__(self, classes: tuple[str, ...]) -> None: ...

    @property
    def classes(self) -> tuple[str, ...]: ...

    @staticmethod
    def read_figures(data: Mapping[str, Any]) -> Figures:
        """The figures among stored data; KeyError or TypeError where they are not there."""
        ...

    @staticmethod
    def read_baseline(data: Mapping[str, Any]) -> BaselineFigures:
        """The baseline's figures from stored data; TypeError where it is something else."""
        ...

    @staticmethod
    def write_answers(answers: Answers) -> tuple[bytes, bytes]:
        """The answers as they are kept, without their harm, which stands among the figures."""
        ...

    @staticmethod
    def read_answers(parts: tuple[bytes, bytes]) -> Answers:
        """The answers that `write_answers` wrote; ValueError where they are no whole number of them."""
        ...

    @staticmethod
    def at_chance(correct: int, n: int, share: float) -> bool:
        """Whether a model that has `correct` of n right may be no better than one that always gives the same answer.

        share: what that one has right.
        """
        ...

    def knowing(self, outputs: Any) -> Self:
        """This task for a network: `outputs` are the baseline's own, of a few samples of the train split.

        Raises ModelError for outputs that it cannot judge.
        """
        ...

    def check(self, labels: np.ndarray | None) -> None:
        """Raises ModelError unless answers can be judged by these labels; None where there are none."""
        ...

    def comparable(self, outputs: Any) -> Batch:
        """A model's raw outputs as `divergence` compares them, (n, ...) each."""
        ...

    def outputs(self, model: Forward, chunks: Iterable[Batch]) -> Batch:
        """What a model says of all samples, comparable; run chunk by chunk."""
        ...

    def answers(self, outputs: Batch, reference: Batch | None = None) -> Answers:
        """The answers in comparable outputs. reference: the baseline's, None where these are the baseline's."""
        ...

    def answer(self, model: Forward, chunks: Iterable[Batch], reference: Reference | None = None) -> Iterator[Answers]:
        """Run a model chunk by chunk; yields the answers so far after each.

        reference: of the same samples, for harm; None where the model is the baseline, or harm is not asked for.
        """
        ...

    def divergence(self, reference: Batch, other: Batch) -> Tensor:
        """How far each sample's comparable outputs are from the reference's, float64 (n,); harm is its mean."""
        ...

    def score(self, answers: Answers, labels: np.ndarray, baseline: Answers) -> Figures:
        """Figures of the first n samples, those of the answers; labels and the baseline's answers may be more."""
        ...

    def told(self, figures: Figures) -> str:
        """What the headline figure was counted from, in a few words."""
        ...

    def interval(self, baseline: BaselineFigures, n: int) -> tuple[float, float]:
        """The 95 % interval of the baseline's headline figure, which was measured on n samples."""
        ...

    def baseline(self, figures: Figures, size_bytes: int) -> BaselineFigures:
        """What a record keeps of the baseline's own figures."""
        ...

    def compare(self, before: Answers, after: Answers, labels: np.ndarray) -> Comparison:
        """The paired test of two models on the same samples."""
        ...

    def flips(self, before: Answers, after: Answers, labels: np.ndarray) -> Flips:
        """Which samples one model answers otherwise than another, by a rule under which most samples are as they were
        where two models are close. Where answers are right or wrong, broken and mended are what `compare` counts."""
        ...

    def said(self, answers: Answers, place: int) -> tuple[str, str]:
        """What a model says of a sample, and how sure or how close it is, in words for a screen."""
        ...

    def lost(self, baseline: BaselineFigures, figures: Figures) -> float:
        """How far the headline figure is below the baseline's, times `Words.factor`; of the whole split."""
        ...

    def correct(self, outputs: Any, truth: Any) -> Tensor:
        """How right each sample of a batch of raw outputs is, from 0 to 1: (n,), bool or float64.

        truth: labels, or the baseline's raw outputs (`needs_labels`).
        """
        ...

    def loss(self, outputs: Any, truth: Any) -> Tensor:
        """What training lowers: a scalar for a batch of a model's raw outputs. truth: as for `correct`."""
        ...

    def distillation(self, outputs: Any, taught: Any, temperature: float) -> Tensor:
        """What training on a teacher's raw outputs lowers: a scalar for a batch, to be weighed by temperature**2."""
        ...


tasks: Registry[type[Task]] = Registry("task")
