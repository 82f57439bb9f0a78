"""The sparse runtime: layers whose zeros pay on this machine skip them, all others run in ONNX Runtime.

Dense kernels multiply zeros at full price. Here every layer takes the faster of its storages, by a break-even that is
measured on this machine (`choice.py`), and the whole is taken only where it is faster than ONNX Runtime alone:
it is never slower than that beyond noise. Sparse kernels use one thread; where ONNX Runtime is faster on more, it is
taken.
"""

import hashlib
import time
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property

import llvmlite
import numba
import numpy as np

from paretoscope.graph.trace import inputs_of
from paretoscope.runtimes.base import Program, Runnable, Runtime, as_inputs, still_open
from paretoscope.runtimes.onnx_graph import Arrays, graph_digest
from paretoscope.runtimes.onnx_profile import session_times
from paretoscope.runtimes.onnx_runtime import ONNX_RUNTIME, OnnxSession
from paretoscope.runtimes.plans import LayerPlan
from paretoscope.runtimes.profiles import OTHER, WARM_UP_RUNS, node_owners, typical
from paretoscope.runtimes.sessions import session_options
from paretoscope.runtimes.sparse import kernels
from paretoscope.runtimes.sparse.choice import BreakEven, EngineChoice, break_even, choose
from paretoscope.runtimes.sparse.layers import Storage, entries, possible
from paretoscope.runtimes.sparse.network import SparseNetwork
from paretoscope.runtimes.sparse.tape import Engine, Kernel, Loaded, Stretch, lay_out

# Batch sizes that a session keeps in memory.
_KEPT = 2


@dataclass(frozen=True, eq=False, slots=True)
class Content:
    """A network, and the engines that were chosen for it, by batch and threads."""

    network: SparseNetwork
    choices: dict[tuple[int, int], EngineChoice] = field(default_factory=dict)

    def choice(self, images: np.ndarray, threads: int) -> EngineChoice:
        """The engines for a batch of images (n, C, H, W), float32; measured once."""
        key = len(images), threads
        if key not in self.choices:
            self.choices[key] = choose(self.network, images, threads)
        return self.choices[key]


class SparseSession:
    """A network with the memory for a batch, and the sessions of its dense stretches."""

    def __init__(self, program: Program, threads: int) -> None:
        self._program, self._threads = program, threads
        self._content: Content | None = program.content
        self._loaded: OrderedDict[int, Loaded] = OrderedDict()

    def run(self, samples: Arrays) -> Arrays:
        (images,) = as_inputs(samples, self._program.inputs)
        loaded = self._load(images)
        if loaded is None:
            return self._dense.run(images)
        loaded.images[...] = images
        loaded.run()
        return loaded.logits.copy()

    def bind(self, samples: Arrays) -> Callable[[], object]:
        (images,) = as_inputs(samples, self._program.inputs)
        self._open.choice(images, self._threads)
        loaded = self._load(images)
        if loaded is None:
            return self._dense.bind(images)
        loaded.images[...] = images
        return loaded.calls[0] if len(loaded.calls) == 1 else loaded.run

    def describe(self) -> dict[str, str | int]:
        layers = self._open.network.layers
        told = {
            f"batch {n}": f"{sum(e != Engine.DENSE for s, e in self._layers(choice))} of {len(layers)} layers sparse"
            for (n, threads), choice in self._open.choices.items()
            if threads == self._threads
        }
        return {
            "runtime": SPARSE.title,
            "version": SPARSE.version,
            "number format": self._program.number_format,
            "threads": self._threads,
            **told,
        }

    def close(self) -> None:
        self._content = None
        self._loaded.clear()

    @property
    def _open(self) -> Content:
        return still_open(self._content)

    def _layers(self, choice: EngineChoice) -> list[tuple[str, Kernel]]:
        network = self._open.network
        steps = zip(network.steps, choice.engines, strict=True)
        return [(step.output, engine) for step, engine in steps if step.output in network.layers]

    @cached_property
    def _dense(self) -> OnnxSession:
        """ONNX Runtime itself, where nothing is gained by dividing the network."""
        program = replace(self._program, runtime=ONNX_RUNTIME.name, content=self._open.network.data)
        return OnnxSession(program, self._threads)

    def _load(self, images: np.ndarray) -> Loaded | None:
        """Memory for a batch, in the division that was measured for it, or else for another; None for all dense."""
        n, choices = len(images), self._open.choices
        if n not in self._loaded:
            known = choices.get((n, self._threads)) or next(
                (choice for (_, threads), choice in choices.items() if threads == self._threads), None
            )
            chosen = known or self._open.choice(images[:1], self._threads)
            if set(chosen.engines) == {Engine.DENSE}:
                return None
            self._loaded[n] = lay_out(self._open.network, chosen.engines, n).load(self._threads)
            if len(self._loaded) > _KEPT:
                self._loaded.popitem(last=False)
        return self._loaded[n]


