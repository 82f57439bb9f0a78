import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from types import SimpleNamespace

import numpy as np
import pytest
from paretoscope.base.errors import CompressionError
from paretoscope.graph.trace import inputs_of
from paretoscope.recipe.recipe import Recipe
from paretoscope.runtimes import Program, Runnable, Runtime, runtimes
from paretoscope.service import memory
from paretoscope.service.memory import measured, session_memory
from torch import nn

pytestmark = pytest.mark.slow

WEIGHTS = 4 * (784 * 300 + 300 * 100 + 100 * 10)


def test_a_session_takes_at_least_its_weights_and_not_many_times_that():
    assert WEIGHTS <= session_memory("lenet-300-100", Recipe(), "onnxruntime") < 20 * WEIGHTS


class Hungry:
    """A session that touches so many bytes while it runs."""

    def __init__(self, program: Program, threads: int) -> None:
        self.size = program.content

    def bind(self, images: np.ndarray):
        return lambda: np.ones(self.size, np.uint8).sum()

    def close(self) -> None:
        pass


@pytest.fixture(scope="module")
def alone() -> Iterator[ProcessPoolExecutor]:
    """One process for what is measured here: in this one, what other tests left running would count too."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        yield pool


def hungry(megabytes: int) -> int:
    runtime = Runtime("hungry", "", "", "", ("fp32",), "", lambda subject, number_format: None, Hungry)
    program = Program("hungry", "fp32", "", inputs_of((1, 1, 1)), megabytes << 20)
    return measured(runtime, program, np.zeros((1, 1, 1, 1), np.float32), 1)


def linear(inputs: int, outputs: int) -> int:
    entry = runtimes.get("torch")
    module = nn.Sequential(nn.Flatten(), nn.Linear(inputs, outputs)).eval()
    images = np.zeros((1, 1, 32, inputs // 32), np.float32)
    return measured(entry, entry.build(Runnable(module, images.shape[1:])), images, 1)


@pytest.mark.parametrize("megabytes", [32, 128])
def test_what_a_session_holds_for_a_moment_counts(alone, megabytes):
    assert alone.submit(hungry, megabytes).result(timeout=120) == pytest.approx(megabytes << 20, rel=0.1)


def test_the_weights_of_a_module_count_though_the_program_holds_them(alone):
    assert alone.submit(linear, 1024, 8192).result(timeout=120) == pytest.approx(4 * 1024 * 8192, rel=0.1)


@pytest.mark.parametrize(
    "model, runtime, settings, says",
    [
        ("nope", "torch", {}, "a model must be registered; got 'nope'"),
        ("lenet-300-100", "abacus", {}, "a runtime must be registered; got 'abacus'"),
        ("lenet-300-100", "torch", {"size": 40}, "40 x 40"),
        ("lenet-300-100", "torch", {"number_format": "int8"}, "got int8"),
        ("lenet-300-100", "torch", {"batch": 0}, "batch"),
    ],
)
def test_what_the_process_refuses_comes_back_as_an_error_of_ours(model, runtime, settings, says):
    asked = {"model": model, "recipe": Recipe().to_dict(), "runtime": runtime, "batch": 1, "threads": 1}
    answer = memory._answer({**asked, "size": None, "number_format": None, **settings})
    assert says in answer["error"]


@pytest.mark.parametrize(
    "done, says",
    [
        (subprocess.CompletedProcess([], 0, json.dumps({"error": "that is wrong. Do this."}), ""), "that is wrong"),
        (subprocess.CompletedProcess([], -9, "", ""), "ended with: exit status -9"),
        (subprocess.CompletedProcess([], 1, "", "Traceback\nOSError: no"), "ended with: OSError: no"),
    ],
)
def test_a_process_that_fails_says_why(monkeypatch, done, says):
    monkeypatch.setattr(subprocess, "run", lambda *args, **kwargs: done)
    with pytest.raises(CompressionError, match=says):
        session_memory("lenet-5", Recipe(), "torch")


def test_a_process_that_takes_too_long_is_an_error(monkeypatch):
    def run(command, **kwargs):
        raise subprocess.TimeoutExpired(command, kwargs["timeout"])

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(CompressionError, match="within 600 s"):
        session_memory("lenet-5", Recipe(), "torch")


def test_without_proc_the_growth_of_the_processs_peak_is_used(monkeypatch, tmp_path):
    resource = pytest.importorskip("resource")
    peaks = iter([100, 350])
    monkeypatch.setattr(memory, "_PROC", tmp_path / "missing")
    monkeypatch.setattr(resource, "getrusage", lambda who: SimpleNamespace(ru_maxrss=next(peaks)))
    monkeypatch.setattr(sys, "platform", "linux")
    assert memory._peak_since()() == 250 * 1024
