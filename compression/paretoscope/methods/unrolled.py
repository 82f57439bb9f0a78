"""Recurrent layers, layer by layer and step by step: what their weights are multiplied with."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

State = Tensor | tuple[Tensor, Tensor] | list[Tensor] | None


def inputs_of(layer: nn.RNNBase, x: Tensor, start: State = None) -> Iterator[tuple[str, Tensor]]:
    """The name of each weight of an LSTM, GRU or RNN and its inputs, float (n, length, columns).

    x: as the layer is called with, with a batch. start: its state before the first step. A weight of the inputs sees
    the outputs of the layer before; one of the hidden state sees the output of the step before, which is why running
    one layer after the other tells all of them.
    """
    directions = 2 if layer.bidirectional else 1
    hidden, cell = start if isinstance(start, (tuple, list)) else (start, None)
    x = x if layer.batch_first else x.transpose(0, 1)
    for number in range(layer.num_layers):
        single, own = _single(layer, number), slice(number * directions, (number + 1) * directions)
        if hidden is None:
            before = x.new_zeros(directions, len(x), layer.hidden_size)
            y = single(x)[0]
        else:
            before = hidden[own]
            y = single(x, before if cell is None else (before, cell[own]))[0]
        for direction, made in enumerate(y.chunk(directions, dim=2)):
            suffix = f"l{number}" + "_reverse" * direction
            first = before[direction][:, None]
            earlier = [made[:, 1:], first] if direction else [first, made[:, :-1]]
            yield f"weight_ih_{suffix}", x
            yield f"weight_hh_{suffix}", torch.cat(earlier, dim=1)
        x = y


def _single(layer: nn.RNNBase, number: int) -> nn.RNNBase:
    """One layer of several, with its weights."""
    kind: type[Any] = type(layer)  # an LSTM's, GRU's or RNN's own arguments
    endings = (f"_l{number}", f"_l{number}_reverse")
    own = {name: tensor for name, tensor in layer.named_parameters() if name.endswith(endings)}
    size = layer.get_parameter(f"weight_ih_l{number}").shape[1]
    more = {"nonlinearity": layer.nonlinearity} if isinstance(layer, nn.RNN) else {}
    with torch.device("meta"):  # random weights would advance the caller's generator
        single: nn.RNNBase = kind(
            size, layer.hidden_size, bias=layer.bias, batch_first=True, bidirectional=layer.bidirectional, **more
        )
    for name, tensor in own.items():
        setattr(single, name.replace(f"_l{number}", "_l0"), tensor)
    return single.eval()
