"""Which layers run on the non-zeros alone: those that are faster so, by what this machine was measured to do.

For every layer of a structure, a batch and a number of threads it is measured once what ONNX Runtime takes within the
whole network, and what each form of a sparse kernel takes at a few densities; the time of a form grows linearly with
the weights that it multiplies. That is kept on disk. For a recipe the best division into stretches follows without
another measurement of a layer; it is then run against ONNX Runtime alone, and taken only where it is faster.
"""

import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import llvmlite.binding
import numpy as np
import onnx

from paretoscope.base import cache, files
from paretoscope.base.errors import CompressionError, ModelError
from paretoscope.base.lock import machine
from paretoscope.graph.trace import INPUT
from paretoscope.runtimes.libraries import onnxruntime
from paretoscope.runtimes.onnx_graph import graph_digest
from paretoscope.runtimes.onnx_profile import session_times
from paretoscope.runtimes.sessions import open_session, session_options
from paretoscope.runtimes.sparse import kernels
from paretoscope.runtimes.sparse import layers as sparse_layers
from paretoscope.runtimes.sparse.layers import BLOCKS, ROWS, entries, expected_entries, possible
from paretoscope.runtimes.sparse.network import Layer, Network
from paretoscope.runtimes.sparse.tape import DENSE, OWN, Tape, lay_out, lay_out_step

# Densities at which the forms are measured.
PROBES = (0.02, 0.1, 0.4)
# More samples than this are worth a transposition.
FEW_SAMPLES = 4
# A division into stretches must save this share to be worth the trouble.
LEAST_GAIN = 0.02
CHANGE_FACTORS = (1.0, 2.0, 4.0)

PROFILED_RUNS = 30

_REPEATS = 9
_SHORTEST_S = 1e-4
_LONGEST_S = 0.3


@dataclass(frozen=True, slots=True)
class StepTimes:
    """dense: microseconds in ONNX Runtime. forms: microseconds at no entry, and for each entry, by form."""

    dense: float
    forms: dict[str, tuple[float, float]]

    def of(self, form: str, count: int) -> float:
        """Microseconds of a form that multiplies so many weights."""
        start, slope = self.forms[form]
        return start + slope * count


@dataclass(frozen=True, slots=True)
class BreakEven:
    """What was measured of a structure. steps: by output. call: microseconds of an empty call of ONNX Runtime, and of
    the kernels.
    """

    steps: dict[str, StepTimes]
    dense_call: float
    own_call: float

    def density(self, network: Network, output: str) -> float:
        """The density below which a layer is faster in the best form, for zeros without a pattern: 0 to 1."""
        weight, times = network.layers[output].weight, self.steps[output]
        forms = [form for form in times.forms if possible(weight, form)]
        if not forms:
            return 0.0

        def faster(density: float) -> bool:
            return (
                min(times.of(form, expected_entries(weight.shape, form, density)) for form in times.forms) < times.dense
            )

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
class Choice:
    """engines: of each step. tried_us, dense_us: microseconds a call of the best division and of ONNX Runtime alone,
    measured against each other; the same where no division was worth trying.
    """

    engines: tuple[str, ...]
    tried_us: float
    dense_us: float


def choose(network: Network, images: np.ndarray, threads: int) -> Choice:
    """The engines for a batch of images (n, C, H, W), float32; measured while nothing else has the machine.

    Raises ModelError where the engines disagree.
    """
    with machine(exclusive=True):
        return _choose(network, images, threads)


def _choose(network: Network, images: np.ndarray, threads: int) -> Choice:
    n = len(images)
    known = break_even(network, images, threads)
    alone = (DENSE,) * len(network.steps)
    # What a change of engine costs the caches is not in the time of an empty call.
    divisions = list(dict.fromkeys([alone, *(divide(network, known, factor) for factor in CHANGE_FACTORS)]))
    tapes = [lay_out(network, engines, n) for engines in divisions]
    for tape in tapes[1:]:
        _agree(tape, tapes[0], images, threads)
    dense, *tried = _race(tapes, images, threads)
    best = min(range(len(tried)), key=tried.__getitem__, default=None)
    if best is None:
        return Choice(alone, dense, dense)
    taken = divisions[1 + best] if tried[best] < (1 - LEAST_GAIN) * dense else alone
    return Choice(taken, tried[best], dense)


def divide(network: Network, known: BreakEven, factor: float = 1.0) -> tuple[str, ...]:
    """The division into stretches of least time: the shortest path through the steps.

    A change of engine costs `factor` empty calls.
    """
    best: dict[str, tuple[float, tuple[str, ...]]] = {
        DENSE: (known.dense_call, ()),
        OWN: (known.own_call, ()),
    }
    for place, step in enumerate(network.steps):
        times = known.steps[step.output]
        form, own = _best_form(network, step.output, times)
        if place and network.may_cut(place):
            dense, mine = best[DENSE], best[OWN]
            to_dense, to_own = mine[0] + factor * known.dense_call, dense[0] + factor * known.own_call
            if to_dense < dense[0]:
                best[DENSE] = to_dense, mine[1]
            if to_own < mine[0]:
                best[OWN] = to_own, dense[1]
        best = {
            DENSE: (best[DENSE][0] + times.dense, (*best[DENSE][1], DENSE)),
            OWN: (best[OWN][0] + own, (*best[OWN][1], form)),
        }
    return min(best.values())[1]


