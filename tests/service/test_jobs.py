import random
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest
import torch
from paretoscope.base import lock as exclusive
from paretoscope.base.errors import ModelError
from paretoscope.base.lock import machine
from paretoscope.base.progress import Cancelled
from paretoscope.service import jobs
from paretoscope.service import scheduler as turns
from paretoscope.service.jobs import Job, Priority
from paretoscope.service.parties import Party, asking
from paretoscope.service.scheduler import Scheduler

# Generous: nothing waits this long unless the test has failed.
SECONDS = 300


@pytest.fixture
def scheduler() -> Iterator[Scheduler]:
    scheduler = Scheduler()
    yield scheduler
    scheduler.close()


class Gate:
    """Work that stops inside itself: `entered` says that it runs, `open` lets it go on to its checkpoint."""

    def __init__(self, result: object = None) -> None:
        self.entered, self.open = threading.Event(), threading.Event()
        self.result = result

    def __call__(self, job: Job) -> object:
        self.entered.set()
        assert self.open.wait(SECONDS)
        job.report()
        return self.result


def noting(log: list[str], name: str) -> Callable[[Job], str]:
    def work(job: Job) -> str:
        log.append(name)
        return name

    return work


def test_work_is_done_and_gives_its_result(scheduler):
    job = scheduler.submit(lambda job: 6 * 7, priority=1, label="Multiplying")
    assert job.wait(SECONDS)
    assert (job.state, job.result, job.progress, job.error) == ("done", 42, 1.0, None)
    assert job.ended
    assert (job.label, job.priority) == ("Multiplying", 1)


def test_a_job_says_what_it_is_doing(scheduler):
    gate = Gate("whole")
    job = scheduler.submit(gate, priority=0, label="first")
    waiting = scheduler.submit(lambda job: None, priority=0, label="second")
    assert gate.entered.wait(SECONDS)
    assert (job.state, job.ended, job.result) == ("running", False, None)
    assert (waiting.state, waiting.ended) == ("waiting", False)
    assert not waiting.wait(0)
    gate.open.set()
    assert job.wait(SECONDS) and waiting.wait(SECONDS)
    assert job.state == waiting.state == "done"


def test_lower_numbers_go_first_and_equal_ones_in_order(scheduler):
    gate, log = Gate(), []
    first = scheduler.submit(gate, priority=0, label="holds the worker")
    assert gate.entered.wait(SECONDS)
    submitted = [
        scheduler.submit(noting(log, f"{name}{priority}"), priority=priority, label=name)
        for name, priority in [("a", 2), ("b", 1), ("c", 2), ("d", 0), ("e", 1), ("f", 0)]
    ]
    gate.open.set()
    assert all(job.wait(SECONDS) for job in [first, *submitted])
    assert log == ["d0", "f0", "b1", "e1", "a2", "c2"]


def held(scheduler: Scheduler) -> Gate:
    """Somebody's work that has the turn, until its gate is opened."""
    gate = Gate()
    scheduler.submit(gate, priority=0, label="holds the worker")
    assert gate.entered.wait(SECONDS)
    return gate


def ask(scheduler: Scheduler, who: str, work: Callable[[Job], object], name: str = "evaluate") -> Job:
    with asking(Party("one visitor", who, name)):
        return scheduler.submit(work, priority=0, label="")


def test_of_equally_urgent_jobs_places_take_turns(scheduler):
    gate, log = held(scheduler), []
    asked = [("a", "a1"), ("a", "a2"), ("a", "a3"), ("b", "b1"), ("b", "b2"), ("c", "c1")]
    submitted = [ask(scheduler, who, noting(log, name), name) for who, name in asked]
    assert scheduler.ahead(submitted[-1])[1:] == [submitted[0], submitted[3]]
    gate.open.set()
    assert all(job.wait(SECONDS) for job in submitted)
    assert log == ["a1", "b1", "c1", "a2", "b2", "a3"]


def test_a_job_instead_of_one_that_waits_keeps_its_place(scheduler):
    gate, log = held(scheduler), []
    old = [ask(scheduler, who, noting(log, f"{who} old")) for who in "abc"]
    old[0].let_go(Party("one visitor", "a", "evaluate"))
    new = ask(scheduler, "a", noting(log, "a new"))
    gate.open.set()
    assert all(job.wait(SECONDS) for job in [*old, new])
    assert log == ["a new", "b old", "c old"]


