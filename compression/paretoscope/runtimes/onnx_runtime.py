"""ONNX Runtime on the CPU: an optimised float32 graph, or integer kernels for recipes of integer activations."""

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import torch
from torch import nn

from paretoscope.base.errors import ModelError, RuntimeUnavailableError
from paretoscope.base.libraries import onnxruntime
from paretoscope.graph.trace import INPUT, OUTPUT, inputs_of
from paretoscope.model.tensors import Integers
from paretoscope.runtimes.base import Program, Runnable, Runtime, as_inputs, still_open
from paretoscope.runtimes.integer.onnx_int8 import export_int8
from paretoscope.runtimes.onnx_graph import Arrays, export_any, graph_digest, run_session
from paretoscope.runtimes.onnx_profile import onnx_profile
from paretoscope.runtimes.sessions import open_session, session_options


class OnnxSession:
    """An inference session on the CPU, one operator after the other, each on `threads` threads."""

    def __init__(self, program: Program, threads: int) -> None:
        self._program = program
        self._threads = threads
        self._session: onnxruntime.InferenceSession | None = _open(program.content, options_of(program, threads))

    def run(self, samples: Arrays) -> Arrays:
        session = still_open(self._session)
        found = run_session(session, as_inputs(samples, self._program.inputs))
        return found[0] if len(found) == 1 else found

    def bind(self, samples: Arrays) -> Callable[[], object]:
        return bound_call(still_open(self._session), as_inputs(samples, self._program.inputs))

    def describe(self) -> dict[str, str | int]:
        return {
            "runtime": ONNX_RUNTIME.title,
            "version": ONNX_RUNTIME.version,
            "number format": self._program.number_format,
            "threads": self._threads,
            "file bytes": len(self._program.content),
            **({"note": self._program.note} if self._program.note else {}),
        }

    def close(self) -> None:
        self._session = None


def bound_call(session: onnxruntime.InferenceSession, samples: tuple[np.ndarray, ...]) -> Callable[[], object]:
    """A call that runs these samples, contiguous, and nothing else."""
    binding = session.io_binding()
    for each, array in zip(session.get_inputs(), samples, strict=True):
        binding.bind_cpu_input(each.name, array)
    for output in session.get_outputs():
        binding.bind_output(output.name)

    def call(_keep_alive: tuple[np.ndarray, ...] = samples) -> None:
        session.run_with_iobinding(binding)

    return call


def _open(data: bytes, options: onnxruntime.SessionOptions) -> onnxruntime.InferenceSession:
    try:
        return open_session(data, options)
    except Exception as error:  # the library's errors have no common base but this
        raise RuntimeUnavailableError(
            f"ONNX Runtime must be able to load the graph; it says: {error}. Use the torch runtime for this model."
        ) from None


@lru_cache(maxsize=1)
def _overflows() -> bool:
    """Whether fast integer kernels give wrong sums here: x86 without VNNI adds pairs of products in 16 bits.

    A layer of the largest weights on the largest inputs shows it. Kernels that are exact everywhere take up to twice
    the time, so they are asked for only where they are needed.
    """
    features = 64
    codes = np.full((16, features), 127, np.int8)
    tensor = Integers(codes, np.array(1, np.float32), 8)
    linear = nn.Linear(features, 16, bias=False)
    layer = nn.Sequential(nn.Flatten(), linear).eval()
    with torch.no_grad():
        linear.weight.copy_(torch.from_numpy(tensor.decode()))
    images = np.ones((1, 1, 8, 8), np.float32)
    data = export_int8(layer, (1, 8, 8), {"1.weight": tensor}, images)
    (logits,) = _open(data, session_options(1)).run([OUTPUT], {INPUT: images})
    return not np.allclose(logits, 127 * features, rtol=0.01)


def options_of(program: Program, threads: int) -> onnxruntime.SessionOptions:
    """The options that sessions of a program are opened with."""
    options = session_options(threads)
    if program.number_format == "int8" and _overflows():
        options.add_session_config_entry("session.x64quantprecision", "1")
    return options


def _profile(program: Program, samples: Arrays, threads: int, runs: int) -> dict[str, float]:
    samples = as_inputs(samples, program.inputs)
    return onnx_profile(program.content, samples, options_of(program, threads), runs)


def onnx_program(runnable: Runnable, number_format: str, runtime: str) -> Program:
    """The ONNX file of a runnable, for any runtime that reads one; raises ModelError."""
    note = ""
    if number_format == "fp32":
        data, note = export_any(runnable.module, runnable.inputs, runnable.calibration)
    elif runnable.weights is None or runnable.calibration is None:
        raise ModelError(
            "an integer program needs the compressed weights and calibration images; at least one is missing. "
            "Pass both."
        )
    else:
        data = export_int8(runnable.module, runnable.inputs, runnable.weights, runnable.calibration, runnable.ranges)
    return Program(runtime, number_format, graph_digest(data), inputs_of(runnable.inputs), data, note)


def _build(runnable: Runnable, number_format: str) -> Program:
    return onnx_program(runnable, number_format, ONNX_RUNTIME.name)


ONNX_RUNTIME = Runtime(
    name="onnxruntime",
    title="ONNX Runtime",
    summary="Optimised graphs: integer kernels (static QDQ int8) where activations have 8 bits, else float32.",
    reference="ONNX Runtime developers, onnxruntime.ai; Jacob et al. 2018 for the integer arithmetic",
    number_formats=("fp32", "int8"),
    version=onnxruntime.__version__,
    build_as=_build,
    open=OnnxSession,
    profile=_profile,
)
