"""A graph as it is without some units: narrower layers, and the sizes that reshapes, pieces and slices have then."""

import dataclasses
from collections.abc import Mapping
from typing import Any, cast

import numpy as np

from paretoscope.graph.labels import Labels, bounds
from paretoscope.graph.network_graph import Argument, NetworkGraph, Node
from paretoscope.graph.widths import Widths


def narrowed(widths: Widths, gone: np.ndarray) -> NetworkGraph:
    """The graph without these units: widths of layers and sizes of reshapes are those that are left.

    gone: roots of the units that go.
    """
    graph = widths.graph
    kept = {(name, axis): len(widths.stays(name, axis, gone)) for name, axis in widths.axes}
    layers = {}
    for path, (kind, settings) in graph.layers.items():
        layers[path] = kind, _layer(graph, path, kind, settings, kept)
    tensors = {
        name: dataclasses.replace(spec, shape=tuple(kept.get((name, a), n) for a, n in enumerate(spec.shape)))
        for name, spec in graph.tensors.items()
    }
    nodes = tuple(_resized(widths, node, gone) for node in graph.nodes)
    return dataclasses.replace(graph, layers=layers, tensors=tensors, nodes=nodes)


def _layer(
    graph: NetworkGraph, path: str, kind: str, settings: Mapping[str, Any], kept: Mapping[tuple[str, int], int]
) -> dict[str, Any]:
    def size(leaf: str, axis: int, before: int) -> int:
        name = graph.ties.get(f"{path}.{leaf}", f"{path}.{leaf}")
        return kept.get((name, axis), before)

    new = dict(settings)
    if kind == "Linear":
        new["in_features"], new["out_features"] = (
            size("weight", 1, new["in_features"]),
            size("weight", 0, new["out_features"]),
        )
    elif kind.startswith("ConvTranspose") and new["groups"] == 1:
        new["in_channels"], new["out_channels"] = (
            size("weight", 0, new["in_channels"]),
            size("weight", 1, new["out_channels"]),
        )
    elif kind.startswith("Conv") and not kind.startswith("ConvT"):
        outputs = size("weight", 0, new["out_channels"])
        if new["groups"] == new["in_channels"] > 1:
            new["groups"] = new["in_channels"] = outputs * new["in_channels"] // new["out_channels"]
        else:
            new["in_channels"] = size("weight", 1, new["in_channels"] // new["groups"]) * new["groups"]
        new["out_channels"] = outputs
    elif kind.startswith("BatchNorm"):
        new["num_features"] = size("running_mean", 0, new["num_features"])
    elif kind == "LayerNorm" and len(new["normalized_shape"]) == 1:
        new["normalized_shape"] = [size("weight", 0, new["normalized_shape"][0])]
    elif kind == "GroupNorm":
        channels = size("weight", 0, new["num_channels"])
        new["num_groups"] = new["num_groups"] * channels // new["num_channels"]
        new["num_channels"] = channels
    elif kind == "Embedding":
        new["embedding_dim"] = size("weight", 1, new["embedding_dim"])
    elif kind == "PReLU":
        new["num_parameters"] = size("weight", 0, new["num_parameters"])
    return new


def _sizes(widths: Widths, labels: Labels, gone: np.ndarray) -> list[int | None]:
    """The length of each axis that labels depend on; None for others."""
    left = ~np.isin(widths.roots[labels], gone)
    return [
        int(left.any(axis=tuple(a for a in range(left.ndim) if a != axis)).sum()) if n > 1 else None
        for axis, n in enumerate(labels.shape)
    ]


def _resized(widths: Widths, node: Node, gone: np.ndarray) -> Node:
    args: Any = node.args
    name = node.operator.removeprefix("aten.").partition(".")[0]
    labels = widths.values[node.name]
    if node.layer is not None or not args:
        return node
    if name in ("view", "reshape", "expand"):
        sizes, shape = _sizes(widths, labels, gone), cast(Any, widths.shapes[node.name])
        given: Any = args[1]
        new = [
            own if size is None or own == -1 or size == before else size if isinstance(own, int) else -1
            for own, size, before in zip(given, sizes, shape, strict=True)
        ]
        return dataclasses.replace(node, args=(args[0], new, *args[2:]))
    if name == "unflatten":
        axis = args[1] % len(widths.shape_of(args[0]))
        sizes = _sizes(widths, labels, gone)[axis : axis + len(args[2])]
        new = [own if size is None or own == -1 else size for own, size in zip(args[2], sizes, strict=True)]
        return dataclasses.replace(node, args=(*args[:2], new, *args[3:]))
    if name in ("chunk", "split", "split_with_sizes") and isinstance(labels, list):
        axis = args[2] if len(args) > 2 else node.kwargs.get("dim", 0)
        axis %= labels[0].ndim
        sizes = [_sizes(widths, each, gone)[axis] for each in labels]
        whole = widths.labels_of(args[0])
        if whole.shape[axis] == 1:
            return node
        counts: list[Argument] = [
            size if size is not None else int(not np.isin(widths.roots[each.ravel()[0]], gone))
            for size, each in zip(sizes, labels, strict=True)
        ]
        return Node(node.name, "aten.split_with_sizes.default", (args[0], counts, axis), {}, node.where)
    if name == "slice":
        whole, before = widths.labels_of(args[0]), widths.shape_of(args[0])
        axis = args[1] % len(before) if len(args) > 1 else 0
        if whole.shape[axis] == 1:
            return node
        left: Any = ~np.isin(widths.roots[np.moveaxis(whole, axis, 0).reshape(whole.shape[axis], -1)], gone).all(axis=1)
        start, end, step = bounds(args, before[axis])
        return dataclasses.replace(
            node, args=(args[0], axis, int(left[:start].sum()), int(left[:end].sum()), step), kwargs={}
        )
    return node
