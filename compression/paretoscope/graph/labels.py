"""Labels of the elements of values, in arrays, and which of them go together.

Arrays of labels have the value's number of axes, of length 1 along axes that they do not depend on.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from paretoscope.graph.shapes import Shape

Labels = np.ndarray
# The label of what never goes.
FROZEN = 0


@dataclass
class Unions:
    """Labels, and which go together. roots: of each label, once `settle` has run; equal where they go together."""

    roots: np.ndarray = field(init=False, default_factory=lambda: np.zeros(1, np.int64))
    _count: int = field(init=False, default=1)
    _edges: list[np.ndarray] = field(init=False, default_factory=list)

    def fresh(self, count: int) -> Labels:
        """New labels."""
        self._count += count
        return np.arange(self._count - count, self._count)

    def unite(self, one: Labels, other: Labels) -> None:
        """Let labels go together, element by element."""
        one, other = np.broadcast_arrays(one, other)
        differs = one != other
        if differs.any():
            # Many elements repeat a pair; one number a pair is sorted many times faster than two.
            pairs = np.unique(one[differs] * self._count + other[differs])
            self._edges.append(np.stack(np.divmod(pairs, self._count)))

    def freeze(self, labels: Any) -> None:
        """Let these labels, an array or a list of arrays, never go."""
        for each in labels if isinstance(labels, list) else [labels]:
            if isinstance(each, np.ndarray) and each.any():
                self.unite(each, np.zeros((), np.int64))

    def tie(self, labels: Labels, axis: int) -> Labels:
        """Let all along an axis go together; returns the labels without that axis's choice."""
        first = labels.take([0], axis=axis)
        self.unite(labels, first)
        return first

    def settle(self, arrays: list[Labels]) -> None:
        """Find what goes together, so that whatever goes leaves each of these arrays a block."""
        self._components()
        while True:
            before = len(self._edges)
            for labels in arrays:
                roots = self.roots[labels]
                tracked = [a for a in range(roots.ndim) if (roots != roots.take([0], axis=a)).any()]
                if len(tracked) > 1:
                    axis = min(tracked, key=lambda a: roots.shape[a])
                    self.unite(labels, labels.take([0], axis=axis))
            if len(self._edges) == before:
                return
            self._components()

    def _components(self) -> None:
        edges = np.concatenate([np.zeros((2, 0), np.int64), *self._edges], axis=1)
        links = coo_array((np.ones(edges.shape[1], np.int8), (edges[0], edges[1])), (self._count, self._count))
        self.roots = connected_components(links, directed=False)[1]

    @property
    def frozen(self) -> int:
        """The root of what never goes."""
        return int(self.roots[FROZEN])


def bounds(args: tuple[Any, ...], size: int) -> tuple[int, int, int]:
    """Start, end and step of a call of slice, along an axis of that size."""
    start, end, step = (*args[2:], *(None,) * 3)[:3]
    return (*slice(start, end).indices(size)[:2], 1 if step is None else step)


def along(labels: Labels, axis: int, axes: int) -> Labels:
    """Labels along one of so many axes."""
    return labels.reshape([-1 if a == axis % axes else 1 for a in range(axes)])


def untracked(shape: Shape) -> Any:
    """Labels of a value of that shape, or of several, of which nothing goes."""
    if isinstance(shape, list):
        return [untracked(each) for each in shape]
    return np.zeros((1,) * len(shape) if isinstance(shape, tuple) else (), np.int64)


def reshaped(labels: Labels, before: tuple[int, ...], after: tuple[int, ...]) -> Labels:
    """Labels of a value that was reshaped: axes are taken together and apart where their products are equal."""
    if labels.size == 1:
        return labels.reshape((1,) * len(after))
    i = j = 0
    inner: list[int] = []
    outer: list[int] = []
    while i < len(before) or j < len(after):
        a, b = i, j
        one = before[i] if i < len(before) else 1
        other = after[j] if j < len(after) else 1
        i, j = min(i + 1, len(before)), min(j + 1, len(after))
        while one != other:
            if one < other:
                one *= before[i]
                i += 1
            else:
                other *= after[j]
                j += 1
        tracked = any(n > 1 for n in labels.shape[a:i])
        inner += before[a:i] if tracked else (1,) * (i - a)
        outer += after[b:j] if tracked else (1,) * (j - b)
    moved = np.broadcast_to(labels, inner).reshape(outer)
    for axis in range(moved.ndim):
        if (moved == moved.take([0], axis=axis)).all():
            moved = moved.take([0], axis=axis)
    return moved
