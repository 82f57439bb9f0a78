"""From a PyTorch module to the nodes of an ONNX graph, by watching one forward pass.

`torch.onnx.export` takes 0.6 to 6 s for the models of the zoo and loses the names of the weights when it optimises; a
recipe may change the architecture, so that is paid again and again. Watching the calls that a forward pass makes
takes milliseconds, keeps every weight under its state-dict name, and the rules (onnx_rules.py) say which nodes a call
becomes. The price: a call without a rule is refused by name.
"""

import inspect
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import onnx
import torch
from onnx import helper
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode, resolve_name

from paretoscope.base.batch import InputLike, tensors_in
from paretoscope.base.errors import CompressionError, ModelError
from paretoscope.base.threads import torch_threads
from paretoscope.graph.network_graph import DTYPES, GraphInput

OPSET = 20
INPUT, OUTPUT = "images", "logits"

# Samples in the traced batch, and in the pass before that tells which sizes come from the batch.
BATCH, OTHER_BATCH = 3, 2

Function = Callable[..., Any]
# Rules return the name of the value that stands for a tensor; or a list of them, where a call returns several.
Names = str | Sequence["Names"]
Rule = Callable[..., Names]
RULES: dict[Function, Rule] = {}
# Calls whose rules get all tensors that they return, and return as many names.
SEVERAL: set[Function] = set()


# The inputs of a network; a shape alone stands for one of float32, such as images (C, H, W).
Inputs = tuple[int, ...] | Sequence[InputLike]


def inputs_of(inputs: Inputs) -> tuple[GraphInput, ...]:
    """The inputs that are meant."""
    shape = tuple(each for each in inputs if isinstance(each, int))
    if len(shape) == len(inputs):
        return (GraphInput(INPUT, shape),)
    return tuple(GraphInput(i.name, tuple(i.shape), i.dtype) for i in inputs if not isinstance(i, int))


def output_names(count: int) -> tuple[str, ...]:
    """What so many outputs of a network are called in files."""
    return (OUTPUT,) if count == 1 else tuple(f"output_{place}" for place in range(count))


