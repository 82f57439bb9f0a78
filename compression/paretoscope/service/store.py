"""The store: records on disk, in SQLite, keyed by content digests; cache, history and resume at once.

Records are kept without their latency; timings have a table of their own, because one timing serves every recipe of the
same graph and number format, and they belong to this machine. Rows of another revision of the methods
(`paretoscope.recipe.revision`) stay in the file and are not found. Records and timings carry the version of their
fields and are migrated when they are read (`paretoscope.measure.migrations`); the tables have a version of their own.

What cannot be written waits in memory, is found there, and is written later: before the next row, every RETRY_S
seconds, and when the store is closed or the process ends.

Threads: a Store may be used by any number of threads at once, and a file by any number of Stores and processes.
"""

import atexit
import json
import os
import sqlite3
import sys
import threading
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from paretoscope.base import cache
from paretoscope.base.cache import ENVIRONMENT
from paretoscope.base.database import PATIENCE_S, Database
from paretoscope.base.errors import RecipeError, StoreError
from paretoscope.measure.latency import Samples
from paretoscope.measure.record import Latency, Record
from paretoscope.measure.subject import Evaluation
from paretoscope.recipe.revision import METHODS
from paretoscope.service.timing_key import TimingKey
from paretoscope.tasks import tasks

# What waits to be written: tried again this often; of more than so many bytes the oldest are given up, and counted.
RETRY_S, WAITING_BYTES = 20.0, 1 << 28
# A store that failed just now is not waited for as long as one that works.
SHORT_PATIENCE_S = 0.5

_TABLES = {
    "records": ("model", "dataset", "recipe"),
    "measurements": ("key",),
    "documents": ("kind", "key"),
}
_TIME = "TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP"
# Version 1, and with no version the file of earlier programs: of the oldest, tables of other names are left alone.
_FIRST = (
    """CREATE TABLE IF NOT EXISTS records (
        engine INTEGER NOT NULL, model TEXT NOT NULL, dataset TEXT NOT NULL, recipe TEXT NOT NULL,
        record TEXT NOT NULL, classes BLOB NOT NULL, confidences BLOB NOT NULL, created TEXT NOT NULL,
        PRIMARY KEY (engine, model, dataset, recipe)) WITHOUT ROWID""",
    f"""CREATE TABLE IF NOT EXISTS measurements (
        engine INTEGER NOT NULL, key TEXT NOT NULL, latency TEXT NOT NULL, candidate BLOB NOT NULL,
        baseline BLOB NOT NULL, created {_TIME}, PRIMARY KEY (engine, key)) WITHOUT ROWID""",
    f"""CREATE TABLE IF NOT EXISTS documents (
        engine INTEGER NOT NULL, kind TEXT NOT NULL, key TEXT NOT NULL, text TEXT NOT NULL, created {_TIME},
        PRIMARY KEY (engine, kind, key)) WITHOUT ROWID""",
    # Somebody's other database, which happens to have such tables, fails here and stays as it is.
    "SELECT engine, model, dataset, recipe, record, classes, confidences, created FROM records LIMIT 0",
    "SELECT engine, key, latency, candidate, baseline, created FROM measurements LIMIT 0",
    "SELECT engine, kind, key, text, created FROM documents LIMIT 0",
)


def _first(connection: sqlite3.Connection) -> None:
    for statement in _FIRST:
        connection.execute(statement)


# From each version of the schema to the next.
MIGRATIONS = (_first,)


def default_path() -> Path:
    """$PARETOSCOPE_STORE, or records.sqlite in the user's cache folder."""
    if path := os.environ.get(ENVIRONMENT):
        return Path(path)
    return cache.folder() / "records.sqlite"


