import dataclasses
import json
import multiprocessing
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from paretoscope.base.errors import StoreError
from paretoscope.measure import migrations
from paretoscope.measure.latency import Samples
from paretoscope.recipe.recipe import Recipe
from paretoscope.service import store as store_module
from paretoscope.service.store import Store, default_path
from paretoscope.service.timing_key import TimingKey
from stores import (
    DATASET,
    KEY,
    LATENCY,
    MODEL,
    SAMPLES,
    assert_same,
    evaluation,
    get,
    layout_of_d77f12b,
    set_version,
    small_disk,
)

TIMINGS = "measurements"


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


def test_the_key_of_a_timing_is_written_by_the_names_that_stores_have():
    expected = dict(model=MODEL, form="", machine="m" * 64, runtime="onnxruntime", number_format="int8")
    assert json.loads(KEY.to_json()) == {**expected, "batch": 1, "threads": 2, "size": None}
    assert list(json.loads(KEY.to_json())) == sorted(json.loads(KEY.to_json()))


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
def test_damaged_single_calls_are_counted(path, column, value):
    Store().put_latency(KEY, LATENCY, SAMPLES)
    damage(path, TIMINGS, column, value)
    store = Store()
    assert store.get_samples(KEY) is None and store.get_latency(KEY) == LATENCY
    assert "1 row of" in " ".join(store.notes)
    store.put_latency(KEY, LATENCY, SAMPLES)
    assert store.get_samples(KEY) is not None and store.notes == ()


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


def test_rows_of_another_revision_stay_and_are_counted_but_not_shown(path, monkeypatch):
    Store().put(evaluation(Recipe(), correct=3))
    Store().put_latency(KEY, LATENCY, SAMPLES)
    Store().put_document("waterfall", "a", "{}")
    assert Store().earlier(MODEL, DATASET) == frozenset()
    monkeypatch.setattr(store_module, "METHODS", store_module.METHODS + 1)
    assert Store().get_document("waterfall", "a") is None
    # The course of a training is of a file that stays.
    assert Store().get_document("waterfall", "a", any_revision=True) == "{}"
    assert Store().get_document("waterfall", "b", any_revision=True) is None
    assert Store().earlier(MODEL, DATASET) == {Recipe().digest} and not Store().earlier(DATASET, MODEL)
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


@pytest.mark.slow
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
    """And what was put is found all the same, as long as the process lives."""
    uses = [
        lambda: get(store, Recipe()),
        lambda: store.records(MODEL, DATASET),
        lambda: store.earlier(MODEL, DATASET),
        lambda: store.get_latency(KEY),
        lambda: store.get_samples(KEY),
        lambda: store.get_document("waterfall", "a"),
        lambda: store.put(evaluation(Recipe())),
        lambda: store.put_latency(KEY, LATENCY, SAMPLES),
        lambda: store.put_document("waterfall", "a", "{}"),
        lambda: store.close(),
    ]
    for use in uses:
        with pytest.raises(StoreError, match=match) as raised:
            use()
        assert str(store.path) in str(raised.value)
        assert "PARETOSCOPE_STORE" in str(raised.value)
    assert store.waiting == 3 and store.problem.startswith("3 results wait to be written: the record store must")
    assert_same(get(store, Recipe()), evaluation(Recipe()))
    assert store.get_latency(KEY) == LATENCY and store.get_document("waterfall", "a") == "{}"
    np.testing.assert_allclose(store.get_samples(KEY).candidate_ms, SAMPLES.candidate_ms)
    forget(store)


def forget(store: Store) -> None:
    """So that the end of the tests does not tell of what was put here."""
    store._waiting.clear()
    store.close()


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


@pytest.mark.slow
def test_what_a_full_disk_refuses_waits_and_is_written_when_there_is_room(path):
    """60 are evaluated; as many as fit are on disk, the others follow, and the warning goes with the last of them."""
    recipes = [Recipe.of(sparsity=step / 1000) for step in range(1, 61)]
    patch = pytest.MonkeyPatch()
    small_disk(patch)
    store, refused = Store(), 0
    for recipe in recipes:
        try:
            store.put(evaluation(recipe, n=800))
        except StoreError as error:
            assert "Free space" in str(error)
            refused += 1
            # Reads that work do not take the warning back.
            store.get_document("waterfall", "a")
            assert store.waiting == refused and f"{refused} result" in store.problem
    assert 0 < refused < 60
    assert [record.recipe for record in store.records(MODEL, DATASET)] == recipes
    assert len(Store().records(MODEL, DATASET)) == 60 - refused
    patch.undo()
    store.put_document("waterfall", "a", "{}")
    assert store.waiting == 0 and store.problem is None
    restarted = Store()
    assert [record.recipe for record in restarted.records(MODEL, DATASET)] == recipes
    for recipe in recipes:
        assert_same(get(restarted, recipe), evaluation(recipe, n=800))


