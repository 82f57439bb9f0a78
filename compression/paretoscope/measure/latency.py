"""Latency: a program against its baseline in one runtime, timed in turns (`interleaved`), as records keep it."""

import hashlib
import os
import platform
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from paretoscope.base.errors import ModelError
from paretoscope.measure.interleaved import BUDGET_S, WIDTH, Call, PairedTiming, Samples, compare, outliers
from paretoscope.measure.record import Latency
from paretoscope.runtimes import Program, Runtime, runtimes

if TYPE_CHECKING:
    from paretoscope.runtimes.onnx_graph import Arrays

# What those who time programs need of `interleaved`, too.
__all__ = [
    "BUDGET_S",
    "LARGEST_BATCH",
    "WIDTH",
    "Measurement",
    "Noise",
    "Samples",
    "check_batch",
    "compare_programs",
    "machine_id",
    "measure_latency",
    "measure_noise",
    "repeated",
]

# Samples that are timed at once, at most: images of 3 x 224 x 224 take 2.5 GB then. Chosen by hand, no benchmark.
LARGEST_BATCH = 4096


@dataclass(frozen=True, eq=False, slots=True)
class Measurement:
    """The timing of a record and the single calls behind its tail."""

    latency: Latency
    samples: Samples


@dataclass(frozen=True, slots=True)
class Noise:
    """The baseline timed against itself: the ratio, which is 1 but for noise, and its 95 % interval.

    rounds: how many it took. stopped_by: the value of a `StoppedBy`.
    """

    speedup: float
    low: float
    high: float
    rounds: int
    stopped_by: str

    @property
    def contains_one(self) -> bool:
        """Whether the interval holds the truth; where it does not, no interval of this machine can be relied on."""
        return self.low <= 1 <= self.high


def check_batch(batch: int) -> None:
    """Raises ModelError unless so many samples can be timed at once: 1 to LARGEST_BATCH."""
    if isinstance(batch, bool) or not isinstance(batch, int) or batch < 1:
        raise ModelError(f"batch must be a whole number of at least 1; got {batch!r}. Pass e.g. 1.")
    if batch > LARGEST_BATCH:
        raise ModelError(f"batch must be a whole number of at most {LARGEST_BATCH}; got {batch!r}. Pass e.g. 64.")


def repeated(samples: "Arrays", batch: int) -> "Arrays":
    """A batch of samples, an array (n, ...) for each input, repeated if there are too few.

    Raises ModelError for no samples, and for a batch that cannot be timed.
    """
    check_batch(batch)
    arrays = samples if isinstance(samples, tuple) else (samples,)
    if len(arrays[0]) < 1:
        raise ModelError("a timing needs at least one image; got none. Pass some of the train split.")
    made = tuple(each[np.arange(batch) % len(each)] for each in arrays)
    return made if isinstance(samples, tuple) else made[0]


def compare_programs(
    runtime: Runtime,
    candidate: Program,
    baseline: Program,
    images: "Arrays",
    *,
    batch: int = 1,
    threads: int = 1,
    **settings: Any,
) -> PairedTiming:
    """`compare` two programs of a runtime on a batch of samples, arrays (n, ...), repeated if there are too few.

    settings: those of `compare`. Raises ModelError, or RuntimeUnavailableError when a program cannot be loaded.
    """
    images = repeated(images, batch)

    @contextmanager
    def loaded(program: Program) -> Iterator[Call]:
        with closing(runtime.prepare(program, threads)) as session:
            yield session.bind(images)

    return compare(lambda: loaded(candidate), lambda: loaded(baseline), **settings)


def measure_latency(
    runtime: Runtime,
    candidate: Program,
    baseline: Program,
    images: "Arrays",
    *,
    measured_for: str,
    batch: int = 1,
    threads: int = 1,
    **settings: Any,
) -> Measurement:
    """The timing of a record: `compare_programs`, for the recipe with the digest `measured_for`.

    It holds for every candidate of the same graph and number format beside a baseline of the same graph, in the same
    runtime, batch and threads, on the machine of the same `machine_id(runtime)`.
    """
    timing = compare_programs(runtime, candidate, baseline, images, batch=batch, threads=threads, **settings)
    p95, p99 = np.quantile(timing.singles.candidate_ms, [0.95, 0.99])
    baseline_p95, baseline_p99 = np.quantile(timing.singles.baseline_ms, [0.95, 0.99])
    latency = Latency(
        runtime=runtime.name,
        number_format=candidate.number_format,
        batch=batch,
        threads=threads,
        size=candidate.input_shape[1] if len(candidate.input_shape) == 3 else 0,
        graph=candidate.graph,
        median_ms=timing.median_ms,
        p95_ms=float(p95),
        p99_ms=float(p99),
        baseline_median_ms=timing.baseline_median_ms,
        baseline_p95_ms=float(baseline_p95),
        baseline_p99_ms=float(baseline_p99),
        speedup=timing.speedup,
        speedup_low=timing.speedup_low,
        speedup_high=timing.speedup_high,
        pairs=timing.pairs,
        outliers=outliers(timing.singles.candidate_ms),
        stopped_by=timing.stopped_by.value,
        measured_for=measured_for,
        alone=timing.alone,
    )
    return Measurement(latency, timing.singles)


def measure_noise(
    runtime: Runtime, program: Program, images: "Arrays", *, batch: int = 1, threads: int = 1, **settings: Any
) -> Noise:
    """What this machine makes of a program timed against itself: `compare_programs`, with the truth known to be 1.

    An interval that misses 1 is given up to 4 budgets to take it in; the result says whether it does.
    """
    timing = compare_programs(runtime, program, program, images, batch=batch, threads=threads, truth=1.0, **settings)
    return Noise(timing.speedup, timing.speedup_low, timing.speedup_high, timing.rounds, timing.stopped_by.value)


def machine_id(runtime: str) -> str:
    """SHA-256 of what timings in that runtime depend on: processor and its features, cores, system, its version."""
    parts = [
        *_processor(),
        str(os.cpu_count()),
        platform.system(),
        platform.machine(),
        platform.python_version(),
        f"{runtime} {runtimes.get(runtime).version}",
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


@cache
def _processor() -> tuple[str, ...]:
    """Model and instruction sets of the first processor, where the system tells them: read once."""
    try:
        lines = Path("/proc/cpuinfo").read_text().partition("\n\n")[0].splitlines()
    except OSError:
        return (platform.processor(),)
    wanted = ("model name", "flags", "Features", "CPU part")
    return tuple(line for line in lines if line.startswith(wanted))
