"""A network as data: operators of the allow-list over named values, layers and tensors, without weights.

What is imported is kept as such a graph, and an artefact carries it: whoever reads it needs neither the code of the
network nor its weights, and nothing of it is executed but operators that are known here. As JSON:

    {"version": 1,
     "inputs":  [{"name": "x", "shape": [3, 224, 224], "dtype": "float32"}],      without the batch axis
     "tensors": {"pos": {"kind": "parameter", "shape": [1, 32, 64], "dtype": "float32"}},
     "layers":  {"stem.conv": ["Conv2d", {"in_channels": 3, ...}]},
     "ties":    {"out.weight": "emb.weight"},
     "nodes":   [["conv", "layer:stem.conv", [{"value": "x"}], {}, "stem"], ["y", "aten.relu.default", ...]],
     "output":  {"value": "y"}}

An argument is null, a number, a switch, a text, a list of arguments, {"value": NAME} for an input or an earlier node,
{"tensor": NAME} for a tensor or a layer's weight, or {"dtype": NAME}.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from paretoscope.base.errors import ModelError
from paretoscope.graph import layers as layer_kinds
from paretoscope.graph.operators import MAKERS, function_of

VERSION = 1
LAYER = "layer:"
MOST_NODES = 100_000
MOST_NUMBERS = 2**33

DTYPES: dict[str, torch.dtype] = {
    name: getattr(torch, name) for name in ("float32", "float64", "float16", "int64", "int32", "uint8", "int8", "bool")
}
DTYPE_NAMES = {dtype: name for name, dtype in DTYPES.items()}
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# What tensors of a layer are called.
_LEAF = re.compile(r"weight|bias|running_mean|running_var|(weight|bias)_(ih|hh)_l\d+(_reverse)?")
_PATH = re.compile(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*")


@dataclass(frozen=True, slots=True)
class Value:
    """Stands for an input or for what a node gives."""

    name: str


@dataclass(frozen=True, slots=True)
class TensorName:
    """Stands for a parameter or a buffer, by its name in the state dict."""

    name: str


Argument = None | int | float | bool | str | torch.dtype | Value | TensorName | list["Argument"]


@dataclass(frozen=True, slots=True)
class GraphInput:
    """shape: of one sample, without the batch."""

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """A tensor that is no layer's. kind: parameter or buffer."""

    kind: str
    shape: tuple[int, ...]
    dtype: str = "float32"


@dataclass(frozen=True, slots=True)
class Node:
    """One call. operator: of the allow-list, or "layer:" and the layer's path. where: its place, for people."""

    name: str
    operator: str
    args: tuple[Argument, ...]
    kwargs: Mapping[str, Argument] = field(default_factory=dict)
    where: str = ""

    @property
    def layer(self) -> str | None:
        """The path of the layer that is called."""
        return self.operator.removeprefix(LAYER) if self.operator.startswith(LAYER) else None

    def reads(self) -> Iterator[str]:
        """Names of the inputs and nodes that it takes, in their order."""
        for part in parts([*self.args, *self.kwargs.values()]):
            if isinstance(part, Value):
                yield part.name


