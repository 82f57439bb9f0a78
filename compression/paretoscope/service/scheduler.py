"""Jobs take turns, so that nothing is evaluated beside a timing and two evaluations do not fight for the cores.

Each job has a thread of its own, so that any of several paused ones can go on; one thread has the turn.

The scheduler's lock guards its queue and its turn; `paretoscope.service` lists all locks in their order. None is held
while work runs, and none while the machine's lock is waited for (`paretoscope.base.lock`): a job that gives its turn
away lets go of the machine first, and asks for it again once it has its turn. `present` is called under the scheduler's
lock and a job's: it must take neither.
"""

import atexit
import heapq
import itertools
import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from paretoscope.base.lock import released
from paretoscope.base.units import duration
from paretoscope.service.jobs import Job, JobKind, State
from paretoscope.service.limits import NONE, LimitError, Limits
from paretoscope.service.parties import asking_party


def call(job: Job, work: Callable[[Job], Any]) -> Any:
    """Work that is a function of its job."""
    return work(job)


class Scheduler:
    """Runs one job at a time; lower numbers go first, equal ones in the order of submission.

    limits: what is queued, at most. present: whether a visitor is there, for trainings; must return at once. carry_out:
    does the work that was submitted, here or in another process, and returns its result; it reports to the job.
    """

    def __init__(
        self,
        limits: Limits = NONE,
        present: Callable[[str], bool] = lambda visitor: True,
        carry_out: Callable[[Job, Any], Any] = call,
    ) -> None:
        self.present = present
        self.carry_out = carry_out
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
        work: Any,
        *,
        priority: int,
        label: str,
        patience: float = math.inf,
        kind: JobKind = JobKind.OTHER,
        named: str = "",
    ) -> Job:
        """Queue `work`, which `carry_out` understands, for the party that is `asking`, and return the job at once.

        patience: seconds after which a party that is not there lets go of the job, inf for never. Raises LimitError
        where the queue is full.
        """
        job = Job(self, work, priority, label, patience, kind, named)
        with self._lock:
            self._sweep()
            self._check(job)
            if self._closed:
                job._end(State.CANCELLED)
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
                job._end(State.CANCELLED)

    def _check(self, new: Job) -> None:
        """Raises LimitError where there is no room for a job; under the lock."""
        unfinished = [job for job in {*self._begun, *(job for _, _, job in self._queue)} if not job.cancelling]
        alike = [job for job in unfinished if job.kind is new.kind]
        party = asking_party()
        if new.kind is JobKind.TRAINING and len(alike) >= self._limits.queue:
            raise LimitError(
                f"at most {self._limits.queue:g} trainings of all visitors may run, wait or pause on this server; "
                f"there are {len(alike)}. Try again when one has ended."
            )
        if party is None:
            return
        own = sum(any(each is not None and each.visitor == party.visitor for each in job.parties) for job in alike)
        name, most = (
            ("trainings", self._limits.trainings) if new.kind is JobKind.TRAINING else ("jobs", self._limits.jobs)
        )
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
            if job._thread is not None:
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
                job._end(State.CANCELLED)
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

    def give_way(self, job: Job) -> None:
        """Let more urgent jobs run to their end, where there are any."""
        with self._lock:
            urgent = bool(self._queue) and self._queue[0][0] < job.priority
        if urgent:
            with _process_state():
                with self._lock:
                    self._ask_again(job)
                    self._give_away(job)
                job._turn.wait()

    def let_rest(self, job: Job) -> None:
        """Let jobs of any priority run while this one is paused."""
        with _process_state():
            with self._lock:
                self._give_away(job)
            job._rest()
            with self._lock:
                job.state = State.WAITING
                self._ask_again(job)
                self._next()
            job._turn.wait()

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
    counts = ((sum(job.kind is kind for job in ahead), kind.value) for kind in JobKind)
    told = " and ".join(f"{count} {name}{'s' * (count > 1)}" for count, name in counts if count)
    running = next((job for job in ahead if job.state is State.RUNNING), None)
    if running is None:
        return f"{told} before yours"
    named = running.named if running.kind is JobKind.TRAINING and running.named else running.label
    left = running.seconds_left
    parts = [named, running.step, "" if left is None else f"about {duration(max(1.0, left))}"]
    return f"{told} before yours; the running one is {', '.join(filter(None, parts))}"
