import dataclasses
import multiprocessing
import os
import sqlite3
from pathlib import Path

import numpy as np
import pytest
import timings

from compression import store as store_module
from compression.errors import StoreError
from compression.measure.accuracy import Predictions
from compression.measure.latency import Samples
from compression.measure.record import Accuracy, Baseline, Digests, Ladder, Rates, Record
from compression.measure.subject import Evaluation
from compression.recipe import Recipe
from compression.store import Store, TimingKey, default_path

MODEL, DATASET = "a" * 64, "b" * 64
KEY = TimingKey(MODEL, "", "m" * 64, "onnxruntime", "int8", 1, 2)
LATENCY = timings.latency()
# As many as are kept at most; float32 holds these exactly.
SAMPLES = Samples(np.arange(1, 2001) / 64, np.arange(2000, 0, -1) / 32)
TIMINGS = "measurements"


def evaluation(recipe: Recipe, correct: int = 5, n: int = 8, model: str = MODEL) -> Evaluation:
    record = Record(
        model="a-model",
        dataset="a-dataset",
        recipe=recipe,
        digests=Digests(model, DATASET, recipe.digest, "c" * 64),
        figures=Accuracy(n, correct, correct / n, 0.1, 0.9, 0.1 + 0.2, 1 / 3, 1 / 7),
        baseline=Baseline(8, 1.0, 1.0, 4000),
        rates=Rates(0.5, 0.25, 1.0),
        size=Ladder(4000, 3000, 2000, 1000, 900, 950),
    )
    random = np.random.default_rng(correct)
    return Evaluation(record, Predictions(random.integers(0, 10, n), random.random(n, np.float32)))


def assert_same(found: Evaluation | None, expected: Evaluation) -> None:
    assert found is not None
    assert found.record == expected.record
    np.testing.assert_array_equal(found.predictions.classes, expected.predictions.classes)
    np.testing.assert_array_equal(found.predictions.confidences, expected.predictions.confidences)
    assert found.predictions.confidences.dtype == np.float32
    assert found.predictions.classes.dtype == np.int64


def get(store: Store, recipe: Recipe) -> Evaluation | None:
    return store.get(MODEL, DATASET, recipe.digest)


@pytest.fixture
def path(tmp_path, monkeypatch) -> Path:
    path = tmp_path / "a folder" / "records.sqlite"
    monkeypatch.setenv("PARETOSCOPE_STORE", str(path))
    return path


def test_an_empty_store_has_nothing(path):
    store = Store()
    assert get(store, Recipe()) is None
    assert store.records(MODEL, DATASET) == []
    assert store.get_latency(KEY) is None
    assert path.is_file()


def test_an_evaluation_comes_back_from_another_store_object(path):
    first, second = evaluation(Recipe.of(bits=8)), evaluation(Recipe(), correct=7)
    Store().put(first)
    Store().put(second)
    restarted = Store()
    assert_same(get(restarted, Recipe.of(bits=8)), first)
    assert_same(get(restarted, Recipe()), second)
    assert get(restarted, Recipe.of(bits=4)) is None
    assert restarted.get("d" * 64, DATASET, Recipe().digest) is None
    assert restarted.get(MODEL, "d" * 64, Recipe().digest) is None
    assert restarted.records(MODEL, "d" * 64) == []


def test_records_come_oldest_first(path):
    recipes = [Recipe.of(sparsity=step / 20) for step in range(1, 13)]
    assert [recipe.digest for recipe in recipes] != sorted(recipe.digest for recipe in recipes)
    for recipe in recipes:
        Store().put(evaluation(recipe))
    assert [record.recipe for record in Store().records(MODEL, DATASET)] == recipes


def test_records_are_those_of_one_model(path):
    Store().put(evaluation(Recipe.of(bits=4)))
    Store().put(evaluation(Recipe.of(bits=8), model="e" * 64))
    assert [record.recipe.bits for record in Store().records(MODEL, DATASET)] == [4]


def test_a_second_put_replaces_the_first(path):
    store = Store()
    store.put(evaluation(Recipe(), correct=3))
    store.put(evaluation(Recipe(), correct=4))
    assert_same(get(store, Recipe()), evaluation(Recipe(), correct=4))
    assert len(store.records(MODEL, DATASET)) == 1


