"""Latency: a candidate against its baseline, interleaved in one process, with an interval of the ratio.

Clock speed, caches and neighbours change from second to second and slow both sides of a pair alike: the ratio within a
pair is steady where milliseconds are not. What a pair cannot cancel is where each side's weights came to lie in
memory, worth 1 % here for a model of the size of a cache: so pairs are measured in rounds, each with both sides loaded
anew in random order, and the interval is over rounds. Milliseconds are this machine's; the ratio is the headline.
"""

import gc
import hashlib
import math
import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import betaincinv

from compression.errors import CompressionError, ModelError
from compression.measure.record import Latency
from compression.runtimes import Program, Runtime, runtimes

CONFIDENCE = 0.95
BUDGET_S = 1.5
WIDTH = 0.02
MAX_ROUNDS = 101

# Over 5 rounds the bootstrap interval is their whole range and covers 94 %, over 15 it covers 96 %; ending when it
# looks narrow costs a little of that.
_ROUNDS_IN_A_HURRY = 5
_ROUNDS_FOR_PRECISION = 15
# A thousand times the resolution of the coarsest clock that matters, 0.1 microseconds.
_SHORTEST_SAMPLE_S = 1e-4
_PAIRS = (3, 15)
_ROUND_S = 0.02
_WARM_UP_CALLS = 2
_WARM_UP_GAIN = 0.02
_WARM_UP_SHARE = 0.2

Call = Callable[[], Any]
Clock = Callable[[], float]
Check = Callable[[], None]
Loader = Callable[[], AbstractContextManager[Call]]


@dataclass(frozen=True, eq=False, slots=True)
class Comparison:
    """All samples of a comparison, and what they say.

    candidate_ms, baseline_ms: float64 (rounds, pairs), milliseconds a call, in the order of measurement. calls: how
    many calls each sample is the mean of. speedup: median over the rounds of the median over their pairs of baseline /
    candidate, with its 95 % bootstrap interval over rounds. stopped_by: "precision" (the interval is as narrow as was
    wanted), "budget" or "rounds" (the most allowed).
    """

    candidate_ms: np.ndarray
    baseline_ms: np.ndarray
    calls: int
    speedup: float
    speedup_low: float
    speedup_high: float
    stopped_by: str

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
    clock: Clock = time.perf_counter,
    seed: int = 0,
    check: Check | None = None,
) -> Comparison:
    """Time two sides against each other; each gives, on entering, the call that is timed.

    A round loads both sides, warms them up and measures pairs; orders are drawn with `seed`. Rounds go on until the
    interval of the speed-up is no wider than `width` of it, after 15 rounds or more; or until `budget_s` seconds have
    passed, after 5 or more; or to `max_rounds`. The number of rounds is odd, so that the median is one of them.
    clock: seconds, monotonic. check: called before each pair; what it raises ends the comparison.
    """
    if not (budget_s > 0 and width >= 0 and max_rounds >= 1):
        raise CompressionError(
            "a comparison needs a positive budget_s, a width of at least 0 and at least 1 round; got "
            f"{budget_s}, {width} and {max_rounds}. Leave them out for the defaults."
        )
    timer = _Timer((candidate, baseline), budget_s, clock, seed, check or _go_on)
    most = max_rounds - 1 + max_rounds % 2
    start = clock()
    rounds: list[np.ndarray] = []
    while True:
        rounds.append(timer.round())
        n = len(rounds)
        if n % 2 == 0:
            continue
        candidate_s, baseline_s = np.stack(rounds, axis=1)
        speedup, low, high = median_interval(np.median(baseline_s / candidate_s, axis=1))
        if n >= _ROUNDS_FOR_PRECISION and high - low <= width * speedup:
            stopped_by = "precision"
        elif n >= _ROUNDS_IN_A_HURRY and clock() - start >= budget_s:
            stopped_by = "budget"
        elif n >= most:
            stopped_by = "rounds"
        else:
            continue
        return Comparison(1e3 * candidate_s, 1e3 * baseline_s, timer.calls, speedup, low, high, stopped_by)


