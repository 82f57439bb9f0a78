"""Locks are taken in the order that `paretoscope.service` states, by pages and jobs that work at once."""

import itertools
import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import measuring
import pytest
from paretoscope.base.recent import Recent
from paretoscope.measure.subject import Subject
from paretoscope.recipe.recipe import Recipe
from paretoscope.service.jobs import Job, JobKind, Priority
from paretoscope.service.limits import Limits
from paretoscope.service.parties import Party, asking
from paretoscope.service.store import Store
from paretoscope.service.study import StudyKind
from paretoscope.service.timing import Timing
from paretoscope.service.workbench import Workbench

NAME = "lenet-300-100"
SECONDS = 300
# In the order in which they may be taken; the store's with none of the others held.
ORDER = ("workbench", "scheduler", "job", "visitors", "cache")
APART = ("writing", "store", "database")


class Watch:
    """Notes which locks each thread takes while it holds which."""

    def __init__(self) -> None:
        self._held = threading.local()
        self.seen: set[tuple[str, str]] = set()

    def take(self, name: str) -> None:
        held = self.held
        self.seen.update((each, name) for each in held)
        held.append(name)

    def let_go(self, name: str) -> None:
        self.held.remove(name)

    @property
    def held(self) -> list[str]:
        if not hasattr(self._held, "names"):
            self._held.names = []
        return self._held.names

    def wrong(self) -> set[tuple[str, str]]:
        """Pairs (held, taken) that no order allows."""
        rank = {name: place for place, name in enumerate(ORDER)}
        apart = {name: place for place, name in enumerate(APART)}
        return {
            (held, taken)
            for held, taken in self.seen
            if not (
                (held in rank and taken in rank and (rank[held] < rank[taken] or held == taken == "cache"))
                or (held in apart and taken in apart and apart[held] < apart[taken])
                or (held in apart and taken == "cache")
            )
        }


class Watched:
    """A lock that tells a watch."""

    def __init__(self, name: str, watch: Watch, lock: Any) -> None:
        self._name, self._watch, self._lock = name, watch, lock

    def __enter__(self) -> None:
        self._watch.take(self._name)
        self._lock.__enter__()

    def __exit__(self, *error: object) -> None:
        self._lock.__exit__(*error)
        self._watch.let_go(self._name)


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    """Watches the lock of every job and every cache that is made from now on."""
    watch = Watch()
    for kind, name in ((Job, "job"), (Recent, "cache")):
        begin = kind.__init__

        def watched(self: Any, *args: Any, begin: Any = begin, name: str = name, **settings: Any) -> None:
            begin(self, *args, **settings)
            self._lock = Watched(name, watch, self._lock)

        monkeypatch.setattr(kind, "__init__", watched)
    return watch


@pytest.fixture
def bench(watch: Watch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workbench]:
    monkeypatch.setenv("PARETOSCOPE_STORE", str(tmp_path / "records.sqlite"))
    measuring.fake(monkeypatch)
    visitors = Watched("visitors", watch, threading.Lock())

    def present(visitor: str) -> bool:
        with visitors:
            return True

    bench = Workbench(Store(tmp_path / "records.sqlite"), limits=Limits(), present=present)
    bench._lock = Watched("workbench", watch, bench._lock)
    bench._latencies._lock = bench._lock
    bench._scheduler._lock = Watched("scheduler", watch, bench._scheduler._lock)
    bench.store._lock = Watched("store", watch, bench.store._lock)
    bench.store._writing = Watched("writing", watch, bench.store._writing)
    bench.store._file._lock = Watched("database", watch, bench.store._file._lock)
    yield bench
    bench.close()


def visit(bench: Workbench, number: int) -> None:
    """What a page does, over and over, with recipes that others look at too."""
    draw, party = random.Random(number), Party(f"visitor {number % 3}", f"tab {number}")
    recipes = [Recipe.of(bits=bits, sparsity=sparsity) for bits, sparsity in itertools.product((4, 8), (0.0, 0.5))]
    for _ in range(12):
        recipe, timing = draw.choice(recipes), Timing(draw.choice(("torch", "onnxruntime")))
        with asking(party):
            wanted = [
                bench.evaluate(NAME, recipe, draw.choice((Priority.NOW, Priority.LATER))),
                bench.time(NAME, recipe, timing),
                bench.ask(StudyKind.LATENCY, NAME, recipe, timing),
            ]
        for job in wanted:
            job.keep(party)
            bench.ahead(job)
        bench.records(NAME, timing)
        bench.reference_ms(NAME, timing)
        bench.problem(NAME, recipe, timing)
        bench.known(StudyKind.NOISE, NAME, timing)
        wanted[0].wait(0.02)
        for job in wanted:
            job.let_go(party)


@pytest.mark.slow
def test_locks_are_taken_in_their_order(bench: Workbench, watch: Watch) -> None:
    # A job of a training, whose visitor is asked for under the scheduler's lock and the job's.
    with asking(Party("visitor 0")):
        training = bench.ask(StudyKind.RECOVER, NAME, Recipe.of(bits=4, epochs=2))
    assert training.kind is JobKind.TRAINING
    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(visit, bench, number) for number in range(4)]:
            done.result(SECONDS)
    training.cancel()
    assert training.wait(SECONDS)
    assert not watch.wrong()
    # The exercise took those that may be taken together, so that a wrong order would have been seen.
    assert {("workbench", "scheduler"), ("scheduler", "job"), ("workbench", "job"), ("job", "visitors")} <= watch.seen
    assert ("workbench", "cache") in watch.seen and not watch.held


def test_a_wrong_order_is_seen(bench: Workbench, watch: Watch) -> None:
    bench.subject(NAME)
    assert not watch.wrong()
    with bench._scheduler._lock:
        bench.loaded(NAME)
    with bench._lock:
        assert bench.store.waiting == 0
    assert watch.wrong() == {("scheduler", "workbench"), ("workbench", "store")}


def test_a_subject_is_not_asked_for_under_any_lock(
    bench: Workbench, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = []
    compress = Subject.compress

    def noting(self: Subject, recipe: Recipe) -> Any:
        held.append(list(watch.held))
        return compress(self, recipe)

    monkeypatch.setattr(Subject, "compress", noting)
    job = bench.ask(StudyKind.LATENCY, NAME, Recipe.of(bits=4, activations=8), Timing())
    bench.compressed(NAME, Recipe.of(bits=8))
    bench.work(NAME, Recipe.of(bits=8), Timing())
    assert job.wait(SECONDS) and job.error is None
    assert held and not any(held)
