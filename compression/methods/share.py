"""Weight sharing: the non-zero weights of a layer take few values, those of a k-means codebook (Han et al. 2015,
Deep Compression, section 3).

In one dimension clusters are intervals of the sorted values, and sums over any interval are differences of prefix
sums, so no pass over the weights is needed to find them:

1. The sorted values are split into a few cells per cluster, always the cell of largest squared error at its mean,
   until all cells hold about the same error. This covers heavy tails, where equal-width, quantile and density starts
   leave errors many times the optimum.
2. Dynamic programming over the cells finds their optimal grouping (Wang & Song 2011, Ckmeans.1d.dp; divide and
   conquer over the monotone split positions).
3. Lloyd's iterations move the boundaries from cell edges to single weights.

Zero is its own symbol: pruned weights stay zero and are not clustered.
"""

import numba
import numpy as np

from compression.statistics import BLOCK, LayerStatistics

# Measured: 6 cells a cluster stay within 0.5 % of the optimum.
CELLS_PER_CLUSTER = 6
# Up to this many cells all groupings are tried; above, those whose edges lie within BAND cells of the last best.
MAX_CELLS_FOR_ALL = 192
BAND = 24
MAX_ROUNDS = 20
LLOYD_ITERATIONS = 30
BLOCK_OF_SEARCHES = 1024


def fit(layer: LayerStatistics, negatives: int, positives: int, clusters: int) -> np.ndarray:
    """Cluster the `negatives` smallest and the `positives` largest values of a layer.

    Those are its surviving weights, none of them zero. Returns the codebook: float32 (k,), ascending and distinct,
    k <= clusters; its squared error is within 1 % of the least that `clusters` values can have.
    """
    if negatives + positives == 0:
        return np.zeros(0, np.float32)
    gap = len(layer.ordered) - negatives - positives
    entries = _fit(layer.ordered, layer.centre, layer.block_sums, negatives, gap, clusters)
    return np.unique(entries.astype(np.float32))


def assign(weight: np.ndarray, entries: np.ndarray) -> np.ndarray:
    """Symbols of the nearest entries: 0 where the weight is zero, else 1 + the entry's position.

    weight: float32 of any shape. entries: float32 (k,), ascending. Returns uint8 of its shape, or uint16 if k > 255.
    """
    if len(entries) == 0:
        return np.zeros(weight.shape, np.uint8)
    middles = (entries[1:].astype(np.float64) + entries[:-1]) / 2
    # The largest float32 not above a middle parts float32 weights just as the middle does.
    rounded = middles.astype(np.float32)
    rounded = np.where(rounded > middles, np.nextafter(rounded, np.float32(-np.inf)), rounded)
    bounds = np.full(1 << len(middles).bit_length(), np.inf, np.float32)
    bounds[: len(middles)] = rounded
    symbols = np.empty(weight.size, np.uint8 if len(entries) <= 255 else np.uint16)
    _assign(weight.reshape(-1), bounds, symbols)
    return symbols.reshape(weight.shape)


@numba.njit(cache=True, nogil=True)
def _assign(weights, bounds, symbols):
    # Block by block: the non-zero weights are packed, then searched for side by side. No branch depends on a weight.
    packed = np.empty(BLOCK_OF_SEARCHES, np.float32)
    places = np.empty(BLOCK_OF_SEARCHES, np.int32)
    positions = np.empty(BLOCK_OF_SEARCHES, np.int32)
    for start in range(0, len(weights), BLOCK_OF_SEARCHES):
        count = 0
        for i in range(start, min(start + BLOCK_OF_SEARCHES, len(weights))):
            symbols[i] = 0
            packed[count], places[count] = weights[i], i - start
            count += weights[i] != 0
        positions[:count] = 0
        step = len(bounds) // 2
        while step > 0:
            for i in range(count):
                positions[i] += step if bounds[positions[i] + step - 1] < packed[i] else 0
            step //= 2
        for i in range(count):
            symbols[start + places[i]] = positions[i] + 1


@numba.njit(cache=True, nogil=True)
def _at(ordered, negatives, gap, position):
    return float(ordered[position] if position < negatives else ordered[position + gap])


