"""From a program of torch.export to a graph of allow-listed operators and ordinary layers, and its tensors.

A call whose weights are a layer's own becomes that layer, under the name that its weights have: `layer1.0.conv1.weight`
makes `layer1.0.conv1` an `nn.Conv2d`. What depends on neither inputs nor parameters is computed once and kept as a
buffer. Operators that change their input in place become those that do not, where nobody reads what was there before.
"""

import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx
from torch.export import ExportedProgram

from paretoscope.base.errors import ModelError
from paretoscope.graph.graph_module import GraphModule
from paretoscope.graph.network_graph import (
    DTYPE_NAMES,
    LAYER,
    Argument,
    GraphInput,
    NetworkGraph,
    Node,
    TensorName,
    TensorSpec,
    Value,
    parts,
)
from paretoscope.graph.operators import OPERATORS, function_of

# Where a tensor lies and how is not part of a network.
_PLACEMENT = ("device", "layout", "pin_memory", "memory_format", "non_blocking", "copy")
# What makes tensors from sizes alone; its first argument tells the type.
_LIKE = ("aten.new_zeros.default", "aten.new_ones.default", "aten.new_full.default")
# Views share their memory with what they are made from.
_VIEWS = (
    "view", "reshape", "slice", "select", "permute", "transpose", "t", "unsqueeze", "squeeze", "expand", "alias",
    "detach", "narrow", "unbind", "chunk", "split", "split_with_sizes", "flatten", "unflatten", "contiguous",
)  # fmt: skip
# What may be computed at import beside the operators of networks: it fills tensors that are constants.
_FILLS = (
    "aten.fill_.Tensor",
    "aten.fill_.Scalar",
    "aten.copy_.default",
    "aten.zero_.default",
    "aten.index_put_.default",
)


@dataclass(frozen=True, eq=False, slots=True)
class Imported:
    """graph: without weights. state: the tensors by name, ties included. module: both, in evaluation mode."""

    graph: NetworkGraph
    state: dict[str, Tensor]

    def module(self) -> GraphModule:
        module = GraphModule(self.graph)
        module.load_state_dict(self.state, strict=True)
        return module.eval()


def import_program(program: ExportedProgram) -> Imported:
    """The graph and tensors of a program in evaluation mode; raises ModelError, which names an unknown operator."""
    return _Importer(program).run()