class Store:
    """A file of records. Every method raises StoreError when the file cannot be used.

    A method that keeps something raises it too where it must wait; `waiting` tells how many do, `problem` why.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or default_path()
        self._file = Database(self.path, MIGRATIONS)
        self._lock, self._writing = threading.Lock(), threading.Lock()
        self._waiting: dict[_Place, dict[str, Any]] = {}
        self._given_up = 0
        self._problem: str | None = None
        self._unreadable: set[_Place] = set()
        self._timer: threading.Timer | None = None

    @property
    def waiting(self) -> int:
        """Results that are not on disk yet."""
        with self._lock:
            return len(self._waiting)

    @property
    def problem(self) -> str | None:
        """What is not on disk and why, or None."""
        with self._lock:
            count, lost, reason = len(self._waiting), self._given_up, self._problem
        count = 0 if reason is None else count
        if not count and not lost:
            return None
        told = [f"{_counted(count, 'result')} wait{'s' * (count == 1)} to be written: {reason}"] * bool(count)
        told += [f"{_counted(lost, 'result')} did not fit into memory and will be lost with this process."] * bool(lost)
        return " ".join(told)

    @property
    def notes(self) -> tuple[str, ...]:
        """What became of rows and files that could not be read, a sentence each."""
        with self._lock:
            count = len(self._unreadable)
        told = f"{_counted(count, 'row')} of {self.path} cannot be read and will be measured again when asked for."
        return *self._file.told, *[told] * bool(count)

    def close(self) -> None:
        """Try once more to write what waits, before the process ends; StoreError where that fails."""
        with self._lock:
            timer = self._timer
        if timer is not None:
            timer.cancel()
        self._write_waiting(again=False)

    def put(self, evaluation: Evaluation) -> None:
        """Keep an exact evaluation; one of the same digests is replaced."""
        record = replace(evaluation.record, latency=None)
        digests = record.digests
        classes, confidences = tasks.get(record.task).write_answers(evaluation.predictions)
        self._put(
            ("records", digests.model, digests.dataset, digests.recipe),
            record=record.to_json(),
            classes=classes,
            confidences=confidences,
        )

    def get(self, model: str, dataset: str, recipe: str) -> Evaluation | None:
        """The evaluation of these digests, or None."""
        place = "records", model, dataset, recipe
        row = self._get(place, "record", "classes", "confidences")
        try:
            return None if row is None else _evaluation(*row)
        except _UNREADABLE:
            self._cannot_read(place)
            return None

    def records(self, model: str, dataset: str) -> list[Record]:
        """All records of a model on a dataset (digests), oldest first; rows that cannot be read are left out."""
        where = METHODS, model, dataset
        rows = self._file.run(
            lambda connection: connection.execute(
                "SELECT recipe, record, length(classes), length(confidences), created FROM records "
                "WHERE engine = ? AND model = ? AND dataset = ?",
                where,
            ).fetchall()
        )
        with self._lock:
            rows += [
                (place[3], row["record"], len(row["classes"]), len(row["confidences"]), row["created"])
                for place, row in self._waiting.items()
                if place[:3] == ("records", model, dataset)
            ]
        found: dict[str, Record] = {}
        for recipe, text, classes, confidences, _ in sorted(rows, key=lambda row: (str(row[4]), str(row[0]))):
            try:
                record = Record.from_dict(json.loads(text))
                first, second = tasks.get(record.task).answer_bytes
                _expect((classes, confidences) == (first * record.figures.n, second * record.figures.n))
                _expect(record.digests.recipe == recipe)
                found[recipe] = record
            except _UNREADABLE:
                self._cannot_read(("records", model, dataset, recipe))
        return list(found.values())

    def earlier(self, model: str, dataset: str) -> frozenset[str]:
        """Digests of recipes of a model on a dataset that another revision of the methods measured."""
        rows = self._file.run(
            lambda connection: connection.execute(
                "SELECT DISTINCT recipe FROM records WHERE engine != ? AND model = ? AND dataset = ?",
                (METHODS, model, dataset),
            ).fetchall()
        )
        return frozenset(recipe for (recipe,) in rows)

    def put_latency(self, key: TimingKey, latency: Latency, samples: Samples) -> None:
        """Keep a timing and the single calls behind it; one of the same key is replaced, but not by one that is not
        decided while it is.
        """
        if not latency.decided and (known := self.get_latency(key)) is not None and known.decided:
            return
        self._put(
            ("measurements", key.to_json()),
            latency=json.dumps(latency.to_dict()),
            candidate=samples.candidate_ms.astype("<f4").tobytes(),
            baseline=samples.baseline_ms.astype("<f4").tobytes(),
        )

    def get_latency(self, key: TimingKey) -> Latency | None:
        """The timing of this key, or None."""
        place = "measurements", key.to_json()
        row = self._get(place, "latency")
        try:
            return None if row is None else Latency.from_dict(json.loads(row[0]))
        except _UNREADABLE:
            self._cannot_read(place)
            return None

    def timings_beside(self, key: TimingKey) -> list[Latency]:
        """All timings that have this key's baseline: of its model, machine, runtime, batch, threads and size."""
        same = ("model", "machine", "runtime", "batch", "threads", "size")
        where = " AND ".join(f"json_extract(key, '$.{name}') IS ?" for name in same)
        wanted = {name: getattr(key, name) for name in same}
        rows = dict(
            self._file.run(
                lambda connection: connection.execute(
                    f"SELECT key, latency FROM measurements WHERE engine = ? AND {where}", (METHODS, *wanted.values())
                ).fetchall()
            )
        )
        with self._lock:
            for (table, *values), row in self._waiting.items():
                if table == "measurements" and wanted.items() <= json.loads(values[0]).items():
                    rows[values[0]] = row["latency"]
        found = []
        for text, latency in rows.items():
            try:
                found.append(Latency.from_dict(json.loads(latency)))
            except _UNREADABLE:
                self._cannot_read(("measurements", text))
        return found

    def get_samples(self, key: TimingKey) -> Samples | None:
        """The single calls behind the timing of this key, to float32, or None."""
        place = "measurements", key.to_json()
        row = self._get(place, "candidate", "baseline")
        if row is None:
            return None
        try:
            candidate, baseline = (np.frombuffer(each, "<f4").astype(float) for each in row)
            _expect(0 < len(candidate) == len(baseline))
            return Samples(candidate, baseline)
        except _UNREADABLE:
            self._cannot_read(place)
            return None

    def put_document(self, kind: str, key: str, text: str) -> None:
        """Keep the text of a finished study (a sensitivity, a waterfall); one of the same kind and key is replaced."""
        self._put(("documents", kind, key), text=text)

    def get_document(self, kind: str, key: str, *, any_revision: bool = False) -> str | None:
        """The text of this kind and key, or None.

        any_revision: whether one of an earlier revision of the methods will do, the latest of them: for what stays true
        of a file that is kept, such as the course of its training.
        """
        place = "documents", kind, key
        row = self._get(place, "text")
        if row is None and any_revision:
            row = self._file.run(
                lambda connection: connection.execute(
                    "SELECT text FROM documents WHERE engine < ? AND kind = ? AND key = ? ORDER BY engine DESC",
                    (METHODS, kind, key),
                ).fetchone()
            )
        if row is None or isinstance(row[0], str):
            return None if row is None else row[0]
        self._cannot_read(place)
        return None

    def unread_document(self, kind: str, key: str) -> None:
        """Count a document that is not what its kind should be."""
        self._cannot_read(("documents", kind, key))

    def _get(self, place: "_Place", *columns: str) -> tuple[Any, ...] | None:
        with self._lock:
            if (waiting := self._waiting.get(place)) is not None:
                return tuple(waiting[column] for column in columns)
        table, *values = place
        where = " AND ".join(f"{name} = ?" for name in ("engine", *_TABLES[table]))
        statement = f"SELECT {', '.join(columns)} FROM {table} WHERE {where}"
        row: tuple[Any, ...] | None = self._file.run(
            lambda connection: connection.execute(statement, (METHODS, *values)).fetchone()
        )
        return row

    def _put(self, place: "_Place", **row: Any) -> None:
        row["created"] = datetime.now(UTC).isoformat(" ", "microseconds")
        with self._lock:
            self._waiting.pop(place, None)
            self._waiting[place] = row
            self._unreadable.discard(place)
            sizes = {each: _size(values) for each, values in self._waiting.items()}
            total = sum(sizes.values())
            while total > WAITING_BYTES and len(self._waiting) > 1:
                oldest = next(iter(self._waiting))
                del self._waiting[oldest]
                total -= sizes[oldest]
                self._given_up += 1
        self._write_waiting()

    def _write_waiting(self, again: bool = True) -> None:
        """Write what waits, the oldest first and each by itself, so that as many as possible are on disk.

        again: whether a failure is followed by another try.
        """
        with self._writing:
            try:
                while True:
                    with self._lock:
                        found = next(iter(self._waiting.items()), None)
                        patience = PATIENCE_S if self._problem is None else SHORT_PATIENCE_S
                    if found is None:
                        break
                    self._write(*found, patience)
                    with self._lock:
                        # It may have been replaced meanwhile.
                        if self._waiting.get(found[0]) is found[1]:
                            del self._waiting[found[0]]
                        self._problem = None
            except StoreError as error:
                with self._lock:
                    self._problem = str(error)
                    if again and self._timer is None:
                        self._timer = threading.Timer(RETRY_S, self._try_again)
                        self._timer.daemon = True
                        self._timer.start()
                        atexit.register(self._try_again, last=True)
                raise

    def _write(self, place: "_Place", row: dict[str, Any], patience: float) -> None:
        table, *values = place
        columns = "engine", *_TABLES[table], *row
        marks = ", ".join("?" * len(columns))
        statement = f"INSERT OR REPLACE INTO {table} ({', '.join(columns)}) VALUES ({marks})"
        given = METHODS, *values, *row.values()
        self._file.run(lambda connection: connection.execute(statement, given), patience)

    def _try_again(self, last: bool = False) -> None:
        with self._lock:
            self._timer = None
        atexit.unregister(self._try_again)
        try:
            self._write_waiting(again=not last)
        except StoreError as error:
            if last:
                print(f"Lost: {_counted(self.waiting, 'result')}; {error}", file=sys.stderr)

    def _cannot_read(self, place: "_Place") -> None:
        with self._lock:
            self._unreadable.add(place)


# Table and key, without the revision.
_Place = tuple[str, ...]
_UNREADABLE = (KeyError, TypeError, ValueError, AttributeError, RecursionError, RecipeError)


def _evaluation(text: str, classes: bytes, confidences: bytes) -> Evaluation:
    record = Record.from_dict(json.loads(text))
    answers = tasks.get(record.task).read_answers((classes, confidences))
    _expect(len(answers) == record.figures.n)
    return Evaluation(record, answers)


def _expect(holds: bool) -> None:
    if not holds:
        raise ValueError("a row does not hold what it should")


def _size(row: Mapping[str, Any]) -> int:
    return sum(map(len, row.values()))


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' * (count != 1)}"
