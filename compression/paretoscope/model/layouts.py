"""Weights whose first axis is not the output channel: of transposed convolutions, (inputs, outputs / groups, ...), and
w in x @ w, (inputs, outputs).

Every method takes rows for output channels, as in a convolution, (outputs, inputs / groups, ...). Other weights are
*turned* to that before anything is done to them, and turned back when they are decoded: scales, steps, patterns and
moments then run along the axis that they are meant for, and neighbours are the coder's neighbours.
"""

from collections.abc import Mapping

import numpy as np
from torch import nn

TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def turned(array: np.ndarray, groups: int) -> np.ndarray:
    """(groups * a, b, ...) as (groups * b, a, ...): from one layout to the other, and back."""
    first, second, *kernel = array.shape
    parts = array.reshape(groups, first // groups, second, *kernel).swapaxes(1, 2)
    return np.ascontiguousarray(parts).reshape(turned_shape(array.shape, groups))


def turned_shape(shape: tuple[int, ...], groups: int) -> tuple[int, ...]:
    """The shape of `turned`."""
    first, second, *kernel = shape
    return (groups * second, first // groups, *kernel)


def told_by_biases(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    """The groups of each weight whose outputs lie on its second axis, by name, as far as a state dict alone tells.

    A bias has a value for each output channel. Where a weight's first axis is of another length, and its second one,
    times whole groups, is of that, its outputs are there: a transposed convolution, or a linear layer that is stored as
    (inputs, outputs), which has one group. Layers without a bias, and with as many inputs as outputs, tell nothing.
    """
    found = {}
    for name, shape in shapes.items():
        bias = shapes.get(f"{name.removesuffix('weight')}bias") if name.endswith("weight") else None
        if bias is None or len(bias) != 1 or len(shape) < 2 or 0 in shape or bias[0] == shape[0]:
            continue
        groups, rest = divmod(bias[0], shape[1])
        if rest == 0 and groups and shape[0] % groups == 0 and (groups == 1 or len(shape) > 2):
            found[name] = groups
    return found
