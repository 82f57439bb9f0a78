import functools
import hashlib
import json
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import holding
import measuring
import numpy as np
import pytest
import timings
from measuring import Taken
from paretoscope import codec, runtimes
from paretoscope.base.errors import ModelError, UnknownNameError
from paretoscope.base.progress import SILENT, Calling, Within
from paretoscope.codec import shelf
from paretoscope.export import formats
from paretoscope.measure.latency import Measurement
from paretoscope.measure.layers import OTHER
from paretoscope.measure.sensitivity import measure_sensitivity
from paretoscope.measure.subject import Evaluation, Subject
from paretoscope.recipe.presets import Preset, presets
from paretoscope.recipe.recipe import Recipe
from paretoscope.search import cliff
from paretoscope.search.suggest import Target
from paretoscope.service import latencies, store, subjects
from paretoscope.service import sweeps as around
from paretoscope.service import timing as timing_module
from paretoscope.service.jobs import Job, Priority
from paretoscope.service.store import Store
from paretoscope.service.study import StudyKind
from paretoscope.service.sweeps import SWEEP_BITS, SWEEP_CLUSTERS, SWEEP_SPARSITIES, sweeps
from paretoscope.service.timing import STUDY_BATCHES, StudyPart, Timing, alternatives, study_parts, study_timings
from paretoscope.service.workbench import Workbench
from paretoscope.service.works import evaluating, filling

NAME = "lenet-300-100"
RECIPE = Recipe.of(sparsity=0.5, clusters=4, bits=8, activations=8)
# Generous: nothing waits this long unless the test has failed.
SECONDS = 300


@pytest.fixture(scope="module")
def subject() -> Subject:
    return subjects.load(NAME)


