"""A program of torch.export, as far as an import needs it: from PyTorch's object, or from the parts of a file (`pt2`).

Its calls are an fx graph whose nodes say what they give: `meta["val"]` has a shape and a type. Sizes that are not
fixed, such as the batch, are no integers there.
"""

import operator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx
from torch.export import ExportedProgram

from paretoscope.base.errors import ModelError


@dataclass(frozen=True, slots=True)
class Described:
    """What is known of a tensor before it is computed; a size of None is not fixed."""

    shape: tuple[int | None, ...]
    dtype: torch.dtype

    @property
    def ndim(self) -> int:
        return len(self.shape)


@dataclass(frozen=True, slots=True)
class Program:
    """names: of parameters and buffers, by the placeholders that stand for them. constants: by placeholder.

    inputs: the placeholders of what a user gives. parameters: which names are those of parameters. state: tensors by
    name. changed: names of buffers that the program writes to.
    """

    graph: fx.Graph
    names: dict[str, str]
    parameters: frozenset[str]
    constants: dict[str, Any]
    inputs: tuple[str, ...]
    state: dict[str, Tensor]
    changed: tuple[str, ...] = ()


def of_exported(program: ExportedProgram) -> Program:
    """The parts of PyTorch's own object."""
    signature = program.graph_signature
    state: dict[str, Tensor] = dict(program.state_dict)
    for name in signature.inputs_to_buffers.values():
        if name not in state:  # buffers that are not saved with the state
            state[name] = program.constants[name]
    return Program(
        program.graph,
        {**signature.inputs_to_parameters, **signature.inputs_to_buffers},
        frozenset(signature.inputs_to_parameters.values()),
        {
            name: program.constants[target]
            for name, target in (*signature.inputs_to_lifted_tensor_constants.items(),)
            if target in program.constants
        },
        tuple(name for name in signature.user_inputs if isinstance(name, str)),
        state,
        tuple(sorted(set(signature.buffers_to_mutate.values()))),
    )


# Operators that PyTorch has under two names, with one schema.
_ALIASES = {
    "subtract": "sub", "multiply": "mul", "divide": "div", "true_divide": "div", "negative": "neg", "absolute": "abs",
    "clip": "clamp", "concat": "cat", "concatenate": "cat", "greater": "gt", "greater_equal": "ge", "less": "lt",
    "less_equal": "le", "not_equal": "ne", "moveaxis": "movedim", "swapaxes": "transpose", "swapdims": "transpose",
}  # fmt: skip


def operator_name(target: Any) -> str:
    """What an operator is called in a graph: aten.relu.default, operator.getitem."""
    if isinstance(target, torch._ops.OpOverload):
        space, _, rest = str(target).partition(".")
        base, _, overload = rest.partition(".")
        return f"{space}.{_ALIASES.get(base, base)}.{overload}"
    if getattr(target, "__module__", "") == "_operator" and target in vars(operator).values():
        return f"operator.{target.__name__}"
    return str(target)


def place_of(node: fx.Node) -> str:
    """The module that a call was made in, as the program tells it; or what the call is called."""
    if "where" in node.meta:
        return str(node.meta["where"] or node.name)
    stack = [path for path, _ in (node.meta.get("nn_module_stack") or {}).values() if "metadata_hook" not in path]
    return str(stack[-1] or node.name) if stack else node.name


def bound(node: fx.Node) -> dict[str, Any]:
    """Arguments by their names in the schema of the operator, defaults included."""
    assert isinstance(node.target, torch._ops.OpOverload)
    schema = node.target._schema
    values = {a.name: a.default_value for a in schema.arguments if a.has_default_value()}
    values.update(zip((a.name for a in schema.arguments), node.args, strict=False))
    return {**values, **node.kwargs}


def shape_of(node: fx.Node) -> tuple[Any, ...]:
    """Of the tensor that a node gives; what is not fixed is no integer."""
    return tuple(node.meta["val"].shape)


def without_change(name: str) -> tuple[str, bool]:
    """The operator that gives a new tensor, and whether this one changes its input in place."""
    pieces = name.split(".")
    if len(pieces) == 3 and pieces[1].endswith("_") and not pieces[1].endswith("__"):
        return f"{pieces[0]}.{pieces[1][:-1]}.{pieces[2]}", True
    return name, False


def first_node(node: fx.Node) -> fx.Node:
    """The value that a call changes in place, its first argument; raises ModelError where that is none."""
    value = node.args[0] if node.args else None
    if not isinstance(value, fx.Node):
        raise ModelError(f"a call must have a tensor as its first argument; {node.target} at {place_of(node)} has not.")
    return value
