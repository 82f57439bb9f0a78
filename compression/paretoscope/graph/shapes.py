"""The shapes of all values of a graph, from one pass without any values.

Graphs come from outside: what would take memory or time without any tensor that is that large is refused here.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from paretoscope.base.batch import tensors_in
from paretoscope.base.errors import ModelError
from paretoscope.base.text import reason
from paretoscope.graph.graph_module import GraphModule
from paretoscope.graph.network_graph import DTYPES, NetworkGraph, Node

# Numbers of one value for two samples; a value that is wider is an attempt to fill the memory.
MOST = 2**30
# Pieces that one call may take a tensor apart into.
MOST_PIECES = 2**14
_PIECES = ("aten.chunk.default", "aten.split.Tensor", "aten.split_with_sizes.default", "aten.unbind.int")
_LARGEST_NUMBER = 2**62
# Whether a value is a tensor or one of PyTorch's numbers, which stand for sizes.
Shape = tuple[int, ...] | int | float | bool | list[Any] | None


def shapes_of(graph: NetworkGraph, module: GraphModule | None = None, batch: int = 2) -> dict[str, Shape]:
    """The shape of each input and of what each node gives, by name, and of the output, by ""; lists where it gives
    several, numbers as they are.

    module: of that graph on the meta device, to save making it. Raises ModelError where the parts do not fit together.
    """
    with torch.device("meta"), torch.no_grad():
        module = GraphModule(graph).eval() if module is None else module
        values: dict[str, Any] = {
            each.name: torch.empty(batch, *each.shape, dtype=DTYPES[each.dtype]) for each in graph.inputs
        }
        for node in graph.nodes:
            _expect_bounded(node, [module.resolved(each, values) for each in node.args])
            values[node.name] = _bounded(module, node, values)
        output = module.resolved(graph.output, values)
    if not list(tensors_in(output)):
        raise ModelError("a network must give tensors; this graph gives none.")
    return {name: _shape(value) for name, value in values.items()} | {"": _shape(output)}


def called(module: GraphModule, node: Node, values: Mapping[str, Any]) -> Any:
    """What a node gives without values. module: on the meta device. values: of the inputs and nodes before, by name."""
    layer = None if node.layer is None else module.get_submodule(node.layer)
    first = module.resolved(node.args[0], values) if node.args else None
    if isinstance(layer, nn.RNNBase) and isinstance(first, Tensor):
        return _recurrent(layer, first)
    with torch.no_grad(), torch.device("meta"):
        return module.called(node, values)


def _recurrent(layer: nn.RNNBase, x: Tensor) -> tuple[Tensor, Any]:
    """What a recurrent layer gives, whose steps PyTorch would follow one by one."""
    if x.ndim != 3 or x.shape[-1] != layer.input_size:
        raise ValueError(f"a recurrent layer takes (n, steps, {layer.input_size}); got {tuple(x.shape)}")
    directions = 2 if layer.bidirectional else 1
    n = x.shape[0] if layer.batch_first else x.shape[1]
    state = x.new_empty(layer.num_layers * directions, n, layer.hidden_size)
    output = x.new_empty(*x.shape[:2], directions * layer.hidden_size)
    return output, (state, state.clone()) if isinstance(layer, nn.LSTM) else state


def _bounded(module: GraphModule, node: Node, values: Mapping[str, Any]) -> Any:
    try:
        result = called(module, node, values)
    except ModelError:
        raise
    except Exception as error:  # whatever operators say of arguments that do not fit
        place = node.where or node.operator
        raise ModelError(f"the layers must fit each other; {reason(error, 200)} at {place}.") from None
    for tensor in tensors_in(result):
        if tensor.numel() > MOST:
            raise ModelError(f"a value must have at most {MOST:,} numbers; {node.name} has {tensor.numel():,}.")
    return result


def _shape(value: Any) -> Shape:
    if isinstance(value, Tensor):
        return tuple(value.shape)
    if isinstance(value, (list, tuple)):
        return [_shape(each) for each in value]
    return value if isinstance(value, (int, float, bool)) else None


def _expect_bounded(node: Node, args: list[Any]) -> None:
    arithmetic = node.operator.startswith("operator.") and node.operator != "operator.getitem"
    if arithmetic and not all(type(each) is int and abs(each) < _LARGEST_NUMBER for each in args):
        raise ModelError(f"{node.operator} must be of whole numbers; {node.name} is not.")
    if node.operator in _PIECES and isinstance(args[0], Tensor):
        sizes = args[1] if len(args) > 1 and isinstance(args[1], list) else ()
        if max([*args[0].shape, len(sizes)]) > MOST_PIECES:
            raise ModelError(f"a tensor must be taken into at most {MOST_PIECES:,} pieces; {node.name} may be more.")
