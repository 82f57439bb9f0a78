"""The static int8 ONNX file of a compressed model: its own integer codes and scales, never a second quantization.

Weights stand in the file as the int8 codes and scales that the artefact holds; batch normalisation is folded into the
scales. Activations are uint8, on the grids of the calibrated network, which is what accuracy is measured on.
QuantizeLinear and DequantizeLinear nodes (QDQ) say so, and ONNX Runtime turns what is between them into integer
kernels: the convolutions and linear layers whose weights have at most 8 bits, and the additions and pools among them.
Softmax, layer normalisation, GELU and what they are added to stay float.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import helper
from torch import nn

from paretoscope.graph.operations import MOVES, Operation
from paretoscope.graph.trace import Inputs
from paretoscope.model.tensors import CompressedTensor
from paretoscope.runtimes.integer.blueprint import IntegerNetwork, simulate
from paretoscope.runtimes.onnx_graph import Arrays, make_model, serialize


def export_int8(
    module: nn.Module,
    inputs: Inputs,
    weights: Mapping[str, CompressedTensor],
    calibration: Arrays,
    ranges: Mapping[str, tuple[float, float]] | None = None,
) -> bytes:
    """One ONNX file with the input and the output of `export_fp32`, and integers within.

    module: the decoded model, in evaluation mode. weights: its compressible tensors by state-dict name, under which
    their codes stand in the file, negated for channels with a negative batch normalisation factor; those of more than
    8 bits stand as floats. calibration: samples (n, ...) of the train split. ranges: of activations, as
    `Blueprint.calibrate` takes them. Equal arguments give equal bytes. Raises ModelError for activations that are not
    finite, and as `export_fp32` does.
    """
    return write_int8(simulate(module, inputs, weights, calibration, ranges))


def write_int8(network: IntegerNetwork) -> bytes:
    """One ONNX file, as `export_int8` writes it, of a network that is calibrated already."""
    writer = _Writer(network)
    known = network.blueprint
    return serialize(make_model(writer.nodes, writer.initializers, known.inputs, known.outputs))


class _Writer:
    """The steps of a network as nodes, with codes where the network has them.

    coding: for each coded value, the name under which its scale and zero point stand.
    """

    def __init__(self, network: IntegerNetwork) -> None:
        self.network = network
        self.codes = network.codes
        steps = network.blueprint.steps
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, np.ndarray] = {
            **steps.constants,
            **{name: network.state[name].numpy() for name in steps.weights},
        }
        # Weights whose floats are read somewhere; their codes need names of their own.
        self.written = {
            name
            for step in steps.steps
            for place, name in enumerate(step.node.input)
            if name in steps.weights and not (step.output in network.layers and place)
        }
        self.coding = {name: name for name in self.codes.scaled}
        for name in self.codes.scaled:
            self.initializers[f"{name}:scale"] = np.array(network.grids[name].scale)
            self.initializers[f"{name}:zero_point"] = np.array(network.grids[name].zero, np.uint8)
        for name in steps.inputs:
            if name in self.codes.coded:
                self._encode(name, name)
        for step in steps.steps:
            self._write(step)

    def _write(self, step: Operation) -> None:
        name, integer = step.output, step.output in self.codes.integer
        inputs = [self._read(source, integer) for source in step.node.input]
        norm, activation = step.norm, step.activation
        if name in self.network.layers:
            inputs[1:] = self._layer(step)
            norm = None
        if self.codes.gives_codes(name):
            # Codes saturate at the ends of the observed range, which lies within the bounds of the activation.
            activation = None
        self._append(step.node, inputs)
        for part in (norm, activation):
            if part is not None:
                self._append(part, [self.nodes[-1].output[0], *part.input[1:]])
        # An output of the network that exists as codes alone is what they mean.
        value = f"{name}:raw" if self._is_decoded_output(name) else name
        self.nodes[-1].output[0] = value
        if integer and step.node.op_type in MOVES:
            self.coding[name] = self.coding[step.node.input[0]]
        if name in self.codes.coded:
            self._encode(name, value)

    def _is_decoded_output(self, name: str) -> bool:
        return name in self.network.blueprint.steps.outputs and self.codes.gives_codes(name)

    def _append(self, node: onnx.NodeProto, inputs: Sequence[str]) -> None:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        copy.ClearField("input")
        copy.input.extend(inputs)
        self.nodes.append(copy)

    def _read(self, name: str, integer: bool) -> str:
        """Under which name a step reads a value: the decoded codes if it wants them, or if there is nothing else."""
        decoded = name in self.codes.coded and (integer or self.codes.gives_codes(name))
        return f"{name}:decoded" if decoded and not self._is_decoded_output(name) else name

    def _encode(self, name: str, value: str) -> None:
        parameters = [f"{self.coding[name]}:scale", f"{self.coding[name]}:zero_point"]
        decoded = name if self._is_decoded_output(name) else f"{name}:decoded"
        self.nodes.append(helper.make_node("QuantizeLinear", [value, *parameters], [f"{name}:codes"]))
        self.nodes.append(helper.make_node("DequantizeLinear", [f"{name}:codes", *parameters], [decoded]))

    def _layer(self, step: Operation) -> list[str]:
        """Weight and bias of a layer as decoded integers: the names under which the node reads them."""
        layer, weight = self.network.layers[step.output], step.weight
        if weight in self.written:
            weight = f"{weight}:{step.output}"  # a weight that several layers share is folded differently in each
        self.written.add(weight)
        # ONNX Runtime has no integer Gemm for a weight whose zero point is left out.
        names = [self._decoded(weight, layer.codes, layer.scale, layer.zero)]
        if layer.bias is not None:
            names.append(self._decoded(f"{step.output}:bias", layer.bias, layer.unit, np.zeros_like(layer.bias)))
        return names

    def _decoded(self, name: str, codes: np.ndarray, scale: np.ndarray, zero: np.ndarray) -> str:
        self.initializers[name] = codes
        self.initializers[f"{name}:scale"] = scale
        self.initializers[f"{name}:zero_point"] = zero
        inputs = [name, f"{name}:scale", f"{name}:zero_point"]
        self.nodes.append(helper.make_node("DequantizeLinear", inputs, [f"{name}:decoded"], axis=0))
        return f"{name}:decoded"
