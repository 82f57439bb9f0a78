"""A graph as plain data of few bytes, beside the tensors of its network: what an artefact's header holds of it.

What the tensors tell is left out: widths, kernels, whether there is a bias, and which names are tied. Values have no
names here but their distance, "1" being what the node before gives; inputs come first. FORMAT.md, section 2.1, lists
the form.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from paretoscope.base.errors import ModelError
from paretoscope.graph import layers
from paretoscope.graph.network_graph import (
    DTYPE_NAMES,
    DTYPES,
    LAYER,
    Argument,
    GraphInput,
    NetworkGraph,
    Node,
    TensorName,
    TensorSpec,
    Value,
)
from paretoscope.graph.operators import OPERATORS

# How operators are told from the paths of layers.
MARK = ":"
_FLOAT = "float32"
_FIELDS = {"inputs", "tensors", "layers", "nodes", "output", "where"}

Shapes = Mapping[str, tuple[int, ...]]


class UnknownPart(ModelError):
    """An operator or a kind of layer that this version does not know."""


def packed(graph: NetworkGraph, shapes: Shapes) -> dict[str, Any]:
    """The graph as plain data. shapes: of the entries of its state dict, by name."""
    own = leaves(shapes, graph.layers)
    places = {each.name: place for place, each in enumerate(graph.inputs)}
    nodes: list[Any] = []
    for node in graph.nodes:
        here = len(places)
        operator = node.layer if node.layer is not None else MARK + _short(node.operator)
        args: list[Any] = [_plain(each, places, here) for each in node.args]
        if node.kwargs:
            args.append({"with": {name: _plain(each, places, here) for name, each in node.kwargs.items()}})
        nodes.append(operator if args == ["1"] else [operator, *args])
        places[node.name] = here
    data: dict[str, Any] = {
        "inputs": [[i.name, list(i.shape), *([i.dtype] if i.dtype != _FLOAT else [])] for i in graph.inputs],
        "layers": [
            [path, kind, *([rest] if (rest := layers.brief(kind, settings, own[path])) else [])]
            for path, (kind, settings) in graph.layers.items()
        ],
        "nodes": nodes,
        "output": _plain(graph.output, places, len(places)),
    }
    if graph.tensors:
        data["tensors"] = [
            [name, spec.kind, *([spec.dtype] if spec.dtype != _FLOAT else [])] for name, spec in graph.tensors.items()
        ]
    if where := list(_runs(graph)):
        data["where"] = where
    return data


def unpacked(data: Any, shapes: Shapes, ties: Mapping[str, str]) -> NetworkGraph:
    """The graph that `packed` described; nodes get new names.

    ties: names that stand for the tensor of another name. Raises UnknownPart for what a later version may have written
    and ModelError for all else that is none; shapes of tensors and settings fit each other then.
    """
    try:
        graph = _read(data, shapes, ties)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise ModelError(f"a graph must have the parts that the format names; {error!r:.150}") from None
    graph.check()
    return graph


def _read(data: Any, shapes: Shapes, ties: Mapping[str, str]) -> NetworkGraph:
    if not isinstance(data, dict) or not data.keys() <= _FIELDS:
        raise ValueError(f"{data!r:.60} is no graph")
    inputs = tuple(
        GraphInput(_text(name), tuple(shape), *map(_text, dtype)) for name, shape, *dtype in _list(data["inputs"])
    )
    tensors = {
        _text(name): TensorSpec(_text(kind), tuple(shapes[name]), *map(_text, dtype))
        for name, kind, *dtype in _list(data.get("tensors", []))
    }
    made: dict[str, tuple[str, dict[str, Any]]] = {}
    entries = _list(data["layers"])
    own = leaves(shapes, {_text(entry[0]): None for entry in entries})
    for path, kind, *rest in entries:
        if _text(kind) not in layers.LAYERS:
            raise UnknownPart(f"a layer of kind {kind!r:.60}")
        if path in made or len(rest) > 1:
            raise ValueError(f"layer {path!r:.60}")
        made[path] = kind, layers.whole(kind, dict(*rest), own[path])
    names = [each.name for each in inputs]
    taken = set(names)
    where = list(_spread(_list(data.get("where", [])), len(_list(data["nodes"]))))
    nodes = []
    for place, item in enumerate(data["nodes"]):
        called: list[Any] = [item, "1"] if isinstance(item, str) else _list(item)
        operator, *args = called
        kwargs: dict[str, Argument] = {}
        if args and isinstance(args[-1], dict) and args[-1].keys() == {"with"}:
            kwargs = {_text(key): _argument(each, names) for key, each in args.pop()["with"].items()}
        name = f"n{place}"
        while name in taken:
            name += "_"
        layer = not _text(operator).startswith(MARK)
        operator = LAYER + operator if layer else _long(operator[len(MARK) :])
        if not layer and operator not in OPERATORS:
            raise UnknownPart(f"the operator {operator!r:.60}")
        place_of = operator.removeprefix(LAYER) if layer else where[place]
        nodes.append(Node(name, operator, tuple(_argument(each, names) for each in args), kwargs, place_of))
        names.append(name)
        taken.add(name)
    known = {name: target for name, target in ties.items()}
    return NetworkGraph(inputs, tuple(nodes), _argument(data["output"], names), made, tensors, known)


def leaves(shapes: Shapes, paths: Mapping[str, Any]) -> dict[str, dict[str, tuple[int, ...]]]:
    """The shapes of each layer's own tensors, by its path and their leaf."""
    own: dict[str, dict[str, tuple[int, ...]]] = {path: {} for path in paths}
    for name, shape in shapes.items():
        path, _, leaf = name.rpartition(".")
        if path in own:
            own[path][leaf] = tuple(shape)
    return own


