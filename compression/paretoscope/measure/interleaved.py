"""Two calls timed against each other, interleaved in one process, with an interval of the ratio.

Clock speed, caches and neighbours change from second to second and slow both sides of a pair alike: the ratio within a
pair is steady where milliseconds are not. What a pair cannot cancel is where each side's weights came to lie in
memory, worth 1 % here for a model of the size of a cache: so pairs are measured in rounds, each with both sides loaded
anew in random order, and the interval is over rounds. Milliseconds are this machine's; the ratio is the headline.

Short calls are timed in groups, for the sake of the clock. What a single call can take, its tail and its outliers, is
seen in single calls, taken in pairs too at the end of each round. A round has the machine to itself.
"""

import gc
import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np

from paretoscope.base import lock as exclusive
from paretoscope.base.errors import CompressionError
from paretoscope.base.lock import machine, released
from paretoscope.base.progress import SILENT, Progress
from paretoscope.measure.record import StoppedBy

CONFIDENCE = 0.95
# Seconds, and the width of the interval as a share of the speed-up: what a person waits for, and what tells apart the
# things that are compared. Chosen by hand; `python -m benchmarks.latency` shows the widths that are reached.
BUDGET_S = 1.5
WIDTH = 0.02
MAX_ROUNDS = 101
# Single calls that are kept of each side, which is what a record's tail is read from.
MAX_SINGLES = 2000

# How many budgets a comparison may take to find the ratio that is known beforehand; chosen by hand, no benchmark.
_PATIENCE = 4

# Over 5 rounds the bootstrap interval is their whole range and covers 94 %, over 15 it covers 96 %; ending when it
# looks narrow costs a little of that.
_ROUNDS_IN_A_HURRY = 5
_ROUNDS_FOR_PRECISION = 15
# A thousand times the resolution of the coarsest clock that matters, 0.1 microseconds.
_SHORTEST_SAMPLE_S = 1e-4
# Pairs of a round, at least and at most; seconds that they and then the single calls are to take; calls of a warm-up
# until it gains less, and its share of the budget. All chosen by hand, no benchmark.
_PAIRS = (3, 15)
_ROUND_S = 0.02
_WARM_UP_CALLS = 2
_WARM_UP_GAIN = 0.02
_WARM_UP_SHARE = 0.2
# Interquartile ranges from the third quartile to the far fence (Tukey 1977).
_FENCE = 3.0
# Seconds: a check, which may run other work, is called this often; after a longer one than this both sides are cold.
_CHECK_EVERY_S = 0.05
_COLD_AFTER_S = 0.002

Call = Callable[[], Any]
Clock = Callable[[], float]
Loader = Callable[[], AbstractContextManager[Call]]


@dataclass(frozen=True, eq=False, slots=True)
class Samples:
    """Milliseconds of single calls in the order of measurement, outliers included: float64 (n,), n <= 2,000, a side."""

    candidate_ms: np.ndarray
    baseline_ms: np.ndarray


@dataclass(frozen=True, eq=False, slots=True)
class PairedTiming:
    """All samples of a comparison, and what they say.

    candidate_ms, baseline_ms: float64 (rounds, pairs), milliseconds a call, in the order of measurement. calls: how
    many calls each of these is the mean of. singles: calls timed one by one. speedup: median over the rounds of the
    median over their pairs of baseline / candidate, with its 95 % bootstrap interval over rounds. stopped_by: what
    ended it. alone: whether every round had the machine to itself.
    """

    candidate_ms: np.ndarray
    baseline_ms: np.ndarray
    calls: int
    singles: Samples
    speedup: float
    speedup_low: float
    speedup_high: float
    stopped_by: StoppedBy
    alone: bool = True

    @property
    def rounds(self) -> int:
        return len(self.candidate_ms)

    @property
    def pairs(self) -> int:
        return self.candidate_ms.size

    @property
    def median_ms(self) -> float:
        return float(np.median(self.candidate_ms))

    @property
    def baseline_median_ms(self) -> float:
        return float(np.median(self.baseline_ms))