def plan(program: Program, samples: Arrays, threads: int = 1) -> list[LayerPlan]:
    """How each layer of a sparse program runs on a batch of samples, float32 (n, ...), and why."""
    content: Content = program.content
    (images,) = as_inputs(samples, program.inputs)
    choice = content.choice(images, threads)
    known: BreakEven = break_even(content.network, images, threads)
    rows = []
    for step, engine in zip(content.network.steps, choice.engines, strict=True):
        if step.output not in content.network.layers:
            continue
        weight, times = content.network.layers[step.output].weight, known.steps[step.output]
        storages = [each for each in times.storages if isinstance(each, Storage) and possible(weight, each)]
        sparse = [times.of(each, entries(weight, each)) for each in storages]
        rows.append(
            LayerPlan(
                weight=step.weight,
                density=np.count_nonzero(weight) / weight.size,
                form=engine.value,
                # Blocks are filled up with zeros beyond the last output; those are none of the layer's weights.
                multiplied=min(entries(weight, engine), weight.size) if isinstance(engine, Storage) else weight.size,
                break_even=known.density(content.network, step.output),
                dense_us=times.dense,
                sparse_us=min(sparse, default=None),
            )
        )
    return rows


def _build(runnable: Runnable, number_format: str) -> Program:
    network = SparseNetwork(runnable.module, runnable.inputs)
    parts = [graph_digest(network.data).encode()]
    parts += [np.packbits(layer.weight != 0).tobytes() for layer in network.layers.values()]
    digest = hashlib.sha256(b"".join(parts)).hexdigest()
    return Program(SPARSE.name, number_format, digest, inputs_of(runnable.inputs), Content(network))


def _profile(program: Program, samples: Arrays, threads: int, runs: int) -> dict[str, float]:
    """Each kernel is timed by itself, in turn with the others; dense stretches by ONNX Runtime's own profile."""
    content: Content = program.content
    network = content.network
    (images,) = as_inputs(samples, program.inputs)
    loaded = lay_out(network, content.choice(images, threads).engines, len(images)).load(threads)
    loaded.images[...] = images
    loaded.run()
    weights = {step.output: step.weight for step in network.steps if step.is_layer}
    times: defaultdict[str, float] = defaultdict(float)
    for stretch in loaded.tape.stretches:
        if stretch.operations is None:
            feeds = {name: loaded.value(name) for name in stretch.inputs}
            owners = node_owners(stretch.graph)
            for name, spent in session_times(stretch.graph, feeds, session_options(threads), runs).items():
                times[owners.get(name, OTHER)] += spent
        else:
            for output, spent in zip(stretch.owners, _kernel_times(loaded, stretch, runs), strict=True):
                times[weights.get(output, OTHER)] += spent
    return {name: times[name] for name in (*weights.values(), OTHER)}


def _kernel_times(loaded: Loaded, stretch: Stretch, runs: int) -> list[float]:
    """Microseconds of each operation, without what a call takes that does nothing."""
    tape, operations = loaded.tape, stretch.operations
    assert operations is not None  # dense stretches have a profile of their own
    arguments = (tape.n, loaded.work, tape.weights, tape.offsets, tape.pointers)
    calls = [operations[:0], *(operations[place : place + 1] for place in range(len(stretch.owners)))]
    samples: list[list[float]] = [[] for _ in calls]
    for _ in range(WARM_UP_RUNS + runs):
        for call, times in zip(calls, samples, strict=True):
            start = time.perf_counter()
            kernels.run(call, *arguments)
            times.append(1e6 * (time.perf_counter() - start))
    empty, *spent = (typical(times[WARM_UP_RUNS:]) for times in samples)
    return [max(each - empty, 0.0) for each in spent]


SPARSE = Runtime(
    name="sparse",
    title="Sparse kernels",
    summary="Float32 kernels that skip zero weights wherever that measures faster here, ONNX Runtime for the rest.",
    reference="Elsen et al., Fast Sparse ConvNets, 2019; Gale et al., Sparse GPU Kernels for Deep Learning, 2020",
    number_formats=("fp32",),
    version=f"numba {numba.__version__}, llvmlite {llvmlite.__version__}",
    build_as=_build,
    open=SparseSession,
    profile=_profile,
    plan=plan,
    sees_zeros=True,
)
