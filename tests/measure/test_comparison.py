"""Two evaluations against each other: counts by hand, what may be paired, and which samples are chosen."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from paretoscope.measure.comparison import chosen, flipped, pair, pairable
from paretoscope.measure.subject import Evaluation
from paretoscope.recipe.recipe import Recipe
from paretoscope.tasks import Flip
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


def test_agreement_flips_by_its_errors() -> None:
    was = Closeness(np.array([0.1, 0.1, 0.1, 0.1]), np.array([1, 1, 1, 1], np.float32))
    now = Closeness(np.array([0.2, 0.05, 0.105, 0.105]), np.array([0, 1, 0, 1], np.float32))
    task = Agreement(("a", "b"))
    assert task.flips(was, now, LABELS).kinds.tolist() == [1, 2, 3, 0]
    assert task.said(now, 0) == ("another top answer", "error 20.0 %")
    assert task.said(replace(now, top=np.full(4, np.nan, np.float32)), 1) == ("error 5.0 %", "")


def test_of_real_evaluations(subject) -> None:
    (*_, one), (*_, other) = subject.evaluate(Recipe()), subject.evaluate(Recipe.of(sparsity=0.9))
    assert isinstance(one, Evaluation)
    found = pair(subject.task, one, other, subject.labels)
    assert found is not None and found.broken > found.mended and found.measurable
    assert found.p_value == other.record.figures.p_value
    assert found.points == pytest.approx(100 * (other.record.figures.value - one.record.figures.value))
