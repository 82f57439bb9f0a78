"""From a program of torch.export to a graph of allow-listed operators and ordinary layers, and its tensors.

A call whose weights are a layer's own becomes that layer, under the name that its weights have: `layer1.0.conv1.weight`
makes `layer1.0.conv1` an `nn.Conv2d`. What depends on neither inputs nor parameters is computed once and kept as a
buffer. Operators that change their input in place become those that do not, where nobody reads what was there before.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, fx
from torch.export import ExportedProgram

from paretoscope.base.errors import ModelError
from paretoscope.graph.any_batch import for_any_batch
from paretoscope.graph.constants import Constants
from paretoscope.graph.graph_module import GraphModule
from paretoscope.graph.layer_calls import LAYER_CALLS
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
from paretoscope.graph.program import Program, first_node, of_exported, operator_name, place_of, without_change

# Where a tensor lies and how is not part of a network.
_PLACEMENT = ("device", "layout", "pin_memory", "memory_format", "non_blocking", "copy")
# Views share their memory with what they are made from.
_VIEWS = (
    "view", "reshape", "slice", "select", "permute", "transpose", "t", "unsqueeze", "squeeze", "expand", "alias",
    "detach", "narrow", "unbind", "chunk", "split", "split_with_sizes", "flatten", "unflatten", "contiguous",
    "numpy_T", "view_as", "reshape_as", "expand_as", "to", "_to_copy", "getitem",
)  # fmt: skip
# What PyTorch checks sizes and types with; they compute nothing.
_CHECKS = ("aten._assert_scalar.", "aten._assert_tensor_metadata.", "aten.sym_constrain_range")


@dataclass(frozen=True, eq=False, slots=True)
class Imported:
    """graph: without weights. state: the tensors by name, ties included. module: both, in evaluation mode."""

    graph: NetworkGraph
    state: dict[str, Tensor]

    def module(self) -> GraphModule:
        module = GraphModule(self.graph)
        module.load_state_dict(self.state, strict=True)
        return module.eval()


def import_program(program: ExportedProgram | Program) -> Imported:
    """The graph and tensors of a program in evaluation mode, for any batch.

    A program that was exported for one batch alone is made to take any, where that can be derived; its outputs are
    then compared, sample by sample. Raises ModelError for what cannot be imported: it names an operator that is not
    allowed and the module that calls it, parameters that are not float32, buffers that the network changes, inputs
    without a batch, sizes that are fixed to a batch.
    """
    parts_of = of_exported(program) if isinstance(program, ExportedProgram) else program
    importer = _Importer(_named_plainly(parts_of))
    imported = importer.run()
    if importer.batch is None:
        return imported
    graph, state = for_any_batch(imported.graph, imported.state, importer.batch)
    return Imported(graph, state)


def _named_plainly(program: Program) -> Program:
    """With names that a graph may have: letters, digits, _ and dots."""
    taken: set[str] = set()
    plain: dict[str, str] = {}
    for name in program.state:
        wanted = re.sub(r"[^A-Za-z0-9_.]", "_", name)
        while wanted in taken:
            wanted += "_"
        taken.add(wanted)
        plain[name] = wanted
    return replace(
        program,
        names={place: plain[name] for place, name in program.names.items()},
        parameters=frozenset(plain[name] for name in program.parameters),
        state={plain[name]: tensor for name, tensor in program.state.items()},
    )


class _Importer:
    """batch: the one that the program fixes; None where it takes any."""

    def __init__(self, program: Program) -> None:
        self._nodes = list(program.graph.nodes)
        self._order = {each: place for place, each in enumerate(self._nodes)}
        self._names, self._parameters = program.names, program.parameters
        self._tensors = {name: tensor.detach() for name, tensor in program.state.items()}
        by_name = {node.name: node for node in self._nodes if node.op == "placeholder"}
        self._constants = Constants({by_name[name]: value for name, value in program.constants.items()})
        self._users = set(program.inputs)
        if program.changed:
            raise ModelError(
                f"a network must not change its buffers; this one changes {', '.join(program.changed[:3])}. "
                "Export it in evaluation mode: model.eval()."
            )
        _expect_types(self._tensors, self._parameters)
        self.batch: int | None = None
        self._arguments: dict[fx.Node, Argument] = {}
        self._layers: dict[str, tuple[str, dict[str, Any]]] = {}
        self._owned: set[str] = set()
        self._kept: dict[str, Tensor] = {}
        self._out: list[Node] = []
        self._taken = {each.name for each in self._nodes}
        self._ties = self._tied()
        self._needed = self._needed_nodes()

    def run(self) -> Imported:
        inputs = [self._input(node) for node in self._nodes if node.op == "placeholder" and node.name in self._users]
        batches = {batch for _, batch in inputs}
        if not inputs or len(batches) > 1:
            shapes = ", ".join(f"{each.name} {'any' if n is None else n}" for each, n in inputs)
            raise ModelError(
                f"every input must have the batch in front, all of them the same; got {shapes or 'no inputs'}. "
                "Export the network with such inputs, a dynamic batch for each."
            )
        self.batch = batches.pop()
        output: Argument = None
        for node in self._nodes:
            if node.op == "placeholder":
                if node not in self._constants:
                    name = self._names.get(node.name)
                    self._arguments[node] = Value(node.name) if name is None else TensorName(self._ties.get(name, name))
            elif node.op == "output":
                found: Any = node.args[0]
                outputs = [self._argument(each) for each in found if each is not None]
                output = outputs[0] if len(outputs) == 1 else outputs
            elif node.op != "call_function":
                raise ModelError(
                    f"a program must consist of calls of operators; {node.op} {node.target} at {place_of(node)} is "
                    "not one. Write that part without branches and loops that depend on the data."
                )
            elif node in self._needed:
                self._call(node)
        return self._finished([each for each, _ in inputs], output)

    # What there is.

    def _input(self, node: fx.Node) -> tuple[GraphInput, int | None]:
        value: Any = node.meta.get("val")
        if getattr(value, "dtype", None) not in DTYPE_NAMES or not value.ndim:
            raise ModelError(f"an input must be a tensor with the batch in front; {node.name} is {str(value)[:100]}.")
        if not all(isinstance(size, int) for size in value.shape[1:]):
            raise ModelError(
                f"an input may have any batch, and fixed sizes otherwise; {node.name} has {tuple(value.shape)}. "
                "Export it with a dynamic batch alone."
            )
        batch = value.shape[0] if isinstance(value.shape[0], int) else None
        return GraphInput(node.name, tuple(value.shape[1:]), DTYPE_NAMES[value.dtype]), batch

    def _tied(self) -> dict[str, str]:
        """Names that stand for the very tensor of an earlier one."""
        first: dict[tuple[int, tuple[int, ...], tuple[int, ...], torch.dtype], str] = {}
        ties = {}
        for name, tensor in self._tensors.items():
            if tensor.numel():
                key = tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), tensor.dtype
                if (other := first.setdefault(key, name)) != name:
                    ties[name] = other
        return ties

    def _needed_nodes(self) -> set[fx.Node]:
        """What the outputs depend on, and what changes a value in place; checks of sizes are left out."""
        needed: set[fx.Node] = set()
        for node in reversed(self._nodes):
            name = operator_name(node.target)
            if name.startswith(_CHECKS):
                continue
            if node.op == "output" or node in needed or (node.op == "call_function" and without_change(name)[1]):
                needed.add(node)
                needed.update(node.all_input_nodes)
        return needed

    # Calls.

    def _call(self, node: fx.Node) -> None:
        name, where = operator_name(node.target), place_of(node)
        plain, changes = without_change(name)
        if self._constants.take(node):
            return
        given = node.args
        if plain == "aten.to.device":  # where it lies is nothing of the network; the type that follows is
            plain, given = "aten.to.dtype", (node.args[0], node.args[2])
        if plain not in LAYER_CALLS:
            function_of(plain, where)
        alone = not changes or self._alone(node, name, where)
        if plain.endswith("dropout.default") and len(node.args) > 2 and node.args[2] is True and node.args[1]:
            raise ModelError(
                f"a network must be exported in evaluation mode; dropout at {where} is in training. "
                "Call model.eval() before."
            )
        if plain in LAYER_CALLS and self._as_layer(node, plain, where):
            pass
        elif plain in OPERATORS and OPERATORS[plain] is OPERATORS["aten.alias.default"]:
            self._arguments[node] = self._argument(node.args[0])
        else:
            function_of(plain, where)
            args = tuple(self._argument(each) for each in given)
            kwargs = {key: self._argument(each) for key, each in node.kwargs.items() if key not in _PLACEMENT}
            self._emit(node, plain, args, kwargs, where)
        if changes and alone:
            # Whoever reads the value that was changed sees what it is now.
            self._arguments[first_node(node)] = self._arguments[node]

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
        if isinstance(value, (torch.device, torch.layout, torch.memory_format)):
            return None
        raise ModelError(
            f"arguments must be numbers, texts and tensors; {str(value)[:100]} is none of them. "
            "Leave that part out of the network, or use model.float() for other types of numbers."
        )

    def _constant(self, node: fx.Node) -> Argument:
        value = self._constants[node]
        if not isinstance(value, Tensor):
            return self._argument(value)
        if value.dtype not in DTYPE_NAMES:
            raise ModelError(f"constants must be of {', '.join(DTYPE_NAMES.values())}; {node.name} is {value.dtype}.")
        for name, kept in self._kept.items():
            if kept is value:
                return TensorName(name)
        name = f"constant_{len(self._kept)}"
        while name in self._tensors:
            name += "_"
        self._kept[name] = value
        return TensorName(name)

    def _alone(self, node: fx.Node, name: str, where: str) -> bool:
        """Whether nothing shares memory with the value that a call changes.

        Raises ModelError where something does, and is read after the change.
        """
        changed = first_node(node)
        seen: set[fx.Node] = set()
        todo = [changed]
        while todo:
            each = todo.pop()
            seen.add(each)
            if each is not node and _is_view(each):
                todo.extend(source for source in each.all_input_nodes if source not in seen)
            todo.extend(user for user in each.users if user is not node and _is_view(user) and user not in seen)
        if seen == {changed}:
            return True
        for each in seen:
            if any(self._order[user] > self._order[node] for user in each.users if user in self._needed):
                raise ModelError(
                    f"a value that is changed in place must not be read afterwards; {each.name} is, after {name} at "
                    f"{where}. Write that part without changes in place."
                )
        return False

    # Layers.

    def _as_layer(self, node: fx.Node, name: str, where: str) -> bool:
        """Make a call that of a layer, where its weights are a layer's own."""
        found = LAYER_CALLS[name](node)
        path = None if found is None else self._path_of(found.tensors)
        if found is None or path is None:
            return False
        if f"{path}.bias" in self._tensors and "bias" not in found.tensors and "weight" in found.tensors:
            return False  # the layer has a bias that this call leaves out
        known = self._layers.setdefault(path, (found.kind, found.settings))
        if known != (found.kind, found.settings):
            return False
        self._owned.update(f"{path}.{leaf}" for leaf in found.tensors)
        args = tuple(self._argument(each) for each in found.args)
        if found.kind in ("LSTM", "GRU", "RNN"):
            self._recurrent(node, path, args, found.kind, where)
        else:
            self._emit(node, LAYER + path, args, {}, where)
        return True

    def _recurrent(self, node: fx.Node, path: str, args: tuple[Argument, ...], kind: str, where: str) -> None:
        """A module gives (output, state), the state of an LSTM in two; the operator gives them side by side."""
        whole, output, state = (self._free(f"{node.name}_{part}") for part in ("all", "output", "state"))
        self._out.append(Node(whole, LAYER + path, args, {}, where))
        self._out.append(Node(output, "operator.getitem", (Value(whole), 0), {}, where))
        self._out.append(Node(state, "operator.getitem", (Value(whole), 1), {}, where))
        if kind == "LSTM":
            halves = [self._free(f"{node.name}_{part}") for part in ("hidden", "cell")]
            self._out.extend(
                Node(half, "operator.getitem", (Value(state), each), {}, where) for each, half in enumerate(halves)
            )
            self._arguments[node] = [Value(output), *(Value(half) for half in halves)]
        else:
            self._arguments[node] = [Value(output), Value(state)]

    def _free(self, name: str) -> str:
        """The name, or a longer one that no value has."""
        while name in self._taken:
            name += "_"
        self._taken.add(name)
        return name

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
        nodes = _pruned(self._out, output)
        used = {part.name for node in nodes for part in _arguments_of(node) if isinstance(part, TensorName)}
        used |= {part.name for part in parts([output]) if isinstance(part, TensorName)}
        called = {node.layer for node in nodes if node.layer is not None}
        layers = {path: self._layers[path] for path in self._layers if path in called}
        state = {**self._tensors, **self._kept}
        owned = {name for name in self._owned if name in state and name.rpartition(".")[0] in layers}
        # The first of tied ones may be of a part that no output depends on: it stays, as a tensor of its own.
        ties = {name: other for name, other in self._ties.items() if name in owned or name in used}
        tensors = {
            name: TensorSpec(
                "parameter" if name in self._parameters else "buffer", tuple(t.shape), DTYPE_NAMES[t.dtype]
            )
            for name, t in state.items()
            if name not in owned and name not in ties and (name in used or name in ties.values())
        }
        graph = NetworkGraph(tuple(inputs), tuple(nodes), output, layers, tensors, ties)
        graph.check()
        kept = {name: state[name] for name in (*owned, *tensors, *ties)}
        missing = _missing(graph, kept)
        return Imported(graph, {n: t.detach().clone().contiguous() for n, t in {**kept, **missing}.items()})


