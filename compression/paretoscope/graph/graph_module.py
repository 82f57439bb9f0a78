"""A graph of a network as a module: its layers are modules at their paths, its nodes are called one after another."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from paretoscope.base.errors import ModelError
from paretoscope.graph import layers
from paretoscope.graph.network_graph import DTYPES, Argument, NetworkGraph, Node, TensorName, Value, parts
from paretoscope.graph.operators import function_of


class GraphModule(nn.Module):
    """graph: what runs. origin: what it was made from, before `become`.

    Its state dict has the names of the network that was imported. Layers and tensors are looked up when they are
    called, so that whoever replaces one (`set_submodule`, an entry of `_parameters`) is heard. Raises ModelError for a
    graph whose layers PyTorch cannot make.
    """

    def __init__(self, graph: NetworkGraph) -> None:
        super().__init__()
        self.origin = graph
        self._plan = _Plan.of(graph)
        for path, (kind, settings) in graph.layers.items():
            _place(self, path, layers.make(kind, settings, path))
        for name, spec in graph.tensors.items():
            tensor = torch.zeros(spec.shape, dtype=DTYPES[spec.dtype])
            owner, leaf = _owner(self, name)
            _expect_free(owner, leaf, name)
            if spec.kind == "parameter":
                owner.register_parameter(leaf, nn.Parameter(tensor, requires_grad=tensor.is_floating_point()))
            else:
                owner.register_buffer(leaf, tensor)
        for name, other in graph.ties.items():
            owner, leaf = _owner(self, name)
            source, last = _owner(self, other)
            tensors = owner._parameters if last in source._parameters else owner._buffers
            if last not in source._parameters and last not in source._buffers:
                raise ModelError(f"a tie must name a tensor of the network; {other} is none. Import the network again.")
            if leaf not in tensors:
                _expect_free(owner, leaf, name)
            tensors[leaf] = _tensor(self, (*other.split("."),))

    @property
    def graph(self) -> NetworkGraph:
        return self._plan.graph

    def forward(self, *inputs: Tensor) -> Any:
        """inputs: (n, *shape) each, in the order of the graph's."""
        plan = self._plan
        if len(inputs) != len(plan.graph.inputs):
            raise ModelError(f"this network takes {len(plan.graph.inputs)} inputs; got {len(inputs)}.")
        values: list[Any] = [*inputs, *([None] * len(plan.steps))]
        place = len(inputs)
        for step in plan.steps:
            function = step.function
            if function is None:
                module: nn.Module = self
                for name in step.layer:
                    module = module._modules[name]  # type: ignore[assignment]
                function = module
            args = [_resolved(self, each, values) if type(each) in _NAMES else each for each in step.args]
            if step.kwargs:
                values[place] = function(*args, **{k: _resolved(self, a, values) for k, a in step.kwargs.items()})
            else:
                values[place] = function(*args)
            place += 1
            for dead in step.dying:
                values[dead] = None
        result = _resolved(self, plan.output, values)
        return tuple(result) if isinstance(result, list) else result

    def run_by(self, graph: NetworkGraph) -> None:
        """Run another graph of these layers and tensors from now on, in place; none of them goes."""
        self._plan = _Plan.of(graph)

    def become(self, graph: NetworkGraph) -> None:
        """Run another graph from now on, in place; layers and tensors that it has not are gone."""
        for path in self.graph.layers.keys() - graph.layers.keys():
            _remove(self, path)
        own = {name.rpartition(".")[0] for name in graph.tensors} | graph.layers.keys()
        for name in (self.graph.tensors.keys() | self.graph.ties.keys()) - graph.tensors.keys() - graph.ties.keys():
            path, _, leaf = name.rpartition(".")
            owner = dict(self.named_modules()).get(path)
            if owner is not None and path not in graph.layers:
                owner._parameters.pop(leaf, None)
                owner._buffers.pop(leaf, None)
        for path in sorted((p for p, _ in self.named_modules() if p), key=len, reverse=True):
            part = self.get_submodule(path)
            if path not in own and type(part) is nn.Module and not part._modules and not part._parameters:
                _remove(self, path)
        self.run_by(graph)

    def called(self, node: Node, values: Mapping[str, Any]) -> Any:
        """What a node gives. values: of the inputs and of the nodes before, by name."""
        function: Callable[..., Any]
        layer = node.layer
        function = self.get_submodule(layer) if layer is not None else function_of(node.operator, node.where)
        args = [self.resolved(each, values) for each in node.args]
        kwargs = {key: self.resolved(each, values) for key, each in node.kwargs.items()}
        return function(*args, **kwargs)

    def resolved(self, argument: Argument, values: Mapping[str, Any]) -> Any:
        """What an argument stands for."""
        if isinstance(argument, Value):
            return values[argument.name]
        if isinstance(argument, TensorName):
            return _tensor(self, tuple(argument.name.split(".")))
        if isinstance(argument, list):
            return [self.resolved(each, values) for each in argument]
        return argument


