"""LSTM, GRU and RNN of ONNX files as PyTorch's layers: the same numbers in another order."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import torch
from onnx import helper
from torch import Tensor, nn

from paretoscope.base.errors import ModelError

# The gates of PyTorch (i f g o; r z n), by their places in ONNX (i o f c; z r h).
KINDS: dict[str, tuple[int, ...]] = {"LSTM": (0, 2, 3, 1), "GRU": (1, 0, 2), "RNN": (0,)}
_USUAL = {"LSTM": ("Sigmoid", "Tanh", "Tanh"), "GRU": ("Sigmoid", "Tanh"), "RNN": ("Tanh",)}


@dataclass(frozen=True, slots=True)
class Recurrent:
    """leaves: names of the weights in the order in which PyTorch's call takes them."""

    path: str
    kind: str
    direction: str
    hidden: int
    leaves: tuple[str, ...]
    batch_first: bool

    @property
    def directions(self) -> int:
        return 2 if self.direction == "bidirectional" else 1


def of(node: onnx.NodeProto, arrays: Mapping[str, np.ndarray], path: str) -> tuple[Recurrent, dict[str, Tensor]]:
    """The layer of a node, and its tensors by leaf; raises ModelError for what PyTorch's layers cannot compute."""
    attributes = {each.name: helper.get_attribute_value(each) for each in node.attribute}
    kind, inputs = node.op_type, [*node.input, *[""] * 8]
    direction = attributes.get("direction", b"forward").decode()
    directions = 2 if direction == "bidirectional" else 1
    usual = _USUAL[kind] * directions
    found = tuple(each.decode() for each in attributes.get("activations", ())) or usual
    strange = [
        ("peepholes", bool(inputs[7])),
        ("weights that are computed", any(name and name not in arrays for name in inputs[1:4])),
        ("lengths of sequences", bool(inputs[4]) and inputs[4] not in arrays),
        (f"the activations {', '.join(found)}", found != usual),
        ("a clip", "clip" in attributes),
        ("coupled gates", bool(attributes.get("input_forget", 0))),
        ("its reset after the product", kind == "GRU" and not attributes.get("linear_before_reset", 0)),
    ]
    for what, there in strange:
        if there:
            raise ModelError(
                f"a recurrent layer must be one that PyTorch has; {kind} at {node.name or node.output[0]} has {what}. "
                "Export the network from PyTorch with torch.export."
            )
    weights, states = arrays[inputs[1]], arrays[inputs[2]]
    gates, hidden = len(KINDS[kind]), states.shape[-1]
    both = arrays[inputs[3]] if inputs[3] else np.zeros((directions, 2 * gates * hidden), np.float32)
    tensors: dict[str, Tensor] = {}
    for each in range(directions):
        end = "_reverse" if each else ""
        tensors[f"weight_ih_l0{end}"] = _ordered(weights[each], kind, hidden)
        tensors[f"weight_hh_l0{end}"] = _ordered(states[each], kind, hidden)
        tensors[f"bias_ih_l0{end}"] = _ordered(both[each, : gates * hidden], kind, hidden)
        tensors[f"bias_hh_l0{end}"] = _ordered(both[each, gates * hidden :], kind, hidden)
    return Recurrent(path, kind, direction, hidden, tuple(tensors), bool(attributes.get("layout", 0))), tensors


def _ordered(array: np.ndarray, kind: str, hidden: int) -> Tensor:
    parts = np.asarray(array, np.float32).reshape(len(KINDS[kind]), hidden, *array.shape[1:])
    return torch.from_numpy(np.ascontiguousarray(parts[[*KINDS[kind]]]).reshape(array.shape))


def run(
    layer: nn.Module, found: Recurrent, x: Tensor, start: Tensor | None = None, cell: Tensor | None = None, *rest: Any
) -> tuple[Tensor, ...]:
    """(Y, Y_h) or (Y, Y_h, Y_c) as ONNX has them: (length, directions, n, hidden) and (directions, n, hidden)."""
    if found.batch_first:
        x, start, cell = x.transpose(0, 1), _turned(start), _turned(cell)
    if found.direction == "reverse":
        x = x.flip(0)
    zeros = torch.zeros(found.directions, x.shape[1], found.hidden)
    h = zeros if start is None else start
    c = zeros if cell is None else cell
    weights = [getattr(layer, leaf) for leaf in found.leaves]
    settings: Any = (True, 1, 0.0, False, found.directions == 2, False)
    if found.kind == "LSTM":
        y, *last = torch.lstm(x, (h, c), weights, *settings)
    else:
        y, *last = (torch.gru if found.kind == "GRU" else torch.rnn_tanh)(x, h, weights, *settings)
    if found.directions == 2:
        y = y.unflatten(2, (2, found.hidden)).permute(0, 2, 1, 3)
    else:
        y = (y.flip(0) if found.direction == "reverse" else y).unsqueeze(1)
    if found.batch_first:
        return y.permute(2, 0, 1, 3), *(each.transpose(0, 1) for each in last)
    return y, *last


def _turned(state: Tensor | None) -> Tensor | None:
    return None if state is None else state.transpose(0, 1)
