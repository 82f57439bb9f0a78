"""Long work off the page's thread: progress, cancel, result.

Jobs take turns, so that nothing is evaluated beside a timing and two evaluations do not fight for the cores. A job
calls `checkpoint` between its pieces of work: there it reports, there it ends if it was cancelled, and there it gives
its turn away while jobs of higher priority run to their end. A slider's evaluation therefore waits for one piece of a
sweep, never for the sweep. Each job has a thread of its own, so that any of several paused ones can go on.

A job belongs to those who asked for it, its parties: it ends early when the last of them has let go of it or has left.
Who asks is told by `asking`, around the call that submits. A party of a training is there as long as its visitor is
(`Scheduler(present=...)`), of other jobs as long as it calls `keep`.

Locks, each taken only after those before it: the workbench's, the scheduler's, a job's. None is held while work runs,
and none while the machine's lock is waited for (`paretoscope.base.lock`): a job that gives its turn away lets go of the
machine first, and asks for it again once it has its turn. `present` is called under the scheduler's lock and a job's:
it must take neither.
"""

import atexit
import heapq
import itertools
import logging
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from enum import Enum
from typing import Any, NamedTuple

import torch

from paretoscope.base.errors import CompressionError
from paretoscope.base.lock import awaited, released
from paretoscope.base.progress import Cancelled
from paretoscope.base.units import duration
from paretoscope.service.limits import NONE, LimitError, Limits

_log = logging.getLogger(__name__)

# How often a paused job looks whether it may go on.
_PAUSE_S = 0.05


class Kind(Enum):
    """What limits and waits tell apart."""

    TRAINING = "training"
    OTHER = "other job"


class Party(NamedTuple):
    """Who asks for a job. visitor: who limits count. place: of that visitor's, which wants a job of its own; a job that
    the visitor wants wherever it is, as a training, has none.
    """

    visitor: str
    place: str = ""


_asking: ContextVar[Party | None] = ContextVar("asking", default=None)


@contextmanager
def asking(party: Party) -> Iterator[None]:
    """Within, jobs are submitted for this party, or it joins those that are there already."""
    before = _asking.set(party)
    try:
        yield
    finally:
        _asking.reset(before)


def asking_party() -> Party | None:
    """For whom jobs are submitted just now, or None."""
    return _asking.get()


