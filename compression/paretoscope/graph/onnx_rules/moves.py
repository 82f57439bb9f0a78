"""What moves values without computing, what picks some of them, and what makes new ones."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from paretoscope.graph.onnx_rules.arithmetic import called
from paretoscope.graph.trace import Trace, refuse, rule

_END = 2**62


@rule(
    *called("flatten", "reshape", "view", "view_as", "reshape_as", "unflatten", "squeeze", "unsqueeze", "ravel"),
)
def _reshape(trace: Trace, output: Tensor, input: Tensor, *args: Any, **settings: Any) -> str:
    if any(isinstance(each, torch.dtype) for each in args):
        raise refuse("a view of another type")
    return trace.reshape(trace.name(input), trace.size(output))


@rule(Tensor.permute, torch.permute)
def _permute(trace: Trace, output: Tensor, input: Tensor, *dims: int | Sequence[int]) -> str:
    order = [axis for each in dims for axis in ([each] if isinstance(each, int) else each)]
    return trace.transpose(trace.name(input), [axis % input.ndim for axis in order])


@rule(*called("transpose", "swapaxes", "swapdims"))
def _transpose(trace: Trace, output: Tensor, input: Tensor, dim0: int, dim1: int) -> str:
    order = list(range(input.ndim))
    order[dim0], order[dim1] = order[dim1], order[dim0]
    return trace.transpose(trace.name(input), order)


@rule(torch.t, Tensor.t, Tensor.T.__get__, Tensor.mT.__get__)  # type: ignore[attr-defined]
def _t(trace: Trace, output: Tensor, input: Tensor, *args: Any) -> str:
    if input.ndim < 2:
        return trace.name(input)
    return _transpose(trace, output, input, -2, -1)  # type: ignore[return-value]


@rule(torch.movedim, Tensor.movedim)
def _movedim(trace: Trace, output: Tensor, input: Tensor, source: Any, destination: Any) -> str:
    # The sizes of a tensor without values tell where each axis goes.
    axes = torch.empty(tuple(range(input.ndim)), device="meta").movedim(source, destination).shape
    return trace.transpose(trace.name(input), list(axes))


@rule(Tensor.expand, Tensor.expand_as, torch.broadcast_to, Tensor.broadcast_to)
def _expand(trace: Trace, output: Tensor, input: Tensor, *sizes: Any, **settings: Any) -> str:
    shape = trace.size(output)
    if tuple(input.shape) == tuple(output.shape):
        return trace.name(input)
    wanted = trace.sizes(shape)
    return trace.emit("Expand", [trace.name(input), wanted], shape)


@rule(Tensor.repeat, torch.tile, Tensor.tile)
def _repeat(trace: Trace, output: Tensor, input: Tensor, *times: Any) -> str:
    shape, given = trace.size(output), trace.size(input)
    given = (*[1] * (len(shape) - len(given)), *given)
    counts = trace.sizes([size // before for size, before in zip(shape, given, strict=True)])
    return trace.emit("Tile", [trace.reshape(trace.name(input), given), counts], shape)


@rule(torch.cat, torch.concat, torch.concatenate)
def _cat(trace: Trace, output: Tensor, tensors: Sequence[Tensor], dim: int = 0) -> str:
    given = [trace.operand(tensor, output.dtype) for tensor in tensors]
    return trace.emit("Concat", given, trace.size(output), axis=dim % output.ndim)


@rule(torch.stack)
def _stack(trace: Trace, output: Tensor, tensors: Sequence[Tensor], dim: int = 0) -> str:
    axis, shape = dim % output.ndim, trace.size(output)
    one = [1 if place == axis else size for place, size in enumerate(shape)]
    return trace.emit("Concat", [trace.reshape(trace.name(each), one) for each in tensors], shape, axis=axis)


def _sliced(trace: Trace, x: str, shape: Sequence[int], axis: int, start: int, end: int, step: int = 1) -> str:
    bounds = [trace.ints(start), trace.ints(end), trace.ints(axis)] + ([trace.ints(step)] if step != 1 else [])
    return trace.emit("Slice", [x, *bounds], shape)


@rule(*called("chunk", "split", "split_with_sizes", "tensor_split"), several=True)
def _split(trace: Trace, outputs: Sequence[Tensor], input: Tensor, sizes: Any, dim: int = 0) -> list[str]:
    x, axis, start, names = trace.name(input), dim % input.ndim, 0, []
    for part in outputs:
        size = part.shape[axis]
        names.append(_sliced(trace, x, trace.size(part), axis, start, start + size))
        start += size
    return names


def _picked(trace: Trace, x: str, shape: Sequence[int], axis: int, place: int) -> str:
    return trace.emit("Gather", [x, trace.constant(place, np.int64)], shape, axis=axis)


@rule(*called("unbind"), several=True)
def _unbind(trace: Trace, outputs: Sequence[Tensor], input: Tensor, dim: int = 0) -> list[str]:
    x = trace.name(input)
    return [_picked(trace, x, trace.size(part), dim % input.ndim, place) for place, part in enumerate(outputs)]


@rule(*called("select"))
def _select(trace: Trace, output: Tensor, input: Tensor, dim: int, index: int) -> str:
    return _picked(trace, trace.name(input), trace.size(output), dim % input.ndim, index)


@rule(*called("narrow"))
def _narrow(trace: Trace, output: Tensor, input: Tensor, dim: int, start: int, length: int) -> str:
    return _sliced(trace, trace.name(input), trace.size(output), dim % input.ndim, start, start + length)


@rule(Tensor.__getitem__)
def _getitem(trace: Trace, output: Tensor, input: Tensor, index: object) -> str:
    parts = list(index) if isinstance(index, tuple) else [index]
    used = sum(part is not None and part is not Ellipsis for part in parts)
    if Ellipsis in [part for part in parts if not isinstance(part, Tensor)]:
        place = next(i for i, part in enumerate(parts) if part is Ellipsis)
        parts[place : place + 1] = [slice(None)] * (input.ndim - used)
    x, shape, axis, tensors = trace.name(input), list(trace.size(input)), 0, 0
    for part in parts:
        if part is None:
            shape.insert(axis, 1)
            x = trace.reshape(x, shape)
            axis += 1
        elif isinstance(part, slice):
            size = int(shape[axis])
            start, end, step = part.indices(size)
            if (start, end, step) != (0, size, 1):
                shape[axis] = max(0, -(-(end - start) // step))
                # An end that was left out stays at the end, so that the axis may be the batch.
                x = _sliced(trace, x, shape, axis, start, _END if part.stop is None else end, step)
            axis += 1
        elif isinstance(part, int) and not isinstance(part, bool):
            del shape[axis]
            x = _picked(trace, x, shape, axis, part)
        elif isinstance(part, Tensor) and part.dtype in (torch.int64, torch.int32) and not tensors:
            tensors += 1
            shape[axis : axis + 1] = trace.size(part)
            x = trace.emit("Gather", [x, trace.name(part)], shape, axis=axis)
            axis += part.ndim
        else:
            raise refuse(f"the index {index}")
    return x


@rule(*called("index_select"))
def _index_select(trace: Trace, output: Tensor, input: Tensor, dim: int, index: Tensor) -> str:
    return trace.of("Gather", [input, index], output, axis=dim % input.ndim)


@rule(*called("gather"))
def _gather(trace: Trace, output: Tensor, input: Tensor, dim: int, index: Tensor, **settings: Any) -> str:
    axis, x = dim % input.ndim, trace.name(input)
    if any(size != of for place, (size, of) in enumerate(zip(index.shape, input.shape, strict=True)) if place != axis):
        raise refuse("a gather of fewer rows than there are")
    return trace.emit("GatherElements", [x, trace.name(index)], trace.size(output), axis=axis)


@rule(*called("roll"))
def _roll(trace: Trace, output: Tensor, input: Tensor, shifts: Any, dims: Any = None) -> str:
    if dims is None or dims == () or dims == []:
        raise refuse("a roll over all axes at once")
    x, shape = trace.name(input), trace.size(output)
    steps = [shifts] if isinstance(shifts, int) else list(shifts)
    axes = [dims] if isinstance(dims, int) else list(dims)
    for shift, dim in zip(steps, axes, strict=True):
        axis = dim % input.ndim
        cut = -shift % input.shape[axis]
        if cut:
            rest = [input.shape[axis] - cut if place == axis else size for place, size in enumerate(shape)]
            first = [cut if place == axis else size for place, size in enumerate(shape)]
            parts = [_sliced(trace, x, rest, axis, cut, _END), _sliced(trace, x, first, axis, 0, cut)]
            x = trace.emit("Concat", parts, shape, axis=axis)
    return x


@rule(*called("flip"))
def _flip(trace: Trace, output: Tensor, input: Tensor, *dims: Any) -> str:
    x = trace.name(input)
    for dim in [axis for each in dims for axis in ([each] if isinstance(each, int) else each)]:
        x = _sliced(trace, x, trace.size(output), dim % input.ndim, -1, -_END, -1)
    return x


_PADS = {"constant": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


@rule(F.pad)
def _pad(
    trace: Trace, output: Tensor, input: Tensor, pad: Sequence[int], mode: str = "constant", value: float | None = None
) -> str:
    axes = len(pad) // 2
    first, last = [0] * input.ndim, [0] * input.ndim
    for place in range(axes):
        first[input.ndim - 1 - place], last[input.ndim - 1 - place] = pad[2 * place], pad[2 * place + 1]
    given = [trace.name(input), trace.ints(*first, *last)]
    if mode == "constant":
        given.append(trace.operand(value or 0, input.dtype))
    return trace.emit("Pad", given, trace.size(output), mode=_PADS[mode])


@rule(*called("tril"))
def _tril(trace: Trace, output: Tensor, input: Tensor, diagonal: int = 0) -> str:
    return trace.emit("Trilu", [trace.name(input), trace.constant(diagonal, np.int64)], trace.size(output), upper=0)


@rule(*called("triu"))
def _triu(trace: Trace, output: Tensor, input: Tensor, diagonal: int = 0) -> str:
    return trace.emit("Trilu", [trace.name(input), trace.constant(diagonal, np.int64)], trace.size(output), upper=1)


@rule(*called("pixel_shuffle"))
def _pixel_shuffle(trace: Trace, output: Tensor, input: Tensor, upscale_factor: int) -> str:
    if input.ndim != 4:
        raise refuse("pixel_shuffle of anything but maps (n, C, H, W)")
    return trace.of("DepthToSpace", [input], output, blocksize=upscale_factor, mode="CRD")


@rule(*called("pixel_unshuffle"))
def _pixel_unshuffle(trace: Trace, output: Tensor, input: Tensor, downscale_factor: int) -> str:
    n, channels, height, width = trace.size(input)
    r = downscale_factor
    x = trace.reshape(trace.name(input), (n, channels, height // r, r, width // r, r))
    return trace.reshape(trace.transpose(x, (0, 1, 3, 5, 2, 4)), trace.size(output))


@rule(*called("channel_shuffle"))
def _channel_shuffle(trace: Trace, output: Tensor, input: Tensor, groups: int) -> str:
    n, channels, *rest = trace.size(input)
    x = trace.reshape(trace.name(input), (n, groups, channels // groups, *rest))
    return trace.reshape(trace.transpose(x, (0, 2, 1, *range(3, 3 + len(rest)))), trace.size(output))


@rule(F.interpolate)
def _interpolate(
    trace: Trace,
    output: Tensor,
    input: Tensor,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> str:
    kinds = {"nearest": "nearest", "linear": "linear", "bilinear": "linear", "trilinear": "linear", "bicubic": "cubic"}
    if mode not in kinds or antialias:
        raise refuse(f"an interpolation of mode {mode}, antialias={antialias}")
    attributes: dict[str, Any] = {"mode": kinds[mode], "coordinate_transformation_mode": "half_pixel"}
    if mode == "nearest":
        attributes |= {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    elif align_corners:
        attributes["coordinate_transformation_mode"] = "align_corners"
    if mode == "bicubic":
        attributes["cubic_coeff_a"] = -0.75
    x = trace.name(input)
    if scale_factor is None or recompute_scale_factor:
        return trace.emit("Resize", [x, "", "", trace.sizes(trace.size(output))], trace.size(output), **attributes)
    factors = [scale_factor] * (input.ndim - 2) if isinstance(scale_factor, (int, float)) else list(scale_factor)
    return trace.emit("Resize", [x, "", trace.constant([1, 1, *factors])], trace.size(output), **attributes)


# What leaves values as they are, but for their type.


@rule(
    *called("clone", "contiguous", "detach", "alias", "positive"),
)
def _unchanged(trace: Trace, output: Tensor, input: Tensor, *args: Any, **settings: Any) -> str:
    return trace.name(input)


@rule(Tensor.to, *called("float", "double", "half", "long", "int", "bool", "type_as", "cpu", "type"))
def _to(trace: Trace, output: Tensor, input: Tensor, *args: Any, **settings: Any) -> str:
    return trace.operand(input, output.dtype)


# What takes shapes and types alone: constants.


@rule(
    *called("zeros_like", "ones_like", "full_like", "empty_like", "new_zeros", "new_ones", "new_full", "new_empty"),
    *called("new_tensor"),
)
def _new(trace: Trace, output: Tensor, *args: Any, **settings: Any) -> str:
    return trace.fresh(output)
