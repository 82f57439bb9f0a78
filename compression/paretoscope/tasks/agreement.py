"""Agreement: how close a model's outputs are to the uncompressed network's. Any outputs will do; labels are not needed.

What the baseline says is the truth. The relative error of a sample is the root of

    mean over the outputs of  mean((y - r)^2) / power,

y and r being the model's and the baseline's values of that output, and power the mean square of the baseline's, on
calibration samples: each output counts alike, whatever its unit. Agreement is the mean over the samples of
1 - min(error, 1); SQNR is -10 log10 of the mean squared error, in decibels. The top answer is the largest value along
the axis of classes: the second axis of (n, classes) and of (n, classes, height, width), else the last; an axis of one
value has none. One column is never taken for classes.

Harm is the KL divergence in nats, mean over the positions, of a single output (n, classes) or (n, positions, classes)
with two classes or more; of any other outputs it is the squared relative error, the ratio of noise and signal.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Self, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from paretoscope.base.batch import Batch, joined, length, parts, tensors_in
from paretoscope.base.errors import ModelError
from paretoscope.base.intervals import mcnemar, student
from paretoscope.base.units import format_percent, format_points
from paretoscope.tasks.reference import Forward, Reference, run
from paretoscope.tasks.shares import are_shares, as_logits
from paretoscope.tasks.task import SIGNIFICANCE, Answers, BaselineFigures, Comparison, Figures, Flip, Flips, tasks
from paretoscope.tasks.words import FlipWord, FlipWords, Further, Words

T = TypeVar("T")

# Errors that differ by no more are ties in the paired test: a point of agreement; chosen by hand, no benchmark.
RESOLUTION = 0.01
# Share of the samples that count as those that moved most, where no answer can flip; chosen by hand, no benchmark.
MOVED = 0.05
# The largest relative error that is told apart: networks that overflow have no other number. By hand, no benchmark.
MOST = 1e3

WORDS = Words(
    title="Agreement",
    name="agreement",
    unit="%",
    factor=100,
    change_unit="pt",
    point="point",
    points="points",
    value=format_percent,
    change=format_points,
    right="as the baseline",
    chance="no better than guessing",
    at_chance="chance",
    interval="Student",
    test="sign test",
    divergence="divergence",
    harm_unit="nats or noise/signal",
    loss_unit="nats or noise/signal",
    flips=FlipWords(
        broken=FlipWord("Another top answer", "with another top answer"),
        mended=FlipWord("Top answer back", "with the top answer back"),
        changed=FlipWord("Moved most", "moved most"),
        help="Another top answer: samples that had the uncompressed network's and have it no more. Top answer back: "
        f"the other way round. Moved most, of outputs without one top answer: the {MOVED:.0%} of the samples whose "
        "error changed most.",
        order="the largest error first",
    ),
    errors=None,
)


@dataclass(frozen=True, eq=False, slots=True)
class Closeness:
    """How close a model is to the baseline on the first n samples.

    errors: relative, float64 (n,). top: share of the positions with the baseline's top answer, float32 (n,); NaN
    without classes. harm: mean divergence.
    """

    errors: np.ndarray
    top: np.ndarray
    harm: float = 0.0

    def __len__(self) -> int:
        return len(self.errors)


@dataclass(frozen=True, slots=True)
class Agreed:
    """Figures of one model on the first `n` samples.

    agreement_low, agreement_high: 95 % interval of the mean, by Student's t. error: mean relative error. sqnr: in
    decibels, None where nothing differs. top: mean share of the baseline's top answers, None without classes. p_value:
    sign test, two-sided, against the baseline on the same samples.
    """

    n: int
    agreement: float
    agreement_low: float
    agreement_high: float
    error: float
    sqnr: float | None
    top: float | None
    p_value: float
    harm: float

    @property
    def value(self) -> float:
        return self.agreement

    @property
    def low(self) -> float:
        return self.agreement_low

    @property
    def high(self) -> float:
        return self.agreement_high

    @property
    def distinguishable(self) -> bool:
        """Whether the test tells this model from the baseline, at the 5 % level."""
        return self.p_value < SIGNIFICANCE


@dataclass(frozen=True, slots=True)
class Baseline:
    """The uncompressed fp32 model, which agrees with itself; size_bytes is its fp32 state."""

    agreement: float
    error: float
    sqnr: float | None
    top: float | None
    size_bytes: int

    @property
    def value(self) -> float:
        return self.agreement


@dataclass(frozen=True, slots=True)
class Agreement:
    """Any samples and any outputs; the baseline's are the truth.

    powers: mean square of each of its outputs, by which errors are divided; 1 for those not told. shares: whether the
    outputs that are taken for classes are probabilities.
    """

    classes: tuple[str, ...]
    powers: tuple[float, ...] = ()
    shares: bool = False

    name: ClassVar[str] = "agreement"
    title: ClassVar[str] = "Agreement"
    summary: ClassVar[str] = "How close any outputs are to the uncompressed network's: error, SQNR, same top answers."
    reference: ClassVar[str] = (
        "Student, The probable error of a mean, 1908; Dixon and Mood, The statistical sign test, 1946; Hinton, Vinyals "
        "and Dean, Distilling the Knowledge in a Neural Network, 2015"
    )
    words: ClassVar[Words] = WORDS
    answer_bytes: ClassVar[tuple[int, int]] = (8, 4)
    needs_labels: ClassVar[bool] = False
    further: ClassVar[tuple[Further, ...]] = (
        Further(
            key="error",
            title="Relative error",
            help="Mean over the samples of the root mean square error, as a share of the outputs' own size.",
            decimals=4,
        ),
        Further(
            key="sqnr",
            title="SQNR (dB)",
            help="Power of the baseline's outputs over that of the error: 20 dB is an error of 10 %, 40 dB of 1 %.",
            decimals=1,
        ),
        Further(
            key="top",
            title="Same top answer",
            help="Share of the positions at which the largest output is the baseline's; none without classes.",
            decimals=4,
        ),
    )

    @staticmethod
    def read_figures(data: Mapping[str, Any]) -> Agreed:
        return Agreed(**{field.name: data[field.name] for field in fields(Agreed)})

    @staticmethod
    def read_baseline(data: Mapping[str, Any]) -> Baseline:
        return Baseline(**data)

    @staticmethod
    def write_answers(answers: Answers) -> tuple[bytes, bytes]:
        """Errors and shares of top answers, in the order of bytes of files."""
        answers = _closeness(answers)
        return answers.errors.astype("<f8").tobytes(), answers.top.astype("<f4").tobytes()

    @staticmethod
    def read_answers(parts: tuple[bytes, bytes]) -> Closeness:
        errors, top = np.frombuffer(parts[0], "<f8"), np.frombuffer(parts[1], "<f4")
        if len(errors) != len(top):
            raise ValueError("there must be a share of top answers for each error")
        return Closeness(errors, top)

    @staticmethod
    def at_chance(correct: int, n: int, share: float) -> bool:
        """Where agreement, `correct` of n, is not above the share."""
        return correct <= share * n

    def knowing(self, outputs: Any) -> Self:
        found = _tensors(outputs)
        powers = tuple(float(each.square().mean(dtype=torch.float64)) for each in found)
        if not all(map(math.isfinite, powers)):
            raise ModelError(
                "the network's outputs must be finite; some are not, on samples of the train split. Check its weights "
                "and how the samples are prepared."
            )
        shares = class_like(found) and are_shares(found[0], dim=-1)
        # An output that is always zero has no power to divide by.
        return replace(self, powers=tuple(power or 1.0 for power in powers), shares=shares)

    def check(self, labels: np.ndarray | None) -> None:
        """Labels are not looked at."""

    def comparable(self, outputs: Any) -> Batch:
        """The outputs as they are, float32 (n, ...) each; raises ModelError unless the samples are their first axis."""
        return joined(_tensors(outputs))

    def outputs(self, model: Forward, chunks: Iterable[Batch]) -> Batch:
        found = [parts(self._run(model, chunk)) for chunk in chunks]
        return joined(tuple(torch.cat(each) for each in zip(*found, strict=True)))

    def answers(self, outputs: Batch, reference: Batch | None = None) -> Closeness:
        was = outputs if reference is None else reference
        return Closeness(self._errors(was, outputs).numpy(), _same_top(was, outputs).float().numpy())

    def answer(
        self, model: Forward, chunks: Iterable[Batch], reference: Reference | None = None
    ) -> Iterator[Closeness]:
        errors, top, harm = np.empty(0, np.float64), np.empty(0, np.float32), 0.0
        for chunk in chunks:
            found = self._run(model, chunk)
            was = None if reference is None else reference(len(errors), chunk)
            close = self.answers(found, was)
            errors, top = np.concatenate([errors, close.errors]), np.concatenate([top, close.top])
            if was is not None:
                harm += max(0.0, float(self.divergence(was, found).sum()))
            yield Closeness(errors, top, harm / len(errors))

    def _run(self, model: Forward, chunk: Batch) -> Batch:
        found = self.comparable(run(model, chunk))
        if length(found) != length(chunk):
            raise _not_samples(parts(found), length(chunk))
        return found

    def divergence(self, reference: Batch, other: Batch) -> Tensor:
        """KL divergence of each sample, in nats, where the output is of classes; else noise over signal: float64 (n,).

        At most MOST, which stands for what is no number too.
        """
        was, now = parts(reference), parts(other)
        if not class_like(was):
            return self._noise(reference, other)
        before, after = self._log_shares(was[0]), self._log_shares(now[0])
        each = (before.exp() * (before - after)).sum(dim=-1).reshape(len(before), -1).mean(dim=1)
        return torch.nan_to_num(each, nan=MOST, posinf=MOST).clamp(max=MOST)

    def score(self, answers: Answers, labels: np.ndarray, baseline: Answers) -> Agreed:
        answers = _closeness(answers)
        n = len(answers)
        kept = (1.0 - np.minimum(answers.errors, 1.0)).tolist()
        agreement = math.fsum(kept) / n
        low, high = student(kept)
        noise = math.fsum(np.square(answers.errors).tolist()) / n
        return Agreed(
            n=n,
            agreement=agreement,
            agreement_low=min(max(low, 0.0), agreement),
            agreement_high=max(min(high, 1.0), agreement),
            error=math.fsum(answers.errors.tolist()) / n,
            sqnr=-10 * math.log10(noise) if noise > 0 else None,
            top=_mean_top(answers.top),
            p_value=_paired(_closeness(baseline).errors[:n], answers.errors),
            harm=answers.harm,
        )

    def told(self, figures: Figures) -> str:
        return f"mean of {_agreed(figures).n} test samples"

    def interval(self, baseline: BaselineFigures, n: int) -> tuple[float, float]:
        """Nothing is uncertain about how the baseline agrees with itself."""
        return (_baseline(baseline).agreement,) * 2

    def baseline(self, figures: Figures, size_bytes: int) -> Baseline:
        figures = _agreed(figures)
        return Baseline(figures.agreement, figures.error, figures.sqnr, figures.top, size_bytes)

    def compare(self, before: Answers, after: Answers, labels: np.ndarray) -> Comparison:
        """The sign test of the samples whose errors differ by more than a point."""
        was, now = _closeness(before).errors, _closeness(after).errors
        totals = [math.fsum(np.minimum(each, 1.0).tolist()) for each in (was, now)]
        return Comparison(WORDS.factor * (totals[0] - totals[1]) / len(was), _paired(was, now))

    def flips(self, before: Answers, after: Answers, labels: np.ndarray) -> Flips:
        """By the top answer where a sample has one; of other outputs, the share MOVED whose errors differ most.

        Errors differ a little for nearly every sample: that alone breaks none.
        """
        was, now = _closeness(before), _closeness(after)
        kinds, apart = np.full(len(was), Flip.SAME, np.int8), np.abs(now.errors - was.errors)
        same = not bool(np.any(_differ(was.top, now.top) | (apart > RESOLUTION)))
        if np.all(np.isin([was.top, now.top], (0, 1))):
            kinds[was.top > now.top] = Flip.BROKEN
            kinds[was.top < now.top] = Flip.MENDED
            return Flips(kinds, np.maximum(was.errors, now.errors), same)
        most = np.argsort(-apart, kind="stable")[: math.ceil(MOVED * len(apart))]
        kinds[most[apart[most] > RESOLUTION]] = Flip.CHANGED
        return Flips(kinds, apart, same)

    def said(self, answers: Answers, place: int) -> tuple[str, str]:
        """Whether the top answer is the baseline's, and the relative error."""
        answers = _closeness(answers)
        error, top = f"error {format_percent(float(answers.errors[place]))}", float(answers.top[place])
        if math.isnan(top):
            return error, ""
        told = {0.0: "another top answer", 1.0: "the baseline's top answer"}
        return told.get(top, f"{format_percent(top)} of the baseline's top answers"), error

    def lost(self, baseline: BaselineFigures, figures: Figures) -> float:
        return WORDS.factor * (_baseline(baseline).agreement - _agreed(figures).agreement)

    def correct(self, outputs: Any, truth: Any) -> Tensor:
        """Each sample's agreement."""
        return 1 - self._errors(self.comparable(truth), self.comparable(outputs)).clamp(max=1.0)

    def loss(self, outputs: Any, truth: Any) -> Tensor:
        """As `distillation`, at temperature 1."""
        return self.distillation(outputs, truth, 1.0)

    def distillation(self, outputs: Any, taught: Any, temperature: float) -> Tensor:
        """KL divergence from a teacher's softened answers, in nats a position; noise over signal of other outputs, over
        temperature**2, by which it will be weighed."""
        was, now = _tensors(taught), _tensors(outputs)
        if class_like(was):
            softened, wanted = (
                F.log_softmax(as_logits(each[0], self.shares).flatten(0, -2) / temperature, dim=-1)
                for each in (now, was)
            )
            return F.kl_div(softened, wanted, reduction="batchmean", log_target=True)
        terms = [F.mse_loss(a, b) / power for a, b, power in zip(now, was, self._powers(was), strict=True)]
        return torch.stack(terms).mean() / temperature**2

    def _log_shares(self, outputs: Tensor) -> Tensor:
        return as_logits(outputs.double(), self.shares).log_softmax(dim=-1)

    def _noise(self, reference: Batch, other: Batch) -> Tensor:
        """Squared relative error of each sample, float64 (n,)."""
        was, now = parts(reference), parts(other)
        terms = [
            (b - a).reshape(len(a), -1).square().mean(dim=1, dtype=torch.float64) / power
            for a, b, power in zip(was, now, self._powers(was), strict=True)
        ]
        found = torch.stack(terms).mean(dim=0)
        return torch.nan_to_num(found, nan=MOST**2, posinf=MOST**2).clamp(max=MOST**2)

    def _errors(self, reference: Batch, other: Batch) -> Tensor:
        return self._noise(reference, other).sqrt()

    def _powers(self, outputs: tuple[Tensor, ...]) -> tuple[float, ...]:
        return self.powers or (1.0,) * len(outputs)


