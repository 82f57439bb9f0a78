"""Long work off the page's thread: progress, cancel, result.

Jobs take turns, so that nothing is evaluated beside a timing and two evaluations do not fight for the cores. A job
calls `checkpoint` between its pieces of work: there it reports, there it ends if it was cancelled, and there it gives
its turn away while jobs of higher priority run to their end. A slider's evaluation therefore waits for one piece of a
sweep, never for the sweep. Each job has a thread of its own, so that any of several paused ones can go on.
"""

import atexit
import heapq
import itertools
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from compression.errors import CompressionError
from compression.exclusive import awaited, released

# How often a paused job looks whether it may go on.
_PAUSE_S = 0.05


class Cancelled(Exception):
    """Raised inside a job's work by `checkpoint` once the job was cancelled."""


class Job:
    """One piece of long work. Reading the attributes is safe from any thread.

    label: what a person is told. progress: done share in [0, 1]. partial: the latest partial result. state: "waiting"
    (also for its turn after a pause), "running", "done", "failed" or "cancelled". result: what the work returned.
    error: the message of a failed job.
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
        self._thread: threading.Thread | None = None
        self._turn = threading.Event()
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
    def awaited(self) -> str | None:
        """What else on this machine the job waits for, in words, if it has to."""
        return awaited(self._thread.ident) if self._thread is not None else None

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
        self._cancel_unwanted()
        if progress is not None:
            self.progress = progress
        if partial is not None:
            self.partial = partial
            self._reported.set()
        if not self._cancel.is_set():
            self._scheduler._give_way(self)
        while self._paused.is_set() and not self._cancel.is_set():
            self._scheduler._let_rest(self)
        if self._cancel.is_set():
            raise Cancelled

    def _rest(self) -> None:
        """Wait until the job may go on."""
        while self._paused.is_set() and not self._cancel.is_set():
            time.sleep(_PAUSE_S)
            self._cancel_unwanted()

    def _cancel_unwanted(self) -> None:
        if time.monotonic() - self._wanted > self._patience:
            self.cancel()

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
    """Runs one job at a time; lower numbers go first, equal ones in the order of submission."""

    def __init__(self) -> None:
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._closed = False
        # Jobs that wait for their turn, the one that has it, and all that have begun and not ended.
        self._queue: list[tuple[int, int, Job]] = []
        self._running: Job | None = None
        self._begun: dict[Job, int] = {}
        # A thread inside native code while the interpreter ends would abort the process.
        atexit.register(self.close)

    def submit(self, work: Callable[[Job], Any], *, priority: int, label: str, patience: float = math.inf) -> Job:
        """Queue `work`, a function of its job, and return the job at once.

        patience: seconds after which the job is cancelled unless somebody calls its `keep`, inf for never.
        """
        job = Job(self, work, priority, label, patience)
        with self._lock:
            if self._closed:
                job._end("cancelled")
            else:
                heapq.heappush(self._queue, (priority, next(self._numbers), job))
                self._next()
        return job

    def close(self) -> None:
        """Cancel all jobs and wait until those that have begun have noticed; later jobs are cancelled at once."""
        atexit.unregister(self.close)
        with self._lock:
            self._closed = True
            begun = list(self._begun)
            for job in (*begun, *(job for _, _, job in self._queue)):
                job.cancel()
        for job in begun:
            job._thread.join()

    def _next(self) -> None:
        """Give the turn to the first that waits for it, where nobody has it; under the lock."""
        while self._running is None and self._queue:
            _, number, job = heapq.heappop(self._queue)
            if job._thread is not None:
                self._running = job
                job._turn.set()
            elif job.cancelling:
                job._end("cancelled")
            else:
                self._running, self._begun[job] = job, number
                job._thread = threading.Thread(target=self._run, args=(job,), name="paretoscope-job", daemon=True)
                job._thread.start()

    def _run(self, job: Job) -> None:
        try:
            job._run()
        finally:
            with self._lock:
                del self._begun[job]
                self._running = None
                self._next()

    def _give_way(self, job: Job) -> None:
        """Let more urgent jobs run to their end, where there are any."""
        with self._lock:
            urgent = bool(self._queue) and self._queue[0][0] < job.priority
        if urgent:
            with _process_state():
                with self._lock:
                    self._ask_again(job)
                    self._give_away(job)
                job._turn.wait()

    def _let_rest(self, job: Job) -> None:
        """Let jobs of any priority run while this one is paused; that time does not count for what is left."""
        began = time.monotonic()
        with _process_state():
            with self._lock:
                self._give_away(job)
            job._rest()
            with self._lock:
                job.state = "waiting"
                self._ask_again(job)
                self._next()
            job._turn.wait()
        job.state = "running"
        job._started += time.monotonic() - began

    def _ask_again(self, job: Job) -> None:
        heapq.heappush(self._queue, (job.priority, self._begun[job], job))

    def _give_away(self, job: Job) -> None:
        job._turn.clear()
        self._running = None
        self._next()


@contextmanager
def _process_state() -> Iterator[None]:
    """Within, others have the turn: the machine is let go of, and torch's random numbers go on afterwards as before."""
    random = torch.get_rng_state()
    with released():
        yield
    torch.set_rng_state(random)
