"""What tests put into stores, and what can befall a store in SQLite."""

import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timings
from paretoscope.measure.latency import Samples
from paretoscope.measure.record import Digests, Ladder, Rates, Record
from paretoscope.measure.subject import Evaluation
from paretoscope.recipe.recipe import Recipe
from paretoscope.service.store import Store
from paretoscope.service.timing_key import TimingKey
from paretoscope.tasks.classification import Accuracy, Baseline, Predictions

MODEL, DATASET = "a" * 64, "b" * 64
KEY = TimingKey(MODEL, "", "m" * 64, "onnxruntime", "int8", 1, 2)
LATENCY = timings.latency()
# As many as are kept at most; float32 holds these exactly.
SAMPLES = Samples(np.arange(1, 2001) / 64, np.arange(2000, 0, -1) / 32)


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


def layout_of_d77f12b(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(path)
    connection.executescript(
        """
        PRAGMA journal_mode = WAL;
        CREATE TABLE records (
            engine INTEGER NOT NULL, model TEXT NOT NULL, dataset TEXT NOT NULL, recipe TEXT NOT NULL,
            record TEXT NOT NULL, classes BLOB NOT NULL, confidences BLOB NOT NULL,
            created TEXT NOT NULL,
            PRIMARY KEY (engine, model, dataset, recipe)
        ) WITHOUT ROWID;
        CREATE TABLE measurements (
            engine INTEGER NOT NULL, key TEXT NOT NULL, latency TEXT NOT NULL, candidate BLOB NOT NULL,
            baseline BLOB NOT NULL, created TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP,
            PRIMARY KEY (engine, key)
        ) WITHOUT ROWID;
        CREATE TABLE documents (
            engine INTEGER NOT NULL, kind TEXT NOT NULL, key TEXT NOT NULL, text TEXT NOT NULL,
            created TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP,
            PRIMARY KEY (engine, kind, key)
        ) WITHOUT ROWID;
        """
    )
    found = evaluation(Recipe())
    row = (3, MODEL, DATASET, Recipe().digest, found.record.to_json(), *(bytes(8 * 8), bytes(4 * 8)), "2026-01-01")
    connection.execute("INSERT INTO records VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
    connection.execute("INSERT INTO documents VALUES (3, 'recovery', 'a', '{}', '2026-01-01')")
    connection.commit()
    connection.close()


def set_version(path: Path, version: int) -> None:
    """Say that a store's schema is of this version."""
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {version}")
    connection.close()


def small_disk(patch: pytest.MonkeyPatch) -> None:
    """Every file that is opened from now on has room for 40 pages."""
    connect = sqlite3.connect

    def connect_to_it(*arguments: Any, **settings: Any) -> sqlite3.Connection:
        connection = connect(*arguments, **settings)
        connection.execute("PRAGMA max_page_count = 40")
        return connection

    patch.setattr(sqlite3, "connect", connect_to_it)