class _Importer:
    def __init__(self, program: ExportedProgram) -> None:
        signature = program.graph_signature
        self._nodes = list(program.graph.nodes)
        self._names: dict[str, str] = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
        self._parameters = set(signature.inputs_to_parameters.values())
        self._tensors: dict[str, Tensor] = dict(program.state_dict)
        for name in signature.inputs_to_buffers.values():
            if name not in self._tensors:  # buffers that are not saved with the state
                self._tensors[name] = program.constants[name]
        self._constants: dict[fx.Node, Any] = {}
        for name, target in signature.inputs_to_lifted_tensor_constants.items():
            self._constants[self._placeholder(name)] = program.constants[target]
        self._users = set(signature.user_inputs)
        if signature.buffers_to_mutate:
            changed = ", ".join(sorted(set(signature.buffers_to_mutate.values()))[:3])
            raise ModelError(
                f"a network must not change its buffers; this one changes {changed}. "
                "Export it in evaluation mode: model.eval()."
            )
        self._uses = self._counted()
        self._arguments: dict[fx.Node, Argument] = {}
        self._layers: dict[str, tuple[str, dict[str, Any]]] = {}
        self._owned: set[str] = set()
        self._kept: dict[str, Tensor] = {}
        self._out: list[Node] = []
        self._ties = self._tied()

    def run(self) -> Imported:
        inputs = [self._input(node) for node in self._nodes if node.op == "placeholder" and node.name in self._users]
        output: Argument = None
        for node in self._nodes:
            if node.op == "placeholder":
                if node not in self._constants:
                    name = self._names.get(node.name)
                    self._arguments[node] = Value(node.name) if name is None else TensorName(self._ties.get(name, name))
            elif node.op == "output":
                outputs = [self._argument(each) for each in node.args[0]]
                output = outputs[0] if len(outputs) == 1 else outputs
            elif node.op == "call_function":
                self._call(node)
            else:
                raise ModelError(f"a program must consist of calls of operators; {node.op} {node.target} is not one.")
        return self._finished(inputs, output)

    # What there is.

    def _placeholder(self, name: str) -> fx.Node:
        return next(node for node in self._nodes if node.op == "placeholder" and node.name == name)

    def _input(self, node: fx.Node) -> GraphInput:
        value = node.meta["val"]
        if not isinstance(value, Tensor) or value.dtype not in DTYPE_NAMES or not value.ndim:
            raise ModelError(f"an input must be a tensor with the batch in front; {node.name} is {value!r}.")
        if not all(isinstance(size, int) for size in value.shape[1:]):
            raise ModelError(
                f"an input may have any batch, and fixed sizes otherwise; {node.name} has {tuple(value.shape)}. "
                "Export it with a dynamic batch alone."
            )
        return GraphInput(node.name, tuple(value.shape[1:]), DTYPE_NAMES[value.dtype])

    def _counted(self) -> dict[str, int]:
        """How many calls read each tensor of the state."""
        counts: dict[str, int] = {}
        for node in self._nodes:
            if node.op == "placeholder" and node.name in self._names:
                name = self._names[node.name]
                counts[name] = counts.get(name, 0) + len(node.users)
        return counts

    def _tied(self) -> dict[str, str]:
        """Names that stand for the very tensor of an earlier one."""
        first: dict[tuple[int, tuple[int, ...], tuple[int, ...]], str] = {}
        ties = {}
        for name, tensor in self._tensors.items():
            if tensor.numel():
                key = tensor.data_ptr(), tuple(tensor.shape), tensor.stride()
                if (other := first.setdefault(key, name)) != name:
                    ties[name] = other
        return ties

    # Calls.

    def _call(self, node: fx.Node) -> None:
        name = _operator_name(node.target)
        plain, changes = _without_change(name)
        if self._is_constant(node, name):
            self._constants[node] = self._computed(node, name)
            if changes:
                self._constants[node.args[0]] = self._constants[node]
            return
        where = _place_of(node)
        function_of(plain, where) if plain not in _LAYER_CALLS else None
        if changes:
            self._expect_unread(node, name, where)
        if plain in _LAYER_CALLS and self._as_layer(node, plain, where):
            return
        if plain in OPERATORS and OPERATORS[plain] is OPERATORS["aten.alias.default"]:
            self._arguments[node] = self._argument(node.args[0])
            return
        function_of(plain, where)
        args = tuple(self._argument(each) for each in node.args)
        kwargs = {key: self._argument(each) for key, each in node.kwargs.items() if key not in _PLACEMENT}
        self._emit(node, plain, args, kwargs, where)

    def _emit(
        self, node: fx.Node, name: str, args: tuple[Argument, ...], kwargs: Mapping[str, Argument], where: str
    ) -> None:
        self._out.append(Node(node.name, name, args, dict(kwargs), where))
        self._arguments[node] = Value(node.name)

    def _argument(self, value: Any) -> Argument:
        if isinstance(value, fx.Node):
            if value in self._constants:
                return self._constant(value)
            return self._arguments[value]
        if isinstance(value, (list, tuple)):
            return [self._argument(each) for each in value]
        if value is None or isinstance(value, (bool, int, float, str)):
            return value
        if isinstance(value, torch.dtype) and value in DTYPE_NAMES:
            return value
        raise ModelError(f"arguments must be numbers, texts and tensors; {value!r} is none of them.")

    def _constant(self, node: fx.Node) -> Argument:
        value = self._constants[node]
        if not isinstance(value, Tensor):
            return self._argument(value)
        for name, kept in self._kept.items():
            if kept is value:
                return TensorName(name)
        name = f"constant_{len(self._kept)}"
        while name in self._tensors:
            name += "_"
        self._kept[name] = value
        return TensorName(name)

    def _is_constant(self, node: fx.Node, name: str) -> bool:
        inputs = node.all_input_nodes
        if name in _LIKE:
            inputs = [each for each in inputs if each is not node.args[0]]
        elif not inputs and not name.startswith("aten."):
            return False
        return all(each in self._constants for each in inputs) and (bool(inputs) or name in _LIKE or _creates(name))

    def _computed(self, node: fx.Node, name: str) -> Any:
        """A constant: what the call gives, of operators that are allowed or fill tensors."""
        plain, _ = _without_change(name)
        if plain not in OPERATORS and name not in _FILLS:
            function_of(plain, _place_of(node))
        values = {each: self._constants[each] for each in node.all_input_nodes if each in self._constants}
        args = fx.map_arg(node.args, lambda each: values.get(each))
        kwargs = {k: v for k, v in fx.map_arg(node.kwargs, lambda each: values.get(each)).items() if k != "device"}
        if name in _LIKE:
            kwargs.setdefault("dtype", node.args[0].meta["val"].dtype)
            args = (torch.empty(0), *args[1:])
        result = node.target(*args, **{k: v for k, v in kwargs.items() if k not in ("pin_memory",)})
        if isinstance(result, Tensor) and "val" in node.meta and tuple(node.meta["val"].shape) != tuple(result.shape):
            raise ModelError(f"a program must say the shapes that it has; {node.name} does not. Export it again.")
        return result

    def _expect_unread(self, node: fx.Node, name: str, where: str) -> None:
        """Raises ModelError where a value is read after it was changed in place, but not as what the change gave."""
        order = {each: place for place, each in enumerate(self._nodes)}
        changed = node.args[0]
        seen, todo = set(), [changed]
        while todo:
            each = todo.pop()
            if each in seen or not isinstance(each, fx.Node):
                continue
            seen.add(each)
            if any(order[user] > order[node] for user in each.users):
                raise ModelError(
                    f"a value that is changed in place must not be read afterwards; {each.name} is, after {name} at "
                    f"{where or node.name}. Write that part without changes in place."
                )
            if each.op == "call_function" and _operator_name(each.target).split(".")[1:2][:1] and _is_view(each):
                todo.append(each.args[0])
            todo.extend(user for user in each.users if user is not node and _is_view(user) and user not in seen)

    # Layers.

    def _as_layer(self, node: fx.Node, name: str, where: str) -> bool:
        """Make a call that of a layer, where its weights are a layer's own."""
        found = _LAYER_CALLS[name](self, node)
        if found is None:
            return False
        kind, settings, tensors, args = found
        path = self._path_of(tensors)
        if path is None:
            return False
        known = self._layers.get(path)
        if known is not None and known != (kind, settings):
            return False
        self._layers[path] = kind, settings
        self._owned.update(f"{path}.{leaf}" for leaf in tensors)
        if isinstance(node.meta.get("val"), (tuple, list)) and kind in ("LSTM", "GRU", "RNN"):
            self._recurrent(node, path, args, kind, where)
        else:
            self._emit(node, LAYER + path, args, {}, where)
        return True

    def _recurrent(self, node: fx.Node, path: str, args: tuple[Argument, ...], kind: str, where: str) -> None:
        """A module gives (output, state), the state of an LSTM in two; the operator gives them side by side."""
        self._out.append(Node(f"{node.name}_all", LAYER + path, args, {}, where))
        whole = Value(f"{node.name}_all")
        parts: list[Argument] = []
        self._out.append(Node(f"{node.name}_0", "operator.getitem", (whole, 0), {}, where))
        parts.append(Value(f"{node.name}_0"))
        self._out.append(Node(f"{node.name}_1", "operator.getitem", (whole, 1), {}, where))
        if kind == "LSTM":
            for each in (0, 1):
                self._out.append(
                    Node(f"{node.name}_1_{each}", "operator.getitem", (Value(f"{node.name}_1"), each), {}, where)
                )
                parts.append(Value(f"{node.name}_1_{each}"))
        else:
            parts.append(Value(f"{node.name}_1"))
        self._arguments[node] = parts

    def _path_of(self, tensors: Mapping[str, fx.Node]) -> str | None:
        """The layer that these tensors are of, by leaf; None where they are not named as one layer's are."""
        paths = set()
        for leaf, each in tensors.items():
            name = self._names.get(each.name) if isinstance(each, fx.Node) else None
            if name is None or not name.endswith(f".{leaf}"):
                return None
            paths.add(name.removesuffix(f".{leaf}"))
        return paths.pop() if len(paths) == 1 else None

    def _finished(self, inputs: list[GraphInput], output: Argument) -> Imported:
        nodes, output = _pruned(self._out, output)
        used = {part.name for node in nodes for part in _arguments_of(node) if isinstance(part, TensorName)}
        called = {node.layer for node in nodes if node.layer is not None}
        layers = {path: self._layers[path] for path in self._layers if path in called}
        state = {**self._tensors, **self._kept}
        owned = {name for name in self._owned if name in state and name.rpartition(".")[0] in layers}
        ties = {name: other for name, other in self._ties.items() if name in state}
        tensors = {
            name: TensorSpec(
                "parameter" if name in self._parameters else "buffer", tuple(t.shape), DTYPE_NAMES[t.dtype]
            )
            for name, t in state.items()
            if name not in owned and name not in ties and (name in used or name in ties.values())
        }
        ties = {n: o for n, o in ties.items() if (n in owned or n in used) and (o in owned or o in tensors)}
        graph = NetworkGraph(tuple(inputs), tuple(nodes), output, layers, tensors, ties)
        graph.check()
        kept = {**{n: state[n] for n in owned}, **{n: state[n] for n in tensors}, **{n: state[n] for n in ties}}
        missing = _missing(GraphModule, graph, kept)
        return Imported(graph, {n: t.detach().clone() for n, t in {**kept, **missing}.items()})


