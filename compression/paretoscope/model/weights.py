"""The weights of a network, found by what they do: the tensors that recipes act on.

A weight is what inputs are multiplied with, or looked up in: kernels of convolutions, matrices of linear and recurrent
layers and of attention, tables of embeddings, and bare parameters that are operands of a matrix product, a convolution
or a lookup. Everything else is the rest: biases, normalisation, positions and tokens, which are added or joined, scales
of layers, which multiply value by value, and vectors.

Where the outputs of a weight lie decides how it is turned (`layouts`): a row of a weight is one output. `x @ w` has
them on the second axis of w.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from paretoscope.graph.graph_module import GraphModule
from paretoscope.graph.network_graph import Argument, NetworkGraph, Node, TensorName, Value, parts
from paretoscope.graph.operators import OPERATORS
from paretoscope.model import layouts
from paretoscope.model.kinds import LayerKind

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, *layouts.TRANSPOSED)
_PROJECTIONS = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")


@dataclass(frozen=True, slots=True)
class Weight:
    """What a weight is. turned: groups of its layout, where its outputs lie on the second axis (`layouts`)."""

    kind: LayerKind
    turned: int | None = None


def find(module: nn.Module) -> dict[str, Weight]:
    """The weights of a network by state-dict name, tied ones under each name that does something.

    Of an imported network by its layers and its graph; of any other module by its layers: there, embeddings and
    recurrent layers are the rest.
    """
    found: dict[str, Weight] = {}
    graph = module.graph if isinstance(module, GraphModule) else None
    for path, part in module.named_modules():
        prefix = f"{path}." if path else ""
        for leaf, weight in _of_layer(part, imported=graph is not None):
            found.setdefault(prefix + leaf, weight)
    if graph is not None:
        for name, weight in _operands(graph):
            found.setdefault(name, weight)
    return found


def names(module: nn.Module) -> set[str]:
    """The names of `find`."""
    return set(find(module))


def turned(module: nn.Module) -> dict[str, int]:
    """The groups of each weight whose outputs lie on its second axis, by name."""
    return {name: weight.turned for name, weight in find(module).items() if weight.turned is not None}


_TITLES = {
    LayerKind.CONVOLUTION: "convolutions",
    LayerKind.DEPTHWISE: "depthwise convolutions",
    LayerKind.LINEAR: "linear layers",
    LayerKind.ATTENTION: "attention projections",
    LayerKind.EMBEDDING: "embeddings",
    LayerKind.RECURRENT: "recurrent layers",
    LayerKind.PRODUCT: "matrix products",
}


def described(module: nn.Module) -> dict[str, str]:
    """What each parameter is, in a word or two, by name; a tied one once, under the first of its names."""
    parameters = dict(module.named_parameters())
    names = {id(parameter): name for name, parameter in parameters.items()}
    kinds: dict[str, str] = {}
    for part in module.modules():
        for leaf, parameter in part.named_parameters(recurse=False):
            kinds.setdefault(names[id(parameter)], _rest_kind(part, leaf, parameter))
    every = dict(module.named_parameters(remove_duplicate=False))
    for name, weight in find(module).items():
        if name in every:
            kinds[names[id(every[name])]] = _TITLES[weight.kind]
    return {name: kinds[name] for name in parameters}


def _rest_kind(part: nn.Module, leaf: str, parameter: Tensor) -> str:
    if isinstance(part, (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm)):
        return "normalisation"
    if "bias" in leaf or parameter.ndim == 1:
        return "biases and other vectors"
    if isinstance(part, nn.Embedding):
        return "embeddings"
    if isinstance(part, nn.RNNBase):
        return "recurrent layers"
    return "positions, tokens and scales"


# Layers.


def _of_layer(part: nn.Module, *, imported: bool) -> Iterator[tuple[str, Weight]]:
    if isinstance(part, nn.MultiheadAttention):
        for leaf in _PROJECTIONS:
            if getattr(part, leaf) is not None:
                yield leaf, Weight(LayerKind.ATTENTION)
        yield "out_proj.weight", Weight(LayerKind.ATTENTION)
    elif isinstance(part, nn.Linear):
        yield "weight", Weight(LayerKind.LINEAR)
    elif isinstance(part, _CONVOLUTIONS):
        depthwise = part.groups == part.in_channels and part.groups > 1
        kind = LayerKind.DEPTHWISE if depthwise else LayerKind.CONVOLUTION
        yield "weight", Weight(kind, part.groups if isinstance(part, layouts.TRANSPOSED) else None)
    elif imported and isinstance(part, nn.Embedding):
        yield "weight", Weight(LayerKind.EMBEDDING)
    elif imported and isinstance(part, nn.RNNBase):
        for leaf, tensor in part.named_parameters(recurse=False):
            if tensor.ndim > 1:
                yield leaf, Weight(LayerKind.RECURRENT)


# Operands. Products take two, from this argument on.

_PRODUCTS = {
    "aten.matmul.default": 0, "aten.mm.default": 0, "aten.bmm.default": 0,
    "aten.addmm.default": 1, "aten.baddbmm.default": 1,
}  # fmt: skip
_VIEWS = frozenset(
    f"aten.{name}"
    for name in (
        "view.default", "reshape.default", "flatten.using_ints", "unflatten.int", "permute.default", "transpose.int",
        "t.default", "unsqueeze.default", "squeeze.dim", "squeeze.dims", "expand.default", "slice.Tensor", "select.int",
        "narrow.default", "chunk.default", "split.Tensor", "split_with_sizes.default", "unbind.int",
    )
) | {"operator.getitem"}  # fmt: skip
# What changes values and keeps places: a weight that is scaled or standardised before it is used is a weight.
_VALUES = frozenset(
    f"aten.{name}"
    for name in (
        "add.Tensor", "add.Scalar", "sub.Tensor", "sub.Scalar", "mul.Tensor", "mul.Scalar", "div.Tensor", "div.Scalar",
        "neg.default", "contiguous.default", "clone.default", "alias.default", "detach.default", "to.dtype",
        "_to_copy.default", "batch_norm.default",
    )
)  # fmt: skip


@dataclass(frozen=True, eq=False, slots=True)
class _Origin:
    """What a value was made of. view: of a tensor without values, in whose strides its places show."""

    name: str
    view: Tensor | tuple[Tensor, ...]


def _operands(graph: NetworkGraph) -> Iterator[tuple[str, Weight]]:
    """Bare parameters that do a weight's work, in the order in which the graph uses them."""
    shapes = {name: spec.shape for name, spec in graph.tensors.items()}
    parameters = {name for name, spec in graph.tensors.items() if spec.kind == "parameter"}
    origins: dict[str, _Origin] = {}
    fed = {each.name for each in graph.inputs}  # values that depend on the inputs
    for node in graph.nodes:
        if any(name in fed for name in node.reads()):
            fed.add(node.name)

        def origin(argument: Argument) -> _Origin | None:
            if isinstance(argument, TensorName) and argument.name in parameters:
                return _Origin(argument.name, torch.empty(shapes[argument.name], device="meta"))
            return origins.get(argument.name) if isinstance(argument, Value) else None

        for operand, kind, axis, groups in _uses(node, fed):
            found = origin(operand)
            if found is not None and isinstance(found.view, Tensor) and len(shapes[found.name]) > 1:
                weight = _weight(found.view, shapes[found.name], kind, axis, groups)
                if weight is not None:
                    yield found.name, weight
        if node.name not in fed and (made := _followed(node, origin)) is not None:
            origins[node.name] = made