class _Timer:
    """Measures rounds of one comparison. The first round fixes the calls of a sample and the pairs of a round."""

    def __init__(self, sides: tuple[Loader, Loader], budget_s: float, clock: Clock, seed: int, check: Check) -> None:
        self.sides = sides
        self.warm_up_s = _WARM_UP_SHARE * budget_s
        self.clock = clock
        self.check = check
        self.rng = np.random.default_rng(seed)
        self.calls = 0
        self.pairs = 0

    def round(self) -> np.ndarray:
        """Seconds a call, (2, pairs), of both sides."""
        with ExitStack() as stack:
            calls: list[Call] = [_go_on, _go_on]
            for side in self.order():
                calls[side] = stack.enter_context(self.sides[side]())
            shortest = self.warm_up(calls)
            if not self.calls:
                self.calls = max(1, math.ceil(_SHORTEST_SAMPLE_S / max(shortest, 1e-9)))
                wanted = math.ceil(_ROUND_S / (2 * self.calls * max(shortest, 1e-9)))
                self.pairs = int(np.clip(wanted, *_PAIRS)) // 2 * 2 + 1
            samples = np.empty((2, self.pairs))
            for pair in range(self.pairs):
                self.check()
                for side in self.order():
                    samples[side, pair] = self.sample(calls[side], self.calls)
            return samples

    def warm_up(self, calls: list[Call]) -> float:
        """Run both until neither gets faster, or for too long; returns the shortest call seen, in seconds."""
        deadline = self.clock() + self.warm_up_s
        best = [math.inf, math.inf]
        while True:
            self.check()
            before = list(best)
            for _ in range(_WARM_UP_CALLS):
                for side, call in enumerate(calls):
                    best[side] = min(best[side], self.sample(call, 1))
            steady = all(now >= (1 - _WARM_UP_GAIN) * then for now, then in zip(best, before, strict=True))
            if steady or self.clock() >= deadline:
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


def median_interval(values: np.ndarray, confidence: float = CONFIDENCE) -> tuple[float, float, float]:
    """Median of an odd number of values, and the ends of its percentile bootstrap interval (Efron 1979), exactly.

    The median of n draws with replacement is at most the i-th smallest value with probability P(Bin(n, i/n) >= k),
    k = (n + 1) / 2. That is the incomplete beta function I(i/n; k, n - k + 1): its inverse gives the ends that
    resampling would approach with more and more resamples.
    """
    n = len(values)
    if n % 2 == 0:
        raise CompressionError(f"the exact interval needs an odd number of values; got {n}. Leave one out.")
    ordered = np.sort(values)
    middle = (n + 1) // 2
    tails = np.array([(1 - confidence) / 2, (1 + confidence) / 2])
    ranks = np.ceil(n * betaincinv(middle, n - middle + 1, tails)).astype(int)
    low, high = ordered[ranks - 1]
    return float(ordered[middle - 1]), float(low), float(high)


def compare_programs(
    runtime: Runtime,
    candidate: Program,
    baseline: Program,
    images: np.ndarray,
    *,
    batch: int = 1,
    threads: int = 1,
    **settings: Any,
) -> Comparison:
    """`compare` two programs of a runtime on a batch of images, float32 (n, C, H, W), repeated if there are too few.

    settings: those of `compare`. Raises ModelError, or RuntimeUnavailableError when a program cannot be loaded.
    """
    if isinstance(batch, bool) or not isinstance(batch, int) or batch < 1:
        raise ModelError(f"batch must be a whole number of at least 1; got {batch!r}. Pass e.g. 1.")
    if len(images) < 1:
        raise ModelError("a timing needs at least one image; got none. Pass some of the train split.")
    images = images[np.arange(batch) % len(images)]

    @contextmanager
    def loaded(program: Program) -> Iterator[Call]:
        with closing(runtime.prepare(program, threads)) as session:
            yield session.bind(images)

    return compare(lambda: loaded(candidate), lambda: loaded(baseline), **settings)


def measure_latency(
    runtime: Runtime,
    candidate: Program,
    baseline: Program,
    images: np.ndarray,
    *,
    measured_for: str,
    batch: int = 1,
    threads: int = 1,
    **settings: Any,
) -> Latency:
    """The timing of a record: `compare_programs`, for the recipe with the digest `measured_for`.

    It holds for every candidate of the same graph and number format beside a baseline of the same graph, in the same
    runtime, batch and threads, on the machine of the same `machine_id()`.
    """
    timing = compare_programs(runtime, candidate, baseline, images, batch=batch, threads=threads, **settings)
    return Latency(
        runtime=runtime.name,
        number_format=candidate.number_format,
        batch=batch,
        threads=threads,
        graph=candidate.graph,
        median_ms=timing.median_ms,
        baseline_median_ms=timing.baseline_median_ms,
        speedup=timing.speedup,
        speedup_low=timing.speedup_low,
        speedup_high=timing.speedup_high,
        pairs=timing.pairs,
        measured_for=measured_for,
    )


def machine_id() -> str:
    """SHA-256 of what timings depend on: processor and its features, cores, system, versions of the runtimes."""
    parts = [
        *_processor(),
        str(os.cpu_count()),
        platform.system(),
        platform.machine(),
        platform.python_version(),
        *(f"{runtime.name} {runtime.version}" for runtime in runtimes),
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _processor() -> list[str]:
    """Model and instruction sets of the first processor, where the system tells them."""
    try:
        lines = Path("/proc/cpuinfo").read_text().partition("\n\n")[0].splitlines()
    except OSError:
        return [platform.processor()]
    wanted = ("model name", "flags", "Features", "CPU part")
    return [line for line in lines if line.startswith(wanted)]


def _go_on() -> None:
    pass
