"""Recurrent layers: one node for each layer of them, both directions in one.

The weights stand in the file as PyTorch has them; rows are put into the order of ONNX by nodes that a runtime computes
once. Hidden states between steps are floats.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from paretoscope.graph.trace import Trace, refuse, rule

# The place in PyTorch of each gate of ONNX: input, output, forget, cell of an LSTM; update, reset, hidden of a GRU.
_GATES = {"LSTM": (0, 3, 1, 2), "GRU": (1, 0, 2), "RNN": (0,)}


def _arranged(trace: Trace, weights: Sequence[Tensor], kind: str) -> str:
    """Weights of the directions, (directions, gates * hidden, ...), in the order of ONNX."""
    gates = _GATES[kind]
    parts = []
    for weight in weights:
        rows = len(weight) // len(gates)
        name, shape = trace.name(weight), (1, *weight.shape)
        if len(gates) > 1:
            order = [gate * rows + row for gate in gates for row in range(rows)]
            name = trace.emit("Gather", [name, trace.ints(*order)], weight.shape, axis=0)
        parts.append(trace.reshape(name, shape))
    if len(parts) == 1:
        return parts[0]
    return trace.emit("Concat", parts, (len(parts), *weights[0].shape), axis=0)


def _states(trace: Trace, hx: Tensor, first: int, directions: int) -> str:
    """The first states of a layer (directions, n, hidden), or "" where they are zeros."""
    if not trace.is_input(hx) and not hx.any():
        return ""
    shape = (directions, *trace.size(hx)[1:])
    bounds = [trace.ints(first), trace.ints(first + directions), trace.ints(0)]
    return trace.emit("Slice", [trace.name(hx), *bounds], shape)


def _run(
    trace: Trace,
    kind: str,
    input: Tensor,
    hx: Sequence[Tensor],
    params: Sequence[Tensor],
    settings: Sequence[Any],
    **attributes: Any,
) -> list[str]:
    """The output and the last hidden states, not those of the cells.

    settings: as PyTorch's calls have them, after the weights.
    """
    has_biases, layers, _, train, bidirectional, batch_first = settings
    if train or input.ndim != 3:
        raise refuse("a recurrent layer in training, or of one sample without a batch")
    directions, each = 1 + bool(bidirectional), 4 if has_biases else 2
    if len(params) != layers * directions * each:
        raise refuse("a recurrent layer with projections")
    x = trace.name(input)
    n, length, _ = trace.size(input) if batch_first else (trace.size(input)[1], trace.size(input)[0], 0)
    hidden = params[1].shape[1]
    if batch_first:
        x = trace.transpose(x, (1, 0, 2))
    last: list[str] = []
    for layer in range(layers):
        own = [params[(layer * directions + d) * each :][:each] for d in range(directions)]
        inputs = [x, _arranged(trace, [w[0] for w in own], kind), _arranged(trace, [w[1] for w in own], kind)]
        if has_biases:
            parts = [_arranged(trace, [w[place] for w in own], kind) for place in (2, 3)]
            rows = len(own[0][2])
            inputs.append(trace.emit("Concat", parts, (directions, 2 * rows), axis=1))
        else:
            inputs.append("")
        starts = [_states(trace, h, layer * directions, directions) for h in hx]
        inputs += ["", *starts]
        while not inputs[-1]:
            inputs.pop()
        direction = "bidirectional" if bidirectional else "forward"
        both = {key: value * directions if isinstance(value, list) else value for key, value in attributes.items()}
        shape = (length, directions, n, hidden)
        y = trace.emit(kind, inputs, shape, hidden_size=hidden, direction=direction, **both)
        last.append(_ends(trace, y, shape))
        x = trace.reshape(trace.transpose(y, (0, 2, 1, 3)), (length, n, directions * hidden))
    if batch_first:
        x = trace.transpose(x, (1, 0, 2))
    whole = (layers * directions, n, hidden)
    return [x, last[0] if layers == 1 else trace.emit("Concat", last, whole, axis=0)]


def _ends(trace: Trace, y: str, shape: tuple[int, ...]) -> str:
    """The state after the last step of each direction, (directions, n, hidden), of all states."""
    last = trace.emit("Gather", [y, trace.constant(shape[0] - 1, "int64")], shape[1:], axis=0)
    if shape[1] == 1:
        return last
    first = trace.emit("Gather", [y, trace.constant(0, "int64")], shape[1:], axis=0)
    ends = [
        trace.emit("Gather", [part, trace.ints(place)], (1, *shape[2:]), axis=0)
        for place, part in enumerate((last, first))
    ]
    return trace.emit("Concat", ends, shape[1:], axis=0)


def _expect_padded(hx: Any, params: Any) -> None:
    if isinstance(params, Tensor) or (isinstance(hx, Tensor) and hx.ndim == 1):
        raise refuse("a recurrent layer over packed sequences")


@rule(torch.lstm, several=True)
def _lstm(trace: Trace, output: Any, input: Tensor, hx: Any, params: Any, *settings: Any) -> list[str]:
    _expect_padded(hx, params)
    return _run(trace, "LSTM", input, hx, params, settings)


@rule(torch.gru, several=True)
def _gru(trace: Trace, output: Any, input: Tensor, hx: Any, params: Any, *settings: Any) -> list[str]:
    _expect_padded(hx, params)
    return _run(trace, "GRU", input, [hx], params, settings, linear_before_reset=1)


@rule(torch.rnn_tanh, several=True)
def _rnn_tanh(trace: Trace, output: Any, input: Tensor, hx: Any, params: Any, *settings: Any) -> list[str]:
    _expect_padded(hx, params)
    return _run(trace, "RNN", input, [hx], params, settings, activations=["Tanh"])


@rule(torch.rnn_relu, several=True)
def _rnn_relu(trace: Trace, output: Any, input: Tensor, hx: Any, params: Any, *settings: Any) -> list[str]:
    _expect_padded(hx, params)
    return _run(trace, "RNN", input, [hx], params, settings, activations=["Relu"])
