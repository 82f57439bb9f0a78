"""The structure of a simplified network, as plain names, and how such a network is built again from them.

A simplified network is a known architecture with some parts taken out or replaced (`Structure`), and every layer at
the width that its tensors have. Both are data: a network is rebuilt without any code from outside.
"""

import dataclasses
import reprlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeGuard

import torch
from torch import nn
from torch.nn.utils import skip_init

from paretoscope.base.batch import parts, tensors_in
from paretoscope.base.errors import ArtefactError, ModelError
from paretoscope.graph import layers as layer_kinds
from paretoscope.graph.blocks import Block, blocks_of, without
from paretoscope.graph.edits import replaced, rewritten
from paretoscope.graph.graph_module import GraphModule
from paretoscope.graph.network_graph import LAYER, NetworkGraph, Node, Value
from paretoscope.graph.shapes import shapes_of
from paretoscope.model.residual import residual
from paretoscope.networks import sources

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Structure:
    """How a network differs from the architecture that it came from, apart from its widths.

    dropped: blocks replaced by the identity. folded: pairs (convolution, batch normalisation), of which the latter is
    now the identity and the former has a bias. merged: pairs of linear maps, of which the first does the work of both.
    factored: pairs (layer, rank); the layer is now a Sequential of two.
    """

    dropped: tuple[str, ...] = ()
    folded: tuple[tuple[str, str], ...] = ()
    merged: tuple[tuple[str, str], ...] = ()
    factored: tuple[tuple[str, int], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """JSON's types; fields that are empty are left out."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {
            name: [list(item) if isinstance(item, tuple) else item for item in items]
            for name, items in values.items()
            if items
        }

    @classmethod
    def from_dict(cls, data: object) -> "Structure":
        """The structure that `to_dict` described; raises ArtefactError for anything else.

        Whether the names fit an architecture shows when it is built.
        """
        if not isinstance(data, dict) or not data.keys() <= _ITEMS.keys():
            raise _refused(f"may have the fields {', '.join(_ITEMS)}", data)
        for name, items in data.items():
            fits, rule = _ITEMS[name]
            if not isinstance(items, list) or not items or not all(fits(item) for item in items):
                raise _refused(f"must have {rule} as {name}", items)
        fields: dict[str, Any] = {
            name: tuple(tuple(item) if isinstance(item, list) else item for item in items)
            for name, items in data.items()
        }
        return cls(**fields)


def _pair(item: object, second: type) -> bool:
    return isinstance(item, list) and len(item) == 2 and type(item[0]) is str and type(item[1]) is second


def _ranked(item: object) -> bool:
    return isinstance(item, list) and _pair(item, int) and item[1] > 0


_ITEMS: dict[str, tuple[Callable[[object], bool], str]] = {
    "dropped": (lambda item: isinstance(item, str), "a list of names"),
    "folded": (lambda item: _pair(item, str), "a list of pairs of names"),
    "merged": (lambda item: _pair(item, str), "a list of pairs of names"),
    "factored": (_ranked, "a list of names with ranks"),
}


def _refused(rule: str, value: object) -> ArtefactError:
    return ArtefactError(
        f"a structure {rule}; this one says {reprlib.repr(value)}. The file is damaged: export the model again."
    )


def blocks(module: nn.Module) -> tuple[str, ...]:
    """Names of the blocks that can be dropped: residual ones, whose output has the shape of their input."""
    return tuple(_graph_blocks(module)[0]) if isinstance(module, GraphModule) else residual(module)


def several(module: nn.Module) -> tuple[str, ...]:
    """Names of parts that are several blocks in a row, none of them gone, which can be dropped together."""
    return tuple(_graph_blocks(module)[1]) if isinstance(module, GraphModule) else ()


def _graph_blocks(module: GraphModule) -> tuple[dict[str, Block], dict[str, Block]]:
    """The blocks that are left of those of the graph that the module was made from, by their names there."""
    single, whole = blocks_of(module.origin)
    if module.graph is module.origin:
        return single, whole
    left = {block.sums[0]: block for block in blocks_of(module.graph)[0].values()}
    return (
        {name: left[block.sums[0]] for name, block in single.items() if block.sums[0] in left},
        {
            name: Block(left[block.sums[0]].x, left[block.sums[-1]].output, block.sums)
            for name, block in whole.items()
            if all(each in left for each in block.sums)
        },
    )


def build(architecture: str, structure: Structure, shapes: Shapes, graph: NetworkGraph | None = None) -> nn.Module:
    """A network of that structure in evaluation mode, on the CPU, whose state dict has these names and shapes.

    graph: of the network as it is after all changes; architecture and structure only tell then how it came about.
    All its tensors are zero. Raises UnknownNameError for an architecture that no source has, ArtefactError for names
    or shapes that do not fit it; nothing is allocated before they are known to fit, and no layer can be wider than in
    the architecture.
    """
    if graph is not None:
        return _zeros(_of_graph(graph, shapes))
    network = sources.find(architecture)
    with torch.device("meta"):
        module = network.skeleton()
        restructure(module, structure)
    _resize(module, shapes)
    for name, rank in structure.factored:
        if (found := module.get_parameter(f"{name}.0.weight").shape[0]) != rank:
            raise _refused(f"must give {name} the rank of its tensors, {found}", rank)
    fit(module)
    _rehearse(module, network)
    return _zeros(module)


def _of_graph(graph: NetworkGraph, shapes: Shapes) -> GraphModule:
    """The module on the meta device; raises ArtefactError unless it has these tensors and its layers fit each other."""
    try:
        with torch.device("meta"):
            module = GraphModule(graph).eval()
        found = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
        if differing := sorted(name for name in found.keys() | shapes.keys() if found.get(name) != shapes.get(name)):
            raise ModelError(f"the tensors must be those of the graph; these are not: {', '.join(differing[:5])}.")
        shapes_of(graph, module)
    except (ModelError, KeyError, AttributeError, TypeError, RuntimeError) as error:
        raise ArtefactError(f"{str(error)[:400]} The file is damaged: export the model again.") from None
    return module


def _zeros(module: nn.Module) -> nn.Module:
    """The module in evaluation mode, moved from the meta device to the CPU, all its tensors zero."""
    module.to_empty(device="cpu")
    with torch.no_grad():
        for tensor in module.state_dict().values():
            tensor.zero_()
    return module.eval()


def restructure(module: nn.Module, structure: Structure) -> None:
    """Change a network to that structure, in place, at full width; raises ArtefactError where it cannot."""
    known = blocks(module) if structure.dropped else ()
    for name in structure.dropped:
        if name not in known or isinstance(module.get_submodule(name), nn.Identity):
            raise _refused("must drop blocks that the architecture has", name)
        drop(module, name)
    for conv, norm in structure.folded:
        _part(module, conv, nn.Conv2d)
        _part(module, norm, nn.BatchNorm2d)
        fold(module, conv, norm)
    for first, second in structure.merged:
        kind = type(_part(module, first, nn.Linear, nn.Conv2d))
        _part(module, second, kind)
        merge(module, first, second)
    whole = {name for name, _ in module.named_modules()}
    for name, rank in structure.factored:
        layer = _part(module, name, nn.Linear, nn.Conv2d)
        if name not in whole or not factorable(layer) or rank > min(layer.weight.shape[:2]):
            raise _refused("must factor linear layers and 1x1 convolutions to a rank that they can have", [name, rank])
        factor(module, name, rank)


def _part(module: nn.Module, name: str, *kinds: type[nn.Module]) -> nn.Module:
    part: nn.Module | None = dict(module.named_modules()).get(name)
    if part is None or type(part) not in kinds:
        raise _refused(f"must name a {' or '.join(kind.__name__ for kind in kinds)} of the architecture", name)
    return part


def drop(module: nn.Module, name: str) -> None:
    """Replace a block by the identity, in place."""
    if isinstance(module, GraphModule):
        module.become(_without(module, name))
    else:
        module.set_submodule(name, nn.Identity())


@contextmanager
def dropped(module: nn.Module, name: str) -> Iterator[None]:
    """A network without a block, for as long as the context lasts."""
    if isinstance(module, GraphModule):
        whole = module.graph
        module.run_by(_without(module, name))
        try:
            yield
        finally:
            module.run_by(whole)
        return
    block = module.get_submodule(name)
    module.set_submodule(name, nn.Identity())
    try:
        yield
    finally:
        module.set_submodule(name, block)


def _without(module: GraphModule, name: str) -> NetworkGraph:
    single, whole = _graph_blocks(module)
    return without(module.graph, (whole | single)[name])


# What applies one matrix, or one an offset of its kernel, to the channels.
LinearMap = nn.Linear | nn.modules.conv._ConvNd


def fold(module: nn.Module, conv: str, norm: str) -> LinearMap:
    """Give a linear map a bias (zeros, if it had none) and replace the normalisation by the identity, in place."""
    layer = module.get_submodule(conv)
    assert isinstance(layer, LinearMap), "batch normalisation is folded into a convolution or a linear layer"
    if layer.bias is None:
        outputs = layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels
        layer.bias = nn.Parameter(layer.weight.new_zeros(outputs))
    _leave_out(module, norm)
    return layer


def _leave_out(module: nn.Module, name: str) -> None:
    """Replace a layer by the identity, in place."""
    if isinstance(module, GraphModule):
        described(module)
        calls = {node.name: next(node.reads()) for node in module.graph.nodes if node.layer == name}
        module.become(replaced(module.graph, calls))
    else:
        module.set_submodule(name, nn.Identity())


def described(module: GraphModule) -> None:
    """Let the graph tell its layers as they are now, in place, after one of them or its tensors changed."""
    own = {path: layer_kinds.described(module.get_submodule(path)) for path in module.graph.layers}
    shapes = {name: tuple(tensor.shape) for name, tensor in module.state_dict(keep_vars=True).items()}
    tensors = {name: dataclasses.replace(spec, shape=shapes[name]) for name, spec in module.graph.tensors.items()}
    module.run_by(dataclasses.replace(module.graph, layers=own, tensors=tensors))


_ONE_KIND = "two linear layers or two convolutions are merged, not one of each"


def merge(module: nn.Module, first: str, second: str) -> nn.Module:
    """Replace two linear maps by one with new weights, at the place of the first, in place; returns it."""
    one, other = module.get_submodule(first), module.get_submodule(second)
    bias = one.bias is not None or other.bias is not None
    merged: nn.Module
    if isinstance(one, nn.Linear):
        assert isinstance(other, nn.Linear), _ONE_KIND
        merged = _linear(one, one.in_features, other.out_features, bias=bias)
    else:
        assert isinstance(one, nn.Conv2d) and isinstance(other, nn.Conv2d), _ONE_KIND
        merged = _conv(one, one.in_channels, other.out_channels, bias=bias)
    module.set_submodule(first, merged)
    _leave_out(module, second)
    return merged


def factor(module: nn.Module, name: str, rank: int) -> nn.Sequential:
    """Replace a linear map of inputs to outputs by two, inputs to rank to outputs, in place; returns them."""
    layer = module.get_submodule(name)
    bias = layer.bias is not None
    first: nn.Module
    second: nn.Module
    if isinstance(layer, nn.Linear):
        first = _linear(layer, layer.in_features, rank, bias=False)
        second = _linear(layer, rank, layer.out_features, bias=bias)
    else:
        assert isinstance(layer, nn.Conv2d), "a linear layer or a 1x1 convolution is factored"
        first = _conv(layer, layer.in_channels, rank, bias=False)
        second = _pointwise(layer, rank, layer.out_channels, bias=bias)
    factored = nn.Sequential(first, second)
    module.set_submodule(name, factored)
    if isinstance(module, GraphModule):
        _call_both(module, name)
    return factored


def _call_both(module: GraphModule, name: str) -> None:
    """Let the graph call the two layers that stand in the place of one, in place."""

    def two(node: Node) -> tuple[Node, ...]:
        if node.layer != name:
            return (node,)
        between = f"{node.name}_0"
        first = dataclasses.replace(node, name=between, operator=f"{LAYER}{name}.0")
        return first, dataclasses.replace(node, operator=f"{LAYER}{name}.1", args=(Value(between),))

    graph = module.graph
    pair = {f"{name}.{i}": layer_kinds.described(module.get_submodule(f"{name}.{i}")) for i in (0, 1)}
    layers = {
        path: each
        for own, kept in graph.layers.items()
        for path, each in (pair if own == name else {own: kept}).items()
    }
    module.run_by(rewritten(dataclasses.replace(graph, layers=layers), two))


# Layers are made without random weights, which would advance the caller's random generator.


def _linear(like: nn.Linear, inputs: int, outputs: int, *, bias: bool) -> nn.Linear:
    made: nn.Linear = skip_init(nn.Linear, inputs, outputs, bias, device=like.weight.device)
    return made


def _conv(like: nn.Conv2d, inputs: int, outputs: int, *, bias: bool) -> nn.Conv2d:
    sliding = (like.kernel_size, like.stride, like.padding, like.dilation)
    made: nn.Conv2d = skip_init(
        nn.Conv2d, inputs, outputs, *sliding, bias=bias, padding_mode=like.padding_mode, device=like.weight.device
    )
    return made


def _pointwise(like: nn.Conv2d, inputs: int, outputs: int, *, bias: bool) -> nn.Conv2d:
    made: nn.Conv2d = skip_init(nn.Conv2d, inputs, outputs, 1, bias=bias, device=like.weight.device)
    return made


def factorable(layer: nn.Module) -> TypeGuard[nn.Linear | nn.Conv2d]:
    """Whether a layer multiplies each pixel or row by one matrix, and is free to be replaced by two that do.

    A subclass is not: attention reads the weights of its output layer itself.
    """
    return type(layer) is nn.Linear or (type(layer) is nn.Conv2d and layer.kernel_size == (1, 1) and layer.groups == 1)


def _resize(module: nn.Module, shapes: Shapes) -> None:
    """Give the parameters and buffers, on the meta device, these shapes."""
    state = module.state_dict()
    if state.keys() != shapes.keys():
        differing = ", ".join(sorted(state.keys() ^ shapes.keys())[:5])
        raise ArtefactError(
            f"the tensors must be those of the architecture and its structure; these are on one side only: {differing}."
            " The file is damaged: export the model again."
        )
    for name, tensor in state.items():
        shape, full = tuple(shapes[name]), tuple(tensor.shape)
        if not _narrower(shape, full):
            raise ArtefactError(
                f"a layer may be narrower than in the architecture, and no more; {name} has the shape {shape}, the "
                f"architecture's is {full}. The file is damaged: export the model again."
            )
        path, _, leaf = name.rpartition(".")
        owner = module.get_submodule(path)
        resized = torch.empty(shape, dtype=tensor.dtype, device="meta")
        if leaf in owner._parameters:
            owner._parameters[leaf] = nn.Parameter(resized)
        else:
            owner._buffers[leaf] = resized


def _narrower(shape: tuple[int, ...], full: tuple[int, ...]) -> bool:
    """Whether only the channels are fewer: not the pixels of a kernel, not the tokens of an embedding."""
    channels = {3: (2,)}.get(len(full), (0, 1))
    return len(shape) == len(full) and all(
        type(size) is int and (1 <= size <= most if axis in channels else size == most)
        for axis, (size, most) in enumerate(zip(shape, full, strict=True))
    )


def fit(module: nn.Module) -> None:
    """Set the widths that layers state from the shapes of their tensors, in place."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            outputs, inputs = part.weight.shape[:2]
            if part.groups == part.in_channels > 1:
                part.groups = outputs
            part.in_channels, part.out_channels = inputs * part.groups, outputs
        elif isinstance(part, nn.Linear):
            part.out_features, part.in_features = part.weight.shape
        elif isinstance(part, nn.BatchNorm2d) and part.running_mean is not None:
            part.num_features = len(part.running_mean)
        elif isinstance(part, nn.LayerNorm) and part.weight is not None:
            part.normalized_shape = tuple(part.weight.shape)
        elif isinstance(part, nn.MultiheadAttention):
            width: int = part.out_proj.weight.shape[0]
            part.embed_dim = part.kdim = part.vdim = width
            part.head_dim = part.embed_dim // part.num_heads
        elif "hidden_dim" in vars(part) and isinstance(token := getattr(part, "class_token", None), nn.Parameter):
            # A vision transformer expands its class token to this width. Past nn.Module, whose attributes are tensors.
            vars(part)["hidden_dim"] = token.shape[-1]


def _rehearse(module: nn.Module, network: sources.Network) -> None:
    """Raises ArtefactError unless the layers fit each other; one forward pass of shapes without values."""
    try:
        with torch.no_grad():
            made = module(*parts(network.empty(2, "meta")))
        shapes = tuple(tuple(each.shape) for each in tensors_in(made))
        fits = shapes == tuple((2, *shape) for shape in network.outputs)
        reason = f"the outputs for 2 samples have the shapes {shapes}"
    except (RuntimeError, AssertionError, ValueError) as error:
        fits, reason = False, str(error).partition("\n")[0]
    if not fits:
        raise ArtefactError(f"the layers must fit each other; {reason}. The file is damaged: export the model again.")
