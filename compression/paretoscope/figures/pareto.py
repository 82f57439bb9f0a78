"""The front: the records that no other record beats."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray


def front(x: NDArray[np.float64], y: NDArray[np.float64], name: Callable[[int], str]) -> NDArray[np.intp]:
    """The places of the Pareto-optimal of n records, by x ascending: none of the others is as small in x and as large
    in y, and better in one of them.

    x, y: (n,), a cost and a figure; a record of which either is NaN stays out. name: tells apart those that share one
    optimal (x, y): the lowest stands for all, so that the front does not depend on the order of the records.
    """
    known = np.flatnonzero(~(np.isnan(x) | np.isnan(y)))
    order = known[np.lexsort((-y[known], x[known]))]
    best, places = -np.inf, []
    for start in np.flatnonzero(np.diff(np.maximum.accumulate(y[order]), prepend=best) > 0):
        alike = order[(x[order] == x[order[start]]) & (y[order] == y[order[start]])]
        places.append(min(map(int, alike), key=name))
    return np.array(places, np.intp)
