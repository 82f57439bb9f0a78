"""What a report of a configuration tells, from what is known: nothing is measured for it, and what is missing it says.

The bytes of each layer are counted where that is quick. `write` gives the file; `drawing.draw` makes it of that.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from itertools import combinations

import numpy as np

from paretoscope import __version__
from paretoscope.base.errors import CompressionError
from paretoscope.base.progress import SILENT
from paretoscope.base.units import format_bytes, format_ms
from paretoscope.figures import explorer, pareto
from paretoscope.figures.explorer import Marks, Scene
from paretoscope.measure import comparison
from paretoscope.measure.board import Board, Timed, milliseconds
from paretoscope.measure.machine import processor_name
from paretoscope.measure.paired import paired_ms
from paretoscope.measure.record import Record
from paretoscope.measure.subject import Subject
from paretoscope.networks import sources
from paretoscope.recipe import differences
from paretoscope.recipe.command import evaluating
from paretoscope.recipe.presets import presets_of
from paretoscope.recipe.recipe import Recipe
from paretoscope.reports.contents import Baseline, Configuration, Layer, Report, Test
from paretoscope.reports.drawing import draw
from paretoscope.reports.flips import Answered, between
from paretoscope.reports.markup import packed
from paretoscope.search.budget import Answer, Budget, Limit
from paretoscope.service.knowledge import Knowledge
from paretoscope.service.pins import Pin, letter
from paretoscope.service.study import StudyKind
from paretoscope.service.timing import Timing
from paretoscope.tasks import Task, Words

# Bytes of the rows in the file; rows of the table of the front; configurations of which all pairs are tested. By these,
# and by the numbers of samples, a file has at most 2 MB (tests/reports/test_reports.py).
ROWS_BYTES, FRONT, PAIRS = 1_200_000, 40, 5
# Parameters of a network whose layers are counted when a report is made, which takes a second at most.
QUICK = 3_000_000
BASELINE = "the baseline"


def write(
    bench: Knowledge,
    model: str,
    recipe: Recipe,
    timing: Timing,
    *,
    made: datetime,
    budget: Budget | None = None,
    pins: Sequence[Pin] = (),
) -> str:
    """The report of a recipe on a model as one HTML file of at most 2 MB.

    made: when. budget: the question. pins: what it is compared with, of any model. Raises UnknownNameError or
    ModelError.
    """
    return draw(gather(bench, model, recipe, timing, made=made, budget=budget, pins=pins))


def gather(
    bench: Knowledge,
    model: str,
    recipe: Recipe,
    timing: Timing,
    *,
    made: datetime,
    budget: Budget | None = None,
    pins: Sequence[Pin] = (),
) -> Report:
    """What `write` tells, as plain data."""
    subject, budget = bench.subject(model), budget or Budget()
    words = subject.task.words
    lettered = [(letter(at), pin) for at, pin in enumerate(pins)]
    own = next((each for each, pin in lettered if pin.key == (model, recipe.digest)), "")
    pinned = next((pin for each, pin in lettered if each == own), Pin(model, recipe))
    chosen = _configuration(bench, pinned, own, timing)
    beside = [_configuration(bench, pin, each, timing) for each, pin in lettered if each != own]
    board = bench.board(model)
    timed = bench.timed(board, model, timing)
    scene, shown = _scene(bench, subject, recipe, timing, budget, lettered, board, timed)
    front = _front(bench, board, timed, timing, lettered, model)
    answered = _answered(bench, subject, [pinned, *(pin for each, pin in lettered if each != own)], [chosen, *beside])
    layers, rest = _layers(bench, subject, recipe)
    return Report(
        model=sources.find(model).title,
        words=words,
        summary=(
            f"{subject.parameters:,} parameters, {format_bytes(subject.baseline.size_bytes)} as fp32; "
            f"{len(subject.judged):,} test samples of {subject.dataset or 'random numbers'}."
        ),
        made=f"{made:%Y-%m-%d %H:%M} {made.tzname() or ''}".strip(),
        version=__version__,
        machine=processor_name(),
        setting=timing.told,
        asked=_asked(budget, words),
        answered=_answer(bench, board, scene.answer, timing, words) if budget.limits else "",
        scene=scene,
        shown=shown,
        tried=len(board),
        front=front,
        baseline=Baseline(
            value=words.value(subject.baseline.value),
            interval=" to ".join(words.ends(*subject.task.interval(subject.baseline, subject.judged.settled))),
            size=subject.baseline.size_bytes,
            ms=bench.reference_ms(model, timing),
            command=evaluating(model, Recipe(), *_as_options(timing)),
        ),
        chosen=chosen,
        pins=tuple(beside),
        settings=tuple(differences.rows([each.recipe for each in (chosen, *beside)])),
        tests=tuple(_tests(subject.task, subject.labels, answered)),
        flips=tuple(between(subject, answered)),
        layers=layers,
        rest=rest,
        missing=tuple(_missing(bench, [chosen, *beside], layers, len(answered), timing)),
    )


def _as_options(timing: Timing) -> list[str]:
    """How a timing is taken, as options of the command line: those that are not the default."""
    found = []
    for name in ("runtime", "batch", "threads"):
        if (value := getattr(timing, name)) != getattr(Timing(), name):
            found += [f"--{name}", str(value)]
    return found


def _configuration(bench: Knowledge, pin: Pin, letter: str, timing: Timing) -> Configuration:
    """A pin with what is known of it; nothing is, of a network that is not open."""
    titles = {preset.recipe.digest: preset.title for preset in presets_of(pin.model)}
    evaluation = bench.find(pin.model, pin.recipe) if bench.loaded(pin.model) else None
    record, ms = evaluation.record if evaluation is not None else None, None
    if record is not None:
        record, ms = _timed(bench, record, timing)
    return Configuration(
        letter=letter,
        title=pin.name or titles.get(pin.recipe.digest) or pin.recipe.describe(),
        model=sources.find(pin.model).title,
        recipe=pin.recipe,
        told=pin.recipe.describe(),
        note=pin.note,
        command=evaluating(pin.model, pin.recipe, *_as_options(timing)),
        record=record,
        ms=ms,
    )


def _timed(bench: Knowledge, record: Record, timing: Timing) -> tuple[Record, float | None]:
    """A record with its timing, and milliseconds where that decides them."""
    latency = bench.latency(record.model, record.recipe, timing)
    reference = bench.reference_ms(record.model, timing)
    ms = None
    if latency is not None and latency.decided and reference is not None:
        ms = paired_ms(latency, reference)
    return replace(record, latency=latency), ms


def _scene(
    bench: Knowledge,
    subject: Subject,
    recipe: Recipe,
    timing: Timing,
    budget: Budget,
    lettered: Sequence[tuple[str, Pin]],
    board: Board,
    timed: Timed,
) -> tuple[Scene, int]:
    """What the plots of the file show, and how many recipes: of too many every so-manieth, and all that is marked."""
    name = subject.name
    marks = Marks(
        current=recipe.digest,
        pins={pin.recipe.digest: each for each, pin in lettered if pin.model == name},
        names={preset.recipe.digest: preset.title for preset in presets_of(name)},
        predicted=bench.anchors(name, timing),
    )
    reference = bench.reference_ms(name, timing)

    def drawn(board: Board, timed: Timed) -> Scene:
        return explorer.gather(
            board,
            timed,
            reference,
            of=f"{name} {timing}",
            setting=timing.told,
            baseline=subject.baseline,
            samples=len(subject.judged),
            marks=marks,
            budget=budget,
            pick=False,
        )

    scene, count = drawn(board, timed), len(timed.of)
    kept: set[int] = set()
    step = 1
    while (size := len(packed(scene))) > ROWS_BYTES and step < len(timed.of):
        if not kept:
            ms = milliseconds(timed, reference)
            columns = board.columns(ms)
            fronts = [pareto.front(x, columns.value, board.digest).tolist() for x in (columns.size, ms)]
            marked = [board.place(digest) for digest in (recipe.digest, *marks.pins, *marks.names)]
            best = scene.answer.place
            kept = {each for each in (*fronts[0], *fronts[1], *marked, best) if each is not None}
        step *= -(-size // ROWS_BYTES)
        places = sorted(kept | set(range(0, count, step)))
        few = board.some(places)
        scene = replace(
            drawn(few, Timed(timed.latencies, tuple(timed.of[place] for place in places))), answer=scene.answer
        )
        count = len(places)
    return scene, count


def _front(
    bench: Knowledge, board: Board, timed: Timed, timing: Timing, lettered: Sequence[tuple[str, Pin]], model: str
) -> tuple[Configuration, ...]:
    """Who is on the front of size or of time, by size; of too many every so-manieth."""
    ms = milliseconds(timed, bench.reference_ms(model, timing))
    columns = board.columns(ms)
    found = {int(at) for x in (columns.size, ms) for at in pareto.front(x, columns.value, board.digest)}
    places = sorted(found, key=lambda at: (columns.size[at], at))
    pins = {pin.recipe.digest: (each, pin) for each, pin in lettered if pin.model == model}
    step = -(-len(places) // FRONT) or 1
    made = []
    for place in places[::step]:
        recipe = board.record(place).recipe
        each, pin = pins.get(recipe.digest, ("", Pin(model, recipe)))
        configuration = _configuration(bench, pin, each, timing)
        if configuration.record is None:
            # Its answers are not kept any more; its figures are.
            record, known = _timed(bench, board.record(place), timing)
            configuration = replace(configuration, record=record, ms=known)
        made.append(configuration)
    return tuple(made)


def _asked(budget: Budget, words: Words) -> str:
    if not budget.limits:
        return "No limits were set: the report is about the configuration that was on the screen."
    told = (_amount(limit, most, words) + " lost" * (limit is Limit.LOST) for limit, most in budget.limits.items())
    return f"At most {', '.join(told)}?"


def _amount(limit: Limit, value: float, words: Words) -> str:
    if limit is Limit.SIZE:
        return format_bytes(value)
    return format_ms(value) if limit is Limit.MS else f"{value:.3g} {words.points}"


_OVER = {Limit.SIZE: "too large", Limit.MS: "too slow", Limit.LOST: "too much lost"}


def _answer(bench: Knowledge, board: Board, answer: Answer, timing: Timing, words: Words) -> str:
    """The answer in a sentence or two."""
    if answer.place is None:
        unknown = f" {answer.unknown:,} would fit, but are not timed." if answer.unknown else ""
        return f"Nothing is measured that can be compared with these limits.{unknown}"
    record, ms = _timed(bench, board.record(answer.place), timing)
    titles = {preset.recipe.digest: preset.title for preset in presets_of(record.model)}
    told = [format_bytes(record.size.artefact), words.change(record.figures.value - record.baseline.value)]
    told += [] if ms is None else [format_ms(ms)]
    named = f"{titles.get(record.digests.recipe) or record.recipe.describe()}: {', '.join(told)}"
    if answer.fits:
        return f"Best of what was tried: {named}. Within the limits: {answer.fitting:,}."
    over = ", ".join(f"{_amount(limit, by, words)} {_OVER[limit]}" for limit, by in answer.over.items())
    return f"Nothing that was tried fits. Nearest: {named}; {over}."


def _answered(
    bench: Knowledge, subject: Subject, pins: Sequence[Pin], shown: Sequence[Configuration]
) -> list[Answered]:
    """The baseline, the chosen configuration and the pins that a paired test may be made of, with their answers."""
    found = [Answered(BASELINE, None, subject.predictions)]
    own = bench.find(subject.name, pins[0].recipe)
    for pin, configuration in zip(pins, shown, strict=True):
        evaluation = bench.find(pin.model, pin.recipe) if bench.loaded(pin.model) else None
        if evaluation is None or own is None or not comparison.pairable(own.record, evaluation.record, subject.task):
            if pin is pins[0]:
                return found
            continue
        found.append(Answered(configuration.named, evaluation.record, evaluation.predictions))
    return found


def _tests(task: Task, labels: np.ndarray, answered: Sequence[Answered]) -> list[Test]:
    """Paired tests: of all pairs where these are few, else of the chosen one and each other."""
    few = len(answered) <= PAIRS
    pairs = combinations(answered, 2) if few else ((answered[1], each) for each in answered if each is not answered[1])
    found = []
    for before, after in pairs:
        if len(before.answers) == len(after.answers):
            pair = comparison.pair_of(task, before.answers, after.answers, labels)
            found.append(Test(before.name, after.name, task.words.change(pair.points / task.words.factor), pair))
    return found


def _layers(bench: Knowledge, subject: Subject, recipe: Recipe) -> tuple[tuple[Layer, ...], int]:
    """The bytes of each layer, and of the rest; nothing where they are not counted and that would take long."""
    found = bench.known(StudyKind.BYTES, subject.name, recipe)
    if found is None and subject.parameters <= QUICK:
        try:
            found = bench.run(StudyKind.BYTES, SILENT, subject.name, recipe)
        except CompressionError:
            found = None
    if found is None:
        return (), 0
    known = subject.statistics.layers
    shapes = {name: known[name].weight.shape if name in known else () for name, _ in found.layers}
    return tuple(
        Layer(name, shapes[name], int(np.prod(shapes[name])), count) for name, count in found.layers if shapes[name]
    ), found.rest + sum(count for name, count in found.layers if not shapes[name])


def _missing(
    bench: Knowledge, shown: Sequence[Configuration], layers: Sequence[Layer], answered: int, timing: Timing
) -> list[str]:
    """Sentences on what is not in the report."""
    found = []
    for each in shown:
        if each.record is None:
            found.append(f"{each.named} is not measured: its figures are left out.")
        elif each.ms is None:
            found.append(f"{each.named} has no time that could be told ({timing.told}).")
    if answered - 1 < sum(each.record is not None for each in shown):
        found.append("Configurations of other test samples are in no paired test, and their flips are left out.")
    if not layers:
        found.append("The bytes of each layer are not counted: that takes longer than a report may.")
    if timing.size is not None:
        found.append("The command line times images of the network's own size; the times here are of another one.")
    return found
