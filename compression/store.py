"""The store: records on disk, in SQLite, keyed by content digests; cache, history and resume at once.

Records are kept without their latency; timings have a table of their own, because one timing serves every recipe of the
same graph and number format, and they belong to this machine. Every operation opens its own connection, so threads and
processes may share one file.
"""

import json
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from compression import cache
from compression.cache import ENVIRONMENT
from compression.errors import RecipeError, StoreError
from compression.measure.accuracy import Predictions
from compression.measure.latency import Samples, machine_id
from compression.measure.record import Latency, Record
from compression.measure.subject import Evaluation
from compression.recipe import Code, Recipe
from compression.runtimes import Runtime

# Raised whenever the engine measures something differently: records of another version are not shown.
ENGINE = 3

_SCHEMA = """
CREATE TABLE IF NOT EXISTS records (
    engine INTEGER NOT NULL, model TEXT NOT NULL, dataset TEXT NOT NULL, recipe TEXT NOT NULL,
    record TEXT NOT NULL, classes BLOB NOT NULL, confidences BLOB NOT NULL,
    created TEXT NOT NULL,
    PRIMARY KEY (engine, model, dataset, recipe)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS measurements (
    engine INTEGER NOT NULL, key TEXT NOT NULL, latency TEXT NOT NULL, candidate BLOB NOT NULL, baseline BLOB NOT NULL,
    created TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP,
    PRIMARY KEY (engine, key)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS documents (
    engine INTEGER NOT NULL, kind TEXT NOT NULL, key TEXT NOT NULL, text TEXT NOT NULL,
    created TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP,
    PRIMARY KEY (engine, kind, key)
) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class TimingKey:
    """What a timing depends on: the model's digest, the machine, runtime, number format, batch, threads and input size.

    form: what the recipe makes of the graph, `Recipe.form`; where the runtime's time depends on the zeros, the recipe.
    size: height and width of the images, or None for the model's own.
    """

    model: str
    form: str
    machine: str
    runtime: str
    number_format: str
    batch: int
    threads: int
    size: int | None = None

    @classmethod
    def of(
        cls,
        model: str,
        recipe: Recipe,
        runtime: Runtime,
        number_format: str | None = None,
        *,
        batch: int,
        threads: int,
        size: int | None = None,
    ) -> "TimingKey":
        """The key of a recipe's timing in a runtime. model: its digest. number_format: None for the recipe's."""
        # How codes are written changes no weight.
        form = replace(recipe, code=Code()).digest if runtime.sees_zeros else recipe.form
        number_format = number_format or runtime.number_format(recipe.integer)
        return cls(model, form, machine_id(runtime.name), runtime.name, number_format, batch, threads, size)

    def to_json(self) -> str:
        """The key as a text."""
        return json.dumps(asdict(self), sort_keys=True)


def default_path() -> Path:
    """$PARETOSCOPE_STORE, or records.sqlite in the user's cache folder."""
    if path := os.environ.get(ENVIRONMENT):
        return Path(path)
    return cache.folder() / "records.sqlite"


