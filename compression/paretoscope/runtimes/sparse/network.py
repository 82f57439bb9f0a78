"""A network as the sparse runtime sees it: steps, the shapes of what flows between them, folded weights."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper
from torch import nn

from paretoscope.base.errors import ModelError
from paretoscope.graph.folds import fold_layers, state_of
from paretoscope.graph.operations import Operation, Operations
from paretoscope.graph.trace import OPSET, Inputs, inputs_of
from paretoscope.runtimes.onnx_graph import IR_VERSION, serialize, trace
from paretoscope.runtimes.sessions import open_session


@dataclass(frozen=True, slots=True)
class Value:
    """A value between two steps. shape: for one image. axis: that grows with the batch, or None where none does."""

    shape: tuple[int, ...]
    axis: int | None
    kind: np.dtype[Any]

    def shape_for(self, n: int) -> tuple[int, ...]:
        """The shape for n images."""
        return tuple(n * size if axis == self.axis else size for axis, size in enumerate(self.shape))

    @property
    def floats(self) -> int:
        """Floats an image."""
        return int(np.prod(self.shape))

    @property
    def may_cross(self) -> bool:
        """Whether it can be handed from one engine to another: floats, so many for each image."""
        return self.kind == np.float32 and self.axis is not None

    @property
    def by_image(self) -> bool:
        """Whether all floats of an image lie together."""
        return self.may_cross and self.axis == 0


@dataclass(frozen=True, eq=False, slots=True)
class Layer:
    """weight, bias: float32, batch normalisation folded in; (O, C / groups, kernel_h, kernel_w) or (O, I), and (O,)."""

    weight: npt.NDArray[np.float32]
    bias: npt.NDArray[np.float32]


def integers(step: Operation, name: str) -> tuple[int, ...]:
    """The integers of an attribute of a step's node, one or more; KeyError where it has none of that name."""
    for attribute in step.node.attribute:
        if attribute.name == name:
            return tuple(attribute.ints) if attribute.type == onnx.AttributeProto.INTS else (attribute.i,)
    raise KeyError(name)


class SparseNetwork:
    """A network for the sparse runtime. steps: in the order of execution. values: by name. layers: by their output.

    input, output: their names. Raises ModelError as `export_fp32` does, and for a network of several inputs or outputs,
    or of an input that is not float32.
    """

    def __init__(self, module: nn.Module, inputs: Inputs) -> None:
        self.model = trace(module, inputs)
        state = state_of(module)
        grouped = Operations(self.model, state)
        if len(grouped.inputs) != 1 or len(grouped.outputs) != 1 or len(grouped.float_inputs) != 1:
            raise ModelError(
                "the sparse runtime takes networks of one float32 input and one output; this one has the inputs "
                f"{', '.join(grouped.inputs)} and the outputs {', '.join(grouped.outputs)}. Measure it in ONNX Runtime."
            )
        (self.input,), (self.output,) = grouped.inputs, grouped.outputs
        self.input_shape = inputs_of(inputs)[0].shape
        self.steps: list[Operation] = grouped.steps
        self.constants = grouped.constants
        self.values = self._values()
        self.layers: dict[str, Layer] = {}
        for output, fold in fold_layers(grouped, state).items():
            factor = fold.factor.reshape(-1, *[1] * (fold.weight.ndim - 1))
            bias = np.zeros(len(fold.factor)) if fold.bias is None else fold.bias
            self.layers[output] = Layer(
                np.ascontiguousarray(fold.weight.numpy() * factor, np.float32), bias.astype(np.float32)
            )

    @cached_property
    def data(self) -> bytes:
        """The whole network as the ONNX file that `export_fp32` gives."""
        return serialize(self.model)

    def _values(self) -> dict[str, Value]:
        names = [step.output for step in self.steps]
        exposed = onnx.ModelProto()
        exposed.CopyFrom(self.model)
        del exposed.graph.output[:]
        exposed.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
        session = open_session(exposed.SerializeToString())
        one, two = (session.run(names, {self.input: np.zeros((n, *self.input_shape), np.float32)}) for n in (1, 2))
        values = {self.input: Value((1, *self.input_shape), 0, np.dtype(np.float32))}
        for name, single, double in zip(names, one, two, strict=True):
            grown = [axis for axis, (a, b) in enumerate(zip(single.shape, double.shape, strict=True)) if a != b]
            axis = grown[0] if len(grown) == 1 and double.size == 2 * single.size else None
            values[name] = Value(single.shape, axis, single.dtype)
        return values

    def bounds(self, step: Operation) -> tuple[float, float]:
        """The least and the largest value that the activation of a step lets through."""
        activation = step.activation or step.node
        if activation.op_type == "Relu":
            return 0.0, np.inf
        if activation.op_type == "Clip":
            low, high = (float(self.constants[name]) for name in activation.input[1:])
            return low, high
        return -np.inf, np.inf

    def is_own(self, step: Operation) -> bool:
        """Whether the kernels of this package can run a step."""
        kind = step.node.op_type
        if not all(self.values[name].by_image for name in (*step.sources, step.output)):
            return False
        maps = len(self.values[step.output].shape) == 4
        if kind == "Conv":
            pads = integers(step, "pads")
            even = len(set(integers(step, "strides"))) == 1 and pads[: len(pads) // 2] == pads[len(pads) // 2 :]
            return step.is_layer and maps and even
        if kind == "Gemm":
            return step.is_layer
        if kind == "MaxPool":
            padded, dilations = any(integers(step, "pads")), set(integers(step, "dilations"))
            return maps and not padded and dilations == {1} and integers(step, "ceil_mode") == (0,)
        if kind == "Add":
            return len(step.sources) == 2 and len({self.values[name].shape for name in step.sources}) == 1
        if kind == "Reshape":
            return len(step.sources) == 1
        return kind in ("Relu", "Clip") or (kind == "GlobalAveragePool" and maps)

    def crossing(self, place: int) -> set[str]:
        """The values that exist before step `place` and are read at or after it."""
        before = {self.input, *(step.output for step in self.steps[:place])}
        read = {name for step in self.steps[place:] for name in step.sources}
        return before & read if place < len(self.steps) else {self.output}

    def may_cut(self, place: int) -> bool:
        """Whether another engine may go on at step `place`."""
        return all(self.values[name].may_cross for name in self.crossing(place))

    def segment(self, first: int, last: int) -> tuple[bytes, list[str], list[str]]:
        """Steps first .. last - 1 as an ONNX file, with the values that it takes and gives."""
        steps = self.steps[first:last]
        made = {step.output for step in steps}
        read = {name for step in steps for name in step.sources}
        inputs = sorted(self.crossing(first) & read)
        outputs = sorted(made & self.crossing(last))
        nodes = [part for step in steps for part in (step.node, step.norm, step.activation) if part is not None]
        used = {name for node in nodes for name in node.input}
        graph = helper.make_graph(
            nodes,
            "segment",
            [self._described(name) for name in inputs],
            [self._described(name) for name in outputs],
            [tensor for tensor in self.model.graph.initializer if tensor.name in used],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
        return serialize(model), inputs, outputs

    def _described(self, name: str) -> onnx.ValueInfoProto:
        value = self.values[name]
        shape = [None if axis == value.axis else size for axis, size in enumerate(value.shape)]
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
