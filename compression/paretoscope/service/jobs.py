"""One piece of long work off the page's thread: its progress, its end, its result, and who wants it.

A job reports between its pieces of work (`Job.report`): there it ends if it was cancelled, and there it gives its turn
away while jobs of higher priority run to their end (`paretoscope.service.scheduler`). A slider's evaluation therefore
waits for one piece of a sweep, never for the sweep.

A job belongs to those who asked for it, its parties: it ends early when the last of them has let go of it or has left.
A party of a training is there as long as its visitor is (`Scheduler(present=...)`), of other jobs as long as it calls
`keep`; what was begun unasked ends soon after its visitor has left.

A job's lock guards its parties alone, and is the last of those that `paretoscope.service` lists.
"""

import logging
import math
import threading
import time
from enum import Enum, IntEnum, StrEnum
from typing import Any, Protocol

from paretoscope.base.errors import CompressionError
from paretoscope.base.lock import awaited
from paretoscope.base.progress import Cancelled
from paretoscope.service.parties import Party, asking_party

_log = logging.getLogger(__name__)

# How often a paused job looks whether it may go on.
_PAUSE_S = 0.05
# For so long what nobody asked for goes on when its visitor has left: a page that is loaded again is there by then.
LEFT_S = 10.0


class JobKind(Enum):
    """What limits and waits tell apart."""

    TRAINING = "training"
    OTHER = "other job"


class State(StrEnum):
    """Where a job is. WAITING: also for its turn after a pause."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Priority(IntEnum):
    """Lower ones go first. NOW: what is on the screen. SOON: what follows it. ASKED: studies that were asked for.
    TRAINING: trainings, which take long. LATER: what is filled in unasked.
    """

    NOW = 0
    SOON = 1
    ASKED = 2
    TRAINING = 3
    LATER = 4


class Turns(Protocol):
    """What a job needs of the scheduler that runs it."""

    def present(self, visitor: str) -> bool:
        """Whether a visitor is there."""

    def carry_out(self, job: "Job", work: Any) -> Any:
        """Do the work of a job that has the turn."""

    def give_way(self, job: "Job") -> None:
        """Let more urgent jobs run to their end."""

    def let_rest(self, job: "Job") -> None:
        """Let others run while a job is paused."""


class Job:
    """One piece of long work. Reading the attributes is safe from any thread.

    It is the `Progress` of its work. label: what a person is told. named: what it is done to, a model. kind: see
    `JobKind`. progress: done share in [0, 1]. step: where it is, in words. partial: the latest partial result. state:
    see `State`. result: what the work returned. error: the message of a failed job. left_by: why a job was cancelled
    that nobody has cancelled, or None. was_refused: whether it failed for want of room.
    """

    def __init__(
        self,
        scheduler: Turns | None,
        work: Any,
        priority: int,
        label: str,
        patience: float,
        kind: JobKind = JobKind.OTHER,
        named: str = "",
    ) -> None:
        self.label = label
        self.named = named
        self.kind = kind
        self.priority = priority
        self.progress = 0.0
        self.step = ""
        self.partial: Any = None
        self.state = State.WAITING
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
        job._end(State.FAILED)
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
    def _turns(self) -> Turns:
        assert self._scheduler is not None, "only a job that was queued runs"
        return self._scheduler

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
        """Ask the job to wait at its next report; others go on meanwhile, whatever their priority."""
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
        """Ask the job to end, whoever wants it; it does at its next report, or before it starts."""
        self._cancel.set()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the job has ended; False when `timeout` seconds were not enough."""
        return self._ended.wait(timeout)

    def wait_for_report(self, timeout: float | None = None) -> bool:
        """Wait until there is a partial result, or the job has ended; False when `timeout` seconds were not enough."""
        return self._reported.wait(timeout)

    def report(
        self,
        done: float | None = None,
        total: float = 1.0,
        *,
        label: str | None = None,
        partial: Any = None,
        left: float | None = None,
    ) -> None:
        """Called by the work between its pieces; raises Cancelled once the job was cancelled.

        As `paretoscope.base.progress.Progress.report`: the label becomes the job's step.
        """
        self._cancel_unwanted()
        if label is not None:
            self.step, self._left = label, left
        if done is not None:
            self.progress = done / total
        if partial is not None:
            self.partial = partial
            self._reported.set()
        if not self._cancel.is_set():
            self._turns.give_way(self)
        while self._paused.is_set() and not self._cancel.is_set():
            began = time.monotonic()
            self._turns.let_rest(self)
            self.state = State.RUNNING
            if self._started is not None:  # that time does not count for what is left
                self._started += time.monotonic() - began
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
                if self.kind is JobKind.TRAINING and party is not None and self._turns.present(party.visitor):
                    self._parties[party] = now
                elif now - seen > (patience := self._patience_with(party)):
                    del self._parties[party]
                    if not self._parties:
                        self.left_by = f"nobody who wanted it was here for {_minutes(patience)}"
                        self._cancel.set()

    def _patience_with(self, party: Party | None) -> float:
        """Seconds that a party may be silent: few for what was begun unasked, once its visitor has left."""
        if self.priority == Priority.LATER and party is not None and not self._turns.present(party.visitor):
            return min(self._patience, LEFT_S)
        return self._patience

    def _run(self) -> None:
        if self._cancel.is_set():
            self._end(State.CANCELLED)
            return
        self.state, self._started = State.RUNNING, time.monotonic()
        try:
            self.result = self._turns.carry_out(self, self._work)
        except Cancelled:
            self._end(State.CANCELLED)
        except CompressionError as error:
            self.error = str(error)
            self._end(State.FAILED)
        except BaseException as error:  # a defect of ours, or want of memory, must not leave others waiting
            _log.exception("%s: failed", self.label)
            self.error = (
                f"Unexpected {type(error).__name__}: {error}. This is a fault of ours, which the server's log shows. "
                "Try again, or with other settings."
            )
            self._end(State.FAILED)
        else:
            self.progress = 1.0
            self._end(State.DONE)

    def _end(self, state: State) -> None:
        self.state = state
        self._work = None
        self._reported.set()
        self._ended.set()


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:g} min" if seconds >= 60 else f"{seconds:g} s"
