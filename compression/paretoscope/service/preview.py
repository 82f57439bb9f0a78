"""Samples as a network sees them, its answers, and what its baseline is worth: plain data for a page that asks whether
that is what its user expects. Preprocessing is not undone: a mistake in it shows."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from paretoscope.base.batch import Batch, call, length, parts, tensors_in
from paretoscope.base.errors import ModelError
from paretoscope.base.lock import machine
from paretoscope.base.text import listed
from paretoscope.base.units import format_percent
from paretoscope.data.data import Data, Part
from paretoscope.data.feeds import Pictures
from paretoscope.data.prepared import PreparedData, matched
from paretoscope.data.preprocess import fitting
from paretoscope.data.samples import Kind
from paretoscope.data.taking import taken
from paretoscope.measure.subject import Subject
from paretoscope.networks.network import Input, Network
from paretoscope.tasks import BaselineFigures, Task
from paretoscope.tasks.classification import Classification

# Samples, answers of each, values of a row, points of a curve and curves that are shown; chosen by hand, no benchmark.
SAMPLES, ANSWERS, VALUES, POINTS, CURVES, OUTPUTS = 8, 3, 24, 200, 8, 6
# Longest text of a sample, in characters.
TEXT = 200


class Look(StrEnum):
    """What a sample of an input is shown as."""

    PICTURE = "picture"
    CURVES = "curves"
    NUMBERS = "numbers"
    TOKENS = "tokens"
    OTHER = "other"


@dataclass(frozen=True, eq=False, slots=True)
class Seen:
    """One input of one sample, as the network gets it.

    picture: uint8 (height, width) or (height, width, 3), black and white being the ends of all samples shown. curves:
    (channels, points). values: the first ones. text: what the tokens were made of, "" where they were not.
    """

    picture: np.ndarray | None = None
    curves: np.ndarray | None = None
    values: tuple[float, ...] = ()
    text: str = ""


@dataclass(frozen=True, slots=True)
class Shown:
    """What is shown of one input. low, high, mean: of the values of the samples shown. columns: names of its values."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    look: Look
    low: float
    high: float
    mean: float
    columns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Picked:
    """Samples without what the network says of them. inputs: in the network's order. seen: for each sample, a view of
    each input."""

    inputs: tuple[Shown, ...]
    seen: tuple[tuple[Seen, ...], ...]


@dataclass(frozen=True, slots=True)
class Sample:
    """seen: for each input. answers: what the network says, in words, the surest first; () before it ran. label: ""
    without one. right: whether the first answer is the label, None without one."""

    seen: tuple[Seen, ...]
    answers: tuple[str, ...]
    label: str = ""
    right: bool | None = None


@dataclass(frozen=True, slots=True)
class Worth:
    """What the baseline has right of n of the `samples` of the test split, with its 95 % interval; chance: whether that
    may be guessing."""

    value: float
    low: float
    high: float
    n: int
    chance: bool
    samples: int


@dataclass(frozen=True, slots=True)
class Facts:
    """touched: share of the parameters that recipes act on. parameters, size_bytes: of the baseline."""

    touched: float
    parameters: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Preview:
    """inputs: in the network's order. samples: of the test split, in its order; drawn: whether they are random numbers.
    worth: None where there are no labels to judge by, or it is not known yet. facts: of the network, None before it is
    open. presets: other preprocessing that could be tried.
    """

    inputs: tuple[Shown, ...]
    samples: tuple[Sample, ...]
    drawn: bool
    worth: Worth | None = None
    facts: Facts | None = None
    presets: tuple[str, ...] = ()


def preview(subject: Subject) -> Preview:
    """The first samples of the test split, run through the network; what it is worth is left out."""
    found = answered(seen(subject.network, subject.data), subject.data, subject.task, subject.model, known=True)
    return replace(
        found,
        facts=Facts(subject.reach, subject.parameters, subject.statistics.size_bytes),
        presets=presets_for(subject) if subject.task.needs_labels else (),
    )


