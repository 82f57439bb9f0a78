"""ONNX files: the fp32 file of a module, how nodes become a file, and the digest of a file's structure."""

import copy
import hashlib
import io
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from paretoscope.base.batch import tensors_in
from paretoscope.base.errors import ModelError
from paretoscope.base.libraries import onnxruntime
from paretoscope.base.lock import machine
from paretoscope.base.text import reason
from paretoscope.base.threads import torch_threads
from paretoscope.graph import onnx_rules  # noqa: F401 - importing the rules registers them
from paretoscope.graph.network_graph import DTYPES, GraphInput, NetworkGraph
from paretoscope.graph.trace import INPUT, OPSET, Inputs, NoRuleError, Trace, inputs_of, output_names, record
from paretoscope.runtimes.sessions import open_session

IR_VERSION = 9
# Largest difference of an exported graph from PyTorch, as a share of the largest logit; chosen by hand, no benchmark.
TOLERANCE = 1e-4


Arrays = np.ndarray | tuple[np.ndarray, ...]


def arrays(given: Arrays) -> tuple[np.ndarray, ...]:
    """The arrays of a batch or of outputs, one for each input or output of a network."""
    return given if isinstance(given, tuple) else (given,)


@machine(exclusive=False)
def export_fp32(module: nn.Module, inputs: Inputs, samples: Arrays | None = None) -> bytes:
    """One ONNX file of a float32 module: weights inside, under their state-dict names.

    inputs: of the module, any n of them at once, under their names; for a shape alone `images` (n, *shape). Output
    `logits` (n, ...), or `output_0` and so on. samples: two or more, to compare the graph with the module on; drawn
    where there are none. Equal modules give equal bytes. Raises ModelError for a module in training mode, NoRuleError
    for an operation that has no rule, and where the graph disagrees with PyTorch by more than 1e-4 of the largest
    output (or of 1) and than rounding can explain.
    """
    data = serialize(trace(module, inputs))
    batch = drawn(inputs, 2, samples)
    session = open_session(data)
    verify(lambda: run_session(session, batch), module, batch)
    return data


def export_slowly(module: nn.Module, inputs: Inputs, samples: Arrays | None = None) -> bytes:
    """What `export_fp32` gives, by PyTorch's own exporter: slower, for operations that have no rule here.

    Raises ModelError where that fails too.
    """
    given, data = inputs_of(inputs), io.BytesIO()
    batch = drawn(inputs, 2, samples)
    with torch.no_grad():
        made = module(*map(torch.from_numpy, batch))
    names = [each.name for each in given]
    outputs = list(output_names(len(list(tensors_in(made)))))
    try:
        with machine(exclusive=True), torch_threads(1), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                copy.deepcopy(module).eval(),
                tuple(map(torch.from_numpy, batch)),
                data,  # type: ignore[arg-type]  # a file in memory will do
                dynamo=False,
                input_names=names,
                output_names=outputs,
                dynamic_axes={name: {0: "n"} for name in (*names, *outputs)},
                opset_version=OPSET,
            )
        session = open_session(data.getvalue())
    except Exception as error:  # the exporter's errors have no common base but this
        raise ModelError(
            f"a network must be one that ONNX can say; PyTorch's exporter says: {reason(error, 300)}. "
            "Measure this model with the torch runtime."
        ) from None
    other = tuple(each[:1] for each in batch)
    verify(lambda: run_session(session, other), module, other)
    return data.getvalue()


def export_any(module: nn.Module, inputs: Inputs, samples: Arrays | None = None) -> tuple[bytes, str]:
    """`export_fp32`, or `export_slowly` where a rule is missing; and a note that says so, or ""."""
    try:
        return export_fp32(module, inputs, samples), ""
    except NoRuleError as error:
        missing = str(error).partition(". ")[0]
        return export_slowly(module, inputs, samples), f"written by PyTorch's own exporter, since {missing}"


def run_session(session: onnxruntime.InferenceSession, batch: Arrays) -> tuple[np.ndarray, ...]:
    """The outputs of a batch, in the order of the file."""
    names = [each.name for each in session.get_inputs()]
    return tuple(session.run(None, dict(zip(names, arrays(batch), strict=True))))


def drawn(inputs: Inputs, n: int, samples: Arrays | None = None) -> tuple[np.ndarray, ...]:
    """A batch of n samples: the first of those that there are; without any normal floats, and integers of 0 and 1."""
    if samples is not None and len(arrays(samples)[0]) >= n:
        return tuple(np.ascontiguousarray(each[:n]) for each in arrays(samples))
    generator = torch.Generator().manual_seed(0)
    found = []
    for each in inputs_of(inputs):
        dtype, shape = DTYPES[each.dtype], (n, *each.shape)
        floats = dtype.is_floating_point
        made = torch.randn(shape, generator=generator) if floats else torch.randint(0, 2, shape, generator=generator)
        found.append(made.to(dtype).numpy())
    return tuple(found)


def inputs_as_known(module: nn.Module, samples: Arrays) -> tuple[GraphInput, ...]:
    """The inputs of a module: as its graph names them, or as the samples (n, ...) tell."""
    graph = getattr(module, "graph", None)
    if isinstance(graph, NetworkGraph):
        return graph.inputs
    given = arrays(samples)
    names = [INPUT] if len(given) == 1 else [f"{INPUT}_{place}" for place in range(len(given))]
    return tuple(GraphInput(name, x.shape[1:], str(x.dtype)) for name, x in zip(names, given, strict=True))


