"""Sizes that an ONNX graph computes with: numbers, some of them of any batch, and never tensors.

Shape gives such an array; Gather, Concat, arithmetic and so on take and give them; Reshape and others are told them.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from paretoscope.graph import onnx_strided
from paretoscope.graph.onnx_calls import Call
from paretoscope.graph.onnx_strided import Strided

# An array of integers and of sizes that are not known yet (torch.SymInt).
Sizes = np.ndarray

_TOLD = ("Reshape", "Expand", "Tile", "Slice", "Pad", "Resize", "Upsample", "Split", "Unsqueeze", "Squeeze", "Clip")
_PAIRS: dict[str, Callable[[Any, Any], Any]] = {
    "Add": lambda a, b: a + b, "Sub": lambda a, b: a - b, "Mul": lambda a, b: a * b,
    "Equal": lambda a, b: a == b, "Less": lambda a, b: a < b, "Greater": lambda a, b: a > b,
    "Max": max, "Min": min, "Mod": lambda a, b: a % b, "Pow": lambda a, b: a**b,
}  # fmt: skip
_SINGLE: dict[str, Callable[[Any], Any]] = {
    "Sqrt": math.sqrt, "Ceil": math.ceil, "Floor": math.floor, "Neg": lambda a: -a, "Reciprocal": lambda a: 1 / a,
    "Abs": abs,
}  # fmt: skip


class Numbers(list[Any]):
    """A list of numbers where rules expect a tensor of them."""

    def reshape(self, *shape: int) -> "Numbers":
        return self

    def tolist(self) -> list[Any]:
        return list(self)

    def numel(self) -> int:
        return len(self)

    def __float__(self) -> float:
        (number,) = self
        return float(number)


def array_of(values: Any) -> Sizes:
    """The numbers as an array of objects, of the same shape."""
    return np.array(values, dtype=object)


def with_sizes(kind: str, call: Call, function: Callable[..., Any], given: Sequence[Any]) -> Any:
    """What a node gives that has sizes among its inputs: sizes, or a tensor that is shaped by them.

    given: tensors, sizes, None; constants of the file as sizes. Raises ModelError for what is neither.
    """
    if any(isinstance(each, Strided) for each in given):
        found = onnx_strided.followed(kind, call, [*given])
        if found is not None:
            return found
        given = [each.tensor if isinstance(each, Strided) else each for each in given]
    if isinstance(given[0], Tensor) and kind in _TOLD:
        return function(call, given[0], *(Numbers(e.reshape(-1)) if isinstance(e, Sizes) else e for e in given[1:]))
    if any(isinstance(each, Tensor) for each in given):
        return function(call, *(_tensor_or_number(each, call) if isinstance(each, Sizes) else each for each in given))
    arrays = [each for each in given if each is not None]
    if kind in _PAIRS and len(arrays) == 2:
        return _pairs(_PAIRS[kind], *arrays)
    if kind in _SINGLE:
        return _each(_SINGLE[kind], arrays[0])
    first = arrays[0]
    match kind:
        case "Gather":
            return np.asarray(np.take(first, arrays[1].astype(np.int64), call.get("axis", 0)), dtype=object)
        case "Concat":
            return np.concatenate([np.atleast_1d(each) for each in arrays], call.get("axis", 0))
        case "Unsqueeze":
            return np.asarray(np.expand_dims(first, tuple(_axes(arrays, call) or ())), dtype=object)
        case "Squeeze":
            chosen = _axes(arrays, call)
            return np.asarray(np.squeeze(first, tuple(chosen) if chosen else None), dtype=object)
        case "Cast" | "Identity":
            return first
        case "Div":
            whole = all(not isinstance(each, float) for array in arrays for each in array.reshape(-1))
            return _pairs((lambda a, b: a // b) if whole else (lambda a, b: a / b), *arrays)
        case "Where":
            return np.asarray(np.where(first.astype(bool), arrays[1], arrays[2]), dtype=object)
        case "Slice":
            return _sliced(first, arrays[1:], call)
        case "ConstantOfShape":
            return function(call, list(first.reshape(-1)))
        case "Range":
            bounds = [each.item() for each in arrays]
            return onnx_strided.counted(*bounds) or function(call, *bounds)
        case "Reshape":
            return first.reshape([int(each) for each in arrays[1].reshape(-1)])
        case "ReduceProd":
            return array_of(math.prod(first.reshape(-1)))
        case "Shape":
            return array_of(first.shape)
        case "Size":
            return array_of(first.size)
    raise call.refuse("sizes among its inputs")


def _axes(arrays: Sequence[Sizes], call: Call) -> list[int] | None:
    """Those of a node, which are its second input since opset 13."""
    return [int(each) for each in arrays[1].reshape(-1)] if len(arrays) > 1 else call.get("axes")


def _sliced(first: Sizes, rest: Sequence[Sizes], call: Call) -> Sizes:
    if not rest:
        starts, ends, step = call.get("starts"), call.get("ends"), 1
    else:
        starts, ends = (list(each.reshape(-1)) for each in rest[:2])
        step = int(rest[3].reshape(-1)[0]) if len(rest) > 3 else 1
    if len(starts) != 1 or first.ndim != 1 or not step:
        raise call.refuse("a slice of sizes over several axes")
    return first[int(starts[0]) : min(int(ends[0]), 2**31) : step]


def _pairs(function: Callable[[Any, Any], Any], a: Sizes, b: Sizes) -> Sizes:
    one, other = np.broadcast_arrays(a, b)
    return array_of([function(x, y) for x, y in zip(one.reshape(-1), other.reshape(-1), strict=True)]).reshape(
        one.shape
    )


def _each(function: Callable[[Any], Any], a: Sizes) -> Sizes:
    return array_of([function(x) for x in a.reshape(-1)]).reshape(a.shape)


def _tensor_or_number(sizes: Sizes, call: Call) -> Any:
    """Sizes beside tensors: one is a number, several of fixed ones are a constant."""
    if sizes.size == 1 and not sizes.ndim:
        return sizes.item()
    if all(isinstance(each, (int, float)) for each in sizes.reshape(-1)):
        return torch.tensor(sizes.tolist())
    raise call.refuse("sizes that depend on the batch beside a tensor")
