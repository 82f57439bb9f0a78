"""Sessions take turns at drawing: a few at a time, and of those that wait the one first whose last turn is longest ago.

All runs of all sessions share the interpreter. Fifty side by side each take so long that the next move of a slider
breaks them off before they have drawn anything: the share of answered moves would fall to nothing where it can thin
out. A run that is broken off keeps its session's place in the line.
"""

import itertools
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from paretoscope.base.recent import Recent

# Runs that draw side by side, and seconds after which a long one is not counted any more. Chosen by hand: of fifty
# people who move every 2 s, two and a half times what two cores answer, one and two at once answer seven tenths
# (`python -m benchmarks.live --only rooms --rooms 4 --every 2`).
AT_ONCE, LONG_S = 1, 1.0
# Sessions whose last turn is remembered.
SESSIONS = 1000


class Turns:
    """Who draws now, and who waits for it. Threads: any number; each draws for one session."""

    def __init__(self, at_once: int = AT_ONCE, long_s: float = LONG_S) -> None:
        self._at_once = at_once
        self._long_s = long_s
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._last: Recent[str, int] = Recent(SESSIONS)
        # By thread: when its turn began. Those that wait: rank, thread, and what tells it that its turn has come.
        self._drawing: dict[int, float] = {}
        self._waiting: dict[tuple[int, int], tuple[int, threading.Event]] = {}
        self._own = threading.local()

    @contextmanager
    def turn(self, session: str) -> Iterator[None]:
        """Within, it is this session's turn, which it waits for; within a turn of its own, nothing changes."""
        if getattr(self._own, "session", None) is not None:
            yield
            return
        self._take(session)
        self._own.session = session
        try:
            yield
        except BaseException:
            self._give()
            raise
        else:
            self._give(drawn=session)
        finally:
            self._own.session = None

    @contextmanager
    def away(self) -> Iterator[None]:
        """Within, a run waits for something, and others draw meanwhile."""
        session = getattr(self._own, "session", None)
        if session is None:
            yield
            return
        self._give()
        try:
            yield
        finally:
            self._take(session)

    def _take(self, session: str) -> None:
        come = threading.Event()
        with self._lock:
            number = next(self._numbers)
            if session not in self._last:
                self._last[session] = number
            self._waiting[self._last[session], number] = threading.get_ident(), come
            self._next()
        while not come.wait(self._long_s):
            with self._lock:
                self._next()

    def _give(self, drawn: str | None = None) -> None:
        with self._lock:
            del self._drawing[threading.get_ident()]
            if drawn is not None:
                self._last[drawn] = next(self._numbers)
            self._next()

    def _next(self) -> None:
        """Let in who may draw now; under the lock."""
        now = time.monotonic()
        busy = sum(now - began < self._long_s for began in self._drawing.values())
        for rank in sorted(self._waiting)[: max(0, self._at_once - busy)]:
            thread, come = self._waiting.pop(rank)
            self._drawing[thread] = now
            come.set()


TURNS = Turns()
