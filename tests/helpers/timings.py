"""Timings made up for tests: any figures, without a runtime behind them."""

from typing import Any

from paretoscope.measure.record import Latency


def latency(median_ms: float = 0.125, speedup: float = 2.0, **others: Any) -> Latency:
    """A timing of int8 in ONNX Runtime unless told otherwise."""
    baseline_ms = others.pop("baseline_median_ms", median_ms * speedup)
    return Latency(
        **{
            "runtime": "onnxruntime",
            "number_format": "int8",
            "batch": 1,
            "threads": 1,
            "size": 28,
            "graph": "9" * 64,
            "median_ms": median_ms,
            "p95_ms": 1.2 * median_ms,
            "p99_ms": 1.5 * median_ms,
            "baseline_median_ms": baseline_ms,
            "baseline_p95_ms": 1.2 * baseline_ms,
            "baseline_p99_ms": 1.5 * baseline_ms,
            "speedup": speedup,
            "speedup_low": 0.95 * speedup,
            "speedup_high": 1.05 * speedup,
            "pairs": 45,
            "outliers": 3,
            "stopped_by": "precision",
            "measured_for": "c" * 64,
            **others,
        }
    )