def compare(
    candidate: Loader,
    baseline: Loader,
    *,
    budget_s: float = BUDGET_S,
    width: float = WIDTH,
    max_rounds: int = MAX_ROUNDS,
    truth: float | None = None,
    clock: Clock = time.perf_counter,
    seed: int = 0,
    progress: Progress = SILENT,
) -> PairedTiming:
    """Time two sides against each other; each gives, on entering, the call that is timed.

    A round loads both sides, warms them up, measures pairs and then single calls; orders are drawn with `seed`. Rounds
    go on until the interval of the speed-up is no wider than `width` of it, after 15 rounds or more; or until
    `budget_s` seconds have passed, after 5 or more; or to `max_rounds`. The number of rounds is odd, so that the median
    is one of them. truth: a speed-up known beforehand; while the interval misses it, rounds go on for up to 4 budgets.
    clock: seconds, monotonic. progress: asked before a round and between pairs, at most every 50 ms; the machine is not
    held meanwhile, its time is not charged to the budget, and what it raises ends the comparison.
    """
    if not (budget_s > 0 and width >= 0 and max_rounds >= 1):
        raise CompressionError(
            "a comparison needs a positive budget_s, a width of at least 0 and at least 1 round; got "
            f"{budget_s}, {width} and {max_rounds}. Leave them out for the defaults."
        )
    timer = _Timer((candidate, baseline), budget_s, clock, seed, progress)
    most = max_rounds - 1 + max_rounds % 2
    rounds: list[np.ndarray] = []
    while True:
        rounds.append(timer.round())
        n = len(rounds)
        if n % 2 == 0:
            continue
        candidate_s, baseline_s = np.stack(rounds, axis=1)
        speedup, low, high = median_interval(np.median(baseline_s / candidate_s, axis=1))
        found = truth is None or low <= truth <= high or timer.spent() >= _PATIENCE * budget_s
        if found and n >= _ROUNDS_FOR_PRECISION and high - low <= width * speedup:
            stopped_by = StoppedBy.PRECISION
        elif found and n >= _ROUNDS_IN_A_HURRY and timer.spent() >= budget_s:
            stopped_by = StoppedBy.BUDGET
        elif n >= most:
            stopped_by = StoppedBy.ROUNDS
        else:
            continue
        singles = Samples(*(1e3 * np.array(side) for side in timer.singles))
        times = 1e3 * candidate_s, 1e3 * baseline_s
        return PairedTiming(*times, timer.calls, singles, speedup, low, high, stopped_by, timer.alone)


