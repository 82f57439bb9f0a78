"""The timings of a board's records: each record's key is made once, and each timing is looked up once."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from paretoscope.base.recent import Recent
from paretoscope.measure.board import Board, Timed
from paretoscope.measure.record import Latency
from paretoscope.recipe.recipe import Recipe
from paretoscope.service.latencies import Latencies
from paretoscope.service.timing import Timing
from paretoscope.service.timing_key import TimingKey

# Settings of boards whose timings are remembered; seconds until the store is asked again for those that it had not.
SETTINGS, ASK_AGAIN_S = 64, 30.0


@dataclass
class _Looked:
    """What was looked up under one setting. of: the key of each row; asked: when the store was asked for all."""

    places: dict[TimingKey, int] = field(default_factory=dict)
    of: list[int] = field(default_factory=list)
    known: list[Latency | None] = field(default_factory=list)
    version: int = -1
    asked: float = field(default_factory=time.monotonic)


class Lookups:
    """Threads: any number; its lock is held for what is in memory alone."""

    def __init__(self, latencies: Latencies) -> None:
        self._latencies = latencies
        self._lock = threading.Lock()
        self._settings: Recent[tuple[int, Timing], _Looked] = Recent(SETTINGS)

    def timed(self, board: Board, timing: Timing, key_of: Callable[[Recipe], TimingKey]) -> Timed:
        """The timings of a board's records under a setting."""
        setting = board.generation, timing
        with self._lock:
            looked = self._settings.get(setting)
            if looked is None:
                looked = self._settings[setting] = _Looked()
            begun = len(looked.of)
        made = [key_of(record.recipe) for record in board.records(begun)]
        with self._lock:
            if len(looked.of) == begun:  # else another thread was faster
                looked.of += [looked.places.setdefault(key, len(looked.places)) for key in made]
            keys, of = list(looked.places), tuple(looked.of)
            found, stale, asked = list(looked.known), looked.version != self._latencies.version, looked.asked
        version, now = self._latencies.version, time.monotonic()
        if now - asked > ASK_AGAIN_S:
            found, asked = [self._latencies.find(key) or each for key, each in zip(keys, found, strict=False)], now
        elif stale:
            found = [self._latencies.peek(key) or each for key, each in zip(keys, found, strict=False)]
        found += [self._latencies.find(key) for key in keys[len(found) :]]
        with self._lock:
            looked.known, looked.version, looked.asked = found, version, asked
        return Timed(tuple(found), of)