def _missing(kind: type[GraphModule], graph: NetworkGraph, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What layers have and a program has not, such as how many batches a normalisation has seen."""
    with torch.device("meta"):
        made = kind(graph)
    return {
        name: torch.zeros(tensor.shape, dtype=tensor.dtype)
        for name, tensor in made.state_dict().items()
        if name not in state
    }


def _arguments_of(node: Node) -> Iterable[Argument]:
    return parts([*node.args, *node.kwargs.values()])


def _pruned(nodes: list[Node], output: Argument) -> tuple[list[Node], Argument]:
    """Without the nodes that nobody reads; and pieces of what is a list here taken at once."""
    needed = {part.name for part in parts([output]) if isinstance(part, Value)}
    kept = []
    for node in reversed(nodes):
        if node.name in needed:
            needed.update(node.reads())
            kept.append(node)
    return kept[::-1], output


def _operator_name(target: Any) -> str:
    if isinstance(target, torch._ops.OpOverload):
        return str(target)
    if getattr(target, "__module__", "") == "_operator" and target in vars(operator).values():
        return f"operator.{target.__name__}"
    return str(target)


def _without_change(name: str) -> tuple[str, bool]:
    """The operator that gives a new tensor, and whether this one changes its input in place."""
    parts = name.split(".")
    if len(parts) == 3 and parts[1].endswith("_") and not parts[1].endswith("__"):
        return f"{parts[0]}.{parts[1][:-1]}.{parts[2]}", True
    return name, False


def _creates(name: str) -> bool:
    return name.split(".")[1] in ("zeros", "ones", "full", "arange", "scalar_tensor")


def _is_view(node: fx.Node) -> bool:
    return (
        node.op == "call_function"
        and str(node.target).split(".")[1:2][0:1] != []
        and (str(node.target).split(".")[1] in _VIEWS)
    )


def _place_of(node: fx.Node) -> str:
    """The module that a call was made in, as the program tells it."""
    stack = [path for path, _ in (node.meta.get("nn_module_stack") or {}).values() if "metadata_hook" not in path]
    return stack[-1] if stack else ""


Found = tuple[str, dict[str, Any], dict[str, fx.Node], tuple[Argument, ...]]


def _bound(node: fx.Node) -> dict[str, Any]:
    """Arguments by their names in the schema of the operator, defaults included."""
    schema = node.target._schema
    values = {a.name: a.default_value for a in schema.arguments if a.has_default_value()}
    values.update(zip((a.name for a in schema.arguments), node.args, strict=False))
    return {**values, **node.kwargs}


def _shape(node: fx.Node) -> tuple[int, ...]:
    return tuple(node.meta["val"].shape)


def _with_bias(given: Mapping[str, Any]) -> dict[str, fx.Node]:
    return {"weight": given["weight"]} | ({"bias": given["bias"]} if given["bias"] is not None else {})


def _linear(importer: _Importer, node: fx.Node) -> Found | None:
    given = _bound(node)
    if not isinstance(given["weight"], fx.Node) or len(_shape(given["weight"])) != 2:
        return None
    outputs, inputs = _shape(given["weight"])
    settings = {"in_features": inputs, "out_features": outputs, "bias": given["bias"] is not None}
    return "Linear", settings, _with_bias(given), (importer._argument(given["input"]),)


def _convolution(axes: int, transposed: bool) -> Callable[[_Importer, fx.Node], Found | None]:
    def read(importer: _Importer, node: fx.Node) -> Found | None:
        given = _bound(node)
        if not isinstance(given["weight"], fx.Node):
            return None
        shape, groups = _shape(given["weight"]), given["groups"]

        def spread(value: Any) -> Any:
            return value if isinstance(value, str) else list(value) * (axes if len(value) == 1 else 1)

        outputs, inputs = (shape[1] * groups, shape[0]) if transposed else (shape[0], shape[1] * groups)
        settings = {
            "in_channels": inputs,
            "out_channels": outputs,
            "kernel_size": list(shape[2:]),
            "stride": spread(given["stride"]),
            "padding": spread(given["padding"]),
            **({"output_padding": spread(given["output_padding"])} if transposed else {}),
            "dilation": spread(given["dilation"]),
            "groups": groups,
            "bias": given["bias"] is not None,
        }
        kind = f"Conv{'Transpose' if transposed else ''}{axes}d"
        return kind, settings, _with_bias(given), (importer._argument(given["input"]),)

    return read


def _batch_norm(importer: _Importer, node: fx.Node) -> Found | None:
    given = _bound(node)
    if given["training"] or given["running_mean"] is None:
        raise ModelError(
            f"a network must be exported in evaluation mode; batch normalisation at {_place_of(node)} is in training, "
            "or keeps no statistics. Call model.eval() before."
        )
    axes = len(_shape(given["input"])) - 2
    tensors = {"running_mean": given["running_mean"], "running_var": given["running_var"]}
    affine = given["weight"] is not None
    if affine != (given["bias"] is not None) or axes not in (0, 1, 2, 3):
        return None
    tensors |= _with_bias(given) if affine else {}
    features = _shape(given["running_mean"])[0]
    settings = {"num_features": features, "eps": given["eps"], "momentum": given["momentum"], "affine": affine}
    return f"BatchNorm{max(1, axes)}d", settings, tensors, (importer._argument(given["input"]),)


def _layer_norm(importer: _Importer, node: fx.Node) -> Found | None:
    given = _bound(node)
    if given["weight"] is None:
        return None
    settings = {
        "normalized_shape": list(given["normalized_shape"]),
        "eps": given["eps"],
        "elementwise_affine": True,
        "bias": given["bias"] is not None,
    }
    return "LayerNorm", settings, _with_bias(given), (importer._argument(given["input"]),)


def _group_norm(importer: _Importer, node: fx.Node) -> Found | None:
    given = _bound(node)
    if given["weight"] is None or given["bias"] is None:
        return None
    settings = {
        "num_groups": given["num_groups"],
        "num_channels": _shape(given["weight"])[0],
        "eps": given["eps"],
        "affine": True,
    }
    return "GroupNorm", settings, _with_bias(given), (importer._argument(given["input"]),)


def _embedding(importer: _Importer, node: fx.Node) -> Found | None:
    given = _bound(node)
    rows, width = _shape(given["weight"])
    settings = {"num_embeddings": rows, "embedding_dim": width}
    return "Embedding", settings, {"weight": given["weight"]}, (importer._argument(given["indices"]),)


def _prelu(importer: _Importer, node: fx.Node) -> Found | None:
    given = _bound(node)
    settings = {"num_parameters": _shape(given["weight"])[0]}
    return "PReLU", settings, {"weight": given["weight"]}, (importer._argument(given["self"]),)


def _recurrent(kind: str, nonlinearity: str = "") -> Callable[[_Importer, fx.Node], Found | None]:
    def read(importer: _Importer, node: fx.Node) -> Found | None:
        given = _bound(node)
        if given["train"]:
            raise ModelError(f"a network must be exported in evaluation mode; {_place_of(node)} is in training.")
        directions = ("", "_reverse") if given["bidirectional"] else ("",)
        leaves = [
            f"{part}_l{layer}{direction}"
            for layer in range(given["num_layers"])
            for direction in directions
            for part in (
                ("weight_ih", "weight_hh", "bias_ih", "bias_hh") if given["has_biases"] else ("weight_ih", "weight_hh")
            )
        ]
        if len(leaves) != len(given["params"]):
            return None  # projections, which no layer here has
        tensors = dict(zip(leaves, given["params"], strict=True))
        hidden = _shape(given["params"][1])[1]
        settings = {
            "input_size": _shape(given["params"][0])[1],
            "hidden_size": hidden,
            "num_layers": given["num_layers"],
            "bias": given["has_biases"],
            "batch_first": given["batch_first"],
            "bidirectional": given["bidirectional"],
            **({"nonlinearity": nonlinearity} if nonlinearity else {}),
        }
        start = importer._argument(given["hx"])
        return kind, settings, tensors, (importer._argument(given["input"]), start)

    return read


_LAYER_CALLS: dict[str, Callable[[_Importer, fx.Node], Found | None]] = {
    "aten.linear.default": _linear,
    **{
        f"aten.conv{n}d.{form}": _convolution(n, transposed=False) for n in (1, 2, 3) for form in ("default", "padding")
    },
    "aten.conv_transpose1d.default": _convolution(1, transposed=True),
    "aten.conv_transpose2d.input": _convolution(2, transposed=True),
    "aten.conv_transpose3d.input": _convolution(3, transposed=True),
    "aten.batch_norm.default": _batch_norm,
    "aten.layer_norm.default": _layer_norm,
    "aten.group_norm.default": _group_norm,
    "aten.embedding.default": _embedding,
    "aten.prelu.default": _prelu,
    "aten.lstm.input": _recurrent("LSTM"),
    "aten.gru.input": _recurrent("GRU"),
    "aten.rnn_tanh.input": _recurrent("RNN", "tanh"),
    "aten.rnn_relu.input": _recurrent("RNN", "relu"),
}