def seen(network: Network, data: Data) -> Preview:
    """The first samples of the test split as the network gets them: all that can be shown before it is open."""
    batch = next(iter(data.samples(Part.TEST, SAMPLES)))
    picked = _picked(network, data, batch, range(length(batch)))
    return Preview(picked.inputs, tuple(Sample(views, ()) for views in picked.seen), data.drawn)


def answered(shown: Preview, data: Data, task: Task, model: nn.Module, *, known: bool = False) -> Preview:
    """The same samples with what the network says of them; raises ModelError for outputs that the task cannot judge.

    known: whether the task is told of the network's outputs already; else it learns from these, and what the network is
    worth on these few is a first figure.
    """
    batch = next(iter(data.samples(Part.TEST, SAMPLES)))
    labels = next(iter(data.labels(Part.TEST, SAMPLES)), None) if data.labelled else None
    with torch.inference_mode(), machine(exclusive=False):
        outputs = call(model, batch)
    task = task if known else task.knowing(outputs)
    samples = [_sample(place, each.seen, task, outputs, labels) for place, each in enumerate(shown.samples)]
    first = None if known or labels is None or not task.needs_labels else _first(task, outputs, labels.numpy(), data)
    return replace(shown, samples=tuple(samples), worth=first)


def _first(task: Task, outputs: Any, labels: np.ndarray, data: Data) -> Worth:
    task.check(labels)
    answers = task.answers(task.comparable(outputs))
    figures = task.baseline(task.score(answers, labels, answers), 0)
    return _worth(task, figures, labels, len(labels), data.length(Part.TEST))


def samples_at(subject: Subject, places: Sequence[int]) -> Picked:
    """Samples of the test split by their numbers, in the order of these; raises ModelError for what has no such one."""
    data = subject.data
    n = data.length(Part.TEST)
    if not places or min(places) < 0 or max(places) >= n:
        raise ModelError(
            f"samples of {subject.name} have numbers from 0 to {n - 1}; got {listed(map(str, places))}. Name some of "
            "these."
        )
    return _picked(subject.network, data, taken(data, Part.TEST, places), places)


def _picked(network: Network, data: Data, batch: Batch, places: Sequence[int]) -> Picked:
    columns, texts = _raw(data, places)
    inputs, seen = [], []
    for each, tensor in zip(network.inputs, parts(batch), strict=True):
        shown = _shown(each, tensor, columns.get(each.name, ()))
        inputs.append(shown)
        seen.append(_seen(shown, tensor, texts.get(each.name, ())))
    return Picked(tuple(inputs), tuple(zip(*seen, strict=True)))


def worth(subject: Subject, n: int | None = None) -> Worth | None:
    """What the baseline is worth on the first n samples of the test split; None for those of a quick evaluation, until
    it ran over all.
    """
    task, n = subject.task, subject.judged.settled if n is None else n
    if not task.needs_labels:
        return None
    return _worth(task, subject.judged.baseline(n), subject.labels, n, len(subject.judged))


def _worth(task: Task, figures: BaselineFigures, labels: np.ndarray, n: int, samples: int) -> Worth:
    low, high = task.interval(figures, n)
    most = np.bincount(labels.reshape(-1)).max() / labels.size
    return Worth(figures.value, low, high, n, task.at_chance(round(figures.value * n), n, float(most)), samples)


def presets_for(subject: Subject) -> tuple[str, ...]:
    """Names of the presets of preprocessing that fit its pictures; none where samples are taken as they are."""
    data = subject.data
    if not isinstance(data, PreparedData):
        return ()
    found = (fitting(each) for each, feed in zip(data.inputs, data.feeds, strict=True) if isinstance(feed, Pictures))
    return tuple(preset.name for preset in next(found, ()))


