"""Which channels of a graph must go together.

Every element of every value carries a label: the unit that it belongs to. Layers make new labels for what they give,
elementwise operators unite the labels of what they combine, moves (reshape, permute, concatenate, slice ...) move
them, so that heads of attention, channel shuffles, dense connections and skips need no rules of their own. Labels of
what no rule covers, of inputs and of outputs are never removed: a graph that is not understood stays as it is.

The file is long because it has one rule for each operator, and all share the labels.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, cast

import numpy as np

from paretoscope.graph import layers as layer_kinds
from paretoscope.graph.labels import FROZEN, Labels, Unions, along, bounds, reshaped, untracked
from paretoscope.graph.network_graph import Argument, NetworkGraph, Node, TensorName, Value, parts
from paretoscope.graph.shapes import Shape, shapes_of

# Samples that shapes are traced with: a number that a network hardly has as a width.
BATCH = 13

_SAME = {
    *("relu", "relu6", "hardtanh", "hardswish", "hardsigmoid", "silu", "mish", "gelu", "elu", "leaky_relu", "softplus"),
    *("sigmoid", "tanh", "neg", "abs", "exp", "log", "sqrt", "rsqrt", "reciprocal", "erf", "sin", "cos", "square"),
    *("clamp", "clamp_min", "clamp_max", "pow", "logical_not", "bitwise_not", "contiguous", "clone", "dropout"),
    *("_to_copy", "to", "type_as", "detach", "alias", "roll", "flip"),
}
_ELEMENTWISE = {
    *("add", "sub", "mul", "div", "maximum", "minimum", "where", "masked_fill", "eq", "ne", "lt", "le", "gt", "ge"),
    *("rsub", "logical_and", "bitwise_and"),
}
_POOLS = {f"{kind}_pool{n}d" for kind in ("max", "avg", "adaptive_avg") for n in (1, 2, 3)}
_POOLS |= {"upsample_nearest2d", "upsample_bilinear2d", "pad", "constant_pad_nd"}
_REDUCE = {"mean", "sum", "amax", "amin", "argmax", "var", "linalg_vector_norm"}
_ALONG = {"softmax", "log_softmax", "cumsum"}
_VIEWS = {"view", "reshape", "flatten", "unflatten", "reshape_as"}


@dataclass(frozen=True, slots=True)
class Group:
    """Units of one kind, which lie in the same axes of the same tensors. units: their labels."""

    units: np.ndarray
    axes: tuple[tuple[str, int], ...]


@dataclass
class Widths(Unions):
    """The labels of a graph. axes: of the tensors, by name and axis. roles: whether an axis is what a layer makes."""

    graph: NetworkGraph
    shapes: Mapping[str, Shape]
    values: dict[str, Any] = field(default_factory=dict)
    axes: dict[tuple[str, int], Labels] = field(default_factory=dict)
    roles: dict[tuple[str, int], bool] = field(default_factory=dict)
    _whole: dict[str, Labels] = field(default_factory=dict)

    @classmethod
    def of(cls, graph: NetworkGraph) -> "Widths":
        """Follow the labels through a graph; raises ModelError where its parts do not fit each other.

        The very same graph is followed once, as long as it is among the last few.
        """
        return _followed(_Itself(graph))

    @classmethod
    def _of(cls, graph: NetworkGraph) -> "Widths":
        found = cls(graph, shapes_of(graph, batch=BATCH))
        for each in graph.inputs:
            found.values[each.name] = np.zeros((1,) * (len(each.shape) + 1), np.int64)
        for node in graph.nodes:
            found.values[node.name] = found._made(node)
        for part in parts([graph.output]):
            found.freeze(found.labels_of(part))
        found._join_tensors()
        return found

    def labels_of(self, part: Argument) -> Any:
        """Labels of a value or a tensor; None for what is neither."""
        if isinstance(part, Value):
            return self.values[part.name]
        if isinstance(part, TensorName):
            name = self.graph.ties.get(part.name, part.name)
            if name not in self._whole:
                shape = self._tensor_shape(name)
                spec = self.graph.tensors.get(name)
                if math.prod(shape) > 2**22 or (spec is not None and not spec.dtype.startswith("float")):
                    return np.zeros((1,) * len(shape), np.int64)
                self._whole[name] = self.fresh(math.prod(shape)).reshape(shape)
            return self._whole[name]
        return None

    def _tensor_shape(self, name: str) -> tuple[int, ...]:
        if name in self.graph.tensors:
            return self.graph.tensors[name].shape
        path, _, leaf = name.rpartition(".")
        kind, settings = self.graph.layers[path]
        return tuple(dict(layer_kinds.make(kind, settings, path).state_dict())[leaf].shape)

    def shape_of(self, part: Argument) -> tuple[int, ...]:
        """Shape of a value or a tensor; () for what is neither."""
        if isinstance(part, Value):
            shape = self.shapes[part.name]
            return shape if isinstance(shape, tuple) else ()
        return self._tensor_shape(self.graph.ties.get(part.name, part.name)) if isinstance(part, TensorName) else ()

    # Operators.

    def _made(self, node: Node) -> Any:
        """Labels of what a node gives."""
        shape = self.shapes[node.name]
        found = None
        try:
            found = self._layer(node) if node.layer is not None else self._operator(node)
        except (KeyError, IndexError, ValueError, TypeError, AttributeError):
            found = None  # not a call that the rules know: what goes in stays whole
        if found is None:
            for part in parts([*node.args, *node.kwargs.values()]):
                self.freeze(self.labels_of(part))
            return untracked(shape)
        return found

    def _operator(self, node: Node) -> Any:
        name = node.operator.removeprefix("aten.").partition(".")[0]
        args: Any = node.args
        shape: Any = self.shapes[node.name]
        if node.operator == "operator.getitem":
            whole = self.values[args[0].name] if isinstance(args[0], Value) else None
            return whole[args[1]] if isinstance(whole, list) else None
        if name == "sym_size" or not isinstance(shape, (tuple, list)):
            return np.zeros((), np.int64)
        first: Any = self.labels_of(args[0]) if args else None
        before = self.shape_of(args[0]) if args else ()
        if isinstance(shape, tuple) and name in _SAME | _ELEMENTWISE:
            tensors = [
                a
                for a in (*args, *node.kwargs.values())
                if isinstance(a, (Value, TensorName)) and self.shape_of(a) is not None
            ]
            tensors = [a for a in tensors if isinstance(a, TensorName) or isinstance(self.shapes[a.name], tuple)]
            if name in ("roll", "flip"):
                dims = args[2] if name == "roll" else args[1]
                if not dims or any(first.shape[d] > 1 for d in dims):
                    return None
            if name in ("type_as",):
                tensors = tensors[:1]
            return self._combined([(self.labels_of(a), self.shape_of(a)) for a in tensors], shape)
        if name in _VIEWS and isinstance(shape, tuple):
            return reshaped(first, before, shape)
        if name in _POOLS:
            unchanged = all(n == 1 or (before[a] == shape[a] and a < 2) for a, n in enumerate(first.shape))
            return first if unchanged and len(before) == len(shape) else None
        if name in _ALONG:
            return None if first.shape[args[1]] > 1 else first
        if name in _REDUCE:
            given = args[1] if len(args) > 1 and args[1] is not None else list(range(len(before)))
            dims = [d % len(before) for d in (given if isinstance(given, list) else [given])]
            if any(first.shape[d] > 1 for d in dims):
                return None
            return (
                first
                if len(shape) == len(before)
                else first.reshape([n for a, n in enumerate(first.shape) if a not in dims])
            )
        if name in (
            "permute",
            "transpose",
            "t",
            "unsqueeze",
            "squeeze",
            "expand",
            "select",
            "slice",
            "narrow",
            "index_select",
        ):
            return self._moved(name, node, first, before, shape)
        if name in ("cat", "stack"):
            return self._joined(name, node, cast(Any, shape))
        if name in ("chunk", "split", "split_with_sizes", "unbind") and isinstance(shape, list):
            return self._pieces(name, node, first, shape)
        if name in ("matmul", "mm") and isinstance(args[1], TensorName) and len(self.shape_of(args[1])) == 2:
            return self._dense(first, args[1].name, self.shape_of(args[1])[::-1], None, makes=1)
        if name in ("matmul", "mm", "bmm"):
            return self._product(first, before, self.labels_of(args[1]), self.shape_of(args[1]), shape)
        if name == "scaled_dot_product_attention":
            return self._attention(node, shape)
        if name == "linear":
            return self._linear(node, first)
        if name == "index":
            return self._indexed(node, first, before, shape)
        if name in ("zeros", "ones", "full", "arange", "scalar_tensor"):
            return untracked(shape)
        return None

    def _combined(self, terms: list[tuple[Labels, tuple[int, ...]]], shape: tuple[int, ...]) -> Labels:
        """Elementwise: labels of what is combined go together."""
        result: Labels = np.zeros((1,) * len(shape), np.int64)
        full = [(1,) * (len(shape) - len(own)) + tuple(own) for _, own in terms]
        labels = [each.reshape((1,) * (len(shape) - each.ndim) + each.shape) for each, _ in terms]
        for i, mine in enumerate(labels):
            tracked = {a for a, n in enumerate(mine.shape) if n > 1}
            for j, (other, theirs) in enumerate(zip(labels, full, strict=True)):
                if i != j and tracked:
                    # Along these axes the other one cannot be cut.
                    whole = {a for a in tracked if theirs[a] > 1 and other.shape[a] == 1}
                    if whole >= tracked:
                        self.freeze(mine)
                    for axis in whole:
                        mine = self.tie(mine, axis)
                    tracked -= whole
            labels[i] = mine
            if tracked:
                if result.size > 1 or result.any():
                    self.unite(result, mine)
                    result, mine = np.broadcast_arrays(result, mine)
                    result = np.maximum(result, mine) if (result == FROZEN).any() else np.array(result)
                else:
                    result = mine
        return result

    def _moved(self, name: str, node: Node, labels: Labels, before: Any, shape: Any) -> Labels | None:
        args: Any = node.args
        if name == "permute":
            return labels.transpose(args[1])
        if name == "transpose":
            return labels.swapaxes(args[1], args[2])
        if name == "t":
            return labels.T
        if name == "unsqueeze":
            return np.expand_dims(labels, args[1])
        if name == "squeeze":
            dims = args[1] if isinstance(args[1], list) else [args[1]]
            return labels.squeeze(tuple(d for d in dims if before[d] == 1))
        if name == "expand":
            return labels.reshape((1,) * (len(shape) - labels.ndim) + labels.shape)
        axis = args[1] % len(before)
        if name == "select":
            labels = self.tie(labels, axis) if labels.shape[axis] > 1 else labels
            taken: Labels = labels.take(0, axis=axis)
            return taken
        if labels.shape[axis] == 1:
            return labels
        if name == "slice":
            start, end, step = bounds(args, before[axis])
            return labels.take(range(start, end, step), axis=axis) if step == 1 else None
        return None

    def _joined(self, name: str, node: Node, shape: tuple[int, ...]) -> Labels:
        args: Any = node.args
        named: Any = node.kwargs.get("dim", 0)
        axis: int = (args[1] if len(args) > 1 else named) % len(shape)
        pieces = [(self.labels_of(each), self.shape_of(each)) for each in args[0]]
        if name == "stack":
            pieces = [(np.expand_dims(each, axis), (*s[:axis], 1, *s[axis:])) for each, s in pieces]
        for place, (labels, own) in enumerate(pieces):
            # Parameters know every element; along other axes they go with what they are joined to.
            if labels.size > 1 and isinstance(args[0][place], TensorName) and labels.shape[axis] > 1:
                pieces[place] = self.tie(labels, axis), own
        if not any(labels.shape[axis] > 1 for labels, _ in pieces):
            return self._combined(
                [(each, (*s[:axis], 1, *s[axis + 1 :])) for each, s in pieces], (*shape[:axis], 1, *shape[axis + 1 :])
            )
        others = any(n > 1 for labels, _ in pieces for a, n in enumerate(labels.shape) if a != axis)
        if others:
            raise ValueError("labels along two axes are not joined")
        return np.concatenate(
            [
                np.broadcast_to(each, tuple(s[axis] if a == axis else 1 for a in range(len(shape))))
                for each, s in pieces
            ],
            axis=axis,
        )

    def _pieces(self, name: str, node: Node, labels: Labels, shape: list[Any]) -> list[Labels]:
        axis: Any = node.args[-1] if name == "unbind" and len(node.args) > 1 else 0
        if name != "unbind":
            axis = node.args[2] if len(node.args) > 2 else node.kwargs.get("dim", 0)
        axis %= labels.ndim
        if name == "unbind":
            labels = self.tie(labels, axis) if labels.shape[axis] > 1 else labels
            return [labels.take(0, axis=axis) for _ in shape]
        if labels.shape[axis] == 1:
            return [labels for _ in shape]
        ends = np.cumsum([each[axis] for each in shape])
        return np.split(labels, ends[:-1], axis=axis)

    def _product(self, one: Labels, a: Any, other: Labels, b: Any, shape: Any) -> Labels | None:
        if len(a) < 2 or len(b) < 2:
            return None
        size = max(one.ndim, other.ndim)
        one, other = (each.reshape((1,) * (size - each.ndim) + each.shape) for each in (one, other))
        one, other = self._contracted(one, other, -1, -2)
        first = (*(1,) * (size - len(a)), *a[:-1], 1)
        second = (*(1,) * (size - len(b)), *b[:-2], 1, b[-1])
        return self._combined([(one, first), (other, second)], shape)

    def _contracted(self, one: Labels, other: Labels, mine: int, theirs: int) -> tuple[Labels, Labels]:
        """Sums over an axis of both: what goes from one goes from the other. Heads go as a whole."""
        k, m = one.shape[mine], other.shape[theirs]
        if k == 1 and m == 1:
            return one, other
        if k == 1 or m == 1:
            each, axis = (one, mine) if k > 1 else (other, theirs)
            if each.size == each.shape[axis]:
                self.freeze(each)
            self.tie(each, axis)
            return one.take([0], axis=mine), other.take([0], axis=theirs)
        ends = []
        alone = all(each.size == each.shape[axis] for each, axis in ((one, mine), (other, theirs)))
        for each, axis in ((one, mine), (other, theirs)):
            ends.append(each.take([0], axis=axis) if alone else self.tie(each, axis))
        if alone:
            self.unite(one.ravel(), other.ravel())
            return np.zeros_like(ends[0]), np.zeros_like(ends[1])
        return ends[0], ends[1]

    def _attention(self, node: Node, shape: Any) -> Labels | None:
        if len(node.args) > 3 and node.args[3] is not None and self.labels_of(node.args[3]).size > 1:
            mask = self.labels_of(node.args[3])
        else:
            mask = None
        query, key, value = (self.labels_of(each) for each in node.args[:3])
        a, b, c = (self.shape_of(each) for each in node.args[:3])
        if node.kwargs.get("enable_gqa"):
            return None
        query, key = self._contracted(query, key.swapaxes(-1, -2), -1, -2)
        scores = (*a[:-1], b[-2])
        terms = [(query, (*a[:-1], 1)), (key, (*b[:-2], 1, b[-2]))]
        if mask is not None:
            terms.append((mask, self.shape_of(node.args[3])))
        weights = self._combined(terms, scores)
        if weights.shape[-1] > 1 or value.shape[-2] > 1:
            return None
        # A head of values that stays needs its scores, and the other way round.
        return self._combined([(weights, (*scores[:-1], 1)), (value, (*c[:-2], 1, c[-1]))], shape)

    def _indexed(self, node: Node, labels: Labels, before: Any, shape: Any) -> Labels | None:
        indices: Any = node.args[1]
        places = [i for i, each in enumerate(indices) if each is not None]
        if not places or places != list(range(places[0], places[-1] + 1)):
            return None
        for axis in places:
            labels = self.tie(labels, axis) if labels.shape[axis] > 1 else labels
        if any(self.labels_of(indices[i]) is None for i in places):
            return None
        count = len(shape) - (len(before) - len(places))
        return labels.reshape((*labels.shape[: places[0]], *(1,) * count, *labels.shape[places[-1] + 1 :]))

    # Layers: axes of their tensors.

    def _axis(self, name: str, axis: int, labels: Labels, makes: bool | None = None) -> Labels:
        """Let an axis of a tensor have these labels; those that it has already go with them."""
        name = self.graph.ties.get(name, name)
        known = self.axes.setdefault((name, axis), labels)
        if makes is not None:
            self.roles.setdefault((name, axis), makes)
        self.unite(known, labels)
        return known

    def _fixed(self, name: str, axis: int, size: int) -> None:
        self._axis(name, axis, np.zeros(size, np.int64))

    def _layer(self, node: Node) -> Any:
        path = node.layer
        assert path is not None
        kind, settings = self.graph.layers[path]
        labels, before = self.labels_of(node.args[0]), self.shape_of(node.args[0])
        shape: Any = self.shapes[node.name]
        if kind == "Embedding":
            made = self._outputs(f"{path}.weight", 1, settings["embedding_dim"], None, None)
            self._fixed(f"{path}.weight", 0, settings["num_embeddings"])
            self.freeze(labels)
            return along(made, -1, len(shape))
        if kind == "Linear":
            bias = f"{path}.bias" if settings["bias"] else None
            return self._dense(labels, f"{path}.weight", (settings["out_features"], settings["in_features"]), bias)
        if kind.startswith("Conv"):
            return self._convolution(path, kind, settings, labels, len(before))
        if kind.startswith("BatchNorm") or kind == "PReLU":
            if kind == "PReLU" and settings["num_parameters"] == 1:
                return labels
            own = self._only(labels, 1, before[1])
            for leaf in ("weight", "bias", "running_mean", "running_var") if kind != "PReLU" else ("weight",):
                if kind == "PReLU" or leaf.startswith("running") or settings["affine"]:
                    self._axis(f"{path}.{leaf}", 0, own)
            return along(own, 1, len(before)) if own.any() else labels
        if kind == "LayerNorm":
            if len(settings["normalized_shape"]) != 1:
                return None
            own = self._only(labels, -1, before[-1])
            for leaf in ("weight", "bias")[: 1 + settings["bias"]]:
                self._axis(f"{path}.{leaf}", 0, own)
            return along(own, -1, len(before)) if own.any() else labels
        if kind == "GroupNorm" and settings["num_groups"] > 1:
            own = self._only(labels, 1, before[1])
            if own.any():
                self.tie(own.reshape(settings["num_groups"], -1), 1)
            for leaf in ("weight", "bias"):
                self._axis(f"{path}.{leaf}", 0, own)
            return along(own, 1, len(before)) if own.any() else labels
        return None

    def _only(self, labels: Labels, axis: int, size: int) -> Labels:
        """The labels along one axis, frozen where they are along others, or where nothing is known of it."""
        if labels.shape[axis] == labels.size and labels.size > 1:
            return labels.ravel()
        self.freeze(labels)
        return np.zeros(size, np.int64)

    def _outputs(self, weight: str, axis: int, size: int, bias: str | None, made: Labels | None) -> Labels:
        name = self.graph.ties.get(weight, weight)
        labels = self.axes.get((name, axis)) if made is None else made
        labels = self.fresh(size) if labels is None else labels
        labels = self._axis(weight, axis, labels, makes=True)
        if bias is not None:
            self._axis(bias, 0, labels)
        return labels

    def _dense(self, labels: Labels, weight: str, size: tuple[int, ...], bias: str | None, makes: int = 0) -> Labels:
        """A product with a matrix. size: outputs and inputs. makes: the axis of the outputs."""
        others = labels.shape[-1] != labels.size
        if others and labels.shape[-1] > 1:
            self.freeze(labels)
            labels = np.zeros((1,) * labels.ndim, np.int64)
            others = False
        own = labels.ravel() if labels.shape[-1] > 1 else np.zeros(size[1], np.int64)
        self._axis(weight, 1 - makes, own, makes=False)
        if others:  # channels elsewhere, such as a map of tokens: what is made stays whole
            self._outputs(weight, makes, size[0], bias, np.zeros(size[0], np.int64))
            return labels
        return along(self._outputs(weight, makes, size[0], bias, None), -1, labels.ndim)

    def _linear(self, node: Node, labels: Labels) -> Labels | None:
        weight = node.args[1]
        bias = node.args[2] if len(node.args) > 2 else None
        if not isinstance(weight, TensorName) or not isinstance(bias, (TensorName, type(None))):
            return None
        rows, columns = self.shape_of(weight)
        return self._dense(labels, weight.name, (rows, columns), None if bias is None else bias.name)

    def _convolution(self, path: str, kind: str, settings: Mapping[str, Any], labels: Labels, axes: int) -> Labels:
        inputs, outputs, groups = settings["in_channels"], settings["out_channels"], settings["groups"]
        weight, bias = f"{path}.weight", f"{path}.bias" if settings["bias"] else None
        own = self._only(labels, 1, inputs)
        transposed = kind.startswith("ConvTranspose")
        ins, outs = (0, 1) if transposed else (1, 0)
        made: Labels | None = None
        if groups == 1:
            self._axis(weight, ins, own, makes=False)
        elif transposed:
            self.freeze(own)
            self._fixed(weight, 0, inputs)
            self._fixed(weight, 1, outputs // groups)
            return (
                along(np.zeros(outputs, np.int64), 1, axes)
                if bias is None
                else along(self._axis(bias, 0, np.zeros(outputs, np.int64)), 1, axes)
            )
        elif groups == inputs:
            made = np.repeat(own, outputs // inputs)
        else:
            # The same channels of every group: all groups stay, and stay equal.
            self._axis(weight, 1, self.tie(own.reshape(groups, -1), 0).ravel(), makes=False)
            made = np.tile(self.fresh(outputs // groups), groups)
        return along(self._outputs(weight, outs, outputs, bias, made), 1, axes)

    # Units.

    def _join_tensors(self) -> None:
        """Find what goes together, with the tensors whose elements all have labels of their own."""
        wholes = [
            (name, axis, np.moveaxis(labels, axis, 0).reshape(size, -1))
            for name, labels in self._whole.items()
            for axis, size in enumerate(labels.shape)
        ]
        for name, axis, lines in wholes:
            if (name, axis) in self.axes:
                self.unite(lines, self.axes[name, axis][:, None])
        arrays = [v for made in self.values.values() for v in (made if isinstance(made, list) else [made])]
        arrays = [v for v in (*arrays, *self._whole.values()) if isinstance(v, np.ndarray) and v.size > 1]
        self.settle(arrays)
        for name, axis, lines in wholes:
            roots = self.roots[lines]
            if (name, axis) not in self.axes and (roots == roots[:, :1]).all() and len(lines) > 1:
                self.axes[name, axis] = lines[:, 0]

    def groups(self) -> list[Group]:
        """Units that may go, by where they lie; of each group not all may."""
        keys = list(self.axes)
        uniques = [np.unique(self.roots[labels]) for labels in self.axes.values()]
        roots = np.concatenate([np.zeros(0, np.int64), *uniques])
        places = np.repeat(np.arange(len(keys)), [len(each) for each in uniques])
        places, roots = places[roots != self.frozen], roots[roots != self.frozen]
        order = np.lexsort((places, roots))
        units, starts = np.unique(roots[order], return_index=True)
        found: dict[tuple[int, ...], list[int]] = {}
        for unit, own in zip(units.tolist(), np.split(places[order], starts[1:]), strict=False):
            found.setdefault(tuple(own.tolist()), []).append(unit)
        # In the order of the axes that their units are met in first.
        found = dict(sorted(found.items(), key=lambda each: (each[0][0], each[1][0])))
        return [
            Group(np.array(each), tuple(keys[place] for place in own)) for own, each in found.items() if len(each) > 1
        ]

    def stays(self, name: str, axis: int, gone: np.ndarray) -> np.ndarray:
        """Indices of an axis of a tensor that stay. gone: roots of the units that go."""
        return np.flatnonzero(~np.isin(self.roots[self.axes[name, axis]], gone))


class _Itself:
    """A graph as a key: equal to nothing but the very same one."""

    def __init__(self, graph: NetworkGraph) -> None:
        self.graph = graph

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Itself) and self.graph is other.graph

    def __hash__(self) -> int:
        return id(self.graph)


# The graph before and after blocks were dropped or layers folded; chosen by hand, no benchmark.
@lru_cache(maxsize=4)
def _followed(graph: _Itself) -> Widths:
    return Widths._of(graph.graph)
