"""What moves values in ONNX files, without computing: as calls of PyTorch."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from paretoscope.graph.onnx_calls import Call, numbers, rule


@rule("Reshape")
def _reshape(call: Call, x: Tensor, shape: Any) -> Tensor:
    sizes = list(shape) if not isinstance(shape, Tensor) else shape.tolist()
    if not call.get("allowzero", 0):
        sizes = [x.shape[axis] if type(size) is int and size == 0 else size for axis, size in enumerate(sizes)]
    return x.reshape(sizes)


@rule("Flatten")
def _flatten(call: Call, x: Tensor) -> Tensor:
    axis = call.get("axis", 1)
    axis = axis + x.ndim if axis < 0 else axis
    if axis == 1:
        return x.flatten(1)
    if axis == 0:
        return x.reshape(1, -1)
    return x.flatten(0, axis - 1).flatten(1)


@rule("Transpose")
def _transpose(call: Call, x: Tensor) -> Tensor:
    return x.permute(call.get("perm") or list(reversed(range(x.ndim))))


@rule("Unsqueeze")
def _unsqueeze(call: Call, x: Tensor, axes: Tensor | None = None) -> Tensor:
    chosen = numbers(axes) or call.get("axes")
    rank = x.ndim + len(chosen)
    for axis in sorted(axis % rank for axis in chosen):
        x = x.unsqueeze(axis)
    return x


@rule("Squeeze")
def _squeeze(call: Call, x: Tensor, axes: Tensor | None = None) -> Tensor:
    chosen = numbers(axes) or call.get("axes")
    if not chosen:
        chosen = [axis for axis, size in enumerate(x.shape) if type(size) is int and size == 1]
    for axis in sorted((axis % x.ndim for axis in chosen), reverse=True):
        x = x.squeeze(axis)
    return x


@rule("Concat")
def _concat(call: Call, *parts: Tensor) -> Tensor:
    return torch.cat(parts, call.get("axis"))


@rule("Split")
def _split(call: Call, x: Tensor, sizes: Tensor | None = None) -> Any:
    chosen, axis = numbers(sizes) or call.get("split"), call.get("axis", 0)
    if chosen is None:
        return tuple(torch.chunk(x, call.outputs, axis))
    return tuple(torch.split(x, list(chosen), axis))


@rule("Slice")
def _slice(call: Call, x: Tensor, *given: Tensor | None) -> Tensor:
    starts, ends, axes, steps = (*(numbers(each) for each in given), None, None, None, None)[:4]
    starts, ends = starts or call.get("starts"), ends if ends is not None else call.get("ends")
    axes = axes if axes is not None else call.get("axes")
    axes = list(range(len(starts))) if axes is None else axes
    steps = steps if steps is not None else [1] * len(starts)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if step <= 0:
            if step == -1 and start in (-1, 2**31 - 1, 2**63 - 1) and end < -(2**30):
                x = x.flip(axis)
                continue
            raise call.refuse(f"a slice with the step {step}")
        index: list[Any] = [slice(None)] * x.ndim
        index[axis] = slice(start, None if end >= 2**31 - 1 else end, step)
        x = x[tuple(index)]
    return x


@rule("Gather")
def _gather(call: Call, x: Tensor, indices: Any) -> Tensor:
    axis = call.get("axis", 0) % x.ndim
    if isinstance(indices, int):
        return x.select(axis, indices)
    if axis == 0 and x.is_floating_point() and x.ndim == 2 and indices.ndim:
        return F.embedding(indices, x)
    if not indices.ndim:
        return x.index_select(axis, indices.reshape(1)).squeeze(axis)
    before: list[Any] = [slice(None)] * axis
    return x[(*before, indices)]


@rule("GatherElements")
def _gather_elements(call: Call, x: Tensor, indices: Tensor) -> Tensor:
    return torch.gather(x, call.get("axis", 0), indices)


@rule("Expand")
def _expand(call: Call, x: Tensor, shape: Any) -> Tensor:
    sizes = list(shape) if not isinstance(shape, Tensor) else shape.tolist()
    own = [1] * (len(sizes) - x.ndim) + list(x.shape)
    return x.expand([mine if type(size) is int and size == 1 else size for size, mine in zip(sizes, own, strict=True)])


@rule("Tile")
def _tile(call: Call, x: Tensor, times: Tensor) -> Tensor:
    return x.repeat(numbers(times) or [])


@rule("Pad")
def _pad(call: Call, x: Tensor, pads: Tensor | None = None, value: Tensor | None = None, *axes: Tensor) -> Tensor:
    sizes = numbers(pads) or call.get("pads")
    if axes and axes[0] is not None:
        raise call.refuse("padding of chosen axes")
    half = len(sizes) // 2
    flat = [each for axis in reversed(range(half)) for each in (sizes[axis], sizes[half + axis])]
    while len(flat) > 2 and flat[-2:] == [0, 0]:
        flat = flat[:-2]
    mode = {"constant": "constant", "reflect": "reflect", "edge": "replicate"}.get(call.get("mode", "constant"))
    if mode is None:
        raise call.refuse(f"padding of the mode {call.get('mode')}")
    if mode == "constant":
        return F.pad(x, flat, value=float(value) if value is not None else call.get("value", 0.0))
    return F.pad(x, flat, mode=mode)


@rule("DepthToSpace")
def _depth_to_space(call: Call, x: Tensor) -> Tensor:
    if call.get("mode", "DCR") != "CRD":
        raise call.refuse("DepthToSpace of the mode DCR")
    return F.pixel_shuffle(x, call.get("blocksize"))


@rule("Resize", "Upsample")
def _resize(call: Call, x: Tensor, *given: Tensor | None) -> Tensor:
    mode = {"nearest": "nearest", "linear": "bilinear"}.get(call.get("mode", "nearest"))
    if mode is None or x.ndim != 4:
        raise call.refuse(f"a resize of the mode {call.get('mode')} of {x.ndim} axes")
    inputs = [*given, None, None, None]
    if call.where.startswith("Upsample"):
        scales, sizes = inputs[0], None
    else:
        scales, sizes = inputs[1] if call.opset >= 11 else inputs[0], inputs[2]
    older = call.where.startswith("Upsample")
    transform = call.get("coordinate_transformation_mode", "half_pixel" if call.opset >= 11 else "asymmetric")
    rounding = "floor" if call.opset < 11 or older else call.get("nearest_mode", "round_prefer_floor")
    factors = None if scales is None or not scales.numel() else [float(each) for each in scales.tolist()]
    whole = factors is not None and all(factor == int(factor) for factor in factors)
    # PyTorch takes the neighbour floor(i / factor); others are the same where the factor is a whole number.
    alike = (transform == "asymmetric" and rounding == "floor") or (
        whole and transform in ("half_pixel", "pytorch_half_pixel") and rounding.startswith("round")
    )
    if mode == "nearest" and not alike:
        raise call.refuse(f"nearest neighbours with {transform}, {rounding}")
    if mode == "bilinear" and transform not in ("half_pixel", "pytorch_half_pixel", "align_corners"):
        raise call.refuse(f"interpolation with {transform}")
    corners = (transform == "align_corners") if mode == "bilinear" else None
    wanted = numbers(sizes) if sizes is not None and sizes.numel() else None
    if wanted is None and factors is None:
        raise call.refuse("neither sizes nor scales")
    resized: Tensor = F.interpolate(
        x, None if wanted is None else wanted[2:], None if factors is None else factors[2:], mode, corners
    )
    return resized