def _raw(data: Data, places: Sequence[int]) -> tuple[dict[str, tuple[str, ...]], dict[str, list[str]]]:
    """Names of columns and texts that the samples were made of, by the name of the input."""
    if not isinstance(data, PreparedData):
        return {}, {}
    samples = data.split.test_samples
    fields = dict(zip((each.name for each in data.inputs), matched(samples, data.inputs), strict=True))
    columns = {name: field.columns for name, field in fields.items()}
    of_text = {name: field for name, field in fields.items() if field.kind is Kind.TEXT}
    raw = data.raw(Part.TEST, places)[0] if of_text else {}
    texts = {name: [str(each) for each in raw[field.name]] for name, field in of_text.items()}
    return columns, texts


def _shown(each: Input, tensor: Tensor, columns: tuple[str, ...]) -> Shown:
    values = tensor.double()
    low, high, mean = float(values.min()), float(values.max()), float(values.mean())
    return Shown(each.name, each.shape, each.dtype, _look(each), low, high, mean, columns)


def _look(each: Input) -> Look:
    floats, shape = each.dtype.startswith("float"), each.shape
    if floats and len(shape) == 3 and (shape[0] in (1, 3) or shape[2] in (1, 3)):
        return Look.PICTURE
    if floats and len(shape) == 2:
        return Look.CURVES
    if len(shape) == 1:
        return Look.NUMBERS if floats else Look.TOKENS
    return Look.OTHER


def _seen(shown: Shown, tensor: Tensor, texts: Sequence[str]) -> list[Seen]:
    """Each sample of an input."""
    values = tensor.numpy()
    match shown.look:
        case Look.PICTURE:
            return [Seen(picture=each) for each in _pictures(values, shown)]
        case Look.CURVES:
            return [Seen(curves=_curves(each)) for each in values]
        case _:
            told = [cut[:TEXT] for cut in texts] or [""] * len(values)
            rows = values.reshape(len(values), -1)[:, :VALUES].astype(np.float64)
            return [Seen(values=tuple(row.tolist()), text=text) for row, text in zip(rows, told, strict=True)]


def _pictures(values: np.ndarray, shown: Shown) -> np.ndarray:
    """As the network gets them: white is the highest value of all samples shown and black the lowest."""
    scaled = 255 * (values.astype(np.float64) - shown.low) / ((shown.high - shown.low) or 1.0)
    pictures = np.round(np.nan_to_num(scaled)).clip(0, 255).astype(np.uint8)
    if shown.shape[0] in (1, 3):
        pictures = pictures.transpose(0, 2, 3, 1)
    return pictures[..., 0] if pictures.shape[3] == 1 else pictures


def _curves(values: np.ndarray) -> np.ndarray:
    """A signal (channels, time) or (time, channels): its longer axis is time, every so-manieth point is kept."""
    turned = values if values.shape[1] >= values.shape[0] else values.T
    step = max(1, -(-turned.shape[1] // POINTS))
    return np.asarray(turned[:CURVES, ::step], np.float64)


def _sample(place: int, seen: tuple[Seen, ...], task: Task, outputs: Any, labels: Tensor | None) -> Sample:
    if isinstance(task, Classification):
        shares = task.comparable(outputs)[place].exp()
        best = [int(each) for each in shares.argsort(descending=True)[:ANSWERS]]
        answers = tuple(f"{_class(task, each)}: {format_percent(float(shares[each]))}" for each in best)
        label = None if labels is None else int(labels[place])
        return Sample(
            seen, answers, "" if label is None else _class(task, label), None if label is None else label == best[0]
        )
    return Sample(seen, tuple(_told(each[place]) for each in tensors_in(outputs)))


def _class(task: Task, label: int) -> str:
    return task.classes[label] if 0 <= label < len(task.classes) else str(label)


def _told(output: Tensor) -> str:
    """One output of one sample: its first values, and its shape where there are more."""
    values = output.reshape(-1)
    first = ", ".join(f"{float(each):.4g}" for each in values[:OUTPUTS])
    return first if len(values) <= OUTPUTS else f"{first} … ({' x '.join(map(str, output.shape))})"
