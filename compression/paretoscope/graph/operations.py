"""A traced network in steps, and which of them run on integers.

A step is a node with the batch normalisation and the activation after it: what integer kernels do at once. What is an
integer depends on which layers have integer weights, so the steps are found once for a structure and the codes for
each recipe.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import onnx
from onnx import numpy_helper

# Operators besides layers that can take and give codes: MOVES keep the scale, MIXES need one of their own.
MOVES = {"MaxPool", "Reshape", "Transpose"}
MIXES = {"Add", "GlobalAveragePool"}


@dataclass(frozen=True, eq=False, slots=True)
class Operation:
    """A node, with the batch normalisation and the activation that follow it and nothing else reads before them.

    sources: the values that it takes, without weights and constants.
    """

    node: onnx.NodeProto
    norm: onnx.NodeProto | None
    activation: onnx.NodeProto | None
    is_layer: bool
    sources: tuple[str, ...]

    @property
    def output(self) -> str:
        name: str = (self.activation or self.norm or self.node).output[0]
        return name

    @property
    def weight(self) -> str:
        """The state-dict name of a layer's weight."""
        name: str = self.node.input[1]
        return name


class Operations:
    """The steps of an fp32 graph, in the order of execution.

    constants: the initializers that are no weights; weights: the names of those that are, as in a state dict. inputs,
    outputs: of the network; float_inputs: those that may be rounded.
    """

    def __init__(self, model: onnx.ModelProto, weights: Collection[str]) -> None:
        initializers = {tensor.name: tensor for tensor in model.graph.initializer}
        self.weights = frozenset(initializers.keys() & set(weights))
        self.constants = {
            name: numpy_helper.to_array(tensor) for name, tensor in initializers.items() if name not in self.weights
        }
        self._known = frozenset({*initializers, ""})  # "" stands for an input that a node goes without
        self.inputs = tuple(each.name for each in model.graph.input)
        self.outputs = tuple(each.name for each in model.graph.output)
        floats = onnx.TensorProto.FLOAT
        self.float_inputs = frozenset(i.name for i in model.graph.input if i.type.tensor_type.elem_type == floats)
        self.steps = self._grouped(model.graph.node)
        self.producers = {step.output: step for step in self.steps}
        self.readers: dict[str, list[Operation]] = {}
        for step in self.steps:
            for name in step.sources:
                self.readers.setdefault(name, []).append(step)
        # Recipes of one structure have the same few sets of integer layers; the bound is chosen by hand; no benchmark.
        self.codes = lru_cache(maxsize=16)(self._codes)

    def _codes(self, layers: frozenset[str]) -> "Codes":
        return Codes(self, layers)

    def _is_layer(self, node: onnx.NodeProto) -> bool:
        return node.op_type in ("Conv", "Gemm") and node.input[1] in self.weights and node.input[0] not in self._known

    def _grouped(self, nodes: Sequence[onnx.NodeProto]) -> list[Operation]:
        readers: dict[str, list[onnx.NodeProto]] = {}
        for node in nodes:
            for name in node.input:
                readers.setdefault(name, []).append(node)

        def follower(node: onnx.NodeProto, ops: set[str]) -> onnx.NodeProto | None:
            following = readers.get(node.output[0], [])
            if node.output[0] in self.outputs:
                return None
            return following[0] if len(following) == 1 and following[0].op_type in ops else None

        steps: list[Operation] = []
        followers: set[str] = set()
        for node in nodes:
            if node.output[0] in followers:
                continue
            layer = self._is_layer(node)
            norm = follower(node, {"BatchNormalization"}) if layer else None
            activation = follower(norm or node, {"Clip", "Relu"}) if layer or node.op_type == "Add" else None
            if activation is not None and not self._keeps_zero(activation):
                activation = None
            followers.update(part.output[0] for part in (norm, activation) if part is not None)
            sources = tuple(name for name in node.input if name not in self._known)
            steps.append(Operation(node, norm, activation, layer, sources))
        return steps

    def _keeps_zero(self, activation: onnx.NodeProto) -> bool:
        """Whether zero, which every range of codes includes, lies within the bounds of an activation."""
        if activation.op_type == "Relu":
            return True
        low, high = (self.constants[name] for name in activation.input[1:])
        return bool(np.all(low <= 0) and np.all(high >= 0))


class Codes:
    """Which steps and values are integers when certain layers, named by their outputs, have integer weights.

    integer: outputs of the steps that run on integers. coded: values that exist as uint8 codes. scaled: those of them
    that have a scale of their own; the others are moved and have the scale of what they were.
    """

    def __init__(self, steps: Operations, layers: frozenset[str]) -> None:
        self._steps = steps
        self.integer = self._integer_steps(layers)
        integer = [step for step in steps.steps if step.output in self.integer]
        coded = {name for step in integer for name in step.sources}
        coded.update(step.output for step in integer if self.gives_codes(step.output))
        self.coded = frozenset(coded)
        moved = {step.output for step in integer if step.node.op_type in MOVES}
        self.scaled = tuple(sorted(self.coded - moved))

    def gives_codes(self, name: str) -> bool:
        """Whether a value comes from its step as codes alone. A linear layer may also give floats, at no extra cost."""
        if name not in self.integer:
            return False
        return self._steps.producers[name].node.op_type != "Gemm" or self._read_only_by(self.integer, name)

    def _read_only_by(self, steps: Collection[str], name: str) -> bool:
        readers = self._steps.readers
        return (
            name not in self._steps.outputs and name in readers and all(step.output in steps for step in readers[name])
        )

    def _integer_steps(self, layers: frozenset[str]) -> frozenset[str]:
        """The layers, and the largest set of other steps that take codes from integer steps and give codes to them."""
        others = [step for step in self._steps.steps if step.node.op_type in MOVES | MIXES and step.sources]
        while True:
            integer = layers | {step.output for step in others}
            kept = [
                step
                for step in others
                if self._read_only_by(integer, step.output)
                and all(name in self._steps.float_inputs or name in integer for name in step.sources)
            ]
            if len(kept) == len(others):
                return frozenset(integer)
            others = kept
