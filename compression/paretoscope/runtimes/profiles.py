"""Profiles: the time of each weight's layer and of the rest, from the times of nodes."""

from collections import defaultdict
from collections.abc import Iterable, Mapping

import numpy as np
import onnx

# The name of everything that belongs to no weight.
OTHER = "other"
# Runs that do not count; chosen by hand, no benchmark.
WARM_UP_RUNS = 5

# Share of the smallest and of the largest durations that a mean leaves out: those of interrupted runs are among them.
TRIM = 0.25

# A runtime may run these within the node that they follow, so their time counts for its layer.
FOLLOWING = ("BatchNormalization", "Relu", "Clip", "Gelu")
# Where a layer reads its weight.
LAYERS = {"Conv": 1, "ConvTranspose": 1, "Gemm": 1, "MatMul": 1, "LSTM": 1, "GRU": 1, "RNN": 1, "Gather": 0}


def typical(durations: Iterable[float]) -> float:
    """Interquartile mean: finer than the clock's ticks, unlike a median, and unmoved by interruptions."""
    values = np.array(list(durations), np.float64)
    cut = int(TRIM * len(values))
    return float(np.partition(values, (cut, len(values) - cut - 1))[cut : len(values) - cut].mean())


def by_weight(times: Mapping[str, float], owners: Mapping[str, str]) -> dict[str, float]:
    """Times of nodes, by name, summed for the weights that own them, each of which is named, and "other", last."""
    found: defaultdict[str, float] = defaultdict(float)
    for name, time in times.items():
        found[owners.get(name, OTHER)] += time
    return {weight: found[weight] for weight in (*dict.fromkeys(owners.values()), OTHER)}


def node_owners(data: bytes) -> dict[str, str]:
    """The weight, by state-dict name, that a node or a value of an ONNX file belongs to, by either's name.

    Nodes belong to the weight that they multiply with, as floats or as decoded integers, or that the node which they
    follow multiplies with.
    """
    graph = onnx.load_model_from_string(data).graph
    constants = {tensor.name for tensor in graph.initializer if tensor.name.startswith("constant_")}
    weights = {tensor.name: tensor.name for tensor in graph.initializer if tensor.name not in constants}
    owners: dict[str, str] = {}
    for node in graph.node:
        owner = None
        if node.op_type in LAYERS:
            # MatMul takes its weight on either side.
            place = LAYERS[node.op_type]
            owner = weights.get(node.input[place]) or (node.op_type == "MatMul" and weights.get(node.input[0])) or None
            if owner is not None and all(name in weights or name in constants for name in node.input if name):
                # Rows of a weight in another order, which is computed once.
                weights[node.output[0]], owner = owner, None
        elif node.op_type == "DequantizeLinear" and node.input[0] in weights:
            # A weight that several layers share stands in the file once for each, "name:layer".
            weights[node.output[0]] = node.input[0].partition(":")[0]
        elif node.op_type in ("Reshape", "Concat", "Transpose") and node.input[0] in weights:
            weights[node.output[0]] = weights[node.input[0]]
        elif node.op_type in FOLLOWING:
            owner = owners.get(node.input[0])
        if owner is not None:
            owners |= dict.fromkeys((node.name, *node.output), owner)
    return owners
