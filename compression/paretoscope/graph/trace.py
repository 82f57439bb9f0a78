"""From a PyTorch module to the nodes of an ONNX graph, by watching one forward pass.

`torch.onnx.export` takes 0.6 to 6 s for the models of the zoo and loses the names of the weights when it optimises; a
recipe may change the architecture, so that is paid again and again. Watching the calls that a forward pass makes
takes milliseconds, keeps every weight under its state-dict name, and the rules (onnx_rules.py) say which nodes a call
becomes. The price: a call without a rule is refused by name.
"""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
import torch
from onnx import helper
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode, resolve_name

from paretoscope.base.batch import tensors_in
from paretoscope.base.errors import CompressionError, ModelError
from paretoscope.base.threads import torch_threads

OPSET = 20
INPUT, OUTPUT = "images", "logits"

# Images in the traced batch. A trace that mistakes another axis for the batch fails on a batch of another length.
BATCH = 3

Function = Callable[..., Any]
Rule = Callable[..., str]
RULES: dict[Function, Rule] = {}


def rule(*functions: Function) -> Callable[[Rule], Rule]:
    """Registers what a call of any of these functions becomes.

    A rule takes the trace, the tensor that the call returned and the call's own arguments; it returns the name of the
    value that stands for the tensor.
    """

    def register(written: Rule) -> Rule:
        for function in functions:
            if function in RULES:
                raise CompressionError(
                    f"a function must have one ONNX rule; {resolve_name(function)} has one already. Remove either."
                )
            RULES[function] = written
        return written

    return register


class Trace(TorchFunctionMode):
    """Records nodes while it is active.

    nodes: in the order of execution. initializers: weights and constants, by name. shapes: of every value, as traced.
    """

    def __init__(self, module: nn.Module, images: Tensor) -> None:
        super().__init__()
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, np.ndarray] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        self._names: dict[int, str] = {}
        self._alive: list[Tensor] = []  # an id stands for a tensor only as long as the tensor lives
        self._weights: dict[str, Tensor] = {}
        self._producers: dict[str, onnx.NodeProto] = {}
        for name, tensor in (*module.named_parameters(), *module.named_buffers()):
            self._weights[name] = tensor
            self._know(tensor, name)
        self._know(images, INPUT)

    def __torch_function__(
        self, func: Function, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        output = result[0] if isinstance(result, tuple) and result else result
        if isinstance(output, Tensor) and any(id(tensor) in self._names for tensor in tensors_in((args, kwargs))):
            self._know(output, _rule_for(func, (self, output, *args), kwargs)(self, output, *args, **kwargs))
        return result

    def name(self, value: Tensor) -> str:
        """The name of a tensor: a value of the graph, a weight, or a new constant."""
        name = self._names.get(id(value))
        if name is None:
            return self.constant(value.detach().numpy())
        if name in self._weights:
            self.initializers[name] = self._weights[name].detach().numpy()
        return name

    def constant(self, value: Any, dtype: type = np.float32) -> str:
        """The name of a new constant."""
        name = f"constant_{len(self.initializers)}"
        self.initializers[name] = np.asarray(value, dtype)
        return name

    def emit(self, op: str, inputs: Sequence[str], shape: Sequence[int], **attributes: Any) -> str:
        """Append a node and return the name of its output, which has this shape as traced.

        The first node that has weights of a layer is called after it, so that a runtime's profile reads by layer.
        """
        output = f"{op}_{len(self.nodes)}"
        layer = next((name.rpartition(".")[0] for name in inputs if name in self._weights), "")
        fresh = layer and all(node.name != layer for node in self.nodes)
        node = helper.make_node(op, inputs, [output], name=layer if fresh else output, **attributes)
        self.nodes.append(node)
        self._producers[output] = node
        self.shapes[output] = tuple(shape)
        return output

    def reshape(self, value: str, shape: Sequence[int]) -> str:
        """A reshape to a shape as traced, which begins with the batch; of several in a row only the last is kept."""
        if shape[0] % BATCH:
            raise ModelError(
                f"the first axis of every value must be the batch; a reshape of it to {tuple(shape)} was traced with a "
                f"batch of {BATCH}. Keep the batch in front."
            )
        producer = self._producers.get(value)
        if producer is not None and producer.op_type == "Reshape":
            value = producer.input[0]
        if self.shapes[value] == tuple(shape):
            return value
        return self.emit("Reshape", [value, self.constant([-1, *shape[1:]], np.int64)], shape)

    def transpose(self, value: str, order: Sequence[int]) -> str:
        """A permutation of axes; one that undoes the permutation before it leaves no node."""
        producer = self._producers.get(value)
        if producer is not None and producer.op_type == "Transpose":
            before = helper.get_node_attr_value(producer, "perm")
            if [before[axis] for axis in order] == sorted(order):
                undone: str = producer.input[0]
                return undone
        shape = self.shapes[value]
        return self.emit("Transpose", [value], [shape[axis] for axis in order], perm=list(order))

    def gemm(self, value: str, weight: str, bias: str | None) -> str:
        """`value @ weight.T + bias` over the last axis: always a Gemm, which has a bias and an integer kernel."""
        *leading, features = self.shapes[value]
        columns = self.initializers[weight].shape[0]
        rows = int(np.prod(leading))
        inputs = [self.reshape(value, (rows, features)), weight] + ([bias] if bias else [])
        return self.reshape(self.emit("Gemm", inputs, (rows, columns), transB=1), (*leading, columns))

    def _know(self, tensor: Tensor, name: str) -> None:
        self._names[id(tensor)] = name
        self._alive.append(tensor)
        self.shapes[name] = tuple(tensor.shape)


def refuse(what: str) -> ModelError:
    """The error for a call that has a rule, but not for these arguments."""
    return ModelError(f"the ONNX export does not cover {what}. Measure this model with the torch runtime.")


def _rule_for(function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Rule:
    name = resolve_name(function) or repr(function)
    if function not in RULES:
        raise refuse(f"the operation {name}")
    try:
        inspect.signature(RULES[function]).bind(*args, **kwargs)
    except TypeError as error:
        raise refuse(f"{name} with these arguments ({error})") from None
    return RULES[function]


def record(module: nn.Module, input_shape: tuple[int, ...]) -> tuple[Trace, Tensor]:
    """The trace of a module in evaluation mode, and the logits (BATCH, classes) that it gave."""
    if any(part.training for part in module.modules()):
        raise ModelError("a model must be in evaluation mode to be exported; this one is training. Call .eval() first.")
    images = torch.zeros(BATCH, *input_shape)
    with torch.no_grad(), torch_threads(1), Trace(module, images) as trace:
        logits = module(images)
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != BATCH or not trace.nodes:
        raise ModelError(
            "a model must turn images (n, C, H, W) into logits (n, classes). Export the classifier itself."
        )
    return trace, logits