@numba.njit(cache=True, nogil=True)
def _prefix(ordered, centre, sums, end):
    """Sum and sum of squares of ordered[:end] - centre."""
    block = end // BLOCK
    total, squares = sums[0, block], sums[1, block]
    for i in range(block * BLOCK, end):
        value = float(ordered[i]) - centre
        total += value
        squares += value * value
    return total, squares


@numba.njit(cache=True, nogil=True)
def _range_sums(ordered, centre, sums, negatives, gap, start, end):
    """Sum and sum of squares of survivors start..end, less the centre; those between the halves are left out."""
    total, squares = 0.0, 0.0
    if start < negatives:
        high = _prefix(ordered, centre, sums, min(end, negatives))
        low = _prefix(ordered, centre, sums, start)
        total += high[0] - low[0]
        squares += high[1] - low[1]
    if end > negatives:
        high = _prefix(ordered, centre, sums, end + gap)
        low = _prefix(ordered, centre, sums, max(start, negatives) + gap)
        total += high[0] - low[0]
        squares += high[1] - low[1]
    return total, squares


@numba.njit(cache=True, nogil=True)
def _first_above(ordered, negatives, gap, start, end, value):
    """First position in start..end whose survivor is greater than `value`."""
    while start < end:
        middle = (start + end) // 2
        if _at(ordered, negatives, gap, middle) > value:
            end = middle
        else:
            start = middle + 1
    return start


@numba.njit(cache=True, nogil=True)
def _error(ordered, centre, sums, negatives, gap, start, end):
    total, squares = _range_sums(ordered, centre, sums, negatives, gap, start, end)
    return max(0.0, squares - total * total / (end - start))