class _Timer:
    """Measures rounds of one comparison. The first round fixes how much a round holds.

    calls: of a sample. pairs: of samples. groups: of single calls, as many as a sample has, beyond the samples that are
    single calls themselves. singles: seconds of single calls of both sides, of all rounds. alone: whether all of it so
    far had the machine to itself.
    """

    def __init__(
        self, sides: tuple[Loader, Loader], budget_s: float, clock: Clock, seed: int, progress: Progress
    ) -> None:
        self.sides = sides
        self.warm_up_s = _WARM_UP_SHARE * budget_s
        self.clock = clock
        self.progress = progress
        self.rng = np.random.default_rng(seed)
        self.calls = 0
        self.pairs = 0
        self.groups = 0
        self.singles: tuple[list[float], list[float]] = [], []
        self.alone = True
        self._start = clock()
        self._checked = -math.inf
        self._away = 0.0

    def spent(self) -> float:
        """Seconds since the start, less those of checks."""
        return self.clock() - self._start - self._away

    def round(self) -> np.ndarray:
        """Seconds a call, (2, pairs), of both sides."""
        self.pause()
        with ExitStack() as stack:
            calls: list[Call] = [_go_on, _go_on]
            with machine(exclusive=False):
                for side in self.order():
                    calls[side] = stack.enter_context(self.sides[side]())
            stack.enter_context(machine(exclusive=True))
            self.alone = self.alone and exclusive.alone()
            shortest = self.warm_up(calls)
            if not self.calls:
                self.plan(max(shortest, 1e-9))
            samples = self.take_pairs(calls)
            if self.calls == 1:
                self.keep(samples)
            self.take_singles(calls)
            return samples

    def plan(self, shortest: float) -> None:
        """How much fills a round, for a call of so many seconds."""
        self.calls = math.ceil(_SHORTEST_SAMPLE_S / shortest)
        self.pairs = int(np.clip(math.ceil(_ROUND_S / (2 * self.calls * shortest)), *_PAIRS)) // 2 * 2 + 1
        wanted = min(math.ceil(_ROUND_S / (2 * shortest)), MAX_SINGLES // _ROUNDS_FOR_PRECISION)
        self.groups = math.ceil(wanted / self.calls) - (self.pairs if self.calls == 1 else 0)

    def take_pairs(self, calls: list[Call]) -> np.ndarray:
        """Seconds a call, (2, pairs)."""
        samples = np.empty((2, self.pairs))
        for pair in range(self.pairs):
            if self.pause():
                self.warm_up(calls)
            for side in self.order():
                samples[side, pair] = self.sample(calls[side], self.calls)
        return samples

    def take_singles(self, calls: list[Call]) -> None:
        """Time calls one by one, in a row as within a sample, so that caches are as warm."""
        for _ in range(self.groups):
            if len(self.singles[0]) >= MAX_SINGLES:
                return
            if self.pause():
                self.warm_up(calls)
            group = np.empty((2, self.calls))
            for side in self.order():
                group[side] = [self.sample(calls[side], 1) for _ in range(self.calls)]
            self.keep(group)

    def keep(self, samples: np.ndarray) -> None:
        for singles, taken in zip(self.singles, samples, strict=True):
            singles.extend(taken[: MAX_SINGLES - len(singles)])

    def pause(self) -> bool:
        """Let the caller check, if it is time to; returns whether that took so long that both sides are cold."""
        start = self.clock()
        if start - self._checked < _CHECK_EVERY_S:
            return False
        before = exclusive.alone()
        with released():
            self.progress.report()
        self.alone = self.alone and exclusive.alone() == before
        self._checked = self.clock()
        self._away += self._checked - start
        return self._checked - start > _COLD_AFTER_S

    def warm_up(self, calls: list[Call]) -> float:
        """Run both until neither gets faster, or for too long; returns the shortest call seen, in seconds."""
        deadline = self.spent() + self.warm_up_s
        best = [math.inf, math.inf]
        while True:
            if self.pause():
                best = [math.inf, math.inf]
            before = list(best)
            for _ in range(_WARM_UP_CALLS):
                for side, call in enumerate(calls):
                    best[side] = min(best[side], self.sample(call, 1))
            steady = all(now >= (1 - _WARM_UP_GAIN) * then for now, then in zip(best, before, strict=True))
            if steady or self.spent() >= deadline:
                return min(best)

    def sample(self, call: Call, calls: int) -> float:
        """Mean seconds a call. A collection of garbage would be charged to whichever side it hits: it waits."""
        collecting = gc.isenabled()
        gc.disable()
        try:
            start = self.clock()
            for _ in range(calls):
                call()
            return (self.clock() - start) / calls
        finally:
            if collecting:
                gc.enable()

    def order(self) -> tuple[int, int]:
        first = int(self.rng.integers(2))
        return first, 1 - first


def outliers(values: np.ndarray) -> int:
    """How many lie above Tukey's far fence: third quartile + 3 interquartile ranges (Tukey 1977)."""
    low, high = np.quantile(values, [0.25, 0.75])
    return int((values > high + _FENCE * (high - low)).sum())


def median_interval(values: np.ndarray, confidence: float = CONFIDENCE) -> tuple[float, float, float]:
    """Median of an odd number of values, and the ends of its percentile bootstrap interval (Efron 1979), exactly.

    The median of n draws with replacement is at most the i-th smallest value with probability P(Bin(n, i/n) >= k),
    k = (n + 1) / 2. That is the incomplete beta function I(i/n; k, n - k + 1): its inverse gives the ends that
    resampling would approach with more and more resamples.
    """
    from scipy.special import betaincinv

    n = len(values)
    if n % 2 == 0:
        raise CompressionError(f"the exact interval needs an odd number of values; got {n}. Leave one out.")
    ordered = np.sort(values)
    middle = (n + 1) // 2
    tails = np.array([(1 - confidence) / 2, (1 + confidence) / 2])
    ranks = np.ceil(n * betaincinv(middle, n - middle + 1, tails)).astype(int)
    low, high = ordered[ranks - 1]
    return float(ordered[middle - 1]), float(low), float(high)


def _go_on() -> None:
    pass