def test_who_moves_on_faster_than_answers_come_is_answered_in_turn(scheduler):
    """All places move on whenever one of them is answered."""
    running, answered, waiting = held(scheduler), [], {}
    for _ in range(12):
        for who, (_, job) in waiting.items():
            job.let_go(Party("one visitor", who, "evaluate"))
        for who in "abcd":
            gate = Gate(who)
            waiting[who] = gate, ask(scheduler, who, gate)
        running.open.set()
        while not (begun := [who for who, (gate, _) in waiting.items() if gate.entered.wait(0.001)]):
            pass
        (next_one,) = begun
        answered.append(next_one)
        running, _ = waiting.pop(next_one)
    for gate in (running, *(gate for gate, _ in waiting.values())):
        gate.open.set()
    assert answered == list("abcd") * 3


def test_one_job_runs_at_a_time(scheduler):
    running, most, lock = 0, 0, threading.Lock()

    def work(job: Job) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        threading.Event().wait(0.002)
        with lock:
            running -= 1

    submitted = [scheduler.submit(work, priority=step % 3, label="") for step in range(20)]
    assert all(job.wait(SECONDS) for job in submitted)
    assert most == 1


def test_partial_results_and_progress_are_seen(scheduler):
    begin, gate, seen = threading.Event(), threading.Event(), threading.Event()

    def work(job: Job) -> str:
        assert begin.wait(SECONDS)
        job.report(0.25, partial="a quarter")
        job.report(partial="still a quarter")
        seen.set()
        assert gate.wait(SECONDS)
        job.report(0.5)
        return "whole"

    job = scheduler.submit(work, priority=0, label="")
    assert job.seconds_left is None
    begin.set()
    assert seen.wait(SECONDS)
    assert (job.progress, job.partial) == (0.25, "still a quarter")
    assert job.seconds_left > 0
    gate.set()
    assert job.wait(SECONDS)
    assert (job.progress, job.partial, job.result) == (1.0, "still a quarter", "whole")
    assert job.seconds_left == 0


def test_a_cancelled_job_never_starts(scheduler):
    gate, log = Gate(), []
    first = scheduler.submit(gate, priority=0, label="holds the worker")
    assert gate.entered.wait(SECONDS)
    job = scheduler.submit(noting(log, "ran"), priority=0, label="")
    job.cancel()
    assert job.cancelling
    gate.open.set()
    assert first.wait(SECONDS) and job.wait(SECONDS)
    assert (job.state, job.result, job.error, log) == ("cancelled", None, None, [])


def test_a_cancelled_job_ends_at_its_next_checkpoint(scheduler):
    gate, log = Gate(), []

    def work(job: Job) -> None:
        try:
            gate(job)
            log.append("went on")
        finally:
            log.append("tidied up")

    job = scheduler.submit(work, priority=0, label="")
    after = scheduler.submit(noting(log, "next"), priority=0, label="")
    assert gate.entered.wait(SECONDS)
    job.cancel()
    assert not job.ended
    gate.open.set()
    assert job.wait(SECONDS) and after.wait(SECONDS)
    assert (job.state, job.result) == ("cancelled", None)
    assert log == ["tidied up", "next"]


def test_cancelling_an_ended_job_changes_nothing(scheduler):
    job = scheduler.submit(lambda job: 1, priority=0, label="")
    assert job.wait(SECONDS)
    job.cancel()
    assert (job.state, job.result) == ("done", 1)


def test_a_higher_priority_runs_at_a_checkpoint_of_a_lower_one(scheduler):
    gate, log = Gate(), []

    def work(job: Job) -> None:
        log.append("sweep begins")
        gate(job)
        log.append("sweep goes on")

    sweep = scheduler.submit(work, priority=2, label="sweep")
    assert gate.entered.wait(SECONDS)
    submitted = [
        scheduler.submit(noting(log, name), priority=priority, label=name)
        for name, priority in [("equal", 2), ("soon", 1), ("now", 0), ("later", 3)]
    ]
    gate.open.set()
    assert all(job.wait(SECONDS) for job in [sweep, *submitted])
    assert log == ["sweep begins", "now", "soon", "sweep goes on", "equal", "later"]


