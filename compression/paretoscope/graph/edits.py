"""Changes of a graph that leave a graph: values replaced, nodes exchanged, and what nobody reads left out."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from paretoscope.graph.network_graph import Argument, NetworkGraph, Node, TensorName, Value, parts
from paretoscope.graph.shapes import shapes_of


def replaced(graph: NetworkGraph, names: Mapping[str, str]) -> NetworkGraph:
    """The graph in which all who read a value of these names read the other one instead."""

    def other(argument: Argument) -> Argument:
        if isinstance(argument, Value):
            return Value(names.get(argument.name, argument.name))
        return [other(each) for each in argument] if isinstance(argument, list) else argument

    nodes = [
        replace(node, args=tuple(map(other, node.args)), kwargs={k: other(each) for k, each in node.kwargs.items()})
        for node in graph.nodes
    ]
    return pruned(replace(graph, nodes=tuple(nodes), output=other(graph.output)))


def rewritten(graph: NetworkGraph, change: Callable[[Node], Iterable[Node]]) -> NetworkGraph:
    """The graph with other nodes in the place of each."""
    return pruned(replace(graph, nodes=tuple(new for node in graph.nodes for new in change(node))))


def pruned(graph: NetworkGraph) -> NetworkGraph:
    """Without the nodes that nobody reads, nor layers and tensors that nobody calls or reads."""
    needed = {part.name for part in parts([graph.output]) if isinstance(part, Value)}
    kept: list[Node] = []
    for node in reversed(graph.nodes):
        if node.name in needed:
            needed.update(node.reads())
            kept.append(node)
    nodes = tuple(reversed(kept))
    called = {node.layer for node in nodes}
    read = {
        part.name
        for node in nodes
        for part in parts([*node.args, *node.kwargs.values()])
        if isinstance(part, TensorName)
    }

    def used(name: str) -> bool:
        return name in read or name.rpartition(".")[0] in called

    ties = {name: target for name, target in graph.ties.items() if used(name)}
    held = {target for target in ties.values() if target in graph.tensors}
    layers = {path: each for path, each in graph.layers.items() if path in called}
    # A tensor that is tied to one of a layer that is gone is its own from now on.
    gone = {t for t in ties.values() if t not in graph.tensors and t.rpartition(".")[0] not in layers}
    tensors = {name: spec for name, spec in graph.tensors.items() if name in read or name in held}
    ties = {name: target for name, target in ties.items() if target not in gone}
    return replace(graph, nodes=nodes, layers=layers, tensors=tensors, ties=ties)


_NOTHING = ("aten.clone.default", "aten.contiguous.default", "aten.dropout.default")
# Of linear layers, whose channels are the last axis, rows may be put together before they are normalised.
_ROWS = ("aten.view.default", "aten.reshape.default", "aten.flatten.using_ints")


def neighbours(graph: NetworkGraph) -> Iterator[tuple[str, str]]:
    """Pairs of layers of which the second, and it alone, takes the output of the first; each is called once."""
    shapes: Mapping[str, Any] = shapes_of(graph)
    users: dict[str, list[Node]] = {}
    for node in graph.nodes:
        # Who asks for a shape alone does not read what is computed.
        for name in list(node.reads())[: 1 if node.operator == "aten.reshape_as.default" else None]:
            users.setdefault(name, []).append(node)
    for part in parts([graph.output]):
        if isinstance(part, Value):
            users.setdefault(part.name, []).append(Node("", "", ()))
    calls = Counter(node.layer for node in graph.nodes if node.layer is not None)
    for node in graph.nodes:
        if node.layer is None:
            continue
        linear, last, moved = graph.layers[node.layer][0] == "Linear", node, False
        while len(users.get(last.name, ())) == 1:
            last = users[last.name][0]
            rows = linear and last.operator in _ROWS and _rows(shapes[next(last.reads())], shapes[last.name])
            moved |= rows
            if not rows and last.operator not in _NOTHING:
                break
        normalises = last.layer is not None and graph.layers[last.layer][0].startswith("BatchNorm")
        if (
            last is node
            or last.layer is None
            or calls[node.layer] > 1
            or calls[last.layer] > 1
            or (moved and not normalises)
        ):
            continue
        if linear and normalises and len(shapes[next(last.reads())]) != 2:  # channels that are no last axis
            continue
        yield node.layer, last.layer


def _rows(before: object, after: object) -> bool:
    return isinstance(before, tuple) and isinstance(after, tuple) and len(after) == 2 and before[-1] == after[-1]
