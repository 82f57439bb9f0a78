"""Measurements made up for tests: at once, always the same, and noted."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import timings
from paretoscope import runtimes
from paretoscope.base.progress import SILENT
from paretoscope.measure.latency import Measurement, Noise, Samples
from paretoscope.measure.machine import Machine
from paretoscope.measure.subject import Subject
from paretoscope.recipe.recipe import Recipe
from paretoscope.runtimes.plans import LayerPlan
from paretoscope.service.works import timing as works

SAMPLES = Samples(np.arange(1, 101) / 64, np.arange(100, 0, -1) / 32)
NOISE = Noise(1.0, 0.99, 1.01, 15, "precision")
MEMORY = 3_000_000
PROFILE = {"fc1.weight": 6.0, "fc2.weight": 2.0, "fc3.weight": 1.0, "other": 1.0}
PLAN = [
    LayerPlan("fc1.weight", 0.05, "blocks of 8", 50_000, 0.14, 7.0, 3.0),
    LayerPlan("fc2.weight", 0.1, "dense", 30_000, 0.05, 2.0, None),
    LayerPlan("fc3.weight", 0.3, "rows", 300, 1.0, 1.0, 0.1),
]


@dataclass(frozen=True)
class Taken:
    """A measurement that was taken. settings: what it was asked to take care of, e.g. budget_s."""

    what: str
    recipe: str
    runtime: str = ""
    number_format: str = ""
    batch: int = 1
    threads: int = 1
    size: int | None = None
    settings: tuple[tuple[str, float], ...] = ()


def machine(threads: int = 1) -> Machine:
    """Round figures: 1 GFLOP/s, 1 GB/s from everywhere, a microsecond a call."""
    curve = ((16_384, 1e9), (2**28, 1e9))
    return Machine("made up", threads, 1e9, 4e9, (1e9, 4e9), (1e9, 4e9), curve, 1e9, 1e-6, 1e-7, 1e-7)


def milliseconds(recipe: Recipe, runtime: str, number_format: str, batch: int) -> float:
    """Integers take half, half of the nodes 5 / 8; where zeros count, s of them leave (1 - s)^2."""
    ms = float(batch)
    if number_format == "int8":
        ms /= 2
    if recipe.simplify is not None:
        ms *= 0.625
    if runtimes.runtimes.get(runtime).sees_zeros and recipe.prune is not None:
        ms *= (1 - recipe.prune.sparsity) ** 2
    return ms


def fake(monkeypatch: pytest.MonkeyPatch) -> list[Taken]:
    """Nothing is measured within the test; returns the list of what would have been."""
    log: list[Taken] = []

    def time(
        self, compressed, runtime, batch=1, threads=1, *, size=None, number_format=None, progress=SILENT, **settings
    ) -> Measurement:
        progress.report()
        recipe = compressed.recipe
        number_format = number_format or runtimes.runtimes.get(runtime).number_format(recipe.integer)
        described = recipe.describe()
        log.append(
            Taken("time", described, runtime, number_format, batch, threads, size, tuple(sorted(settings.items())))
        )
        ms = milliseconds(recipe, runtime, number_format, batch)
        latency = timings.latency(
            ms,
            batch / ms,
            runtime=runtime,
            number_format=number_format,
            batch=batch,
            threads=threads,
            size=size or 28,
            measured_for=recipe.digest,
        )
        return Measurement(latency, SAMPLES)

    def noise(self, runtime, batch=1, threads=1, *, size=None, progress=SILENT, **settings) -> Noise:
        log.append(Taken("noise", "", runtime, "", batch, threads, size, tuple(sorted(settings.items()))))
        return NOISE

    def profile(self, compressed, runtime, batch=1, threads=1, *, size=None, number_format=None) -> dict[str, float]:
        number_format = number_format or runtimes.runtimes.get(runtime).number_format(compressed.recipe.integer)
        log.append(Taken("profile", compressed.recipe.describe(), runtime, number_format, batch, threads, size))
        return dict(PROFILE)

    def memory(model, recipe, runtime, batch, threads, size, number_format) -> int:
        log.append(Taken("memory", recipe.describe(), runtime, number_format, batch, threads, size))
        return MEMORY

    def measure_machine(threads=1, progress=SILENT) -> Machine:
        log.append(Taken("machine", "", threads=threads))
        return machine(threads)

    def plan(program, images, threads=1) -> list[LayerPlan]:
        log.append(Taken("plan", "", program.runtime, batch=len(images), threads=threads))
        return list(PLAN)

    for name, made_up in (("time", time), ("noise", noise), ("profile", profile)):
        monkeypatch.setattr(Subject, name, made_up)
    monkeypatch.setattr(works, "session_memory", memory)
    monkeypatch.setattr(works, "measure_machine", measure_machine)
    for name, entry in list(runtimes.runtimes._entries.items()):
        if entry.plan is not None:
            monkeypatch.setitem(runtimes.runtimes._entries, name, replace(entry, plan=plan))
    return log
