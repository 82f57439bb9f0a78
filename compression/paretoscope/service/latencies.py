"""The timings that are known, and when those are taken again that did not decide anything."""

import math
import threading
import time
from dataclasses import replace

from paretoscope.base.recent import Recent
from paretoscope.measure.latency import Measurement, Samples
from paretoscope.measure.paired import reference_ms
from paretoscope.measure.record import Latency
from paretoscope.service.stored import Stored
from paretoscope.service.timing_key import TimingKey

# Seconds until a timing whose interval was too wide is taken again, after the first such, the second and so on; then it
# rests until somebody asks for it: on a machine that is never still it would not end. Chosen by hand; no benchmark.
AGAIN_AFTER_S = (15.0, 60.0, 300.0)

# Timings that are kept in memory: some hundred bytes each. What is dropped is read from the store again.
TIMINGS = 4096
# For so long a timing that the store has not is not looked for again: another process may take it.
ABSENT_S = 1.0
# Settings, each with the baseline's time, and with what could not be measured.
SETTINGS = 1024


class Latencies:
    """Timings by their key, in memory and in the store.

    again: whether those in the store are passed over. lock: the workbench's, which guards all that is kept here; it is
    never held while the store is asked.
    """

    def __init__(self, stored: Stored, lock: threading.Lock, *, again: bool) -> None:
        self._stored = stored
        self._lock = lock
        self._again = again
        self._known: Recent[TimingKey, Latency] = Recent(TIMINGS)
        self._absent: Recent[TimingKey, float] = Recent(TIMINGS)
        # Counts what became known.
        self.version = 0
        # How often each timing that is not decided was tried, and when it is tried again.
        self._tries: Recent[TimingKey, tuple[int, float]] = Recent(TIMINGS)
        self._references: Recent[TimingKey, float | None] = Recent(SETTINGS)
        self._problems: Recent[TimingKey, dict[str, str]] = Recent(SETTINGS)

    def find(self, key: TimingKey) -> Latency | None:
        """The timing of a key, if it was taken before on this machine; it may be one that is not `decided`."""
        with self._lock:
            known, looked = self._known.get(key), self._absent.get(key, -math.inf)
        if known is not None or time.monotonic() - looked < ABSENT_S:
            return known
        found = None if self._again else self._stored.call(lambda store: store.get_latency(key))
        with self._lock:
            if found is None:
                self._absent[key] = time.monotonic()
            else:
                self._known[key] = found
                self._references.clear()
                self.version += 1
        return found

    def peek(self, key: TimingKey) -> Latency | None:
        """`find` without a look into the store."""
        with self._lock:
            return self._known.get(key)

    def samples(self, key: TimingKey) -> Samples | None:
        """The single calls behind the timing of a key."""
        return self._stored.call(lambda store: store.get_samples(key))

    def keep(self, key: TimingKey, found: Measurement) -> None:
        """Keep a timing, and say when it is due again where it is not decided."""
        self._stored.call(lambda store: store.put_latency(key, found.latency, found.samples))
        with self._lock:
            self._known[key] = found.latency
            self._references.clear()
            self.version += 1
            tries = 0 if found.latency.decided else self._tries.get(key, (0, 0.0))[0] + 1
            rest = AGAIN_AFTER_S[min(tries, len(AGAIN_AFTER_S)) - 1]
            self._tries[key] = tries, time.monotonic() + rest

    def due(self, key: TimingKey) -> bool:
        """Whether to time: it was not yet, or its interval is too wide and the machine had a rest."""
        wait = self.seconds_until_again(key)
        return wait is not None and wait <= 0

    def seconds_until_again(self, key: TimingKey) -> float | None:
        """Until a timing that is not decided is taken again; None where none is to come."""
        known = self.find(key)
        if known is not None and known.decided:
            return None
        with self._lock:
            tries, when = self._tries.get(key, (0, -math.inf))
        return None if tries > len(AGAIN_AFTER_S) else max(0.0, when - time.monotonic())

    def reference_ms(self, key: TimingKey) -> float | None:
        """Milliseconds of the baseline under the setting of a key, by which all recipes' are told."""
        setting = replace(key, graph_key="", number_format="")
        with self._lock:
            if setting in self._references:
                return self._references.get(setting)
            taken = [
                each for other, each in self._known.items() if replace(other, graph_key="", number_format="") == setting
            ]
        stored = [] if self._again else self._stored.call(lambda store: store.timings_beside(setting))
        found = reference_ms([*taken, *(stored or ())])
        with self._lock:
            self._references[setting] = found
        return found

    def note(self, key: TimingKey, what: str, problem: str | None) -> None:
        """Keep why something could not be measured under a key, or None where it could."""
        with self._lock:
            found = {**self._problems.get(key, {}), what: problem}
            self._problems[key] = {each: told for each, told in found.items() if told is not None}

    def problem(self, key: TimingKey, what: str | None = None) -> str | None:
        """What `note` was told; what: None for the first of all."""
        with self._lock:
            found = self._problems.get(key, {})
        return found.get(what) if what else next(iter(found.values()), None)
