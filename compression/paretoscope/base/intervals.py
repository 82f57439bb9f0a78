"""Intervals and tests: Wilson's of a proportion, Student's of a mean, McNemar's of paired answers."""

import math
from collections.abc import Sequence

# Level of intervals, and the normal quantile of its upper end, ndtri(0.975). Importing SciPy takes longer than all
# intervals do, so only other levels need it.
LEVEL, QUANTILE = 0.95, 1.959963984540054


def wilson(correct: int, n: int, level: float = LEVEL) -> tuple[float, float]:
    """Wilson's score interval of a proportion (Wilson 1927), for n >= 1."""
    z = QUANTILE if level == LEVEL else _quantile((1 + level) / 2)
    share = correct / n
    centre = share + z * z / (2 * n)
    spread = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    # At 0 and n the bounds are exactly 0 and 1; rounding may miss them.
    low = 0.0 if correct == 0 else float((centre - spread) / scale)
    high = 1.0 if correct == n else float((centre + spread) / scale)
    return low, high


def student(values: Sequence[float]) -> tuple[float, float]:
    """Student's 95 % interval of the mean of one value or more (Student 1908); of a single one nothing is known."""
    n = len(values)
    mean = math.fsum(values) / n
    spread = math.fsum((value - mean) ** 2 for value in values)
    if n == 1:
        return -math.inf, math.inf
    from scipy.special import stdtrit

    half = float(stdtrit(n - 1, (1 + LEVEL) / 2)) * math.sqrt(spread / (n - 1) / n)
    return mean - half, mean + half


def _quantile(share: float) -> float:
    from scipy.special import ndtri

    return float(ndtri(share))


def mcnemar(gained: int, lost: int) -> float:
    """McNemar's exact test, two-sided: the p-value of `gained` and `lost` samples under even odds (McNemar 1947)."""
    if gained == lost:
        return 1.0
    # SciPy is slow to import; equal counts do not need it.
    from scipy.special import bdtr

    # Even odds are symmetric, so both tails are twice the smaller one.
    return min(1.0, 2.0 * float(bdtr(min(gained, lost), gained + lost, 0.5)))
