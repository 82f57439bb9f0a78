"""Operands of a product that are views of a weight: which of its rows they are, and what the rows are multiplied with.

`x @ w`, `einsum` and a projection that takes a third of a stacked weight read a weight by other axes than those it is
stored with. The strides of a view tell which numbers of the weight it shows.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor


class Rows(NamedTuple):
    """The rows first..stop - 1 of a weight, turned so that rows are outputs."""

    first: int
    stop: int


@dataclass(frozen=True, eq=False, slots=True)
class Operand:
    """A product of inputs with a weight. weight: as it is stored. inputs: float (..., columns) of the rows' inputs."""

    weight: Tensor
    rows: Rows
    inputs: Tensor


def stored(view: Tensor) -> Tensor:
    """The tensor that a view shows, or itself."""
    return view if view._base is None else view._base


def rows_of(view: Tensor, outputs: list[int], inputs: list[int], turned: bool) -> Rows | None:
    """The rows that a view of a weight shows, where it shows each of them whole and in order; else None.

    outputs, inputs: the view's axes of either; together all its axes. turned: whether the weight's outputs lie on its
    second axis, of two.
    """
    weight = stored(view)
    if not weight.is_contiguous() or weight.ndim < 2 or (turned and weight.ndim != 2):
        return None
    columns = weight.shape[0] if turned else weight[0].numel()
    along, across = (_offsets(view, axes) for axes in (outputs, inputs))

    def places(offsets: Tensor) -> tuple[Tensor, Tensor]:
        """Row and column of each place in the storage."""
        width = weight.shape[1] if turned else columns
        major, minor = offsets.div(width, rounding_mode="floor"), offsets % width
        return (minor, major) if turned else (major, minor)

    (rows, fixed_column), (fixed_row, found) = places(along), places(across)
    if fixed_column.unique().numel() != 1 or fixed_row.unique().numel() != 1:
        return None
    whole = torch.equal(found, torch.arange(columns))
    first, stop = int(rows[0]), int(rows[-1]) + 1
    in_order = stop - first == len(rows) and all(b == a + 1 for a, b in pairwise(rows.tolist()))
    return Rows(first, stop) if whole and in_order else None


def _offsets(view: Tensor, axes: list[int]) -> Tensor:
    """Where each entry along these axes lies in the storage of what is viewed; flat, the last axis running fastest."""
    offsets = torch.tensor([int(view.storage_offset()) - int(stored(view).storage_offset())])
    for axis in axes:
        steps = torch.arange(view.shape[axis]) * view.stride(axis)
        offsets = (offsets[:, None] + steps).reshape(-1)
    return offsets


def of_projection(x: Tensor, weight: Tensor, wanted: "Wanted") -> list[Operand]:
    """The part of a weight that a linear map has for its matrix."""
    return _operand(weight, [0], [1], x, wanted) if weight.ndim == 2 else []


def of_product(left: Tensor, right: Tensor, wanted: "Wanted") -> list[Operand]:
    """The weights among the two operands of a matrix product."""
    found = _operand(right, [1], [0], left, wanted) if right.ndim == 2 else []
    return found + (_operand(left, [0], [1], right.mT, wanted) if left.ndim == 2 <= right.ndim else [])


def _operand(view: Tensor, outputs: list[int], inputs: list[int], x: Tensor, wanted: "Wanted") -> list[Operand]:
    turned = wanted.get(id(stored(view)))
    rows = None if turned is None else rows_of(view, outputs, inputs, turned)
    return [] if rows is None else [Operand(stored(view), rows, x)]


def of_einsum(equation: str, tensors: list[Tensor], wanted: "Wanted") -> list[Operand]:
    """The weights among two operands that are contracted, where neither has an axis that both keep."""
    terms, _, result = equation.replace(" ", "").partition("->")
    labels = terms.split(",")
    found: list[Operand] = []
    if len(labels) != 2 or len(tensors) != 2 or "." in equation or any(len(set(each)) < len(each) for each in labels):
        return found
    for own, other, weight, x in zip(labels, labels[::-1], tensors, tensors[::-1], strict=True):
        shared = [each for each in own if each in other]
        if id(stored(weight)) in wanted and shared and not any(each in result for each in shared):
            outputs = [axis for axis, each in enumerate(own) if each not in other]
            free = [axis for axis, each in enumerate(other) if each not in shared]
            inputs = x.permute(*free, *(other.index(each) for each in shared)).flatten(len(free))
            found += _operand(weight, outputs, [own.index(each) for each in shared], inputs, wanted)
    return found


# Whether each weight's outputs lie on its second axis, by the identity of the tensor.
Wanted = dict[int, bool]
