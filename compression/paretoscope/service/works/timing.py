"""Timings, and all that explains them."""

from collections.abc import Sequence

from paretoscope.base.errors import CompressionError
from paretoscope.base.lock import machine as held_machine
from paretoscope.base.progress import Progress, Within
from paretoscope.measure.latency import Noise, repeated
from paretoscope.measure.machine import Machine, measure_machine
from paretoscope.measure.record import Latency
from paretoscope.recipe.recipe import Recipe
from paretoscope.runtimes.plans import LayerPlan
from paretoscope.service.knowledge import Knowledge
from paretoscope.service.memory import session_memory
from paretoscope.service.study import StudyKind
from paretoscope.service.timing import StudyPart, Timing, study_parts


def time(bench: Knowledge, progress: Progress, model: str, recipe: Recipe, timing: Timing) -> Latency:
    """Time a recipe against the baseline, unless it is known and not due again."""
    known = bench.latency(model, recipe, timing)
    if known is not None and not bench.due(model, recipe, timing):
        return known
    return _time_anew(bench, progress, model, recipe, timing)


def _time_asked(bench: Knowledge, progress: Progress, model: str, recipe: Recipe, timing: Timing) -> Latency:
    """Time a recipe for somebody who asks for it: what is not decided is taken again at once."""
    known = bench.latency(model, recipe, timing)
    return known if known is not None and known.decided else _time_anew(bench, progress, model, recipe, timing)


def _time_anew(bench: Knowledge, progress: Progress, model: str, recipe: Recipe, timing: Timing) -> Latency:
    subject = bench.subject(model)
    found = subject.time(
        subject.compress(recipe),
        timing.runtime,
        timing.batch,
        timing.threads,
        size=timing.size,
        number_format=timing.number_format,
        progress=progress,
        **bench.effort,
    )
    bench.keep_timing(model, recipe, timing, found)
    return found.latency


def noise(bench: Knowledge, progress: Progress, model: str, timing: Timing) -> Noise:
    """Time the baseline against itself."""
    return bench.subject(model).noise(
        timing.runtime, timing.batch, timing.threads, size=timing.size, progress=progress, **bench.effort
    )


def profile(
    bench: Knowledge, progress: Progress, model: str, recipe: Recipe, timing: Timing
) -> dict[str, float] | None:
    """Microseconds of each layer; None in a runtime that keeps no profile."""
    if timing.chosen.profile is None:
        return None
    subject = bench.subject(model)
    return subject.profile(
        subject.compress(recipe),
        timing.runtime,
        timing.batch,
        timing.threads,
        size=timing.size,
        number_format=timing.number_format,
    )


def plan(bench: Knowledge, progress: Progress, model: str, recipe: Recipe, timing: Timing) -> list[LayerPlan] | None:
    """How each layer runs; None in a runtime that skips no zeros."""
    if timing.chosen.plan is None:
        return None
    subject = bench.subject(model)
    program = subject.program(subject.compress(recipe), timing.runtime, size=timing.size)
    images = repeated(subject.resized(timing.size), timing.batch)
    with held_machine(exclusive=True):
        return timing.chosen.plan(program, images, timing.threads)


def memory(bench: Knowledge, progress: Progress, model: str, recipe: Recipe, timing: Timing) -> int:
    """Peak bytes of the session."""
    number_format = bench.timing_key(model, recipe, timing).number_format
    return session_memory(model, recipe, timing.runtime, timing.batch, timing.threads, timing.size, number_format)


def machine(bench: Knowledge, progress: Progress, threads: int) -> Machine:
    """What this machine can do on so many threads."""
    return measure_machine(threads, progress=progress)


def latency(bench: Knowledge, progress: Progress, model: str, recipe: Recipe, timing: Timing) -> None:
    """All that is shown of a recipe's latency, as far as the limits allow.

    A study goes over batches and threads that nobody has chosen.
    """
    most = bench.limits
    parts = [
        part
        for part in study_parts(recipe, timing)
        if part.timing.batch <= most.batch and part.timing.threads <= most.threads
    ]
    measure(bench, progress, model, parts)


def measure(bench: Knowledge, progress: Progress, model: str, parts: Sequence[StudyPart]) -> None:
    """Carry out parts in their order; what cannot be measured is told by `Knowledge.problem`.

    Partial results are texts, what is done just now.
    """
    within = Within(progress)
    for done, part in enumerate(parts):
        progress.report(done, len(parts), partial=part.label)
        problem = None
        try:
            if part.what is StudyKind.TIME:
                _time_asked(bench, within, *part.arguments(model))
            else:
                bench.run(part.what, within, *part.arguments(model))
        except CompressionError as error:
            problem = str(error)
        bench.note_problem(model, part.recipe, part.timing, part.what, problem)
