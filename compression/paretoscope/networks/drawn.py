"""Drawn inputs, where there are no samples: of the shapes and types that a network takes, the same each time.

Floating point is drawn from the standard normal distribution. Whole numbers that an embedding looks up are drawn below
its length; others are ones, as a mask that hides nothing is, and switches are true.
"""

import torch
from torch import Tensor

from paretoscope.base.batch import Batch, joined
from paretoscope.data.arrays import ArrayData
from paretoscope.graph.network_graph import DTYPES, Argument, GraphInput, NetworkGraph, Node, TensorName, Value
from paretoscope.networks.network import Network

# Samples that are drawn; chosen by hand; no benchmark.
TRAIN, TEST, CALIBRATION = 32, 32, 16
# What changes the type or the shape of indices, not what they are.
_CARRIERS = (
    "to", "_to_copy", "view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze", "expand", "slice", "select",
    "narrow", "transpose", "permute", "t", "clone", "contiguous", "alias", "detach", "detach_",
)  # fmt: skip


def inputs(graph: NetworkGraph, n: int, seed: int = 0) -> Batch:
    """n drawn samples for a graph."""
    generator = torch.Generator().manual_seed(seed)
    found = lengths(graph)
    return joined(tuple(_drawn(each, n, found.get(each.name), generator) for each in graph.inputs))


def data(network: Network) -> ArrayData:
    """Drawn samples of all splits for a network with a graph."""
    assert network.graph is not None, "the zoo has data"
    train, test = (inputs(network.graph, n, seed) for n, seed in ((TRAIN, 1), (TEST, 2)))
    return ArrayData.of(train, test, inputs(network.graph, CALIBRATION, seed=3))


def _drawn(each: GraphInput, n: int, length: int | None, generator: torch.Generator) -> Tensor:
    dtype, shape = DTYPES[each.dtype], (n, *each.shape)
    if dtype.is_floating_point:
        return torch.randn(shape, generator=generator).to(dtype)
    if length is not None:
        return torch.randint(0, max(1, length), shape, generator=generator).to(dtype)
    return torch.ones(shape, dtype=dtype)


def lengths(graph: NetworkGraph) -> dict[str, int]:
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
    kind, settings = graph.layers[table.name.rpartition(".")[0]]
    length: int | None = settings.get("num_embeddings", settings.get("out_features"))
    return length
