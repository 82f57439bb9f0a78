"""ONNX files: the fp32 file of a module, how nodes become a file, and the digest of a file's structure."""

import copy
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from paretoscope.base.errors import ModelError
from paretoscope.base.lock import machine
from paretoscope.base.threads import torch_threads
from paretoscope.graph import onnx_rules  # noqa: F401 - importing the rules registers them
from paretoscope.graph.trace import INPUT, OPSET, OUTPUT, record
from paretoscope.runtimes.sessions import open_session

IR_VERSION = 9
# Largest difference of an exported graph from PyTorch, as a share of the largest logit; chosen by hand, no benchmark.
TOLERANCE = 1e-4


@machine(exclusive=False)
def export_fp32(module: nn.Module, input_shape: tuple[int, ...]) -> bytes:
    """One ONNX file of a float32 module: weights inside, under their state-dict names.

    Input `images` (n, C, H, W) with `input_shape` (C, H, W) and any n; output `logits` (n, classes). Equal modules
    give equal bytes. Raises ModelError for a module in training mode, for an operation that has no rule, and where the
    graph disagrees with PyTorch by more than 1e-4 of the largest logit (or of 1) and than rounding can explain.
    """
    data = serialize(trace(module, input_shape))
    images = torch.randn(2, *input_shape, generator=torch.Generator().manual_seed(0)).numpy()
    session = open_session(data)
    verify(lambda: session.run([OUTPUT], {INPUT: images})[0], module, images)
    return data


def trace(module: nn.Module, input_shape: tuple[int, ...]) -> onnx.ModelProto:
    """The fp32 graph of a module, before `verify` has compared it with the module."""
    recorded, logits = record(module, input_shape)
    return make_model(recorded.nodes, recorded.initializers, recorded.name(logits), input_shape, logits.shape[1:])


def verify(run: Callable[[], np.ndarray], module: nn.Module, images: np.ndarray) -> None:
    """Raises ModelError unless `run` gives PyTorch's logits for the images, of another number than was traced.

    Some models amplify rounding errors until they show in the logits: the tolerance grows with PyTorch's own error.
    """
    with torch.no_grad(), torch_threads(1):
        expected = module(torch.from_numpy(images)).numpy()
    try:
        logits = run()
    except Exception as error:  # the library's errors have no common base but this
        raise ModelError(
            f"an exported graph must run with any batch; this one fails with {len(images)} images: {error}. "
            "Measure this model with the torch runtime."
        ) from None
    off = _distance(logits, expected)
    tolerance = TOLERANCE * max(1.0, float(np.abs(expected).max()))
    if off > tolerance:
        with torch.no_grad(), torch_threads(1):
            exact = copy.deepcopy(module).double()(torch.from_numpy(images).double()).numpy()
        tolerance += 10 * _distance(expected, exact)
    if off > tolerance:
        raise ModelError(
            f"an exported graph must give PyTorch's logits within {tolerance:g}; this one is off by {off:g}. "
            "Measure this model with the torch runtime."
        )


def _distance(logits: np.ndarray, others: np.ndarray) -> float:
    """Largest absolute difference; infinite where only one is finite or a number, or the shapes differ."""
    if logits.shape != others.shape:
        return np.inf
    with np.errstate(invalid="ignore"):
        difference = np.where((logits == others) | (np.isnan(logits) & np.isnan(others)), 0, np.abs(logits - others))
    return float(np.nan_to_num(difference, nan=np.inf).max())


def make_model(
    nodes: Sequence[onnx.NodeProto],
    initializers: Mapping[str, np.ndarray],
    output: str,
    input_shape: Sequence[int],
    output_shape: Sequence[int],
) -> onnx.ModelProto:
    """A model of the nodes that `output` depends on and of what they use; shapes are without the batch axis."""
    needed, kept = {output}, []
    for node in reversed(nodes):
        if needed.intersection(node.output):
            needed.update(node.input)
            kept.append(node)
    kept.reverse()
    kept[-1].output[0] = OUTPUT
    used = dict.fromkeys(name for node in kept for name in node.input if name in initializers)
    graph = helper.make_graph(
        kept,
        "model",
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["n", *input_shape])],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["n", *output_shape])],
        [numpy_helper.from_array(np.asarray(initializers[name], order="C"), name) for name in used],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)


def serialize(model: onnx.ModelProto) -> bytes:
    """The bytes of a model that ONNX's own checker accepts; equal models give equal bytes."""
    onnx.checker.check_model(model, full_check=True)
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def graph_digest(data: bytes) -> str:
    """SHA-256 of a graph's structure, as 64 hexadecimal characters.

    Operators, attributes, edges, types and shapes count, and the integers that say how to shape a tensor. Names,
    weights, scales and zero points do not: files of one digest run the same kernels on the same shapes.
    """
    graph = onnx.load_model_from_string(data).graph
    numbers: dict[str, int] = {}

    def number(names: Iterable[str]) -> list[int]:
        return [numbers.setdefault(name, len(numbers)) for name in names]

    ends = (*graph.input, *graph.output)
    parts: list[object] = []
    for node in graph.node:
        attributes = sorted((a.name, str(helper.get_attribute_value(a))) for a in node.attribute)
        parts.append((node.domain, node.op_type, attributes, number(node.input), number(node.output)))
    parts.append([(number([value.name]), str(value.type)) for value in ends])
    for tensor in sorted(graph.initializer, key=lambda tensor: numbers[tensor.name]):
        shaping = numpy_helper.to_array(tensor).tolist() if tensor.data_type == TensorProto.INT64 else None
        parts.append((numbers[tensor.name], tensor.data_type, list(tensor.dims), shaping))
    return hashlib.sha256(repr(parts).encode()).hexdigest()
