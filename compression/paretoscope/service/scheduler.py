"""Jobs take turns, so that nothing is evaluated beside a timing and two evaluations do not fight for the cores.

Of jobs that are equally urgent, that of the place goes first whose last turn was longest ago, or who has asked first
where it had none. A job that a place asks for instead of one that still waits (a slider that moves on) so keeps the
other's chance: moves that come faster than they are answered thin out, and nobody starves.

Each job has a thread of its own, so that any of several paused ones can go on; one thread has the turn.

The scheduler's lock guards its queue and its turn; `paretoscope.service` lists all locks in their order. None is held
while work runs, and none while the machine's lock is waited for (`paretoscope.base.lock`): a job that gives its turn
away lets go of the machine first, and asks for it again once it has its turn. `present` is called under the scheduler's
lock and a job's: it must take neither.
"""

import atexit
import itertools
import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

import torch

from paretoscope.base.lock import released
from paretoscope.base.recent import Recent
from paretoscope.base.units import duration
from paretoscope.service.jobs import Job, JobKind, State
from paretoscope.service.limits import NONE, LimitError, Limits
from paretoscope.service.parties import Party, asking_party

# Places whose last turn is remembered, at each priority.
PLACES = 10_000


class _Entry(NamedTuple):
    """A job of the queue. number: in the order of submission. asker: who takes turns; None takes its turn by number."""

    number: int
    asker: Party | None
    job: Job


class _Turns(Protocol):
    """What tells a place's last turn."""

    def get(self, key: tuple[Party, int], default: int, /) -> int: ...


def _rank(entry: _Entry, last: _Turns) -> tuple[int, bool, int, int]:
    """The lowest goes first: one that has begun and gave its turn away before those that have not."""
    number, asker, job = entry
    turn = number if asker is None else last.get((asker, job.priority), number)
    return job.priority, job._thread is None, turn, number


def call(job: Job, work: Callable[[Job], Any]) -> Any:
    """Work that is a function of its job."""
    return work(job)


class Scheduler:
    """Runs one job at a time; lower numbers go first, and of equal ones places take turns.

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
        self._queue: list[_Entry] = []
        self._running: Job | None = None
        self._begun: dict[Job, _Entry] = {}
        # By place and priority: the number of its last turn, or of the first job that it has asked for.
        self._turns: Recent[tuple[Party, int], int] = Recent(PLACES)
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
                party, number = asking_party(), next(self._numbers)
                asker = None if party is None else party._replace(name="")
                if asker is not None and (asker, priority) not in self._turns:
                    self._turns[asker, priority] = number
                self._queue.append(_Entry(number, asker, job))
                self._next()
        return job

    def ahead(self, job: Job) -> list[Job]:
        """The jobs that a waiting one waits for: that which runs, and then those of the queue that go before it."""
        with self._lock:
            self._sweep()
            running = [] if self._running is None else [self._running]
            waiting = self._in_order()
            before = waiting[: waiting.index(job)] if job in waiting else []
        return [each for each in (*running, *before) if each is not job]

    def _in_order(self) -> list[Job]:
        """The queue as it will be served, if nothing more comes; under the lock."""
        numbers, last, taken = itertools.count(next(self._numbers)), dict(self._turns.items()), []
        waiting = list(self._queue)
        while waiting:
            entry = min(waiting, key=lambda each: _rank(each, last))
            waiting.remove(entry)
            taken.append(entry.job)
            if entry.asker is not None:
                last[entry.asker, entry.job.priority] = next(numbers)
        return taken

    def _sweep(self) -> None:
        """End the jobs of the queue that nobody wants any more, and that have not begun; under the lock."""
        for entry in list(self._queue):
            if entry.job._thread is None:
                entry.job._cancel_unwanted()
                if entry.job.cancelling:
                    self._queue.remove(entry)
                    entry.job._end(State.CANCELLED)

    def _check(self, new: Job) -> None:
        """Raises LimitError where there is no room for a job; under the lock."""
        unfinished = [job for job in {*self._begun, *(entry.job for entry in self._queue)} if not job.cancelling]
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
            for job in (*begun, *(entry.job for entry in self._queue)):
                job.cancel()
        for job in begun:
            if job._thread is not None:
                job._thread.join()

    def _next(self) -> None:
        """Give the turn to the first that waits for it, where nobody has it; under the lock."""
        while self._running is None and self._queue:
            entry = min(self._queue, key=lambda each: _rank(each, self._turns))
            self._queue.remove(entry)
            job = entry.job
            if job._thread is None:
                job._cancel_unwanted()
            if job._thread is not None:
                self._running = job
                job._turn.set()
            elif job.cancelling:
                job._end(State.CANCELLED)
            else:
                self._running, self._begun[job] = job, entry
                if entry.asker is not None:
                    self._turns[entry.asker, job.priority] = next(self._numbers)
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
            urgent = any(entry.job.priority < job.priority for entry in self._queue)
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
        self._queue.append(self._begun[job])

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