class Size(int):
    """A size as traced that knows what it is for the other batch: it varies with the batch where both differ."""

    other: int

    def __new__(cls, size: int, other: int) -> "Size":
        made = super().__new__(cls, size)
        made.other = other
        return made

    def _with(self, value: object, compute: Callable[[int, int], int]) -> "Size":
        if not isinstance(value, int):
            raise TypeError(f"a size goes with whole numbers; got {value!r}")
        return Size(compute(int(self), int(value)), compute(self.other, other_of(value)))

    def __mul__(self, value: int) -> "Size":
        return self._with(value, lambda a, b: a * b)

    def __add__(self, value: int) -> "Size":
        return self._with(value, lambda a, b: a + b)

    def __sub__(self, value: int) -> "Size":
        return self._with(value, lambda a, b: a - b)

    def __floordiv__(self, value: int) -> "Size":
        return self._with(value, lambda a, b: a // b)

    __rmul__ = __mul__
    __radd__ = __add__


def other_of(size: int) -> int:
    """A size for the other batch."""
    return size.other if isinstance(size, Size) else int(size)


def varies(size: int) -> bool:
    """Whether a size depends on the batch."""
    return other_of(size) != int(size)


class NoRuleError(ModelError):
    """A network has a call that has no rule here; another exporter may have one."""


def rule(*functions: Function, several: bool = False) -> Callable[[Rule], Rule]:
    """Registers what a call of any of these functions becomes.

    A rule takes the trace, the tensor that the call returned (the first of several, or all of them with `several`) and
    the call's own arguments.
    """

    def register(written: Rule) -> Rule:
        for function in functions:
            if function in RULES:
                raise CompressionError(
                    f"a function must have one ONNX rule; {resolve_name(function)} has one already. Remove either."
                )
            RULES[function] = written
            if several:
                SEVERAL.add(function)
        return written

    return register


class _Watch(TorchFunctionMode):
    """Notes the shapes of what each call gives, in the order of the calls."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: list[tuple[Function, list[tuple[int, ...]]]] = []

    def __torch_function__(
        self, func: Function, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        self.shapes.append((func, [tuple(tensor.shape) for tensor in tensors_in(result)]))
        return result


class Trace(TorchFunctionMode):
    """Records nodes while it is active.

    nodes: in the order of execution. initializers: weights and constants, by name. shapes: of every value, as traced.
    calls: how many it has seen. inputs: as they stand in a file. outputs: name and value of each, once the module has
    run.
    """

    def __init__(
        self,
        module: nn.Module,
        inputs: Sequence[GraphInput],
        batch: Sequence[Tensor],
        others: Sequence[tuple[Function, Sequence[tuple[int, ...]]]] = (),
    ) -> None:
        """others: each call for the other batch, with the shapes of what it gave."""
        super().__init__()
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, np.ndarray] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.inputs = tuple(inputs)
        self.outputs: list[tuple[str, Tensor]] = []
        self._names: dict[int, str] = {}
        self._alive: list[Tensor] = []  # an id stands for a tensor only as long as the tensor lives
        self._sizes: dict[int, tuple[int, ...]] = {}
        self._others = others
        self.calls = 0
        self._left_out: dict[int, str] = {}  # tensors that rules give no value for, by the calls that returned them
        self._weights: dict[str, Tensor] = {}
        self._producers: dict[str, onnx.NodeProto] = {}
        for name, tensor in (*module.named_parameters(), *module.named_buffers()):
            self._weights[name] = tensor
            self._know(tensor, name)
        for each, tensor in zip(self.inputs, batch, strict=True):
            self._sizes[id(tensor)] = (Size(BATCH, OTHER_BATCH), *each.shape)
            self._know(tensor, each.name)

    def __torch_function__(
        self, func: Function, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        tensors = list(tensors_in(result))
        self._measure(func, tensors)
        given = list(tensors_in((args, kwargs)))
        if tensors:
            for each in given:
                self.expect_named(each)
        if tensors and any(id(each) in self._names for each in given):
            output = result if func in SEVERAL else tensors[0]
            names = list(_flat(_rule_for(func, (self, output, *args), kwargs)(self, output, *args, **kwargs)))
            for tensor, name in zip(tensors, names, strict=False):
                self._know(tensor, name)
            self._left_out.update((id(tensor), _called(func)) for tensor in tensors[len(names) :])
        elif func in _WRITES and id(args[0]) in self._names:
            raise refuse(f"the operation {_called(func)}")
        return result

    def expect_named(self, tensor: Tensor) -> None:
        """Raises NoRuleError for a tensor of the network that the rule of its call has left out."""
        if id(tensor) in self._left_out:
            raise refuse(f"this output of {self._left_out[id(tensor)]}")

    def _measure(self, func: Function, tensors: Sequence[Tensor]) -> None:
        """Note of the tensors of a call what their sizes are for the other batch."""
        called, others = self._others[self.calls] if self.calls < len(self._others) else (None, [])
        self.calls += 1
        shapes = [tuple(tensor.shape) for tensor in tensors]
        if called != func or [len(shape) for shape in shapes] != [len(shape) for shape in others]:
            raise refuse(f"a network whose calls depend on the batch, at {_called(func)}")
        for tensor, shape, other in zip(tensors, shapes, others, strict=True):
            self._sizes[id(tensor)] = tuple(
                Size(size, o) if size != o else size for size, o in zip(shape, other, strict=True)
            )
            self._alive.append(tensor)

    def size(self, tensor: Tensor) -> tuple[int, ...]:
        """The shape of a tensor that knows which sizes vary with the batch."""
        return self._sizes.get(id(tensor), tuple(tensor.shape))

    def name(self, value: Tensor) -> str:
        """The name of a tensor: a value of the graph, a weight, or a new constant."""
        name = self._names.get(id(value))
        if name is None:
            return self.fresh(value)
        if name in self._weights:
            self.initializers[name] = self._weights[name].detach().numpy()
        return name

    def fresh(self, value: Tensor) -> str:
        """A tensor that no input has gone into. One that grows with the batch is repeated along it."""
        value, shape = value.detach(), self.size(value)
        if not any(map(varies, shape)):
            return self.constant(value.numpy(), None)
        first = value
        for axis, size in enumerate(shape):
            if varies(size):
                first = first.narrow(axis, 0, 1)
        if not torch.equal(first.expand(value.shape), value):
            raise refuse(f"a constant {tuple(value.shape)} whose values depend on the place in the batch")
        return self.emit("Expand", [self.constant(first.contiguous().numpy(), None), self.sizes(shape)], shape)

    def constant(self, value: Any, dtype: Any = np.float32) -> str:
        """The name of a new constant. dtype: None for the value's own."""
        name = self._free(f"constant_{len(self.initializers)}")
        self.initializers[name] = np.asarray(value, dtype)
        return name

    def _free(self, name: str) -> str:
        """The name, or one like it where a weight is called so, as an imported graph's constants are."""
        while name in self._weights or name in self.initializers:
            name = f"{name}_"
        return name

    def sizes(self, shape: Sequence[int]) -> str:
        """A shape, or 1 for what is to stay, as an int64 value that follows the batch."""
        parts: list[str] = []
        fixed: list[int] = []

        def close() -> None:
            if fixed:
                parts.append(self.constant(list(fixed), np.int64))
                fixed.clear()

        for size in shape:
            if not varies(size):
                fixed.append(int(size))
                continue
            close()
            times, left = divmod(int(size), BATCH)
            if left or times * OTHER_BATCH != other_of(size):
                raise refuse(f"a size that is no multiple of the batch, in {tuple(map(int, shape))}")
            batch = self.emit("Shape", [self.inputs[0].name], (1,), end=1)
            parts.append(batch if times == 1 else self.emit("Mul", [batch, self.constant([times], np.int64)], (1,)))
        close()
        return parts[0] if len(parts) == 1 else self.emit("Concat", parts, (len(shape),), axis=0)

    def emit(self, op: str, inputs: Sequence[str], shape: Sequence[int], **attributes: Any) -> str:
        """Append a node and return the name of its output, which has this shape as traced.

        The first node that has weights of a layer is called after it, so that a runtime's profile reads by layer.
        """
        output = self._free(f"{op}_{len(self.nodes)}")
        layer = next((name.rpartition(".")[0] for name in inputs if name in self._weights), "")
        fresh = layer and all(node.name != layer for node in self.nodes)
        node = helper.make_node(op, inputs, [output], name=layer if fresh else output, **attributes)
        self.nodes.append(node)
        self._producers[output] = node
        self.shapes[output] = tuple(shape)
        return output

    def reshape(self, value: str, shape: Sequence[int]) -> str:
        """A reshape to a shape as traced; of several in a row only the last is kept."""
        producer = self._producers.get(value)
        if producer is not None and producer.op_type == "Reshape":
            value = producer.input[0]
        if self.shapes[value] == tuple(shape):
            return value
        growing = [axis for axis, size in enumerate(shape) if varies(size)]
        if len(growing) > 1:
            return self.emit("Reshape", [value, self.sizes(shape)], shape)
        wanted = [-1 if axis in growing else int(size) for axis, size in enumerate(shape)]
        return self.emit("Reshape", [value, self.constant(wanted, np.int64)], shape)

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
        rows = math.prod(leading)
        inputs = [self.reshape(value, (rows, features)), weight] + ([bias] if bias else [])
        return self.reshape(self.emit("Gemm", inputs, (rows, columns), transB=1), (*leading, columns))

    def of(self, op: str, inputs: Sequence[Tensor], output: Tensor, **attributes: Any) -> str:
        """One node of these tensors."""
        return self.emit(op, [self.name(each) for each in inputs], self.size(output), **attributes)

    def ints(self, *values: int) -> str:
        """Integers as a constant (n,)."""
        return self.constant(values, np.int64)

    def operand(self, value: Any, dtype: torch.dtype) -> str:
        """A tensor or a number as a value of that type."""
        if not isinstance(value, Tensor):
            return self.constant(value, _NUMPY[dtype])
        return self.cast(self.name(value), value.dtype, dtype, self.size(value))

    def cast(self, name: str, found: torch.dtype, wanted: torch.dtype, shape: Sequence[int]) -> str:
        """A value in another type, if it has another."""
        if found == wanted:
            return name
        kind: int = helper.np_dtype_to_tensor_dtype(np.dtype(_NUMPY[wanted]))
        return self.emit("Cast", [name], shape, to=kind)

    @staticmethod
    def numpy_type(dtype: torch.dtype) -> Any:
        """The type of a constant."""
        return _NUMPY[dtype]

    def is_input(self, value: Tensor) -> bool:
        """Whether a tensor comes from the inputs or the weights, and is not made anew."""
        return id(value) in self._names

    def _know(self, tensor: Tensor, name: str) -> None:
        self._names[id(tensor)] = name
        self._alive.append(tensor)
        self.shapes[name] = self.size(tensor)


_NUMPY: dict[torch.dtype, Any] = {
    **{each: getattr(np, name) for name, each in DTYPES.items() if name != "bool"},
    torch.bool: np.bool_,
}


# Calls that return nothing, and write into a tensor.
_WRITES = {Tensor.__setitem__}


def _flat(names: Names) -> Iterable[str]:
    if isinstance(names, str):
        yield names
    else:
        for each in names:
            yield from _flat(each)


def refuse(what: str) -> NoRuleError:
    """The error for a call that has a rule, but not for these arguments."""
    return NoRuleError(f"the ONNX export does not cover {what}. Measure this model with the torch runtime.")


def _called(function: Function) -> str:
    return resolve_name(function) or str(getattr(function, "__name__", repr(function)))


def _rule_for(function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Rule:
    name = _called(function)
    if function not in RULES:
        raise refuse(f"the operation {name}")
    try:
        inspect.signature(RULES[function]).bind(*args, **kwargs)
    except TypeError as error:
        raise refuse(f"{name} with these arguments ({error})") from None
    return RULES[function]


def zeros(inputs: Sequence[GraphInput], n: int) -> tuple[Tensor, ...]:
    """A batch of n samples of zeros, one tensor for each input."""
    return tuple(torch.zeros(n, *each.shape, dtype=DTYPES[each.dtype]) for each in inputs)


def record(module: nn.Module, inputs: Inputs) -> Trace:
    """The trace of a module in evaluation mode, with its outputs (BATCH, ...)."""
    if any(part.training for part in module.modules()):
        raise ModelError("a model must be in evaluation mode to be exported; this one is training. Call .eval() first.")
    given = inputs_of(inputs)
    known = {name for name, _ in (*module.named_parameters(), *module.named_buffers())}
    for each in given:
        if each.name in known:
            raise refuse(f"an input and a weight of one name, {each.name}")
    with torch.no_grad(), torch_threads(1):
        other, batch = zeros(given, OTHER_BATCH), zeros(given, BATCH)
        with _Watch() as watch:
            module(*other)
        trace = Trace(module, given, batch, watch.shapes)
        with trace:
            result = module(*batch)
    if trace.calls != len(watch.shapes):
        raise refuse("a network whose calls depend on the batch, at its end")
    found = list(tensors_in(result))
    for tensor in found:
        trace.expect_named(tensor)
    grown = [each for each in found if each.ndim and varies(trace.size(each)[0])]
    if not found or len(grown) != len(found) or not trace.nodes:
        raise ModelError(
            "a model must turn samples (n, ...) into outputs (n, ...), by operations. Export the network itself."
        )
    trace.outputs = list(zip(output_names(len(found)), found, strict=True))
    return trace