def test_a_record_is_kept_without_its_timing(path):
    timed = evaluation(Recipe())
    timed = dataclasses.replace(timed, record=dataclasses.replace(timed.record, latency=LATENCY))
    Store().put(timed)
    assert get(Store(), Recipe()).record.latency is None
    assert Store().records(MODEL, DATASET)[0].latency is None


def test_a_timing_comes_back_and_is_replaced(path):
    Store().put_latency(KEY, LATENCY, SAMPLES)
    assert Store().get_latency(KEY) == LATENCY
    newer = dataclasses.replace(LATENCY, speedup=3.0)
    Store().put_latency(KEY, newer, SAMPLES)
    assert Store().get_latency(KEY) == newer


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(TimingKey)])
def test_a_timing_is_not_found_under_another_key(path, field):
    Store().put_latency(KEY, LATENCY, SAMPLES)
    value = getattr(KEY, field)
    changed = 28 if value is None else value + 1 if isinstance(value, int) else value + "x"
    other = dataclasses.replace(KEY, **{field: changed})
    assert Store().get_latency(other) is None and Store().get_samples(other) is None


def test_the_single_calls_come_back_with_their_timing(path):
    assert Store().get_samples(KEY) is None
    Store().put_latency(KEY, LATENCY, SAMPLES)
    found = Store().get_samples(KEY)
    for name in ("candidate_ms", "baseline_ms"):
        assert getattr(found, name).dtype == np.float64
        np.testing.assert_array_equal(getattr(found, name), getattr(SAMPLES, name))
    Store().put_latency(KEY, LATENCY, Samples(np.array([0.1, 3.0]), np.array([0.2, 5.0])))
    replaced = Store().get_samples(KEY)
    np.testing.assert_allclose(replaced.candidate_ms, [0.1, 3.0], rtol=2**-24)
    np.testing.assert_allclose(replaced.baseline_ms, [0.2, 5.0], rtol=2**-24)


@pytest.mark.parametrize("column", ["candidate", "baseline"])
@pytest.mark.parametrize("value", [b"abc", "text", 3], ids=["no whole number", "text", "a number"])
def test_damaged_single_calls_are_told(path, column, value):
    Store().put_latency(KEY, LATENCY, SAMPLES)
    damage(path, TIMINGS, column, value)
    with pytest.raises(StoreError, match="must hold what this version wrote"):
        Store().get_samples(KEY)
    assert Store().get_latency(KEY) == LATENCY


def test_a_document_comes_back_and_is_replaced(path):
    text = '{"name": "Größe\\u0000", "values": [1, 2.5, null]}\n' * 1000
    assert Store().get_document("waterfall", "a key") is None
    Store().put_document("waterfall", "a key", text)
    assert Store().get_document("waterfall", "a key") == text
    Store().put_document("waterfall", "a key", "")
    assert Store().get_document("waterfall", "a key") == ""


def test_documents_of_other_kinds_and_keys_are_others(path):
    pairs = [("cliff bits", "a"), ("cliff bits", "b"), ("cliff clusters", "a"), ("waterfall", "a"), ("", "")]
    for kind, key in pairs:
        Store().put_document(kind, key, f"{kind} of {key}")
    for kind, key in pairs:
        assert Store().get_document(kind, key) == f"{kind} of {key}"
    assert Store().get_document("cliff", "a") is None


@pytest.mark.parametrize(
    "table",
    [
        "timings",
        "latencies",
    ],
)
def test_a_store_of_an_earlier_version_is_used_and_its_rows_are_left_alone(path, table):
    """It had a table of timings under another name or of other columns, and no documents."""
    path.parent.mkdir(parents=True)
    with sqlite3.connect(path) as connection:
        connection.execute(f"CREATE TABLE {table} (engine INTEGER, model TEXT, latency TEXT)")
        connection.execute(f"INSERT INTO {table} VALUES (1, 'a', '{{}}')")
    connection.close()
    store = Store()
    assert store.get_latency(KEY) is None and store.get_document("waterfall", "a") is None
    store.put_latency(KEY, LATENCY, SAMPLES)
    store.put_document("waterfall", "a", "{}")
    assert Store().get_latency(KEY) == LATENCY
    assert Store().get_document("waterfall", "a") == "{}"
    with sqlite3.connect(path) as connection:
        assert connection.execute(f"SELECT * FROM {table}").fetchall() == [(1, "a", "{}")]
    connection.close()


