"""Everything of a recipe's latency by one call: measured where it is not known, and gathered in a report."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from paretoscope import runtimes
from paretoscope.base.errors import CompressionError, ModelError
from paretoscope.base.progress import SILENT, Progress
from paretoscope.measure.devices import devices, project
from paretoscope.measure.latency import Samples, check_batch
from paretoscope.measure.machine import Machine
from paretoscope.measure.record import Record
from paretoscope.measure.roofline import Estimate, LayerWork, estimate
from paretoscope.recipe.recipe import Recipe
from paretoscope.runtimes.onnx_graph import Arrays
from paretoscope.runtimes.plans import sparse_layers
from paretoscope.runtimes.pytorch import PYTORCH
from paretoscope.search.verdict import Alternative, Verdict, judge
from paretoscope.service.jobs import Job, State
from paretoscope.service.latency_report import (
    QUANTILES,
    CallQuantiles,
    DeviceEstimate,
    LatencyReport,
    LayerTime,
    OtherRecipe,
    RuntimeDetails,
    TimingRow,
)
from paretoscope.service.study import StudyKind
from paretoscope.service.timing import StudyPart, Timing, alternatives, study_timings
from paretoscope.service.workbench import Workbench
from paretoscope.tasks import tasks

ALL = "all"
_PAUSE_S = 0.05


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked. first: each runtime and number format at the first batch and threads; grid: all timings.

    main: the timing that the verdict is on.
    """

    model: str
    recipe: Recipe
    main: Timing
    first: tuple[Timing, ...]
    grid: tuple[Timing, ...]

    def parts(self) -> list[StudyPart]:
        """What must be measured to answer it, the most important first."""
        recipe, there = self.recipe, [timing for timing in self.first if not timing.chosen.missing]
        baselines = list(dict.fromkeys(_unbound(timing) for timing in there))
        profiled = [(recipe, timing) for timing in there] + [(Recipe(), timing) for timing in baselines]
        return [
            *(StudyPart(f"Timing {_name(timing)}", StudyKind.TIME, recipe, timing) for timing in there),
            *(
                StudyPart(f"Profiling {_side(each)} {_name(timing)}", StudyKind.PROFILE, each, timing)
                for each, timing in profiled
                if timing.chosen.profile is not None
            ),
            *(
                StudyPart(f"Choosing the form of each layer {_name(timing)}", StudyKind.PLAN, recipe, timing)
                for timing in there
                if timing.chosen.sees_zeros
            ),
            *(
                StudyPart(f"Timing the baseline against itself {_name(timing)}", StudyKind.NOISE, Recipe(), timing)
                for timing in baselines
            ),
            *(
                StudyPart(f"{label} {name} {_name(_unbound(self.main))}", what, each, _unbound(self.main))
                for name, each in alternatives(recipe, self.main).items()
                for label, what in (("Timing", StudyKind.TIME), ("Evaluating", StudyKind.EVALUATE))
                if not self.main.chosen.missing
            ),
            *(
                StudyPart(f"Timing {_name(timing)}", StudyKind.TIME, recipe, timing)
                for timing in self.grid
                if timing not in self.first and not timing.chosen.missing
            ),
            StudyPart("Measuring this machine", StudyKind.MACHINE, recipe, self.main),
            *(
                StudyPart(f"Measuring the memory of {_side(each)} {_name(timing)}", StudyKind.MEMORY, each, timing)
                for each, timing in profiled
            ),
        ]


def ask(
    bench: Workbench,
    model: str,
    recipe: Recipe,
    names: Iterable[str] = ("onnxruntime",),
    batches: Iterable[int] = (1,),
    threads: Iterable[int] = (1,),
    size: int | None = None,
) -> Question:
    """The question, checked: raises UnknownNameError for a model or runtime, ModelError for a batch, threads or size.

    names: of runtimes, "all" for every one. size: height and width of the images, None for the model's own.
    """
    wanted = list(dict.fromkeys(names))
    batches, threads = list(dict.fromkeys(batches)), list(dict.fromkeys(threads))
    chosen = list(runtimes.runtimes.names()) if ALL in wanted else [runtimes.runtimes.get(name).name for name in wanted]
    for batch in batches:
        check_batch(batch)
    for count in threads:
        if count < 1:
            raise ModelError(f"threads must be a whole number of at least 1; got {count}. Pass e.g. 1.")
    subject = bench.subject(model)
    if size is not None and size == _height(subject.resized(None)):
        size = None
    # PyTorch takes what the model takes: a size that it cannot is told before anything is measured.
    subject.program(bench.compressed(model, recipe), PYTORCH.name, size=size)
    main = Timing(chosen[0], batches[0], threads[0], size)
    order = [timing for timing in study_timings(recipe, main)["runtimes"] if timing.runtime in chosen]
    own = main.chosen.number_format(recipe.integer)
    order.sort(key=lambda timing: (chosen.index(timing.runtime), timing.number_format != own))
    grid = [replace(each, batch=batch, threads=count) for each in order for batch in batches for count in threads]
    return Question(model, recipe, order[0], tuple(order), tuple(grid))


