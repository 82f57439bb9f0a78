"""The records of a model as a screen draws them: rows that are made once, columns to reckon with, and what is new.

A screen that has seen the first n changes asks for those after: a move costs what it adds, however much there was.

Threads: any number; a board's lock is held while rows are added or read, and nothing else is asked meanwhile.
"""

import itertools
import json
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from paretoscope.base.units import format_bytes
from paretoscope.measure.paired import paired_interval, paired_ms
from paretoscope.measure.record import Latency, Record
from paretoscope.measure.wording import NOT_ALONE, share_touched, smaller, speed
from paretoscope.tasks import Words

_GENERATIONS = itertools.count(1)

# What a row has, in its order; `told` is what a person reads of it, a line each.
ROW = (
    *("digest", "title", "size", "value", "low", "high", "harm", "zeros", "sparsity", "clusters", "bits"),
    *("trained", "simplified", "told"),
)


@dataclass(frozen=True, slots=True)
class Columns:
    """A value a record, in the order of the rows. ms: milliseconds a batch, NaN where they are not known."""

    size: NDArray[np.float64]
    value: NDArray[np.float64]
    ms: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Changes:
    """What a screen that has seen the first `since` changes does not have yet.

    rows: (place, row as JSON) of each record that is new or was measured anew; count: of all rows; seen: all changes.
    """

    rows: tuple[tuple[int, str], ...]
    count: int
    seen: int


def row(record: Record, words: Words) -> str:
    """A record as a row, in JSON."""
    figures, settings = record.figures, record.recipe.settings()
    interval = " to ".join(words.ends(figures.low, figures.high))
    change = words.change(figures.value - record.baseline.value)
    size = [format_bytes(record.size.artefact), smaller(record.ratio), share_touched(record.touched)]
    told = [
        f"{words.value(figures.value)} {words.name} ({change}), 95 %: {interval}",
        ", ".join(filter(None, size)),
    ]
    values = (
        *(record.digests.recipe, record.recipe.describe(), record.size.artefact),
        *(_short(each) for each in (figures.value, figures.low, figures.high, figures.harm)),
        *(_short(record.rates.sparse_rate), settings["sparsity"], settings["clusters"] or 0, settings["bits"]),
        *(int(record.recipe.recover is not None), int(record.recipe.simplify is not None), told),
    )
    return json.dumps(values, ensure_ascii=False, separators=(",", ":"))


def _short(value: float) -> float | None:
    # Six digits are more than a screen has pixels; what is no number has no place in JSON.
    return float(f"{value:.6g}") if np.isfinite(value) else None


@dataclass(frozen=True, slots=True)
class Timed:
    """The timings of a board's records under one setting. latencies: each once; of: which of them each row has."""

    latencies: tuple[Latency | None, ...]
    of: tuple[int, ...]


class Board:
    """The rows of one model's records. words: of its task. generation: tells boards apart in this process."""

    def __init__(self, words: Words, records: Iterable[Record] = ()) -> None:
        self.words = words
        self._lock = threading.Lock()
        self._records: list[Record] = []
        self._rows: list[str] = []
        self._places: dict[str, int] = {}
        self._changed: list[int] = []
        # Places of recipes with training, and the digest of each without: a digest takes longer than a look-up.
        self._trained: dict[int, str] = {}
        self._columns: list[tuple[float, float]] = []
        self.generation = next(_GENERATIONS)
        for record in records:
            self.put(record)

    def put(self, record: Record) -> None:
        """Add a record, or take it in place of that of the same recipe."""
        made = row(record, self.words)
        values = float(record.size.artefact), record.figures.value
        with self._lock:
            place = self._places.setdefault(record.digests.recipe, len(self._records))
            if place < len(self._records):
                if self._rows[place] == made:
                    return
                self._records[place], self._rows[place], self._columns[place] = record, made, values
            else:
                self._records.append(record)
                self._rows.append(made)
                self._columns.append(values)
                if record.recipe.recover is not None:
                    self._trained[place] = record.recipe.untrained.digest
            self._changed.append(place)

    def some(self, places: Sequence[int]) -> "Board":
        """A board of the records at these places, each of which is there once, in this order."""
        found = Board(self.words)
        with self._lock:
            found._records = [self._records[place] for place in places]
            found._rows = [self._rows[place] for place in places]
            found._columns = [self._columns[place] for place in places]
            found._places = {record.digests.recipe: at for at, record in enumerate(found._records)}
            found._trained = {at: self._trained[place] for at, place in enumerate(places) if place in self._trained}
        found._changed = list(range(len(places)))
        return found

    def __len__(self) -> int:
        with self._lock:
            return len(self._records)

    def place(self, digest: str) -> int | None:
        """Where the record of a recipe is."""
        with self._lock:
            return self._places.get(digest)

    def digest(self, place: int) -> str:
        """The digest of the recipe at a place."""
        return self.record(place).digests.recipe

    def record(self, place: int) -> Record:
        """The record at a place."""
        with self._lock:
            return self._records[place]

    def trained(self) -> list[int]:
        """Places of the records of recipes with training."""
        with self._lock:
            return list(self._trained)

    def trainings(self) -> list[tuple[int, int]]:
        """Places of recipes without their training and with it, where both are known."""
        with self._lock:
            return [(self._places[start], end) for end, start in self._trained.items() if start in self._places]

    def records(self, since: int = 0) -> list[Record]:
        """The records from a place on, without timings."""
        with self._lock:
            return self._records[since:]

    def changes(self, since: int = 0) -> Changes:
        """What came after the first `since` changes."""
        with self._lock:
            places = dict.fromkeys(self._changed[since:])
            rows = tuple((place, self._rows[place]) for place in places)
            return Changes(rows, len(self._rows), len(self._changed))

    def columns(self, ms: NDArray[np.float64]) -> Columns:
        """The columns of all rows that `ms` has a value for."""
        with self._lock:
            found = np.array(self._columns[: len(ms)], float).reshape(-1, 2)
        return Columns(found[:, 0], found[:, 1], ms)


def timing_row(latency: Latency | None, reference: float | None) -> tuple[object, ...] | None:
    """A timing as a screen draws it; None where there is none.

    Milliseconds with their interval, None for all three where it is not decided; whose recipe was timed; its number
    format; and what a person reads of it.
    """
    if latency is None or reference is None:
        return None
    told = f"{speed(latency)}{f', {NOT_ALONE}' if latency.alone is False else ''}"
    if not latency.decided:
        return None, None, None, latency.measured_for, latency.number_format, f"latency {told}"
    places = paired_ms(latency, reference), *paired_interval(latency, reference)
    return *(float(f"{each:.6g}") for each in places), latency.measured_for, latency.number_format, told


def milliseconds(timed: Timed, reference: float | None) -> NDArray[np.float64]:
    """Milliseconds a row, NaN where they are not known or not decided."""
    known = [
        paired_ms(each, reference) if each is not None and each.decided and reference is not None else np.nan
        for each in timed.latencies
    ]
    return np.array(known, float)[np.array(timed.of, int)] if timed.of else np.empty(0)