def test_checkpoints_nest(scheduler):
    gates, log = {name: Gate() for name in ("low", "middle")}, []

    def work(name: str) -> Callable[[Job], None]:
        def nested(job: Job) -> None:
            gates[name](job)
            log.append(name)

        return nested

    low = scheduler.submit(work("low"), priority=2, label="")
    assert gates["low"].entered.wait(SECONDS)
    middle = scheduler.submit(work("middle"), priority=1, label="")
    gates["low"].open.set()
    assert gates["middle"].entered.wait(SECONDS)
    high = scheduler.submit(noting(log, "high"), priority=0, label="")
    assert (low.state, middle.state) == ("running", "running")
    gates["middle"].open.set()
    assert all(job.wait(SECONDS) for job in (low, middle, high))
    assert log == ["high", "middle", "low"]


def test_a_job_that_is_cancelled_from_above_ends_there(scheduler):
    gate = Gate()
    sweep = scheduler.submit(gate, priority=2, label="sweep")
    assert gate.entered.wait(SECONDS)
    above = scheduler.submit(lambda job: sweep.cancel(), priority=0, label="moves on")
    gate.open.set()
    assert sweep.wait(SECONDS) and above.wait(SECONDS)
    assert (above.state, sweep.state) == ("done", "cancelled")


def test_a_failure_above_does_not_end_the_job_below(scheduler):
    gate = Gate("whole")
    below = scheduler.submit(gate, priority=2, label="")
    assert gate.entered.wait(SECONDS)

    def fail(job: Job) -> None:
        raise ModelError("weights must be finite. Train again.")

    def give_up(job: Job) -> None:
        raise Cancelled

    above = [scheduler.submit(work, priority=0, label="") for work in (fail, give_up)]
    gate.open.set()
    assert below.wait(SECONDS)
    assert (below.state, below.result) == ("done", "whole")
    assert [job.state for job in above] == ["failed", "cancelled"]


def test_an_error_of_ours_is_told_in_its_own_words(scheduler):
    def fail(job: Job) -> None:
        raise ModelError("weights must be finite; fc1 has 3 that are not. Train the model again.")

    job = scheduler.submit(fail, priority=0, label="")
    assert job.wait(SECONDS)
    assert (job.state, job.result) == ("failed", None)
    assert job.error == "weights must be finite; fc1 has 3 that are not. Train the model again."


def test_a_defect_is_told_with_its_type_and_the_worker_goes_on(scheduler):
    def fail(job: Job) -> None:
        raise ZeroDivisionError("division by zero")

    job = scheduler.submit(fail, priority=0, label="")
    after = scheduler.submit(lambda job: "goes on", priority=0, label="")
    assert job.wait(SECONDS) and after.wait(SECONDS)
    assert job.state == "failed" and job.error.startswith("Unexpected ZeroDivisionError: division by zero. ")
    assert after.result == "goes on"


