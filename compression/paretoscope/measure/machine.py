"""What this machine can do, measured: arithmetic, the way to memory and its caches, and what a call costs by itself.

Each figure is the best of several tries: what else runs on the machine can only take from it. Every piece is measured
in three passes over all of them, some tenths of a second apart, so that a short burst of other work spoils none.
"""

import dataclasses
import math
import platform
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import helper, numpy_helper

from paretoscope.base.compiled import compiled
from paretoscope.base.errors import CompressionError, ModelError
from paretoscope.base.lock import machine
from paretoscope.base.progress import SILENT, Progress
from paretoscope.base.threads import torch_threads
from paretoscope.model.kinds import LayerKind
from paretoscope.runtimes.sessions import open_session, session_options

# How often each piece is measured, and the sets that are read, in bytes: from the nearest cache to beyond the last.
# All constants of this file are chosen by hand; `python -m benchmarks.latency` compares estimates with times.
PASSES = 3
SMALLEST_SET, LARGEST_SET = 16 * 1024, 256 * 1024 * 1024
# A network of some hundred thousand weights, with its activations.
SMALL_MODEL = 256 * 1024

_MATRICES = (256, 512)
_TRIES = 10
# Bytes that a try reads: a millisecond or so, or the set once where it is larger.
_READ = 64 * 1024 * 1024
_ALIGNMENT = 64
# Calls of a sample, and nodes that are added to tell what each costs.
_CALLS, _FURTHER = 100, 32
# The least time that a difference of two measurements is taken to be.
_TICK_S = 1e-9
_VALUES = 64 * 128
# A convolution of 3 x 3 as in the middle of a network for small images; operations of the dense one.
_CHANNELS, _SIDE = 32, 16
_CONVOLUTION_WORK = 2.0 * _CHANNELS**2 * 9 * _SIDE**2
_OPSET, _IR_VERSION = 20, 9

Call = Callable[[], Any]


