"""Programs timed against each other in a runtime, and what a record keeps of it."""

import itertools
import os
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from paretoscope.base.errors import ModelError
from paretoscope.graph.trace import inputs_of
from paretoscope.measure import latency as latency_module
from paretoscope.measure.interleaved import outliers
from paretoscope.measure.latency import Noise, compare_programs, machine_id, measure_latency, measure_noise
from paretoscope.runtimes import Program, Runnable, Runtime, runtimes
from torch import nn


def small_program(runtime: Runtime, features: int = 4) -> Program:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(4, features), nn.ReLU(), nn.Linear(features, 3)).eval()
    return runtime.build(Runnable(module, (1, 2, 2)))


IMAGES = np.ones((3, 1, 2, 2), np.float32)


def test_noise_says_whether_it_contains_one():
    assert Noise(1.01, 0.99, 1.02, 15, "precision").contains_one
    assert not Noise(1.02, 1.01, 1.03, 101, "rounds").contains_one


def test_noise_times_a_program_against_itself():
    entry = runtimes.get("torch")
    noise = measure_noise(entry, small_program(entry), IMAGES, batch=2, max_rounds=3, budget_s=0.1)
    assert 0 < noise.low <= noise.speedup <= noise.high
    assert noise.rounds == 3 and noise.stopped_by == "rounds"


@pytest.mark.parametrize("runtime", ["onnxruntime", "torch"])
def test_a_latency_says_what_was_measured(runtime):
    entry = runtimes.get(runtime)
    candidate, baseline = small_program(entry, 5), small_program(entry, 6)
    found = measure_latency(
        entry, candidate, baseline, IMAGES, measured_for="digest", batch=2, threads=1, max_rounds=3, budget_s=0.1
    )
    latency, samples = found.latency, found.samples
    assert (latency.runtime, latency.number_format, latency.batch, latency.threads) == (runtime, "fp32", 2, 1)
    assert (latency.graph, latency.measured_for) == (candidate.graph, "digest")
    assert latency.pairs >= 9
    assert latency.median_ms > 0 and latency.baseline_median_ms > 0
    assert (latency.size, latency.stopped_by) == (2, "rounds")
    for p95, p99, single in (
        (latency.p95_ms, latency.p99_ms, samples.candidate_ms),
        (latency.baseline_p95_ms, latency.baseline_p99_ms, samples.baseline_ms),
    ):
        assert (p95, p99) == tuple(np.quantile(single, [0.95, 0.99]))
    assert latency.outliers == outliers(samples.candidate_ms)
    assert 0 < latency.speedup_low <= latency.speedup <= latency.speedup_high


def test_a_batch_larger_than_the_images_repeats_them_and_threads_reach_the_session():
    seen = []

    class Session:
        def __init__(self, program: Program, threads: int) -> None:
            self.program, self.threads = program, threads

        def bind(self, images: np.ndarray) -> Callable[[], None]:
            seen.append((self.program.content, self.threads, images[:, 0, 0, 0].tolist()))
            return lambda: None

        def close(self) -> None:
            seen.append((self.program.content, "closed"))

    runtime = Runtime("fake", "", "", "", ("fp32",), "", lambda subject, number_format: None, Session)
    programs = [Program("fake", "fp32", "", inputs_of((1, 1, 1)), content) for content in ("candidate", "baseline")]

    images = np.arange(3, dtype=np.float32).reshape(3, 1, 1, 1)
    compare_programs(runtime, *programs, images, batch=5, threads=2, max_rounds=1, clock=itertools.count().__next__)
    for content in ("candidate", "baseline"):
        assert seen.count((content, 2, [0, 1, 2, 0, 1])) == seen.count((content, "closed")) == 1
    assert len(seen) == 4


@pytest.mark.parametrize("batch", [0, -1, 2.0, True])
def test_a_batch_must_be_a_positive_whole_number(batch):
    entry = runtimes.get("torch")
    with pytest.raises(ModelError, match="batch"):
        compare_programs(entry, small_program(entry), small_program(entry), IMAGES, batch=batch)


def test_a_timing_needs_an_image():
    entry = runtimes.get("torch")
    with pytest.raises(ModelError, match="at least one image"):
        compare_programs(entry, small_program(entry), small_program(entry), IMAGES[:0])


def test_the_machine_is_known_by_what_its_timings_depend_on(monkeypatch):
    first = machine_id("torch")
    assert first == machine_id("torch") and len(bytes.fromhex(first)) == 32
    assert machine_id("onnxruntime") != first
    monkeypatch.setattr(os, "cpu_count", lambda: 77)
    assert machine_id("torch") != first


def test_another_version_of_a_runtime_leaves_the_timings_of_the_others_valid(monkeypatch):
    before = {name: machine_id(name) for name in ("torch", "onnxruntime")}
    newer = {**{entry.name: entry for entry in runtimes}, "torch": replace(runtimes.get("torch"), version="99")}
    monkeypatch.setattr(latency_module, "runtimes", newer)
    assert machine_id("torch") != before["torch"]
    assert machine_id("onnxruntime") == before["onnxruntime"]
