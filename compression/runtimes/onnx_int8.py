"""The static int8 ONNX file of a compressed model: its own integer codes and scales, never a second quantization.

Weights stand in the file as the int8 codes and scales that the artefact holds; batch normalisation is folded into the
scales. Activations are uint8, with ranges seen on calibration images. QuantizeLinear and DequantizeLinear nodes (QDQ)
say so, and ONNX Runtime turns what is between them into integer kernels: all convolutions and linear layers, and the
additions and pools among them. Softmax, layer normalisation, GELU and what they are added to stay float.
Scheme: Jacob et al., Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference,
2018.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper, numpy_helper
from torch import nn

from compression.errors import ModelError
from compression.runtimes.onnx_graph import make_model, serialize, trace, verify
from compression.runtimes.onnx_trace import INPUT, OUTPUT
from compression.runtimes.threads import open_session
from compression.tensors import CompressedTensor, as_integers

Range = tuple[float, float]

# Beside layers, these can take codes and give codes: the first only move them, the second need a scale of their own.
_MOVES = {"MaxPool", "Reshape", "Transpose"}
_MIXES = {"Add", "GlobalAveragePool"}

_LEVELS = 255
# Below these, values are zeros for every purpose, but products of scales would leave the range of float32.
_LEAST_RANGE = 1e-12
_LEAST_SCALE = 1e-20
# A bias is an int32 in units of (input scale * weight scale). Above this it leaves no room for the sum it is added to,
# which is then too small beside it to matter.
_BIAS_LIMIT = 2.0**30
_BIAS_OF_DEAD_CHANNEL = 2.0**24
_CHUNK = 32


def export_int8(
    module: nn.Module,
    input_shape: tuple[int, int, int],
    weights: Mapping[str, CompressedTensor],
    calibration_images: np.ndarray,
) -> bytes:
    """One ONNX file with the input and the output of `export_fp32`, and integers within.

    module: the decoded model, in evaluation mode. weights: its compressible tensors by state-dict name, under which
    their codes stand in the file, negated for channels with a negative batch normalisation factor.
    calibration_images: float32 (n, C, H, W), of the train split. Equal arguments give equal bytes.
    Raises ModelError for weights of more than 8 bits, for activations that are not finite, and as `export_fp32` does.
    """
    model = trace(module, input_shape)
    images = np.ascontiguousarray(calibration_images, dtype=np.float32)
    if images.ndim != 4 or images.shape[1:] != tuple(input_shape) or len(images) < 1:
        raise ModelError(
            f"calibration needs images of shape (n, {', '.join(map(str, input_shape))}); got {images.shape}. "
            "Pass some of the train split."
        )
    graph = _Graph(model, weights)
    writer = _Writer(graph, _observe(model, sorted(graph.coded - {INPUT}), module, images))
    classes = model.graph.output[0].type.tensor_type.shape.dim[1].dim_value
    return serialize(make_model(writer.nodes, writer.initializers, OUTPUT, input_shape, (classes,)))


@dataclass(frozen=True, slots=True)
class _Step:
    """A node, with the batch normalisation and the activation that follow it and nothing else reads before them."""

    node: onnx.NodeProto
    norm: onnx.NodeProto | None
    activation: onnx.NodeProto | None

    @property
    def output(self) -> str:
        return (self.activation or self.norm or self.node).output[0]


class _Graph:
    """The fp32 graph in steps, with what runs on integers.

    integer: outputs of the steps that do. coded: values that exist as uint8 codes.
    """

    def __init__(self, model: onnx.ModelProto, weights: Mapping[str, CompressedTensor]) -> None:
        self.weights = weights
        self.initializers = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        self.steps = self._grouped(model.graph.node)
        self.producers = {step.output: step for step in self.steps}
        self.readers: dict[str, list[_Step]] = {}
        for step in self.steps:
            for name in self.inputs(step):
                self.readers.setdefault(name, []).append(step)
        self.integer = self._integer_steps()
        integer = [step for step in self.steps if step.output in self.integer]
        self.coded = {name for step in integer for name in self.inputs(step)}
        self.coded.update(step.output for step in integer if self.gives_codes(step.output))

    def is_layer(self, node: onnx.NodeProto) -> bool:
        return (
            node.op_type in ("Conv", "Gemm")
            and node.input[1] in self.weights
            and node.input[0] not in self.initializers
        )

    def inputs(self, step: _Step) -> list[str]:
        """The values that a step takes, without weights and constants."""
        return [name for name in step.node.input if name not in self.initializers]

    def gives_codes(self, name: str) -> bool:
        """Whether a value comes from its step as codes alone. A linear layer may also give floats, at no extra cost."""
        if name not in self.integer:
            return False
        return self.producers[name].node.op_type != "Gemm" or self._read_only_by(self.integer, name)

    def _read_only_by(self, steps: set[str], name: str) -> bool:
        return name in self.readers and all(step.output in steps for step in self.readers[name])

    def _grouped(self, nodes: Sequence[onnx.NodeProto]) -> list[_Step]:
        readers: dict[str, list[onnx.NodeProto]] = {}
        for node in nodes:
            for name in node.input:
                readers.setdefault(name, []).append(node)

        def follower(node: onnx.NodeProto, ops: set[str]) -> onnx.NodeProto | None:
            following = readers.get(node.output[0], [])
            return following[0] if len(following) == 1 and following[0].op_type in ops else None

        steps: list[_Step] = []
        followers: set[str] = set()
        for node in nodes:
            if node.output[0] in followers:
                continue
            layer = self.is_layer(node)
            norm = follower(node, {"BatchNormalization"}) if layer and node.op_type == "Conv" else None
            activation = follower(norm or node, {"Clip", "Relu"}) if layer or node.op_type == "Add" else None
            if activation is not None and not self._keeps_zero(activation):
                activation = None
            followers.update(part.output[0] for part in (norm, activation) if part is not None)
            steps.append(_Step(node, norm, activation))
        return steps

    def _keeps_zero(self, activation: onnx.NodeProto) -> bool:
        """Whether zero, which every range of codes includes, lies within the bounds of an activation."""
        if activation.op_type == "Relu":
            return True
        low, high = (self.initializers[name] for name in activation.input[1:])
        return low <= 0 <= high

    def _integer_steps(self) -> set[str]:
        """All layers, and the largest set of other steps that take codes from integer steps and give codes to them."""
        layers = {step.output for step in self.steps if self.is_layer(step.node)}
        others = [step for step in self.steps if step.node.op_type in _MOVES | _MIXES]
        while True:
            integer = layers | {step.output for step in others}
            kept = [
                step
                for step in others
                if self._read_only_by(integer, step.output)
                and all(name == INPUT or name in integer for name in self.inputs(step))
            ]
            if len(kept) == len(others):
                return integer
            others = kept


def _observe(model: onnx.ModelProto, names: Sequence[str], module: nn.Module, images: np.ndarray) -> dict[str, Range]:
    """Least and largest value, zero included, of the named values and of the input, over the images."""
    observed = onnx.ModelProto()
    observed.CopyFrom(model)
    extremes = [f"{name}:{op}" for name in names for op in ("ReduceMin", "ReduceMax")]
    for extreme in extremes:
        name, _, op = extreme.rpartition(":")
        observed.graph.node.append(helper.make_node(op, [name], [extreme], keepdims=0))
        observed.graph.output.append(helper.make_empty_tensor_value_info(extreme))
    session = open_session(observed.SerializeToString())
    verify(session, module, images[:2])
    seen = []
    for start in range(0, len(images), _CHUNK):
        chunk = images[start : start + _CHUNK]
        seen.append([chunk.min(), chunk.max(), *session.run(extremes, {INPUT: chunk})])
    ranges = {}
    for name, low, high in zip((INPUT, *names), np.min(seen, 0)[::2], np.max(seen, 0)[1::2], strict=True):
        if not (np.isfinite(low) and np.isfinite(high)):
            raise ModelError(
                f"activations must be finite to be quantized; {name} reaches from {low} to {high} on the calibration "
                "images. Check the images, or use a recipe of 16 bits or more."
            )
        ranges[name] = min(float(low), 0.0), max(float(high), 0.0)
    return ranges


class _Writer:
    """The steps of a graph written again, with codes where the graph has them.

    coding: for each coded value, the name under which its scale and zero point stand.
    """

    def __init__(self, graph: _Graph, ranges: Mapping[str, Range]) -> None:
        self.graph = graph
        self.nodes: list[onnx.NodeProto] = []
        self.initializers = dict(graph.initializers)
        self.coding = {name: name for name in ranges}
        for name, (low, high) in ranges.items():
            scale = np.float32(max(high - low, _LEAST_RANGE) / _LEVELS)
            self.initializers[f"{name}:scale"] = scale
            self.initializers[f"{name}:zero_point"] = np.uint8(np.clip(np.rint(-low / scale), 0, _LEVELS))
        if INPUT in graph.coded:
            self._encode(INPUT)
        for step in graph.steps:
            self._write(step)

    def _write(self, step: _Step) -> None:
        name, integer = step.output, step.output in self.graph.integer
        inputs = [self._read(source, integer) for source in step.node.input]
        norm, activation = step.norm, step.activation
        if integer and self.graph.is_layer(step.node):
            inputs[1:] = self._layer(step)
            norm = None
        if self.graph.gives_codes(name):
            # Codes saturate at the ends of the observed range, which lies within the bounds of the activation.
            activation = None
        self._append(step.node, inputs)
        for part in (norm, activation):
            if part is not None:
                self._append(part, [self.nodes[-1].output[0], *part.input[1:]])
        self.nodes[-1].output[0] = name
        if integer and step.node.op_type in _MOVES:
            self.coding[name] = self.coding[step.node.input[0]]
        if name in self.graph.coded:
            self._encode(name)

    def _append(self, node: onnx.NodeProto, inputs: Sequence[str]) -> None:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        copy.ClearField("input")
        copy.input.extend(inputs)
        self.nodes.append(copy)

    def _read(self, name: str, integer: bool) -> str:
        """Under which name a step reads a value: the decoded codes if it wants them, or if there is nothing else."""
        decoded = name in self.graph.coded and (integer or self.graph.gives_codes(name))
        return f"{name}:decoded" if decoded else name

    def _encode(self, name: str) -> None:
        parameters = [f"{self.coding[name]}:scale", f"{self.coding[name]}:zero_point"]
        self.nodes.append(helper.make_node("QuantizeLinear", [name, *parameters], [f"{name}:codes"]))
        self.nodes.append(helper.make_node("DequantizeLinear", [f"{name}:codes", *parameters], [f"{name}:decoded"]))

    def _layer(self, step: _Step) -> list[str]:
        """Weight and bias of a layer as decoded integers: the names under which the node reads them."""
        codes, scale, bias = self._folded(step)
        input_scale = float(self.initializers[f"{self.coding[step.node.input[0]]}:scale"])
        if bias is not None:
            dead = np.abs(bias) > _BIAS_LIMIT * input_scale * scale
            codes[dead] = 0
            scale[dead] = np.abs(bias[dead]) / (_BIAS_OF_DEAD_CHANNEL * input_scale)
        scale = np.maximum(scale, _LEAST_SCALE).astype(np.float32)
        weight = step.node.input[1]
        if f"{weight}:scale" in self.initializers:
            weight = f"{weight}:{step.output}"  # a weight that several layers share is folded differently in each
        names = [self._decoded(weight, codes, scale)]
        if bias is not None:
            unit = np.float32(input_scale) * scale
            names.append(self._decoded(f"{step.output}:bias", np.rint(bias / unit).astype(np.int32), unit))
        return names

    def _folded(self, step: _Step) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Codes (int8), scale of each output channel and bias (float64) of a layer and its batch normalisation."""
        tensor = as_integers(self.graph.weights[step.node.input[1]])
        scale = np.full(len(tensor.codes), tensor.scale, np.float64)
        bias = self.initializers[step.node.input[2]].astype(np.float64) if len(step.node.input) > 2 else None
        if step.norm is None:
            return tensor.codes.astype(np.int8), scale, bias
        gamma, beta, mean, variance = (self.initializers[name].astype(np.float64) for name in step.norm.input[1:])
        factor = gamma / np.sqrt(variance + helper.get_node_attr_value(step.norm, "epsilon"))
        sign = np.where(factor < 0, -1, 1).astype(np.int8).reshape(-1, *[1] * (tensor.codes.ndim - 1))
        bias = beta + factor * ((0 if bias is None else bias) - mean)
        return tensor.codes.astype(np.int8) * sign, scale * np.abs(factor), bias

    def _decoded(self, name: str, codes: np.ndarray, scale: np.ndarray) -> str:
        self.initializers[name] = codes
        self.initializers[f"{name}:scale"] = scale
        # ONNX Runtime has no integer Gemm for a weight whose zero point is left out.
        self.initializers[f"{name}:zero_point"] = np.zeros(len(scale), codes.dtype)
        inputs = [name, f"{name}:scale", f"{name}:zero_point"]
        self.nodes.append(helper.make_node("DequantizeLinear", inputs, [f"{name}:decoded"], axis=0))
        return f"{name}:decoded"
