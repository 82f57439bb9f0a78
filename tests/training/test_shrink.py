"""Progressive shrinking: the order, where it stops, what it keeps; with a made-up trainer, then with a real one."""

import itertools
import threading
from dataclasses import replace

import holding
import pytest
import torch
from paretoscope.base.errors import RecipeError
from paretoscope.base.progress import Calling
from paretoscope.recipe.recipe import Recipe
from paretoscope.service import subjects
from paretoscope.service.store import Store
from paretoscope.service.study import StudyKind
from paretoscope.service.workbench import Workbench
from paretoscope.training.epochs import Epoch, Recovery
from paretoscope.training.shrink import WIDTHS, ShrinkStep, required_accuracy, shrink, smallest, students
from paretoscope.training.split import Split
from paretoscope.training.train import Trainer

pytestmark = pytest.mark.slow

NAME = "lenet-300-100"
SECONDS = 300


def epoch(number: int, accuracy: float) -> Epoch:
    return Epoch(number, 0.1, 0.9, accuracy, 0.1, 1000, 0.0, 1e-3, True, float(number), 150)


class Trained:
    """A trainer that knows the accuracy of each student, and notes whom it was asked to train."""

    def __init__(self, *accuracies: float) -> None:
        self.accuracies, self.log = list(accuracies), []

    def __call__(self, recipe: Recipe) -> Recovery:
        self.log.append(recipe)
        accuracy = self.accuracies[len(self.log) - 1]
        return Recovery(recipe, 1, (epoch(0, 0.0), epoch(1, accuracy), epoch(2, 0.0)))


RECIPES = [Recipe.of(nodes=width, epochs=2) for width in WIDTHS]


def test_students_are_trained_in_order_until_one_misses():
    train = Trained(0.99, 0.97, 0.98, 0.94, 1.0, 1.0, 1.0)
    steps = list(shrink(RECIPES, train, 0.95))
    assert train.log == RECIPES[:4]
    assert [step.recipe for step in steps] == RECIPES[:4]
    assert [step.accuracy for step in steps] == [0.99, 0.97, 0.98, 0.94]
    assert [step.holds for step in steps] == [True, True, True, False]
    assert smallest(steps) is steps[2]
    assert steps[0].epochs == (epoch(0, 0.0), epoch(1, 0.99), epoch(2, 0.0))


def test_each_step_is_seen_before_the_next_is_trained():
    train = Trained(1.0, 1.0)
    steps = shrink(RECIPES, train, 0.9)
    assert not train.log
    assert next(steps).recipe == RECIPES[0]
    assert train.log == RECIPES[:1]


def test_all_hold():
    steps = list(shrink(RECIPES, Trained(*[0.9] * 7), 0.9))
    assert len(steps) == 7
    assert smallest(steps) is steps[-1]


def test_nothing_holds():
    steps = list(shrink(RECIPES, Trained(0.89), 0.9))
    assert [step.holds for step in steps] == [False]
    assert smallest(steps) is None
    assert smallest([]) is None
    assert smallest([ShrinkStep(RECIPES[0], 0, (epoch(0, 1.0),), None)]) is None


def test_meeting_the_requirement_exactly_holds():
    """As float32 sums of counts give it: 147 of 150 less two points of 150 of 150."""
    accuracy = float(torch.tensor([1.0] * 147 + [0.0] * 3).mean())
    assert next(shrink(RECIPES, Trained(accuracy), 1.0 - 2 / 100)).holds
    assert not next(shrink(RECIPES, Trained(float(torch.tensor([1.0] * 146 + [0.0] * 4).mean())), 1.0 - 2 / 100)).holds


def test_a_check_may_stop_it():
    def check(*_: object) -> None:
        if len(train.log) == 2:
            raise KeyboardInterrupt

    train, seen = Trained(*[1.0] * 7), []
    with pytest.raises(KeyboardInterrupt):
        seen.extend(step for step in shrink(RECIPES, train, 0.9, Calling(check)))
    assert len(train.log) == 2


def test_widths(subject):
    base = Recipe.of(bits=8, sparsity=0.5, fold=True)
    found = list(students(subject, base, "width", 3))
    assert [each.simplify.nodes for each in found] == list(WIDTHS)
    for each in found:
        assert (each.recover.epochs, each.recover.distill) == (3, 0.7)
        assert replace(each, simplify=base.simplify, recover=None) == base


def test_a_recipe_that_is_smaller_already_and_says_how_it_trains(subject):
    base = Recipe.of(nodes=0.5, epochs=50, stopped=7, distill=0.3, learning_rate=0.01, seed=4)
    found = list(students(subject, base, "width", 3))
    assert [each.simplify.nodes for each in found] == [0.625, 0.75, 0.875, 0.9375]
    expected = replace(base.recover, epochs=3, stopped=0)
    assert all(each.recover == expected for each in found)


