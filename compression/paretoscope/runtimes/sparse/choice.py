"""Which layers run on the non-zeros alone: those that are faster so, by what this machine was measured to do.

For every layer of a structure, a batch and a number of threads it is measured once what ONNX Runtime takes within the
whole network, and what the kernel of each storage takes at a few densities; its time grows linearly with the weights
that it multiplies. That is kept on disk. For a recipe the best division into stretches follows without
another measurement of a layer; it is then run against ONNX Runtime alone, and taken only where it is faster.
"""

import hashlib
import inspect
import json
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import llvmlite.binding
import numpy as np
import onnx

from paretoscope.base import cache, files
from paretoscope.base.errors import CompressionError, ModelError
from paretoscope.base.libraries import onnxruntime
from paretoscope.base.lock import machine
from paretoscope.runtimes.onnx_graph import graph_digest
from paretoscope.runtimes.onnx_profile import session_times
from paretoscope.runtimes.sessions import open_session, session_options
from paretoscope.runtimes.sparse import kernels
from paretoscope.runtimes.sparse import layers as sparse_layers
from paretoscope.runtimes.sparse.layers import BLOCKS, Storage, entries, expected_entries, possible
from paretoscope.runtimes.sparse.network import Layer, SparseNetwork
from paretoscope.runtimes.sparse.tape import Engine, Kernel, Tape, lay_out, lay_out_step

# Densities at which the storages are measured; chosen by hand, no benchmark.
PROBES = (0.02, 0.1, 0.4)
# More samples than this are worth a transposition; chosen by hand, no benchmark.
FEW_SAMPLES = 4
# A division into stretches must save this share to be worth the trouble; chosen by hand, no benchmark.
LEAST_GAIN = 0.02
# Empty calls that a change of engine is taken to cost; each division is then timed. Chosen by hand, no benchmark.
CHANGE_FACTORS = (1.0, 2.0, 4.0)

# Profiled runs of ONNX Runtime; chosen by hand, no benchmark.
PROFILED_RUNS = 30

# A measurement is repeated so often, for no longer than this in all, in samples that the clock resolves; by hand.
_REPEATS = 9
_SHORTEST_S = 1e-4
_LONGEST_S = 0.3


@dataclass(frozen=True, slots=True)
class StepTimes:
    """Measured times of a step. dense: microseconds in ONNX Runtime.

    storages: microseconds at no entry and for each entry, by storage; by `Engine.OWN` of a step without weights; empty
    where no kernel of this package can run it.
    """

    dense: float
    storages: dict[Kernel, tuple[float, float]]

    def of(self, storage: Kernel, count: float) -> float:
        """Microseconds in a storage in which so many weights are multiplied."""
        start, slope = self.storages[storage]
        return start + slope * count


@dataclass(frozen=True, slots=True)
class BreakEven:
    """What was measured of a structure. steps: by output.

    dense_call, own_call: microseconds of an empty call of ONNX Runtime, and of the kernels.
    """

    steps: dict[str, StepTimes]
    dense_call: float
    own_call: float

    def density(self, network: SparseNetwork, output: str) -> float:
        """The density below which a layer is faster in its best storage, for zeros without a pattern: 0 to 1."""
        weight, times = network.layers[output].weight, self.steps[output]
        storages = [storage for storage in times.storages if isinstance(storage, Storage)]
        if not any(possible(weight, storage) for storage in storages):
            return 0.0

        def faster(density: float) -> bool:
            expected = (times.of(each, expected_entries(weight.shape, each, density)) for each in storages)
            return min(expected) < times.dense

        if not faster(0.0):
            return 0.0
        low, high = 0.0, 1.0
        if faster(high):
            return high
        for _ in range(30):
            middle = (low + high) / 2
            low, high = (middle, high) if faster(middle) else (low, middle)
        return low


@dataclass(frozen=True, slots=True)
class EngineChoice:
    """The engines of a network's steps, and why.

    tried_us, dense_us: microseconds a call of the best division and of ONNX Runtime alone, measured against each other;
    equal where no division was worth trying.
    """

    engines: tuple[Kernel, ...]
    tried_us: float
    dense_us: float