def test_rows_of_another_engine_are_not_shown(path, monkeypatch):
    Store().put(evaluation(Recipe(), correct=3))
    Store().put_latency(KEY, LATENCY, SAMPLES)
    Store().put_document("waterfall", "a", "{}")
    monkeypatch.setattr(store_module, "ENGINE", store_module.ENGINE + 1)
    assert Store().get_document("waterfall", "a") is None
    assert get(Store(), Recipe()) is None
    assert Store().records(MODEL, DATASET) == []
    assert Store().get_latency(KEY) is None
    Store().put(evaluation(Recipe(), correct=4))
    assert get(Store(), Recipe()).record.figures.correct == 4
    monkeypatch.undo()
    monkeypatch.setenv("PARETOSCOPE_STORE", str(path))
    assert get(Store(), Recipe()).record.figures.correct == 3


def write_many(path: Path, ready: "multiprocessing.synchronize.Barrier", writer: int, count: int) -> None:
    store = Store(path)
    ready.wait(60)
    for step in range(count):
        store.put(evaluation(Recipe.of(sparsity=(writer * count + step) / 1000, bits=8)))
        store.put_latency(dataclasses.replace(KEY, batch=1 + step), LATENCY, SAMPLES)


def test_processes_may_write_at_once(path):
    """All of them create the file, switch its journal and write the same timings."""
    context = multiprocessing.get_context("fork")
    writers, count = 4, 25
    ready = context.Barrier(writers)
    processes = [context.Process(target=write_many, args=(path, ready, writer, count)) for writer in range(writers)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    codes = [process.exitcode for process in processes]
    for process in processes:
        process.kill()
    assert codes == [0] * writers
    assert len(Store().records(MODEL, DATASET)) == writers * count
    assert all(Store().get_latency(dataclasses.replace(KEY, batch=1 + step)) == LATENCY for step in range(count))


def test_a_reader_does_not_wait_for_a_writer(path):
    """The page reads while a sweep writes: a new store too, whose first use looks at the tables."""
    Store().put(evaluation(Recipe()))
    writer = sqlite3.connect(path, isolation_level=None)
    try:
        writer.execute("BEGIN EXCLUSIVE")
        writer.execute("DELETE FROM records")
        assert_same(get(Store(), Recipe()), evaluation(Recipe()))
        assert len(Store().records(MODEL, DATASET)) == 1
    finally:
        writer.close()


def assert_every_use_fails(store: Store, match: str) -> None:
    uses = [
        lambda: store.put(evaluation(Recipe())),
        lambda: get(store, Recipe()),
        lambda: store.records(MODEL, DATASET),
        lambda: store.put_latency(KEY, LATENCY, SAMPLES),
        lambda: store.get_latency(KEY),
        lambda: store.get_samples(KEY),
        lambda: store.put_document("waterfall", "a", "{}"),
        lambda: store.get_document("waterfall", "a"),
    ]
    for use in uses:
        with pytest.raises(StoreError, match=match) as raised:
            use()
        assert str(store.path) in str(raised.value)
        assert "PARETOSCOPE_STORE" in str(raised.value)


def test_a_file_that_is_not_a_database_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("not a database, and longer than the hundred bytes that a header of one would take" * 3)
    before = path.read_bytes()
    assert_every_use_fails(Store(path), "must be a SQLite file")
    assert path.read_bytes() == before


def test_a_folder_is_refused(tmp_path):
    assert_every_use_fails(Store(tmp_path), "must be a SQLite file that can be written")


def test_a_path_under_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    assert_every_use_fails(Store(tmp_path / "file" / "records.sqlite"), "must be a SQLite file that can be written")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    folder = tmp_path / "read-only"
    folder.mkdir(mode=0o500)
    assert_every_use_fails(Store(folder / "records.sqlite"), "can be written")


def test_a_database_with_other_tables_is_refused(tmp_path):
    path = tmp_path / "other.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE records (colour TEXT)")
        connection.execute(f"CREATE TABLE {TIMINGS} (colour TEXT)")
        connection.execute("CREATE TABLE documents (colour TEXT)")
    connection.close()
    assert_every_use_fails(Store(path), "must be a SQLite file")