@dataclass(frozen=True, slots=True)
class NetworkGraph:
    """The graph; `checked` before it is used. ties: names of tensors that are the very tensor of another name."""

    inputs: tuple[GraphInput, ...]
    nodes: tuple[Node, ...]
    output: Argument
    layers: Mapping[str, tuple[str, Mapping[str, Any]]]
    tensors: Mapping[str, TensorSpec]
    ties: Mapping[str, str] = field(default_factory=dict)

    def __deepcopy__(self, memo: dict[int, Any]) -> "NetworkGraph":
        return self  # nothing in it ever changes

    def to_json(self) -> str:
        """One line; equal graphs give equal text."""
        return json.dumps(
            {
                "version": VERSION,
                "inputs": [{"name": i.name, "shape": list(i.shape), "dtype": i.dtype} for i in self.inputs],
                "tensors": {
                    name: {"kind": spec.kind, "shape": list(spec.shape), "dtype": spec.dtype}
                    for name, spec in self.tensors.items()
                },
                "layers": {path: [kind, dict(settings)] for path, (kind, settings) in self.layers.items()},
                "ties": dict(self.ties),
                "nodes": [
                    [n.name, n.operator, [_plain(a) for a in n.args], {k: _plain(a) for k, a in n.kwargs.items()}]
                    + ([n.where] if n.where else [])
                    for n in self.nodes
                ],
                "output": _plain(self.output),
            },
            separators=(",", ":"),
            allow_nan=True,
        )

    @classmethod
    def from_json(cls, text: str) -> "NetworkGraph":
        """The graph that `to_json` wrote; raises ModelError for anything else, naming what is wrong."""
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise _refused(f"be JSON; {error}") from None
        if not isinstance(data, dict) or data.get("version") != VERSION:
            found = data.get("version") if isinstance(data, dict) else data
            raise _refused(f"have the version {VERSION}; got {found!r}")
        try:
            graph = cls(
                tuple(GraphInput(i["name"], tuple(i["shape"]), i["dtype"]) for i in data["inputs"]),
                tuple(_node(item) for item in data["nodes"]),
                _argument(data["output"]),
                {path: (kind, dict(settings)) for path, (kind, settings) in data["layers"].items()},
                {n: TensorSpec(s["kind"], tuple(s["shape"]), s["dtype"]) for n, s in data["tensors"].items()},
                dict(data["ties"]),
            )
            graph.check()
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError, OverflowError) as error:
            raise _refused(
                f"have the parts that the format names; {type(error).__name__}: {str(error)[:200]}"
            ) from None
        return graph

    def check(self) -> None:
        """Raises ModelError unless every name, operator, layer and shape is one that a network can have."""
        if len(self.nodes) > MOST_NODES:
            raise _refused(f"have at most {MOST_NODES:,} nodes; got {len(self.nodes):,}")
        known = {each.name for each in self.inputs}
        for each in self.inputs:
            _check_name(each.name)
            _check_tensor(each.name, each.shape, each.dtype)
        for name, spec in self.tensors.items():
            _check_path(name)
            _check_tensor(name, spec.shape, spec.dtype)
            if spec.kind not in ("parameter", "buffer"):
                raise _refused(f"have parameters and buffers; {name} is {spec.kind!r}")
        for path in self.layers:
            _check_path(path)
        for name, other in self.ties.items():
            _check_path(name)
            _check_path(other)
        for node in self.nodes:
            _check_name(node.name)
            if node.name in known:
                raise _refused(f"give every value a name of its own; {node.name} is there twice")
            if node.layer is None:
                function_of(node.operator, node.where)
            elif node.layer not in self.layers:
                raise _refused(f"have the layers that its nodes call; {node.layer} is missing")
            self._check_reads([*node.args, *node.kwargs.values()], known)
            _check_numbers(node)
            known.add(node.name)
        self._check_reads([self.output], known)
        numbers = sum(math.prod(spec.shape) for spec in self.tensors.values())
        with torch.device("meta"):  # no memory is taken
            for path, (kind, settings) in self.layers.items():
                numbers += sum(each.numel() for each in layer_kinds.make(kind, settings, path).parameters())
        if numbers > MOST_NUMBERS:
            raise _refused(f"have at most {MOST_NUMBERS:,} numbers; its layers and tensors have {numbers:,}")

    def _check_reads(self, arguments: Sequence[Argument], known: set[str]) -> None:
        for part in parts(arguments):
            if isinstance(part, Value) and part.name not in known:
                raise _refused(f"read values that were made before; {part.name} is not")
            if isinstance(part, TensorName) and part.name not in self.tensors and part.name not in self.ties:
                path, _, leaf = part.name.rpartition(".")
                if path not in self.layers or not _LEAF.fullmatch(leaf):
                    raise _refused(f"read tensors that it has; {part.name} is none")


