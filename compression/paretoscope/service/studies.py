"""The table of studies: one row for everything that can be asked for."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import Any

from paretoscope.export import Verification, formats
from paretoscope.graph.outline import Outline
from paretoscope.measure.latency import Noise, machine_id
from paretoscope.measure.layer_bytes import LayerBytes
from paretoscope.measure.layers import LayerRow
from paretoscope.measure.machine import Machine
from paretoscope.measure.record import Latency
from paretoscope.measure.sensitivity import Sensitivity
from paretoscope.measure.stage import Shot
from paretoscope.recipe.recipe import Recipe, Recover
from paretoscope.runtimes.plans import LayerPlan
from paretoscope.search.cliff import Cliff
from paretoscope.search.suggest import Suggestion, Target
from paretoscope.search.waterfall import Waterfall
from paretoscope.service.additions import Addition, library_mb
from paretoscope.service.jobs import JobKind, Priority
from paretoscope.service.knowledge import Knowledge
from paretoscope.service.limits import Limits
from paretoscope.service.study import Argument, Study, StudyKind
from paretoscope.service.timing import StudyPart, Timing
from paretoscope.service.works import adding, converting, evaluating, filling, training
from paretoscope.service.works import timing as timings
from paretoscope.training.epochs import Recovery

_PLAIN = Argument()
_RECIPE = Argument(Recipe.to_dict, Recipe.from_dict)
_PLACES = Argument(list, tuple)
_TIMING = Argument(asdict, lambda data: Timing(**data))
_TARGET = Argument(asdict, lambda data: Target(**data))


def _write_parts(parts: tuple[StudyPart, ...]) -> list[dict[str, Any]]:
    return [
        {"label": part.label, "what": part.what, "recipe": part.recipe.to_dict(), "timing": asdict(part.timing)}
        for part in parts
    ]


def _read_parts(data: list[dict[str, Any]]) -> tuple[StudyPart, ...]:
    return tuple(
        StudyPart(each["label"], StudyKind(each["what"]), Recipe.from_dict(each["recipe"]), Timing(**each["timing"]))
        for each in data
    )


_PARTS = Argument(_write_parts, _read_parts)
_ADDITION = Argument(Addition.to_dict, Addition.from_dict)

_OF_MODEL = {"model": _PLAIN}
_OF_RECIPE = {"model": _PLAIN, "recipe": _RECIPE}
_OF_TIMING = {"model": _PLAIN, "recipe": _RECIPE, "timing": _TIMING}


def _key(bench: Knowledge, model: str, recipe: Recipe | None = None) -> str:
    """What a study of a network on its data depends on."""
    subject = bench.subject(model)
    return " ".join([subject.statistics.digest, subject.data.digest, recipe.digest if recipe else ""])


def _timing_key(bench: Knowledge, model: str, recipe: Recipe, timing: Timing) -> str:
    return bench.timing_key(model, recipe, timing).to_json()


def _anywhere(document: str) -> Callable[..., tuple[str, str]]:
    """Kind and key of a document that depends on a timing, whatever machine takes it."""

    def place(bench: Knowledge, model: str, recipe: Recipe, timing: Timing) -> tuple[str, str]:
        return document, replace(bench.timing_key(model, recipe, timing), machine="").to_json()

    return place


def _suggestion_place(bench: Knowledge, model: str, target: Target, base: Recipe) -> tuple[str, str]:
    return "suggestion", f"{_key(bench, model, base)} {json.dumps(asdict(target))}"


def _allow_timing(limits: Limits, model: str, recipe: Recipe, timing: Timing) -> None:
    limits.check("batch", "the batch of a timing", timing.batch, "Choose a smaller one.")
    limits.check("threads", "the threads of a timing", timing.threads, "Choose fewer.")


def _allow_recover(limits: Limits, model: str, recipe: Recipe, minutes: float | None = None) -> None:
    step = recipe.recover
    _allow_epochs(limits, 0 if step is None else step.stopped or step.epochs)
    if minutes is not None:
        limits.check("minutes", "the minutes of a training", minutes, "Allow fewer: it can be gone on with.")


def _allow_shrink(limits: Limits, model: str, recipe: Recipe, axis: str, points: float, epochs: int) -> None:
    _allow_epochs(limits, Recover(epochs=epochs).epochs)


def _allow_epochs(limits: Limits, epochs: float) -> None:
    limits.check("epochs", "the epochs of a training", epochs, "Train fewer, or on your own machine.")


def _allow_add(limits: Limits, addition: Addition) -> None:
    limits.check("library", "megabytes of the library", library_mb(), "Remove networks or data that nobody needs.")


def _timing_label(model: str, recipe: Recipe, timing: Timing) -> str:
    number_format = timing.number_format or timing.chosen.number_format(recipe.integer)
    return f"Timing {number_format} in {timing.chosen.title}"


_ROWS = (
    Study(
        kind=StudyKind.EVALUATE,
        arguments=_OF_RECIPE,
        run=evaluating.show,
        find=Knowledge.find,
        label=lambda model, recipe: f"Measuring {recipe.describe()}",
        priority=Priority.NOW,
    ),
    Study(
        kind=StudyKind.TIME,
        arguments=_OF_TIMING,
        run=timings.time,
        find=Knowledge.latency,
        read=Latency.from_dict,
        ships_as=_anywhere("time"),
        shared=Knowledge.timing_key,
        allow=_allow_timing,
        label=_timing_label,
    ),
    Study(
        kind=StudyKind.PROFILE,
        arguments=_OF_TIMING,
        run=timings.profile,
        place=lambda *arguments: ("profile", _timing_key(*arguments)),
        ships_as=_anywhere("profile"),
        read=dict,
        kept=True,
        anew=True,
        label=lambda *_: "Profiling the layers of a recipe",
    ),
    Study(
        kind=StudyKind.PLAN,
        arguments=_OF_TIMING,
        run=timings.plan,
        place=lambda *arguments: ("plan", _timing_key(*arguments)),
        ships_as=_anywhere("plan"),
        read=lambda data: [LayerPlan(**row) for row in data],
        kept=True,
        anew=True,
        label=lambda *_: "Choosing the form of each layer",
    ),
    Study(
        kind=StudyKind.NOISE,
        arguments={"model": _PLAIN, "timing": _TIMING},
        run=timings.noise,
        place=lambda bench, model, timing: ("noise", _timing_key(bench, model, Recipe(), timing)),
        read=lambda data: Noise(**data),
        kept=True,
        anew=True,
        label=lambda *_: "Timing the baseline against itself",
    ),
    Study(
        kind=StudyKind.MEMORY,
        arguments=_OF_TIMING,
        run=timings.memory,
        place=lambda *arguments: ("memory", _timing_key(*arguments)),
        ships_as=_anywhere("memory"),
        read=int,
        kept=True,
        anew=True,
        label=lambda *_: "Measuring memory",
    ),
    Study(
        kind=StudyKind.MACHINE,
        arguments={"threads": _PLAIN},
        run=timings.machine,
        place=lambda bench, threads: ("machine", f"{machine_id('onnxruntime')} {threads}"),
        ships_as=lambda bench, threads: ("machine", str(threads)),
        read=Machine.from_dict,
        kept=True,
        anew=True,
        label=lambda *_: "Measuring this machine",
    ),
    Study(
        kind=StudyKind.LATENCY,
        arguments=_OF_TIMING,
        run=timings.latency,
        allow=_allow_timing,
        label=lambda *_: "Studying the latency",
    ),
    Study(
        kind=StudyKind.MEASURE,
        arguments={"model": _PLAIN, "parts": _PARTS},
        run=timings.measure,
        label=lambda *_: "Measuring the latency",
    ),
    Study(
        kind=StudyKind.FILL,
        arguments=_OF_TIMING,
        run=filling.fill,
        allow=_allow_timing,
        label=lambda *_: "Filling in presets and sweeps",
        priority=Priority.LATER,
    ),
    Study(
        kind=StudyKind.LAYERS,
        arguments=_OF_MODEL,
        run=evaluating.layers,
        read=lambda data: [LayerRow.from_dict(row) for row in data],
        ships_as=lambda bench, model: ("layers", _key(bench, model)),
        label=lambda *_: "Profiling the layers",
    ),
    Study(
        kind=StudyKind.BYTES,
        arguments=_OF_RECIPE,
        run=evaluating.layer_bytes,
        place=lambda bench, model, recipe: ("layer bytes", _key(bench, model, recipe)),
        read=LayerBytes.from_dict,
        kept=True,
        label=lambda model, recipe: f"Counting the bytes of each layer of {recipe.describe()}",
    ),
    Study(
        kind=StudyKind.STAGE,
        arguments=_OF_RECIPE,
        run=evaluating.stage,
        place=lambda bench, model, recipe: ("stage", _key(bench, model, recipe)),
        read=Shot.from_dict,
        kept=True,
        ships=True,
        label=lambda model, recipe: f"Measuring {recipe.describe()}",
    ),
    Study(
        kind=StudyKind.GRAPH,
        arguments=_OF_MODEL,
        run=evaluating.graph,
        place=lambda bench, model: ("graph", bench.subject(model).statistics.digest),
        read=Outline.from_dict,
        kept=True,
        ships=True,
        label=lambda *_: "Following the calls of the network",
    ),
    Study(
        kind=StudyKind.SENSITIVITY,
        arguments=_OF_MODEL,
        run=evaluating.sensitivity,
        place=lambda bench, model: ("sensitivity", _key(bench, model)),
        read=Sensitivity.from_dict,
        kept=True,
        ships=True,
        label=lambda *_: "Measuring each layer alone",
        priority=Priority.ASKED,
    ),
    Study(
        kind=StudyKind.WATERFALL,
        arguments=_OF_RECIPE,
        run=evaluating.waterfall,
        place=lambda bench, model, recipe: ("waterfall", _key(bench, model, recipe)),
        read=Waterfall.from_dict,
        kept=True,
        ships=True,
        label=lambda *_: "Evaluating the steps in every order",
        priority=Priority.ASKED,
    ),
    Study(
        kind=StudyKind.CLIFF,
        arguments={**_OF_RECIPE, "setting": _PLAIN},
        run=evaluating.cliff,
        place=lambda bench, model, recipe, setting: (f"cliff {setting}", _key(bench, model, recipe)),
        read=Cliff.from_dict,
        kept=True,
        label=lambda model, recipe, setting: f"Looking for the cliff of {setting}",
    ),
    Study(
        kind=StudyKind.SUGGEST,
        arguments={"model": _PLAIN, "target": _TARGET, "base": _RECIPE},
        run=evaluating.suggest,
        place=_suggestion_place,
        read=Suggestion.from_dict,
        kept=True,
        ships=True,
        label=lambda *_: "Looking for a recipe",
    ),
    Study(
        kind=StudyKind.ALLOT,
        arguments={**_OF_RECIPE, "size": _PLAIN, "harm": _PLAIN},
        run=evaluating.allot,
        label=lambda *_: "Looking for an exchange rate",
    ),
    Study(
        # What is known is the verification alone: the files are made anew.
        kind=StudyKind.CONVERT,
        arguments={**_OF_RECIPE, "format": _PLAIN},
        run=converting.convert,
        place=lambda bench, model, recipe, format: (
            f"conversion {format} in {formats.get(format).runtime}",
            _key(bench, model, recipe),
        ),
        read=Verification.from_dict,
        label=lambda model, recipe, format: f"Converting to {formats.get(format).title}",
    ),
    Study(
        # A trained model is the same file whatever version looks at it. A training that runs already is joined, with
        # its own budget.
        kind=StudyKind.RECOVER,
        arguments={**_OF_RECIPE, "minutes": _PLAIN},
        run=training.recover,
        place=lambda bench, model, recipe, minutes=None: ("recovery", _key(bench, model, recipe)),
        read=Recovery.from_dict,
        lasting=True,
        anew=True,
        shared=lambda bench, model, recipe, minutes=None: (model, recipe),
        allow=_allow_recover,
        label=lambda model, recipe, minutes=None: f"Training {recipe.untrained.describe()}",
        priority=Priority.TRAINING,
        job=JobKind.TRAINING,
    ),
    Study(
        kind=StudyKind.SHRINK,
        arguments={**_OF_RECIPE, "axis": _PLAIN, "points": _PLAIN, "epochs": _PLAIN},
        run=training.shrink,
        allow=_allow_shrink,
        label=lambda model, recipe, axis, points, epochs: f"Shrinking the {axis}",
        priority=Priority.TRAINING,
        job=JobKind.TRAINING,
    ),
    Study(
        kind=StudyKind.ADD,
        arguments={"addition": _ADDITION},
        run=adding.add,
        allow=_allow_add,
        label=lambda addition: f"Adding {addition.name}",
        priority=Priority.NOW,
    ),
    Study(
        kind=StudyKind.PREVIEW,
        arguments=_OF_MODEL,
        run=adding.look,
        label=lambda model: f"Running samples through {model}",
        priority=Priority.NOW,
    ),
    Study(
        kind=StudyKind.SAMPLES,
        arguments={"model": _PLAIN, "places": _PLACES},
        run=adding.pick,
        label=lambda model, places: f"Reading {len(places)} samples of {model}",
        priority=Priority.NOW,
    ),
    Study(
        kind=StudyKind.MAPS,
        arguments={"model": _PLAIN, "before": _RECIPE, "after": _RECIPE, "places": _PLACES},
        run=adding.maps,
        label=lambda model, before, after, places: f"Running {len(places)} samples through {model}",
    ),
    Study(
        kind=StudyKind.BASELINE,
        arguments=_OF_MODEL,
        run=adding.baseline,
        label=lambda model: f"Running {model} over all test samples",
        priority=Priority.SOON,
    ),
    Study(
        kind=StudyKind.RANK,
        arguments=_OF_MODEL,
        run=adding.rank,
        label=lambda model: f"Trying each preset of preprocessing on {model}",
        priority=Priority.ASKED,
    ),
    Study(
        kind=StudyKind.TAKE,
        arguments={"model": _PLAIN, "preset": _PLAIN},
        run=adding.take,
        label=lambda model, preset: f"Changing the preprocessing of {model}",
        priority=Priority.NOW,
    ),
)

STUDIES: Mapping[StudyKind, Study] = {row.kind: row for row in _ROWS}
