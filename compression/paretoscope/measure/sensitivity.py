"""Sensitivity: what the model loses when only one layer is pruned, shared or quantized, over the whole range.

Every evaluation starts at the changed layer: the activations that it and the later layers read are kept from the
baseline, for one layer at a time, and the layers before it are not run again. The outputs are those of a whole forward
pass, bit for bit.
"""

import copy
import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from paretoscope import codec
from paretoscope.base.batch import Batch, head, length, tensors_in
from paretoscope.base.errors import ModelError, RecipeError
from paretoscope.base.lock import machine
from paretoscope.base.progress import SILENT, Progress
from paretoscope.base.text import listed, nearest, shown
from paretoscope.measure.replay import Replay
from paretoscope.measure.subject import Subject
from paretoscope.methods.pipeline import compress
from paretoscope.model.compressed import CompressedModel
from paretoscope.model.statistics import ModelStatistics
from paretoscope.recipe.recipe import Recipe
from paretoscope.tasks.reference import run

# Values of each setting; `python -m benchmarks.sensitivity` shows the time that they take.
GRIDS: Mapping[str, tuple[float, ...]] = {
    "sparsity": (0.3, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98),
    "clusters": (64, 32, 16, 8, 4, 2),
    "bits": (8, 6, 5, 4, 3, 2, 1),
}

# How the layer is compressed beside the setting that varies: at few bits the clipping of least error is the fair one.
SETTINGS: Mapping[str, Any] = {"calibration": "mse"}

# Bytes of activations that are kept; more test images than fit are measured in several blocks. Chosen by hand.
MEMORY = 256 * 2**20


@dataclass(frozen=True, slots=True)
class SensitivityPoint:
    """A point of a sensitivity curve: a model in which one layer has another setting.

    value: of the setting. correct: of n test samples, the sum of how right each is where the task counts no answers as
    right or wrong. kl: mean over them of the divergence of its outputs from the
    baseline's, the task's own; finer than counts. bytes: of the layer, coded (with ANS) on its own.
    """

    value: float
    correct: float
    n: int
    kl: float
    bytes: int


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """The curves of a model, as far as they were measured.

    correct: of n test samples, as in the points, of the uncompressed model. settings: what else each layer was
    compressed with. layer_bytes: of each measured layer, coded without loss. curves: by layer and by setting, the
    points in the order of the grid.
    """

    model: str
    correct: float
    n: int
    settings: Mapping[str, Any]
    layer_bytes: Mapping[str, int]
    curves: Mapping[str, Mapping[str, tuple[SensitivityPoint, ...]]] = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Sensitivity":
        """What `to_dict` wrote; KeyError, TypeError or AttributeError when it is not that."""
        curves = {
            layer: {setting: tuple(SensitivityPoint(**point) for point in points) for setting, points in curve.items()}
            for layer, curve in data["curves"].items()
        }
        return cls(**{**data, "curves": curves})


def compress_alone(statistics: ModelStatistics, layer: str, settings: Mapping[str, Any]) -> CompressedModel:
    """A model of one layer alone, compressed with these settings of a recipe."""
    chosen = statistics.layers[layer]
    turned = {name: groups for name, groups in statistics.turned.items() if name == layer}
    alone = ModelStatistics(statistics.architecture, {layer: chosen}, {}, (layer,), chosen.magnitudes, turned=turned)
    return compress(alone, Recipe.of(**settings), source=statistics.digest)


@machine(exclusive=False)
def coded_bytes(compressed: CompressedModel, layer: str) -> int:
    """Bytes of one layer's streams (codes, scales, codebook) when it is coded on its own."""
    alone = dataclasses.replace(compressed, weights={layer: compressed.weights[layer]}, rest={}, order=(layer,))
    return codec.write_streams(alone, compressed.recipe.code.coder).size()