@dataclass(frozen=True, slots=True)
class _Place:
    """Stands for an input or a node's value, by its place in the list of values."""

    index: int


@dataclass(frozen=True, slots=True)
class _Path:
    """Stands for a tensor, by the names on the way to it."""

    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Parts:
    """Stands for a list of arguments some of which stand for others."""

    items: tuple[Any, ...]


# What is not an argument itself.
_NAMES = (_Place, _Path, _Parts)


@dataclass(frozen=True, slots=True)
class _Step:
    """A node, ready to be called. layer: the names on the way to it, where there is no function.

    dying: places of the values that no later node reads.
    """

    function: Callable[..., Any] | None
    layer: tuple[str, ...]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    dying: tuple[int, ...]


@dataclass(frozen=True, eq=False, slots=True)
class _Plan:
    graph: NetworkGraph
    steps: tuple[_Step, ...]
    output: Any

    @classmethod
    def of(cls, graph: NetworkGraph) -> Self:
        places = {
            name: place for place, name in enumerate([*(i.name for i in graph.inputs), *(n.name for n in graph.nodes)])
        }
        steps = [
            _step(node, places, dying) for node, dying in zip(graph.nodes, _last_reads(graph, places), strict=True)
        ]
        return cls(graph, tuple(steps), _prepared(graph.output, places))

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self  # nothing in it ever changes


def _step(node: Node, places: Mapping[str, int], dying: tuple[int, ...]) -> _Step:
    layer = node.layer
    return _Step(
        None if layer is not None else function_of(node.operator, node.where),
        () if layer is None else tuple(layer.split(".")),
        tuple(_prepared(each, places) for each in node.args),
        {key: _prepared(each, places) for key, each in node.kwargs.items()},
        dying,
    )


def _prepared(argument: Argument, places: Mapping[str, int]) -> Any:
    if isinstance(argument, Value):
        return _Place(places[argument.name])
    if isinstance(argument, TensorName):
        return _Path(tuple(argument.name.split(".")))
    if isinstance(argument, list):
        return _Parts(tuple(_prepared(each, places) for each in argument))
    return argument


def _resolved(root: nn.Module, argument: Any, values: list[Any]) -> Any:
    if type(argument) is _Place:
        return values[argument.index]
    if type(argument) is _Path:
        return _tensor(root, argument.names)
    if type(argument) is _Parts:
        return [_resolved(root, each, values) for each in argument.items]
    return argument


def _tensor(module: nn.Module, names: tuple[str, ...]) -> Any:
    for name in names[:-1]:
        module = module._modules[name]  # type: ignore[assignment]
    return getattr(module, names[-1])


def _last_reads(graph: NetworkGraph, places: Mapping[str, int]) -> Sequence[tuple[int, ...]]:
    """Places of the values that no node after each node reads."""
    last: dict[str, int] = {each.name: 0 for each in graph.inputs}
    for place, node in enumerate(graph.nodes):
        last[node.name] = place
        for name in node.reads():
            last[name] = place
    for part in parts([graph.output]):
        if isinstance(part, Value):
            last.pop(part.name, None)
    dying: list[list[int]] = [[] for _ in graph.nodes]
    for name, place in last.items():
        if dying:
            dying[place].append(places[name])
    return [tuple(found) for found in dying]


def _owner(module: nn.Module, name: str) -> tuple[nn.Module, str]:
    """The module that has the tensor or layer of that dotted name, made where it is missing; and the last part."""
    path, _, leaf = name.rpartition(".")
    for part in path.split(".") if path else ():
        if part not in module._modules:
            _expect_free(module, part, name)
            module.add_module(part, nn.Module())
        module = module.get_submodule(part)
    return module, leaf


def _expect_free(module: nn.Module, leaf: str, name: str) -> None:
    if hasattr(module, leaf):
        raise ModelError(f"the names in a network must not be those of a module's own parts; {name} is. Rename it.")


def _place(root: nn.Module, path: str, layer: nn.Module) -> None:
    owner, leaf = _owner(root, path)
    existing = owner._modules.get(leaf)
    if existing is None:
        _expect_free(owner, leaf, path)
    else:  # a container that was made for what lies within
        for name, child in existing._modules.items():
            layer.add_module(name, child)
    owner.add_module(leaf, layer)


def _remove(root: nn.Module, path: str) -> None:
    """Take a layer away; what lies within it by its path stays."""
    owner, leaf = _owner(root, path)
    layer = owner._modules.pop(leaf)
    if layer is not None and layer._modules:
        rest = nn.Module()
        for name, child in layer._modules.items():
            rest.add_module(name, child)
        owner.add_module(leaf, rest)