def test_a_job_that_nobody_keeps_is_cancelled(scheduler, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(jobs, "time", SimpleNamespace(monotonic=lambda: now[0]))
    steps, seen = [], threading.Semaphore(0)
    ahead = threading.Semaphore(0)

    def work(job: Job) -> None:
        while True:
            steps.append(now[0])
            seen.release()
            assert ahead.acquire(timeout=SECONDS)
            job.report()

    job = scheduler.submit(work, priority=0, label="", patience=60)
    for seconds in (60, 60, 61):
        assert seen.acquire(timeout=SECONDS)
        job.keep()
        now[0] += seconds
        ahead.release()
    assert job.wait(SECONDS)
    assert job.state == "cancelled"
    assert steps == [100, 160, 220]


@pytest.mark.parametrize(
    ("priority", "there", "goes_on"),
    [(Priority.LATER, False, False), (Priority.LATER, True, True), (Priority.ASKED, False, True)],
)
def test_what_nobody_asked_for_ends_soon_after_its_visitor_has_left(monkeypatch, priority, there, goes_on):
    now = [100.0]
    monkeypatch.setattr(jobs, "time", SimpleNamespace(monotonic=lambda: now[0]))
    scheduler = Scheduler(present=lambda visitor: there)
    gate = held(scheduler)
    with asking(Party("one visitor", "a", "fill")):
        job = scheduler.submit(noting([], "ran"), priority=priority, label="", patience=90)
    now[0] += jobs.LEFT_S
    assert scheduler.ahead(job) and not job.cancelling
    now[0] += 1
    scheduler.ahead(job)
    assert job.cancelling is not goes_on and (job.left_by is None) is goes_on
    gate.open.set()
    scheduler.close()


def test_closing_cancels_what_waits_and_what_runs():
    scheduler, gate, log = Scheduler(), Gate("whole"), []
    running = scheduler.submit(gate, priority=1, label="")
    assert gate.entered.wait(SECONDS)
    waiting = [scheduler.submit(noting(log, "ran"), priority=priority, label="") for priority in (0, 1, 2)]
    closing = threading.Thread(target=scheduler.close)
    closing.start()
    while not all(job.cancelling for job in (running, *waiting)):
        assert not running.wait(0.001)
    gate.open.set()
    closing.join(SECONDS)
    assert not closing.is_alive()
    assert [job.state for job in (running, *waiting)] == ["cancelled"] * 4
    assert log == []


def test_closing_cancels_jobs_that_run_on_top_of_each_other():
    scheduler, gates = Scheduler(), [Gate(), Gate()]
    below = scheduler.submit(gates[0], priority=2, label="")
    assert gates[0].entered.wait(SECONDS)
    above = scheduler.submit(gates[1], priority=1, label="")
    gates[0].open.set()
    assert gates[1].entered.wait(SECONDS)
    closing = threading.Thread(target=scheduler.close)
    closing.start()
    while not (below.cancelling and above.cancelling):
        assert not below.wait(0.001)
    gates[1].open.set()
    closing.join(SECONDS)
    assert (below.state, above.state) == ("cancelled", "cancelled")


def test_a_closed_scheduler_cancels_at_once():
    scheduler = Scheduler()
    scheduler.close()
    scheduler.close()
    job = scheduler.submit(lambda job: 1, priority=0, label="")
    assert job.ended
    assert (job.state, job.result) == ("cancelled", None)


class Steps:
    """Work of so many steps: `seen` counts those begun, `ahead` lets one end in its checkpoint."""

    def __init__(self, count: int) -> None:
        self.count, self.seen, self.ahead = count, threading.Semaphore(0), threading.Semaphore(0)

    def __call__(self, job: Job) -> str:
        for step in range(self.count):
            self.seen.release()
            assert self.ahead.acquire(timeout=SECONDS)
            job.report(step + 1, self.count, partial=step)
        return "whole"


def paused(scheduler: Scheduler, steps: Steps, priority: int = 1) -> Job:
    """A job that rests in its first checkpoint."""
    job = scheduler.submit(steps, priority=priority, label="rests")
    assert steps.seen.acquire(timeout=SECONDS)
    job.pause()
    steps.ahead.release()
    assert job.wait_for_report(SECONDS)
    return job


@pytest.mark.parametrize("priority", [0, 1, 2])
def test_a_paused_job_lets_jobs_of_any_priority_run(scheduler, priority):
    steps, log = Steps(2), []
    job = paused(scheduler, steps)
    assert job.paused
    other = scheduler.submit(noting(log, "other"), priority=priority, label="")
    assert other.wait(SECONDS)
    assert log == ["other"]
    assert not steps.seen.acquire(timeout=0.01)
    assert (job.state, job.ended, job.partial) == ("running", False, 0)
    job.go_on()
    assert not job.paused
    assert steps.seen.acquire(timeout=SECONDS)
    steps.ahead.release()
    assert job.wait(SECONDS)
    assert (job.state, job.result) == ("done", "whole")


def test_a_job_that_was_not_paused_lets_only_more_urgent_ones_run(scheduler):
    steps, log = Steps(2), []
    job = scheduler.submit(steps, priority=1, label="")
    assert steps.seen.acquire(timeout=SECONDS)
    later = [scheduler.submit(noting(log, str(priority)), priority=priority, label="") for priority in (2, 1, 0)]
    steps.ahead.release()
    assert steps.seen.acquire(timeout=SECONDS)
    assert log == ["0"]
    steps.ahead.release()
    assert all(each.wait(SECONDS) for each in (job, *later))
    assert log == ["0", "1", "2"]


def test_cancelling_a_paused_job_ends_it(scheduler):
    job = paused(scheduler, Steps(2))
    job.cancel()
    assert job.wait(SECONDS)
    assert (job.state, job.result) == ("cancelled", None)


def test_closing_ends_a_paused_job():
    scheduler = Scheduler()
    job = paused(scheduler, Steps(2))
    scheduler.close()
    assert (job.ended, job.state) == (True, "cancelled")


def test_a_paused_job_that_nobody_keeps_is_cancelled(scheduler, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(jobs, "time", SimpleNamespace(monotonic=lambda: now[0], sleep=lambda _: None))
    steps = Steps(2)
    job = scheduler.submit(steps, priority=1, label="", patience=60)
    assert steps.seen.acquire(timeout=SECONDS)
    job.pause()
    steps.ahead.release()
    assert job.wait_for_report(SECONDS)
    now[0] += 61
    assert job.wait(SECONDS)
    assert job.state == "cancelled"


def test_a_pause_does_not_count_for_what_is_left(scheduler, monkeypatch):
    now, resting = [100.0], threading.Event()
    monkeypatch.setattr(
        jobs,
        "time",
        SimpleNamespace(monotonic=lambda: now[0], sleep=lambda _: resting.set() or threading.Event().wait(0.001)),
    )
    steps = Steps(2)
    job = scheduler.submit(steps, priority=1, label="")
    assert steps.seen.acquire(timeout=SECONDS)
    job.pause()
    now[0] += 10
    steps.ahead.release()
    assert resting.wait(SECONDS)
    now[0] += 1000
    job.go_on()
    assert steps.seen.acquire(timeout=SECONDS)
    assert job.seconds_left == pytest.approx(10)
    steps.ahead.release()
    assert job.wait(SECONDS)


def test_of_two_paused_jobs_either_can_go_on(scheduler):
    steps = [Steps(3), Steps(2)]
    first, second = paused(scheduler, steps[0]), paused(scheduler, steps[1])
    first.go_on()
    assert steps[0].seen.acquire(timeout=SECONDS)
    # It may be paused again, and the other go on.
    first.pause()
    steps[0].ahead.release()
    second.go_on()
    assert steps[1].seen.acquire(timeout=SECONDS)
    steps[1].ahead.release()
    assert second.wait(SECONDS)
    assert (second.state, first.state, first.ended) == ("done", "running", False)
    first.go_on()
    assert steps[0].seen.acquire(timeout=SECONDS)
    steps[0].ahead.release()
    assert first.wait(SECONDS)
    assert (first.state, first.result) == ("done", "whole")


def test_a_job_that_goes_on_waits_for_the_one_that_runs_and_comes_before_later_ones(scheduler):
    steps, gate, log = Steps(2), Gate(), []
    first = paused(scheduler, steps)
    running = scheduler.submit(gate, priority=1, label="")
    assert gate.entered.wait(SECONDS)
    later = scheduler.submit(noting(log, "later"), priority=1, label="")
    first.go_on()
    while first.state != "waiting":
        assert not first.wait(0.001)
    assert not steps.seen.acquire(timeout=0.01)
    gate.open.set()
    assert running.wait(SECONDS) and steps.seen.acquire(timeout=SECONDS)
    assert (first.state, log) == ("running", [])
    steps.ahead.release()
    assert first.wait(SECONDS) and later.wait(SECONDS)
    assert log == ["later"]


@pytest.mark.slow
def test_one_job_runs_at_a_time_though_many_are_paused_and_go_on(scheduler):
    running, most, lock, draw = 0, 0, threading.Lock(), random.Random(0)

    def work(job: Job) -> None:
        nonlocal running, most
        for step in range(20):
            with lock:
                running += 1
                most = max(most, running)
            threading.Event().wait(0.0005)
            with lock:
                running -= 1
            job.report(step / 20)

    submitted = [scheduler.submit(work, priority=step % 3, label="") for step in range(8)]
    while not all(job.ended for job in submitted):
        job = draw.choice(submitted)
        job.pause()
        threading.Event().wait(0.001)
        draw.choice(submitted).go_on()
        if draw.random() < 0.05:
            for each in submitted:
                each.go_on()
    assert most == 1
    assert [job.state for job in submitted] == ["done"] * 8


def test_each_job_draws_its_own_random_numbers(scheduler):
    """A job that goes on draws what it would have drawn without a pause, whatever others drew meanwhile."""
    steps = [Steps(2), Steps(2)]

    def drawing(number: int) -> Callable[[Job], list[float]]:
        def work(job: Job) -> list[float]:
            torch.manual_seed(number)
            drawn = [float(torch.rand(()))]
            steps[number](job)
            return [*drawn, float(torch.rand(()))]

        return work

    expected = [torch.rand(2, generator=torch.Generator().manual_seed(number)).tolist() for number in (0, 1)]
    with torch.random.fork_rng(devices=[]):
        jobs = []
        for number in (0, 1):
            jobs.append(scheduler.submit(drawing(number), priority=1, label=""))
            assert steps[number].seen.acquire(timeout=SECONDS)
            jobs[number].pause()
            steps[number].ahead.release()
            assert jobs[number].wait_for_report(SECONDS)
        for number in (0, 1):
            jobs[number].go_on()
            assert steps[number].seen.acquire(timeout=SECONDS)
            steps[number].ahead.release()
            assert jobs[number].wait(SECONDS)
            assert jobs[number].result == expected[number]


def test_a_job_that_gave_its_turn_away_does_not_hold_the_machine(scheduler):
    held = []

    def work(job: Job) -> None:
        with machine(exclusive=True):
            steps(job)
            held.append(exclusive._held.exclusive)

    steps = Steps(2)
    job = scheduler.submit(work, priority=1, label="")
    assert steps.seen.acquire(timeout=SECONDS)
    job.pause()
    steps.ahead.release()
    assert job.wait_for_report(SECONDS)

    def alone(job: Job) -> bool:
        with machine(exclusive=True):
            return exclusive._held.file is not None

    assert scheduler.submit(alone, priority=2, label="").wait(SECONDS)
    job.go_on()
    assert steps.seen.acquire(timeout=SECONDS)
    steps.ahead.release()
    assert job.wait(SECONDS)
    assert held == [True]


def test_closing_ends_several_paused_jobs():
    scheduler = Scheduler()
    resting = [paused(scheduler, Steps(2)) for _ in range(3)]
    scheduler.close()
    assert [job.state for job in resting] == ["cancelled"] * 3


@pytest.mark.slow
def test_two_submissions_at_once_do_not_start_two_jobs(scheduler, monkeypatch):
    """A second thread comes while the first has chosen a job and not started it yet."""
    rank, chosen, second_is_through = turns._rank, threading.Event(), threading.Event()

    def slow_rank(entry, last):
        found = rank(entry, last)
        if not chosen.is_set():
            chosen.set()
            # The lock keeps the second thread out: it gets through only where there is none.
            second_is_through.wait(0.5)
        return found

    running, together, gate = [], [], threading.Event()

    def work(job: Job) -> None:
        running.append(job)
        together.append(len(running))
        gate.wait(SECONDS)
        running.remove(job)

    monkeypatch.setattr(turns, "_rank", slow_rank)
    submitted = []
    threads = [
        threading.Thread(
            target=lambda: submitted.append(scheduler.submit(work, priority=0, label="")) or second_is_through.set()
        )
        for _ in range(2)
    ]
    threads[0].start()
    assert chosen.wait(SECONDS)
    threads[1].start()
    for thread in threads:
        thread.join(SECONDS)
    gate.set()
    assert all(job.wait(SECONDS) and job.state == "done" for job in submitted) and len(submitted) == 2
    assert together == [1, 1]


def test_a_job_that_waits_for_the_machine_says_so(scheduler, monkeypatch, tmp_path):
    monkeypatch.setenv(exclusive.ENVIRONMENT, str(tmp_path / "machine"))
    monkeypatch.setattr(exclusive, "TOLD_AFTER_S", 0.0)

    def work(job: Job) -> None:
        with machine(exclusive=False):
            pass

    with machine(exclusive=True):
        job = scheduler.submit(work, priority=0, label="Measuring")
        while job.awaited is None:
            assert not job.wait(0.005)
        assert job.awaited == "a timing on this machine"
    assert job.wait(SECONDS) and job.awaited is None
