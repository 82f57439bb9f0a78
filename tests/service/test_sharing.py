"""Jobs of several visitors: who may end one, who has left, how many each may have, and what a wait says."""

import threading
from collections.abc import Callable, Iterator

import pytest
from paretoscope.service import jobs
from paretoscope.service.jobs import Job, JobKind, Priority
from paretoscope.service.limits import NONE, LimitError, Limits
from paretoscope.service.parties import Party, asking
from paretoscope.service.scheduler import Scheduler, told_wait

# Generous: nothing waits this long unless the test has failed.
SECONDS = 30
ANN, BEN = Party("ann"), Party("ben")
GRACE_S = 600.0


class Clock:
    """Time as the jobs see it; it moves when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


class Steps:
    """Work in steps: `step` lets it do one, and returns when it is done or has ended."""

    def __init__(self) -> None:
        self.begin, self.done = threading.Semaphore(0), threading.Semaphore(0)

    def __call__(self, job: Job) -> str:
        self.done.release()
        try:
            while True:
                assert self.begin.acquire(timeout=SECONDS)
                job.report()
                self.done.release()
        finally:
            self.done.release()

    def step(self) -> None:
        self.begin.release()
        assert self.done.acquire(timeout=SECONDS)

    def started(self) -> "Steps":
        assert self.done.acquire(timeout=SECONDS)
        return self


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(jobs.time, "monotonic", clock.monotonic)
    return clock


@pytest.fixture
def here() -> set[str]:
    """The visitors who are there."""
    return {"ann", "ben"}


@pytest.fixture
def start(here: set[str]) -> Iterator[Callable[..., Scheduler]]:
    made = []

    def begin(limits: Limits = NONE) -> Scheduler:
        made.append(Scheduler(limits, lambda visitor: visitor in here))
        return made[-1]

    yield begin
    for scheduler in made:
        # Work that waits for its next step notices its end there.
        for job in scheduler._begun:
            job.cancel()
            if isinstance(job._work, Steps):
                job._work.begin.release()
        scheduler.close()


def train(scheduler: Scheduler, party: Party, work: Callable[[Job], object], **settings) -> Job:
    with asking(party):
        settings = {
            "priority": Priority.TRAINING,
            "label": "Training",
            "patience": GRACE_S,
            "kind": JobKind.TRAINING,
            **settings,
        }
        return scheduler.submit(work, **settings)


def test_a_job_ends_when_the_last_who_wants_it_lets_go(start) -> None:
    steps = Steps()
    job = train(start(), ANN, steps)
    steps.started()
    assert job.want(BEN) and job.parties == (ANN, BEN)
    job.let_go(BEN)
    job.let_go(BEN)
    job.let_go(Party("a stranger"))
    job.let_go(None)
    steps.step()
    assert not job.cancelling and job.parties == (ANN,)
    assert job.want(BEN)
    job.let_go(ANN)
    steps.step()
    assert not job.cancelling and job.parties == (BEN,)
    job.let_go(BEN)
    steps.step()
    assert job.wait(SECONDS) and job.state == "cancelled" and job.left_by is None
    assert not job.want(ANN)


def test_two_places_of_one_visitor_want_a_job_each_for_itself(start) -> None:
    steps = Steps()
    first, second = Party("ann", "one tab"), Party("ann", "another")
    job = train(start(), first, steps, kind=JobKind.OTHER)
    steps.started()
    job.want(second)
    job.let_go(first)
    steps.step()
    assert not job.cancelling


def test_a_training_goes_on_while_its_visitor_is_there_and_for_the_grace_after(start, here, clock) -> None:
    steps = Steps()
    job = train(start(), ANN, steps)
    steps.started()
    clock.now += 100 * GRACE_S
    steps.step()  # there all the time, though it has asked for nothing
    here.remove("ann")
    clock.now += GRACE_S
    steps.step()
    assert not job.cancelling
    here.add("ann")
    steps.step()  # back in time
    here.remove("ann")
    clock.now += GRACE_S
    steps.step()
    assert not job.cancelling
    clock.now += 1
    steps.step()
    assert job.wait(SECONDS) and job.state == "cancelled"
    assert job.left_by == "nobody who wanted it was here for 10 min"


def test_a_training_of_two_goes_on_when_one_has_left(start, here, clock) -> None:
    steps = Steps()
    job = train(start(), ANN, steps)
    steps.started()
    job.want(BEN)
    here.remove("ann")
    clock.now += GRACE_S + 1
    steps.step()
    assert not job.cancelling and job.parties == (BEN,)


def test_other_jobs_are_kept_by_being_looked_at_alone(start, clock) -> None:
    steps = Steps()
    job = train(start(), ANN, steps, kind=JobKind.OTHER, patience=90.0)
    steps.started()
    clock.now += 80
    job.keep(BEN)  # does not want it
    clock.now += 20
    steps.step()
    assert job.wait(SECONDS) and job.state == "cancelled"


def test_the_place_of_a_training_whose_visitor_left_is_given_up_before_its_turn(start, here, clock) -> None:
    scheduler, steps = start(Limits(queue=2)), Steps()
    train(scheduler, BEN, steps)
    steps.started()
    waiting = train(scheduler, ANN, Steps())
    with pytest.raises(LimitError, match=r"at most 2 trainings of all visitors .* there are 2"):
        train(scheduler, BEN, Steps())
    here.remove("ann")
    clock.now += GRACE_S + 1
    after = train(scheduler, BEN, Steps())
    assert waiting.ended and waiting.state == "cancelled" and waiting.left_by and not after.ended


def test_a_paused_training_whose_visitor_left_ends(start, here, clock) -> None:
    steps = Steps()
    job = train(start(), ANN, steps)
    steps.started()
    job.pause()
    steps.begin.release()
    here.remove("ann")
    clock.now += GRACE_S + 1
    assert job.wait(SECONDS) and job.state == "cancelled"


def test_each_visitor_has_so_many_and_the_remedy_works(start) -> None:
    scheduler, steps = start(Limits(trainings=2, jobs=1)), Steps()
    first = train(scheduler, ANN, steps)
    steps.started()
    second = train(scheduler, ANN, Steps())
    told = "a visitor may have at most 2 trainings that run, wait or pause on this server; you have 2. Cancel one"
    with pytest.raises(LimitError, match=told):
        train(scheduler, ANN, Steps())
    with pytest.raises(LimitError, match=told):
        train(scheduler, Party("ann", "another tab"), Steps())
    train(scheduler, BEN, Steps())
    train(scheduler, ANN, Steps(), kind=JobKind.OTHER)
    with pytest.raises(LimitError, match="at most 1 jobs"):
        train(scheduler, ANN, Steps(), kind=JobKind.OTHER)
    second.let_go(ANN)
    third = train(scheduler, ANN, Steps())
    assert second.ended and not third.ended and not first.ended


def test_a_wait_says_what_it_waits_for(start) -> None:
    scheduler, entered, go = start(), threading.Event(), threading.Event()

    def work(job: Job) -> None:
        job.report(0.12, label="epoch 12 of 100", left=180.0)
        entered.set()
        assert go.wait(SECONDS)

    running = train(scheduler, BEN, work, named="ResNet-20")
    assert entered.wait(SECONDS)
    train(scheduler, BEN, lambda job: None)
    mine = train(scheduler, ANN, lambda job: None)
    train(scheduler, BEN, lambda job: None)  # behind
    assert told_wait(scheduler.ahead(mine)) == (
        "2 trainings before yours; the running one is ResNet-20, epoch 12 of 100, about 3 min"
    )
    train(scheduler, BEN, lambda job: None, kind=JobKind.OTHER, priority=1)
    assert told_wait(scheduler.ahead(mine)).startswith("2 trainings and 1 other job before yours; the running one is R")
    assert running not in scheduler.ahead(running)
    go.set()
    assert mine.wait(SECONDS)
    assert told_wait([]) == ""


@pytest.mark.parametrize("fault", [SystemExit(3), MemoryError("4 GB"), KeyError("x")])
def test_whatever_ends_a_job_it_ends_with_a_message_and_others_go_on(start, fault: BaseException) -> None:
    scheduler = start()

    def fail(job: Job) -> None:
        raise fault

    job = scheduler.submit(fail, priority=1, label="Falling")
    after = scheduler.submit(lambda job: "done", priority=2, label="after")
    assert job.wait(SECONDS) and after.wait(SECONDS)
    assert job.state == "failed" and job.error.startswith(f"Unexpected {type(fault).__name__}: {fault}. ")
    assert "Traceback" not in job.error and after.result == "done"
