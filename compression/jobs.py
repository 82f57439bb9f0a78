"""Long work off the page's thread: progress, cancel, result.

One worker thread runs all jobs, so that nothing is evaluated beside a timing and two evaluations do not fight for the
cores. A job calls `checkpoint` between its pieces of work: there it reports, there it ends if it was cancelled, and
there jobs of higher priority run to their end first, on top of it. A slider's evaluation therefore waits for one piece
of a sweep, never for the sweep.
"""

import atexit
import heapq
import itertools
import math
import threading
import time
from collections.abc import Callable
from typing import Any

from compression.errors import CompressionError

# How often a paused job looks whether it may go on.
_PAUSE_S = 0.05


class Cancelled(Exception):
    """Raised inside a job's work by `checkpoint` once the job was cancelled."""


class Job:
    """One piece of long work. Reading the attributes is safe from any thread.

    label: what a person is told. progress: done share in [0, 1]. partial: the latest partial result. state: "waiting",
    "running", "done", "failed" or "cancelled". result: what the work returned. error: the message of a failed job.
    """

    def __init__(
        self, scheduler: "Scheduler", work: Callable[["Job"], Any], priority: int, label: str, patience: float
    ) -> None:
        self.label = label
        self.priority = priority
        self.progress = 0.0
        self.partial: Any = None
        self.state = "waiting"
        self.result: Any = None
        self.error: str | None = None
        self._started: float | None = None
        self._patience = patience
        self._wanted = time.monotonic()
        self._scheduler = scheduler
        self._work = work
        self._cancel = threading.Event()
        self._paused = threading.Event()
        self._ended = threading.Event()
        self._reported = threading.Event()

    @property
    def ended(self) -> bool:
        """Whether the job is done, failed or cancelled."""
        return self._ended.is_set()

    @property
    def cancelling(self) -> bool:
        """Whether the job was asked to end."""
        return self._cancel.is_set()

    @property
    def seconds_left(self) -> float | None:
        """Estimate from the progress so far; None before there is any."""
        if self._started is None or not 0 < self.progress <= 1:
            return None
        return (time.monotonic() - self._started) * (1 - self.progress) / self.progress

    @property
    def paused(self) -> bool:
        """Whether the job was asked to wait."""
        return self._paused.is_set()

    def pause(self) -> None:
        """Ask the job to wait at its next checkpoint; others go on meanwhile, whatever their priority."""
        self._paused.set()

    def go_on(self) -> None:
        """Undo `pause`."""
        self._paused.clear()

    def keep(self) -> None:
        """Say that someone still waits for the job."""
        self._wanted = time.monotonic()

    def cancel(self) -> None:
        """Ask the job to end; it does at its next checkpoint, or before it starts."""
        self._cancel.set()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the job has ended; False when `timeout` seconds were not enough."""
        return self._ended.wait(timeout)

    def wait_for_report(self, timeout: float | None = None) -> bool:
        """Wait until there is a partial result, or the job has ended; False when `timeout` seconds were not enough."""
        return self._reported.wait(timeout)

    def checkpoint(self, progress: float | None = None, partial: Any = None) -> None:
        """Called by the work between its pieces; raises Cancelled once the job was cancelled."""
        if time.monotonic() - self._wanted > self._patience:
            self.cancel()
        if progress is not None:
            self.progress = progress
        if partial is not None:
            self.partial = partial
            self._reported.set()
        if not self._cancel.is_set():
            self._scheduler._run_above(self.priority)
        if self._paused.is_set():
            self._rest()
        if self._cancel.is_set():
            raise Cancelled

    def _rest(self) -> None:
        """Wait until the job may go on; the pause does not count for what is left."""
        began = time.monotonic()
        while self._paused.is_set() and not self._cancel.is_set():
            self._scheduler._run_above(math.inf)
            time.sleep(_PAUSE_S)
            if time.monotonic() - self._wanted > self._patience:
                self.cancel()
        if self._started is not None:
            self._started += time.monotonic() - began

    def _run(self) -> None:
        if self._cancel.is_set():
            self._end("cancelled")
            return
        self.state, self._started = "running", time.monotonic()
        try:
            self.result = self._work(self)
        except Cancelled:
            self._end("cancelled")
        except CompressionError as error:
            self.error = str(error)
            self._end("failed")
        except Exception as error:  # a defect of ours must not end the worker
            self.error = f"Unexpected {type(error).__name__}: {error}"
            self._end("failed")
        else:
            self.progress = 1.0
            self._end("done")

    def _end(self, state: str) -> None:
        self.state = state
        self._work = None
        self._reported.set()
        self._ended.set()


class Scheduler:
    """Runs jobs one after another on one thread; lower numbers go first, equal ones in the order of submission."""

    def __init__(self) -> None:
        self._queue: list[tuple[int, int, Job]] = []
        self._numbers = itertools.count()
        self._changed = threading.Condition()
        self._closed = False
        self._running: list[Job] = []
        self._thread = threading.Thread(target=self._work, name="paretoscope-jobs", daemon=True)
        self._thread.start()
        # A thread inside native code while the interpreter ends would abort the process.
        atexit.register(self.close)

    def submit(self, work: Callable[[Job], Any], *, priority: int, label: str, patience: float = math.inf) -> Job:
        """Queue `work`, a function of its job, and return the job at once.

        patience: seconds after which the job is cancelled unless somebody calls its `keep`, inf for never.
        """
        job = Job(self, work, priority, label, patience)
        with self._changed:
            if self._closed:
                job._end("cancelled")
                return job
            heapq.heappush(self._queue, (priority, next(self._numbers), job))
            self._changed.notify()
        return job

    def close(self) -> None:
        """Cancel all jobs and end the thread once the one that runs has noticed; later jobs are cancelled at once."""
        atexit.unregister(self.close)
        with self._changed:
            self._closed = True
            for job in (*self._running, *(job for _, _, job in self._queue)):
                job.cancel()
            self._changed.notify()
        self._thread.join()

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._queue and not self._closed:
                    self._changed.wait()
                if not self._queue:
                    return
                job = self._next()
            self._run(job)

    def _run_above(self, priority: float) -> None:
        while True:
            with self._changed:
                if not self._queue or self._queue[0][0] >= priority:
                    return
                job = self._next()
            self._run(job)

    def _next(self) -> Job:
        """Take the next job, under the lock, so that `close` sees it in one place or the other."""
        job = heapq.heappop(self._queue)[2]
        self._running.append(job)
        return job

    def _run(self, job: Job) -> None:
        job._run()
        with self._changed:
            self._running.pop()
