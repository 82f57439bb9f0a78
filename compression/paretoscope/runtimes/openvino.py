"""OpenVINO on the CPU: the ONNX file that ONNX Runtime reads, compiled for one batch, in float32 or with our integers.

The library is large, and an extra: it is imported by the first session.
"""

from collections.abc import Callable
from importlib import metadata
from importlib.util import find_spec
from typing import Any

import numpy as np

from paretoscope.base.errors import RuntimeUnavailableError
from paretoscope.base.libraries import openvino
from paretoscope.runtimes.base import Program, Runnable, Runtime, as_inputs, still_open
from paretoscope.runtimes.onnx_graph import Arrays
from paretoscope.runtimes.onnx_runtime import onnx_program
from paretoscope.runtimes.profiles import WARM_UP_RUNS, by_weight, node_owners

REQUIREMENT = "openvino==2026.4.1"
SETTINGS = {"PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32"}


class OpenVinoSession:
    """A network on one stream, and a request for each batch that it has been compiled for.

    A fixed batch spares each call the work of deriving shapes.
    """

    def __init__(self, program: Program, threads: int, *, profiled: bool = False) -> None:
        self._program = program
        self._threads = threads
        self._settings = {**SETTINGS, "INFERENCE_NUM_THREADS": threads, "PERF_COUNT": profiled}
        self._core: Any = openvino().Core()
        self._requests: dict[int, Any] = {}
        self._trying(lambda: self._core.read_model(program.content))

    def run(self, samples: Arrays) -> Arrays:
        request = self.request(samples)
        request.infer()
        found = tuple(request.get_output_tensor(i).data.copy() for i in range(len(request.model_outputs)))
        return found[0] if len(found) == 1 else found

    def bind(self, samples: Arrays) -> Callable[[], object]:
        call: Callable[[], object] = self.request(samples).infer
        return call

    def request(self, samples: Arrays) -> Any:
        """An inference request whose inputs are these samples."""
        inputs = as_inputs(samples, self._program.inputs)
        n = len(inputs[0])
        if n not in self._requests:
            self._requests[n] = self._trying(lambda: self._compiled(inputs).create_infer_request())
        request = self._requests[n]
        for place, each in enumerate(inputs):
            # The tensor keeps the array alive, and the request the tensor.
            request.set_input_tensor(place, openvino().Tensor(each, shared_memory=True))
        return request

    def describe(self) -> dict[str, str | int]:
        return {
            "runtime": OPENVINO.title,
            "version": OPENVINO.version,
            "number format": self._program.number_format,
            "threads": self._threads,
            "file bytes": len(self._program.content),
            **({"note": self._program.note} if self._program.note else {}),
        }

    def close(self) -> None:
        self._requests.clear()
        self._core = None

    def _compiled(self, inputs: tuple[np.ndarray, ...]) -> Any:
        core = still_open(self._core)
        model = core.read_model(self._program.content)
        model.reshape({place: list(each.shape) for place, each in enumerate(inputs)})
        return core.compile_model(model, "CPU", self._settings)

    @staticmethod
    def _trying(load: Callable[[], Any]) -> Any:
        try:
            return load()
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]
            raise RuntimeUnavailableError(
                f"OpenVINO must be able to load the graph; it says: {reason}. Use the torch runtime for this model."
            ) from None


def _profile(program: Program, samples: Arrays, threads: int, runs: int) -> dict[str, float]:
    """By its performance counters, which give the mean of each node over all calls so far, in whole microseconds.

    The first calls are slower, and are taken out of the sums. All times add up to that of the nodes.
    """
    session = OpenVinoSession(program, threads, profiled=True)
    request = session.request(samples)
    for _ in range(WARM_UP_RUNS):
        request.infer()
    before = _totals(request, WARM_UP_RUNS)
    for _ in range(runs):
        request.infer()
    after = _totals(request, WARM_UP_RUNS + runs)
    owners = _owners(request, node_owners(program.content))
    session.close()
    return by_weight({name: max(0.0, total - before[name]) / runs for name, total in after.items()}, owners)


def _owners(request: Any, owners: dict[str, str]) -> dict[str, str]:
    """`owners`, with the nodes that OpenVINO has made of those, which name them, a stroke and more appended to some."""
    made = {}
    for node in request.get_compiled_model().get_runtime_model().get_ops():
        names = node.get_rt_info()["originalLayersNames"].astype(str).split(",")
        owner = next(filter(None, (owners.get(name.partition("/")[0]) for name in names)), None)
        if owner is not None:
            made[node.get_friendly_name()] = owner
    return owners | made


def _totals(request: Any, calls: int) -> dict[str, float]:
    totals: dict[str, float] = {}
    for node in request.get_profiling_info():
        microseconds = 1e6 * node.real_time.total_seconds()
        totals[node.node_name] = totals.get(node.node_name, 0.0) + microseconds * calls
    return totals


def _build(runnable: Runnable, number_format: str) -> Program:
    return onnx_program(runnable, number_format, OPENVINO.name)


_INSTALLED = find_spec("openvino") is not None

OPENVINO = Runtime(
    name="openvino",
    title="OpenVINO",
    summary="Intel's runtime, on the CPU: integer kernels for our int8 codes where activations have 8 bits.",
    reference="OpenVINO documentation, docs.openvino.ai",
    number_formats=("fp32", "int8"),
    version=metadata.version("openvino") if _INSTALLED else "",
    build_as=_build,
    open=OpenVinoSession,
    profile=_profile,
    missing="" if _INSTALLED else REQUIREMENT,
)
