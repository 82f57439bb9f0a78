"""Every cache of the service has the bound that `paretoscope.service` states, and what is dropped is found again."""

import gc
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import measuring
import pytest
import timings
from paretoscope import service
from paretoscope.base.recent import Recent
from paretoscope.measure.latency import Measurement
from paretoscope.measure.subject import Subject
from paretoscope.recipe.recipe import Recipe
from paretoscope.service import jobs, knowledge, latencies, lookups, subjects
from paretoscope.service.store import Store
from paretoscope.service.study import StudyKind
from paretoscope.service.timing import Timing
from paretoscope.service.timing_key import TimingKey
from paretoscope.service.workbench import Workbench

NAME = "lenet-300-100"
SECONDS = 300


@pytest.fixture(scope="module")
def subject() -> Subject:
    return subjects.load(NAME)


@pytest.fixture
def start(subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Workbench]]:
    """start(): a workbench with bounds as they are just now; every network is the same."""
    monkeypatch.setattr(subjects, "load", lambda name: replace(subject, network=replace(subject.network, name=name)))
    benches = []

    def begin() -> Workbench:
        benches.append(Workbench(Store(tmp_path / "records.sqlite")))
        return benches[-1]

    yield begin
    for bench in benches:
        bench.close()


def caches(of: object) -> dict[str, Recent[Any, Any]]:
    return {name: each for name, each in vars(of).items() if isinstance(each, Recent)}


def containers(of: object) -> set[str]:
    """The attributes that hold many, whatever their type."""
    found = {name: each for name, each in vars(of).items() if name.startswith("_")}
    return {name for name, each in found.items() if isinstance(each, dict | list | set | Recent)}


def test_the_list_names_every_container_with_its_bound(start: Callable[[], Workbench]) -> None:
    bench = start()
    rows = [line for line in service.__doc__.splitlines() if line.startswith("| ")]
    listed = {name for row in rows for name in re.findall(r"_\w+", row)}
    for each in (bench, bench._latencies, bench._scheduler, bench.store, bench.subject(NAME)):
        unlisted = containers(each) - listed
        assert not unlisted, f"{type(each).__name__}: {unlisted}"
    assert {name: each.most for name, each in caches(bench).items()} == {
        "_subjects": 16,
        "_evaluations": 64 << 20,
        "_studies": 512,
        "_work": 256,
        "_conversions": 256 << 20,
    }
    assert {name: each.most for name, each in caches(bench._latencies).items()} == {
        "_known": 4096,
        "_absent": 4096,
        "_tries": 4096,
        "_references": 1024,
        "_problems": 1024,
    }
    assert knowledge.RECORDS == 20_000 and lookups.SETTINGS == 64


def test_networks_are_closed_with_their_records_and_opened_again(
    start: Callable[[], Workbench], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(knowledge, "NETWORKS", 2)
    bench = start()
    first = bench.subject("a")
    assert bench.subject("b") and bench.subject("a") is first and bench.subject("c")
    assert bench.loaded("a") and bench.loaded("c") and not bench.loaded("b")
    assert set(bench._boards) == set(bench._earlier) == {"a", "c"}
    assert bench.records("b", Timing()) == [] and bench.loaded("b")
    assert set(bench._boards) == {"b", "c"}


def test_evaluations_are_dropped_by_their_bytes_and_read_again(
    start: Callable[[], Workbench], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(knowledge, "EVALUATION_BYTES", 2 * 797 * 12)
    bench, recipes = start(), [Recipe.of(bits=bits) for bits in (4, 5, 6)]
    found = []
    for recipe in recipes:
        job = bench.evaluate(NAME, recipe)
        assert job.wait(SECONDS)
        found.append(job.result)
    assert len(bench._evaluations) == 2
    again = bench.find(NAME, recipes[0])
    assert again is not found[0] and again.record == found[0].record
    assert bench.find(NAME, recipes[2]) is found[2]


def test_records_are_bounded(start: Callable[[], Workbench], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(knowledge, "RECORDS", 2)
    bench, recipes = start(), [Recipe.of(bits=bits) for bits in (4, 5, 6)]
    for recipe in recipes:
        assert bench.evaluate(NAME, recipe).wait(SECONDS)
    assert [record.recipe for record in bench.records(NAME, Timing())] == recipes[1:]
    assert not bench.recorded(NAME, recipes[0])
    # Whoever opens it has it back among the plots.
    assert bench.find(NAME, recipes[0]) is not None and bench.evaluate(NAME, recipes[0]).wait(SECONDS)


def test_studies_are_dropped_and_read_again(start: Callable[[], Workbench], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(knowledge, "STUDIES", 2)
    bench = start()
    for threads in (1, 2, 3):
        bench.keep(StudyKind.NOISE, (NAME, Timing(threads=threads)), {"speedup": threads})
    assert len(bench._studies) == 2
    text = bench.store.get_document("noise", bench.timing_key(NAME, Recipe(), Timing()).to_json())
    assert text == '{"speedup": 1}'


def test_timings_are_dropped_and_read_again(
    start: Callable[[], Workbench], subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latencies, "TIMINGS", 2)
    monkeypatch.setattr(latencies, "SETTINGS", 2)
    bench, settings = start(), [Timing(batch=batch) for batch in (1, 2, 3)]
    for timing in settings:
        latency = timings.latency(0.5, 2.0, batch=timing.batch)
        bench.keep_timing(NAME, Recipe(), timing, Measurement(latency, measuring.SAMPLES))
        bench.note_problem(NAME, Recipe(), timing, StudyKind.PROFILE, "no profile today")
    for each in caches(bench._latencies).values():
        assert len(each) <= 2
    assert [bench.latency(NAME, Recipe(), timing).batch for timing in settings] == [1, 2, 3]
    assert all(bench.reference_ms(NAME, timing) is not None for timing in settings)
    assert [bench.problem(NAME, Recipe(), timing) for timing in settings] == [None, *["no profile today"] * 2]
    assert len(bench._latencies._references) == 2
    assert all(isinstance(key, TimingKey) for key in bench._latencies._known)


def test_what_layers_compute_is_bounded(start: Callable[[], Workbench], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(knowledge, "WORKS", 2)
    bench = start()
    first = bench.work(NAME, Recipe(), Timing())
    for batch in (2, 3):
        bench.work(NAME, Recipe(), Timing(batch=batch))
    assert len(bench._work) == 2
    assert bench.work(NAME, Recipe(), Timing()) == first


def test_jobs_that_have_ended_are_let_go(start: Callable[[], Workbench]) -> None:
    bench = start()
    for bits in range(2, 9):
        assert bench.evaluate(NAME, Recipe.of(bits=bits)).wait(SECONDS)
    # The last one, and the one before where its end came after the last was asked for.
    assert len(bench._jobs) <= 2
    for thread in threading.enumerate():
        if thread.name == "paretoscope-job":
            thread.join(SECONDS)
    assert not bench._scheduler._queue and not bench._scheduler._begun
    gc.collect()
    kept = [each for each in gc.get_objects() if type(each) is jobs.Job and each._scheduler is bench._scheduler]
    assert len(kept) <= 2