def _runs(graph: NetworkGraph) -> Iterator[list[Any]]:
    """Where operators stand: places, and from which node on; layers stand where they are called."""
    last = ""
    for place, node in enumerate(graph.nodes):
        if node.layer is None and node.where != last:
            last = node.where
            yield [place, last]


def _spread(runs: list[Any], count: int) -> Iterator[str]:
    at, last, left = 0, "", runs[::-1]
    for at in range(count):
        if left and left[-1][0] == at:
            last = _text(left.pop()[1])
        yield last
    if left:
        raise ValueError(f"place {left[-1]!r:.60}")


def _short(operator: str) -> str:
    return operator.removeprefix("aten.").removesuffix(".default") if operator.startswith("aten.") else operator


def _long(name: str) -> str:
    if name.startswith("operator."):
        return name
    return f"aten.{name}" if "." in name else f"aten.{name}.default"


def _plain(argument: Argument, places: Mapping[str, int], here: int) -> Any:
    match argument:
        case Value(name):
            return str(here - places[name])
        case TensorName(name):
            return {"tensor": name}
        case torch.dtype():
            return {"dtype": DTYPE_NAMES[argument]}
        case str():
            return {"text": argument}
        case float() if not math.isfinite(argument):
            return {"number": str(argument)}
        case list():
            return [_plain(each, places, here) for each in argument]
    return argument


def _argument(data: Any, names: list[str]) -> Argument:
    match data:
        case None | bool() | int() | float():
            return data
        case str():
            if not data.isascii() or not data.isdigit() or not 0 < int(data[:9]) <= len(names):
                raise ValueError(f"value {data!r:.60}")
            return Value(names[len(names) - int(data)])
        case list():
            return [_argument(each, names) for each in data]
        case {"tensor": str(name)} if len(data) == 1:
            return TensorName(name)
        case {"dtype": str(name)} if len(data) == 1:
            return DTYPES[name]
        case {"text": str(text)} if len(data) == 1:
            return text
        case {"number": ("inf" | "-inf" | "nan") as number} if len(data) == 1:
            return float(number)
    raise ValueError(f"{data!r:.60} is no argument")


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r:.60} is no text")
    return value


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"{value!r:.60} is no list")
    return value