def _height(samples: Arrays) -> int:
    """Of images (n, channels, height, width); 0 for other samples, which have no size to choose."""
    return samples.shape[2] if isinstance(samples, np.ndarray) and samples.ndim == 4 else 0


def study(bench: Workbench, question: Question, progress: Progress = SILENT) -> LatencyReport:
    """Measure what is not known yet and gather everything. progress: told what is being done, by its label.

    Raises CompressionError where nothing at all could be timed, with the first reason.
    """
    model, recipe = question.model, question.recipe
    known = {timing: bench.latency(model, recipe, timing) for timing in question.grid}
    stored = {timing for timing, latency in known.items() if latency is not None and latency.decided}
    progress.report(label=f"Evaluating {recipe.describe()}")
    record = _wait(bench.evaluate(model, recipe)).record
    parts = tuple(question.parts())
    _wait(bench.ask(StudyKind.MEASURE, model, parts), progress, len(parts))
    rows = tuple(_rows(bench, question, stored))
    if all(row.latency is None for row in rows):
        raise CompressionError(rows[0].note)
    machine = bench.known(StudyKind.MACHINE, question.main.threads)
    details = tuple(
        _details(bench, question, timing, machine) for timing in question.first if not timing.chosen.missing
    )
    others = tuple(_others(bench, question))
    return LatencyReport(
        model=model,
        dataset=record.dataset,
        recipe=recipe,
        batch=question.main.batch,
        threads=question.main.threads,
        size=_height(bench.subject(model).resized(question.main.size)),
        artefact_bytes=record.size.artefact,
        verdict=_verdict(bench, question, record, details, others),
        timings=rows,
        details=details,
        others=others,
        machine=machine,
        devices=tuple(_devices(bench, question, record)),
    )


def _wait(job: Job, progress: Progress = SILENT, parts: int = 0) -> Any:
    """The result of a job; raises CompressionError where it failed. parts: that it tells of, one after the other."""
    told = None
    try:
        while not job.wait(_PAUSE_S):
            job.keep()
            if parts and job.partial not in (None, told):
                told, done = job.partial, round(job.progress * parts)
                progress.report(done, parts, label=f"{told} ({done + 1} of {parts})")
    except BaseException:
        job.cancel()
        raise
    if job.state is not State.DONE:
        raise CompressionError(job.error or "a measurement must not be cancelled; it was. Start it again.")
    return job.result


def _unbound(timing: Timing) -> Timing:
    """In the number format of whatever recipe is run: fp32 for the baseline."""
    return replace(timing, number_format=None)


def _number_format(timing: Timing) -> str:
    assert timing.number_format is not None, "`study_timings` names the number format of each"
    return timing.number_format


def _side(recipe: Recipe) -> str:
    return "the baseline" if recipe == Recipe() else "the recipe"


def _name(timing: Timing) -> str:
    where = f"{timing.chosen.title} {timing.number_format or ''}".strip()
    return f"in {where}, batch {timing.batch}, {timing.threads} thread{'s' * (timing.threads > 1)}"


def _rows(bench: Workbench, question: Question, stored: set[Timing]) -> Iterator[TimingRow]:
    model, recipe = question.model, question.recipe
    known = {record.digests.recipe: record.recipe for record in bench.records(model, question.main)}
    known |= {each.digest: each for each in (Recipe(), *alternatives(recipe, question.main).values())}
    for timing in question.grid:
        row = TimingRow(
            title=timing.chosen.title,
            runtime=timing.runtime,
            number_format=_number_format(timing),
            batch=timing.batch,
            threads=timing.threads,
            latency=bench.latency(model, recipe, timing),
        )
        if row.latency is None:
            problem = bench.problem(model, recipe, timing, StudyKind.TIME)
            missing = timing.chosen.missing
            yield replace(row, note=f"not installed; install {missing}" if missing else f"did not run: {problem}")
            continue
        digest = row.latency.measured_for
        other = known[digest].describe() if digest in known else f"another recipe, {digest[:12]}"
        yield replace(
            row,
            calls=_calls(bench.samples(model, recipe, timing)),
            stored=timing in stored,
            measured_for="" if digest == recipe.digest else other,
        )


def _calls(samples: Samples | None) -> CallQuantiles | None:
    if samples is None:
        return None
    sides = (samples.candidate_ms, samples.baseline_ms)
    return CallQuantiles(len(sides[0]), *(tuple(map(float, np.percentile(side, QUANTILES))) for side in sides))


