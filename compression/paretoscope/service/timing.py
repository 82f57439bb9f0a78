"""How latency is measured, and what is measured of it: plain data that a request carries."""

import os
from dataclasses import dataclass, replace
from typing import Any

from paretoscope import runtimes
from paretoscope.recipe.recipe import Recipe
from paretoscope.service.study import StudyKind

STUDY_BATCHES = (1, 2, 4, 8, 16, 32)
HALF = 0.5


@dataclass(frozen=True, slots=True)
class Timing:
    """How latency is measured: the runtime's name, samples a batch, threads, height and width of the images.

    size: None for the model's own. number_format: None for the recipe's.
    """

    runtime: str = "onnxruntime"
    batch: int = 1
    threads: int = 1
    size: int | None = None
    number_format: str | None = None

    @property
    def chosen(self) -> runtimes.Runtime:
        """The runtime; raises UnknownNameError."""
        return runtimes.runtimes.get(self.runtime)

    @property
    def told(self) -> str:
        """What milliseconds are of, after "ms per": "batch of 1, ONNX Runtime, 1 thread"."""
        return f"batch of {self.batch}, {self.chosen.title}, {self.threads} thread{'s' * (self.threads > 1)}"


@dataclass(frozen=True, slots=True)
class StudyPart:
    """A measurement of a recipe under a timing, of which only the setting counts for a machine.

    what: TIME, EVALUATE, PROFILE, PLAN, NOISE, MACHINE or MEMORY; the workbench knows it afterwards. label: what a
    person is told meanwhile.
    """

    label: str
    what: StudyKind
    recipe: Recipe
    timing: Timing

    def arguments(self, model: str) -> tuple[Any, ...]:
        """Those of the study of that kind, on a model."""
        if self.what is StudyKind.MACHINE:
            return (self.timing.threads,)
        if self.what is StudyKind.NOISE:
            return model, self.timing
        return (model, self.recipe) if self.what is StudyKind.EVALUATE else (model, self.recipe, self.timing)


def study_parts(recipe: Recipe, timing: Timing) -> list[StudyPart]:
    """All that is shown of a recipe's latency, the most important first."""
    groups = study_timings(recipe, timing)
    told = f"batch {timing.batch}, {timing.threads} thread{'s' * (timing.threads > 1)}"
    return [
        StudyPart(f"Timing in {timing.chosen.title}, {told}", StudyKind.TIME, recipe, timing),
        StudyPart("Profiling the layers", StudyKind.PROFILE, recipe, timing),
        StudyPart("Profiling the baseline's layers", StudyKind.PROFILE, Recipe(), timing),
        *(
            [StudyPart("Choosing the form of each layer", StudyKind.PLAN, recipe, timing)]
            if timing.chosen.sees_zeros
            else []
        ),
        StudyPart("Timing the baseline against itself", StudyKind.NOISE, Recipe(), timing),
        *(
            StudyPart(f"Timing {each.number_format} in {each.chosen.title}", StudyKind.TIME, recipe, each)
            for each in groups["runtimes"]
            if not each.chosen.missing
        ),
        *(
            StudyPart(f"{label} {name}", what, each, timing)
            for name, each in alternatives(recipe, timing).items()
            for label, what in (("Timing", StudyKind.TIME), ("Evaluating", StudyKind.EVALUATE))
        ),
        *(StudyPart(f"Timing batch {each.batch}", StudyKind.TIME, recipe, each) for each in groups["batch"]),
        *(StudyPart(f"Timing {each.threads} threads", StudyKind.TIME, recipe, each) for each in groups["threads"]),
        StudyPart("Measuring this machine", StudyKind.MACHINE, recipe, timing),
        StudyPart("Measuring memory", StudyKind.MEMORY, recipe, timing),
        StudyPart("Measuring the baseline's memory", StudyKind.MEMORY, Recipe(), timing),
    ]


def study_timings(recipe: Recipe, timing: Timing) -> dict[str, list[Timing]]:
    """The timings of a recipe that the figures of latency show.

    "runtimes": every runtime in every number format that the recipe can run in, installed or not; "batch" and
    "threads": the chosen runtime over batches, and over threads up to the cores of this machine.
    """
    formats = ("fp32", "int8") if recipe.integer else ("fp32",)
    cores = os.cpu_count() or 1
    counts = [2**power for power in range(cores.bit_length()) if 2**power < cores] + [cores]
    return {
        "runtimes": [
            replace(timing, runtime=runtime.name, number_format=number_format)
            for runtime in runtimes.runtimes
            for number_format in runtime.number_formats
            if number_format in formats
        ],
        "batch": [replace(timing, batch=batch) for batch in sorted({*STUDY_BATCHES, timing.batch})],
        "threads": [replace(timing, threads=threads) for threads in sorted({*counts, timing.threads})],
    }


def alternatives(recipe: Recipe, timing: Timing) -> dict[str, Recipe]:
    """What else might be faster in a runtime, by name: recipes that change one thing about this one."""
    settings = recipe.untrained.settings()
    found = {}
    if settings["nodes"] < HALF:
        found["half the channels"] = Recipe.of(**{**settings, "nodes": HALF})
    if not recipe.integer and "int8" in timing.chosen.number_formats:
        found["integer kernels"] = Recipe.of(**{**settings, "bits": min(settings["bits"], 8), "activations": 8})
    return found
