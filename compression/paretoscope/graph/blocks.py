"""Blocks of a graph that can be dropped: additions of x and f(x) of equal shape, whose place x can take alone.

A block is called after what its layers have in common in their paths (`layer1.0`). Where several of one name follow
each other, as attention and MLP do in a transformer, each is called after its largest part, and together they are one
more block, of the common name.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from paretoscope.graph.edits import replaced
from paretoscope.graph.network_graph import NetworkGraph, Node, TensorName, Value, parts
from paretoscope.graph.shapes import shapes_of

_NOT_NEGATIVE = ("aten.relu.default", "aten.relu6.default", "aten.sigmoid.default", "aten.hardsigmoid.default")
_KEEPS_SIGN = ("aten.max_pool1d.default", "aten.max_pool2d.default", "aten.max_pool3d.default")


@dataclass(frozen=True, slots=True)
class Block:
    """x: name of the value that goes in. output: of the value whose place it can take. sums: names of its additions."""

    x: str
    output: str
    sums: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Found:
    block: Block
    sizes: dict[str, int]  # parameters of what f has, by name
    prefix: str


def blocks_of(graph: NetworkGraph) -> tuple[dict[str, Block], dict[str, Block]]:
    """The single blocks by name, in the order of the graph, and those that are several of these in a row."""
    found = list(_found(graph))
    prefixes = [each.prefix for each in found]
    single: dict[str, Block] = {}
    families: dict[str, list[Block]] = {}
    for each in found:
        family = min((p for p in prefixes if p and _within(each.prefix, p)), key=len, default="")
        alone = sum(bool(family) and _within(p, family) for p in prefixes) < 2
        largest = max(each.sizes, key=each.sizes.__getitem__)
        name = each.prefix or largest
        if not alone and each.prefix == family:
            name = ".".join(largest.split(".")[: family.count(".") + 2])
        while name in single:
            name += "_"
        single[name] = each.block
        families.setdefault(family, []).append(each.block)
    whole = {
        family: Block(members[0].x, members[-1].output, tuple(s for each in members for s in each.sums))
        for family, members in families.items()
        if family and len(members) > 1 and family not in single and _in_a_row(graph, members)
    }
    return single, whole


def without(graph: NetworkGraph, block: Block) -> NetworkGraph:
    """The graph in which x takes the place of the block."""
    return replaced(graph, {block.output: block.x})


def _found(graph: NetworkGraph) -> Iterator[_Found]:
    shapes = shapes_of(graph)
    nodes = {node.name: node for node in graph.nodes}
    before = _ancestors(graph)
    users: dict[str, list[Node]] = {}
    for node in graph.nodes:
        for name in set(node.reads()):
            users.setdefault(name, []).append(node)
    outputs = {part.name for part in parts([graph.output]) if isinstance(part, Value)}
    for node in graph.nodes:
        match node:
            case Node(operator="aten.add.Tensor", args=(Value(one), Value(other))) if not node.kwargs:
                pair = (one, other) if one in before[other] else (other, one) if other in before[one] else None
            case _:
                continue
        if pair is None or not isinstance(shapes[one], tuple) or len({shapes[n] for n in (one, other, node.name)}) != 1:
            continue
        x, fx = pair
        inner = [nodes[n] for n in before[fx] | {fx} if n in nodes and n != x and x in before[n]]
        sizes = dict(_sizes(graph, inner))
        if not sizes:
            continue
        output, readers = node.name, users.get(node.name, [])
        only = len(readers) == 1 and node.name not in outputs
        if only and readers[0].operator == "aten.relu.default" and _not_negative(x, nodes):
            output = readers[0].name
        yield _Found(Block(x, output, (node.name,)), sizes, _common(list(sizes)))


def _ancestors(graph: NetworkGraph) -> dict[str, set[str]]:
    before: dict[str, set[str]] = {each.name: set() for each in graph.inputs}
    for node in graph.nodes:
        reads = set(node.reads())
        before[node.name] = reads.union(*(before[name] for name in reads))
    return before


def _not_negative(name: str, nodes: dict[str, Node]) -> bool:
    node = nodes.get(name)
    while node is not None and node.operator in _KEEPS_SIGN:
        node = nodes.get(next(node.reads()))
    return node is not None and node.operator in _NOT_NEGATIVE


def _sizes(graph: NetworkGraph, nodes: list[Node]) -> Iterator[tuple[str, int]]:
    order = {node.name: place for place, node in enumerate(graph.nodes)}
    for node in sorted(nodes, key=lambda each: order[each.name]):
        if node.layer is not None:
            yield node.layer, _weights(graph.layers[node.layer][1])
        for part in parts([*node.args, *node.kwargs.values()]):
            if isinstance(part, TensorName):
                spec = graph.tensors.get(part.name)
                if spec is not None and spec.kind == "parameter":
                    yield part.name, math.prod(spec.shape)


def _weights(settings: Any) -> int:
    if "in_features" in settings:
        return int(settings["in_features"] * settings["out_features"])
    if "in_channels" in settings:
        kernel = math.prod(settings["kernel_size"])
        return int(settings["in_channels"] * settings["out_channels"] * kernel // settings["groups"])
    return 1


def _common(names: list[str]) -> str:
    """The path that all names lie in; of one name, the module that has it where that has no other, the name itself."""
    if len(names) == 1:
        return names[0]
    split = [name.split(".") for name in names]
    count = next((i for i, each in enumerate(zip(*split, strict=False)) if len(set(each)) > 1), min(map(len, split)))
    return ".".join(split[0][:count])


def _within(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(f"{prefix}.")


def _in_a_row(graph: NetworkGraph, members: list[Block]) -> bool:
    before = _ancestors(graph)
    return all(first.output == second.x or first.output in before[second.x] for first, second in pairwise(members))