def _details(bench: Workbench, question: Question, timing: Timing, machine: Machine | None) -> RuntimeDetails:
    model, recipe, beside = question.model, question.recipe, _unbound(timing)
    plan = (timing.chosen.sees_zeros and bench.known(StudyKind.PLAN, model, recipe, timing)) or []
    sparse = {each.weight: each.density for each in plan if each.is_sparse}
    work = [
        layer.sparse(sparse[layer.name]) if layer.name in sparse else layer
        for layer in bench.work(model, recipe, timing)
    ]
    own = baseline = None
    if machine is not None:
        own, baseline = (estimate(each, machine) for each in (work, bench.work(model, Recipe(), beside)))
    asked = [(recipe, timing, what) for what in (StudyKind.PROFILE, StudyKind.PLAN, StudyKind.MEMORY)]
    asked += [(Recipe(), beside, what) for what in (StudyKind.PROFILE, StudyKind.NOISE, StudyKind.MEMORY)]
    problems = (bench.problem(model, *each) for each in asked)
    return RuntimeDetails(
        title=timing.chosen.title,
        runtime=timing.runtime,
        number_format=_number_format(timing),
        noise=bench.known(StudyKind.NOISE, model, beside),
        memory=bench.known(StudyKind.MEMORY, model, recipe, timing),
        baseline_memory=bench.known(StudyKind.MEMORY, model, Recipe(), beside),
        estimate_ms=None if own is None else 1e3 * own.seconds,
        baseline_estimate_ms=None if baseline is None else 1e3 * baseline.seconds,
        layers=tuple(_layers(bench, question, timing, work, own)),
        plan=tuple(plan),
        problems=tuple(dict.fromkeys(filter(None, problems))),
    )


def _layers(
    bench: Workbench, question: Question, timing: Timing, work: Sequence[LayerWork], found: Estimate | None
) -> Iterator[LayerTime]:
    """None where the runtime keeps no profile; layers that the recipe took out come last."""
    own = bench.known(StudyKind.PROFILE, question.model, question.recipe, timing)
    baseline = bench.known(StudyKind.PROFILE, question.model, Recipe(), _unbound(timing)) or {}
    if own is None:
        return
    estimates = {layer.name: layer for layer in found.layers} if found is not None else {}
    for layer in work:
        at = estimates.get(layer.name)
        yield LayerTime(
            name=layer.name,
            kind=layer.kind,
            time_us=own.get(layer.name),
            baseline_us=baseline.get(layer.name),
            macs=layer.macs,
            bytes=layer.bytes,
            intensity=layer.intensity,
            estimate_us=None if at is None else 1e6 * at.seconds,
            bound=None if at is None else at.bound,
        )
    names = {layer.name for layer in work}
    yield from (LayerTime(name, "taken out", None, time) for name, time in baseline.items() if name not in names)


def _others(bench: Workbench, question: Question) -> Iterator[OtherRecipe]:
    for name, recipe in alternatives(question.recipe, question.main).items():
        latency = bench.latency(question.model, recipe, _unbound(question.main))
        if latency is not None:
            yield OtherRecipe(name, recipe, latency)


def _verdict(
    bench: Workbench,
    question: Question,
    record: Record,
    details: Sequence[RuntimeDetails],
    others: Sequence[OtherRecipe],
) -> Verdict | None:
    model, recipe = question.model, question.recipe
    latency = bench.latency(model, recipe, question.main)
    if latency is None:
        return None
    plan = details[0].plan
    timed = (bench.latency(model, recipe, timing) for timing in question.first)
    found = [(each, bench.find(model, each.recipe)) for each in others]
    return judge(
        recipe,
        latency,
        tasks.get(record.task).words,
        record=record,
        noise=details[0].noise,
        others=[each for each in timed if each is not None],
        alternatives=[
            Alternative(each.name, each.recipe, each.latency, None if known is None else known.record)
            for each, known in found
        ],
        skipping=sparse_layers(plan) if plan else None,
    )


def _devices(bench: Workbench, question: Question, record: Record) -> Iterator[DeviceEstimate]:
    """In the number format that the recipe asks for, whatever the runtimes here do."""
    number_format = "int8" if question.recipe.integer else "fp32"
    asked = replace(question.main, number_format=number_format)
    own = bench.work(question.model, question.recipe, asked)
    baseline = bench.work(question.model, Recipe(), _unbound(asked))
    for device in devices:
        yield DeviceEstimate(
            title=device.title,
            own=project(own, record.size.artefact, device, number_format),
            baseline=project(baseline, record.baseline.size_bytes, device),
        )