class Job:
    """One piece of long work. Reading the attributes is safe from any thread.

    label: what a person is told. named: what it is done to, a model. kind: see `Kind`. progress: done share in [0, 1].
    step: where it is, in words. partial: the latest partial result. state: "waiting" (also for its turn after a pause),
    "running", "done", "failed" or "cancelled". result: what the work returned. error: the message of a failed job.
    left_by: why a job was cancelled that nobody has cancelled, or None. was_refused: whether it failed for want of
    room.
    """

    def __init__(
        self,
        scheduler: "Scheduler | None",
        work: Callable[["Job"], Any] | None,
        priority: int,
        label: str,
        patience: float,
        kind: Kind = Kind.OTHER,
        named: str = "",
    ) -> None:
        self.label = label
        self.named = named
        self.kind = kind
        self.priority = priority
        self.progress = 0.0
        self.step = ""
        self.partial: Any = None
        self.state = "waiting"
        self.result: Any = None
        self.error: str | None = None
        self.left_by: str | None = None
        self.was_refused = False
        self._left: float | None = None
        self._started: float | None = None
        self._patience = patience
        # When each party was last there.
        self._parties: dict[Party | None, float] = {asking_party(): time.monotonic()}
        self._lock = threading.Lock()
        self._scheduler = scheduler
        self._work = work
        self._thread: threading.Thread | None = None
        self._turn = threading.Event()
        self._cancel = threading.Event()
        self._paused = threading.Event()
        self._ended = threading.Event()
        self._reported = threading.Event()

    @classmethod
    def refused(cls, label: str, error: str) -> "Job":
        """A job that failed before it was queued."""
        job = cls(None, None, 0, label, math.inf)
        job.error, job.was_refused = error, True
        job._end("failed")
        return job

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
        """What the work has told, or an estimate from the progress so far; None before there is any."""
        if self._left is not None:
            return self._left
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

    @property
    def parties(self) -> tuple[Party | None, ...]:
        """Who wants the job, who has asked first being the first; None is one who did not say."""
        with self._lock:
            return tuple(self._parties)

    def want(self, party: Party | None) -> bool:
        """Join those who want the job; False where it is ending or has ended, so that it must be asked for anew."""
        with self._lock:
            if self._cancel.is_set() or self.ended:
                return False
            self._parties[party] = time.monotonic()
            return True

    def let_go(self, party: Party | None) -> None:
        """Say that a party does not want the job any more: it ends when nobody else does. Others change nothing."""
        with self._lock:
            if self._parties.pop(party, self) is not self and not self._parties:
                self._cancel.set()

    def keep(self, party: Party | None = None) -> None:
        """Say that a party still waits for the job."""
        with self._lock:
            if party in self._parties:
                self._parties[party] = time.monotonic()

    def cancel(self) -> None:
        """Ask the job to end, whoever wants it; it does at its next checkpoint, or before it starts."""
        self._cancel.set()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the job has ended; False when `timeout` seconds were not enough."""
        return self._ended.wait(timeout)

    def wait_for_report(self, timeout: float | None = None) -> bool:
        """Wait until there is a partial result, or the job has ended; False when `timeout` seconds were not enough."""
        return self._reported.wait(timeout)

    def checkpoint(
        self,
        progress: float | None = None,
        partial: Any = None,
        *,
        step: str | None = None,
        left: float | None = None,
    ) -> None:
        """Called by the work between its pieces; raises Cancelled once the job was cancelled.

        left: seconds, where the work knows better than its progress tells.
        """
        self._cancel_unwanted()
        if step is not None:
            self.step, self._left = step, left
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
        """Let go for the parties that have left."""
        if self._patience == math.inf or self._cancel.is_set():
            return
        now = time.monotonic()
        with self._lock:
            for party, seen in list(self._parties.items()):
                if self.kind is Kind.TRAINING and party is not None and self._scheduler.present(party.visitor):
                    self._parties[party] = now
                elif now - seen > self._patience:
                    del self._parties[party]
                    if not self._parties:
                        self.left_by = f"nobody who wanted it was here for {_minutes(self._patience)}"
                        self._cancel.set()

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
        except BaseException as error:  # a defect of ours, or want of memory, must not leave others waiting
            _log.exception("%s: failed", self.label)
            self.error = (
                f"Unexpected {type(error).__name__}: {error}. This is a fault of ours, which the server's log shows. "
                "Try again, or with other settings."
            )
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
    """Runs one job at a time; lower numbers go first, equal ones in the order of submission.

    limits: what is queued, at most. present: whether a visitor is there, for trainings; must return at once.
    """

    def __init__(self, limits: Limits = NONE, present: Callable[[str], bool] = lambda visitor: True) -> None:
        self.present = present
        self._limits = limits
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._closed = False
        # Jobs that wait for their turn, the one that has it, and all that have begun and not ended.
        self._queue: list[tuple[int, int, Job]] = []
        self._running: Job | None = None
        self._begun: dict[Job, int] = {}
        # A thread inside native code while the interpreter ends would abort the process.
        atexit.register(self.close)

    def submit(
        self,
        work: Callable[[Job], Any],
        *,
        priority: int,
        label: str,
        patience: float = math.inf,
        kind: Kind = Kind.OTHER,
        named: str = "",
    ) -> Job:
        """Queue `work`, a function of its job, for the party that is `asking`, and return the job at once.

        patience: seconds after which a party that is not there lets go of the job, inf for never. Raises LimitError
        where the queue is full.
        """
        job = Job(self, work, priority, label, patience, kind, named)
        with self._lock:
            self._sweep()
            self._check(job)
            if self._closed:
                job._end("cancelled")
            else:
                heapq.heappush(self._queue, (priority, next(self._numbers), job))
                self._next()
        return job

    def ahead(self, job: Job) -> list[Job]:
        """The jobs that a waiting one waits for: that which runs, and then those of the queue that go before it."""
        with self._lock:
            self._sweep()
            running = [] if self._running is None else [self._running]
            entries = sorted(self._queue, key=lambda entry: entry[:2])
            waiting = [each for _, _, each in entries]
            before = waiting[: waiting.index(job)] if job in waiting else []
        return [each for each in (*running, *before) if each is not job]

    def _sweep(self) -> None:
        """End the jobs of the queue that nobody wants any more, and that have not begun; under the lock."""
        for _, _, job in self._queue:
            if job._thread is None:
                job._cancel_unwanted()
        unwanted = [entry for entry in self._queue if entry[2]._thread is None and entry[2].cancelling]
        if unwanted:
            self._queue = [entry for entry in self._queue if entry not in unwanted]
            heapq.heapify(self._queue)
            for _, _, job in unwanted:
                job._end("cancelled")

    def _check(self, new: Job) -> None:
        """Raises LimitError where there is no room for a job; under the lock."""
        unfinished = [job for job in {*self._begun, *(job for _, _, job in self._queue)} if not job.cancelling]
        alike = [job for job in unfinished if job.kind is new.kind]
        party = asking_party()
        if new.kind is Kind.TRAINING and len(alike) >= self._limits.queue:
            raise LimitError(
                f"at most {self._limits.queue:g} trainings of all visitors may run, wait or pause on this server; "
                f"there are {len(alike)}. Try again when one has ended."
            )
        if party is None:
            return
        own = sum(any(each is not None and each.visitor == party.visitor for each in job.parties) for job in alike)
        name, most = ("trainings", self._limits.trainings) if new.kind is Kind.TRAINING else ("jobs", self._limits.jobs)
        if own >= most:
            raise LimitError(
                f"a visitor may have at most {most:g} {name} that run, wait or pause on this server; you have {own}. "
                "Cancel one, or wait until one has ended."
            )

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
            if job._thread is None:
                job._cancel_unwanted()
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


def told_wait(ahead: list[Job]) -> str:
    """What `Scheduler.ahead` gives, in words; empty where there is nothing to wait for.

    "2 trainings before yours; the running one is ResNet-20, epoch 12 of 100, about 3 min".
    """
    if not ahead:
        return ""
    counts = ((sum(job.kind is kind for job in ahead), kind.value) for kind in Kind)
    told = " and ".join(f"{count} {name}{'s' * (count > 1)}" for count, name in counts if count)
    running = next((job for job in ahead if job.state == "running"), None)
    if running is None:
        return f"{told} before yours"
    named = running.named if running.kind is Kind.TRAINING and running.named else running.label
    left = running.seconds_left
    parts = [named, running.step, "" if left is None else f"about {duration(max(1.0, left))}"]
    return f"{told} before yours; the running one is {', '.join(filter(None, parts))}"


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:g} min" if seconds >= 60 else f"{seconds:g} s"
