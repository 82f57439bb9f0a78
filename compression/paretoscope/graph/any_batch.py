"""Makes a graph that was exported for one batch take any: sizes that were the batch are derived anew.

The graph is followed twice without values, for the batch that it was made for and for a large prime one, and each node
that says sizes itself is mended where the second run shows that it must be. What comes out is then proven: its outputs
for one and for three samples are compared with those of the graph as it came, sample by sample.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from paretoscope.base.errors import ModelError
from paretoscope.base.text import reason
from paretoscope.graph.graph_module import GraphModule
from paretoscope.graph.network_graph import (
    DTYPES,
    LAYER,
    Argument,
    NetworkGraph,
    Node,
    TensorName,
    TensorSpec,
    Value,
    parts,
)
from paretoscope.graph.shapes import called

# A batch that no size of a network is a multiple of, nor that one of.
_OTHER = 9973
# How far outputs may differ that are computed with another batch, against the largest of them.
_TOLERANCE = 1e-4
REMEDY = (
    "Export the network with a dynamic batch: torch.export.export(model, (sample,), dynamic_shapes=({0: "
    'torch.export.Dim("batch")},)), with a sample of two or more.'
)


def for_any_batch(
    graph: NetworkGraph, state: Mapping[str, Tensor], batch: int
) -> tuple[NetworkGraph, dict[str, Tensor]]:
    """The graph and tensors for any batch; raises ModelError where that cannot be derived, naming the node.

    batch: the one that the program was exported for.
    """
    mended = _Mender(graph, state, batch).run()
    _prove(graph, mended, state, batch)
    unused = graph.tensors.keys() - mended.tensors.keys()
    return mended, {name: tensor for name, tensor in state.items() if name not in unused}


def shapes(graph: NetworkGraph, batch: int) -> dict[str, Any]:
    """What each node gives for a batch, without values (meta tensors); raises ModelError where one cannot be called."""
    module = bare(graph)
    values: dict[str, Any] = inputs_of(graph, batch)
    for node in graph.nodes:
        try:
            values[node.name] = called(module, node, values)
        except ModelError:
            raise
        except Exception as error:  # PyTorch's errors have no common base
            raise ModelError(
                f"a network must take any number of samples; with {batch} of them {node.operator} at "
                f"{node.where or node.name} fails ({reason(error, 200)}). {REMEDY}"
            ) from None
    return values


def bare(graph: NetworkGraph) -> GraphModule:
    """The module without memory for its tensors."""
    with torch.device("meta"):
        return GraphModule(graph).eval()


def inputs_of(graph: NetworkGraph, batch: int) -> dict[str, Any]:
    return {i.name: torch.empty((batch, *i.shape), dtype=DTYPES[i.dtype], device="meta") for i in graph.inputs}


class _Mender:
    """old, new: what nodes give for the program's batch and for one _OTHER times as large.

    outer: of values whose batch lies within a larger axis, how many there are around it.
    """

    def __init__(self, graph: NetworkGraph, state: Mapping[str, Tensor], batch: int) -> None:
        self._graph, self._state, self._batch = graph, state, batch
        self._module = bare(graph)
        self._old, self._new = inputs_of(graph, batch), inputs_of(graph, batch * _OTHER)
        self._outer: dict[str, int] = {}
        self._nodes: list[Node] = []
        self._taken = {*(each.name for each in graph.inputs), *(each.name for each in graph.nodes)}
        self._size: Value | None = None

    def run(self) -> NetworkGraph:
        for node in self._graph.nodes:
            try:
                self._old[node.name] = called(self._module, node, self._old)
            except Exception as error:  # PyTorch's errors have no common base
                raise _fixed(node, self._batch, str(error)) from None
            self._add(self._mended(node))
        for part in parts([self._graph.output]):
            if isinstance(part, Value) and self._axis(part.name) != 0:
                raise ModelError(
                    f"outputs must have the batch in front; with {self._batch} samples one has the shape "
                    f"{tuple(getattr(self._old[part.name], 'shape', ()))}. {REMEDY}"
                )
        nodes = tuple(self._nodes)
        used = {p.name for n in nodes for p in parts([*n.args, *n.kwargs.values()]) if isinstance(p, TensorName)}
        kept: dict[str, TensorSpec] = {
            name: spec
            for name, spec in self._graph.tensors.items()
            if name in used or spec.kind == "parameter" or name in self._graph.ties.values()
        }
        graph = replace(self._graph, nodes=nodes, tensors=kept)
        graph.check()
        return graph

    def _add(self, node: Node) -> None:
        """Add a node, with what it reads widened to the batch where it cannot be called otherwise."""
        result = self._tried(node)
        if result is None:
            node = self._widened(node)
            result = self._tried(node)
        if result is None:
            raise _fixed(node, self._batch)
        self._nodes.append(node)
        self._new[node.name] = result[0]
        axis = self._axis(node.name)
        if axis is not None and node.name not in self._outer:
            size = self._new[node.name].shape[axis]
            for name in node.reads():
                before = self._axis(name)
                if before is not None and name in self._outer and self._new[name].shape[before] == size:
                    self._outer[node.name] = self._outer[name]

    def _tried(self, node: Node) -> tuple[Any] | None:
        """What a node gives for the large batch, where that is what it gives for the other, a batch apart."""
        try:
            new = called(self._module, node, self._new)
        except Exception:  # PyTorch's errors have no common base; whoever asks tries another way
            return None
        old = self._old.get(node.name)
        return (new,) if _alike(old, new) else None

    def _axis(self, name: str) -> int | None:
        """Where the batch is in a value; None where it is not, or where that is no tensor."""
        old, new = self._old.get(name), self._new.get(name)
        if not isinstance(old, Tensor) or not isinstance(new, Tensor):
            return None
        axes = [axis for axis, (a, b) in enumerate(zip(old.shape, new.shape, strict=True)) if b == a * _OTHER]
        return axes[0] if len(axes) == 1 and old.numel() else None

    def _batch_size(self) -> Value:
        if self._size is None:
            first = self._graph.inputs[0].name
            self._size = self._insert("aten.sym_size.int", (Value(first), 0), self._batch)
        return self._size

    def _insert(self, operator: str, args: tuple[Argument, ...], old: Any) -> Value:
        number = len(self._taken)
        while (name := f"any_batch_{number}") in self._taken:
            number += 1
        self._taken.add(name)
        node = Node(name, operator, args)
        self._old[name] = old
        self._new[name] = called(self._module, node, self._new)
        self._nodes.append(node)
        return Value(name)

    # Sizes that a node says.

    def _mended(self, node: Node) -> Node:
        if node.operator in ("aten.view.default", "aten.reshape.default", "aten.unflatten.int"):
            return self._reshaped(node)
        if node.operator == "aten.expand.default":
            return self._expanded(node)
        if node.operator == "aten.repeat.default":
            return self._repeated(node)
        if node.layer is not None and len(node.args) == 2 and self._is_zero(node.args[1]):
            # A recurrent layer begins with zeros by itself.
            return replace(node, args=node.args[:1])
        return node

    def _is_zero(self, argument: Argument) -> bool:
        return all(
            isinstance(part, TensorName) and part.name in self._graph.tensors and not self._state[part.name].any()
            for part in parts([argument])
        )

    def _reshaped(self, node: Node) -> Node:
        source = node.args[0]
        axis = self._axis(source.name) if isinstance(source, Value) else None
        if axis is None or not isinstance(source, Value):
            return node
        before, after = [*self._old[source.name].shape], [*self._old[node.name].shape]
        place = math.prod(before[:axis]) * self._outer.get(source.name, 1)
        chosen = _holder(after, place, before[axis + 1 :], self._batch)
        if chosen is None:
            raise _fixed(node, self._batch)
        around = place // math.prod(after[:chosen])
        if around > 1:
            self._outer[node.name] = around
        sizes: list[Argument] = [-1 if j == chosen else size for j, size in enumerate(after)]
        return Node(node.name, "aten.reshape.default", (source, sizes), {}, node.where)

    def _expanded(self, node: Node) -> Node:
        source, sizes = node.args[0], node.args[1]
        if not isinstance(sizes, list):
            return node
        old = self._value(source, self._old)
        axis = self._axis(source.name) if isinstance(source, Value) else None
        front = len(sizes) - old.ndim
        found: list[Argument] = [*sizes]
        if axis is not None:
            found[front + axis] = -1
        elif self._batch > 1:
            for place, size in enumerate(sizes):
                if size == self._batch and (place < front or old.shape[place - front] == 1):
                    found[place] = self._batch_size()
                    break
        return replace(node, args=(source, found))

    def _repeated(self, node: Node) -> Node:
        source, times = node.args[0], node.args[1]
        axis = self._axis(source.name) if isinstance(source, Value) else None
        if axis is None and self._batch > 1 and isinstance(times, list) and times and times[0] == self._batch:
            return replace(node, args=(source, [self._batch_size(), *times[1:]]))
        return node

    def _value(self, argument: Argument, values: Mapping[str, Any]) -> Any:
        return called(self._module, Node("", "operator.getitem", ([argument], 0)), values)

    # What is read beside values that have the batch.

    def _widened(self, node: Node) -> Node:
        flat = [part for part in parts(node.args) if isinstance(part, (Value, TensorName))]
        found = [
            (self._axis(p.name), self._old[p.name].ndim)
            for p in flat
            if isinstance(p, Value) and self._axis(p.name) is not None
        ]
        if not found:
            return node
        axis, rank = found[0]
        assert axis is not None

        def widened(argument: Argument) -> Argument:
            if isinstance(argument, list):
                return [widened(each) for each in argument]
            if not isinstance(argument, (Value, TensorName)):
                return argument
            if isinstance(argument, Value) and self._axis(argument.name) is not None:
                return argument
            old = self._value(argument, self._old)
            place = axis - rank + old.ndim if isinstance(old, Tensor) else -1
            if place < 0 or old.shape[place] != self._batch:
                return argument
            one: Argument = argument
            if self._batch > 1:
                one = self._insert("aten.slice.Tensor", (argument, place, 0, 1), old.narrow(place, 0, 1))
            sizes: list[Argument] = [self._batch_size() if j == place else -1 for j in range(old.ndim)]
            return self._insert("aten.expand.default", (one, sizes), old)

        return replace(node, args=tuple(widened(each) for each in node.args))


def _holder(after: Sequence[int], place: int, rest: Sequence[int], batch: int) -> int | None:
    """Which axis of a new shape holds the batch, which comes after `place` steps of what is around it.

    rest: the sizes that follow it in the old shape. None where none of the new axes can.
    """
    around = 1
    for axis, size in enumerate(after):
        within = place // around if around and place % around == 0 else 0
        if batch > 1:
            if within and size % (within * batch) == 0:
                return axis
        elif place == around * size and axis + 1 < len(after) and size > 1:
            # The batch of one is on the border of two axes. The second takes it in front where it is a piece of what
            # followed the batch, such as the first of split heads; else the first takes it at its end.
            following = after[axis + 1]
            return axis + 1 if following == 1 or not rest or following < rest[0] else axis
        elif place == around or (place < around * size and within):
            return axis
        around *= size
    return len(after) - 1 if batch == 1 and place == around and after else None


def _alike(old: Any, new: Any) -> bool:
    if isinstance(old, (list, tuple)):
        return isinstance(new, (list, tuple)) and len(old) == len(new) and all(map(_alike, old, new))
    if isinstance(old, Tensor):
        if not isinstance(new, Tensor) or old.ndim != new.ndim or old.dtype != new.dtype:
            return False
        grown = [b == a * _OTHER for a, b in zip(old.shape, new.shape, strict=True)]
        same = [a == b for a, b in zip(old.shape, new.shape, strict=True)]
        return sum(g and not s for g, s in zip(grown, same, strict=True)) <= 1 and all(map(max, grown, same))
    return True


def _fixed(node: Node, batch: int, reason: str = "") -> ModelError:
    said = f" ({reason.splitlines()[0][:150]})" if reason.strip() else ""
    return ModelError(
        f"a network must take any number of samples; this one was exported for {batch} alone, which "
        f"{node.operator.removeprefix(LAYER)} at {node.where or node.name} fixes{said}. {REMEDY}"
    )


def _prove(before: NetworkGraph, after: NetworkGraph, state: Mapping[str, Tensor], batch: int) -> None:
    """Raises ModelError unless both give the same for one and three samples."""
    one, other = GraphModule(before), GraphModule(after)
    for module in (one, other):
        module.load_state_dict({name: state[name] for name in module.state_dict()})
        module.eval()
    rows = [settings["num_embeddings"] for kind, settings in before.layers.values() if kind == "Embedding"]
    draw = torch.Generator().manual_seed(0)
    samples = [_drawn(each.shape, DTYPES[each.dtype], min(rows, default=2), draw) for each in before.inputs]
    try:
        with torch.no_grad():
            for n in (1, 3):
                given = [each[:n] for each in samples]
                found = _outputs(other(*given))
                for start in range(0, n, batch):
                    places = [(start + row) % n for row in range(batch)]
                    wanted = _outputs(one(*(each[places] for each in given)))
                    _compare([each[places] for each in found], wanted, batch)
    except ModelError:
        raise
    except Exception as error:  # PyTorch's errors have no common base
        raise ModelError(
            f"a network must take any number of samples; this one was exported for {batch} alone, and with others "
            f"it fails ({reason(error, 200)}). {REMEDY}"
        ) from None


def _drawn(shape: tuple[int, ...], dtype: torch.dtype, most: int, draw: torch.Generator) -> Tensor:
    if dtype.is_floating_point:
        return torch.randn((3, *shape), generator=draw).to(dtype)
    return torch.randint(0, 2 if dtype == torch.bool else most, (3, *shape), generator=draw).to(dtype)


def _outputs(given: Any) -> list[Tensor]:
    return [*given] if isinstance(given, (list, tuple)) else [given]


def _compare(found: list[Tensor], wanted: list[Tensor], batch: int) -> None:
    for one, other in zip(found, wanted, strict=True):
        if one.shape == other.shape:
            most = float(other.abs().max()) if other.is_floating_point() and other.numel() else 0.0
            if torch.allclose(one, other, rtol=_TOLERANCE, atol=_TOLERANCE * most, equal_nan=True):
                continue
        raise ModelError(
            "a network must give each sample its own answer, whatever is beside it; this one was exported for "
            f"{batch} samples alone, and gives others with another number. {REMEDY}"
        )