@dataclass(frozen=True, slots=True)
class Machine:
    """Measured limits of this machine, on `threads` threads.

    name: the processor, as the system tells it. flops: fp32 FLOP/s, a multiplication and an addition being two.
    int8_ops: operations/s of 8-bit integers with 32-bit sums. convolution, depthwise: both of kernels that have lower
    ceilings: a convolution of few channels, and a depthwise one, which loads a value for each multiplication.
    curve: (bytes, bytes/s) for sets of ascending size: how fast a set of that size is read again and again, so that
    each cache shows as a step. other_bandwidth: bytes/s that a step without weights reads and writes, such as a
    softmax. call_s: seconds of a call of a session that computes next to nothing. layer_s, node_s: seconds that each
    further convolution and each further node of another kind adds, where it computes next to nothing.
    """

    name: str
    threads: int
    flops: float
    int8_ops: float
    convolution: tuple[float, float]
    depthwise: tuple[float, float]
    curve: tuple[tuple[int, float], ...]
    other_bandwidth: float
    call_s: float
    layer_s: float
    node_s: float

    @property
    def bandwidth(self) -> float:
        """Bytes/s read from memory."""
        return self.curve[-1][1]

    @property
    def cache_bandwidth(self) -> float:
        """Bytes/s read from the nearest cache that holds a small model."""
        return self.bandwidth_at(SMALL_MODEL)

    def bandwidth_at(self, size: float) -> float:
        """Bytes/s at which a set of `size` bytes is read: the curve, straight between its points on log axes."""
        sizes, speeds = np.log(np.array(self.curve, np.float64)).T
        return float(np.exp(np.interp(math.log(max(size, 1)), sizes, speeds)))

    def peak(self, kind: LayerKind, integer: bool) -> float:
        """Operations/s that layers of a kind reach on integers or on fp32."""
        others = (self.flops, self.int8_ops)
        return {LayerKind.CONVOLUTION: self.convolution, LayerKind.DEPTHWISE: self.depthwise}.get(kind, others)[integer]

    def activation_bandwidth(self, kind: LayerKind, size: float) -> float:
        """Bytes/s at which a layer of that kind reads and writes `size` bytes of activations."""
        return min(self.bandwidth_at(size), self.other_bandwidth if kind == LayerKind.OTHER else math.inf)

    def overhead(self, kind: LayerKind) -> float:
        """Seconds that a node of a layer of that kind takes beside its computation."""
        return self.layer_s if kind in (LayerKind.CONVOLUTION, LayerKind.DEPTHWISE) else self.node_s

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {
            **dataclasses.asdict(self),
            "curve": [list(point) for point in self.curve],
            **{name: list(getattr(self, name)) for name in _PAIRS},
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Machine":
        """The machine that `to_dict` wrote; raises CompressionError for anything else."""
        try:
            machine = cls(
                name=str(data["name"]),
                threads=int(data["threads"]),
                flops=float(data["flops"]),
                int8_ops=float(data["int8_ops"]),
                convolution=(float(data["convolution"][0]), float(data["convolution"][1])),
                depthwise=(float(data["depthwise"][0]), float(data["depthwise"][1])),
                curve=tuple((int(size), float(speed)) for size, speed in data["curve"]),
                other_bandwidth=float(data["other_bandwidth"]),
                call_s=float(data["call_s"]),
                layer_s=float(data["layer_s"]),
                node_s=float(data["node_s"]),
            )
        except (IndexError, KeyError, TypeError, ValueError) as error:
            raise CompressionError(f"a machine needs the fields of `to_dict`; {error!r}. Measure it again.") from None
        figures = [
            machine.threads,
            *machine.convolution,
            *machine.depthwise,
            *(x for point in machine.curve for x in point),
        ]
        figures += [getattr(machine, name) for name in _FIGURES]
        if not (machine.curve and all(math.isfinite(figure) and figure > 0 for figure in figures)):
            raise CompressionError(f"a machine's figures must be positive; got {dict(data)}. Measure it again.")
        return machine


_FIGURES = ("flops", "int8_ops", "other_bandwidth", "call_s", "layer_s", "node_s")
_PAIRS = ("convolution", "depthwise")


def measure_machine(
    threads: int = 1, progress: Progress = SILENT, *, passes: int = PASSES, largest: int = LARGEST_SET
) -> Machine:
    """Measure this machine on so many threads: some 2 s. progress: asked between the pieces; what it raises ends it.

    Arithmetic: products of square matrices, the best of PyTorch and ONNX Runtime, whose kernels our models run on.
    Bandwidth: every thread sums its share of an array of float32, again and again, after McCalpin (1995), "Memory
    Bandwidth and Machine Balance"; bytes read count, and nothing is written. passes: how often each piece is measured.
    largest: the largest array, in bytes.
    """
    if isinstance(threads, bool) or not isinstance(threads, int) or threads < 1:
        raise ModelError(f"threads must be a whole number of at least 1; got {threads!r}. Pass e.g. 1.")
    sizes = [SMALLEST_SET << i for i in range(int(math.log2(largest / SMALLEST_SET)) + 1)]
    flops, int8_ops, speeds = 0.0, 0.0, np.zeros(len(sizes))
    call_s, layers_s, nodes_s, softmax_s = math.inf, math.inf, math.inf, math.inf
    # By groups, fp32 and int8: seconds of a convolution.
    convolutions_s = {(groups, integer): math.inf for groups in (1, _CHANNELS) for integer in (False, True)}
    with ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(threads))
        stack.enter_context(torch_threads(threads))
        for _ in range(passes):
            for n in _MATRICES:
                work = 2.0 * n**3
                progress.report()
                flops = max(flops, work / _fastest(_torch_product(n)), work / _fastest(_product(n, threads)))
                progress.report()
                int8_ops = max(int8_ops, work / _fastest(_integer_product(n, threads)))
            for setting, seconds in convolutions_s.items():
                progress.report()
                convolutions_s[setting] = min(seconds, _fastest(_convolution(*setting, threads)))
            for i, size in enumerate(sizes):
                progress.report()
                speeds[i] = max(speeds[i], _read_speed(pool, threads, size))
            progress.report()
            softmax_s = min(softmax_s, _fastest(_repeated(_softmax(threads))) / _CALLS)
            progress.report()
            call_s = min(call_s, _fastest(_repeated(_nodes(1, threads))) / _CALLS)
            nodes_s = min(nodes_s, _fastest(_repeated(_nodes(1 + _FURTHER, threads))) / _CALLS)
            progress.report()
            layers_s = min(layers_s, _fastest(_repeated(_convolutions(_FURTHER, threads))) / _CALLS)
    reached = {
        (groups, integer): _CONVOLUTION_WORK / groups / max(seconds - call_s, _TICK_S)
        for (groups, integer), seconds in convolutions_s.items()
    }
    # What a larger set reaches a smaller one can, too; where it did not, starting the threads took the time.
    speeds = np.maximum.accumulate(speeds[::-1])[::-1]
    return Machine(
        name=processor_name(),
        threads=threads,
        flops=flops,
        int8_ops=int8_ops,
        convolution=(reached[1, False], reached[1, True]),
        depthwise=(reached[_CHANNELS, False], reached[_CHANNELS, True]),
        curve=tuple(zip(sizes, speeds.tolist(), strict=True)),
        other_bandwidth=2 * 4 * _VALUES / max(softmax_s - call_s, _TICK_S),
        call_s=call_s,
        layer_s=max(layers_s - call_s, _TICK_S) / _FURTHER,
        node_s=max(nodes_s - call_s, _TICK_S) / _FURTHER,
    )