@pytest.fixture
def locked(path, monkeypatch) -> Iterator[sqlite3.Connection]:
    """Another connection that holds a store's file alone, until it is rolled back."""
    monkeypatch.setattr(store_module, "PATIENCE_S", 0.05)
    monkeypatch.setattr(store_module, "SHORT_PATIENCE_S", 0.05)
    Store().put_document("", "", "")
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN EXCLUSIVE")
    yield other
    other.close()


def put_all(store: Store) -> None:
    for put in (
        lambda: store.put(evaluation(Recipe())),
        lambda: store.put_latency(KEY, LATENCY, SAMPLES),
        lambda: store.put_document("waterfall", "a", "{}"),
    ):
        with pytest.raises(StoreError, match="database is locked"):
            put()


def assert_all_there(store: Store) -> None:
    assert_same(get(store, Recipe()), evaluation(Recipe()))
    assert store.get_latency(KEY) == LATENCY and store.get_document("waterfall", "a") == "{}"
    np.testing.assert_array_equal(store.get_samples(KEY).baseline_ms, SAMPLES.baseline_ms)


def test_what_waits_is_written_by_itself_after_a_while(path, locked, monkeypatch):
    monkeypatch.setattr(store_module, "RETRY_S", 0.05)
    store = Store()
    put_all(store)
    assert store.waiting == 3
    locked.execute("ROLLBACK")
    deadline = time.monotonic() + 20
    while store.waiting and time.monotonic() < deadline:
        time.sleep(0.02)
    assert store.problem is None
    assert_all_there(Store())


def test_what_waits_is_written_when_the_store_is_closed(path, locked):
    store = Store()
    put_all(store)
    with pytest.raises(StoreError, match="locked"):
        store.close()
    assert store.waiting == 3
    locked.execute("ROLLBACK")
    store.close()
    assert_all_there(Store())


@pytest.mark.slow
def test_what_waits_is_written_when_the_process_ends_or_said_to_be_lost(path):
    Store().put_document("", "", "")
    script = (
        "import sqlite3, sys\n"
        "from paretoscope.service import store\n"
        "from paretoscope.base.errors import StoreError\n"
        "store.PATIENCE_S = store.SHORT_PATIENCE_S = 0.05\n"
        "other = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "other.execute('BEGIN EXCLUSIVE')\n"
        "try:\n"
        "    store.Store().put_document('waterfall', sys.argv[2], '{}')\n"
        "except StoreError:\n"
        "    if sys.argv[2] == 'written':\n"
        "        other.close()\n"
    )
    for key in ("written", "lost"):
        done = subprocess.run([sys.executable, "-c", script, str(path), key], capture_output=True, text=True)
        assert done.returncode == 0
        assert ("Lost: 1 result; the record store must" in done.stderr) == (key == "lost"), done.stderr
    assert Store().get_document("waterfall", "written") == "{}"
    assert Store().get_document("waterfall", "lost") is None


def test_what_waits_is_bounded_and_what_is_given_up_is_told(path, locked, monkeypatch):
    monkeypatch.setattr(store_module, "WAITING_BYTES", 3_000)
    store = Store()
    for key in "abcd":
        with pytest.raises(StoreError):
            store.put_document("waterfall", key, "x" * 1_000)
    assert store.waiting == 2 and store.problem.endswith(
        "2 results did not fit into memory and will be lost with this process."
    )
    locked.execute("ROLLBACK")
    store.close()
    assert store.waiting == 0 and "2 results did not fit" in store.problem
    assert [Store().get_document("waterfall", key) is not None for key in "abcd"] == [False, False, True, True]


