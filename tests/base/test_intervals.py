import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paretoscope.base.intervals import LEVEL, QUANTILE, mcnemar, wilson
from scipy.special import ndtri
from scipy.stats import binomtest

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
