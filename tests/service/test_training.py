"""The workbench's training: kept, stored, resumed, cancelled, within a budget."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace

import holding
import pytest
from paretoscope import codec
from paretoscope.base.errors import CompressionError
from paretoscope.codec import shelf
from paretoscope.measure.subject import Subject
from paretoscope.recipe.recipe import Recipe
from paretoscope.service import store, subjects
from paretoscope.service.jobs import Priority
from paretoscope.service.store import Store
from paretoscope.service.study import StudyKind
from paretoscope.service.timing import Timing
from paretoscope.service.workbench import Workbench
from paretoscope.training.epochs import Epoch, Recovery
from paretoscope.training.train import Trainer
from slices import sliced

pytestmark = pytest.mark.slow

NAME = "lenet-300-100"
RECIPE = Recipe.of(sparsity=0.5, bits=3, epochs=4, ramp=0.25, distill=0.5)
# Generous: nothing waits this long unless the test has failed.
SECONDS = 300


@pytest.fixture(scope="module")
def subject() -> Subject:
    return sliced(subjects.load(NAME), 200)


@pytest.fixture
def start(subject, tmp_path, monkeypatch) -> Iterator[Callable[[], Workbench]]:
    """start(): a workbench as after a restart, sparing it the loading of the model."""
    monkeypatch.setenv("PARETOSCOPE_STORE", str(tmp_path / "records.sqlite"))
    monkeypatch.setattr(subjects, "load", lambda name: subject)
    benches = []

    def begin() -> Workbench:
        benches.append(Workbench(Store(tmp_path / "records.sqlite")))
        return benches[-1]

    yield begin
    for bench in benches:
        bench.close()


@pytest.fixture(scope="module")
def straight(subject) -> Trainer:
    """Without any interruption."""
    trainer = Trainer(subject, RECIPE)
    list(trainer.run())
    return trainer


@pytest.fixture
def interrupt(monkeypatch) -> Callable[[int, Callable[[], None]], None]:
    """interrupt(epoch, action): do something when that epoch is about to begin."""

    def set_up(number: int, action: Callable[[], None]) -> None:
        epoch = Trainer._epoch

        def interrupted(self, at, check):
            if at == number:
                action()
            return epoch(self, at, check)

        monkeypatch.setattr(Trainer, "_epoch", interrupted)

    return set_up


def ended(job) -> Recovery:
    assert job.wait(SECONDS)
    assert (job.state, job.error) == ("done", None)
    return job.result


def untimed(epochs) -> list:
    return [replace(epoch, seconds=0.0) for epoch in epochs]


def test_a_recovery_is_a_record_a_file_and_a_document(start, straight, subject):
    bench = start()
    assert bench.known(StudyKind.RECOVER, NAME, RECIPE) is None
    with pytest.raises(CompressionError, match="Train it"):
        bench.artefact(NAME, RECIPE)
    job = bench.ask(StudyKind.RECOVER, NAME, RECIPE)
    found = ended(job)
    assert (found.recipe, found.best) == (RECIPE, straight.result().best)
    assert untimed(found.epochs) == untimed(straight.epochs)
    assert job.partial == found.epochs
    record = bench.find(NAME, RECIPE).record
    assert record in bench.records(NAME, Timing())
    assert record.size.artefact == found.epochs[found.best].size
    assert bench.artefact(NAME, RECIPE) == codec.write(straight.result().compressed)
    assert not bench.resumable(NAME, RECIPE)
    # After a restart all of it is there, and nothing is trained again.
    again = start()
    assert again.known(StudyKind.RECOVER, NAME, RECIPE) == found
    assert again.find(NAME, RECIPE).record == record
    assert again.artefact(NAME, RECIPE) == bench.artefact(NAME, RECIPE)
    *_, anew = subject.evaluate(RECIPE)
    assert anew.record == record


def test_what_was_trained_is_not_trained_again(start, interrupt):
    bench = start()
    found = ended(bench.ask(StudyKind.RECOVER, NAME, RECIPE))
    interrupt(1, lambda: pytest.fail("trained again"))
    assert ended(bench.ask(StudyKind.RECOVER, NAME, RECIPE)) == found
    assert ended(start().ask(StudyKind.RECOVER, NAME, RECIPE)) == found


def test_what_an_earlier_revision_trained_is_measured_again_and_not_trained_again(start, interrupt, monkeypatch):
    found = ended(start().ask(StudyKind.RECOVER, NAME, RECIPE))
    monkeypatch.setattr(store, "METHODS", store.METHODS + 1)
    interrupt(1, lambda: pytest.fail("trained again"))
    bench = start()
    assert bench.find(NAME, RECIPE) is None and bench.known(StudyKind.RECOVER, NAME, RECIPE) == found
    assert ended(bench.ask(StudyKind.RECOVER, NAME, RECIPE)) == found
    assert bench.find(NAME, RECIPE) is not None


def test_a_lost_file_is_trained_anew(start, subject):
    bench = start()
    ended(bench.ask(StudyKind.RECOVER, NAME, RECIPE))
    kept = bench.artefact(NAME, RECIPE)
    for path in shelf.folder_of_own().glob("*.psc"):
        path.unlink()
    ended(bench.ask(StudyKind.RECOVER, NAME, RECIPE))
    assert bench.artefact(NAME, RECIPE) == kept


def test_cancel_keeps_the_best_so_far(start, interrupt, subject):
    bench = start()
    job = []
    interrupt(3, lambda: job[0].cancel())
    gate = threading.Event()
    holding.submit(bench, lambda _: gate.wait(SECONDS))
    job.append(bench.ask(StudyKind.RECOVER, NAME, RECIPE))
    gate.set()
    assert job[0].wait(SECONDS)
    assert job[0].state == "cancelled"
    found = bench.known(StudyKind.RECOVER, NAME, RECIPE)
    assert found.recipe == replace(RECIPE, recover=replace(RECIPE.recover, stopped=2))
    assert [epoch.number for epoch in found.epochs] == [0, 1, 2]
    assert bench.find(NAME, found.recipe) is not None
    assert bench.find(NAME, RECIPE) is None
    # Its recipe tells how to make it again.
    trainer = Trainer(subject, found.recipe)
    list(trainer.run())
    assert bench.artefact(NAME, found.recipe) == codec.write(trainer.result().compressed)
    assert bench.resumable(NAME, RECIPE)


def test_a_cancelled_training_goes_on_where_it_was(start, interrupt, straight, monkeypatch):
    bench, job = start(), []
    with monkeypatch.context() as patch:
        epoch = Trainer._epoch
        patch.setattr(
            Trainer, "_epoch", lambda self, at, check: (at == 3 and job[0].cancel()) or epoch(self, at, check)
        )
        gate = threading.Event()
        holding.submit(bench, lambda _: gate.wait(SECONDS))
        job.append(bench.ask(StudyKind.RECOVER, NAME, RECIPE))
        gate.set()
        assert job[0].wait(SECONDS)
    trained = []
    interrupt(1, lambda: trained.append(1))
    again = start()
    found = ended(again.ask(StudyKind.RECOVER, NAME, RECIPE))
    assert not trained
    assert untimed(found.epochs) == untimed(straight.epochs)
    assert again.artefact(NAME, RECIPE) == codec.write(straight.result().compressed)
    assert not again.resumable(NAME, RECIPE)


def test_cancelled_before_the_first_epoch_nothing_is_kept(start, interrupt):
    bench, job = start(), []
    interrupt(1, lambda: job[0].cancel())
    gate = threading.Event()
    holding.submit(bench, lambda _: gate.wait(SECONDS))
    job.append(bench.ask(StudyKind.RECOVER, NAME, RECIPE))
    gate.set()
    assert job[0].wait(SECONDS)
    assert bench.known(StudyKind.RECOVER, NAME, RECIPE) is None
    assert bench.find(NAME, RECIPE) is None


@pytest.fixture
def slow(monkeypatch) -> None:
    """Every epoch takes 40 seconds of training, by its own account."""
    real = Trainer._epoch

    def epoch(self: Trainer, number: int, check) -> Epoch:
        self.epochs[-1] = replace(real(self, number, check), seconds=40.0 * number)
        return self.epochs[-1]

    monkeypatch.setattr(Trainer, "_epoch", epoch)


def test_a_budget_in_minutes(start, slow, straight):
    bench = start()
    found = ended(bench.ask(StudyKind.RECOVER, NAME, RECIPE, 1))
    assert found.recipe.recover.stopped == 2
    assert [epoch.number for epoch in found.epochs] == [0, 1, 2]
    # What was ended there is known by its own recipe too.
    assert ended(bench.ask(StudyKind.RECOVER, NAME, found.recipe)) == found
    # More minutes go on, to the same end as without a budget.
    assert bench.resumable(NAME, RECIPE)
    rest = ended(bench.ask(StudyKind.RECOVER, NAME, RECIPE, 50))
    assert rest.recipe == RECIPE
    assert bench.artefact(NAME, RECIPE) == codec.write(straight.result().compressed)


def test_the_smallest_budget_trains_one_epoch(start, slow):
    """The start alone must not pass for what all epochs give."""
    found = ended(start().ask(StudyKind.RECOVER, NAME, RECIPE, 0.01))
    assert found.recipe.recover.stopped == 1


def test_a_checkpoint_that_does_not_fit_is_replaced(start, subject, straight):
    source = subject.statistics.digest
    bench = start()
    shelf.keep_checkpoint(source, RECIPE, b"damaged")
    assert bench.resumable(NAME, RECIPE)
    assert untimed(ended(bench.ask(StudyKind.RECOVER, NAME, RECIPE)).epochs) == untimed(straight.epochs)
    assert not bench.resumable(NAME, RECIPE)


def test_pausing_changes_nothing(start, interrupt, straight):
    bench, job = start(), []
    interrupt(2, lambda: job[0].pause())
    gate = threading.Event()
    holding.submit(bench, lambda _: gate.wait(SECONDS))
    job.append(bench.ask(StudyKind.RECOVER, NAME, RECIPE))
    gate.set()
    while not job[0].paused:
        assert not job[0].wait(0.001)
    # Others go on meanwhile.
    assert bench.evaluate(NAME, Recipe.of(bits=5), priority=Priority.LATER).wait(SECONDS)
    assert not job[0].ended
    job[0].go_on()
    assert untimed(ended(job[0]).epochs) == untimed(straight.epochs)


def test_a_training_goes_before_what_nobody_asked_for(start):
    bench, gate = start(), threading.Event()
    holding.submit(bench, lambda _: gate.wait(SECONDS))
    unasked = bench.fill(NAME, RECIPE, Timing())
    training = bench.ask(StudyKind.RECOVER, NAME, RECIPE)
    asked = bench.ask(StudyKind.SENSITIVITY, NAME)
    assert bench.ahead(training)[1:] == [asked] and bench.ahead(unasked)[1:] == [asked, training]
    for job in (unasked, training, asked):
        job.cancel()
    gate.set()


def test_a_recipe_without_training_is_refused(start):
    job = start().ask(StudyKind.RECOVER, NAME, RECIPE.untrained)
    assert job.wait(SECONDS)
    assert job.state == "failed"
    assert "must say how it is trained" in job.error