def processor_name() -> str:
    """The processor's name as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "Model")))
    return next(filter(None, names), platform.processor() or platform.machine())


def _fastest(call: Call) -> float:
    """Seconds of the fastest of a few calls, the first of which warms up; nothing of ours runs beside them."""
    times = []
    with machine(exclusive=True):
        for _ in range(1 + _TRIES):
            start = time.perf_counter()
            call()
            times.append(time.perf_counter() - start)
    return min(times[1:])


def _repeated(call: Call) -> Call:
    def calls() -> None:
        for _ in range(_CALLS):
            call()

    return calls


def _torch_product(n: int) -> Call:
    a, b, out = torch.ones(n, n), torch.ones(n, n), torch.empty(n, n)
    return lambda: torch.mm(a, b, out=out)


def _product(n: int, threads: int) -> Call:
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    return _bound([node], np.ones((n, n), np.float32), {"w": np.ones((n, n), np.float32)}, np.float32, threads)


def _integer_product(n: int, threads: int) -> Call:
    node = helper.make_node("MatMulInteger", ["x", "w"], ["y"])
    return _bound([node], np.ones((n, n), np.uint8), {"w": np.ones((n, n), np.int8)}, np.int32, threads)


def _convolution(groups: int, integer: bool, threads: int) -> Call:
    images = np.ones((1, _CHANNELS, _SIDE, _SIDE), np.uint8 if integer else np.float32)
    weight = np.ones((_CHANNELS, _CHANNELS // groups, 3, 3), np.int8 if integer else np.float32)
    constants: dict[str, np.ndarray] = {"w": weight}
    inputs = ["x", "w"]
    if integer:
        constants |= {"scale": np.array(1, np.float32), "zero": np.array(0, np.uint8), "w zero": np.array(0, np.int8)}
        inputs = ["x", "scale", "zero", "w", "scale", "w zero", "scale", "zero"]
    node = helper.make_node("QLinearConv" if integer else "Conv", inputs, ["y"], group=groups, pads=[1] * 4)
    return _bound([node], images, constants, images.dtype, threads)


def _softmax(threads: int) -> Call:
    values = np.zeros((_VALUES // 128, 128), np.float32)
    return _bound([helper.make_node("Softmax", ["x"], ["y"])], values, {}, np.float32, threads)


def _nodes(count: int, threads: int) -> Call:
    """Nodes on eight numbers. Two kinds in turn, or an optimiser would find that one is enough."""
    nodes = [helper.make_node(("Relu", "Softmax")[i % 2], [source], [target]) for i, (source, target) in _links(count)]
    return _bound(nodes, np.ones((1, 8), np.float32), {}, np.float32, threads)


def _convolutions(count: int, threads: int) -> Call:
    """Convolutions of one pixel and as many channels as the widest vectors have lanes."""
    weight = np.zeros((16, 16, 1, 1), np.float32)
    nodes = [helper.make_node("Conv", [source, "w"], [target]) for _, (source, target) in _links(count)]
    return _bound(nodes, np.ones((1, 16, 1, 1), np.float32), {"w": weight}, np.float32, threads)


def _links(count: int) -> Iterator[tuple[int, tuple[str, str]]]:
    """Numbered pairs of the values between which each node of a chain from x to y stands."""
    return enumerate(pairwise(["x", *(f"t{i}" for i in range(1, count)), "y"]))


def _bound(
    nodes: Iterable[onnx.NodeProto],
    x: np.ndarray,
    constants: dict[str, np.ndarray],
    result: npt.DTypeLike,
    threads: int,
) -> Call:
    """A call of a session of the nodes, from `x` to `y` of its shape, and of nothing else."""
    types = [helper.np_dtype_to_tensor_dtype(np.dtype(kind)) for kind in (x.dtype, result)]
    graph = helper.make_graph(
        list(nodes),
        "piece",
        [helper.make_tensor_value_info("x", types[0], x.shape)],
        [helper.make_tensor_value_info("y", types[1], x.shape)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION)
    session = open_session(model.SerializeToString(), session_options(threads))
    binding = session.io_binding()
    binding.bind_cpu_input("x", x)
    binding.bind_output("y")

    def call(_keep_alive: np.ndarray = x) -> None:
        session.run_with_iobinding(binding)

    return call


@compiled(fastmath=True)
def _sum(values: npt.NDArray[np.float32], times: int) -> np.float32:
    total = np.float32(0)
    for _ in range(times):
        # Something changes each time, or a compiler may find that one sum is enough.
        values[0] += np.float32(1)
        for j in range(len(values)):
            total += values[j]
    return total


def _read_speed(pool: ThreadPoolExecutor, threads: int, size: int) -> float:
    """Bytes/s of the fastest of a few tries to read `size` bytes, split over the threads, again and again."""
    times = max(1, _READ // size)
    shares = [_aligned(size // 4 // threads) for _ in range(threads)]

    def read() -> None:
        for future in [pool.submit(_sum, share, times) for share in shares]:
            future.result()

    return sum(share.nbytes for share in shares) * times / _fastest(read)


def _aligned(count: int) -> np.ndarray:
    """So many float32 zeros from the start of a cache line on, all of them written."""
    whole = np.full(count + _ALIGNMENT // 4, 0, np.float32)
    start = -whole.ctypes.data % _ALIGNMENT // 4
    return whole[start : start + count]
