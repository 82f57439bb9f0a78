"""Rounding with error compensation: each column of a layer's weights makes good the rounding errors of those before
(Frantar et al. 2022, GPTQ, after OBQ of Frantar and Alistarh 2022; masks as in Frantar and Alistarh 2023, SparseGPT).

A layer's squared output error is `tr((W - Q) H (W - Q)^T)`, H being the second moments of its inputs. With `H = R R^T`,
R upper triangular, the error of a row e = w - q is `|e R|^2`, whose term i holds the columns up to i only:

    (e R)_i = R_ii (w_i + sum_{j < i} e_j R_ji / R_ii - q_i)

so that, going from left to right, q_i is the allowed value nearest to w_i plus that sum. GPTQ's updates by the Cholesky
factor of the inverse of H, which is `R^-1`, come to the same codes; this form needs no inverse.

The last columns have no others left to make good their errors. Sweeps of coordinate descent follow, in which each
weight moves to the value that is best given all others of its row (Behdin et al. 2023, QuantEase).
"""

import copy
import inspect
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from paretoscope.base.errors import ModelError
from paretoscope.base.lock import machine
from paretoscope.model import layouts

# Images of a forward pass, and floats of unfolded patches (32 MiB), at a time.
CHUNK = 32
PATCH_FLOATS = 1 << 23
# Columns whose errors are fed back one by one; those of earlier blocks come in one matrix product.
BLOCK = 64
# Measured: they mostly end by themselves before that.
SWEEPS = 10
DAMPING = 0.01

_CONVOLUTIONS = (F.conv1d, F.conv2d, F.conv3d)
_TRANSPOSED = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)
_ATTENTION = inspect.signature(F.multi_head_attention_forward)


@dataclass(frozen=True, eq=False, slots=True)
class Steps:
    """Evenly spaced values `(code - zero) * scale`, codes low..high.

    scale: float32, shape () or (rows,). zero: integers of that shape, or None for all 0.
    """

    scale: np.ndarray
    low: int
    high: int
    zero: np.ndarray | None = None


@dataclass(frozen=True, eq=False, slots=True)
class Entries:
    """The values of a codebook, float32 (k,), or (rows, k) for one codebook a row, ascending; k may be 0.

    Symbol j >= 1 is value j - 1; symbol 0 is zero, for weights that are not kept only.
    """

    values: np.ndarray


