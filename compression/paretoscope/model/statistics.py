"""Statistics of a model that no recipe changes, computed once so that a slider move costs only what it changes.

For every weight (`weights`): its values sorted, block prefix sums over them (so that the sum of any range is a
look-up) and the largest magnitude of each output channel; for the model: all magnitudes in one sorted array.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch
from torch import nn

from paretoscope.base.compiled import compiled
from paretoscope.base.errors import ModelError
from paretoscope.base.lock import machine
from paretoscope.graph.graph_module import GraphModule
from paretoscope.graph.network_graph import NetworkGraph
from paretoscope.model import layouts, weights

# Values in a block of the prefix sums; chosen by hand; no benchmark.
BLOCK = 64

# What is no weight may be of any of these types: masks, tables of indices, counters.
_HELD = (
    *(torch.float32, torch.float16, torch.float64, torch.bool),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8),
)


@compiled()
def _block_sums(values: np.ndarray, centre: float) -> np.ndarray:
    blocks = len(values) // BLOCK + 1
    sums = np.zeros((2, blocks + 1))
    for block in range(blocks):
        total, squares = 0.0, 0.0
        for i in range(block * BLOCK, min((block + 1) * BLOCK, len(values))):
            value = float(values[i]) - centre
            total += value
            squares += value * value
        sums[0, block + 1] = sums[0, block] + total
        sums[1, block + 1] = sums[1, block] + squares
    return sums


@compiled()
def _fold(ordered: np.ndarray, magnitudes: np.ndarray) -> None:
    """Write the magnitudes of ascending values, ascending: from zero outwards, the nearer of both sides first."""
    right = np.searchsorted(ordered, np.float32(0))
    left = right - 1
    for i in range(len(ordered)):
        if right < len(ordered) and (left < 0 or abs(ordered[right]) <= -ordered[left]):
            magnitudes[i] = abs(ordered[right])
            right += 1
        else:
            magnitudes[i] = -ordered[left]
            left -= 1


@dataclass(frozen=True, eq=False)
class LayerStatistics:
    """One weight and what is known of it.

    name: its key in the state dict. weight: float32, first axis the output channel, turned where the state dict has it
    otherwise (`layouts`). ordered: its values, ascending. centre: their mean. block_sums: float64 (2, blocks + 1), sums
    and sums of squares of value - centre before each block of 64 (centred, or a narrow distribution far from zero would
    lose its spread to rounding). channel_max: float32 (shape[0],), the largest magnitude of each output channel.
    """

    name: str
    weight: np.ndarray
    ordered: np.ndarray
    centre: float
    block_sums: np.ndarray
    channel_max: np.ndarray

    @classmethod
    def of(cls, name: str, weight: np.ndarray) -> "LayerStatistics":
        """Statistics of `weight` (float32, at least one axis, not empty); raises ModelError naming the layer."""
        if not np.isfinite(weight).all():
            bad = int(weight.size - np.isfinite(weight).sum())
            raise ModelError(
                f"weights must be finite; {name} has {bad} of {weight.size} that are NaN or infinite. "
                "Train or load the model again."
            )
        ordered = np.sort(weight, axis=None)
        channel_max = np.abs(weight).reshape(weight.shape[0], -1).max(axis=1)
        centre = float(ordered.mean(dtype=np.float64))
        return cls(name, weight, ordered, centre, _block_sums(ordered, centre), channel_max)

    @cached_property
    def magnitudes(self) -> np.ndarray:
        """The n magnitudes, ascending; needed for scope "layer" only."""
        magnitudes = np.empty_like(self.ordered)
        _fold(self.ordered, magnitudes)
        return magnitudes


@dataclass(frozen=True, eq=False)
class ModelStatistics:
    """Statistics of one model.

    architecture: the name it is rebuilt by. layers: the weights by name, in the order of the state dict. rest: every
    other entry of the state dict, of any type and as it is (biases, normalisation, counters, masks). order: all names,
    in the order of the state dict. magnitudes: of all layers, ascending. ties: names that stand for the very
    tensor of an earlier name; such a tensor is counted and stored once, under the earlier one. turned: groups of the
    layers whose weights the state dict has in the other layout (`layouts`). graph: the network as data, where it was
    imported.
    """

    architecture: str
    layers: Mapping[str, LayerStatistics]
    rest: Mapping[str, np.ndarray]
    order: tuple[str, ...]
    magnitudes: np.ndarray
    ties: Mapping[str, str] = field(default_factory=dict)
    turned: Mapping[str, int] = field(default_factory=dict)
    graph: NetworkGraph | None = None

    @classmethod
    @machine(exclusive=False)
    def of(cls, model: nn.Module, architecture: str, identity: str = "") -> "ModelStatistics":
        """Statistics of a model on the CPU. identity: as of the class.

        Raises ModelError for weights that are not finite float32, and where it has none.
        """
        found = weights.find(model)
        layers, rest, turned = {}, {}, {}
        state = model.state_dict(keep_vars=True)
        first: dict[int, str] = {}
        ties = {name: first[id(t)] for name, t in state.items() if first.setdefault(id(t), name) != name}
        found |= {ties[name]: found[name] for name in ties if name in found and ties[name] not in found}
        for name, tensor in state.items():
            if name in ties:
                continue
            is_weight = name in found and tensor.numel() > 0
            if tensor.dtype not in (_HELD if not is_weight else (torch.float32,)):
                kind = "weights must be float32" if is_weight else "tensors must be of a type of NumPy's"
                raise ModelError(f"{kind}; {name} is {tensor.dtype}. Convert the model with .float().")
            array = tensor.detach().cpu().contiguous().numpy()
            if not is_weight:
                rest[name] = array.copy()
                continue
            if (groups := found[name].turned) is not None:
                turned[name] = groups
                array = layouts.turned(array, groups)
            layers[name] = LayerStatistics.of(name, array.copy())
        if not layers:
            raise ModelError(
                "a model needs weights that its inputs are multiplied with, in a convolution, a linear, recurrent or "
                f"attention layer, an embedding or a matrix product; {architecture} has none. Pass another model."
            )
        graph = model.graph if isinstance(model, GraphModule) else None
        return cls(architecture, layers, rest, tuple(state), _magnitudes(layers), ties, turned, graph)

    @classmethod
    def of_arrays(
        cls,
        weights: Mapping[str, np.ndarray],
        rest: Mapping[str, np.ndarray],
        order: tuple[str, ...],
        ties: Mapping[str, str] | None = None,
    ) -> "ModelStatistics":
        """Statistics of arrays without an architecture: float32 weights, and the rest as it is.

        order: the names of both, and of ties, which stand for the tensor of another name. Biases tell which weights are
        in another layout. Raises ModelError for a weight that is not finite.
        """
        ties = dict(ties or {})
        shapes = {name: array.shape for name, array in (*weights.items(), *rest.items())}
        told = layouts.told_by_biases(shapes | {name: shapes[target] for name, target in ties.items()})
        turned = {name: groups for name, groups in told.items() if name in weights}
        layers = {
            name: LayerStatistics.of(name, layouts.turned(weight, turned[name]) if name in turned else weight)
            for name, weight in weights.items()
        }
        return cls("", layers, rest, order, _magnitudes(layers), ties, turned)

    def with_values(self, state: Mapping[str, np.ndarray]) -> "ModelStatistics":
        """Statistics of the same network with other values, by state-dict name, in the layout of the layers here;
        entries left out stay.

        Raises ModelError for a weight that is not finite.
        """
        layers = {
            name: LayerStatistics.of(name, np.ascontiguousarray(state[name])) if name in state else layer
            for name, layer in self.layers.items()
        }
        rest = {name: state.get(name, array) for name, array in self.rest.items()}
        return replace(self, layers=layers, rest=rest, magnitudes=_magnitudes(layers))

    @property
    def size_bytes(self) -> int:
        """Bytes of the uncompressed state: fp32 weights and everything else as it is."""
        return sum(layer.weight.nbytes for layer in self.layers.values()) + sum(a.nbytes for a in self.rest.values())

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the name, the graph, if there is one, and every tensor's name, type, shape and bytes.

        64 hex characters.
        """
        digest = hashlib.sha256(self.architecture.encode())
        if self.graph is not None:
            digest.update(f"\0{self.graph.to_json()}".encode())
        for name in self.order:
            if name in self.ties:
                digest.update(f"\0{name}\0= {self.ties[name]}".encode())
                continue
            array = self.layers[name].weight if name in self.layers else self.rest[name]
            array = layouts.turned(array, self.turned[name]) if name in self.turned else array
            digest.update(f"\0{name}\0{array.dtype.str}\0{array.shape}\0".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


def _magnitudes(layers: Mapping[str, LayerStatistics]) -> np.ndarray:
    """The magnitudes of all layers, ascending."""
    magnitudes, start = np.empty(sum(len(layer.ordered) for layer in layers.values()), np.float32), 0
    for layer in layers.values():
        stop = start + len(layer.ordered)
        _fold(layer.ordered, magnitudes[start:stop])
        start = stop
    # Merging what is sorted already takes a third of the time that sorting anew does.
    magnitudes.sort(kind="stable")
    return magnitudes