class Store:
    """A file of records. Every method raises StoreError when the file cannot be used."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or default_path()
        self._ready = False

    def put(self, evaluation: Evaluation) -> None:
        """Keep an exact evaluation; one of the same digests is replaced."""
        record = replace(evaluation.record, latency=None)
        digests = record.digests
        values = (
            ENGINE,
            digests.model,
            digests.dataset,
            digests.recipe,
            record.to_json(),
            datetime.now(UTC).isoformat(" ", "microseconds"),
            evaluation.predictions.classes.astype("<i8").tobytes(),
            evaluation.predictions.confidences.astype("<f4").tobytes(),
        )
        with self._connection() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO records "
                "(engine, model, dataset, recipe, record, created, classes, confidences) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                values,
            )

    def get(self, model: str, dataset: str, recipe: str) -> Evaluation | None:
        """The evaluation of these digests, or None."""
        with self._connection() as connection:
            row = connection.execute(
                "SELECT record, classes, confidences FROM records "
                "WHERE engine = ? AND model = ? AND dataset = ? AND recipe = ?",
                (ENGINE, model, dataset, recipe),
            ).fetchone()
        if row is None:
            return None
        record = _record(row[0], self.path)
        try:
            predictions = Predictions(np.frombuffer(row[1], "<i8"), np.frombuffer(row[2], "<f4"))
        except (TypeError, ValueError) as error:
            raise _damaged(self.path, error) from None
        if not len(predictions.classes) == len(predictions.confidences) == record.figures.n:
            raise _damaged(self.path, ValueError(f"{len(predictions.classes)} classes of {record.figures.n}"))
        return Evaluation(record, predictions)

    def records(self, model: str, dataset: str) -> list[Record]:
        """All records of a model on a dataset (digests), oldest first."""
        with self._connection() as connection:
            rows = connection.execute(
                "SELECT record FROM records WHERE engine = ? AND model = ? AND dataset = ? ORDER BY created, recipe",
                (ENGINE, model, dataset),
            ).fetchall()
        return [_record(row[0], self.path) for row in rows]

    def put_latency(self, key: TimingKey, latency: Latency, samples: Samples) -> None:
        """Keep a timing and the single calls behind it; one of the same key is replaced, but not by one that is not
        decided while it is.
        """
        if not latency.decided and (known := self.get_latency(key)) is not None and known.decided:
            return
        calls = (samples.candidate_ms.astype("<f4").tobytes(), samples.baseline_ms.astype("<f4").tobytes())
        with self._connection() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO measurements (engine, key, latency, candidate, baseline) "
                "VALUES (?, ?, ?, ?, ?)",
                (ENGINE, key.to_json(), json.dumps(asdict(latency)), *calls),
            )

    def get_latency(self, key: TimingKey) -> Latency | None:
        """The timing of this key, or None."""
        row = self._timing(key, "latency")
        try:
            return None if row is None else Latency(**json.loads(row[0]))
        except (TypeError, ValueError, RecursionError) as error:
            raise _damaged(self.path, error) from None

    def timings_beside(self, key: TimingKey) -> list[Latency]:
        """All timings that have this key's baseline: of its model, machine, runtime, batch, threads and size."""
        same = ("model", "machine", "runtime", "batch", "threads", "size")
        where = " AND ".join(f"json_extract(key, '$.{name}') IS ?" for name in same)
        with self._connection() as connection:
            rows = connection.execute(
                f"SELECT latency FROM measurements WHERE engine = ? AND {where}",
                (ENGINE, *(getattr(key, name) for name in same)),
            ).fetchall()
        try:
            return [Latency(**json.loads(row[0])) for row in rows]
        except (TypeError, ValueError, RecursionError) as error:
            raise _damaged(self.path, error) from None

    def get_samples(self, key: TimingKey) -> Samples | None:
        """The single calls behind the timing of this key, to float32, or None."""
        row = self._timing(key, "candidate, baseline")
        try:
            sides = None if row is None else [np.frombuffer(each, "<f4").astype(float) for each in row]
        except (TypeError, ValueError) as error:
            raise _damaged(self.path, error) from None
        if sides is not None and not 0 < len(sides[0]) == len(sides[1]):
            raise _damaged(self.path, ValueError(f"{len(sides[0])} calls beside {len(sides[1])}"))
        return None if sides is None else Samples(*sides)

    def _timing(self, key: TimingKey, columns: str) -> tuple[Any, ...] | None:
        with self._connection() as connection:
            return connection.execute(
                f"SELECT {columns} FROM measurements WHERE engine = ? AND key = ?", (ENGINE, key.to_json())
            ).fetchone()

    def put_document(self, kind: str, key: str, text: str) -> None:
        """Keep the text of a finished study (a sensitivity, a waterfall); one of the same kind and key is replaced."""
        with self._connection() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO documents (engine, kind, key, text) VALUES (?, ?, ?, ?)",
                (ENGINE, kind, key, text),
            )

    def get_document(self, kind: str, key: str) -> str | None:
        """The text of this kind and key, or None."""
        with self._connection() as connection:
            row = connection.execute(
                "SELECT text FROM documents WHERE engine = ? AND kind = ? AND key = ?", (ENGINE, kind, key)
            ).fetchone()
        return None if row is None else row[0]

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        try:
            self._ready = self._ready and self.path.exists()
            if not self._ready:
                self.path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(self.path, timeout=10)
            try:
                if not self._ready:
                    _prepare(connection)
                    self._ready = True
                connection.execute("PRAGMA synchronous = NORMAL")
                with connection:
                    yield connection
            finally:
                connection.close()
        except (sqlite3.Error, OSError) as error:
            raise StoreError(
                f"the record store must be a SQLite file that can be written; {self.path}: {error}. "
                f"Free space, move the file away, or set {ENVIRONMENT} to another path."
            ) from None


def _prepare(connection: sqlite3.Connection, seconds: float = 10.0) -> None:
    """Make the tables. SQLite does not wait for another process that switches the same new file to its journal."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.executescript(_SCHEMA)
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def _record(text: str, path: Path) -> Record:
    try:
        return Record.from_dict(json.loads(text))
    except (KeyError, TypeError, ValueError, RecursionError, RecipeError) as error:
        raise _damaged(path, error) from None


def _damaged(path: Path, error: Exception) -> StoreError:
    return StoreError(
        f"the record store must hold what this version wrote; {path}: {error!r}. "
        f"Move the file away, or set {ENVIRONMENT} to another path."
    )