def damage(path: Path, table: str, column: str, value: object) -> None:
    with sqlite3.connect(path) as connection:
        assert connection.execute(f"UPDATE {table} SET {column} = ?", (value,)).rowcount == 1
    connection.close()


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "3", "null", "{}", '{"model": 1}', "[" * 100_000], ids=lambda text: text[:9]
)
def test_a_damaged_row_hides_no_other_and_is_counted(path, text):
    store, good = Store(), evaluation(Recipe.of(bits=8))
    store.put(good)
    store.put(evaluation(Recipe()))
    store.put_latency(KEY, LATENCY, SAMPLES)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE records SET record = ? WHERE recipe = ?", (text, Recipe().digest))
    connection.close()
    damage(path, TIMINGS, "latency", text)
    assert get(store, Recipe()) is None and store.get_latency(KEY) is None
    assert [record.recipe.bits for record in store.records(MODEL, DATASET)] == [8]
    assert_same(get(store, Recipe.of(bits=8)), good)
    assert store.notes == (f"2 rows of {path} cannot be read and will be measured again when asked for.",)
    store.put(evaluation(Recipe()))
    store.put_latency(KEY, LATENCY, SAMPLES)
    assert len(store.records(MODEL, DATASET)) == 2 and store.notes == ()


def test_a_record_with_a_recipe_that_is_refused_is_counted(path):
    Store().put(evaluation(Recipe.of(sparsity=0.5)))
    text = evaluation(Recipe.of(sparsity=0.5)).record.to_json()
    assert '"sparsity": 0.5' in text
    damage(path, "records", "record", text.replace('"sparsity": 0.5', '"sparsity": 95'))
    store = Store()
    assert store.records(MODEL, DATASET) == [] and len(store.notes) == 1


@pytest.mark.parametrize("column", ["classes", "confidences"])
@pytest.mark.parametrize(
    "value", [b"abc", b"", bytes(80), "text", 3], ids=["no whole number", "empty", "too many", "text", "a number"]
)
def test_damaged_predictions_are_counted(path, column, value):
    """Eight samples were put: 64 bytes of classes, 32 of confidences."""
    Store().put(evaluation(Recipe()))
    damage(path, "records", column, value)
    store = Store()
    assert get(store, Recipe()) is None and len(store.notes) == 1
    # The history knows it too: what it shows can be opened.
    assert Store().records(MODEL, DATASET) == []


def delete(path: Path) -> None:
    for file in path.parent.iterdir():
        file.unlink()


