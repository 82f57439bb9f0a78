"""What every store must keep to. A store is handed to it as a row of STORES; a check is a function of such a row."""

import multiprocessing
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import stores
from paretoscope.base.errors import StoreError
from paretoscope.recipe.recipe import Recipe
from paretoscope.service.store import Store
from stores import DATASET, KEY, LATENCY, MODEL, SAMPLES, assert_same, evaluation, get


@dataclass(frozen=True)
class Kind:
    """A store and what can befall it. All that is opened at one path is one store, also in another process.

    full: makes the disk under those opened from now on too small for 60 evaluations, until the monkeypatch is undone.
    older: writes, at a path, a store as an earlier version left it, with the document "a" of "recovery". newer: makes
    the store at a path one of a version to come.
    """

    open: Callable[[Path], Store]
    full: Callable[[pytest.MonkeyPatch], None]
    older: Callable[[Path], None]
    newer: Callable[[Path], None]


STORES = {"sqlite": Kind(Store, stores.small_disk, stores.layout_of_d77f12b, partial(stores.set_version, version=99))}


def comes_back(kind: Kind, path: Path, patch: pytest.MonkeyPatch) -> None:
    """What was put is found by another store of the path, bit for bit, and nothing under any other key."""
    first = kind.open(path)
    assert get(first, Recipe()) is None and first.get_latency(KEY) is None and first.get_document("a", "b") is None
    first.put(evaluation(Recipe()))
    first.put_latency(KEY, LATENCY, SAMPLES)
    first.put_document("waterfall", "a", "{}")
    first.close()
    second = kind.open(path)
    assert_same(get(second, Recipe()), evaluation(Recipe()))
    assert second.get_latency(KEY) == LATENCY and second.get_document("waterfall", "a") == "{}"
    found = second.get_samples(KEY)
    assert found is not None
    np.testing.assert_array_equal(found.candidate_ms, SAMPLES.candidate_ms)
    assert get(second, Recipe.of(bits=3)) is None and second.get_latency(replace(KEY, threads=7)) is None
    assert second.get_document("waterfall", "b") is None and second.records("d" * 64, DATASET) == []


def latest_counts(kind: Kind, path: Path, patch: pytest.MonkeyPatch) -> None:
    """A second put replaces the first, but no timing that is decided is replaced by one that is not."""
    store = kind.open(path)
    for correct in (5, 6):
        store.put(evaluation(Recipe(), correct=correct))
    for text in ("old", "new"):
        store.put_document("waterfall", "a", text)
    undecided = replace(LATENCY, speedup_low=LATENCY.speedup / 100, speedup_high=LATENCY.speedup * 100)
    assert LATENCY.decided and not undecided.decided
    for latency in (LATENCY, undecided):
        store.put_latency(KEY, latency, SAMPLES)
    assert_same(get(store, Recipe()), evaluation(Recipe(), correct=6))
    assert store.get_document("waterfall", "a") == "new" and store.get_latency(KEY) == LATENCY
    assert len(store.records(MODEL, DATASET)) == 1


def oldest_first(kind: Kind, path: Path, patch: pytest.MonkeyPatch) -> None:
    """The records of a model come in the order in which they were put."""
    store, recipes = kind.open(path), [Recipe.of(bits=bits) for bits in (7, 2, 5)]
    for recipe in recipes:
        store.put(evaluation(recipe))
    store.put(evaluation(Recipe(), model="d" * 64))
    assert [record.recipe for record in store.records(MODEL, DATASET)] == recipes


def threads_share(kind: Kind, path: Path, patch: pytest.MonkeyPatch) -> None:
    """Any number of threads may use one store at once."""
    store, failed = kind.open(path), list[BaseException]()

    def work(writer: int) -> None:
        try:
            _write(store, writer)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(writer,)) for writer in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failed == [] and store.waiting == 0 and len(kind.open(path).records(MODEL, DATASET)) == 40


def processes_share(kind: Kind, path: Path, patch: pytest.MonkeyPatch) -> None:
    """Two processes may create the store and write to it at once; each finds what the other wrote."""
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_open_and_write, args=(kind, path, writer)) for writer in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0]
    assert len(kind.open(path).records(MODEL, DATASET)) == 20


