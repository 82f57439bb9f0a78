"""Second moments of the inputs of layers, measured on samples: half the Hessians of their squared output errors."""

import copy
import math
from collections.abc import Callable, Collection, Mapping
from functools import partial
from types import EllipsisType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from paretoscope.base.batch import Batch, call, joined, length, parts
from paretoscope.base.errors import ModelError
from paretoscope.base.lock import machine
from paretoscope.graph.graph_module import GraphModule
from paretoscope.methods import unrolled
from paretoscope.methods.calls import Extent, Function, LayerCalls
from paretoscope.methods.operands import Operand, Rows, of_einsum, of_product, of_projection
from paretoscope.model import weights

# Images of a forward pass, and floats of unfolded patches (32 MiB), at a time: chosen by hand, no benchmark.
CHUNK = 32
PATCH_FLOATS = 1 << 23
# Products of so many columns are mirrored, made in so many rows at a time: smaller ones gain little. Chosen by hand, no
# benchmark.
MIRRORED, ROWS = 2304, 512
# Inputs that differ from one part of a weight's rows to the other have moments of their own, up to so many parts; by
# hand, no benchmark.
MOST_GROUPS = 16


class _SecondMoments(LayerCalls):
    """Sums of x x^T over the inputs x of weights.

    columns: how many there are, by the identity of a weight. turned: whether its outputs lie on the second axis.
    """

    def __init__(self, columns: Mapping[int, int], turned: Mapping[int, bool]) -> None:
        super().__init__()
        self._wanted = columns
        self._turned = dict(turned)
        self._sums: dict[int, Tensor] = {}
        self._counts: dict[int, int] = {}
        self._parts: dict[int, dict[Rows, tuple[Tensor, int]]] = {}

    def seen(self, weight: Tensor) -> bool:
        """Whether it was called in a way that shows its inputs."""
        return id(weight) in self._sums or id(weight) in self._parts

    def of(self, weight: Tensor) -> np.ndarray:
        key, columns = id(weight), self._wanted[id(weight)]
        if key in self._parts:
            outputs = weight.numel() // columns
            if key in self._sums:  # by a layer, too
                self._parts[key][Rows(0, outputs)] = self._sums[key][0], self._counts[key]
            return _grouped(self._parts[key], columns, outputs)
        if key not in self._sums:  # never called: no input is known
            return np.zeros((1, columns, columns))
        mean = self._sums[key] / self._counts[key]
        return mean.numpy()

    def linear(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        if id(weight) in self._wanted:
            self._add(weight, x.reshape(1, -1, x.shape[-1]).mT)
        else:
            for operand in of_projection(x, weight, self._turned):
                self._add_part(operand)
        return F.linear(x, weight, bias)

    def multiply(self, function: Function, *args: Tensor, **kwargs: Any) -> Tensor:
        for operand in of_product(args[-2], args[-1], self._turned):
            self._add_part(operand)
        return function(*args, **kwargs)

    def contract(self, equation: str, *tensors: Tensor) -> Tensor:
        for operand in of_einsum(equation, list(tensors), self._turned):
            self._add_part(operand)
        return torch.einsum(equation, *tensors)

    def unroll(self, layer: nn.RNNBase, x: Tensor, start: unrolled.State = None) -> None:
        """The inputs of all weights of a recurrent layer that is about to be called; none without a batch."""
        if x.ndim == 3:
            for leaf, inputs in unrolled.inputs_of(layer, x, start):
                self.linear(inputs, layer.get_parameter(leaf))

    def convolve(
        self, function: Function, x: Tensor, weight: Tensor, bias: Tensor | None = None, *geometry: Extent
    ) -> Tensor:
        y = function(x, weight, bias, *geometry)
        if id(weight) in self._wanted:
            positions = y[0, 0].numel()
            groups = x.shape[1] // weight.shape[1]
            chunk = max(1, PATCH_FLOATS // (groups * weight[0].numel() * positions))
            for images in x.split(chunk):
                self._add(weight, _patches(images, weight, groups, *geometry[:3]))
        return y

    def transpose(
        self, function: Function, x: Tensor, weight: Tensor, bias: Tensor | None = None, *geometry: Extent
    ) -> Tensor:
        y = function(x, weight, bias, *geometry)
        if id(weight) in self._wanted:
            stride, padding, extra, groups, dilation = _transposed_geometry(*geometry)
            positions = y[0, 0].numel()
            chunk = max(1, PATCH_FLOATS // (len(weight) * weight[0, 0].numel() * positions))
            for images in x.split(chunk):
                spread = _spread(images, weight, stride, padding, extra, dilation)
                columns = _patches(spread, weight, groups, 1, 0, dilation)
                # A transposed convolution is one of the spread input with the kernel from its end.
                taps = columns.unflatten(1, (-1, weight[0, 0].numel())).flip(2)
                self._add(weight, taps.flatten(1, 2))
        return y

    def project(self, inputs: tuple[Tensor, ...], weights: tuple[Tensor, ...], bias: Tensor | None) -> Tensor | None:
        if len(weights) == 3:
            for x, weight in zip(inputs, weights, strict=True):
                self.linear(x, weight)
        elif inputs[0] is inputs[1] is inputs[2]:
            self.linear(inputs[0], weights[0])
        elif id(weights[0]) in self._wanted:
            self._add_each(weights[0], inputs)
        return bias

    def _add_part(self, operand: Operand) -> None:
        """Add the moments of some rows of a weight."""
        flat = operand.inputs.reshape(-1, operand.inputs.shape[-1])
        before = self._parts.setdefault(id(operand.weight), {})
        total, count = before.get(operand.rows, (0.0, 0))
        before[operand.rows] = total + (flat.mT @ flat).double(), count + len(flat)

    def _add_each(self, weight: Tensor, inputs: tuple[Tensor, ...]) -> None:
        """Add the moments of a weight whose rows act on three different inputs: a group each."""
        flat = [x.reshape(-1, x.shape[-1]) for x in inputs]
        # Keys may be more or fewer than queries; what counts is the mean of each.
        moments = torch.stack([(x.mT @ x).double() / len(x) for x in flat])
        self._accumulate(weight, moments * len(flat[0]), len(flat[0]))

    def _add(self, weight: Tensor, columns: Tensor) -> None:
        """Add the moments of these inputs, float32 (groups, columns, samples)."""
        self._accumulate(weight, products(columns), columns.shape[2])

    def _accumulate(self, weight: Tensor, moments: Tensor, count: int) -> None:
        key = id(weight)
        if key in self._sums:
            self._sums[key] += moments
        else:
            self._sums[key] = moments.double()
        self._counts[key] = self._counts.get(key, 0) + count


def products(columns: Tensor) -> Tensor:
    """x x^T of each group, (groups, columns, columns), of float (groups, columns, samples).

    Large ones are made in blocks of rows up to the diagonal and mirrored there: half of the work, and symmetric to the
    bit. Sums of few samples may round differently than at once.
    """
    size = columns.shape[1]
    if size < MIRRORED:
        return columns @ columns.mT
    found = columns.new_empty(len(columns), size, size)
    for start in range(0, size, ROWS):
        stop = min(start + ROWS, size)
        part = columns[:, start:stop] @ columns[:, :stop].mT
        # Within a block on the diagonal both halves are there; the lower one counts.
        corner = part[:, :, start:].tril()
        part[:, :, start:] = corner + corner.tril(-1).mT
        found[:, start:stop, :stop] = part
        found[:, :start, start:stop] = part[:, :, :start].mT
    return found


def _patches(
    x: Tensor, weight: Tensor, groups: int, stride: Extent = 1, padding: Extent = 0, dilation: Extent = 1
) -> Tensor:
    """What each weight of an output channel is multiplied with: (groups, columns, images * positions)."""
    kernel = weight.shape[2:]
    steps, gaps = _each(stride, kernel), _each(dilation, kernel)
    spans = [d * (k - 1) for d, k in zip(gaps, kernel, strict=True)]
    if padding == "same":
        sides = [(span // 2, span - span // 2) for span in spans]
    else:
        sides = [(side, side) for side in _each(0 if padding == "valid" else padding, kernel)]
    x = F.pad(x, [side for pair in reversed(sides) for side in pair])
    for axis, (span, step, gap) in enumerate(zip(spans, steps, gaps, strict=True)):
        x = x.unfold(axis + 2, span + 1, step)[..., ::gap]
    # (images, channels, *positions, *kernel), a view until here
    x = x.unflatten(1, (groups, -1)).flatten(-len(kernel)).flatten(3, -2)
    return x.permute(1, 2, 4, 0, 3).reshape(groups, -1, x.shape[0] * x.shape[3])


def _spread(x: Tensor, weight: Tensor, stride: Extent, padding: Extent, extra: Extent, dilation: Extent) -> Tensor:
    """x with stride - 1 zeros between its values and padded as a transposed convolution needs it."""
    kernel = weight.shape[2:]
    strides, paddings, extras, gaps = (_each(value, kernel) for value in (stride, padding, extra, dilation))
    sizes = [(size - 1) * step + 1 for size, step in zip(x.shape[2:], strides, strict=True)]
    wide = x.new_zeros(*x.shape[:2], *sizes)
    slices: tuple[slice | EllipsisType, ...] = (..., *(slice(None, None, step) for step in strides))
    wide[slices] = x
    reach = [gap * (size - 1) - side for gap, size, side in zip(gaps, kernel, paddings, strict=True)]
    sides = [(each, each + more) for each, more in zip(reach, extras, strict=True)]
    return F.pad(wide, [side for pair in reversed(sides) for side in pair])


def _transposed_geometry(
    stride: Extent = 1, padding: Extent = 0, extra: Extent = 0, groups: Extent = 1, dilation: Extent = 1
) -> tuple[Extent, Extent, Extent, int, Extent]:
    """The arguments of a transposed convolution, with PyTorch's defaults for those that are not given."""
    assert isinstance(groups, int)  # PyTorch takes no other
    return stride, padding, extra, groups, dilation


def _each(value: Extent, kernel: tuple[int, ...]) -> tuple[int, ...]:
    """One number for each axis of the kernel."""
    assert not isinstance(value, str)  # a named padding is resolved before
    each = (value,) if isinstance(value, int) else tuple(value)
    return each * len(kernel) if len(each) == 1 else each


def _grouped(found: Mapping[Rows, tuple[Tensor, int]], columns: int, outputs: int) -> np.ndarray:
    """The mean moments of a weight's rows, float64 (groups, columns, columns), the rows divided evenly among them."""
    size = math.gcd(*(end for rows in found for end in rows), outputs)
    starts = range(0, outputs, size) if outputs // size <= MOST_GROUPS else ()
    apart = [[each for rows, each in found.items() if rows.first <= start < rows.stop] for start in starts]
    groups = [_mean(own, columns) for own in apart or [list(found.values())]]
    same = all(torch.equal(each, groups[0]) for each in groups)
    return torch.stack(groups[:1] if same else groups).numpy()


def _mean(sums: Collection[tuple[Tensor, int]], columns: int) -> Tensor:
    total = torch.zeros(columns, columns, dtype=torch.float64)
    for each, _ in sums:
        total += each
    return total / max(1, sum(count for _, count in sums))


def hessians(module: nn.Module, samples: Batch, names: Collection[str]) -> dict[str, np.ndarray]:
    """Second moments of the inputs of layers, half the Hessians of their squared output errors.

    module: is run in evaluation mode and not changed. samples: its inputs. names: state-dict names of weights, as
    `weights.names` gives them. Returns, for each, float64 (groups, columns, columns): the mean of x x^T over samples
    and positions, with columns = inputs / groups * kernel size, in the order of the weight's axes (turned as `layouts`
    says). Groups are a convolution's, or those of the rows of a weight that is split among several inputs, as those of
    attention may be. Of an imported network weights are left out whose inputs do not show: embeddings, whose rows are
    looked up, and weights that are changed before they are used; elsewhere a layer that does not run has moments of 0.
    Raises ModelError for a name that is not a weight of the module, or for no samples.
    """
    if length(samples) == 0:
        raise ModelError("calibration needs at least one sample; got 0. Pass samples of the train split.")
    module = copy.deepcopy(module).eval()
    tensors = dict(module.named_parameters(remove_duplicate=False))
    unknown = sorted(set(names) - set(tensors))
    if unknown:
        raise ModelError(
            f"calibration needs names of weights of the model; got {', '.join(unknown[:5])}. "
            "Pass those that paretoscope.model.weights.names gives."
        )
    turned = weights.turned(module)
    columns = {id(tensors[name]): _column_count(tensors[name], turned.get(name)) for name in names}
    moments = _SecondMoments(columns, {id(tensors[name]): name in turned for name in names})
    for layer in module.modules():
        if isinstance(layer, nn.RNNBase):
            layer.register_forward_pre_hook(partial(_unrolled, moments.unroll))
    with torch.no_grad(), moments:
        for chunk in zip(*(each.split(CHUNK) for each in parts(samples)), strict=True):
            with machine(exclusive=False):
                call(module, joined(chunk))
    imported = isinstance(module, GraphModule)
    return {name: moments.of(tensors[name]) for name in names if moments.seen(tensors[name]) or not imported}


def _unrolled(unroll: Callable[..., None], layer: nn.Module, args: tuple[Any, ...]) -> None:
    unroll(layer, *args)


def _column_count(weight: Tensor, groups: int | None) -> int:
    """The number of weights of an output channel. groups: those of a transposed convolution, None for other layers."""
    return weight[0].numel() if groups is None else len(weight) // groups * weight[0, 0].numel()