def _missing(graph: NetworkGraph, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What layers have and a program has not, such as how many batches a normalisation has seen."""
    with torch.device("meta"):
        made = GraphModule(graph)
    return {
        name: torch.zeros(tensor.shape, dtype=tensor.dtype)
        for name, tensor in made.state_dict().items()
        if name not in state
    }


def _arguments_of(node: Node) -> Iterable[Argument]:
    return parts([*node.args, *node.kwargs.values()])


def _pruned(nodes: list[Node], output: Argument) -> list[Node]:
    """Without the nodes that nobody reads."""
    needed = {part.name for part in parts([output]) if isinstance(part, Value)}
    kept = []
    for node in reversed(nodes):
        if node.name in needed:
            needed.update(node.reads())
            kept.append(node)
    return kept[::-1]


def _expect_types(tensors: Mapping[str, Tensor], parameters: frozenset[str]) -> None:
    for name, tensor in tensors.items():
        if tensor.dtype not in DTYPE_NAMES or (tensor.dtype == torch.float16):
            raise ModelError(
                f"the tensors of a network must be of float32, integers or bool; {name} is {tensor.dtype}. "
                "Call model.float() before the export."
            )
        if name in parameters and tensor.is_floating_point() and tensor.dtype != torch.float32:
            raise ModelError(
                f"the parameters of a network must be float32; {name} is {tensor.dtype}. "
                "Call model.float() before the export."
            )


def _is_view(node: fx.Node) -> bool:
    pieces = operator_name(node.target).split(".")
    return node.op == "call_function" and len(pieces) > 1 and pieces[1] in _VIEWS
