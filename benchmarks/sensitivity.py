"""Sensitivity from cached activations against whole forward passes, layer by layer, side by side in one run.

    python -m benchmarks.sensitivity [MODEL ...]

After each layer that `measure_sensitivity` completes, the same settings of that layer are evaluated by whole forward
passes over the test split; recording the passes and running the baseline count for the first. All results must be
identical. Bound: at least 1.6 times faster on resnet-20.
"""

import copy
import math
import time
from collections.abc import Mapping

import torch
from paretoscope.base.progress import Calling
from paretoscope.data.data import CHUNK
from paretoscope.measure.sensitivity import (
    SETTINGS,
    Sensitivity,
    SensitivityPoint,
    coded_bytes,
    compress_alone,
    measure_sensitivity,
)
from paretoscope.measure.subject import Subject
from paretoscope.networks import zoo
from paretoscope.service import subjects

from benchmarks.measured import Table, columns, keep, parser

GRIDS = {"sparsity": (0.8,), "clusters": (8,), "bits": (4, 2)}
BOUND = {"resnet-20": 1.6}


class WholePasses:
    """The slow twin: one layer of a copy of the model is changed, and every test image goes through all of it."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self._model = copy.deepcopy(subject.model)
        self._baseline = self._log_probabilities()

    def points(self, layer: str, grids: Mapping[str, tuple[float, ...]]) -> dict[str, tuple[SensitivityPoint, ...]]:
        weight = self._model.get_parameter(layer).detach()
        original = weight.clone()
        curves = {
            name: tuple(self._point(layer, weight, name, value) for value in grid) for name, grid in grids.items()
        }
        weight.copy_(original)
        return curves

    def _point(self, layer: str, weight: torch.Tensor, setting: str, value: float) -> SensitivityPoint:
        compressed = compress_alone(self._subject.statistics, layer, {**SETTINGS, setting: value})
        coded = coded_bytes(compressed, layer)
        weight.copy_(torch.from_numpy(compressed.decode(layer)))
        correct, divergence = 0, 0.0
        labels = torch.from_numpy(self._subject.labels).split(CHUNK)
        for reference, found, truth in zip(self._baseline, self._log_probabilities(), labels, strict=True):
            correct += int((found.argmax(dim=1) == truth).sum())
            divergence += max(0.0, math.fsum((reference.exp() * (reference - found)).sum(dim=1).tolist()))
        n = len(self._subject.labels)
        return SensitivityPoint(value, correct, n, divergence / n, coded)

    def _log_probabilities(self) -> list[torch.Tensor]:
        with torch.inference_mode():
            chunks = self._subject.data.test_images.split(CHUNK)
            return [self._model(chunk).double().log_softmax(dim=1) for chunk in chunks]


def compare(subject: Subject) -> tuple[float, float, bool]:
    """Seconds from cached activations, seconds by whole passes, and whether all results are identical."""
    twin = WholePasses(subject)
    cached = whole = 0.0
    identical = True
    seen: set[str] = set()
    begun = time.perf_counter()

    def compare(share: float | None, label: str | None, partial: Sensitivity | None) -> None:
        nonlocal cached, whole, identical, begun
        if partial is None:
            return
        cached += time.perf_counter() - begun
        begun = time.perf_counter()
        for layer in partial.curves.keys() - seen:
            identical &= twin.points(layer, GRIDS) == partial.curves[layer]
            seen.add(layer)
        whole += time.perf_counter() - begun
        begun = time.perf_counter()

    measure_sensitivity(subject, grids=GRIDS, progress=Calling(compare))
    return cached, whole, identical


def main() -> None:
    asked = parser(__doc__)
    asked.add_argument("models", nargs="*", default=zoo.models_of("digits"))
    options = asked.parse_args()
    seconds = "{:.1f} s"
    table = Table(
        columns(
            "model", "evaluations", ("cached", seconds), ("whole", seconds), ("ratio", "{:.2f}"), "identical", "bound"
        )
    )
    for name in options.models:
        subject = subjects.load(name)
        cached, whole, identical = compare(subject)
        count = len(subject.statistics.layers) * sum(map(len, GRIDS.values()))
        ratio, bound = whole / cached, BOUND.get(name)
        verdict = "" if bound is None else f">= {bound}: " + ("holds" if ratio >= bound and identical else "MISSED")
        same = "yes" if identical else "NO"
        table.add(name, count, cached, whole, ratio, same, verdict)
    keep("sensitivity", [table], options)


if __name__ == "__main__":
    main()