def measure_sensitivity(
    subject: Subject,
    layers: Iterable[str] | None = None,
    grids: Mapping[str, Sequence[float]] = GRIDS,
    settings: Mapping[str, Any] = SETTINGS,
    progress: Progress = SILENT,
    memory: int = MEMORY,
) -> Sensitivity:
    """Measure each of `layers` (state-dict names; all by default) at every value of the grids.

    settings: of the recipe, beside the one that varies. progress: told after every chunk of test images,
    with the curves so far each time that a layer is complete; what it raises ends the work.
    memory: bytes of activations to keep at most (one chunk's at least); the working memory of a forward pass over a
    chunk comes on top. Raises ModelError or RecipeError.
    """
    chosen = _chosen(subject, layers)
    _check_grids(grids)
    run = _Run(subject, chosen, grids, settings, progress, memory)
    return run.measure()


@dataclass(slots=True)
class _Sums:
    """Sums over the test samples so far, with one layer at one value; bytes: of the layer, coded."""

    correct: float = 0
    divergence: float = 0.0
    bytes: int = 0


class _Run:
    """One measurement: the module whose weights are changed, the recorded passes, the sums so far.

    _chunks: of the test split; _block: how many of them are measured together.
    """

    def __init__(
        self,
        subject: Subject,
        layers: Sequence[str],
        grids: Mapping[str, Sequence[float]],
        settings: Mapping[str, Any],
        progress: Progress,
        memory: int,
    ) -> None:
        self._subject, self._task = subject, subject.task
        self._grids = grids
        self._settings = settings
        self._progress = progress
        model = copy.deepcopy(subject.model).eval()
        self._model = model
        self._weights = {name: model.get_parameter(name) for name in layers}
        first = next(iter(subject.judged.chunks()))
        n, chunk = len(subject.judged), subject.judged.chunk
        lengths = {min(chunk, n - start) for start in range(0, n, chunk)}
        self._replays = {each: Replay.record(model, head(first, each)) for each in lengths}
        replay = self._replays[max(lengths)]
        self._layers = sorted(layers, key=replay.cut)
        most = max(replay.alive_bytes(replay.cut(name)) for name in layers)
        self._chunks = math.ceil(n / chunk)
        self._block = max(1, memory // most)
        self._sums = {(name, setting): [_Sums() for _ in grid] for name in layers for setting, grid in grids.items()}
        self._layer_bytes: dict[str, int] = {}
        self._n = 0
        self._correct: float = 0
        self._done = 0
        self._total = self._chunks * len(layers) * sum(map(len, grids.values()))

    def measure(self) -> Sensitivity:
        judged = self._subject.judged
        pairs = zip(judged.chunks(), torch.from_numpy(judged.labels).split(judged.chunk), strict=True)
        for start in range(0, self._chunks, self._block):
            chunks, truths = zip(*islice(pairs, self._block), strict=True)
            self._measure_block(chunks, truths, last=start + self._block >= self._chunks)
        return self._sensitivity(self._layers)

    def _measure_block(self, chunks: Sequence[Batch], labels: Sequence[Tensor], *, last: bool) -> None:
        replays = [self._replays[length(chunk)] for chunk in chunks]
        kept = [replay.start(chunk) for replay, chunk in zip(replays, chunks, strict=True)]
        baseline, truths = [], []
        for replay, values, chunk, known in zip(replays, kept, chunks, labels, strict=True):
            outputs = replay.outputs(values, 0)
            self._confirm(outputs, chunk)
            truths.append(known if self._task.needs_labels else outputs)
            self._n += length(chunk)
            self._correct += _total(self._task.correct(outputs, truths[-1]))
            baseline.append(self._task.comparable(outputs))
            self._progress.report(self._done, self._total)
        positions = [0] * len(chunks)
        for count, name in enumerate(self._layers, 1):
            for i, replay in enumerate(replays):
                cut = replay.cut(name)
                replay.run(kept[i], positions[i], cut)
                positions[i] = cut
            pieces = list(zip(replays, kept, positions, truths, baseline, strict=True))
            self._measure_layer(name, pieces)
            partial = self._sensitivity(self._layers[:count]) if last else None
            self._progress.report(self._done, self._total, partial=partial)

    def _measure_layer(self, name: str, pieces: Sequence[tuple[Replay, dict[int, Tensor], int, Any, Batch]]) -> None:
        weight = self._weights[name]
        original = weight.detach().clone()
        statistics = self._subject.statistics
        self._layer_bytes[name] = coded_bytes(compress_alone(statistics, name, {}), name)
        for setting, grid in self._grids.items():
            for value, sums in zip(grid, self._sums[name, setting], strict=True):
                compressed = compress_alone(statistics, name, {**self._settings, setting: value})
                sums.bytes = coded_bytes(compressed, name)
                _set(weight, torch.from_numpy(np.ascontiguousarray(compressed.decode(name))))
                for replay, values, start, truth, reference in pieces:
                    outputs = replay.outputs(values, start)
                    sums.correct += _total(self._task.correct(outputs, truth))
                    sums.divergence += self._divergence(reference, outputs)
                    self._done += 1
                    self._progress.report(self._done, self._total)
        _set(weight, original)

    def _confirm(self, outputs: Any, chunk: Batch) -> None:
        pairs = zip(tensors_in(outputs), tensors_in(run(self._model, chunk)), strict=True)
        if not all(_same(one, other) for one, other in pairs):
            raise ModelError(
                f"sensitivity needs a network that makes the same calls for all samples; {self._subject.name} does "
                "not. Evaluate recipes with overrides instead."
            )

    def _divergence(self, reference: Batch, outputs: Any) -> float:
        """Sum over the samples of the divergence of raw outputs from a reference."""
        return max(0.0, math.fsum(self._task.divergence(reference, self._task.comparable(outputs)).tolist()))

    def _sensitivity(self, layers: Sequence[str]) -> Sensitivity:
        measured = [name for name in self._subject.statistics.layers if name in set(layers)]
        curves = {
            name: {
                setting: tuple(
                    SensitivityPoint(value, sums.correct, self._n, sums.divergence / self._n, sums.bytes)
                    for value, sums in zip(grid, self._sums[name, setting], strict=True)
                )
                for setting, grid in self._grids.items()
            }
            for name in measured
        }
        coded = {name: self._layer_bytes[name] for name in measured}
        return Sensitivity(self._subject.name, self._correct, self._n, dict(self._settings), coded, curves)


def _chosen(subject: Subject, layers: Iterable[str] | None) -> list[str]:
    known = list(subject.statistics.layers)
    chosen = known if layers is None else list(dict.fromkeys(layers))
    unknown = [name for name in chosen if name not in subject.statistics.layers]
    if unknown or not chosen:
        raise ModelError(
            f"the layers of {subject.name} are {listed(known)}; got {listed(map(shown, unknown)) or 'none'}."
            f"{nearest(unknown[0], known) if unknown else ''} "
            "Name one or more of these."
        )
    return chosen


def _check_grids(grids: Mapping[str, Sequence[float]]) -> None:
    unknown = sorted(set(grids) - set(GRIDS))
    if unknown or not any(grids.values()):
        raise RecipeError(
            f"a grid must be one of {', '.join(GRIDS)}; got {', '.join(unknown) or 'no values'}. Pass values for these."
        )


def _total(right: Tensor) -> float:
    """A count where samples are right or wrong, else the sum."""
    return int(right.sum()) if right.dtype == torch.bool else math.fsum(right.tolist())


def _same(one: Tensor, other: Tensor) -> bool:
    """Whether both have the same values, what is no number included."""
    return torch.equal(one, other) or (one.is_floating_point() and torch.allclose(one, other, 0, 0, equal_nan=True))


def _set(weight: Tensor, value: Tensor) -> None:
    with torch.no_grad():
        weight.copy_(value)
