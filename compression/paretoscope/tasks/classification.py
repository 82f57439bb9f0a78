"""Classification: one class a sample. One forward pass gives the predicted class and confidence of every sample, and
every figure comes from those."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Self, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from paretoscope.base.batch import Batch, parts, tensors_in
from paretoscope.base.errors import ModelError
from paretoscope.base.intervals import mcnemar, wilson
from paretoscope.base.units import format_percent, format_points
from paretoscope.tasks.reference import Forward, Reference, run
from paretoscope.tasks.shares import are_shares, as_logits
from paretoscope.tasks.task import SIGNIFICANCE, Answers, BaselineFigures, Comparison, Figures, Flip, Flips, tasks
from paretoscope.tasks.words import ErrorWords, FlipWord, FlipWords, Further, Words

T = TypeVar("T")

WORDS = Words(
    title="Accuracy",
    name="accuracy",
    unit="%",
    factor=100,
    change_unit="pt",
    point="point",
    points="points",
    value=format_percent,
    change=format_points,
    right="right",
    chance="no better than guessing",
    at_chance="chance",
    interval="Wilson",
    test="McNemar's exact test",
    divergence="KL divergence",
    harm_unit="nats",
    loss_unit="nats",
    flips=FlipWords(
        broken=FlipWord("Broken", "broken", "✓", "✗"),
        mended=FlipWord("Mended", "mended", "✗", "✓"),
        changed=FlipWord("Otherwise wrong", "otherwise wrong", "✗", "✗"),
        help="Broken: samples whose answer was right and is wrong now. Mended: the other way round. Otherwise wrong: "
        "another answer, as wrong.",
        order="the starkest first",
    ),
    errors=ErrorWords(
        tab="Confusion",
        matrix="Confusion matrix",
        truth="True class",
        answer="Predicted class",
        wrong="misclassified",
        right="Recall (% of the true class)",
        one="class",
        pair="true {truth}, predicted {answer}",
    ),
)


@dataclass(frozen=True, eq=False, slots=True)
class Predictions:
    """What a model says of the first n samples: classes int64 (n,), confidences float32 (n,) in [0, 1].

    harm: mean over them of the KL divergence of its outputs from the baseline's, in nats; 0 where none was given.
    """

    classes: np.ndarray
    confidences: np.ndarray
    harm: float = 0.0

    def __len__(self) -> int:
        return len(self.classes)


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Figures of one model on the first `n` samples; exact when n is the size of the split.

    accuracy_low, accuracy_high: 95 % Wilson interval. f1: macro F1. p_value: McNemar's exact test, two-sided,
    against the baseline on the same samples. harm: mean KL divergence of the outputs from the baseline's, in nats.
    """

    n: int
    correct: int
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    f1: float
    p_value: float
    harm: float

    @property
    def value(self) -> float:
        return self.accuracy

    @property
    def low(self) -> float:
        return self.accuracy_low

    @property
    def high(self) -> float:
        return self.accuracy_high

    @property
    def distinguishable(self) -> bool:
        """Whether the test tells this model from the baseline, at the 5 % level."""
        return self.p_value < SIGNIFICANCE


@dataclass(frozen=True, slots=True)
class Baseline:
    """The uncompressed fp32 model on the same split; size_bytes is its fp32 state."""

    correct: int
    accuracy: float
    f1: float
    size_bytes: int

    @property
    def value(self) -> float:
        return self.accuracy


