"""GatherND and ScatterND of ONNX files: tuples of indices, as rows of what the indexed axes make when they are one."""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from paretoscope.graph.onnx_calls import Call, rule

# Above this a scatter is refused: it is written with a table of where each row comes from. Chosen by hand.
MOST_ROWS = 1 << 24


@rule("GatherND")
def _gather_nd(call: Call, x: Tensor, indices: Any) -> Tensor:
    """x (batch..., sizes..., rest...), indices (batch..., picks..., axes) -> (batch..., picks..., rest...)."""
    batch = call.get("batch_dims", 0)
    axes = _axes(call, indices, x.ndim - batch)
    picks, rest = list(indices.shape[batch:-1]), list(x.shape[batch + axes :])
    rows = _rows(call, indices, x.shape[batch : batch + axes])
    if not batch:
        return x.flatten(0, axes - 1)[rows]
    if type(batch) is not int or not 0 < batch < min(x.ndim, indices.ndim):
        raise call.refuse(f"batch_dims={batch}, with inputs of {x.ndim} and {indices.ndim} axes")
    outer = list(x.shape[:batch])
    flat = x.reshape([*outer, math.prod(x.shape[batch : batch + axes]), math.prod(rest)])
    chosen = rows.reshape([*outer, math.prod(picks), 1])
    # What is equal for all of a batch has one there.
    chosen = chosen.expand([*outer, math.prod(picks), math.prod(rest)])
    return torch.gather(flat, batch, chosen).reshape([*outer, *picks, *rest])


@rule("ScatterND")
def _scatter_nd(call: Call, x: Tensor, indices: Any, updates: Tensor) -> Tensor:
    """x with the rows that indices name replaced by those of updates; where a row is named twice, by the last.

    The rows of both, one below the other, are picked in the order of the result: so no operator is needed that writes.
    """
    if call.get("reduction", "none") != "none":
        raise call.refuse(f"the reduction {call.get('reduction')}; rows can be replaced only")
    where = call.indices
    if where is None:
        raise call.refuse("indices that are computed; they must be constants of the file")
    axes = _axes(call, where, x.ndim)
    sizes = [*x.shape[:axes]]
    if not all(type(size) is int for size in sizes):
        raise call.refuse("indices along the batch; rows of one sample can be replaced only")
    if math.prod(sizes) > MOST_ROWS:
        raise call.refuse(f"{math.prod(sizes):,} rows; at most {MOST_ROWS:,} can be replaced")
    expected = [*where.shape[:-1], *x.shape[axes:]]
    if [*updates.shape] != expected:
        raise call.refuse(f"updates of the shape {[*updates.shape]}; they must have {expected}")
    rows = _flat(call, where, sizes)
    table = np.arange(math.prod(sizes))
    for place, row in enumerate(rows.reshape(-1)):
        table[row] = len(table) + place
    both = torch.cat([x.flatten(0, axes - 1), updates.to(x.dtype).reshape([rows.size, *x.shape[axes:]])])
    return both[torch.from_numpy(table)].reshape([*x.shape])


def _axes(call: Call, indices: Any, rank: int) -> int:
    """How many axes a tuple of indices names."""
    axes = indices.shape[-1] if indices.ndim else 0
    if type(axes) is not int or not 0 < axes <= rank:
        raise call.refuse(f"indices of the shape {[*indices.shape]} for {rank} axes")
    return axes


def _rows(call: Call, indices: Tensor, sizes: Any) -> Tensor:
    """The tuples as rows of the axes that they name."""
    if call.indices is not None:
        if not all(type(size) is int for size in sizes):
            raise call.refuse("constant indices along the batch")
        return torch.from_numpy(_flat(call, call.indices, sizes))
    rows = None
    for axis, size in enumerate(sizes):
        one = indices.select(indices.ndim - 1, axis)
        one = torch.where(one < 0, one + size, one)
        rows = one if rows is None else rows * size + one
    assert rows is not None
    return rows


def _flat(call: Call, indices: np.ndarray, sizes: Any) -> np.ndarray:
    """As `_rows`, of constants, which are looked at."""
    wrapped = np.where(indices < 0, indices + np.array(sizes), indices)
    if not ((wrapped >= 0) & (wrapped < np.array(sizes))).all():
        raise call.refuse(f"indices out of the range of the sizes {[*sizes]}")
    rows: np.ndarray = np.zeros(indices.shape[:-1], np.int64)
    for axis, size in enumerate(sizes):
        rows = rows * size + wrapped[..., axis]
    return rows