def survives_a_full_disk(kind: Kind, path: Path, patch: pytest.MonkeyPatch) -> None:
    """What the disk refuses is told, found all the same, and written once there is room."""
    recipes, refused = [Recipe.of(sparsity=step / 1000) for step in range(1, 61)], 0
    with patch.context() as here:
        kind.full(here)
        store = kind.open(path)
        for recipe in recipes:
            try:
                store.put(evaluation(recipe, n=800))
            except StoreError:
                refused += 1
        assert 0 < refused < 60 and store.waiting == refused and store.problem is not None
        assert [record.recipe for record in store.records(MODEL, DATASET)] == recipes
    store.close()
    assert store.waiting == 0 and store.problem is None
    assert [record.recipe for record in kind.open(path).records(MODEL, DATASET)] == recipes


def migrates(kind: Kind, path: Path, patch: pytest.MonkeyPatch) -> None:
    """Rows of an earlier version are kept, and the store is used."""
    kind.older(path)
    store = kind.open(path)
    assert store.get_document("recovery", "a", any_revision=True) == "{}"
    store.put(evaluation(Recipe()))
    assert_same(get(kind.open(path), Recipe()), evaluation(Recipe()))


def leaves_a_newer_one_alone(kind: Kind, path: Path, patch: pytest.MonkeyPatch) -> None:
    """A store of a later version is refused with its reason, by reads and writes, and not one byte of it changes."""
    kind.open(path).put_document("waterfall", "a", "{}")
    kind.newer(path)
    before = {each.name: each.read_bytes() for each in path.parent.iterdir()}
    for use in (lambda s: s.get_document("waterfall", "a"), lambda s: s.put_document("waterfall", "b", "{}")):
        with pytest.raises(StoreError, match="newer version"):
            use(kind.open(path))
    assert {each.name: each.read_bytes() for each in path.parent.iterdir()} == before


CHECKS: tuple[Callable[[Kind, Path, pytest.MonkeyPatch], None], ...] = (
    comes_back,
    latest_counts,
    oldest_first,
    threads_share,
    processes_share,
    survives_a_full_disk,
    migrates,
    leaves_a_newer_one_alone,
)


def _write(store: Store, writer: int) -> None:
    for step in range(10):
        store.put(evaluation(Recipe.of(sparsity=(10 * writer + step) / 1000, bits=8)))
        store.records(MODEL, DATASET)


def _open_and_write(kind: Kind, path: Path, writer: int) -> None:
    _write(kind.open(path), writer)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", STORES)
def test_a_store_keeps_the_contract(name: str, check: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check(STORES[name], tmp_path / "store" / "records", monkeypatch)


class _Forgetful(Store):
    """Keeps nothing that cannot be written at once."""

    def put(self, evaluation: Any) -> None:
        try:
            super().put(evaluation)
        except StoreError:
            self._waiting.clear()
            raise


class _Unordered(Store):
    def records(self, model: str, dataset: str) -> Any:
        return sorted(super().records(model, dataset), key=lambda record: record.digests.recipe)


class _Deaf(Store):
    """Replaces whatever was there."""

    def get_latency(self, key: Any) -> Any:
        return None


class _Apart(Store):
    """Every store object has a file of its own."""

    def __init__(self, path: Path) -> None:
        super().__init__(path.with_name(f"{path.name}-{uuid.uuid4()}"))


FAULTY = [
    (_Forgetful, survives_a_full_disk),
    (_Unordered, oldest_first),
    (_Deaf, latest_counts),
    (_Apart, comes_back),
    (_Apart, threads_share),
    (_Apart, processes_share),
    (_Apart, migrates),
    (_Apart, leaves_a_newer_one_alone),
]


@pytest.mark.parametrize(("store", "check"), FAULTY, ids=lambda each: each.__name__)
def test_a_store_that_breaks_the_contract_is_found_out(
    store: type[Store], check: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert {found for _, found in FAULTY} == set(CHECKS)
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        check(replace(STORES["sqlite"], open=partial(store)), tmp_path / "store" / "records", monkeypatch)