def _uses(node: Node, fed: set[str]) -> Iterator[tuple[Argument, LayerKind, int, int]]:
    """The operands of a node that may be weights: the argument, its kind, the axis of its outputs, groups."""
    given = dict(enumerate(node.args))
    name = node.operator
    if name == "aten.linear.default":
        yield given[1], LayerKind.LINEAR, 0, 1
    elif name in _PRODUCTS:
        first = _PRODUCTS[name]
        yield given[first], LayerKind.PRODUCT, -2, 1
        yield given[first + 1], LayerKind.PRODUCT, -1, 1
    elif name.startswith("aten.conv_transpose"):
        groups = given.get(6, node.kwargs.get("groups", 1))
        yield given[1], LayerKind.CONVOLUTION, 1, groups if isinstance(groups, int) else 1
    elif name.startswith("aten.conv"):
        yield given[1], LayerKind.CONVOLUTION, 0, 1
    elif name == "aten.embedding.default":
        yield given[0], LayerKind.EMBEDDING, 0, 1
    elif name in ("aten.index.Tensor", "aten.index_select.default", "aten.gather.default"):
        # With indices that are constants it is a table of positions.
        if any(isinstance(each, Value) and each.name in fed for each in parts([*node.args[1:]])):
            yield given[0], LayerKind.EMBEDDING, 0, 1
    elif name == "aten.einsum.default" and isinstance(given[0], str) and isinstance(given[1], list):
        for operand, axis in zip(given[1], _einsum_axes(given[0]), strict=False):
            if axis is not None:
                yield operand, LayerKind.PRODUCT, axis, 1


def _einsum_axes(equation: str) -> list[int | None]:
    """For each operand the axis of its outputs: the first that the result has and no other operand."""
    left, _, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    axes: list[int | None] = []
    for place, term in enumerate(terms):
        if "." in term:
            axes.append(None)
            continue
        others = set("".join(terms[:place] + terms[place + 1 :]))
        axes.append(next((axis for axis, each in enumerate(term) if each in right and each not in others), 0))
    return axes


def _followed(node: Node, origin: Callable[[Argument], _Origin | None]) -> _Origin | None:
    """What a view of a weight, or a weight with other values, is of."""
    found = [each for part in parts([*node.args]) if (each := origin(part)) is not None]
    if node.operator in _VALUES:
        whole = [each for each in found if isinstance(each.view, Tensor)]
        return max(whole, key=lambda each: each.view.numel(), default=None)  # type: ignore[union-attr]
    if node.operator not in _VIEWS or len(found) != 1 or isinstance(node.args[0], list):
        return None
    try:
        made = OPERATORS[node.operator](found[0].view, *node.args[1:], **node.kwargs)
    except (RuntimeError, TypeError, IndexError, ValueError):
        return None  # its sizes are values of the graph
    views = (made,) if isinstance(made, Tensor) else tuple(made)
    own = isinstance(found[0].view, tuple) or all(each._is_view() or each is found[0].view for each in views)
    return _Origin(found[0].name, made if isinstance(made, Tensor) else views) if own else None


def _weight(view: Tensor, shape: tuple[int, ...], kind: LayerKind, axis: int, groups: int) -> Weight | None:
    """A weight of this shape, of which an operator reads this view with its outputs on `axis`."""
    if view.ndim < 2 or any(step == 0 and size > 1 for step, size in zip(view.stride(), view.shape, strict=True)):
        return None  # a vector, or a token that is spread over the samples
    if len(shape) < 2 or 0 in shape:
        return None
    step, size = view.stride(axis), view.shape[axis]
    strides = torch.empty(shape, device="meta").stride()
    # The axis of the weight that the outputs are part of, and of no other.
    if size > 1 and strides[1] <= step and step * size <= strides[1] * shape[1]:
        return Weight(kind, groups)
    return Weight(kind)