def _node(item: Any) -> Node:
    name, operator, args, kwargs, *where = item
    if not isinstance(args, list) or not isinstance(kwargs, dict) or len(where) > 1:
        raise ValueError("a node must be a list of name, operator, arguments and named arguments")
    return Node(
        str(name),
        str(operator),
        tuple(_argument(a) for a in args),
        {str(k): _argument(a) for k, a in kwargs.items()},
        str(where[0]) if where else "",
    )


def _argument(data: Any) -> Argument:
    if data is None or isinstance(data, (bool, int, float, str)):
        return data
    if isinstance(data, list):
        return [_argument(each) for each in data]
    if isinstance(data, dict) and len(data) == 1:
        ((key, name),) = data.items()
        if key == "value":
            return Value(str(name))
        if key == "tensor":
            return TensorName(str(name))
        if key == "dtype":
            return DTYPES[name]
    raise ValueError(f"{data!r} is no argument")


def _plain(argument: Argument) -> Any:
    match argument:
        case Value(name):
            return {"value": name}
        case TensorName(name):
            return {"tensor": name}
        case torch.dtype():
            return {"dtype": DTYPE_NAMES[argument]}
        case list():
            return [_plain(each) for each in argument]
    return argument


def parts(arguments: Sequence[Argument]) -> Iterator[Argument]:
    """The arguments, lists taken apart."""
    for each in arguments:
        if isinstance(each, list):
            yield from parts(each)
        else:
            yield each


def named_inputs(graph: NetworkGraph, names: Sequence[str]) -> NetworkGraph:
    """The graph with its inputs called so, in their order, as far as a graph may name them."""
    taken = {node.name for node in graph.nodes}
    new: dict[str, str] = {}
    for each, name in zip(graph.inputs, names, strict=True):
        wanted = re.sub(r"[^A-Za-z0-9_]", "_", name)
        wanted = wanted if _NAME.fullmatch(wanted) else f"input_{wanted}"
        while wanted in taken:
            wanted += "_"
        taken.add(wanted)
        new[each.name] = wanted

    def renamed(argument: Argument) -> Argument:
        if isinstance(argument, Value):
            return Value(new.get(argument.name, argument.name))
        return [renamed(each) for each in argument] if isinstance(argument, list) else argument

    return replace(
        graph,
        inputs=tuple(replace(each, name=new[each.name]) for each in graph.inputs),
        nodes=tuple(
            replace(n, args=tuple(renamed(a) for a in n.args), kwargs={k: renamed(a) for k, a in n.kwargs.items()})
            for n in graph.nodes
        ),
        output=renamed(graph.output),
    )


def _check_numbers(node: Node) -> None:
    """No node may ask for memory by numbers alone; what its inputs make of them, `doors.check_sizes` finds out."""
    numbers = [abs(n) for n in parts([*node.args, *node.kwargs.values()]) if type(n) is int and abs(n) < 2**62]
    made = math.prod(n for n in numbers if n) if node.operator in MAKERS else 0
    if max(numbers, default=0) >= 2**31 or made > layer_kinds.LARGEST:
        raise _refused(
            f"make values of at most {layer_kinds.LARGEST:,} numbers; {node.operator} at {node.where or node.name} "
            "makes larger ones"
        )


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise _refused(f"name its values with letters, digits and _; got {name[:80]!r}")


def _check_path(name: str) -> None:
    if not isinstance(name, str) or not _PATH.fullmatch(name) or len(name) > 500:
        raise _refused(f"name its layers and tensors with letters, digits, _ and dots; got {str(name)[:80]!r}")


def _check_tensor(name: str, shape: tuple[int, ...], dtype: str) -> None:
    if dtype not in DTYPES:
        raise _refused(f"have tensors of {', '.join(DTYPES)}; {name} is {dtype!r}")
    if len(shape) > 8 or not all(type(n) is int and 0 <= n <= layer_kinds.LARGEST for n in shape):
        raise _refused(f"have tensors of up to eight axes of up to {layer_kinds.LARGEST:,}; {name} has {shape}")


def _refused(rule: str) -> ModelError:
    return ModelError(f"the graph of a network must {rule}. Import the network again.")