@numba.njit(cache=True, nogil=True)
def _split_cells(ordered, centre, sums, negatives, gap, count, cells):
    """Edges of at most `cells` cells of about equal squared error, each split at its mean, largest error first."""
    starts = np.empty(cells, np.int64)
    ends = np.empty(cells, np.int64)
    errors = np.empty(cells)
    heap = np.empty(cells, np.int64)
    starts[0], ends[0], heap[0] = 0, count, 0
    errors[0] = _error(ordered, centre, sums, negatives, gap, 0, count)
    used = 1
    while used < cells:
        cell = heap[0]
        start, end = starts[cell], ends[cell]
        if errors[cell] < 0:
            break
        first = _at(ordered, negatives, gap, start)
        last = _at(ordered, negatives, gap, end - 1)
        if first == last:
            errors[cell] = -1.0
            _sift_down(heap, errors, used)
            continue
        total, _ = _range_sums(ordered, centre, sums, negatives, gap, start, end)
        # Rounding may put the mean at or past the last value; the split must leave both sides a value.
        mean = min(max(centre + total / (end - start), first), np.nextafter(last, -np.inf))
        middle = _first_above(ordered, negatives, gap, start, end, mean)
        ends[cell], errors[cell] = middle, _error(ordered, centre, sums, negatives, gap, start, middle)
        starts[used], ends[used] = middle, end
        errors[used] = _error(ordered, centre, sums, negatives, gap, middle, end)
        _sift_down(heap, errors, used)
        heap[used] = used
        child = used
        while child > 0 and errors[heap[(child - 1) // 2]] < errors[heap[child]]:
            parent = (child - 1) // 2
            heap[parent], heap[child] = heap[child], heap[parent]
            child = parent
        used += 1
    edges = np.empty(used + 1, np.int64)
    edges[:used] = starts[:used]
    edges[used] = count
    return np.sort(edges)


@numba.njit(cache=True, nogil=True)
def _sift_down(heap, errors, used):
    parent = 0
    while True:
        child = 2 * parent + 1
        if child >= used:
            return
        if child + 1 < used and errors[heap[child + 1]] > errors[heap[child]]:
            child += 1
        if errors[heap[child]] <= errors[heap[parent]]:
            return
        heap[parent], heap[child] = heap[child], heap[parent]
        parent = child


@numba.njit(cache=True, nogil=True)
def _group_cells(counts, totals, squares, guess, band):
    """Optimal grouping of consecutive cells among those whose edges lie within `band` cells of a guess.

    counts, totals, squares: float64 (cells + 1,), prefix counts, sums and sums of squares. guess: int64 (groups + 1,),
    from 0 to the number of cells, ascending. Returns the edges of the groups.
    """
    cells, groups = len(counts) - 1, len(guess) - 1
    previous = np.full(cells + 1, np.inf)
    current = np.full(cells + 1, np.inf)
    for end in range(1, min(cells, guess[1] + band) + 1):
        previous[end] = squares[end] - totals[end] * totals[end] / counts[end]
    origin = np.zeros((groups, cells + 1), np.int32)
    stack = np.empty((128, 4), np.int64)
    for group in range(1, groups):
        before, after = guess[group], guess[group + 1]
        # The split that is best for `end` grows with `end`: halve the ends, narrow the splits.
        stack[0, 0], stack[0, 1] = max(group + 1, after - band), min(cells, after + band)
        stack[0, 2], stack[0, 3] = max(group, before - band), min(cells, before + band)
        depth = 1
        while depth > 0:
            depth -= 1
            low, high, first, last = stack[depth]
            end = (low + high) // 2
            best, choice = np.inf, first
            for start in range(first, min(end - 1, last) + 1):
                total = totals[end] - totals[start]
                error = previous[start] + squares[end] - squares[start] - total * total / (counts[end] - counts[start])
                if error < best:
                    best, choice = error, start
            current[end], origin[group, end] = best, choice
            if low < end:
                stack[depth, 0], stack[depth, 1], stack[depth, 2], stack[depth, 3] = low, end - 1, first, choice
                depth += 1
            if end < high:
                stack[depth, 0], stack[depth, 1], stack[depth, 2], stack[depth, 3] = end + 1, high, choice, last
                depth += 1
        previous, current = current, previous
        current[:] = np.inf
    edges = np.empty(groups + 1, np.int64)
    edges[0], edges[groups] = 0, cells
    for group in range(groups - 1, 0, -1):
        edges[group] = origin[group, edges[group + 1]]
    return edges


@numba.njit(cache=True, nogil=True)
def _fit(ordered, centre, sums, negatives, gap, clusters):
    cells = max(96, CELLS_PER_CLUSTER * clusters)
    count = len(ordered) - gap
    coarse = _split_cells(ordered, centre, sums, negatives, gap, count, clusters)
    cell_edges = _split_cells(ordered, centre, sums, negatives, gap, count, cells)
    used = len(cell_edges) - 1
    counts, totals, squares = np.zeros(used + 1), np.zeros(used + 1), np.zeros(used + 1)
    for cell in range(used):
        total, square = _range_sums(ordered, centre, sums, negatives, gap, cell_edges[cell], cell_edges[cell + 1])
        counts[cell + 1] = cell_edges[cell + 1]
        totals[cell + 1] = totals[cell] + total
        squares[cell + 1] = squares[cell] + square
    grouping = np.searchsorted(cell_edges, coarse)
    groups = len(grouping) - 1
    band = used if used <= MAX_CELLS_FOR_ALL else BAND
    for _ in range(MAX_ROUNDS):
        better = _group_cells(counts, totals, squares, grouping, band)
        settled = band == used or np.array_equal(better, grouping)
        grouping = better
        if settled:
            break
    edges = cell_edges[grouping]
    entries = np.empty(groups)
    for _ in range(LLOYD_ITERATIONS):
        for group in range(groups):
            if edges[group] < edges[group + 1]:
                total, _ = _range_sums(ordered, centre, sums, negatives, gap, edges[group], edges[group + 1])
                entries[group] = centre + total / (edges[group + 1] - edges[group])
        moved = False
        for group in range(1, groups):
            middle = (entries[group - 1] + entries[group]) / 2
            edge = _first_above(ordered, negatives, gap, edges[group - 1], count, middle)
            moved |= edge != edges[group]
            edges[group] = edge
        if not moved:
            break
    return entries