def test_a_full_disk_is_told_and_what_was_kept_stays(path, monkeypatch):
    connect = sqlite3.connect

    def connect_to_a_small_disk(*arguments, **settings):
        connection = connect(*arguments, **settings)
        connection.execute("PRAGMA max_page_count = 20")
        return connection

    monkeypatch.setattr(sqlite3, "connect", connect_to_a_small_disk)
    store = Store()
    kept = []
    with pytest.raises(StoreError, match="Free space"):
        for step in range(200):
            store.put(evaluation(Recipe.of(sparsity=step / 1000), n=800))
            kept.append(step)
    assert 0 < len(kept) < 200
    monkeypatch.setattr(sqlite3, "connect", connect)
    assert len(store.records(MODEL, DATASET)) == len(kept)
    assert_same(get(store, Recipe.of(sparsity=kept[-1] / 1000)), evaluation(Recipe.of(sparsity=kept[-1] / 1000), n=800))


def damage(path: Path, table: str, column: str, value: object) -> None:
    with sqlite3.connect(path) as connection:
        assert connection.execute(f"UPDATE {table} SET {column} = ?", (value,)).rowcount == 1
    connection.close()


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "3", "null", "{}", '{"model": 1}', "[" * 100_000], ids=lambda text: text[:9]
)
def test_a_damaged_row_is_told(path, text):
    store = Store()
    store.put(evaluation(Recipe()))
    store.put_latency(KEY, LATENCY, SAMPLES)
    damage(path, "records", "record", text)
    damage(path, TIMINGS, "latency", text)
    for use in (
        lambda: get(store, Recipe()),
        lambda: store.records(MODEL, DATASET),
        lambda: store.get_latency(KEY),
    ):
        with pytest.raises(StoreError, match="must hold what this version wrote") as raised:
            use()
        assert str(path) in str(raised.value)


def test_a_record_with_a_recipe_that_is_refused_is_told(path):
    Store().put(evaluation(Recipe.of(sparsity=0.5)))
    text = evaluation(Recipe.of(sparsity=0.5)).record.to_json()
    assert '"sparsity": 0.5' in text
    damage(path, "records", "record", text.replace('"sparsity": 0.5', '"sparsity": 95'))
    with pytest.raises(StoreError, match="got 95"):
        Store().records(MODEL, DATASET)


@pytest.mark.parametrize("column", ["classes", "confidences"])
@pytest.mark.parametrize(
    "value", [b"abc", b"", bytes(80), "text", 3], ids=["no whole number", "empty", "too many", "text", "a number"]
)
def test_damaged_predictions_are_told(path, column, value):
    """Eight samples were put: 64 bytes of classes, 32 of confidences."""
    Store().put(evaluation(Recipe()))
    damage(path, "records", column, value)
    with pytest.raises(StoreError, match="must hold what this version wrote"):
        get(Store(), Recipe())


def test_a_store_whose_file_was_deleted_works_again(path):
    store = Store()
    store.put(evaluation(Recipe()))
    for file in path.parent.iterdir():
        file.unlink()
    try:
        store.put(evaluation(Recipe.of(bits=8)))
    except StoreError:
        # One failure may be noticed; it must not be the store's last word.
        store.put(evaluation(Recipe.of(bits=8)))
    assert_same(get(store, Recipe.of(bits=8)), evaluation(Recipe.of(bits=8)))


def test_the_default_path(monkeypatch, tmp_path):
    monkeypatch.setenv("PARETOSCOPE_STORE", str(tmp_path / "here.sqlite"))
    assert default_path() == tmp_path / "here.sqlite"
    monkeypatch.delenv("PARETOSCOPE_STORE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_path() == tmp_path / "paretoscope" / "records.sqlite"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert default_path() == tmp_path / "home" / ".cache" / "paretoscope" / "records.sqlite"
