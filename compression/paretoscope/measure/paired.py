"""One time scale for what was timed at different moments.

Milliseconds of two moments cannot be compared: clock and neighbours change both sides of a pair alike, and only their
ratio stays. So one time of the baseline stands for all moments, and every recipe's time follows from its speed-up.
"""

from collections.abc import Iterable
from statistics import median_low

from paretoscope.measure.record import Latency


def reference_ms(timings: Iterable[Latency]) -> float | None:
    """Milliseconds of the baseline for one setting: the median of what it took beside each recipe, each timing once.

    timings: of one model, runtime, batch, number of threads and input size, as the same baseline runs beside all of
    them; those that are not decided do not count. It is one that was measured: of two in the middle, the lower. None
    without any.
    """
    taken = sorted(timing.baseline_median_ms for timing in set(timings) if timing.decided)
    return median_low(taken) if taken else None


def paired_ms(timing: Latency, reference: float) -> float:
    """Milliseconds of a recipe: the baseline's reference over the speed-up, so that a speed-up of 1 is the baseline."""
    return reference / timing.speedup


def paired_interval(timing: Latency, reference: float) -> tuple[float, float]:
    """The interval of `paired_ms`, in milliseconds, that follows from that of the speed-up."""
    return reference / timing.speedup_high, reference / timing.speedup_low