def choose(network: SparseNetwork, images: np.ndarray, threads: int) -> EngineChoice:
    """The engines for a batch of images (n, C, H, W), float32; measured while nothing else has the machine.

    Raises ModelError where the engines disagree.
    """
    with machine(exclusive=True):
        return _choose(network, images, threads)


def _choose(network: SparseNetwork, images: np.ndarray, threads: int) -> EngineChoice:
    n = len(images)
    known = break_even(network, images, threads)
    alone: tuple[Kernel, ...] = (Engine.DENSE,) * len(network.steps)
    # What a change of engine costs the caches is not in the time of an empty call.
    divisions = list(dict.fromkeys([alone, *(divide(network, known, factor) for factor in CHANGE_FACTORS)]))
    tapes = [lay_out(network, engines, n) for engines in divisions]
    for tape in tapes[1:]:
        _agree(tape, tapes[0], images, threads)
    dense, *tried = _race(tapes, images, threads)
    best = min(range(len(tried)), key=tried.__getitem__, default=None)
    if best is None:
        return EngineChoice(alone, dense, dense)
    taken = divisions[1 + best] if tried[best] < (1 - LEAST_GAIN) * dense else alone
    return EngineChoice(taken, tried[best], dense)


def divide(network: SparseNetwork, known: BreakEven, factor: float = 1.0) -> tuple[Kernel, ...]:
    """The division into stretches of least time: the shortest path through the steps.

    A change of engine costs `factor` empty calls.
    """
    best: dict[Engine, tuple[float, tuple[Kernel, ...]]] = {
        Engine.DENSE: (known.dense_call, ()),
        Engine.OWN: (known.own_call, ()),
    }
    for place, step in enumerate(network.steps):
        times = known.steps[step.output]
        storage, own = _best_storage(network, step.output, times)
        if place and network.may_cut(place):
            dense, mine = best[Engine.DENSE], best[Engine.OWN]
            to_dense, to_own = mine[0] + factor * known.dense_call, dense[0] + factor * known.own_call
            if to_dense < dense[0]:
                best[Engine.DENSE] = to_dense, mine[1]
            if to_own < mine[0]:
                best[Engine.OWN] = to_own, dense[1]
        best = {
            Engine.DENSE: (best[Engine.DENSE][0] + times.dense, (*best[Engine.DENSE][1], Engine.DENSE)),
            Engine.OWN: (best[Engine.OWN][0] + own, (*best[Engine.OWN][1], storage)),
        }
    return min(best.values())[1]


def _best_storage(network: SparseNetwork, output: str, times: StepTimes) -> tuple[Kernel, float]:
    if not times.storages:
        return Engine.OWN, math.inf
    if output not in network.layers:
        return Engine.OWN, times.of(Engine.OWN, 0)
    weight = network.layers[output].weight
    storages = [each for each in times.storages if isinstance(each, Storage) and possible(weight, each)]
    return min(((each, times.of(each, entries(weight, each))) for each in storages), key=lambda found: found[1])


def break_even(network: SparseNetwork, images: np.ndarray, threads: int) -> BreakEven:
    """What was measured of a network's structure for this batch on this machine, now or before."""
    key = _key(network, len(images), threads)
    path = cache.folder() / "break-even" / f"{key}.json"
    known = _read(path)
    if known is None:
        known = measure(network, images, threads)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            files.write_atomically(path, json.dumps(_plain(known)).encode())
        except (OSError, CompressionError):
            pass  # measured anew next time
    return known


