"""The outline of a network: its layers, joins and branches as a person would draw them.

A graph has a node for each call. Here a box stands for a layer with a weight that recipes act on, for a place where
values meet or part, or for an attention; what only follows one of them (a normalisation, an activation, a pooling) is
told with it, and calls that only move numbers (views, transpositions) are left out.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from paretoscope.base.errors import ModelError
from paretoscope.graph.network_graph import NetworkGraph, Node, TensorName, Value, parts
from paretoscope.graph.shapes import Shape, shapes_of

# Samples that shapes are followed with: a size that few axes have beside the batch.
BATCH = 3
# Calls that give the numbers of their input in another order, or some of them.
_MOVES = frozenset(
    {
        *("alias", "chunk", "clone", "contiguous", "detach", "dropout", "expand", "expand_as", "flatten", "getitem"),
        *("movedim", "narrow", "permute", "reshape", "select", "slice", "split", "split_with_sizes", "squeeze"),
        *("swapaxes", "t", "to", "transpose", "unbind", "unflatten", "unsqueeze", "view", "view_as"),
    }
)
# What stands for itself although it only follows something.
_ALONE = frozenset({"attention"})
_WORDS = {
    "add": "+",
    "cat": "concat",
    "mul": "×",
    "sub": "−",
    "matmul": "product",
    "bmm": "product",
    "scaled_dot_product_attention": "attention",
    "hardtanh": "relu6",
    "adaptive_avg_pool2d": "average pool",
    "avg_pool2d": "average pool",
    "max_pool2d": "max pool",
    "AdaptiveAvgPool2d": "average pool",
    "AvgPool2d": "average pool",
    "MaxPool2d": "max pool",
    "GroupNorm": "group norm",
    "LayerNorm": "layer norm",
    "InstanceNorm2d": "instance norm",
}


@dataclass(frozen=True, slots=True)
class Box:
    """One box. name: unique in the outline. label: what it does. where: its place in the network, "" for an input.

    weights: names in the state dict that it computes with, of those that recipes act on. then: what only follows it.
    shape: of what it gives in the end for one sample, None where that is not one tensor with the batch in front. reads:
    names of the boxes before it.
    """

    name: str
    label: str
    where: str
    weights: tuple[str, ...]
    then: tuple[str, ...]
    shape: tuple[int, ...] | None
    reads: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Outline:
    """The boxes, each after those that it reads; the inputs first."""

    boxes: tuple[Box, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Outline":
        """What `to_dict` wrote; KeyError or TypeError when it is not that."""
        sequences = ("weights", "then", "reads")
        return cls(
            tuple(
                Box(
                    **{
                        **box,
                        **{name: tuple(box[name]) for name in sequences},
                        "shape": None if box["shape"] is None else tuple(box["shape"]),
                    }
                )
                for box in data["boxes"]
            )
        )


def outline(graph: NetworkGraph, weights: Collection[str]) -> Outline:
    """The outline of a checked graph. weights: names in the state dict of those that recipes act on."""
    shapes: Mapping[str, Shape] = {}
    with suppress(ModelError):  # one that was exported for a single batch may not run with two
        shapes = shapes_of(graph, batch=BATCH)
    return _Outlining(graph, frozenset(weights), shapes).run()


class _Outlining:
    """boxes: so far, by name. at: the box that gives a value, by the value's name; None for numbers."""

    def __init__(self, graph: NetworkGraph, weights: frozenset[str], shapes: Mapping[str, Shape]) -> None:
        self._graph, self._weights, self._shapes = graph, weights, shapes
        self._boxes: dict[str, Box] = {}
        self._at: dict[str, str] = {}
        # The value that a box gives in the end, and who reads each value, through moves.
        self._last: dict[str, str] = {}
        self._readers = self._read_by()

    def run(self) -> Outline:
        for given in self._graph.inputs:
            self._add(Box(given.name, "input", "", (), (), given.shape, ()), given.name)
        for node in self._graph.nodes:
            if not self._number(node):
                self._take(node)
        return Outline(tuple(self._boxes.values()))

    def _take(self, node: Node) -> None:
        sources = tuple(dict.fromkeys(self._at[name] for name in node.reads() if name in self._at))
        word, own = self._word(node), tuple(dict.fromkeys(self._weights_of(node)))
        if not own and len(sources) == 1:
            if _move(node):
                self._at[node.name] = sources[0]
                return
            (source,) = sources
            if word not in _ALONE and self._boxes[source].label != "input" and self._follows(node, source):
                self._extend(source, node, word)
                return
        if not own and not sources:
            return  # a constant
        self._add(Box(node.name, word, node.where, own, (), self._shape(node.name), sources), node.name)

    def _add(self, box: Box, value: str) -> None:
        self._boxes[box.name] = box
        self._at[value] = self._last_of(box.name, value)

    def _last_of(self, box: str, value: str) -> str:
        self._last[box] = value
        return box

    def _follows(self, node: Node, source: str) -> bool:
        """Whether a node is the only reader of what a box gives."""
        return self._readers[self._last[source]] == {node.name}

    def _extend(self, source: str, node: Node, word: str) -> None:
        box = self._boxes[source]
        shape = self._shape(node.name)
        self._boxes[source] = Box(
            box.name, box.label, box.where, box.weights, (*box.then, word), shape or box.shape, box.reads
        )
        self._at[node.name] = self._last_of(source, node.name)

    def _shape(self, value: str) -> tuple[int, ...] | None:
        shape = self._shapes.get(value)
        return tuple(shape[1:]) if isinstance(shape, tuple) and shape[:1] == (BATCH,) else None

    def _read_by(self) -> dict[str, set[str]]:
        """The nodes that read each value, themselves or through moves; "" is the output."""
        readers: dict[str, set[str]] = {each.name: set() for each in self._graph.inputs}
        readers |= {each.name: set() for each in self._graph.nodes}
        for part in parts([self._graph.output]):
            if isinstance(part, Value):
                readers[part.name].add("")
        for node in reversed(self._graph.nodes):
            if self._number(node):
                continue
            through = readers[node.name] if _move(node) and not any(self._weights_of(node)) else {node.name}
            for name in node.reads():
                readers[name] |= through
        return readers

    def _number(self, node: Node) -> bool:
        """Whether a node gives a number, such as a size, and no tensor."""
        shape = self._shapes.get(node.name, ())
        operator = node.operator
        sizes = operator.startswith("operator.") and operator != "operator.getitem"
        return isinstance(shape, (int, float)) or sizes or operator.startswith(("aten.sym_size", "aten.size"))

    def _weights_of(self, node: Node) -> Iterator[str]:
        if node.layer is not None:
            yield from (name for name in self._weights if name.rpartition(".")[0] == node.layer)
        for part in parts([*node.args, *node.kwargs.values()]):
            if isinstance(part, TensorName):
                name = part.name if part.name in self._weights else self._graph.ties.get(part.name, "")
                if name in self._weights:
                    yield name

    def _word(self, node: Node) -> str:
        if node.layer is None:
            name = _operator(node)
            return _WORDS.get(name, name.replace("_", " "))
        kind, settings = self._graph.layers[node.layer]
        if kind.startswith("Conv"):
            return _convolution(kind, settings)
        if kind.startswith("BatchNorm"):
            return "batch norm"
        return _WORDS.get(kind, kind if kind.isupper() else re.sub(r"(?<=[a-z])(?=[A-Z])", " ", kind).lower())


def _operator(node: Node) -> str:
    """The operator's name alone: "add" of "aten.add_.Tensor"."""
    return node.operator.removeprefix("aten.").removeprefix("operator.").partition(".")[0].strip("_")


def _move(node: Node) -> bool:
    return node.layer is None and _operator(node) in _MOVES


def _convolution(kind: str, settings: Mapping[str, Any]) -> str:
    kernel, stride = _sizes(settings.get("kernel_size", ())), _sizes(settings.get("stride", ()))
    deep = settings.get("groups", 1) == settings.get("in_channels") != 1
    words = ["depthwise" if deep else "grouped conv" if settings.get("groups", 1) > 1 else "conv"]
    words += ["transposed"] * ("Transpose" in kind)
    words += ["×".join(map(str, kernel))] * bool(kernel)
    words += [f"/{max(stride)}"] * (max(stride, default=1) > 1)
    return " ".join(words)


def _sizes(value: Any) -> tuple[int, ...]:
    return (value,) if isinstance(value, int) else tuple(value)