def test_students_of_the_same_shapes_are_trained_once(tied):
    """24 neurons and 6 channels: of seven widths few are different."""
    shapes = []
    for each in students(tied, Recipe(), "width", 1):
        layers = tied.variant(each.simplify).statistics.layers
        shapes.append({name: layer.weight.shape for name, layer in layers.items()})
    assert 1 <= len(shapes) < len(WIDTHS)
    assert all(before != after for before, after in itertools.pairwise(shapes))


def test_depths(loaded):
    subject = loaded("resnet-20")
    found = list(students(subject, Recipe.of(bits=4), "depth", 2))
    assert [each.simplify.blocks for each in found] == [1, 2, 3, 4, 5, 6, 7]
    found = list(students(subject, Recipe.of(drop=("stage1.1",), blocks=4), "depth", 2))
    assert [(each.simplify.drop, each.simplify.blocks) for each in found] == [(("stage1.1",), 5), (("stage1.1",), 6)]


def test_what_cannot_be_shrunk(subject):
    with pytest.raises(RecipeError, match="has none here"):
        next(students(subject, Recipe(), "depth", 1))
    with pytest.raises(RecipeError, match="axis must be 'width' or 'depth'; got 'height'"):
        next(students(subject, Recipe(), "height", 1))


def test_the_requirement_is_of_the_validation_part(subject):
    recipe = Recipe.of(epochs=1, seed=5)
    split = Split.of(subject, 5)
    with torch.inference_mode():
        right = subject.model(split.validation_samples).argmax(1) == split.validation_labels
    assert required_accuracy(subject, recipe, 0) == pytest.approx(float(right.double().mean()))
    assert required_accuracy(subject, recipe, 2.5) == pytest.approx(float(right.double().mean()) - 0.025)
    for points in (-1, float("nan"), float("inf"), True, "1"):
        with pytest.raises(RecipeError, match="points must be a number of at least 0"):
            required_accuracy(subject, recipe, points)


def test_a_real_run_is_kept_and_goes_on_where_it_was(subject, tmp_path, monkeypatch):
    monkeypatch.setenv("PARETOSCOPE_STORE", str(tmp_path / "records.sqlite"))
    monkeypatch.setattr(subjects, "load", lambda name: subject)
    recipe, trained = Recipe.of(bits=8, learning_rate=3e-3), []
    run = Trainer.run
    monkeypatch.setattr(Trainer, "run", lambda self, progress: trained.append(self.recipe) or run(self, progress))
    bench = Workbench(Store(tmp_path / "records.sqlite"))
    try:
        job = bench.ask(StudyKind.SHRINK, NAME, recipe, "width", 30, 2)
        assert job.wait(SECONDS)
        assert (job.state, job.error) == ("done", None)
        steps = job.result
        assert job.partial == steps
        assert len(steps) >= 2
        assert [step.recipe for step in steps] == trained
        assert [step.holds for step in steps[:-1]] == [True] * (len(steps) - 1)
        required = required_accuracy(subject, recipe, 30)
        assert all(step.holds == (step.accuracy >= required) for step in steps)
        # Every student is a record, smaller than the one before.
        sizes = [bench.find(NAME, step.recipe).record.size.artefact for step in steps]
        assert sizes == sorted(sizes, reverse=True)
        assert all(bench.known(StudyKind.RECOVER, NAME, step.recipe).epochs == step.epochs for step in steps)
        trained.clear()
        again = bench.ask(StudyKind.SHRINK, NAME, recipe, "width", 30, 2)
        assert again.wait(SECONDS)
        assert again.result == steps
        assert not trained
    finally:
        bench.close()


def test_a_cancelled_run_keeps_the_steps_before(subject, tmp_path, monkeypatch):
    monkeypatch.setenv("PARETOSCOPE_STORE", str(tmp_path / "records.sqlite"))
    monkeypatch.setattr(subjects, "load", lambda name: subject)
    bench, jobs, gate, trained = Workbench(Store(tmp_path / "records.sqlite")), [], threading.Event(), []
    train = Trainer._epoch

    def cancelling(self, number, check) -> Epoch:
        trained.append((self.recipe.simplify.nodes, number))
        if trained[-1] == (0.375, 2):
            jobs[0].cancel()
        return train(self, number, check)

    monkeypatch.setattr(Trainer, "_epoch", cancelling)
    try:
        holding.submit(bench, lambda _: gate.wait(SECONDS))
        jobs.append(bench.ask(StudyKind.SHRINK, NAME, Recipe.of(bits=8), "width", 100, 2))
        gate.set()
        assert jobs[0].wait(SECONDS)
        assert jobs[0].state == "cancelled"
        first, running = jobs[0].partial
        assert (first.holds, first.recipe.simplify.nodes) == (True, 0.25)
        assert (running.holds, [each.number for each in running.epochs]) == (None, [0, 1])
        trained.clear()
        again = bench.ask(StudyKind.SHRINK, NAME, Recipe.of(bits=8), "width", 100, 2)
        assert again.wait(SECONDS)
        assert trained[0] == (0.375, 2)
        assert len(again.result) == len(WIDTHS)
    finally:
        bench.close()
