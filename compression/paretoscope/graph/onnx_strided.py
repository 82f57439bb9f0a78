"""Indices that an ONNX file counts with the batch: what as_strided of PyTorch becomes in files of its exporter.

Range over the batch, times a step, plus places within a step: what is picked so are the samples of a value, and what
they are made of. As a view of it, the batch stays one, and a tracer needs no table of indices.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from paretoscope.graph.onnx_calls import Call


@dataclass(frozen=True, eq=False, slots=True)
class Strided:
    """Indices step * sample + places, for each of count samples; places: integers (1, ...), equal for all samples."""

    count: Any
    step: int
    places: np.ndarray

    @property
    def tensor(self) -> Tensor:
        first = (torch.arange(self.count) * self.step).reshape([-1, *[1] * (self.places.ndim - 1)])
        return first + torch.from_numpy(self.places)


def counted(start: Any, limit: Any, step: Any) -> Strided | None:
    """What Range gives where it counts the batch, which is no fixed number."""
    plain = all(type(each) is int for each in (start, step))
    return Strided(limit, 1, np.zeros(1, np.int64)) if plain and (start, step) == (0, 1) else None


def followed(kind: str, call: Call, given: list[Any]) -> Strided | Tensor | None:
    """What a node makes of such indices, where that are indices of the kind, or the view that they pick; else None."""
    if kind in ("Add", "Mul") and len(given) == 2:
        one, other = given if isinstance(given[0], Strided) else given[::-1]
        return None if not _plain(other) else _calculated(kind, one, np.asarray(other, np.int64))
    first, rest = given[0], given[1:]
    if kind == "Unsqueeze" and isinstance(first, Strided):
        axes = [int(each) for each in rest[0].reshape(-1)] if rest else call.get("axes")
        rank = first.places.ndim + len(axes)
        if 0 in [axis % rank for axis in axes]:
            return None
        return replace(first, places=np.expand_dims(first.places, tuple(axes)))
    if kind in ("Cast", "Identity") and isinstance(first, Strided) and call.get("to", 7) in (6, 7):
        return first
    if kind == "Gather" and isinstance(first, Tensor) and isinstance(rest[0], Strided):
        return _view(call, first, rest[0])
    return None


def _plain(given: Any) -> bool:
    return isinstance(given, np.ndarray) and all(type(each) is int for each in given.reshape(-1))


def _calculated(kind: str, one: Strided, other: np.ndarray) -> Strided | None:
    if kind == "Mul":
        if other.size != 1 or other.ndim > one.places.ndim:
            return None
        return replace(one, step=one.step * int(other.reshape(())), places=one.places * other)
    if other.ndim > one.places.ndim or (other.ndim == one.places.ndim and other.shape[0] != 1):
        return None
    return replace(one, places=one.places + other)


def _view(call: Call, x: Tensor, picked: Strided) -> Tensor | None:
    step, places = picked.step, picked.places
    within = step > 0 and places.size and places.min() >= 0 and places.max() < step
    if x.ndim != 1 or call.get("axis", 0) % x.ndim or not within or x.shape[0] != picked.count * step:
        return None
    shape, flat = places.shape[1:], places.reshape(-1)
    if np.array_equal(flat, np.arange(step)):
        return x.reshape([-1, *shape])
    return x.reshape([-1, step])[:, torch.from_numpy(flat)].reshape([-1, *shape])
