"""Drawn inputs for a network, where there are no samples: what its graph can take, the same each time."""

from paretoscope.data.arrays import ArrayData
from paretoscope.data.drawn import SAMPLES
from paretoscope.data.drawn import drawn as drawn_samples
from paretoscope.graph.network_graph import Argument, NetworkGraph, Node, TensorName, Value
from paretoscope.networks.network import Input

# What changes the type or the shape of indices, not what they are.
_CARRIERS = (
    "to", "_to_copy", "view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze", "expand", "slice", "select",
    "narrow", "transpose", "permute", "t", "clone", "contiguous", "alias", "detach", "detach_",
)  # fmt: skip


def drawn(graph: NetworkGraph, n: int = SAMPLES, seed: int = 0) -> ArrayData:
    """n drawn samples of each part. Whole numbers that tables are looked up with stay below their lengths; others, and
    switches, are ones, as a mask that hides nothing.
    """
    inputs = [Input(each.name, each.shape, each.dtype) for each in graph.inputs]
    lengths = _lengths(graph)
    return drawn_samples(inputs, n, seed, below=[lengths.get(each.name, 0) for each in inputs])


def _lengths(graph: NetworkGraph) -> dict[str, int]:
    """The shortest of the tables that each value is looked up in, by the value's name; inputs that are only converted
    or reshaped on the way there count as what is looked up.
    """
    found: dict[str, int] = {}
    for node in reversed(graph.nodes):
        looked_up = _table(graph, node)
        if looked_up is not None:
            length, value = looked_up
        elif node.name in found and node.args and isinstance(node.args[0], Value) and _carries(node.operator):
            length, value = found[node.name], node.args[0].name
        else:
            continue
        found[value] = min(length, found.get(value, length))
    return found


def _carries(operator: str) -> bool:
    return operator.startswith("aten.") and operator.split(".")[1] in _CARRIERS


def _table(graph: NetworkGraph, node: Node) -> tuple[int, str] | None:
    """The length of the table that a node looks values up in, and the value that says which; None for other nodes."""
    if node.layer is not None:
        kind, settings = graph.layers[node.layer]
        length, indices = (settings["num_embeddings"], node.args[0]) if kind == "Embedding" else (None, None)
    elif node.operator in ("aten.embedding.default", "aten.index_select.default", "aten.index.Tensor"):
        length = _length(graph, node.args[0])
        indices = node.args[2] if node.operator == "aten.index_select.default" else node.args[1]
        if isinstance(indices, list):
            indices = indices[0] if len(indices) == 1 else None
    else:
        return None
    return (length, indices.name) if length is not None and isinstance(indices, Value) else None


def _length(graph: NetworkGraph, table: Argument) -> int | None:
    """The first size of a tensor of the network."""
    if not isinstance(table, TensorName):
        return None
    if table.name in graph.tensors:
        return graph.tensors[table.name].shape[0]
    _, settings = graph.layers[table.name.rpartition(".")[0]]
    length: int | None = settings.get("num_embeddings", settings.get("out_features"))
    return length