def trace(module: nn.Module, inputs: Inputs) -> onnx.ModelProto:
    """The fp32 graph of a module, before `verify` has compared it with the module."""
    recorded = record(module, inputs)
    outputs = {
        name: (recorded.name(tensor), tensor.dtype, tuple(tensor.shape[1:])) for name, tensor in recorded.outputs
    }
    return make_model(recorded.nodes, recorded.initializers, recorded.inputs, outputs)


def verify(run: Callable[[], Arrays], module: nn.Module, batch: Arrays) -> None:
    """Raises ModelError unless `run` gives PyTorch's outputs for the batch, of another number than was traced.

    Some models amplify rounding errors until they show in the outputs: the tolerance grows with PyTorch's own error.
    """
    inputs = [torch.from_numpy(each) for each in arrays(batch)]
    with torch.no_grad(), torch_threads(1):
        expected = _outputs(module(*inputs))
    try:
        found = arrays(run())
    except Exception as error:  # the library's errors have no common base but this
        raise ModelError(
            f"an exported graph must run with any batch; this one fails with {len(inputs[0])} images: {error}. "
            "Measure this model with the torch runtime."
        ) from None
    off = _farthest(found, expected)
    tolerance = TOLERANCE * max([1.0, *(float(np.abs(each).max(initial=0)) for each in expected)])
    if off > tolerance:
        doubled = [each.double() if each.is_floating_point() else each for each in inputs]
        with torch.no_grad(), torch_threads(1):
            exact = _outputs(copy.deepcopy(module).double()(*doubled))
        tolerance += 10 * _farthest(expected, exact)
    if off > tolerance:
        raise ModelError(
            f"an exported graph must give PyTorch's logits within {tolerance:g}; this one is off by {off:g}. "
            "Measure this model with the torch runtime."
        )


def _outputs(made: object) -> tuple[np.ndarray, ...]:
    return tuple(each.numpy() for each in tensors_in(made))


def _farthest(found: Sequence[np.ndarray], expected: Sequence[np.ndarray]) -> float:
    if len(found) != len(expected):
        return np.inf
    return max(map(_distance, found, expected), default=0.0)


def _distance(logits: np.ndarray, others: np.ndarray) -> float:
    """Largest absolute difference; infinite where only one is finite or a number, or the shapes differ."""
    if logits.shape != others.shape:
        return np.inf
    if logits.dtype == np.bool_ or others.dtype == np.bool_:
        return 0.0 if np.array_equal(logits, others) else np.inf
    with np.errstate(invalid="ignore"):
        difference = np.where((logits == others) | (np.isnan(logits) & np.isnan(others)), 0, np.abs(logits - others))
    return float(np.nan_to_num(difference, nan=np.inf).max(initial=0))


# By name in a file: the value, its type, and its shape without the batch.
Outputs = Mapping[str, tuple[str, torch.dtype, Sequence[int]]]


def make_model(
    nodes: Sequence[onnx.NodeProto],
    initializers: Mapping[str, np.ndarray],
    inputs: Sequence[GraphInput],
    outputs: Outputs,
) -> onnx.ModelProto:
    """A model of the nodes that the outputs depend on and of what they use; shapes are without the batch axis."""
    wanted: dict[str, str] = {}
    made = {name for node in nodes for name in node.output}
    copies = []
    for name, (value, _, _) in outputs.items():
        if value in made and value not in wanted:
            wanted[value] = name
        else:  # an input, a weight, or another output too
            copies.append(helper.make_node("Identity", [wanted.get(value, value)], [name], name=name))
    needed, kept = {value for value, _, _ in outputs.values()}, []
    for node in reversed(nodes):
        if needed.intersection(node.output):
            needed.update(node.input)
            kept.append(node)
    kept.reverse()
    for node in kept:
        for names in (node.input, node.output):
            for place, each in enumerate(names):
                if each in wanted:
                    names[place] = wanted[each]
    kept += copies
    used = dict.fromkeys(name for node in kept for name in node.input if name in initializers)

    def described(name: str, dtype: torch.dtype, shape: Sequence[int]) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, _element_type(dtype), ["n", *map(int, shape)])

    graph = helper.make_graph(
        kept,
        "model",
        [described(each.name, DTYPES[each.dtype], each.shape) for each in inputs],
        [described(name, dtype, shape) for name, (_, dtype, shape) in outputs.items()],
        [numpy_helper.from_array(np.asarray(initializers[name], order="C"), name) for name in used],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)


def outputs_of(model: onnx.ModelProto) -> Outputs:
    """The outputs of a model under their own names."""
    kinds = {_element_type(dtype): dtype for dtype in DTYPES.values()}
    found = {each.name: each.type.tensor_type for each in model.graph.output}
    return {
        name: (name, kinds[kind.elem_type], [size.dim_value for size in kind.shape.dim][1:])
        for name, kind in found.items()
    }


def _element_type(dtype: torch.dtype) -> int:
    kind: int = helper.np_dtype_to_tensor_dtype(np.dtype(Trace.numpy_type(dtype)))
    return kind


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