class LayerCalls(TorchFunctionMode):
    """Sees each convolution, linear map, attention and batch normalisation that runs while it is entered.

    Functional calls are watched, not modules: attention applies its projections without calling any module. A subclass
    overrides what it needs; each method returns the output of its call, `project` the bias to use.
    """

    def __torch_function__(self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        if func is F.linear:
            return self.linear(*args, **kwargs)
        if func in _CONVOLUTIONS:
            return self.convolve(func, *args, **kwargs)
        if func in _TRANSPOSED:
            return self.transpose(func, *args, **kwargs)
        if func is F.batch_norm:
            return self.normalise(*args, **kwargs)
        if func is F.multi_head_attention_forward:
            return self._attend(_ATTENTION.bind(*args, **kwargs).arguments)
        return func(*args, **kwargs)

    def linear(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return F.linear(x, weight, bias)

    def convolve(self, function: Callable, x: Tensor, weight: Tensor, bias: Tensor | None = None, *geometry) -> Tensor:
        """geometry: stride, padding, dilation and groups, as far as they are given."""
        return function(x, weight, bias, *geometry)

    def transpose(self, function: Callable, x: Tensor, weight: Tensor, bias: Tensor | None = None, *geometry) -> Tensor:
        """A transposed convolution; geometry: stride, padding, output padding, groups and dilation."""
        return function(x, weight, bias, *geometry)

    def normalise(self, x: Tensor, mean: Tensor | None, var: Tensor | None, *settings, **named) -> Tensor:
        """settings: weight, bias, training, momentum, eps."""
        return F.batch_norm(x, mean, var, *settings, **named)

    def project(self, inputs: tuple[Tensor, ...], weights: tuple[Tensor, ...], bias: Tensor | None) -> Tensor | None:
        """The projections of queries, keys and values: `weights` are three, or one that stacks their rows."""
        return bias

    def _attend(self, call: dict[str, Any]) -> tuple[Tensor, Tensor | None]:
        inputs = call["query"], call["key"], call["value"]
        if call.get("use_separate_proj_weight"):
            weights = call["q_proj_weight"], call["k_proj_weight"], call["v_proj_weight"]
        else:
            weights = (call["in_proj_weight"],)
        bias = self.project(inputs, weights, call["in_proj_bias"])
        out_weight, out_bias = call["out_proj_weight"], call["out_proj_bias"]
        # With the identity for its output projection, attention returns what that projection is fed with.
        identity = torch.eye(out_weight.shape[1], dtype=out_weight.dtype)
        mixed, attention = F.multi_head_attention_forward(
            **{**call, "in_proj_bias": bias, "out_proj_weight": identity, "out_proj_bias": None}
        )
        return self.linear(mixed, out_weight, out_bias), attention


class _SecondMoments(LayerCalls):
    """Sums of x x^T over the inputs x of weights. columns: how many there are, by the identity of a weight."""

    def __init__(self, columns: Mapping[int, int]) -> None:
        super().__init__()
        self._wanted = columns
        self._sums: dict[int, Tensor] = {}
        self._counts: dict[int, int] = {}

    def of(self, weight: Tensor) -> np.ndarray:
        if id(weight) not in self._sums:  # never called: no input is known
            return np.zeros((1, self._wanted[id(weight)], self._wanted[id(weight)]))
        return (self._sums[id(weight)] / self._counts[id(weight)]).numpy()

    def linear(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        if id(weight) in self._wanted:
            self._add(weight, x.reshape(1, -1, x.shape[-1]).mT)
        return F.linear(x, weight, bias)

    def convolve(self, function: Callable, x: Tensor, weight: Tensor, bias: Tensor | None = None, *geometry) -> Tensor:
        y = function(x, weight, bias, *geometry)
        if id(weight) in self._wanted:
            positions = y[0, 0].numel()
            groups = x.shape[1] // weight.shape[1]
            chunk = max(1, PATCH_FLOATS // (groups * weight[0].numel() * positions))
            for images in x.split(chunk):
                self._add(weight, _patches(images, weight, groups, *geometry[:3]))
        return y

    def transpose(self, function: Callable, x: Tensor, weight: Tensor, bias: Tensor | None = None, *geometry) -> Tensor:
        y = function(x, weight, bias, *geometry)
        if id(weight) in self._wanted:
            stride, padding, extra, groups, dilation = (*geometry, *(1, 0, 0, 1, 1)[len(geometry) :])
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

    def _add_each(self, weight: Tensor, inputs: tuple[Tensor, ...]) -> None:
        """Of a weight whose rows act on three different inputs: a group each."""
        flat = [x.reshape(-1, x.shape[-1]) for x in inputs]
        # Keys may be more or fewer than queries; what counts is the mean of each.
        moments = torch.stack([(x.mT @ x).double() / len(x) for x in flat])
        self._accumulate(weight, moments * len(flat[0]), len(flat[0]))

    def _add(self, weight: Tensor, columns: Tensor) -> None:
        """columns: float32 (groups, columns, samples)."""
        self._accumulate(weight, (columns @ columns.mT).double(), columns.shape[2])

    def _accumulate(self, weight: Tensor, moments: Tensor, count: int) -> None:
        key = id(weight)
        self._sums[key] = self._sums[key] + moments if key in self._sums else moments
        self._counts[key] = self._counts.get(key, 0) + count


def _patches(x: Tensor, weight: Tensor, groups: int, stride=1, padding=0, dilation=1) -> Tensor:
    """What each weight of an output channel is multiplied with: (groups, columns, images * positions)."""
    kernel = weight.shape[2:]
    stride, dilation = _each(stride, kernel), _each(dilation, kernel)
    spans = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
    if padding == "same":
        sides = [(span // 2, span - span // 2) for span in spans]
    else:
        sides = [(side, side) for side in _each(0 if padding == "valid" else padding, kernel)]
    x = F.pad(x, [side for pair in reversed(sides) for side in pair])
    for axis, (span, step, gap) in enumerate(zip(spans, stride, dilation, strict=True)):
        x = x.unfold(axis + 2, span + 1, step)[..., ::gap]
    # (images, channels, *positions, *kernel), a view until here
    x = x.unflatten(1, (groups, -1)).flatten(-len(kernel)).flatten(3, -2)
    return x.permute(1, 2, 4, 0, 3).reshape(groups, -1, x.shape[0] * x.shape[3])


def _spread(x: Tensor, weight: Tensor, stride=1, padding=0, extra=0, dilation=1) -> Tensor:
    """x with stride - 1 zeros between its values, and at its sides what a transposed convolution reaches."""
    kernel = weight.shape[2:]
    stride, padding, extra, dilation = (_each(value, kernel) for value in (stride, padding, extra, dilation))
    sizes = [(size - 1) * step + 1 for size, step in zip(x.shape[2:], stride, strict=True)]
    wide = x.new_zeros(*x.shape[:2], *sizes)
    wide[(..., *(slice(None, None, step) for step in stride))] = x
    reach = [gap * (size - 1) - side for gap, size, side in zip(dilation, kernel, padding, strict=True)]
    sides = [(each, each + more) for each, more in zip(reach, extra, strict=True)]
    return F.pad(wide, [side for pair in reversed(sides) for side in pair])


def _each(value: int | tuple[int, ...], kernel: tuple[int, ...]) -> tuple[int, ...]:
    value = (value,) if isinstance(value, int) else tuple(value)
    return value * len(kernel) if len(value) == 1 else value


def hessians(module: nn.Module, images: Tensor, names: Collection[str]) -> dict[str, np.ndarray]:
    """Second moments of the inputs of layers, half the Hessians of their squared output errors.

    module: is run in evaluation mode and not changed. images: float32 (n, ...), its inputs. names: state-dict names of
    weights, as `statistics.compressible` gives them. Returns, for each, float64 (groups, columns, columns): the mean of
    x x^T over images and positions, with columns = inputs / groups * kernel size, in the order of the weight's axes (of
    transposed convolutions, as `layouts` turns them). Groups are a convolution's, or three for attention whose queries,
    keys and values differ. A layer that does not run has moments of 0. Raises ModelError for a name that is not a
    weight of the module, or for no images.
    """
    if len(images) == 0:
        raise ModelError("calibration needs at least one image; got 0. Pass images of the train split.")
    module = copy.deepcopy(module).eval()
    weights = dict(module.named_parameters(remove_duplicate=False))
    unknown = sorted(set(names) - set(weights))
    if unknown:
        raise ModelError(
            f"calibration needs names of weights of the model; got {', '.join(unknown[:5])}. "
            "Pass those that paretoscope.model.statistics.compressible gives."
        )
    turned = layouts.transposed(module)
    moments = _SecondMoments({id(weights[name]): _column_count(weights[name], turned.get(name)) for name in names})
    with torch.no_grad(), moments:
        for chunk in images.split(CHUNK):
            with machine(exclusive=False):
                module(chunk)
    return {name: moments.of(weights[name]) for name in names}


def _column_count(weight: Tensor, groups: int | None) -> int:
    """Weights of an output channel; groups: of a transposed convolution."""
    return weight[0].numel() if groups is None else len(weight) // groups * weight[0, 0].numel()


def round_with_compensation(
    weight: np.ndarray,
    hessian: np.ndarray,
    kept: np.ndarray | None,
    grid: Steps | Entries,
    damping: float = DAMPING,
    sweeps: int = SWEEPS,
) -> np.ndarray:
    """Round a weight to a grid so that the layer's output changes little, rather than each weight.

    Columns are taken in the order of decreasing second moments: errors in the first have the most others to mend them.

    weight: float32 (rows, ...), first axis the output channel; where it is given as it was before pruning, what pruning
    takes away is compensated too. hessian: float64 (groups, columns, columns) as `hessians` gives it, rows divided
    evenly among the groups. kept: bool of the weight's shape, False where a weight stays zero; None for all kept.
    damping: part of the mean second moment that is added to the diagonal. sweeps: of coordinate descent, at most.
    Returns codes of the weight's shape: for Steps int8 or int16, the zero point where not kept; for Entries symbols,
    uint8 or uint16. Inputs that are always zero get plain rounding. Raises ModelError for shapes that do not fit
    or a Hessian that is not finite.
    """
    rows = weight.reshape(len(weight), -1).astype(np.float64)
    groups = len(hessian)
    if hessian.shape[1:] != (rows.shape[1],) * 2 or len(rows) % groups:
        raise ModelError(
            f"a Hessian must be (groups, {rows.shape[1]}, {rows.shape[1]}) with groups dividing {len(rows)}; "
            f"got {hessian.shape}. Compute it for this layer."
        )
    if not np.isfinite(hessian).all():
        raise ModelError("a Hessian must be finite; this one is not. Check the weights and the calibration images.")
    mask = np.ones(rows.shape, bool) if kept is None else np.ascontiguousarray(kept).reshape(rows.shape)
    codes = np.empty(rows.shape, np.int32)
    allowed = _Allowed.of(grid, len(rows))
    size = len(rows) // groups
    for group in range(groups):
        part = slice(group * size, (group + 1) * size)
        codes[part] = _round(rows[part], hessian[group], mask[part], allowed.rows(part), damping, sweeps)
    return codes.reshape(weight.shape).astype(allowed.kind)


@dataclass(frozen=True, eq=False, slots=True)
class _Allowed:
    """A grid row by row, as the compiled loop takes it: entries (rows, k) with k > 0 or else steps."""

    scale: np.ndarray
    zero: np.ndarray
    low: int
    high: int
    entries: np.ndarray
    kind: type

    @classmethod
    def of(cls, grid: Steps | Entries, rows: int) -> "_Allowed":
        def each(values: Any, kind: type, *shape: int) -> np.ndarray:
            return np.array(np.broadcast_to(values, (rows, *shape)), kind, order="C")

        if isinstance(grid, Steps):
            kind = np.int8 if grid.low >= -128 and grid.high <= 127 else np.int16
            zero = each(0 if grid.zero is None else grid.zero, np.int32)
            return cls(each(grid.scale, np.float32), zero, grid.low, grid.high, np.empty((rows, 0), np.float32), kind)
        count = grid.values.shape[-1]
        kind = np.uint8 if count <= 255 else np.uint16
        # Without entries every code is 0, which is what steps from 0 to 0 give.
        return cls(each(1, np.float32), each(0, np.int32), 0, 0, each(grid.values, np.float32, count), kind)

    def rows(self, part: slice) -> tuple:
        return self.scale[part], self.zero[part], self.low, self.high, self.entries[part]


def _round(
    weight: np.ndarray, hessian: np.ndarray, kept: np.ndarray, allowed: tuple, damping: float, sweeps: int
) -> np.ndarray:
    order = np.argsort(-np.diagonal(hessian), kind="stable")
    weight, kept = weight[:, order], kept[:, order]
    hessian, feedback, _ = factorised(hessian[np.ix_(order, order)], damping)
    codes, errors = _compensated(weight, feedback, kept, allowed)
    _descend(weight, hessian, errors @ hessian, kept, *allowed, codes, errors, sweeps)
    result = np.empty_like(codes)
    result[:, order] = codes
    return result


def factorised(hessian: np.ndarray, damping: float = DAMPING) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """H, damped and of a mean diagonal near 1; its upper triangular R, H = R R^T, over R's diagonal; that, squared.

    hessian: float64 (columns, columns), is overwritten. damping: part of the mean second moment of live inputs.
    """
    # The Cholesky factor of H in reversed order is R in reversed order.
    diagonal = np.einsum("ii->i", hessian)
    live = diagonal > 0
    if live.any():
        hessian /= diagonal[live].mean()
    diagonal += damping
    while True:
        try:
            factor = np.linalg.cholesky(hessian[::-1, ::-1])[::-1, ::-1]
            return hessian, factor / np.diagonal(factor), np.diagonal(factor) ** 2
        except np.linalg.LinAlgError:
            # Rounding can take a singular matrix below zero: more damping ends that.
            damping = max(10 * damping, 1e-8)
            diagonal += damping


def _compensated(
    weight: np.ndarray, feedback: np.ndarray, kept: np.ndarray, allowed: tuple
) -> tuple[np.ndarray, np.ndarray]:
    codes = np.empty(weight.shape, np.int32)
    errors = np.empty(weight.shape)
    for start in range(0, weight.shape[1], BLOCK):
        block = slice(start, start + BLOCK)
        targets = weight[:, block] + errors[:, :start] @ feedback[:start, block]
        corner = np.ascontiguousarray(feedback[block, block])
        _round_block(start, weight, targets, corner, kept, *allowed, codes, errors)
    return codes, errors


@numba.njit(cache=True, nogil=True)
def _round_block(start, weight, targets, feedback, kept, scale, zero, low, high, entries, codes, errors):
    for row in range(len(weight)):
        for i in range(targets.shape[1]):
            column = start + i
            if not kept[row, column]:
                codes[row, column] = zero[row]
                errors[row, column] = weight[row, column]
                continue
            target = targets[row, i]
            for before in range(i):
                target += errors[row, start + before] * feedback[before, i]
            code, value = _nearest(target, scale[row], zero[row], low, high, entries[row])
            codes[row, column] = code
            errors[row, column] = weight[row, column] - value


@numba.njit(cache=True, nogil=True)
def _descend(weight, hessian, slopes, kept, scale, zero, low, high, entries, codes, errors, sweeps):
    """slopes: errors @ hessian; they, the codes and the errors are updated."""
    columns = weight.shape[1]
    for row in range(len(weight)):
        for _ in range(sweeps):
            moved = False
            for column in range(columns):
                if not kept[row, column]:
                    continue
                value = weight[row, column] - errors[row, column]
                target = value + slopes[row, column] / hessian[column, column]
                code, value = _nearest(target, scale[row], zero[row], low, high, entries[row])
                if code == codes[row, column]:
                    continue
                change = weight[row, column] - value - errors[row, column]
                codes[row, column] = code
                errors[row, column] += change
                for other in range(columns):
                    slopes[row, other] += change * hessian[column, other]
                moved = True
            if not moved:
                break


@numba.njit(cache=True, nogil=True)
def _nearest(target, scale, zero, low, high, entries):
    """Code and value of what is allowed and nearest; of two entries as near, the lower one."""
    if len(entries) == 0:
        # In float32, as plain rounding does it, so that both agree on what lies near a middle.
        step = np.rint(np.float32(target) / scale)
        code = int(min(max(step + zero, low), high))
        return code, np.float64(np.float32(code - zero) * scale)
    first, last = 0, len(entries) - 1
    while first < last:
        middle = (first + last) // 2
        if (np.float64(entries[middle]) + np.float64(entries[middle + 1])) / 2 < target:
            first = middle + 1
        else:
            last = middle
    return first + 1, np.float64(entries[first])