def drop_tables(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        for table in ("records", TIMINGS, "documents"):
            connection.execute(f"DROP TABLE {table}")
    connection.close()


LOST = {
    "deleted": delete,
    "emptied": lambda path: path.write_bytes(b""),
    "its folder deleted": lambda path: shutil.rmtree(path.parent),
    "its tables dropped": drop_tables,
    "cut to a page": lambda path: os.truncate(path, 4096),
    "cut in the middle of a page": lambda path: os.truncate(path, 5000),
    "cut in its head": lambda path: os.truncate(path, 60),
    "replaced": lambda path: path.write_bytes(b"something else, longer than the head of a database" * 20),
    "overwritten behind its head": lambda path: path.write_bytes(path.read_bytes()[:100] + b"\xff" * 9000),
}


@pytest.mark.parametrize("lose", LOST.values(), ids=LOST)
def test_a_store_whose_file_is_lost_while_running_is_made_anew(path, lose):
    store = Store()
    store.put(evaluation(Recipe()))
    lose(path)
    store.put(evaluation(Recipe.of(bits=8)))
    assert_same(get(store, Recipe.of(bits=8)), evaluation(Recipe.of(bits=8)))
    assert get(store, Recipe()) is None and store.problem is None
    assert len(Store().records(MODEL, DATASET)) == 1
    # What was damaged is kept beside it, and said so.
    kept = [each.name for each in path.parent.iterdir() if ".damaged-" in each.name]
    assert len(kept) == len(store.notes) <= 1
    assert not kept or kept[0] in store.notes[0]


def test_a_damaged_store_is_made_anew_at_the_start_too(path):
    Store().put(evaluation(Recipe()))
    os.truncate(path, 5000)
    store = Store()
    assert store.records(MODEL, DATASET) == [] and len(store.notes) == 1
    store.put(evaluation(Recipe()))
    assert len(store.records(MODEL, DATASET)) == 1


def test_rows_of_an_older_version_of_their_fields_are_found_and_written_anew_by_the_new_names(path, monkeypatch):
    expected = evaluation(Recipe())
    Store().put(expected)
    Store().put_latency(KEY, LATENCY, SAMPLES)
    for table, column, new, old in (("records", "record", "rates", "shares"), (TIMINGS, "latency", "batch", "images")):
        with sqlite3.connect(path) as connection:
            connection.execute(f"UPDATE {table} SET {column} = replace({column}, '\"{new}\":', '\"{old}\":')")
        connection.close()
    assert Store().records(MODEL, DATASET) == [] and Store().get_latency(KEY) is None
    monkeypatch.setattr(migrations, "RECORDS", [migrations.renaming({"shares": "rates"})])
    monkeypatch.setattr(migrations, "TIMINGS", [migrations.renaming({"images": "batch"})])
    store = Store()
    assert_same(get(store, Recipe()), expected)
    assert store.records(MODEL, DATASET) == [expected.record]
    assert store.get_latency(KEY) == LATENCY and store.timings_beside(KEY) == [LATENCY]
    assert store.notes == ()
    store.put(expected)
    assert_same(get(Store(), Recipe()), expected)
    with sqlite3.connect(path) as connection:
        ((text,),) = connection.execute("SELECT record FROM records").fetchall()
    connection.close()
    assert '"version": 2' in text and '"rates":' in text and "shares" not in text


def versions(path: Path) -> tuple[int, int]:
    connection = sqlite3.connect(path)
    found = tuple(connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("user_version", "application_id"))
    connection.close()
    return found


def test_a_store_without_a_version_migrates_and_keeps_its_rows(path):
    layout_of_d77f12b(path)
    assert versions(path) == (0, 0)
    store = Store()
    assert store.records(MODEL, DATASET) == [] and store.earlier(MODEL, DATASET) == {Recipe().digest}
    assert store.get_document("recovery", "a", any_revision=True) == "{}"
    store.put(evaluation(Recipe()))
    assert_same(get(Store(), Recipe()), evaluation(Recipe()))
    assert versions(path) == (len(store_module.MIGRATIONS), int.from_bytes(b"PSCO", "big"))
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT engine FROM records ORDER BY engine").fetchall()[0] == (3,)
    connection.close()


def test_each_later_schema_is_reached_by_its_migration(path, monkeypatch):
    """A schema to come: its migration runs once, whole or not at all."""
    layout_of_d77f12b(path)
    Store().put_document("waterfall", "a", "{}")

    def add(connection: sqlite3.Connection) -> None:
        connection.execute("ALTER TABLE documents ADD COLUMN note TEXT")
        if broken:
            connection.execute("SELECT missing FROM documents")

    monkeypatch.setattr(store_module, "MIGRATIONS", (*store_module.MIGRATIONS, add))
    broken = True
    with pytest.raises(StoreError, match="no such column"):
        Store().get_document("waterfall", "a")
    assert versions(path)[0] == 1
    broken = False
    for _ in range(2):
        assert Store().get_document("waterfall", "a") == "{}"
    assert versions(path)[0] == 2


def test_a_store_of_a_newer_schema_is_left_alone(path):
    layout_of_d77f12b(path)
    set_version(path, 99)
    before = path.read_bytes()
    assert_every_use_fails(Store(), "has 99: a newer version of this program wrote it, and it is left alone")
    assert path.read_bytes() == before


def test_a_store_is_its_owners_alone(path):
    """Also one that an earlier version made; the folder above it is the user's own where it is named."""
    layout_of_d77f12b(path)
    for file in (path, path.parent):
        file.chmod(0o755)
    store = Store()
    other = sqlite3.connect(path)  # so that the files beside it stay
    other.execute("SELECT * FROM records").fetchall()
    store.put(evaluation(Recipe()))
    found = {each.name: stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()}
    other.close()
    assert found == {f"{path.name}{ending}": 0o600 for ending in ("", "-wal", "-shm")}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o755


def test_the_cache_folder_is_its_owners_alone(tmp_path, monkeypatch):
    monkeypatch.delenv("PARETOSCOPE_STORE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for _ in range(2):
        Store().put_document("", "", "")
        assert stat.S_IMODE((tmp_path / "cache" / "paretoscope").stat().st_mode) == 0o700
        assert stat.S_IMODE((tmp_path / "cache" / "paretoscope" / "records.sqlite").stat().st_mode) == 0o600
        (tmp_path / "cache" / "paretoscope").chmod(0o755)


def test_the_default_path(monkeypatch, tmp_path):
    monkeypatch.setenv("PARETOSCOPE_STORE", str(tmp_path / "here.sqlite"))
    assert default_path() == tmp_path / "here.sqlite"
    monkeypatch.delenv("PARETOSCOPE_STORE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_path() == tmp_path / "paretoscope" / "records.sqlite"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert default_path() == tmp_path / "home" / ".cache" / "paretoscope" / "records.sqlite"