def _tensors(outputs: Any) -> tuple[Tensor, ...]:
    """All outputs, float32, with the samples as their first axis."""
    found = tuple(each.float() for each in tensors_in(outputs))
    if not found or any(each.ndim < 1 or len(each) != len(found[0]) for each in found):
        raise _not_samples(found, None)
    return found


def _not_samples(outputs: tuple[Tensor, ...], n: int | None) -> ModelError:
    shapes = ", ".join(str(tuple(each.shape)) for each in outputs) or "none"
    meant = "as many samples" if n is None else f"the {n} samples"
    return ModelError(
        f"every output must have {meant} as its first axis; got {shapes}. Export the network with outputs (n, ...)."
    )


def class_like(outputs: tuple[Tensor, ...]) -> bool:
    """Whether harm is the KL divergence: a single output of classes, for each sample or for each of its positions."""
    return len(outputs) == 1 and outputs[0].ndim in (2, 3) and outputs[0].shape[-1] > 1


def _same_top(reference: Batch, other: Batch) -> Tensor:
    """Share of the positions at which the top answers are the same, mean over the outputs that have classes: (n,)."""
    shares = []
    for was, now in zip(parts(reference), parts(other), strict=True):
        axis = 1 if was.ndim in (2, 4) else was.ndim - 1
        if axis > 0 and was.shape[axis] > 1:
            same = (was.argmax(axis) == now.argmax(axis)).double()
            shares.append(same.reshape(len(same), -1).mean(dim=1))
    return torch.stack(shares).mean(dim=0) if shares else torch.full((length(reference),), math.nan)


