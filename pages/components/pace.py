"""How often parts of pages are redrawn by themselves: the more of them there are, the less often.

Each redraw takes the interpreter for some tens of milliseconds. All of them together may take SHARE of it, so that a
room full of people does not keep the server from those who move a slider.
"""

import threading
import time
from collections import deque
from statistics import median_low

from paretoscope.base.recent import Recent

# Of the interpreter's time, what redraws may take; chosen by hand: `benchmarks.live` shows what it gives.
SHARE = 0.15
# A part that was not drawn for so long is not there any more; sessions that are remembered.
GONE_S, SESSIONS = 60.0, 1000
# Draws whose median is what one takes, and how many must be known: a server's first takes seconds, the next do not.
DRAWS, KNOWN = 32, 3


class Paces:
    """What parts of pages repeat themselves in this process, and what drawing one takes. Threads: any number."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._parts: Recent[tuple[str, str], tuple[float, float]] = Recent(SESSIONS)
        self._costs: deque[float] = deque(maxlen=DRAWS)

    def drew(self, session: str, name: str, pace: float | None, cost_s: float) -> None:
        """A session drew a part that wants to be redrawn every `pace` seconds; it took so many of the processor's."""
        with self._lock:
            self._costs.append(cost_s)
            if pace is None:
                self._parts.pop((session, name))
            else:
                self._parts[session, name] = pace, time.monotonic()

    def stretched(self, pace: float | None) -> float | None:
        """The seconds that a part shall wait which wants `pace`: those, or so often twice that all fit in SHARE."""
        if pace is None:
            return None
        now = time.monotonic()
        with self._lock:
            wanted = [each for each, last in self._parts.values() if now - last < GONE_S]
            cost_s = median_low(self._costs) if len(self._costs) >= KNOWN else 0.0
            load = cost_s * sum(1 / each for each in wanted)
        while load > SHARE and pace < GONE_S / 4:
            pace, load = 2 * pace, load / 2
        return pace