@dataclass(frozen=True, slots=True)
class Classification:
    """Samples of known classes; a model gives a logit for each class, (n, classes).

    classes: their names, by label. shares: whether the model gives probabilities instead, as a softmax does.
    """

    classes: tuple[str, ...]
    shares: bool = False

    name: ClassVar[str] = "classification"
    title: ClassVar[str] = "Classification"
    summary: ClassVar[str] = "Which of some classes a sample is of: accuracy with Wilson's interval, macro F1."
    reference: ClassVar[str] = (
        "Wilson, Probable inference, the law of succession, and statistical inference, 1927; McNemar, Note on the "
        "sampling error of the difference between correlated proportions or percentages, 1947"
    )
    words: ClassVar[Words] = WORDS
    answer_bytes: ClassVar[tuple[int, int]] = (8, 4)
    needs_labels: ClassVar[bool] = True
    further: ClassVar[tuple[Further, ...]] = (
        Further(
            key="f1",
            title="Macro F1",
            help="Mean of the F1 scores of all classes: it falls when one class suffers, even if accuracy does not.",
            decimals=4,
        ),
    )

    @staticmethod
    def read_figures(data: Mapping[str, Any]) -> Accuracy:
        return Accuracy(**{field.name: data[field.name] for field in fields(Accuracy)})

    @staticmethod
    def read_baseline(data: Mapping[str, Any]) -> Baseline:
        return Baseline(**data)

    @staticmethod
    def write_answers(answers: Answers) -> tuple[bytes, bytes]:
        """Classes and confidences, in the order of bytes of files."""
        answers = _predictions(answers)
        return answers.classes.astype("<i8").tobytes(), answers.confidences.astype("<f4").tobytes()

    @staticmethod
    def read_answers(parts: tuple[bytes, bytes]) -> Predictions:
        classes, confidences = np.frombuffer(parts[0], "<i8"), np.frombuffer(parts[1], "<f4")
        if len(classes) != len(confidences):
            raise ValueError("there must be a confidence for each class")
        return Predictions(classes, confidences)

    @staticmethod
    def at_chance(correct: int, n: int, share: float) -> bool:
        """Where Wilson's 95 % interval does not lie above the share, which is that of the most frequent class."""
        return wilson(correct, n)[0] <= share

    def knowing(self, outputs: Any) -> Self:
        logits = _logits(outputs)
        own = (*self.classes, *(str(label) for label in range(len(self.classes), logits.shape[1])))
        shares = are_shares(logits, dim=1)
        return self if (own, shares) == (self.classes, self.shares) else replace(self, classes=own, shares=shares)

    def check(self, labels: np.ndarray | None) -> None:
        if labels is None:
            raise ModelError(
                "classification needs data with labels; these have none. Add labels, or take the task agreement, which "
                "compares with the uncompressed network."
            )
        if labels.ndim != 1 or labels.dtype.kind not in "iu":
            raise ModelError(
                f"classification needs a label a sample, whole numbers (n,); got {labels.dtype} {labels.shape}. Pass "
                "such labels, or take the task agreement."
            )
        if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < len(self.classes):
            raise ModelError(
                f"labels must be from 0 to {len(self.classes) - 1}, one for each of the network's classes; got "
                f"{int(labels.min())} to {int(labels.max())}. Renumber them, or take the network that they are for."
            )

    def comparable(self, outputs: Any) -> Tensor:
        """Log probabilities of each class, float64 (n, classes)."""
        return as_logits(_logits(outputs).double(), self.shares).log_softmax(dim=1)

    def outputs(self, model: Forward, chunks: Iterable[Batch]) -> Tensor:
        return torch.cat([self.comparable(run(model, chunk)) for chunk in chunks])

    def answers(self, outputs: Batch, reference: Batch | None = None) -> Predictions:
        top = _one(outputs).max(dim=1)
        return Predictions(top.indices.numpy(), top.values.exp().float().numpy())

    def answer(
        self, model: Forward, chunks: Iterable[Batch], reference: Reference | None = None
    ) -> Iterator[Predictions]:
        classes, confidences = np.empty(0, np.int64), np.empty(0, np.float32)
        harm = 0.0
        for chunk in chunks:
            found = self.comparable(run(model, chunk))
            top = self.answers(found)
            start, end = len(classes), len(classes) + len(found)
            classes = np.concatenate([classes, top.classes])
            confidences = np.concatenate([confidences, top.confidences])
            if reference is not None:
                harm += max(0.0, float(self.divergence(reference(start, chunk), found).sum()))
            yield Predictions(classes, confidences, harm / end)

    def divergence(self, reference: Batch, other: Batch) -> Tensor:
        """KL divergence of each row of `other` from `reference`, log probabilities (n, classes): float64 (n,), in nats.

        Where both agree, rounding may leave it a little below 0.
        """
        was, now = _one(reference), _one(other)
        return (was.exp() * (was - now)).sum(dim=1)

    def score(self, answers: Answers, labels: np.ndarray, baseline: Answers) -> Accuracy:
        predicted = _predictions(answers).classes
        n = len(predicted)
        labels = labels[:n]
        right, was_right = predicted == labels, _predictions(baseline).classes[:n] == labels
        correct = int(right.sum())
        low, high = wilson(correct, n)
        return Accuracy(
            n=n,
            correct=correct,
            accuracy=correct / n,
            accuracy_low=low,
            accuracy_high=high,
            f1=macro_f1(predicted, labels, len(self.classes)),
            p_value=_paired(right, was_right),
            harm=answers.harm,
        )

    def told(self, figures: Figures) -> str:
        figures = _accuracy(figures)
        return f"{figures.correct} of {figures.n} test samples"

    def interval(self, baseline: BaselineFigures, n: int) -> tuple[float, float]:
        return wilson(_baseline(baseline).correct, n)

    def baseline(self, figures: Figures, size_bytes: int) -> Baseline:
        figures = _accuracy(figures)
        return Baseline(figures.correct, figures.accuracy, figures.f1, size_bytes)

    def compare(self, before: Answers, after: Answers, labels: np.ndarray) -> Comparison:
        """McNemar's exact test."""
        was, now = _predictions(before).classes == labels, _predictions(after).classes == labels
        return Comparison(WORDS.factor * (int(now.sum()) - int(was.sum())) / len(labels), _paired(now, was))

    def flips(self, before: Answers, after: Answers, labels: np.ndarray) -> Flips:
        """The starkest are those of which both models are sure."""
        was, now = _predictions(before), _predictions(after)
        right, was_right = now.classes == labels, was.classes == labels
        kinds = np.where(was.classes != now.classes, Flip.CHANGED, Flip.SAME).astype(np.int8)
        kinds[was_right & ~right] = Flip.BROKEN
        kinds[right & ~was_right] = Flip.MENDED
        same = not bool(np.any(kinds != Flip.SAME))
        return Flips(kinds, was.confidences.astype(np.float64) + now.confidences, same)

    def said(self, answers: Answers, place: int) -> tuple[str, str]:
        """The name of the class, and how sure the model is of it."""
        answers = _predictions(answers)
        label = int(answers.classes[place])
        name = self.classes[label] if label < len(self.classes) else str(label)
        return name, format_percent(float(answers.confidences[place]))

    def lost(self, baseline: BaselineFigures, figures: Figures) -> float:
        figures = _accuracy(figures)
        return WORDS.factor * (_baseline(baseline).correct - figures.correct) / figures.n

    def correct(self, outputs: Any, truth: Any) -> Tensor:
        right: Tensor = _logits(outputs).argmax(dim=1) == truth
        return right

    def loss(self, outputs: Any, truth: Any) -> Tensor:
        """Cross-entropy, in nats."""
        return F.cross_entropy(as_logits(_logits(outputs), self.shares), truth)

    def distillation(self, outputs: Any, taught: Any, temperature: float) -> Tensor:
        """KL divergence from a teacher's softened answers, in nats (Hinton, Vinyals and Dean 2015, section 2)."""
        softened = F.log_softmax(as_logits(_logits(outputs), self.shares) / temperature, dim=1)
        wanted = F.log_softmax(as_logits(_logits(taught), self.shares) / temperature, dim=1)
        return F.kl_div(softened, wanted, reduction="batchmean", log_target=True)