def _best_form(network: Network, output: str, times: StepTimes) -> tuple[str, float]:
    if not times.forms:
        return OWN, math.inf
    if output not in network.layers:
        return OWN, times.of(OWN, 0)
    weight = network.layers[output].weight
    forms = [form for form in times.forms if possible(weight, form)]
    return min(((form, times.of(form, entries(weight, form))) for form in forms), key=lambda each: each[1])


def break_even(network: Network, images: np.ndarray, threads: int) -> BreakEven:
    """What was measured of a network's structure for this batch on this machine, now or before."""
    key = _key(network, len(images), threads)
    path = cache.folder() / "break-even" / f"{key}.json"
    known = _read(path)
    if known is None:
        known = measure(network, images, threads)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            files.write_atomically(path, json.dumps(asdict(known)).encode())
        except (OSError, CompressionError):
            pass  # measured anew next time
    return known


def _key(network: Network, n: int, threads: int) -> str:
    features = llvmlite.binding.get_host_cpu_features()
    parts = [
        graph_digest(network.data),
        llvmlite.binding.get_host_cpu_name(),
        ",".join(sorted(name for name, there in features.items() if there)),
        *(str(each) for each in (n, threads, os.cpu_count(), onnxruntime.__version__)),
        *(Path(module.__file__).read_text() for module in (kernels, sparse_layers)),
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _read(path: Path) -> BreakEven | None:
    try:
        data = json.loads(path.read_text())
        steps = {
            name: StepTimes(
                float(times["dense"]), {form: (float(a), float(b)) for form, (a, b) in times["forms"].items()}
            )
            for name, times in data["steps"].items()
        }
        return BreakEven(steps, float(data["dense_call"]), float(data["own_call"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def measure(network: Network, images: np.ndarray, threads: int) -> BreakEven:
    """Measure a structure; its weights do not matter, but for their shapes."""
    n = len(images)
    whole = lay_out(network, [DENSE] * len(network.steps), n)
    dense_call = _empty_session_us(threads)
    dense = _dense_times(network, whole, images, threads, dense_call)
    rng = np.random.default_rng(0)
    steps = {}
    for place, step in enumerate(network.steps):
        forms: dict[str, tuple[float, float]] = {}
        if network.is_own(step):
            if step.output in network.layers:
                for form in _forms(network, place, n):
                    forms[form] = _form_times(network, place, form, n, rng)
            elif step.node.op_type == "Reshape":
                forms[OWN] = 0.0, 0.0
            else:
                forms[OWN] = _step_us(lay_out_step(network, place, OWN, n), rng), 0.0
        steps[step.output] = StepTimes(dense[step.output], forms)
    empty = np.zeros((0, kernels.FIELDS), np.int64)
    arguments = (empty, 1, np.zeros(1, np.float32), np.zeros(1, np.float32), np.zeros(1, np.uint32), np.zeros(1, int))
    return BreakEven(steps, dense_call, _fastest_us(lambda: kernels.run(*arguments)))


def _forms(network: Network, place: int, n: int) -> list[str]:
    step = network.steps[place]
    if step.node.op_type == "Conv":
        return [ROWS]
    samples = n * network.values[step.sources[0]].shape[0]
    return [*([ROWS] if samples > 1 else []), *(BLOCKS if samples <= FEW_SAMPLES else [])]


def _form_times(network: Network, place: int, form: str, n: int, rng: np.random.Generator) -> tuple[float, float]:
    """A line through the times at a few densities, never falling."""
    layer = network.layers[network.steps[place].output]
    counts, times = [], []
    for density in PROBES:
        weight = np.where(rng.random(layer.weight.shape) < density, np.float32(0.1), np.float32(0))
        tape = lay_out_step(network, place, form, n, Layer(weight, layer.bias))
        counts.append(entries(weight, form))
        times.append(_step_us(tape, rng))
    slope = max(float(np.polyfit(counts, times, 1)[0]), 0.0) if len(set(counts)) > 1 else 0.0
    return max(float(np.mean(times) - slope * np.mean(counts)), 0.0), slope


def _step_us(tape: Tape, rng: np.random.Generator) -> float:
    """Microseconds of a tape's kernels on ordinary floats, without the overhead of the call."""
    loaded = tape.load(1)
    for name in tape.positions:
        loaded.value(name)[...] = rng.standard_normal(loaded.value(name).shape, np.float32)
    one = tape.stretches[0].operations
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


def _dense_times(network: Network, whole: Tape, images: np.ndarray, threads: int, call_us: float) -> dict[str, float]:
    """Microseconds of each step in ONNX Runtime, by its profile, scaled so that they add up to a call without one."""
    loaded = whole.load(threads)
    loaded.images[...] = images
    total = max(_fastest_us(loaded.run) - call_us, 0.0)
    profiled = session_times(whole.stretches[0].graph, {INPUT: images}, session_options(threads), PROFILED_RUNS)
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
        raise ModelError("a profile of ONNX Runtime must name the graph's nodes; this one names none of them.")
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
