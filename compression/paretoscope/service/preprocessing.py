"""Which preprocessing a network was trained with: a wrong normalisation is the commonest mistake, and hard to see."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch

from paretoscope.base.batch import Batch, head, length
from paretoscope.base.errors import ModelError
from paretoscope.base.progress import SILENT, Progress
from paretoscope.data.data import Part
from paretoscope.data.prepared import PreparedData, prepare
from paretoscope.data.preprocess import PreprocessPreset
from paretoscope.data.samples import Samples
from paretoscope.networks.network import Network
from paretoscope.tasks import Answers, tasks
from paretoscope.tasks.reference import run

# Samples that each preset is tried on, and how many run at once; chosen by hand, no benchmark.
SAMPLES, CHUNK = 64, 16


@dataclass(frozen=True, slots=True)
class Ranked:
    """What the baseline is worth with a preset's preprocessing, on n samples of the train part: the task's headline
    figure, and its 95 % interval."""

    preset: PreprocessPreset
    value: float
    low: float
    high: float
    n: int


def rank_presets(
    network: Network,
    samples: Samples,
    presets: Iterable[PreprocessPreset],
    *,
    count: int = SAMPLES,
    progress: Progress = SILENT,
) -> list[Ranked]:
    """Presets by the figure that the uncompressed network reaches with them, the best first; those that are equal stay
    in their order.

    The first `count` samples of the train part are run with each: the test part is not looked at. progress: told before
    each preset, with those so far. Raises ModelError for a task without labels, whose figure cannot tell them apart,
    and DataError where samples do not fit.
    """
    kind = tasks.get(network.task)
    if not kind.needs_labels:
        raise ModelError(
            f"preprocessing is told apart by labels; {network.name} is judged by {kind.words.name}, which needs none. "
            "Add labels, or compare the pictures of the samples."
        )
    model, presets = network.load(), list(presets)
    found: list[Ranked] = []
    for done, preset in enumerate(presets):
        progress.report(done, len(presets), label=preset.title, partial=list(found))
        data = prepare(samples, network.inputs, preset.preprocess, outputs=network.outputs)
        chunks = list(_first(data, count))
        labels = torch.cat(list(_first_labels(data, count))).numpy()
        task = kind(data.classes)
        task = task.knowing(run(model, chunks[0]))
        *_, answers = _told(task.answer(model, chunks), done, len(chunks), len(presets), progress)
        figures = task.score(answers, labels, answers)
        found.append(Ranked(preset, figures.value, figures.low, figures.high, figures.n))
    return sorted(found, key=lambda each: -each.value)


def _told(answers: Iterator[Answers], done: int, chunks: int, presets: int, progress: Progress) -> Iterator[Answers]:
    for part, each in enumerate(answers, 1):
        yield each
        progress.report(done + part / (chunks + 1), presets)


def _first(data: PreparedData, count: int) -> Iterator[Batch]:
    for chunk in data.samples(Part.TRAIN, CHUNK):
        if count <= 0:
            return
        yield head(chunk, min(count, length(chunk)))
        count -= length(chunk)


def _first_labels(data: PreparedData, count: int) -> Iterator[torch.Tensor]:
    for labels in data.labels(Part.TRAIN, CHUNK):
        if count <= 0:
            return
        yield labels[:count]
        count -= len(labels)