def _logits(outputs: Any) -> Tensor:
    """The one output of a classifier, (n, classes); raises ModelError for anything else."""
    found = tuple(tensors_in(outputs))
    if len(found) != 1 or found[0].ndim != 2 or found[0].shape[1] < 2:
        shapes = ", ".join(str(tuple(each.shape)) for each in found) or "none"
        raise ModelError(
            f"classification needs one output (n, classes) of two classes or more; got {shapes}. Take the task "
            "agreement, which any outputs have."
        )
    return found[0]


def _one(outputs: Batch) -> Tensor:
    (tensor,) = parts(outputs)
    return tensor


def _predictions(answers: Answers) -> Predictions:
    return _own(answers, Predictions)


def _accuracy(figures: Figures) -> Accuracy:
    return _own(figures, Accuracy)


def _baseline(figures: BaselineFigures) -> Baseline:
    return _own(figures, Baseline)


def _own(value: object, kind: type[T]) -> T:
    """The value, which must be of this task; raises ModelError for another task's."""
    if not isinstance(value, kind):
        raise ModelError(
            f"classification judges its own {kind.__name__}; got {type(value).__name__}. Ask the task that made it."
        )
    return value


def macro_f1(predicted: np.ndarray, labels: np.ndarray, classes: int) -> float:
    """Mean of 2 TP / (2 TP + FP + FN) over the classes that occur among the labels or the predictions."""
    hits = np.bincount(labels[predicted == labels], minlength=classes)
    total = np.bincount(predicted, minlength=classes) + np.bincount(labels, minlength=classes)
    present = total > 0
    return float(np.mean(2.0 * hits[present] / total[present]))


def _paired(right: np.ndarray, was_right: np.ndarray) -> float:
    return mcnemar(int((right & ~was_right).sum()), int((~right & was_right).sum()))


tasks.add(Classification)
