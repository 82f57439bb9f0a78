"""The front: the records that no other record beats."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from paretoscope.measure.record import Record


def size_bytes(record: Record) -> float:
    """Bytes of the artefact."""
    return record.size.artefact


def slowness(record: Record) -> float | None:
    """The time as a share of the baseline's beside it, 1 / speed-up; None until that is known.

    Milliseconds of timings that were taken at different moments cannot be compared.
    """
    timing = record.latency
    return 1 / timing.speedup if timing is not None and timing.decided else None


def figure(record: Record) -> float:
    """The task's headline figure."""
    return record.figures.value


def front(
    records: Sequence[Record],
    *,
    x: Callable[[Record], float | None] = size_bytes,
    y: Callable[[Record], float] = figure,
) -> list[Record]:
    """The Pareto-optimal records, by x ascending: none of the others is as small in x and as large in y, and
    better in one of them. Where several records share one optimal (x, y), the one of the lowest recipe digest
    stands for all, so that the front does not depend on the order of `records`. A record whose x is None stays out.
    """
    candidates = [
        (cost, -y(record), record.digests.recipe, record) for record in records if (cost := x(record)) is not None
    ]
    candidates.sort(key=lambda candidate: candidate[:3])
    optimal: list[Record] = []
    best = float("inf")
    for _, loss, _, record in candidates:
        if loss < best:
            best = loss
            optimal.append(record)
    return optimal


def front_places(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.intp]:
    """`front` over columns: the places of the optimal ones, by x ascending; NaN stays out, the earlier of equals in."""
    known = np.flatnonzero(~(np.isnan(x) | np.isnan(y)))
    order = known[np.lexsort((known, -y[known], x[known]))]
    if not len(order):
        return order
    best = np.maximum.accumulate(y[order])
    optimal = np.concatenate([[True], y[order][1:] > best[:-1]])
    places: NDArray[np.intp] = order[optimal]
    return places
