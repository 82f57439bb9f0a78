import math
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from paretoscope.base.errors import ModelError
from paretoscope.base.intervals import wilson
from paretoscope.tasks.classification import Classification, Predictions, macro_f1
from sklearn.metrics import f1_score
from torch import nn

bounded = settings(derandomize=True, deadline=None, max_examples=100)

TASK = Classification(tuple("0123456789"))


def enumerated(gained: int, lost: int) -> float:
    """The total chance, under even odds, of every outcome that is no likelier than this one."""
    n = gained + lost
    chances = [Fraction(math.comb(n, k), 2**n) for k in range(n + 1)]
    return float(sum(chance for chance in chances if chance <= chances[gained]))


@pytest.mark.slow
@given(st.integers(1, 60), st.integers(1, 10), st.integers(0, 2**32 - 1))
@bounded
def test_macro_f1_equals_that_of_scikit_learn(n, classes, seed):
    random = np.random.default_rng(seed)
    labels, predicted = random.integers(0, classes, (2, n))
    # Without the argument, scikit-learn too averages over the classes that occur in either.
    assert macro_f1(predicted, labels, 10) == pytest.approx(f1_score(labels, predicted, average="macro"))


def test_macro_f1_by_hand():
    labels, predicted = np.array([0, 0, 1, 1, 2]), np.array([0, 1, 1, 1, 1])
    # Class 0: 2/3; class 1: 4/6; class 2: 0; classes that never occur do not count.
    assert macro_f1(predicted, labels, 10) == pytest.approx((2 / 3 + 4 / 6 + 0) / 3)
    assert macro_f1(labels, labels, 10) == 1.0
    assert macro_f1(np.array([3]), np.array([4]), 10) == 0.0


def said(classes, harm=0.0):
    return Predictions(classes, np.ones(len(classes), np.float32), harm)


def test_a_score_puts_the_figures_together():
    labels = np.array([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1])
    baseline = np.array([0, 1, 2, 3, 4, 5, 6, 0, 0, 9, 0, 1])
    predicted = np.array([0, 1, 2, 3, 0, 0, 0, 7, 0, 9])
    figures = TASK.score(said(predicted, harm=0.25), labels, said(baseline))
    assert (figures.n, figures.correct, figures.accuracy) == (10, 6, 0.6)
    assert (figures.accuracy_low, figures.accuracy_high) == wilson(6, 10)
    assert figures.f1 == macro_f1(predicted, labels[:10], 10)
    assert figures.harm == 0.25
    # Gained: sample 7; lost: samples 4, 5, 6.
    assert figures.p_value == pytest.approx(enumerated(1, 3))
    order = np.random.default_rng(0).permutation(10)
    assert TASK.score(said(predicted[order], harm=0.25), labels[order], said(baseline[order])) == figures


def test_a_score_against_itself_changes_nothing():
    labels, predicted = np.arange(10), np.zeros(10, int)
    assert TASK.score(said(predicted), labels, said(predicted)).p_value == 1.0


@pytest.fixture(scope="module")
def model() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return nn.Sequential(nn.Flatten(), nn.Linear(12, 5)).eval()


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randn(23, 3, 2, 2, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("chunk", [1, 7, 22, 23, 1000])
def test_chunks_equal_one_pass(model, images, chunk):
    *_, predictions = TASK.answer(model, images.split(chunk))
    with torch.no_grad():
        shares = torch.softmax(model(images), 1).numpy()
    np.testing.assert_array_equal(predictions.classes, shares.argmax(1))
    np.testing.assert_allclose(predictions.confidences, shares.max(1), rtol=1e-6)
    assert predictions.confidences.dtype == np.float32


def test_running_estimates_are_prefixes(model, images):
    *_, whole = TASK.answer(model, images.split(23))
    steps = list(TASK.answer(model, images.split(7)))
    assert [len(step.classes) for step in steps] == [7, 14, 21, 23]
    # Read after the run: what was yielded must not change under its reader.
    for step in steps:
        n = len(step.classes)
        np.testing.assert_array_equal(step.classes, whole.classes[:n])
        np.testing.assert_allclose(step.confidences, whole.confidences[:n], rtol=1e-6)


def test_work_is_done_only_when_it_is_asked_for(images):
    seen = []

    class Counting(nn.Module):
        def forward(self, batch: torch.Tensor) -> torch.Tensor:
            seen.append(len(batch))
            return torch.zeros(len(batch), 5)

    running = TASK.answer(Counting(), images.split(10))
    next(running)
    assert seen == [10]
    running.close()
    assert seen == [10]
    list(TASK.answer(Counting(), images.split(10)))
    assert seen == [10, 10, 10, 3]


def test_what_another_task_made_is_refused():
    predictions = Predictions(np.array([1, 2]), np.ones(2, np.float32))
    labels = np.array([1, 2])
    figures = TASK.score(predictions, labels, predictions)
    baseline = TASK.baseline(figures, 1000)
    other = SimpleNamespace(harm=0.0, correct=2, n=2)
    for ask in (
        lambda: TASK.write_answers(other),
        lambda: TASK.score(other, labels, predictions),
        lambda: TASK.score(predictions, labels, other),
        lambda: TASK.compare(predictions, other, labels),
        lambda: TASK.told(other),
        lambda: TASK.baseline(other, 1000),
        lambda: TASK.interval(other, 2),
        lambda: TASK.lost(other, figures),
        lambda: TASK.lost(baseline, other),
    ):
        with pytest.raises(ModelError, match=r"^classification judges its own \w+; got SimpleNamespace"):
            ask()
