"""Two evaluations against each other: counts by hand, what may be paired, and which samples are chosen."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from paretoscope.measure.comparison import chosen, flipped, pair, pairable
from paretoscope.measure.subject import Evaluation
from paretoscope.recipe.recipe import Recipe
from paretoscope.tasks import Flip, plain
from paretoscope.tasks.agreement import Agreement, Closeness
from paretoscope.tasks.classification import Classification, Predictions

TASK = Classification(("cat", "dog", "fox"))
LABELS = np.array([0, 0, 1, 1, 2, 2])
BEFORE = Predictions(np.array([0, 0, 1, 0, 0, 2]), np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4], np.float32))
AFTER = Predictions(np.array([0, 1, 2, 1, 1, 2]), np.array([0.9, 0.3, 0.9, 0.5, 0.6, 0.7], np.float32))


def made(answers: Predictions | Closeness, *, task: str = "classification", model: str = "m", data: str = "d"):
    record = SimpleNamespace(task=task, digests=SimpleNamespace(model=model, dataset=data))
    return SimpleNamespace(record=record, predictions=answers)


def test_the_counts_of_a_pair() -> None:
    found = pair(TASK, made(BEFORE), made(AFTER), LABELS)
    assert found is not None
    assert (found.broken, found.mended, found.changed, found.n) == (2, 1, 1, 6)
    assert found.points == pytest.approx(-100 / 6) and not found.measurable and not found.same
    assert found.p_value == 1.0  # 2 against 1 under even odds
    assert flipped(TASK, BEFORE, AFTER, LABELS).kinds.tolist() == [0, 1, 1, 2, 3, 0]
    same = pair(TASK, made(BEFORE), made(BEFORE), LABELS)
    assert same is not None and same.same and same.points == 0


def test_what_may_not_be_paired_is_not() -> None:
    one = made(BEFORE)
    assert pairable(one.record, made(AFTER, model="other").record, TASK)
    assert pair(TASK, one, made(AFTER, data="other"), LABELS) is None
    assert pair(TASK, one, made(Predictions(AFTER.classes[:3], AFTER.confidences[:3])), LABELS) is None
    agreement = Agreement(("a", "b"))
    close = Closeness(np.array([0.1, 0.2]), np.array([1, 0], np.float32))
    own, other = (made(close, task="agreement", model=name) for name in ("m", "other"))
    assert pair(agreement, own, own, LABELS) is not None
    assert pair(agreement, own, other, LABELS) is None  # each is held against its own baseline


def test_the_starkest_samples_come_first() -> None:
    flips = flipped(TASK, BEFORE, AFTER, LABELS)
    assert chosen(flips, LABELS, frozenset({Flip.BROKEN})).tolist() == [2, 1]
    assert chosen(flips, LABELS, frozenset({Flip.BROKEN, Flip.MENDED, Flip.CHANGED})).tolist() == [2, 1, 3, 4]
    assert chosen(flips, LABELS, frozenset({Flip.BROKEN}), label=0).tolist() == [1]
    assert chosen(flips, LABELS, frozenset({Flip.MENDED}), label=0).tolist() == []


def test_agreement_flips_by_the_top_answer_where_there_is_one() -> None:
    was = Closeness(np.array([0.1, 0.1, 0.1, 0.1]), np.array([1, 0, 1, 1], np.float32))
    now = Closeness(np.array([0.2, 0.05, 0.3, 0.105]), np.array([0, 1, 1, 1], np.float32))
    task = Agreement(("a", "b"))
    flips = task.flips(was, now, LABELS)
    assert flips.kinds.tolist() == [1, 2, 0, 0] and not flips.same
    # Errors that differ by less than a point are ties.
    near = Closeness(was.errors + 0.005, was.top)
    assert task.flips(was, near, LABELS).same and not task.flips(was, now, LABELS).same
    found = pair(task, made(was, task="agreement"), made(now, task="agreement"), LABELS)
    assert found is not None
    assert plain.flips(task.words, found.counts) == "1 with another top answer, 1 with the top answer back"
    assert task.said(now, 0) == ("another top answer", "error 20.0 %")
    assert task.said(replace(now, top=np.full(4, np.nan, np.float32)), 1) == ("error 5.0 %", "")


@pytest.mark.parametrize("top", [np.nan, 0.5], ids=["no classes", "maps"])
def test_outputs_without_one_top_answer_have_samples_that_moved_most(top: float) -> None:
    task, tops = Agreement(()), np.full(100, top, np.float32)
    was, now = Closeness(np.full(100, 0.1), tops), Closeness(0.1 + np.arange(100) / 100, tops)
    flips = task.flips(was, now, np.zeros(100))
    assert flips.count(Flip.BROKEN) == flips.count(Flip.MENDED) == 0 and not flips.same
    assert chosen(flips, np.zeros(100), frozenset({Flip.CHANGED})).tolist() == [99, 98, 97, 96, 95]
    assert plain.flips(task.words, {Flip.CHANGED: 5}) == "5 moved most"
    still = task.flips(was, was, np.zeros(100))
    assert still.same and not still.count(Flip.CHANGED)


def test_of_real_evaluations(subject) -> None:
    (*_, one), (*_, other) = subject.evaluate(Recipe()), subject.evaluate(Recipe.of(sparsity=0.9))
    assert isinstance(one, Evaluation)
    found = pair(subject.task, one, other, subject.labels)
    assert found is not None and found.broken > found.mended and found.measurable
    assert found.p_value == other.record.figures.p_value
    assert found.points == pytest.approx(100 * (other.record.figures.value - one.record.figures.value))
