"""A network, or a part of it, laid out to be run: which engine runs which steps, and where everything lies in memory.

Engines take turns over stretches of steps: the kernels of this package, in one call a stretch, and ONNX Runtime. All
values lie in one array, so that nothing is copied where they change places.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from paretoscope.graph.operations import Operation
from paretoscope.runtimes import plans
from paretoscope.runtimes.sessions import open_session, session_options
from paretoscope.runtimes.sparse import kernels
from paretoscope.runtimes.sparse.layers import (
    BLOCKS,
    Packed,
    Planes,
    Storage,
    groups_of,
    pack_blocks,
    pack_conv,
    pack_rows,
)
from paretoscope.runtimes.sparse.network import Layer, SparseNetwork, integers


class Engine(StrEnum):
    """What runs a step that has no sparse weights: ONNX Runtime, or a kernel of this package."""

    DENSE = plans.DENSE
    OWN = "own"


# What runs a step: an engine, or the kernel for a storage of sparse weights.
Kernel = Engine | Storage

# Floats of a cache line.
_LINE = 16

Number = TypeVar("Number", bound=np.generic)


@dataclass(frozen=True, eq=False, slots=True)
class Stretch:
    """Steps first .. last - 1 in one engine. operations: int64 (operations, FIELDS), or None for ONNX Runtime."""

    first: int
    last: int
    operations: npt.NDArray[np.int64] | None
    owners: tuple[str, ...] = ()
    graph: bytes = b""
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False, slots=True)
class Tape:
    """A network laid out for n images. positions: of the values, in floats of an array of `size`."""

    n: int
    network: SparseNetwork
    stretches: tuple[Stretch, ...]
    positions: Mapping[str, int]
    size: int
    weights: npt.NDArray[np.float32]
    offsets: npt.NDArray[np.uint32]
    pointers: npt.NDArray[np.int64]

    def load(self, threads: int) -> "Loaded":
        """The tape in memory of its own, with the sessions of its dense stretches."""
        return Loaded(self, threads)


class Loaded:
    """A tape in memory: write `images`, call `run`, read `logits`. work: the array that holds all values."""

    def __init__(self, tape: Tape, threads: int) -> None:
        self.tape = tape
        raw = np.zeros(tape.size + _LINE, np.float32)
        first = -raw.ctypes.data // 4 % _LINE
        self.work = raw[first : first + tape.size]
        self.calls = [self._call(stretch, threads) for stretch in tape.stretches]

    @property
    def images(self) -> npt.NDArray[np.float32]:
        """The input, as a view: (n, C, H, W)."""
        return self.value(self.tape.network.input)

    @property
    def logits(self) -> npt.NDArray[np.float32]:
        """The output, as a view: (n, classes)."""
        return self.value(self.tape.network.output)

    def value(self, name: str) -> npt.NDArray[np.float32]:
        """A value for n images, as a view."""
        shape = self.tape.network.values[name].shape_for(self.tape.n)
        at = self.tape.positions[name]
        return self.work[at : at + int(np.prod(shape))].reshape(shape)

    def run(self) -> None:
        for call in self.calls:
            call()

    def _call(self, stretch: Stretch, threads: int) -> Callable[[], object]:
        if stretch.operations is None:
            return self._session(stretch, threads)
        tape = self.tape
        arguments = (stretch.operations, tape.n, self.work, tape.weights, tape.offsets, tape.pointers)
        return lambda: kernels.run(*arguments)

    def _session(self, stretch: Stretch, threads: int) -> Callable[[], object]:
        session = open_session(stretch.graph, session_options(threads))
        binding = session.io_binding()
        for bind, names in ((binding.bind_input, stretch.inputs), (binding.bind_output, stretch.outputs)):
            for name in names:
                value = self.value(name)
                bind(name, "cpu", 0, np.float32, value.shape, value.ctypes.data)
        return lambda: session.run_with_iobinding(binding)


def lay_out(
    network: SparseNetwork, engines: Sequence[Kernel], n: int, replaced: Mapping[str, Layer] | None = None
) -> Tape:
    """A tape of a network for n images.

    engines: for each step its engine, or the storage of its layer. replaced: other weights, by the layers' outputs.
    """
    stretches, first = [], 0
    layout = _Layout(network, n, {**network.layers, **(replaced or {})})
    for place in range(1, len(engines) + 1):
        if place == len(engines) or (engines[place] == Engine.DENSE) != (engines[first] == Engine.DENSE):
            stretches.append(layout.stretch(first, place, engines))
            first = place
    return layout.tape(stretches)


def lay_out_step(network: SparseNetwork, place: int, engine: Kernel, n: int, layer: Layer | None = None) -> Tape:
    """One step alone, in a kernel of this package."""
    step = network.steps[place]
    layout = _Layout(network, n, {**network.layers, **({step.output: layer} if layer else {})})
    engines = [engine] * len(network.steps)
    return layout.tape([layout.stretch(place, place + 1, engines)])


@dataclass
class _Layout:
    network: SparseNetwork
    n: int
    layers: Mapping[str, Layer]
    weights: list[npt.NDArray[np.float32]] = field(default_factory=list)
    offsets: list[npt.NDArray[np.uint32]] = field(default_factory=list)
    pointers: list[npt.NDArray[np.int64]] = field(default_factory=list)
    positions: dict[str, int] = field(default_factory=dict)
    scratch: dict[object, int] = field(default_factory=dict)
    size: int = 0

    def __post_init__(self) -> None:
        steps = self.network.steps
        self.last_read = {name: place for place, step in enumerate(steps) for name in step.sources}
        self.free: list[tuple[int, int]] = []
        self.used: list[tuple[int, int, int]] = []

    def tape(self, stretches: list[Stretch]) -> Tape:
        def joined(parts: list[npt.NDArray[Number]], kind: type[Number]) -> npt.NDArray[Number]:
            return np.concatenate([*parts, np.zeros(1, kind)]).astype(kind, copy=False)

        return Tape(
            self.n,
            self.network,
            tuple(stretches),
            dict(self.positions),
            self.size,
            joined(self.weights, np.float32),
            joined(self.offsets, np.uint32),
            joined(self.pointers, np.int64),
        )

    def stretch(self, first: int, last: int, engines: Sequence[Kernel]) -> Stretch:
        steps = self.network.steps[first:last]
        if engines[first] == Engine.DENSE:
            graph, inputs, outputs = self.network.segment(first, last)
            for name in (*inputs, *outputs):
                self._place(name, first)
            self._release(last)
            return Stretch(first, last, None, graph=graph, inputs=tuple(inputs), outputs=tuple(outputs))
        operations, owners = [], []
        for place, step in enumerate(steps, first):
            for name in step.sources:
                self._place(name, place)
            if step.node.op_type == "Reshape":
                self._alias(step.output, step.sources[0])
                continue
            self._place(step.output, place)
            operation = self._operation(step, engines[place])
            operations.append(operation + [0] * (kernels.FIELDS - len(operation)))
            owners.append(step.output)
            self._release(place + 1)
        table = np.array(operations, np.int64).reshape(-1, kernels.FIELDS)
        return Stretch(first, last, table, owners=tuple(owners))

    def _operation(self, step: Operation, engine: Kernel) -> list[int]:
        at, source = self.positions, step.sources[0]
        shape, out = self.network.values[source].shape, self.network.values[step.output].shape
        kind = step.node.op_type
        if kind == "Conv":
            return self._conv(step, shape, out)
        if kind == "Gemm":
            return self._linear(step, shape, out, engine)
        if kind == "Add":
            floats = self.network.values[source].floats
            return [kernels.ADD, at[source], at[step.sources[1]], at[step.output], floats, self._bounds(step)]
        if kind == "MaxPool":
            sizes = [*shape[1:], *out[2:], *integers(step, "kernel_shape"), *integers(step, "strides")]
            return [kernels.MAX_POOL, at[source], at[step.output], *sizes]
        if kind == "GlobalAveragePool":
            return [kernels.MEAN_POOL, at[source], at[step.output], shape[1], shape[2] * shape[3]]
        floats = self.network.values[source].floats
        return [kernels.CLAMP, at[source], at[step.output], floats, self._bounds(step)]

    def _conv(self, step: Operation, shape: tuple[int, ...], out: tuple[int, ...]) -> list[int]:
        layer, (_, channels, height, width), (_, _, out_h, out_w) = self.layers[step.output], shape, out
        _, _, kernel_h, kernel_w = layer.weight.shape
        dilation_h, dilation_w = integers(step, "dilations")
        pad_h, pad_w, *_ = integers(step, "pads")
        planes = Planes(
            height,
            width,
            out_h,
            out_w,
            kernel=(kernel_h, kernel_w),
            stride=integers(step, "strides")[0],
            dilation=(dilation_h, dilation_w),
            pad=(pad_h, pad_w),
        )
        (groups,) = integers(step, "group")
        weights = self._pack(pack_conv(layer.weight, groups, planes))
        at = -1
        if not planes.as_they_are:
            # Scratch of one use keeps the zeros around the image: only what lies inside is ever written.
            at = self._scratch(("planes", planes, channels), channels * planes.floats)
        sizes = [channels, height, width, planes.stride, *planes.pad, planes.plane_h, planes.phases]
        places = [planes.kernel[1], planes.dilation[1], at, *out[1:], *weights, self._bias(step, layer)]
        return [kernels.CONV, self.positions[step.sources[0]], self.positions[step.output], *sizes, *places]

    def _linear(self, step: Operation, shape: tuple[int, ...], out: tuple[int, ...], engine: Kernel) -> list[int]:
        layer, at = self.layers[step.output], self.positions
        ends = [at[step.sources[0]], at[step.output], shape[0], shape[1], out[1]]
        if isinstance(engine, Storage) and engine in BLOCKS:
            weights = self._pack(pack_blocks(layer.weight, engine))
            how = [BLOCKS[engine], groups_of(len(layer.weight), engine)]
            return [kernels.LINEAR, *ends, *how, *weights, self._bias(step, layer)]
        stride = _rounded(self.n * shape[0], kernels.LANES)
        x = self._scratch(("x", shape[1] * stride), shape[1] * stride)
        y = self._scratch(("y", out[1] * stride), out[1] * stride)
        weights = self._pack(pack_rows(layer.weight, stride))
        return [kernels.BATCHED, *ends, x, y, stride, *weights, self._bias(step, layer)]

    def _pack(self, packed: Packed) -> list[int]:
        """Where pointers, values and offsets went."""
        return [
            _append(self.pointers, packed.pointers),
            _append(self.weights, packed.values),
            _append(self.offsets, packed.offsets),
        ]

    def _bias(self, step: Operation, layer: Layer) -> int:
        return _append(self.weights, np.array([*layer.bias, *self.network.bounds(step)], np.float32))

    def _bounds(self, step: Operation) -> int:
        return _append(self.weights, np.array(self.network.bounds(step), np.float32))

    def _place(self, name: str, step: int) -> None:
        """Give a value room, that of one that is read no more where it fits."""
        if name in self.positions:
            return
        wanted = _rounded(self.n * self.network.values[name].floats + kernels.SLACK, _LINE)
        last = self.last_read.get(name, len(self.network.steps))
        for i, (start, room) in enumerate(self.free):
            # The caller fills in the images, and they stay.
            if room >= wanted and name != self.network.input:
                self.free[i : i + 1] = [(start + wanted, room - wanted)] if room > wanted else []
                break
        else:
            start, self.size = self.size, self.size + wanted
        self.positions[name] = start
        if name not in (self.network.input, self.network.output):
            self.used.append((last, start, wanted))

    def _alias(self, name: str, source: str) -> None:
        self.positions[name] = self.positions[source]
        last = self.last_read.get(name, len(self.network.steps))
        self.used = [
            (max(until, last) if start == self.positions[source] else until, start, room)
            for until, start, room in self.used
        ]

    def _release(self, place: int) -> None:
        """Take back the room of the values that no step from `place` on reads."""
        self.free += [(start, room) for last, start, room in self.used if last < place]
        self.used = [each for each in self.used if each[0] >= place]
        merged: list[tuple[int, int]] = []
        for start, room in sorted(self.free):
            if merged and sum(merged[-1]) == start:
                merged[-1] = merged[-1][0], merged[-1][1] + room
            else:
                merged.append((start, room))
        self.free = merged

    def _scratch(self, key: object, floats: int) -> int:
        if key not in self.scratch:
            self.scratch[key] = self.size
            self.size += _rounded(floats + kernels.SLACK, _LINE)
        return self.scratch[key]


def _rounded(count: int, multiple: int) -> int:
    return -(-count // multiple) * multiple


def _append(parts: list[npt.NDArray[Number]], added: npt.NDArray[Number]) -> int:
    start = sum(map(len, parts))
    parts.append(added)
    return start