def _differ(was: np.ndarray, now: np.ndarray) -> np.ndarray:
    """Where shares of top answers differ; without classes there are none to differ."""
    differ: np.ndarray = np.nan_to_num(was) != np.nan_to_num(now)
    return differ


def _mean_top(top: np.ndarray) -> float | None:
    return None if np.isnan(top).any() else math.fsum(top.tolist()) / len(top)


def _paired(before: np.ndarray, after: np.ndarray) -> float:
    """The sign test's p-value; samples whose errors differ by RESOLUTION at most are ties."""
    gained, lost = int((after < before - RESOLUTION).sum()), int((after > before + RESOLUTION).sum())
    return mcnemar(gained, lost)


def _closeness(answers: Answers) -> Closeness:
    return _own(answers, Closeness)


def _agreed(figures: Figures) -> Agreed:
    return _own(figures, Agreed)


def _baseline(figures: BaselineFigures) -> Baseline:
    return _own(figures, Baseline)


def _own(value: object, kind: type[T]) -> T:
    """The value, which must be of this task; raises ModelError for another task's."""
    if not isinstance(value, kind):
        raise ModelError(
            f"agreement judges its own {kind.__name__}; got {type(value).__name__}. Ask the task that made it."
        )
    return value


tasks.add(Agreement)
