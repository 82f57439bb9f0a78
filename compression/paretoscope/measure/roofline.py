"""The roofline: how long each layer must take at least, by its arithmetic and its bytes.

Williams, Waterman and Patterson (2009), "Roofline: An Insightful Visual Performance Model for Multicore
Architectures": a kernel that does W operations on Q bytes takes max(W / peak, Q / bandwidth). Small networks fit into
caches, so bandwidth is that of a set of the network's size; and they take little time, so what a runtime spends on
each call and each node is added.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import torch
from torch import nn

from paretoscope.base.batch import joined
from paretoscope.base.errors import ModelError
from paretoscope.graph.network_graph import DTYPES
from paretoscope.graph.operations import Operations
from paretoscope.graph.trace import BATCH, Inputs, inputs_of, record
from paretoscope.measure.layers import count_macs, layer_kinds
from paretoscope.measure.subject import Subject
from paretoscope.model.compressed import CompressedModel
from paretoscope.model.kinds import LayerKind
from paretoscope.model.tensors import CompressedTensor, integers_of
from paretoscope.runtimes.onnx_graph import make_model
from paretoscope.runtimes.profiles import OTHER

Bound = Literal["compute", "memory", "overhead"]

# A non-zero weight of a sparse layer: a float32 and an int32 that says where it belongs.
SPARSE_BYTES = 8
# Steps that only say how a value is to be read; a runtime moves nothing for them.
VIEWS = {"Reshape", "Shape"}


@dataclass(frozen=True, slots=True)
class LayerWork:
    """What a layer has to do for one batch, at least.

    name: of its weight in the state dict, or "other" for all that belongs to none.
    macs: multiply-accumulate operations. weights: entries of the weight. weight_bytes: of weight and bias as they are
    run: 4 a float, 1 an integer. input_bytes, output_bytes: of activations, each value read and written once by each
    step that uses it. nodes: steps that a runtime takes, a layer with its normalisation and activation being one.
    integer: whether it runs on integer kernels.
    """

    name: str
    kind: LayerKind
    macs: int
    weights: int
    weight_bytes: int
    input_bytes: int
    output_bytes: int
    nodes: int = 1
    integer: bool = False

    @property
    def flops(self) -> int:
        """Operations: a multiplication and an addition for each MAC."""
        return 2 * self.macs

    @property
    def activation_bytes(self) -> int:
        return self.input_bytes + self.output_bytes

    @property
    def bytes(self) -> int:
        return self.weight_bytes + self.activation_bytes

    @property
    def intensity(self) -> float:
        """Arithmetic intensity, operations a byte."""
        return self.flops / self.bytes if self.bytes else 0.0

    def sparse(self, nonzero: float) -> "LayerWork":
        """The work of a float kernel that stores and multiplies that share of the weights alone."""
        if not 0 <= nonzero <= 1:
            raise ModelError(f"a share of weights must be in [0, 1]; got {nonzero}. Pass a fraction, e.g. 0.05.")
        kept = round(self.weights * nonzero)
        dense_bytes = self.weights * (1 if self.integer else 4)
        return dataclasses.replace(
            self,
            macs=round(self.macs * nonzero),
            weight_bytes=self.weight_bytes - dense_bytes + SPARSE_BYTES * kept,
            integer=False,
        )


def layer_work(
    subject: Subject,
    compressed: CompressedModel,
    batch: int = 1,
    size: int | None = None,
    number_format: str = "fp32",
) -> list[LayerWork]:
    """The work of a compressed model's layers in the order of the state dict, and last of the rest ("other").

    size: height and width of the images; None for the model's own. number_format: "fp32", or "int8" for integer kernels
    where the weights have at most 8 bits. Nothing is timed: one image is run. Raises ModelError.
    """
    inputs = subject.network.inputs
    if size is not None:
        # A size is chosen for images alone, as `Subject.resized` checks.
        inputs = (dataclasses.replace(inputs[0], shape=(inputs[0].shape[0], size, size)),)
    return module_work(subject.decoded(compressed), inputs, compressed.weights, batch, number_format)


def module_work(
    module: nn.Module,
    inputs: Inputs,
    weights: Mapping[str, CompressedTensor],
    batch: int = 1,
    number_format: str = "fp32",
) -> list[LayerWork]:
    """The work of a module's layers, as `layer_work` gives it, in evaluation mode.

    inputs: of one sample. weights: its compressible tensors, by state-dict name.
    """
    if isinstance(batch, bool) or not isinstance(batch, int) or batch < 1:
        raise ModelError(f"batch must be a whole number of at least 1; got {batch!r}. Pass e.g. 1.")
    if number_format not in ("fp32", "int8"):
        raise ModelError(f"the number format must be fp32 or int8; got {number_format}. Pass one of these.")
    try:
        trace = record(module, inputs)
        zeros = (torch.zeros(1, *each.shape, dtype=DTYPES[each.dtype]) for each in inputs_of(inputs))
        macs = count_macs(module, joined(tuple(zeros)))
    except RuntimeError as error:
        taken = " and ".join(str(each.shape) for each in inputs_of(inputs))
        raise ModelError(
            f"the model must take images of {taken}; PyTorch says: {error}. Choose another size."
        ) from None
    outputs = {name: (trace.name(each), each.dtype, tuple(each.shape[1:])) for name, each in trace.outputs}
    graph = make_model(trace.nodes, trace.initializers, trace.inputs, outputs)
    shapes = {**trace.shapes, **{name: tuple(each.shape) for name, each in trace.outputs}}
    steps = Operations(graph, weights)
    codes = steps.codes(_integer_outputs(steps, weights) if number_format == "int8" else frozenset())

    def activation_bytes(name: str) -> int:
        """Bytes of a value for the batch; its traced shape is that of BATCH images."""
        return math.prod(map(int, shapes[name])) * batch * (1 if name in codes.coded else 4) // BATCH

    kinds = layer_kinds(module)
    rows = {
        name: LayerWork(name, kinds.get(name, LayerKind.OTHER), 0, 0, 0, 0, 0, nodes=0) for name in (*weights, OTHER)
    }
    for step in steps.steps:
        name = next((name for name in step.node.input if name in weights), OTHER)
        row, integer = rows[name], step.output in codes.integer
        constants = [trace.initializers[other] for other in step.node.input[1:] if other in trace.initializers]
        moved = 0 if step.node.op_type in VIEWS else 1
        rows[name] = dataclasses.replace(
            row,
            weights=row.weights + (constants[0].size if name != OTHER else 0),
            weight_bytes=row.weight_bytes + moved * _constant_bytes(constants, integer and step.is_layer),
            input_bytes=row.input_bytes + moved * sum(map(activation_bytes, step.sources)),
            output_bytes=row.output_bytes + moved * activation_bytes(step.output),
            nodes=row.nodes + 1,
            integer=row.integer or (integer and name != OTHER),
        )
    for name, count in macs.items():
        row = rows[name if name in rows else OTHER]
        rows[row.name] = dataclasses.replace(row, macs=row.macs + batch * count)
    return list(rows.values())


def _integer_outputs(steps: Operations, weights: Mapping[str, CompressedTensor]) -> frozenset[str]:
    """The outputs of the layers whose weights integer kernels can take."""
    integer = {name for name, tensor in weights.items() if integers_of(tensor) is not None}
    return frozenset(step.output for step in steps.steps if step.is_layer and step.weight in integer)


def _constant_bytes(constants: Sequence[np.ndarray], integer: bool) -> int:
    """Bytes of the tensors that a step has for itself, the weight first; biases have 4 bytes an entry everywhere."""
    return sum(tensor.size * (1 if integer and i == 0 else 4) for i, tensor in enumerate(constants))


class Hardware(Protocol):
    """What an estimate needs to know of a machine or a device; units are operations, bytes and seconds."""

    @property
    def call_s(self) -> float: ...

    def peak(self, kind: LayerKind, integer: bool) -> float: ...

    def overhead(self, kind: LayerKind) -> float: ...

    def bandwidth_at(self, size: float) -> float: ...

    def activation_bandwidth(self, kind: LayerKind, size: float) -> float: ...


@dataclass(frozen=True, slots=True)
class LayerEstimate:
    """Seconds of a layer: its arithmetic at peak, its bytes at full bandwidth, its nodes' overhead; and which is most.

    The first two overlap, the third comes on top.
    """

    name: str
    compute_s: float
    memory_s: float
    overhead_s: float

    @property
    def roof_s(self) -> float:
        """The least time that arithmetic and bytes allow."""
        return max(self.compute_s, self.memory_s)

    @property
    def seconds(self) -> float:
        return self.roof_s + self.overhead_s

    @property
    def bound(self) -> Bound:
        """What takes most of the time; between equals, memory."""
        if self.overhead_s > self.roof_s:
            return "overhead"
        return "compute" if self.compute_s > self.memory_s else "memory"


@dataclass(frozen=True, slots=True)
class Estimate:
    """The time of a whole call. seconds: its layers and the call itself (call_s). layers: in the order of the work."""

    seconds: float
    call_s: float
    layers: tuple[LayerEstimate, ...]


def estimate(work: Sequence[LayerWork], hardware: Hardware) -> Estimate:
    """How long the work takes where every kernel reaches the hardware's limits.

    Weights come from where all weights fit with the largest layer's activations, since the next call needs them again;
    a layer's activations from where they fit themselves, since they were just written. For a sparse kernel pass
    `LayerWork.sparse` of the layers that have one.
    """
    resident = resident_bytes(work)
    layers = tuple(
        LayerEstimate(
            name=layer.name,
            compute_s=layer.flops / hardware.peak(layer.kind, layer.integer),
            memory_s=layer.weight_bytes / hardware.bandwidth_at(resident)
            + layer.activation_bytes / hardware.activation_bandwidth(layer.kind, layer.activation_bytes),
            overhead_s=layer.nodes * hardware.overhead(layer.kind),
        )
        for layer in work
    )
    return Estimate(hardware.call_s + math.fsum(layer.seconds for layer in layers), hardware.call_s, layers)


def peak_activation_bytes(work: Sequence[LayerWork]) -> int:
    """Bytes of the activations that must be there at once, at least: the most that one layer reads and writes."""
    return max((layer.activation_bytes for layer in work if layer.name != OTHER), default=0)


def resident_bytes(work: Sequence[LayerWork]) -> int:
    """Bytes that must be at hand for a call: all weights and the activations of the largest layer."""
    return sum(layer.weight_bytes for layer in work) + peak_activation_bytes(work)
