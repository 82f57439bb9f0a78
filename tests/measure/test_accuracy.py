import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from paretoscope.measure.accuracy import LEVEL, QUANTILE, Predictions, macro_f1, mcnemar, predict, score, wilson
from scipy.special import ndtri
from scipy.stats import binomtest
from sklearn.metrics import f1_score
from torch import nn

bounded = settings(derandomize=True, deadline=None, max_examples=100)


def quantile(level: float) -> float:
    """The normal deviate that a two-sided interval of this level reaches, by bisection."""
    low, high = 0.0, 20.0
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if math.erf(middle / math.sqrt(2)) < level else (low, middle)
    return low


@pytest.mark.parametrize("level", [0.5, 0.95, 0.99])
@pytest.mark.parametrize(
    ("correct", "n"), [(0, 1), (1, 1), (0, 797), (797, 797), (796, 797), (400, 797), (3, 10), (1, 10**6)]
)
def test_wilson_bounds_are_the_roots_of_the_score_test(correct, n, level):
    """(share - p)^2 = z^2 p (1 - p) / n at both ends: the proportions that the test just does not reject."""
    z, share = quantile(level), correct / n
    roots = np.sort(np.roots([1 + z * z / n, -(2 * share + z * z / n), share * share]).real)
    assert wilson(correct, n, level) == pytest.approx(tuple(roots), abs=1e-9)


def test_the_quantile_of_the_level_is_scipys():
    assert float(ndtri((1 + LEVEL) / 2)) == QUANTILE


def test_wilson_of_a_textbook_case():
    # Newcombe 1998, table I: 81 of 263.
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
@bounded
def test_wilson_stays_inside_the_unit_interval_and_mirrors(case):
    correct, n = case
    low, high = wilson(correct, n)
    assert 0 <= low <= correct / n <= high <= 1
    assert low < high
    assert (low == 0) == (correct == 0)
    assert (high == 1) == (correct == n)
    mirrored = wilson(n - correct, n)
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=1e-12)


def enumerated(gained: int, lost: int) -> float:
    """The total chance, under even odds, of every outcome that is no likelier than this one."""
    n = gained + lost
    chances = [Fraction(math.comb(n, k), 2**n) for k in range(n + 1)]
    return float(sum(chance for chance in chances if chance <= chances[gained]))


@pytest.mark.parametrize("gained", range(0, 13))
@pytest.mark.parametrize("lost", [0, 1, 2, 5, 9, 30, 200])
def test_mcnemar_enumerates_all_outcomes(gained, lost):
    p_value = mcnemar(gained, lost)
    assert p_value == pytest.approx(enumerated(gained, lost), rel=1e-9)
    assert p_value == mcnemar(lost, gained)
    if gained + lost:
        assert p_value == pytest.approx(binomtest(gained, gained + lost).pvalue, rel=1e-12)


@pytest.mark.parametrize(
    ("gained", "lost", "expected"),
    [(0, 0, 1.0), (1, 0, 1.0), (0, 5, 2 / 32), (0, 6, 2 / 64), (5, 5, 1.0), (1, 9, 22 / 1024)],
)
def test_mcnemar_of_known_cases(gained, lost, expected):
    assert mcnemar(gained, lost) == pytest.approx(expected)


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
    figures = score(said(predicted, harm=0.25), labels, baseline, 10)
    assert (figures.n, figures.correct, figures.accuracy) == (10, 6, 0.6)
    assert (figures.accuracy_low, figures.accuracy_high) == wilson(6, 10)
    assert figures.f1 == macro_f1(predicted, labels[:10], 10)
    assert figures.harm == 0.25
    # Gained: sample 7; lost: samples 4, 5, 6.
    assert figures.p_value == pytest.approx(enumerated(1, 3))
    order = np.random.default_rng(0).permutation(10)
    assert score(said(predicted[order], harm=0.25), labels[order], baseline[order], 10) == figures


def test_a_score_against_itself_changes_nothing():
    labels, predicted = np.arange(10), np.zeros(10, int)
    assert score(said(predicted), labels, predicted, 10).p_value == 1.0


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
    *_, predictions = predict(model, images, chunk)
    with torch.no_grad():
        shares = torch.softmax(model(images), 1).numpy()
    np.testing.assert_array_equal(predictions.classes, shares.argmax(1))
    np.testing.assert_allclose(predictions.confidences, shares.max(1), rtol=1e-6)
    assert predictions.confidences.dtype == np.float32


def test_running_estimates_are_prefixes(model, images):
    *_, whole = predict(model, images, 23)
    steps = list(predict(model, images, 7))
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

    running = predict(Counting(), images, 10)
    next(running)
    assert seen == [10]
    running.close()
    assert seen == [10]
    list(predict(Counting(), images, 10))
    assert seen == [10, 10, 10, 3]