def _key(network: SparseNetwork, n: int, threads: int) -> str:
    features = llvmlite.binding.get_host_cpu_features()
    parts = [
        graph_digest(network.data),
        llvmlite.binding.get_host_cpu_name(),
        ",".join(sorted(name for name, there in features.items() if there)),
        *(str(each) for each in (n, threads, os.cpu_count(), onnxruntime.__version__)),
        *map(inspect.getsource, (kernels, sparse_layers)),
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _plain(known: BreakEven) -> dict[str, object]:
    steps = {name: {"dense": times.dense, "forms": times.storages} for name, times in known.steps.items()}
    return {"steps": steps, "dense_call": known.dense_call, "own_call": known.own_call}


def _read(path: Path) -> BreakEven | None:
    try:
        data = json.loads(path.read_text())
        steps = {
            name: StepTimes(
                float(times["dense"]), {_kernel(each): (float(a), float(b)) for each, (a, b) in times["forms"].items()}
            )
            for name, times in data["steps"].items()
        }
        return BreakEven(steps, float(data["dense_call"]), float(data["own_call"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _kernel(name: str) -> Kernel:
    return Engine.OWN if name == Engine.OWN else Storage(name)


def measure(network: SparseNetwork, images: np.ndarray, threads: int) -> BreakEven:
    """Measure a structure; its weights do not matter, but for their shapes."""
    n = len(images)
    whole = lay_out(network, [Engine.DENSE] * len(network.steps), n)
    dense_call = _empty_session_us(threads)
    dense = _dense_times(network, whole, images, threads, dense_call)
    rng = np.random.default_rng(0)
    steps = {}
    for place, step in enumerate(network.steps):
        storages: dict[Kernel, tuple[float, float]] = {}
        if network.is_own(step):
            if step.output in network.layers:
                for storage in _storages(network, place, n):
                    storages[storage] = _storage_times(network, place, storage, n, rng)
            elif step.node.op_type == "Reshape":
                storages[Engine.OWN] = 0.0, 0.0
            else:
                storages[Engine.OWN] = _step_us(lay_out_step(network, place, Engine.OWN, n), rng), 0.0
        steps[step.output] = StepTimes(dense[step.output], storages)
    empty = np.zeros((0, kernels.FIELDS), np.int64)
    arguments = (empty, 1, np.zeros(1, np.float32), np.zeros(1, np.float32), np.zeros(1, np.uint32), np.zeros(1, int))
    return BreakEven(steps, dense_call, _fastest_us(lambda: kernels.run(*arguments)))


def _storages(network: SparseNetwork, place: int, n: int) -> list[Storage]:
    step = network.steps[place]
    if step.node.op_type == "Conv":
        return [Storage.ROWS]
    samples = n * network.values[step.sources[0]].shape[0]
    return [*([Storage.ROWS] if samples > 1 else []), *(BLOCKS if samples <= FEW_SAMPLES else [])]


def _storage_times(
    network: SparseNetwork, place: int, storage: Storage, n: int, rng: np.random.Generator
) -> tuple[float, float]:
    """A line through the times at a few densities, never falling."""
    layer = network.layers[network.steps[place].output]
    counts, times = [], []
    for density in PROBES:
        weight = np.where(rng.random(layer.weight.shape) < density, np.float32(0.1), np.float32(0))
        tape = lay_out_step(network, place, storage, n, Layer(weight, layer.bias))
        counts.append(entries(weight, storage))
        times.append(_step_us(tape, rng))
    slope = max(float(np.polyfit(counts, times, 1)[0]), 0.0) if len(set(counts)) > 1 else 0.0
    return max(float(np.mean(times) - slope * np.mean(counts)), 0.0), slope


def _step_us(tape: Tape, rng: np.random.Generator) -> float:
    """Microseconds of a tape's kernels on ordinary floats, without the overhead of the call."""
    loaded = tape.load(1)
    for name in tape.positions:
        loaded.value(name)[...] = rng.standard_normal(loaded.value(name).shape, np.float32)
    one = tape.stretches[0].operations
    assert one is not None  # a kernel of this package runs it
    twice = np.concatenate([one, one])
    arguments = (tape.n, loaded.work, tape.weights, tape.offsets, tape.pointers)
    single = _fastest_us(lambda: kernels.run(one, *arguments))
    double = _fastest_us(lambda: kernels.run(twice, *arguments))
    return min(max(double - single, 0.0), single)


def _fastest_us(call: Callable[[], object]) -> float:
    """Microseconds of a call: the least mean of a few samples, since others can only slow them."""
    call()
    start = time.perf_counter()
    call()
    once = max(time.perf_counter() - start, 1e-7)
    calls = max(1, math.ceil(_SHORTEST_S / once))
    best = once
    deadline = start + _LONGEST_S
    for _ in range(_REPEATS):
        start = time.perf_counter()
        for _ in range(calls):
            call()
        now = time.perf_counter()
        best = min(best, (now - start) / calls)
        if now > deadline:
            break
    return 1e6 * best


def _dense_times(
    network: SparseNetwork, whole: Tape, images: np.ndarray, threads: int, call_us: float
) -> dict[str, float]:
    """Microseconds of each step in ONNX Runtime, by its profile, scaled so that they add up to a call without one."""
    loaded = whole.load(threads)
    loaded.images[...] = images
    total = max(_fastest_us(loaded.run) - call_us, 0.0)
    profiled = session_times(whole.stretches[0].graph, {network.input: images}, session_options(threads), PROFILED_RUNS)
    owners = {
        name: step.output
        for step in network.steps
        for node in (step.node, step.norm, step.activation)
        if node is not None
        for name in (node.name, *node.output)
    }
    times = dict.fromkeys((step.output for step in network.steps), 0.0)
    for name, spent in profiled.items():
        # What the optimiser put in between belongs to no step; all steps bear it in proportion.
        if name in owners:
            times[owners[name]] += spent
    known = sum(times.values())
    if known <= 0:
        raise ModelError(
            "a profile of ONNX Runtime must name the graph's nodes; this one names none of them. "
            "Measure this model in ONNX Runtime."
        )
    return {name: spent * total / known for name, spent in times.items()}


def _empty_session_us(threads: int) -> float:
    """Microseconds of a session's call that does next to nothing."""
    described = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in ("x", "y")]
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "empty", described[:1], described[1:])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=9)
    session = open_session(model.SerializeToString(), session_options(threads))
    binding = session.io_binding()
    x, y = np.zeros(1, np.float32), np.zeros(1, np.float32)
    binding.bind_input("x", "cpu", 0, np.float32, x.shape, x.ctypes.data)
    binding.bind_output("y", "cpu", 0, np.float32, y.shape, y.ctypes.data)
    return _fastest_us(lambda: session.run_with_iobinding(binding))


def _agree(tape: Tape, dense: Tape, images: np.ndarray, threads: int) -> None:
    """Raises ModelError unless both give the same logits but for rounding."""
    both = []
    for each in (tape, dense):
        loaded = each.load(threads)
        loaded.images[...] = images
        loaded.run()
        both.append(loaded.logits.copy())
    off, largest = float(np.abs(both[0] - both[1]).max()), max(1.0, float(np.abs(both[1]).max()))
    if not off <= 1e-3 * largest:
        raise ModelError(
            f"sparse kernels must give the dense network's logits within {1e-3 * largest:g}; they are off by {off:g}. "
            "Measure this model in ONNX Runtime."
        )


def _race(tapes: Sequence[Tape], images: np.ndarray, threads: int) -> list[float]:
    """Microseconds a call of each, taken in turns: medians."""
    sides = [tape.load(threads) for tape in tapes]
    for side in sides:
        side.images[...] = images
        side.run()
    start = time.perf_counter()
    sides[0].run()
    once = max(time.perf_counter() - start, 1e-7)
    calls = max(1, math.ceil(_SHORTEST_S / once))
    samples: list[list[float]] = [[] for _ in sides]
    deadline = start + _LONGEST_S
    while len(samples[0]) < 3 * _REPEATS and (time.perf_counter() < deadline or len(samples[0]) < 3):
        for side, times in zip(sides, samples, strict=True):
            start = time.perf_counter()
            for _ in range(calls):
                side.run()
            times.append((time.perf_counter() - start) / calls)
    return [1e6 * float(np.median(times)) for times in samples]