@pytest.fixture
def path(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("PARETOSCOPE_STORE", str(tmp_path / "records.sqlite"))
    return tmp_path / "records.sqlite"


@pytest.fixture
def start(subject, path, monkeypatch) -> Iterator[Callable[..., Workbench]]:
    """start(): a workbench as after a restart, sparing it the loading of the model."""
    load, benches = subjects.load, []
    monkeypatch.setattr(subjects, "load", lambda name: subject if name == NAME else load(name))

    def begin(path: Path | None = None, **settings) -> Workbench:
        benches.append(Workbench(None if path is None else Store(path), **settings))
        return benches[-1]

    yield begin
    for bench in benches:
        bench.close()


@pytest.fixture
def timed(monkeypatch) -> list[tuple[str, str]]:
    """Replaces timing by a note of it: (description of the recipe, runtime)."""
    log = []

    def time(
        self, compressed, runtime, batch=1, threads=1, *, size=None, number_format=None, progress=SILENT, **settings
    ) -> Measurement:
        progress.report()
        log.append((compressed.recipe.describe(), runtime))
        number_format = number_format or runtimes.runtimes.get(runtime).number_format(compressed.recipe.integer)
        ratio = 2.0 if number_format == "int8" else 1.0
        latency = timings.latency(
            1 / ratio,
            ratio,
            runtime=runtime,
            number_format=number_format,
            batch=batch,
            threads=threads,
            speedup_low=0.9 * ratio,
            speedup_high=1.1 * ratio,
            measured_for=compressed.recipe.digest,
        )
        return Measurement(latency, measuring.SAMPLES)

    monkeypatch.setattr(Subject, "time", time)
    return log


@pytest.fixture
def measured(monkeypatch) -> list[Taken]:
    """Replaces every measurement of a study by a note of it; OpenVINO is installed, compiled PyTorch is not."""
    entries = runtimes.runtimes._entries
    monkeypatch.setitem(entries, "openvino", replace(entries["openvino"], missing="", version="1"))
    monkeypatch.setitem(entries, "torch-compiled", replace(entries["torch-compiled"], missing="a C++ compiler"))
    return measuring.fake(monkeypatch)


@pytest.fixture
def evaluated(monkeypatch) -> list[str]:
    """Notes which recipes are evaluated; they are, all the same."""
    log, evaluate = [], Subject.evaluate

    def noting(self, recipe, samples=None):
        log.append(recipe.describe())
        return evaluate(self, recipe, samples)

    monkeypatch.setattr(Subject, "evaluate", noting)
    return log


@pytest.fixture
def few(monkeypatch) -> None:
    """A short fill: two presets, two values a sweep."""
    offered = [presets.get("baseline"), presets.get("int8")]
    monkeypatch.setattr(filling, "presets_of", lambda model: offered)
    monkeypatch.setattr(around, "SWEEP_SPARSITIES", (0.0, 0.5))
    monkeypatch.setattr(around, "SWEEP_CLUSTERS", (None, 4))
    monkeypatch.setattr(around, "SWEEP_BITS", (1, 8))


class Holder:
    """Keeps a workbench's worker busy until it is let go."""

    def __init__(self, bench: Workbench) -> None:
        self.entered, self.free = threading.Event(), threading.Event()
        self.job = holding.submit(bench, self, priority=-1, label="holding")
        assert self.entered.wait(SECONDS)

    def __call__(self, job: Job) -> None:
        self.entered.set()
        assert self.free.wait(SECONDS)

    def let_go(self) -> None:
        self.free.set()
        assert self.job.wait(SECONDS)


def done(job: Job) -> object:
    assert job.wait(SECONDS)
    assert job.state == "done", job.error
    return job.result


@pytest.mark.parametrize(
    "recipe", [Recipe(), RECIPE, Recipe.of(sparsity=0.9, scope="layer", bits=4, granularity="tensor", rest="fp16")]
)
def test_a_sweep_moves_one_slider(recipe):
    grids = {"sparsity": SWEEP_SPARSITIES, "clusters": SWEEP_CLUSTERS, "bits": SWEEP_BITS}
    found = sweeps(recipe)
    assert list(found) == list(grids)
    for name, grid in grids.items():
        assert found[name] == [Recipe.of(**{**recipe.settings(), name: value}) for value in grid]
        own = recipe.settings()[name]
        if own in grid:
            assert found[name][grid.index(own)] == recipe
        assert len({each.digest for each in found[name]}) == len(grid)


def test_an_evaluation_is_found_after_a_restart(start, evaluated):
    bench = start()
    assert bench.find(NAME, RECIPE) is None
    assert bench.records(NAME, Timing()) == []
    job = bench.evaluate(NAME, RECIPE)
    evaluation = done(job)
    assert evaluation.record.figures.n == 797
    assert evaluation.record.recipe == RECIPE
    assert (job.partial.record, job.progress) == (evaluation.record, 1.0)
    assert bench.find(NAME, RECIPE) is evaluation

    again = start()
    found = again.find(NAME, RECIPE)
    assert found.record == evaluation.record
    np.testing.assert_array_equal(found.predictions.classes, evaluation.predictions.classes)
    np.testing.assert_array_equal(found.predictions.confidences, evaluation.predictions.confidences)
    assert again.records(NAME, Timing()) == [evaluation.record]
    assert done(again.evaluate(NAME, RECIPE)).record == evaluation.record
    assert evaluated == [RECIPE.describe()]
    assert again.store_error is None


def test_an_evaluation_by_another_process_is_found(start, evaluated):
    bench, other = start(), start()
    assert bench.records(NAME, Timing()) == []
    evaluation = done(other.evaluate(NAME, RECIPE))
    assert bench.find(NAME, RECIPE).record == evaluation.record
    assert bench.records(NAME, Timing()) == [evaluation.record]
    assert len(evaluated) == 1


def test_running_estimates_are_shown_for_what_is_asked_now(start, subject, monkeypatch):
    bench, seen = start(), []
    report = Job.report

    def noting(self, done=None, total=1.0, *, partial=None):
        seen.append((done and done / total, None if partial is None else partial.record.figures.n))
        report(self, done, total, partial=partial)

    monkeypatch.setattr(Job, "report", noting)
    done(bench.evaluate(NAME, RECIPE, Priority.NOW))
    sizes = [*range(100, 797, 100), 797]
    assert seen == [(size / 797, size) for size in sizes]


def test_an_evaluation_within_other_work_shows_none_of_its_own(start):
    told: list[tuple[object, ...]] = []
    evaluating.evaluate(start(), Within(Calling(lambda *each: told.append(each))), NAME, RECIPE)
    assert told == [(None, None, None)] * 8


def test_asking_twice_measures_once(start, evaluated):
    bench = start()
    holder = Holder(bench)
    first = bench.evaluate(NAME, RECIPE)
    assert bench.evaluate(NAME, RECIPE) is first
    assert bench.evaluate(NAME, RECIPE, Priority.LATER) is first
    holder.let_go()
    assert done(first) is done(bench.evaluate(NAME, RECIPE))
    assert evaluated == [RECIPE.describe()]


def test_what_is_urgent_overtakes_itself(start, evaluated):
    bench = start()
    holder = Holder(bench)
    later = bench.evaluate(NAME, RECIPE, Priority.LATER)
    other = bench.evaluate(NAME, Recipe(), Priority.LATER)
    now = bench.evaluate(NAME, Recipe(), Priority.NOW)
    assert now is not other
    holder.let_go()
    for job in (now, later, other):
        done(job)
    assert evaluated == [Recipe().describe(), RECIPE.describe()]


@pytest.mark.slow
@pytest.mark.parametrize("study", ["sensitivity", "waterfall"])
def test_a_study_goes_before_what_is_filled_in(start, evaluated, study):
    bench = start()
    holder = Holder(bench)
    fill = bench.fill(NAME, RECIPE, Timing())
    asked = {"sensitivity": (NAME,), "waterfall": (NAME, RECIPE)}[study]
    job = bench.ask(StudyKind(study), *asked)
    seen = []
    job_run, fill_run = job._run, fill._run
    job._run, fill._run = lambda: (seen.append(job), job_run()), lambda: (seen.append(fill), fill_run())
    holder.let_go()
    done(job)
    fill.cancel()
    assert fill.wait(SECONDS) and seen[0] is job


def test_a_cancelled_job_is_not_handed_out_again(start, evaluated):
    bench = start()
    holder = Holder(bench)
    cancelled = bench.evaluate(NAME, RECIPE)
    cancelled.cancel()
    again = bench.evaluate(NAME, RECIPE)
    assert again is not cancelled
    holder.let_go()
    done(again)
    assert cancelled.wait(SECONDS)
    assert cancelled.state == "cancelled"
    assert bench.find(NAME, RECIPE) is not None


def test_a_cancelled_evaluation_leaves_nothing(start, monkeypatch):
    bench, evaluate = start(), Subject.evaluate
    first, go_on = threading.Event(), threading.Event()

    def held(self, recipe, samples=None) -> Iterator[Evaluation]:
        for evaluation in evaluate(self, recipe, samples):
            first.set()
            assert go_on.wait(SECONDS)
            yield evaluation

    monkeypatch.setattr(Subject, "evaluate", held)
    job = bench.evaluate(NAME, RECIPE)
    assert first.wait(SECONDS)
    job.cancel()
    go_on.set()
    assert job.wait(SECONDS)
    assert job.state == "cancelled"
    assert bench.find(NAME, RECIPE) is None
    assert start().find(NAME, RECIPE) is None


def test_a_timing_serves_every_recipe_of_its_number_format(start, timed):
    bench, timing = start(), Timing()
    for recipe in (Recipe.of(bits=4, activations=8), RECIPE, Recipe()):
        done(bench.evaluate(NAME, recipe))
    assert bench.latency(NAME, Recipe.of(bits=8, activations=8), timing) is None
    latency = done(bench.time(NAME, RECIPE, timing))
    assert latency.measured_for == RECIPE.digest
    for bits in (1, 2, 3, 4, 5, 6, 7, 8):
        assert bench.latency(NAME, Recipe.of(bits=bits, activations=8), timing) == latency
    for floats in (Recipe.of(bits=8), Recipe.of(bits=16), Recipe(), Recipe.of(bits=4, activations=8, fold=True)):
        assert bench.latency(NAME, floats, timing) is None
    assert done(bench.time(NAME, Recipe.of(bits=4, activations=8), timing)) == latency
    assert timed == [(RECIPE.describe(), "onnxruntime")]

    records = {record.recipe: record for record in bench.records(NAME, timing)}
    assert records[RECIPE].latency == records[Recipe.of(bits=4, activations=8)].latency == latency
    assert records[Recipe()].latency is None
    assert records[Recipe.of(bits=4, activations=8)].latency_reused
    assert not records[RECIPE].latency_reused


def test_a_timing_is_kept_and_belongs_to_its_settings(start, timed):
    latency = done(start().time(NAME, RECIPE, Timing()))
    bench = start()
    assert bench.latency(NAME, Recipe.of(bits=4, activations=8), Timing()) == latency
    assert done(bench.time(NAME, RECIPE, Timing())) == latency
    for other in (Timing(batch=2), Timing(threads=2), Timing(runtime="torch")):
        assert bench.latency(NAME, Recipe.of(bits=8, activations=8), other) is None
    assert timed == [(RECIPE.describe(), "onnxruntime")]
    # PyTorch computes in floats alone: one timing for all bits.
    floats = done(bench.time(NAME, RECIPE, Timing(runtime="torch", batch=3, threads=2)))
    assert (floats.batch, floats.threads, floats.number_format) == (3, 2, "fp32")
    assert bench.latency(NAME, Recipe.of(bits=32), Timing(runtime="torch", batch=3, threads=2)) == floats


@pytest.fixture
def busy(monkeypatch, timed):
    """`busy[0]` says whether timings come out too wide, as on a machine that is busy; `timed` notes them all."""
    now, time = [True], Subject.time

    def disturbed(self, *args, **kwargs) -> Measurement:
        found = time(self, *args, **kwargs)
        wide = {"speedup": 1.05, "speedup_low": 0.91, "speedup_high": 6.33, "baseline_median_ms": 9.0}
        return replace(found, latency=replace(found.latency, **wide)) if now[0] else found

    monkeypatch.setattr(Subject, "time", disturbed)
    return now


@pytest.fixture
def clock(monkeypatch):
    """`clock[0]` is the time of the workbench, in seconds."""
    now = [1000.0]
    monkeypatch.setattr(latencies, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


def test_a_timing_that_is_too_wide_is_taken_again_a_bounded_number_of_times(start, timed, busy, clock):
    bench, asked = start(), (NAME, RECIPE, Timing())
    assert bench.due(*asked) and bench.seconds_until_again(*asked) == 0
    for tries, rest in enumerate([*latencies.AGAIN_AFTER_S, None], 1):
        latency = done(bench.time(*asked))
        assert len(timed) == tries and not latency.decided
        # It is told of, and until the machine had a rest nobody takes it again.
        assert bench.latency(*asked) == latency
        assert not bench.due(*asked) and bench.seconds_until_again(*asked) == rest
        assert done(bench.time(*asked)) == latency and len(timed) == tries
        clock[0] += rest or 1e9
    assert not bench.due(*asked)
    # Whoever presses Measure asks for it all the same.
    busy[0] = False
    done(bench.ask(StudyKind.MEASURE, NAME, (StudyPart("Timing", StudyKind.TIME, RECIPE, Timing()),)))
    assert bench.latency(*asked).decided and bench.seconds_until_again(*asked) is None


def test_a_timing_that_is_too_wide_serves_nobody(start, timed, busy, clock):
    bench, sibling = start(), Recipe.of(bits=4, activations=8)
    done(bench.time(NAME, RECIPE, Timing()))
    assert bench.reference_ms(NAME, Timing()) is None
    # Another process takes its own at once, for whichever recipe of the kind.
    busy[0] = False
    other = start()
    assert not other.latency(NAME, sibling, Timing()).decided and other.due(NAME, sibling, Timing())
    found = done(other.time(NAME, sibling, Timing()))
    assert found.decided and found.measured_for == sibling.digest
    assert other.reference_ms(NAME, Timing()) == found.baseline_median_ms

    # What is known is not lost to a busy moment.
    busy[0] = True
    again = start(again=True)
    assert not done(again.time(NAME, RECIPE, Timing())).decided
    assert start().latency(NAME, RECIPE, Timing()) == found


def test_one_time_of_the_baseline_stands_for_all_timings_of_a_setting(start, timed, monkeypatch):
    bench, time, taken = start(), Subject.time, iter([0.5, 0.2, 0.3])

    def drifting(self, *args, **kwargs) -> Measurement:
        found = time(self, *args, **kwargs)
        return replace(found, latency=replace(found.latency, baseline_median_ms=next(taken)))

    monkeypatch.setattr(Subject, "time", drifting)
    assert bench.reference_ms(NAME, Timing()) is None
    done(bench.time(NAME, RECIPE, Timing()))
    assert bench.reference_ms(NAME, Timing()) == 0.5
    done(bench.time(NAME, Recipe(), Timing()))
    assert bench.reference_ms(NAME, Timing()) == 0.2
    done(bench.time(NAME, Recipe.of(fold=True), Timing()))
    assert bench.reference_ms(NAME, Timing()) == 0.3
    # Another process finds it too, but not another setting.
    assert start().reference_ms(NAME, Timing()) == 0.3
    for other in (Timing(batch=2), Timing(threads=2), Timing(runtime="torch"), Timing(size=32)):
        assert bench.reference_ms(NAME, other) is None


def test_timings_of_one_format_are_one_job(start, timed):
    bench = start()
    holder = Holder(bench)
    job = bench.time(NAME, RECIPE, Timing())
    assert bench.time(NAME, Recipe.of(bits=2, activations=8), Timing()) is job
    assert bench.time(NAME, Recipe(), Timing()) is not job
    holder.let_go()
    done(job)


@pytest.mark.slow
def test_a_real_timing(start):
    latency = done(start().time(NAME, RECIPE, Timing(batch=2)))
    assert (latency.runtime, latency.number_format, latency.batch, latency.threads) == ("onnxruntime", "int8", 2, 1)
    assert 0 < latency.speedup_low <= latency.speedup <= latency.speedup_high
    assert latency.median_ms > 0 and latency.baseline_median_ms > 0


def test_a_fill_leaves_nothing_missing(start, timed, evaluated, few):
    bench = start()
    assert bench.missing(NAME, RECIPE, Timing())
    fill = bench.fill(NAME, RECIPE, Timing())
    done(fill)
    assert not bench.missing(NAME, RECIPE, Timing())
    wanted = {each.recipe for each in filling.presets_of(NAME)}
    wanted |= {each for sweep in sweeps(RECIPE).values() for each in sweep}
    records = bench.records(NAME, Timing())
    assert {record.recipe for record in records} == wanted
    assert len(evaluated) == len(records) == len(wanted)
    assert all(record.figures.n == 797 and record.latency is not None for record in records)
    assert sorted(runtime for _, runtime in timed) == ["onnxruntime"] * 2

    done(bench.fill(NAME, RECIPE, Timing()))
    again = start()
    assert not again.missing(NAME, RECIPE, Timing())
    done(again.fill(NAME, RECIPE, Timing()))
    assert (len(evaluated), len(timed)) == (len(wanted), 2)
    # Elsewhere, and with another runtime, there is more to do.
    assert again.missing(NAME, Recipe.of(bits=4, activations=8), Timing())
    assert again.missing(NAME, RECIPE, Timing(threads=2))


def test_a_fill_times_the_graphs_of_presets_and_sweeps(start, timed, evaluated, few, monkeypatch):
    """A point that is not timed is within no limit of milliseconds."""
    folded = Recipe.of(sparsity=0.9, fold=True)
    offered = [*filling.presets_of(NAME), Preset("folded", "Folded", "Folded.", folded, NAME)]
    monkeypatch.setattr(filling, "presets_of", {NAME: offered}.__getitem__)
    bench, real, before = start(), filling.time, {}

    def counting(*arguments):
        before.setdefault(arguments[3], len(evaluated))
        return real(*arguments)

    monkeypatch.setattr(filling, "time", counting)
    done(bench.fill(NAME, RECIPE, Timing()))
    assert bench.latency(NAME, folded, Timing()) is not None and len(timed) == 3
    # Before the sweeps, whose points have the graphs of these.
    assert before[folded] == len(offered) < len(evaluated)
    assert not bench.missing(NAME, RECIPE, Timing())
    # A sweep leaves the integers where it comes to 16 bits.
    monkeypatch.setattr(around, "SWEEP_BITS", (8, 16))
    done(bench.fill(NAME, Recipe.of(nodes=0.5, bits=8, activations=8), Timing()))
    assert all(record.latency is not None for record in bench.records(NAME, Timing()))


@pytest.fixture
def trained_presets(few, monkeypatch, tmp_path) -> list[Recipe]:
    """Two presets with training more in a fill, the first of all and the last, and a shelf that ships nothing."""
    recipes = [Recipe.of(sparsity=0.9, bits=4, epochs=977, seed=seed) for seed in (0, 1)]
    first, last = (Preset(f"trained-{r.recover.seed}", "Trained", "Trained.", r, NAME) for r in recipes)
    offered = [first, *filling.presets_of(NAME), last]
    monkeypatch.setattr(filling, "presets_of", {NAME: offered}.__getitem__)
    monkeypatch.setattr(shelf, "SHIPPED", tmp_path / "shipped")
    return recipes


def test_a_fill_does_without_trained_models_that_are_nowhere(start, timed, trained_presets):
    bench = start()
    done(bench.fill(NAME, RECIPE, Timing()))
    assert not bench.missing(NAME, RECIPE, Timing())
    known = {record.recipe for record in bench.records(NAME, Timing())}
    assert {presets.get("baseline").recipe, presets.get("int8").recipe} <= known
    assert known.isdisjoint(trained_presets)


def test_a_fill_takes_trained_models_from_the_shelf(subject, start, timed, evaluated, trained_presets):
    bench = start()
    done(bench.fill(NAME, RECIPE, Timing()))
    shipped, nowhere = trained_presets
    made = replace(subject.compress(shipped.untrained), recipe=shipped)
    shelf.put(made, folder=shelf.SHIPPED)
    assert bench.missing(NAME, RECIPE, Timing())
    evaluated.clear()
    done(bench.fill(NAME, RECIPE, Timing()))
    assert evaluated == [shipped.describe()]
    assert not bench.missing(NAME, RECIPE, Timing())
    known = {record.recipe: record for record in bench.records(NAME, Timing())}
    assert known[shipped].size.artefact == len(codec.write(made)) and nowhere not in known


@pytest.mark.parametrize(
    ("recipe", "first", "formats"),
    [
        (RECIPE, RECIPE, 2),
        (Recipe.of(bits=16), Recipe.of(bits=16), 2),
        (Recipe.of(bits=1, activations=8), Recipe.of(bits=1, activations=8), 2),
    ],
    ids=["int8", "fp32", "binary"],
)
def test_a_fill_times_the_current_number_format_first(start, timed, few, recipe, first, formats):
    done(start().fill(NAME, recipe, Timing()))
    assert len(timed) == formats
    assert timed[0] == (first.describe(), "onnxruntime")


def test_a_fill_times_only_what_is_not_known(start, timed, few):
    bench = start()
    done(bench.time(NAME, RECIPE, Timing()))
    timed.clear()
    done(bench.fill(NAME, RECIPE, Timing()))
    assert timed == [(Recipe().describe(), "onnxruntime")]
    timed.clear()
    done(bench.fill(NAME, RECIPE, Timing(runtime="torch")))
    assert timed == [(RECIPE.describe(), "torch")]


def test_a_slider_overtakes_a_fill(start, timed, evaluated, few, monkeypatch):
    bench, evaluate = start(), Subject.evaluate
    begun, go_on = threading.Event(), threading.Event()

    def held(self, recipe) -> Iterator[Evaluation]:
        begun.set()
        assert go_on.wait(SECONDS)
        return evaluate(self, recipe)

    monkeypatch.setattr(Subject, "evaluate", held)
    fill = bench.fill(NAME, RECIPE, Timing())
    assert begun.wait(SECONDS)
    slider = bench.evaluate(NAME, Recipe.of(sparsity=0.25))
    go_on.set()
    done(slider)
    done(fill)
    # The evaluation that had begun goes on after its first piece; the slider's comes before all others of the fill.
    assert evaluated[1] == Recipe.of(sparsity=0.25).describe()
    assert len(evaluated) > 3
    assert not bench.missing(NAME, RECIPE, Timing())


def test_a_cancelled_fill_keeps_what_it_has(start, timed, few, monkeypatch):
    bench, evaluate = start(), Subject.evaluate
    jobs: list[Job] = []

    def counted(self, recipe) -> Iterator[Evaluation]:
        if bench.records(NAME, Timing()):
            jobs[0].cancel()
        return evaluate(self, recipe)

    monkeypatch.setattr(Subject, "evaluate", counted)
    holder = Holder(bench)
    jobs.append(bench.fill(NAME, RECIPE, Timing()))
    holder.let_go()
    assert jobs[0].wait(SECONDS)
    assert jobs[0].state == "cancelled"
    assert 0 < jobs[0].progress < 1
    assert len(bench.records(NAME, Timing())) == 1
    assert bench.missing(NAME, RECIPE, Timing())


def test_without_a_store_measurements_go_on_in_memory(start, timed, tmp_path, few):
    bench = start(tmp_path)
    evaluation = done(bench.evaluate(NAME, RECIPE))
    assert "must be a SQLite file" in bench.store_error
    assert bench.find(NAME, RECIPE) is evaluation
    latency = done(bench.time(NAME, RECIPE, Timing()))
    assert bench.latency(NAME, Recipe.of(bits=8, activations=8), Timing()) == latency
    assert [record.latency for record in bench.records(NAME, Timing())] == [latency]
    done(bench.fill(NAME, RECIPE, Timing()))
    assert not bench.missing(NAME, RECIPE, Timing())
    assert "must be a SQLite file" in bench.store_error


def test_a_store_that_works_again_takes_the_error_back(start, tmp_path):
    place = tmp_path / "place"
    place.mkdir()
    bench = start(place)
    assert bench.find(NAME, RECIPE) is None
    assert bench.store_error
    place.rmdir()
    evaluation = done(bench.evaluate(NAME, RECIPE))
    assert bench.store_error is None
    assert start(place).find(NAME, RECIPE).record == evaluation.record


@pytest.mark.slow
def test_what_was_measured_while_the_store_failed_is_there_after_a_restart(start, timed, path, monkeypatch):
    """A file locked by another: the warning tells how many wait, and goes when none does."""
    monkeypatch.setattr(store, "PATIENCE_S", 0.05)
    monkeypatch.setattr(store, "SHORT_PATIENCE_S", 0.05)
    bench, recipes = start(), [Recipe.of(bits=bits) for bits in range(4, 9)]
    done(bench.evaluate(NAME, RECIPE))
    other = sqlite3.connect(bench.store.path, isolation_level=None)
    try:
        other.execute("BEGIN EXCLUSIVE")
        evaluations = [done(bench.evaluate(NAME, recipe)) for recipe in recipes]
        latency = done(bench.time(NAME, RECIPE, Timing()))
        assert bench.store_error.startswith("6 results wait to be written: the record store must")
        # Looking works meanwhile, and takes nothing back.
        assert bench.find(NAME, Recipe.of(bits=3)) is None and bench.samples(NAME, RECIPE, Timing()) is not None
        assert "6 results wait" in bench.store_error
    finally:
        other.close()
    bench.close()
    assert bench.store_error is None
    again = start()
    assert [again.find(NAME, recipe).record for recipe in recipes] == [each.record for each in evaluations]
    assert again.latency(NAME, RECIPE, Timing()) == latency


def test_what_is_not_shown_of_the_history_is_told(start, monkeypatch):
    bench = start()
    for recipe in (RECIPE, Recipe()):
        done(bench.evaluate(NAME, recipe))
    assert bench.store_notes(NAME) == ()
    connection = sqlite3.connect(bench.store.path)
    connection.execute("UPDATE records SET record = '{' WHERE recipe = ?", (RECIPE.digest,))
    connection.commit()
    connection.close()
    again = start()
    assert [record.recipe for record in again.records(NAME, Timing())] == [Recipe()]
    (told,) = again.store_notes(NAME)
    assert told.startswith("1 row of ")
    done(again.evaluate(NAME, RECIPE))
    assert again.store_notes(NAME) == ()
    monkeypatch.setattr(store, "METHODS", store.METHODS + 1)
    later = start()
    assert later.records(NAME, Timing()) == [] and later.find(NAME, RECIPE) is None
    assert later.store_notes(NAME) == (
        "2 records of another version are not shown; they are measured again when they are opened.",
    )
    done(later.evaluate(NAME, RECIPE))
    assert later.store_notes(NAME) == (
        "1 record of another version is not shown; it is measured again when it is opened.",
    )


def test_downloads_are_what_was_measured(start):
    bench = start()
    evaluation = done(bench.evaluate(NAME, RECIPE))
    artefact = bench.artefact(NAME, RECIPE)
    assert hashlib.sha256(artefact).hexdigest() == evaluation.record.digests.artefact
    assert len(artefact) == evaluation.record.size.artefact
    assert codec.write(bench.compressed(NAME, RECIPE)) == artefact


def test_a_conversion_is_checked_kept_and_known_again(start):
    bench = start()
    assert (
        bench.known(StudyKind.CONVERT, NAME, RECIPE, "onnx") is None and bench.conversion(NAME, RECIPE, "onnx") is None
    )
    result = done(bench.ask(StudyKind.CONVERT, NAME, RECIPE, "onnx"))
    assert result.verification.passed and bench.known(StudyKind.CONVERT, NAME, RECIPE, "onnx") == result.verification
    assert bench.conversion(NAME, RECIPE, "onnx") is result.conversion
    (graph,) = result.conversion.files.values()
    float_recipe = Recipe.of(**{**RECIPE.settings(), "activations": 32})
    assert graph == bench.subject(NAME).program(bench.compressed(NAME, float_recipe), "onnxruntime").content
    # Figures outlive the process, files do not.
    again = start(bench.store.path)
    assert again.known(StudyKind.CONVERT, NAME, RECIPE, "onnx") == result.verification
    assert (
        again.conversion(NAME, RECIPE, "onnx") is None
        and again.known(StudyKind.CONVERT, NAME, Recipe(), "onnx") is None
    )


def test_a_conversion_that_fails_is_a_result_without_files(start, monkeypatch):
    bench = start()
    broken = replace(formats.get("onnx"), write=lambda source: {"x.onnx": b"nothing"})
    monkeypatch.setitem(formats._entries, "onnx", broken)
    result = done(bench.ask(StudyKind.CONVERT, NAME, RECIPE, "onnx"))
    assert result.conversion is None and bench.conversion(NAME, RECIPE, "onnx") is None
    assert not bench.known(StudyKind.CONVERT, NAME, RECIPE, "onnx").passed
    # What could not even be made says nothing about the next time.
    refused = done(bench.ask(StudyKind.CONVERT, NAME, Recipe(), "onnx-int8"))
    assert "needs integer activations" in refused.verification.problem
    assert bench.known(StudyKind.CONVERT, NAME, Recipe(), "onnx-int8") is None
    with pytest.raises(UnknownNameError):
        bench.ask(StudyKind.CONVERT, NAME, RECIPE, "gguf")


def test_kept_files_are_bounded(start, monkeypatch):
    monkeypatch.setattr("paretoscope.service.knowledge.KEPT_BYTES", 1)
    bench = start()
    for format in ("config", "artefact"):
        done(bench.ask(StudyKind.CONVERT, NAME, RECIPE, format))
    assert bench.conversion(NAME, RECIPE, "config") is None and bench.conversion(NAME, RECIPE, "artefact")


def test_an_unknown_model_is_told(start):
    bench = start()
    with pytest.raises(UnknownNameError, match=NAME):
        bench.subject("no-such-model")
    job = bench.evaluate("no-such-model", RECIPE)
    assert job.wait(SECONDS)
    assert job.state == "failed"
    assert "must be registered; got 'no-such-model'" in job.error


def test_the_subject_is_loaded_once(start, monkeypatch):
    bench = start()
    first = bench.subject(NAME)
    monkeypatch.setattr(subjects, "load", lambda name: pytest.fail("loaded again"))
    assert bench.subject(NAME) is first


class Held:
    """Replaces loading: a model waits for its gate, where it has one; `loads` notes every try."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *gated: str) -> None:
        self.gates = {model: threading.Event() for model in gated}
        self.loads: list[str] = []
        self.entered = threading.Semaphore(0)
        self._real = subjects.load
        monkeypatch.setattr(subjects, "load", self._load)

    def _load(self, model: str) -> Subject:
        self.loads.append(model)
        self.entered.release()
        if model in self.gates:
            assert self.gates[model].wait(SECONDS)
        if "absent" in model:
            raise ModelError("the files must be there; they are not. Put them there.")
        return self._real(NAME)


def test_a_model_that_loads_slowly_keeps_no_other_waiting(start, monkeypatch):
    bench = start()
    held = Held(monkeypatch, "slow")
    slow = bench.load("slow")
    assert held.entered.acquire(timeout=SECONDS)
    assert bench.subject(NAME) is bench.load(NAME).result(0)
    assert bench.loaded(NAME) and not bench.loaded("slow") and not slow.done()
    # Nor does it keep those waiting that look at another's records.
    assert bench.records(NAME, Timing()) == []
    held.gates["slow"].set()
    assert slow.result(SECONDS) is bench.subject("slow")


def test_all_who_ask_for_a_model_share_one_loading(start, monkeypatch):
    bench = start()
    held = Held(monkeypatch, "slow")
    with ThreadPoolExecutor(3) as pool:
        asked = [pool.submit(bench.subject, "slow") for _ in range(3)]
        assert held.entered.acquire(timeout=SECONDS)
        asked.append(bench.load("slow"))
        held.gates["slow"].set()
        assert len({id(each.result(SECONDS)) for each in asked}) == 1
    assert held.loads == ["slow"]


def test_a_failed_loading_is_told_to_all_and_tried_again(start, monkeypatch):
    bench = start()
    held = Held(monkeypatch, "absent")
    first = bench.load("absent")
    assert held.entered.acquire(timeout=SECONDS) and bench.load("absent") is first
    held.gates["absent"].set()
    assert "Put them there" in str(first.exception(SECONDS))
    assert not bench.loaded("absent")
    with pytest.raises(ModelError, match="Put them there"):
        bench.subject("absent")
    monkeypatch.setattr(subjects, "load", lambda model: held._real(NAME))
    assert bench.subject("absent") is bench.load("absent").result(SECONDS)
    assert held.loads == ["absent", "absent"]


FORMS = {
    "floats": [Recipe(), Recipe.of(sparsity=0.9), Recipe.of(clusters=4, bits=4, rounding="gptq", bias=True)],
    "narrower": [Recipe.of(nodes=0.5), Recipe.of(nodes=0.5, bits=4, sparsity=0.5, rest="fp16")],
    "narrower by l1": [Recipe.of(nodes=0.5, importance="l1")],
    "factored": [Recipe.of(energy=0.9), Recipe.of(energy=0.9, bits=2)],
    "integers": [Recipe.of(bits=8, activations=8), Recipe.of(bits=2, activations=8, keep_ends=True)],
    "narrower integers": [Recipe.of(nodes=0.5, bits=8, activations=8), Recipe.of(nodes=0.5, bits=3, activations=8)],
    "a float layer among integers": [
        Recipe.of(bits=bits, activations=8, overrides=[{"layers": "fc2", "bits": 16}]) for bits in (4, 8)
    ],
    "another float layer": [Recipe.of(bits=8, activations=8, overrides=[{"layers": "fc1", "bits": 16}])],
}


def test_recipes_share_a_timing_where_their_graphs_are_of_one_form(start, timed):
    bench, taken = start(), {}
    for name, recipes in FORMS.items():
        for recipe in recipes:
            assert bench.latency(NAME, recipe, Timing()) is None, (name, recipe)
        taken[name] = done(bench.time(NAME, recipes[0], Timing()))
        for recipe in recipes:
            assert bench.latency(NAME, recipe, Timing()) == taken[name]
            assert done(bench.time(NAME, recipe, Timing())) == taken[name]
    assert [described for described, _ in timed] == [recipes[0].describe() for recipes in FORMS.values()]
    again = start()
    for name, recipes in FORMS.items():
        for recipe in recipes:
            assert again.latency(NAME, recipe, Timing()) == taken[name]


def test_timings_of_one_form_are_one_job_and_of_another_form_another(start, timed):
    bench = start()
    holder = Holder(bench)
    job = bench.time(NAME, Recipe.of(nodes=0.5), Timing())
    assert bench.time(NAME, Recipe.of(nodes=0.5, bits=4), Timing()) is job
    assert bench.time(NAME, Recipe.of(nodes=0.25, bits=4), Timing()) is not job
    assert bench.time(NAME, Recipe.of(bits=4), Timing()) is not job
    holder.let_go()
    assert done(job).measured_for == Recipe.of(nodes=0.5).digest


def test_a_simplified_recipe_is_filled_in_with_its_own_timing(start, timed, few):
    bench, recipe = start(), Recipe.of(nodes=0.5, bits=8)
    done(bench.fill(NAME, recipe, Timing()))
    assert bench.latency(NAME, recipe, Timing()).measured_for == recipe.digest
    assert bench.latency(NAME, Recipe(), Timing()).measured_for == Recipe().digest
    assert not bench.missing(NAME, recipe, Timing())


@pytest.fixture
def tiny(monkeypatch) -> None:
    """Studies over a few values."""
    grids = {"sparsity": (0.5, 0.95), "clusters": (8,), "bits": (4, 2)}
    monkeypatch.setattr(evaluating, "measure_sensitivity", functools.partial(measure_sensitivity, grids=grids))
    monkeypatch.setattr(cliff, "GRIDS", {"sparsity": (0.2, 0.99), "clusters": (64, 2), "bits": (8, 4, 1)})


# What is studied, and of what.
STUDIED = {
    StudyKind.SENSITIVITY: (NAME,),
    StudyKind.WATERFALL: (NAME, RECIPE),
    StudyKind.CLIFF: (NAME, RECIPE, "bits"),
}
STUDIES = {
    kind: (
        lambda bench, kind=kind, of=of: bench.known(kind, *of),
        lambda bench, kind=kind, of=of: bench.ask(kind, *of),
    )
    for kind, of in STUDIED.items()
}
studies = pytest.mark.parametrize(("find", "measure"), STUDIES.values(), ids=STUDIES)


@studies
def test_a_study_is_found_after_a_restart(start, tiny, find, measure):
    bench = start()
    assert find(bench) is None
    job = measure(bench)
    found = done(job)
    assert job.progress == 1.0
    assert find(bench) is found
    again = start()
    assert find(again) == found
    assert find(again) is find(again)
    assert json.loads(json.dumps(found.to_dict())) == json.loads(json.dumps(find(again).to_dict()))
    assert again.store_error is None


@studies
def test_a_study_that_waits_is_one_job(start, tiny, find, measure):
    bench = start()
    holder = Holder(bench)
    job = measure(bench)
    assert measure(bench) is job
    job.cancel()
    assert measure(bench) is not job
    holder.let_go()
    done(measure(bench))
    assert job.state == "cancelled"


@studies
def test_a_study_that_is_cancelled_midway_is_not_kept(start, tiny, find, measure, monkeypatch):
    bench, report, calls = start(), Job.report, []

    def counted(self, done=None, total=1.0, **told):
        calls.append(done)
        if len(calls) == 4:
            self.cancel()
        report(self, done, total, **told)

    monkeypatch.setattr(Job, "report", counted)
    job = measure(bench)
    assert job.wait(SECONDS)
    assert (job.state, len(calls)) == ("cancelled", 4)
    assert find(bench) is None and find(start()) is None
    monkeypatch.undo()


DAMAGE = ["", "{", "null", "3", "[]", "{}", '"text"', '{"curves": 3}', '{"steps": [3]}', '{"contributions": {"a": 1}}']
DAMAGE += ['{"curves": {"fc1.weight": 3}}', '{"steps": null}', "[" * 100_000, '{"curves": {}, "surprise": 1}', "NaN"]


@studies
def test_a_damaged_study_is_measured_anew(start, tiny, path, find, measure):
    found = done(measure(start()))
    for text in DAMAGE:
        with sqlite3.connect(path) as connection:
            assert connection.execute("UPDATE documents SET text = ?", (text,)).rowcount == 1
        connection.close()
        bench = start()
        assert find(bench) is None, text[:40]
        assert bench.store_error is None
    assert done(measure(bench)) == found
    assert find(start()) == found


@studies
def test_without_a_store_a_study_is_kept_in_memory(start, tiny, tmp_path, find, measure):
    bench = start(tmp_path)
    found = done(measure(bench))
    assert find(bench) is found
    assert "must be a SQLite file" in bench.store_error


def test_studies_of_other_recipes_and_settings_are_others(start, tiny):
    bench = start()
    done(bench.ask(StudyKind.CLIFF, NAME, RECIPE, "bits"))
    done(bench.ask(StudyKind.WATERFALL, NAME, RECIPE))
    assert bench.known(StudyKind.CLIFF, NAME, RECIPE, "clusters") is None
    assert bench.known(StudyKind.CLIFF, NAME, Recipe(), "bits") is None
    assert bench.known(StudyKind.WATERFALL, NAME, Recipe()) is None
    assert bench.known(StudyKind.SENSITIVITY, NAME) is None


def test_curves_grow_while_they_are_measured(start, subject, tiny, monkeypatch):
    bench, report, partials = start(), Job.report, []

    def noting(self, done=None, total=1.0, *, partial=None):
        if partial is not None:
            partials.append(list(partial.curves))
        report(self, done, total, partial=partial)

    monkeypatch.setattr(Job, "report", noting)
    found = done(bench.ask(StudyKind.SENSITIVITY, NAME))
    layers = list(subject.statistics.layers)
    assert partials == [layers[: i + 1] for i in range(len(layers))]
    assert list(found.curves) == layers


def test_a_waterfall_evaluates_what_is_not_known(start, evaluated):
    bench = start()
    done(bench.evaluate(NAME, RECIPE))
    evaluated.clear()
    found = done(bench.ask(StudyKind.WATERFALL, NAME, RECIPE))
    # Three steps have eight subsets; all of them but the recipe itself.
    assert (found.evaluations, len(evaluated)) == (8, 7)
    record = bench.find(NAME, RECIPE).record
    assert (found.bytes, found.accuracy) == (record.size.artefact, record.figures.accuracy)
    assert found.dense_bytes == record.baseline.size_bytes
    assert found.dense_bytes - sum(each.bytes for each in found.contributions) == pytest.approx(found.bytes)
    # What was evaluated on the way is history too.
    assert len(bench.records(NAME, Timing())) == 8


def test_a_cliff_lies_where_the_records_say(start, tiny):
    bench = start()
    found = done(bench.ask(StudyKind.CLIFF, NAME, Recipe(), "sparsity"))
    assert (found.last, found.first) == (0.2, 0.99)
    assert not bench.find(NAME, Recipe.of(sparsity=0.2)).record.figures.distinguishable
    assert bench.find(NAME, Recipe.of(sparsity=0.99)).record.figures.distinguishable


def test_a_cliff_of_no_slider_is_told(start):
    job = start().ask(StudyKind.CLIFF, NAME, RECIPE, "granularity")
    assert job.wait(SECONDS)
    assert job.state == "failed" and "the cliff is found along" in job.error


@pytest.mark.slow
def test_a_suggestion_is_of_the_size_and_repairs_as_its_base(start, tiny):
    bench = start()
    done(bench.ask(StudyKind.SENSITIVITY, NAME))
    base = Recipe.of(bias=True, rest="fp16")
    made = done(bench.ask(StudyKind.SUGGEST, NAME, Target(bytes=60_000), base))
    assert made.reached and made.recipe.overrides
    assert made.recipe.repair == base.repair and made.recipe.code == base.code
    assert len(bench.artefact(NAME, made.recipe)) == made.predicted_bytes <= 60_000
    impossible = done(bench.ask(StudyKind.SUGGEST, NAME, Target(bytes=10), base))
    assert not impossible.reached


@pytest.mark.slow
def test_a_suggestion_for_a_loss_is_measured(start, subject, tiny):
    bench = start()
    done(bench.ask(StudyKind.SENSITIVITY, NAME))
    made = done(bench.ask(StudyKind.SUGGEST, NAME, Target(drop=1.0), Recipe()))
    record = bench.find(NAME, made.recipe).record
    lost = 100 * (subject.baseline.accuracy - record.figures.accuracy)
    assert made.reached and lost == pytest.approx(made.predicted_drop) and lost <= 1.0 + 1e-6
    assert record.size.artefact < subject.baseline.size_bytes / 4


@pytest.mark.slow
def test_an_exchange_rate_is_found_for_a_size_or_a_harm(start, subject, tiny):
    bench = start()
    base = Recipe.of(bits=8, calibration="rate", weighting="magnitude")
    found = done(bench.ask(StudyKind.ALLOT, NAME, base, 60_000, None))
    assert found.reached and len(bench.artefact(NAME, found.recipe)) == found.measured <= 60_000
    found = done(bench.ask(StudyKind.ALLOT, NAME, base, None, 0.001))
    assert found.reached and subject.train_harm(subject.compress(found.recipe)) == found.measured <= 0.001
    job = bench.ask(StudyKind.ALLOT, NAME, Recipe.of(clusters=4), 60_000, None)
    assert job.wait(SECONDS) and job.state == "failed" and "Leave clusters out" in job.error


def test_the_layers_are_those_of_the_model(start, subject):
    rows = done(start().ask(StudyKind.LAYERS, NAME))
    assert [row.name for row in rows] == [*subject.statistics.layers, OTHER]
    assert sum(row.size_share for row in rows) == pytest.approx(1)
    assert sum(row.parameters for row in rows) == subject.parameters


@pytest.mark.parametrize(("cores", "threads"), [(1, [1]), (2, [1, 2]), (4, [1, 2, 4]), (6, [1, 2, 4, 6]), (None, [1])])
def test_the_timings_of_a_study(monkeypatch, cores, threads):
    monkeypatch.setattr(timing_module.os, "cpu_count", lambda: cores)
    floats, integers = (study_timings(recipe, Timing(size=32)) for recipe in (Recipe.of(sparsity=0.9), RECIPE))
    names = list(runtimes.runtimes.names())
    assert [(each.runtime, each.number_format) for each in floats["runtimes"]] == [(name, "fp32") for name in names]
    assert [(each.runtime, each.number_format) for each in integers["runtimes"]] == [
        (runtime.name, number_format) for runtime in runtimes.runtimes for number_format in runtime.number_formats
    ]
    for groups in (floats, integers):
        assert [each.batch for each in groups["batch"]] == list(STUDY_BATCHES)
        assert [each.threads for each in groups["threads"]] == threads
        assert {each.runtime for name in ("batch", "threads") for each in groups[name]} == {"onnxruntime"}
        assert all(each.size == 32 for group in groups.values() for each in group)


def test_the_timings_of_a_study_hold_the_setting_itself(monkeypatch):
    monkeypatch.setattr(timing_module.os, "cpu_count", lambda: 2)
    groups = study_timings(Recipe(), Timing("torch", batch=5, threads=3))
    assert [each.batch for each in groups["batch"]] == [1, 2, 4, 5, 8, 16, 32]
    assert [each.threads for each in groups["threads"]] == [1, 2, 3]
    assert all((each.batch, each.threads) == (5, 3) for each in groups["runtimes"])
    assert all((each.runtime, each.threads) == ("torch", 3) for each in groups["batch"])


def test_alternatives_change_one_thing():
    recipe = Recipe.of(sparsity=0.9, clusters=16)
    assert alternatives(recipe, Timing()) == {
        "half the channels": Recipe.of(sparsity=0.9, clusters=16, nodes=0.5),
        "integer kernels": Recipe.of(sparsity=0.9, clusters=16, bits=8, activations=8),
    }
    assert list(alternatives(recipe, Timing("sparse"))) == ["half the channels"]
    assert list(alternatives(RECIPE, Timing())) == ["half the channels"]
    assert list(alternatives(Recipe.of(nodes=0.5), Timing())) == ["integer kernels"]
    assert alternatives(Recipe.of(nodes=0.7, bits=4, activations=8), Timing()) == {}
    assert alternatives(Recipe.of(bits=4), Timing())["integer kernels"] == Recipe.of(bits=4, activations=8)


def assert_studied(bench: Workbench, recipe: Recipe, timing: Timing) -> None:
    """Everything that is shown is known, but for what is not installed."""
    for group in study_timings(recipe, timing).values():
        for each in group:
            assert (bench.latency(NAME, recipe, each) is None) == bool(each.chosen.missing)
            assert (bench.samples(NAME, recipe, each) is None) == bool(each.chosen.missing)
            assert bench.problem(NAME, recipe, each) is None
    for each in alternatives(recipe, timing).values():
        assert bench.find(NAME, each) is not None
        assert bench.latency(NAME, each, timing).measured_for == each.digest
    assert bench.known(StudyKind.NOISE, NAME, timing) == measuring.NOISE
    assert bench.known(StudyKind.MACHINE, timing.threads) == measuring.machine(timing.threads)
    for each in (recipe, Recipe()):
        assert bench.known(StudyKind.PROFILE, NAME, each, timing) == measuring.PROFILE
        assert bench.known(StudyKind.MEMORY, NAME, each, timing) == measuring.MEMORY
    assert bench.known(StudyKind.PLAN, NAME, recipe, timing) == (measuring.PLAN if timing.runtime == "sparse" else None)


@pytest.mark.parametrize("timing", [Timing(), Timing("sparse", batch=2, threads=2)], ids=["onnxruntime", "sparse"])
@pytest.mark.parametrize("recipe", [RECIPE, Recipe.of(sparsity=0.9)], ids=["integers", "floats"])
def test_a_study_measures_all_that_is_shown_once(start, measured, timing, recipe):
    bench = start()
    assert bench.known(StudyKind.NOISE, NAME, timing) is None and bench.known(StudyKind.MACHINE, timing.threads) is None
    job = bench.ask(StudyKind.LATENCY, NAME, recipe, timing)
    done(job)
    assert_studied(bench, recipe, timing)
    assert len(set(measured)) == len(measured)
    assert measured[0].what == "time" and measured[0].runtime == timing.runtime
    assert "torch-compiled" not in {each.runtime for each in measured}
    taken = list(measured)
    done(bench.ask(StudyKind.LATENCY, NAME, recipe, timing))
    again = start()
    assert_studied(again, recipe, timing)
    done(again.ask(StudyKind.LATENCY, NAME, recipe, timing))
    assert measured == taken
    assert again.store_error is None


def test_a_study_says_what_it_does(start, measured, monkeypatch):
    bench, report, told = start(), Job.report, []

    def noting(self, done=None, total=1.0, *, partial=None):
        if partial is not None:
            told.append((done / total, partial))
        report(self, done, total, partial=partial)

    monkeypatch.setattr(Job, "report", noting)
    done(bench.ask(StudyKind.LATENCY, NAME, RECIPE, Timing()))
    labels = [task.label for task in study_parts(RECIPE, Timing())]
    assert told == [(place / len(labels), label) for place, label in enumerate(labels)]
    assert labels[0] == "Timing in ONNX Runtime, batch 1, 1 thread"


def test_a_study_goes_on_where_something_cannot_be_measured(start, measured, monkeypatch):
    bench, time, profile = start(), Subject.time, Subject.profile

    def failing(self, compressed, runtime, *arguments, **settings):
        if runtime == "torch":
            raise ModelError("torch must be in the mood; it is not. Ask again.")
        return time(self, compressed, runtime, *arguments, **settings)

    def unprofiled(self, *arguments, **settings):
        raise ModelError("no profile today")

    monkeypatch.setattr(Subject, "time", failing)
    monkeypatch.setattr(Subject, "profile", unprofiled)
    done(bench.ask(StudyKind.LATENCY, NAME, RECIPE, Timing()))
    torch = Timing("torch", number_format="fp32")
    assert bench.latency(NAME, RECIPE, torch) is None
    assert bench.problem(NAME, RECIPE, torch) == "torch must be in the mood; it is not. Ask again."
    # The timing of the same setting went well, and does not hide what did not.
    assert bench.latency(NAME, RECIPE, Timing()) is not None and bench.problem(NAME, RECIPE, Timing(), "time") is None
    for what in ("profile", None):
        assert bench.problem(NAME, RECIPE, Timing(), what) == "no profile today"
    assert bench.known(StudyKind.MEMORY, NAME, RECIPE, Timing()) == measuring.MEMORY

    monkeypatch.setattr(Subject, "time", time)
    monkeypatch.setattr(Subject, "profile", profile)
    measured.clear()
    done(bench.ask(StudyKind.LATENCY, NAME, RECIPE, Timing()))
    assert_studied(bench, RECIPE, Timing())
    assert {(each.what, each.runtime) for each in measured} == {("time", "torch"), ("profile", "onnxruntime")}


def test_tasks_are_carried_out_in_their_order(start, measured):
    bench = start()
    tasks = [
        StudyPart("a", StudyKind.NOISE, Recipe(), Timing("torch")),
        StudyPart("b", StudyKind.TIME, RECIPE, Timing("torch", batch=3)),
        StudyPart("c", StudyKind.MACHINE, RECIPE, Timing(threads=2)),
    ]
    done(bench.ask(StudyKind.MEASURE, NAME, tuple(tasks)))
    assert [each.what for each in measured] == ["noise", "time", "machine"]
    assert (measured[1].batch, measured[2].threads) == (3, 2)
    assert bench.latency(NAME, RECIPE, Timing("torch")) is None and bench.known(StudyKind.NOISE, NAME, Timing()) is None


@pytest.mark.slow
def test_what_is_stored_can_be_measured_again(start, measured):
    first = start()
    done(first.evaluate(NAME, RECIPE))
    done(first.ask(StudyKind.LATENCY, NAME, RECIPE, Timing("sparse")))
    taken = list(measured)
    measured.clear()
    bench = start(again=True, budget_s=9.0, width=0.5)
    assert bench.find(NAME, RECIPE) is not None
    assert (
        bench.latency(NAME, RECIPE, Timing("sparse")) is None
        and bench.known(StudyKind.NOISE, NAME, Timing("sparse")) is None
    )
    done(bench.ask(StudyKind.LATENCY, NAME, RECIPE, Timing("sparse")))
    assert_studied(bench, RECIPE, Timing("sparse"))
    assert [replace(each, settings=()) for each in measured] == [replace(each, settings=()) for each in taken]
    effort = {each.settings for each in measured if each.what in ("time", "noise")}
    assert effort == {(("budget_s", 9.0), ("width", 0.5))}
    # It joins the store as any other.
    assert_studied(start(), RECIPE, Timing("sparse"))


@pytest.mark.parametrize(
    ("kind", "find"),
    [
        ("noise", lambda bench: bench.known(StudyKind.NOISE, NAME, Timing("sparse"))),
        ("profile", lambda bench: bench.known(StudyKind.PROFILE, NAME, RECIPE, Timing("sparse"))),
        ("plan", lambda bench: bench.known(StudyKind.PLAN, NAME, RECIPE, Timing("sparse"))),
        ("memory", lambda bench: bench.known(StudyKind.MEMORY, NAME, RECIPE, Timing("sparse"))),
    ],
)
@pytest.mark.parametrize("text", ["", "{", "null", "true and more", '[{"weight": 1}]'])
def test_damaged_parts_of_a_study_are_measured_anew(start, measured, path, kind, find, text):
    done(start().ask(StudyKind.LATENCY, NAME, RECIPE, Timing("sparse")))
    with sqlite3.connect(path) as connection:
        assert connection.execute("UPDATE documents SET text = ? WHERE kind = ?", (text, kind)).rowcount > 0
    connection.close()
    bench = start()
    assert find(bench) is None
    done(bench.ask(StudyKind.LATENCY, NAME, RECIPE, Timing("sparse")))
    assert_studied(bench, RECIPE, Timing("sparse"))


def test_timings_that_follow_the_zeros_are_expected_between_those_that_were_taken(start, measured):
    bench, timing = start(), Timing("sparse")
    recipes = [Recipe.of(sparsity=s) for s in (0.25, 0.7, 0.99)] + [Recipe.of(nodes=0.5), Recipe.of(sparsity=0.5)]
    for recipe in recipes:
        done(bench.evaluate(NAME, recipe))
    done(bench.time(NAME, Recipe(), timing))
    assert bench.anchors(NAME, timing) == ([], [])
    for sparsity in (0.5, 0.9):
        done(bench.time(NAME, Recipe.of(sparsity=sparsity), timing))
    known = bench.records(NAME, timing)
    sparsities, times = bench.anchors(NAME, timing)
    # (1 - s)^2 at 0, 0.5 and 0.9; the others are predicted from these.
    assert sparsities == [0, 0.5, 0.9] and times == pytest.approx([1, 0.25, 0.01])
    assert {record.recipe for record in known if record.latency is not None} == {Recipe.of(sparsity=0.5)}
    assert bench.anchors(NAME, Timing()) == ([], [])


def test_a_fill_takes_the_timings_that_predictions_stand_on(start, timed, few):
    bench, timing = start(), Timing("sparse")
    done(bench.fill(NAME, Recipe(), timing))
    for sparsity in around.ANCHORS:
        assert bench.latency(NAME, Recipe.of(sparsity=sparsity), timing) is not None
    assert not bench.missing(NAME, Recipe(), timing)
