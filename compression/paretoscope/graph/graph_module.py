"""A graph of a network as a module: its layers are modules at their paths, its nodes are called one after another."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from paretoscope.base.errors import ModelError
from paretoscope.graph import layers
from paretoscope.graph.network_graph import DTYPES, Argument, NetworkGraph, Node, TensorName, Value, parts
from paretoscope.graph.operators import function_of


class GraphModule(nn.Module):
    """graph: what runs. origin: what it was made from. Its state dict has the names of the imported network."""

    def __init__(self, graph: NetworkGraph) -> None:
        super().__init__()
        self.graph = self.origin = graph
        for path, (kind, settings) in graph.layers.items():
            _place(self, path, layers.make(kind, settings, path))
        for name, spec in graph.tensors.items():
            tensor = torch.zeros(spec.shape, dtype=DTYPES[spec.dtype])
            owner, leaf = _owner(self, name)
            if spec.kind == "parameter":
                owner.register_parameter(leaf, nn.Parameter(tensor, requires_grad=tensor.is_floating_point()))
            else:
                owner.register_buffer(leaf, tensor)
        for name, other in graph.ties.items():
            owner, leaf = _owner(self, name)
            owner.register_parameter(leaf, self.get_parameter(other))
        self._dying = _last_reads(graph)

    def forward(self, *inputs: Tensor) -> Any:
        """inputs: (n, *shape) each, in the order of the graph's."""
        if len(inputs) != len(self.graph.inputs):
            raise ModelError(f"this network takes {len(self.graph.inputs)} inputs; got {len(inputs)}.")
        values: dict[str, Any] = {each.name: x for each, x in zip(self.graph.inputs, inputs, strict=True)}
        for node, dying in zip(self.graph.nodes, self._dying, strict=True):
            values[node.name] = self.called(node, values)
            for name in dying:
                del values[name]
        return self.resolved(self.graph.output, values)

    def run_by(self, graph: NetworkGraph) -> None:
        """Run another graph of these layers and tensors from now on, in place; none of them goes."""
        self.graph = graph
        self._dying = _last_reads(graph)

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

    def called(self, node: Node, values: dict[str, Any]) -> Any:
        """What a node gives. values: of the inputs and of the nodes before, by name."""
        function: Callable[..., Any]
        layer = node.layer
        function = self.get_submodule(layer) if layer is not None else function_of(node.operator)
        args = [self.resolved(each, values) for each in node.args]
        kwargs = {key: self.resolved(each, values) for key, each in node.kwargs.items()}
        return function(*args, **kwargs)

    def resolved(self, argument: Argument, values: dict[str, Any]) -> Any:
        """What an argument stands for."""
        if isinstance(argument, Value):
            return values[argument.name]
        if isinstance(argument, TensorName):
            owner, leaf = _owner(self, argument.name)
            return getattr(owner, leaf)
        if isinstance(argument, list):
            return [self.resolved(each, values) for each in argument]
        return argument


def _last_reads(graph: NetworkGraph) -> Sequence[tuple[str, ...]]:
    """Names of the values that no node after each node reads."""
    last: dict[str, int] = {each.name: 0 for each in graph.inputs}
    for place, node in enumerate(graph.nodes):
        last[node.name] = place
        for name in node.reads():
            last[name] = place
    for part in parts([graph.output]):
        if isinstance(part, Value):
            last.pop(part.name, None)
    dying: list[list[str]] = [[] for _ in graph.nodes]
    for name, place in last.items():
        if dying:
            dying[place].append(name)
    return [tuple(names) for names in dying]


def _owner(module: nn.Module, name: str) -> tuple[nn.Module, str]:
    """The module that has the tensor or layer of that dotted name, made where it is missing; and the last part."""
    path, _, leaf = name.rpartition(".")
    for part in path.split(".") if path else ():
        if part not in module._modules:
            module.add_module(part, nn.Module())
        module = module.get_submodule(part)
    return module, leaf


def _place(root: nn.Module, path: str, layer: nn.Module) -> None:
    owner, leaf = _owner(root, path)
    existing = owner._modules.get(leaf)
    if existing is not None:  # a container that was made for what lies within
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
