"""K-means in one dimension: the codebook of least squared error for the non-zero weights of a layer.

In one dimension clusters are intervals of the sorted values, and sums over any interval are differences of prefix
sums, so no pass over the weights is needed to find them:

1. The sorted values are split into a few cells per cluster, always the cell of largest squared error at its mean,
   until all cells hold about the same error. This covers heavy tails, where equal-width, quantile and density starts
   leave errors many times the optimum.
2. Their optimal grouping is found as a shortest path with a penalty on each group, O(cells log cells) a penalty
   (Grønlund et al. 2017, Fast exact k-means, k-medians and Bregman divergence clustering in 1D).
3. Lloyd's iterations move the boundaries from cell edges to single weights.

The classic starts are there to compare with, each followed by Lloyd's iterations: "linear" and "density" (Deep
Compression, section 3.1) and "k-means++" (Arthur & Vassilvitskii 2007).

The file has over 400 lines: one algorithm, whose compiled parts share their prefix sums.
"""

import numpy as np

from paretoscope.base.compiled import compiled
from paretoscope.model.statistics import BLOCK, LayerStatistics
from paretoscope.recipe.steps.share import Start

# 6 cells a cluster stay within 0.5 % of the optimum: python -m benchmarks.constants. The other numbers of this block
# were chosen by hand; no benchmark.
CELLS_PER_CLUSTER = 6
MIN_CELLS = 96
POWER_LAW_TRIES = 5
LLOYD_ITERATIONS = 30
# A classic start is farther from the optimum than grouped cells: chosen by hand, no benchmark.
LLOYD_ITERATIONS_OF_STARTS = 100
# Weights that are searched side by side: chosen by hand, no benchmark.
BLOCK_OF_SEARCHES = 1024

# A layer's sorted values, their centre and block sums, and its survivors: how many are negative, how many are left out.
_Values = tuple[np.ndarray, float, np.ndarray, int, int]


def fit(
    layer: LayerStatistics, negatives: int, positives: int, clusters: int, start: str = Start.OPTIMAL, seed: int = 0
) -> np.ndarray:
    """Cluster the `negatives` smallest and the `positives` largest values of a layer.

    Those are its surviving weights, none of them zero. Returns the codebook: float32 (k,), ascending and distinct,
    k <= clusters. With the start "optimal" its squared error is within 1 % of the least that `clusters` values can
    have. "linear" spaces the first entries evenly from the smallest weight to the largest, "density" gives each the
    same number of weights, "k-means++" draws them (from `seed`) in proportion to the squared distance from those
    before; groups that lose all weights are dropped. "best" is the one of these three of least error.
    """
    if negatives + positives == 0:
        return np.zeros(0, np.float32)
    gap = len(layer.ordered) - negatives - positives
    values = layer.ordered, layer.centre, layer.block_sums, negatives, gap
    if start == Start.OPTIMAL:
        return np.unique(_fit(*values, clusters).astype(np.float32))
    starts = (Start.LINEAR, Start.DENSITY, Start.PLUS_PLUS) if start == Start.BEST else (start,)
    fits = [_started(values, clusters, each, seed) for each in starts]
    _, entries = min(fits, key=lambda fit: fit[0])
    return np.unique(entries.astype(np.float32))


def _started(values: _Values, clusters: int, start: str, seed: int) -> tuple[float, np.ndarray]:
    """Squared error and entries (float64) of Lloyd's iterations from one of the classic starts."""
    match start:
        case Start.LINEAR:
            entries = _linear(*values, clusters)
        case Start.DENSITY:
            entries = _density(*values, clusters)
        case _:
            entries = _plus_plus(*values, np.random.default_rng(seed).random(clusters))
    edges = _edges(*values, entries)
    _lloyd(*values, edges, entries, LLOYD_ITERATIONS_OF_STARTS)
    return _errors_of(*values, edges), entries[edges[1:] > edges[:-1]]


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


@compiled()
def _assign(weights: np.ndarray, bounds: np.ndarray, symbols: np.ndarray) -> None:
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


@compiled()
def _at(ordered: np.ndarray, negatives: int, gap: int, position: int) -> np.float64:
    return np.float64(ordered[position] if position < negatives else ordered[position + gap])


@compiled()
def _prefix(ordered: np.ndarray, centre: float, sums: np.ndarray, end: int) -> tuple[float, float]:
    """Sum and sum of squares of ordered[:end] - centre."""
    block = end // BLOCK
    total, squares = sums[0, block], sums[1, block]
    for i in range(block * BLOCK, end):
        value = float(ordered[i]) - centre
        total += value
        squares += value * value
    return total, squares


@compiled()
def _range_sums(
    ordered: np.ndarray, centre: float, sums: np.ndarray, negatives: int, gap: int, start: int, end: int
) -> tuple[float, float]:
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


@compiled()
def _first_above(ordered: np.ndarray, negatives: int, gap: int, start: int, end: int, value: float) -> int:
    """First position in start..end whose survivor is greater than `value`."""
    while start < end:
        middle = (start + end) // 2
        if _at(ordered, negatives, gap, middle) > value:
            end = middle
        else:
            start = middle + 1
    return start


@compiled()
def _error(
    ordered: np.ndarray, centre: float, sums: np.ndarray, negatives: int, gap: int, start: int, end: int
) -> float:
    total, squares = _range_sums(ordered, centre, sums, negatives, gap, start, end)
    return max(0.0, squares - total * total / (end - start))


@compiled()
def _split_cells(
    ordered: np.ndarray, centre: float, sums: np.ndarray, negatives: int, gap: int, count: int, cells: int
) -> np.ndarray:
    """Edges of at most `cells` cells of about equal squared error, each split at its mean, largest error first."""
    if count <= cells:
        changes = np.zeros(count + 1, np.int64)
        used = 1
        for position in range(1, count):
            if _at(ordered, negatives, gap, position - 1) != _at(ordered, negatives, gap, position):
                changes[used] = position
                used += 1
        changes[used] = count
        return changes[: used + 1]
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


@compiled()
def _sift_down(heap: np.ndarray, errors: np.ndarray, used: int) -> None:
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


@compiled()
def _cost(prefixes: np.ndarray, start: int, end: int) -> float:
    """Squared error of one group of the cells start..end."""
    total = prefixes[1, end] - prefixes[1, start]
    cost: float = prefixes[2, end] - prefixes[2, start] - total * total / (prefixes[0, end] - prefixes[0, start])
    return cost


@compiled()
def _cheapest(prefixes: np.ndarray, penalty: float) -> np.ndarray:
    """Edges of the grouping of least error + penalty * groups, however many those are.

    Errors of groups satisfy the quadrangle inequality, so a start that is overtaken stays behind: a queue holds the
    starts that are best for some end yet to come, in the order of those ends (Galil & Giancarlo 1989).
    """
    cells = prefixes.shape[1] - 1
    least = np.zeros(cells + 1)
    origin = np.zeros(cells + 1, np.int64)
    starts = np.zeros(cells + 1, np.int64)
    firsts = np.ones(cells + 1, np.int64)
    head, tail = 0, 1
    for end in range(1, cells + 1):
        while head + 1 < tail and firsts[head + 1] <= end:
            head += 1
        origin[end] = starts[head]
        least[end] = least[starts[head]] + _cost(prefixes, starts[head], end) + penalty
        if end == cells:
            break
        while tail > head:
            first, last = max(firsts[tail - 1], end + 1), starts[tail - 1]
            if least[end] + _cost(prefixes, end, first) >= least[last] + _cost(prefixes, last, first):
                break
            tail -= 1
        if tail == head:
            starts[tail], firsts[tail] = end, end + 1
            tail += 1
            continue
        last, low, high = starts[tail - 1], max(firsts[tail - 1], end + 1), cells + 1
        while low + 1 < high:
            middle = (low + high) // 2
            if least[end] + _cost(prefixes, end, middle) < least[last] + _cost(prefixes, last, middle):
                high = middle
            else:
                low = middle
        if high <= cells:
            starts[tail], firsts[tail] = end, high
            tail += 1
    groups, end = 0, cells
    while end > 0:
        groups, end = groups + 1, origin[end]
    edges = np.empty(groups + 1, np.int64)
    edges[groups] = cells
    for group in range(groups - 1, -1, -1):
        edges[group] = origin[edges[group + 1]]
    return edges


@compiled()
def _grouping(prefixes: np.ndarray, groups: int, penalty: float) -> np.ndarray:
    """Edges of the grouping of the cells into `groups` groups of least error; `penalty` is a first guess.

    prefixes: float64 (3, cells + 1), counts, sums and sums of squares before each cell; groups < cells.
    The least error is convex in the number of groups, so some penalty on each group brings out the wanted number.
    """
    low, high = 0.0, np.inf
    few, many = np.array([0, prefixes.shape[1] - 1]), np.arange(prefixes.shape[1])
    tries, chord = 0, False
    while True:
        edges = _cheapest(prefixes, penalty)
        found = len(edges) - 1
        if found == groups:
            return edges
        if chord and not len(few) < len(edges) < len(many):
            return _between(few, many, groups)
        if found > groups:
            low, many = penalty, edges
        else:
            high, few = penalty, edges
        # Where the error falls as 1 / groups**2, as on smooth densities, its slope falls as 1 / groups**3.
        penalty *= (found / groups) ** 3
        tries += 1
        chord = tries >= POWER_LAW_TRIES or not low < penalty < high
        if chord:
            # The chord's slope brings out a grouping below the chord; where there is none, both ends are cheapest.
            penalty = (_errors(prefixes, few) - _errors(prefixes, many)) / (len(many) - len(few))


@compiled()
def _errors(prefixes: np.ndarray, edges: np.ndarray) -> float:
    total = 0.0
    for group in range(len(edges) - 1):
        total += _cost(prefixes, edges[group], edges[group + 1])
    return total


@compiled()
def _between(few: np.ndarray, many: np.ndarray, groups: int) -> np.ndarray:
    """A grouping of `groups` groups out of two that cost the same, one of fewer and one of more.

    Where a group of `few` holds a whole group of `many`, one can change over from `many` to `few`: by the quadrangle
    inequality the two groupings that result cost no more together (Aggarwal, Schieber & Tokuyama 1994).
    """
    more = groups - (len(few) - 1)
    group = 0
    while many[group + more + 1] > few[group + 1]:
        group += 1
    return np.concatenate((many[: group + more + 1], few[group + 1 :]))


@compiled()
def _fit(ordered: np.ndarray, centre: float, sums: np.ndarray, negatives: int, gap: int, clusters: int) -> np.ndarray:
    count = len(ordered) - gap
    cell_edges = _split_cells(
        ordered, centre, sums, negatives, gap, count, max(MIN_CELLS, CELLS_PER_CLUSTER * clusters)
    )
    cells = len(cell_edges) - 1
    prefixes = np.zeros((3, cells + 1))
    for cell in range(cells):
        total, square = _range_sums(ordered, centre, sums, negatives, gap, cell_edges[cell], cell_edges[cell + 1])
        prefixes[0, cell + 1] = cell_edges[cell + 1]
        prefixes[1, cell + 1] = prefixes[1, cell] + total
        prefixes[2, cell + 1] = prefixes[2, cell] + square
    if clusters >= cells:
        edges = cell_edges
    else:
        whole = max(_cost(prefixes, 0, cells), 1e-250)
        edges = cell_edges[_grouping(prefixes, clusters, 2 * whole / clusters**3)]
    entries = np.empty(len(edges) - 1)
    _lloyd(ordered, centre, sums, negatives, gap, edges, entries, LLOYD_ITERATIONS)
    return entries


@compiled()
def _lloyd(
    ordered: np.ndarray,
    centre: float,
    sums: np.ndarray,
    negatives: int,
    gap: int,
    edges: np.ndarray,
    entries: np.ndarray,
    iterations: int,
) -> None:
    """Move the edges of the groups and their entries, in place; the entry of a group without weights stays."""
    count = len(ordered) - gap
    groups = len(entries)
    for _ in range(iterations):
        for group in range(groups):
            if edges[group] < edges[group + 1]:
                total, _ = _range_sums(ordered, centre, sums, negatives, gap, edges[group], edges[group + 1])
                mean = centre + total / (edges[group + 1] - edges[group])
                # Beside far larger weights, sums of the others are rounded beyond the range of the group.
                first = _at(ordered, negatives, gap, edges[group])
                entries[group] = min(max(mean, first), _at(ordered, negatives, gap, edges[group + 1] - 1))
        moved = False
        for group in range(1, groups):
            middle = (entries[group - 1] + entries[group]) / 2
            edge = _first_above(ordered, negatives, gap, edges[group - 1], count, middle)
            moved |= edge != edges[group]
            edges[group] = edge
        if not moved:
            break


@compiled()
def _errors_of(
    ordered: np.ndarray, centre: float, sums: np.ndarray, negatives: int, gap: int, edges: np.ndarray
) -> float:
    total = 0.0
    for group in range(len(edges) - 1):
        if edges[group] < edges[group + 1]:
            total += _error(ordered, centre, sums, negatives, gap, edges[group], edges[group + 1])
    return total


@compiled()
def _linear(
    ordered: np.ndarray, centre: float, sums: np.ndarray, negatives: int, gap: int, clusters: int
) -> np.ndarray:
    """Evenly spaced entries from the smallest survivor to the largest."""
    first, last = _at(ordered, negatives, gap, 0), _at(ordered, negatives, gap, len(ordered) - gap - 1)
    entries = np.empty(clusters)
    for group in range(clusters):
        entries[group] = first + (last - first) * (group / (clusters - 1))
    return entries


@compiled()
def _density(
    ordered: np.ndarray, centre: float, sums: np.ndarray, negatives: int, gap: int, clusters: int
) -> np.ndarray:
    """The medians of groups of equal population."""
    count = len(ordered) - gap
    entries = np.empty(clusters)
    for group in range(clusters):
        entries[group] = _at(ordered, negatives, gap, (2 * group + 1) * count // (2 * clusters))
    return entries


@compiled()
def _edges(
    ordered: np.ndarray, centre: float, sums: np.ndarray, negatives: int, gap: int, entries: np.ndarray
) -> np.ndarray:
    """Edges of the groups nearest to ascending entries."""
    edges = np.zeros(len(entries) + 1, np.int64)
    edges[len(entries)] = len(ordered) - gap
    for group in range(1, len(entries)):
        middle = (entries[group - 1] + entries[group]) / 2
        edges[group] = _first_above(ordered, negatives, gap, edges[group - 1], len(ordered) - gap, middle)
    return edges


@compiled()
def _distance(
    ordered: np.ndarray, centre: float, sums: np.ndarray, negatives: int, gap: int, start: int, end: int, entry: float
) -> float:
    """Sum of the squared distances of survivors start..end from an entry."""
    total, squares = _range_sums(ordered, centre, sums, negatives, gap, start, end)
    entry -= centre
    return max(0.0, squares - 2 * entry * total + (end - start) * entry * entry)


@compiled()
def _plus_plus(
    ordered: np.ndarray, centre: float, sums: np.ndarray, negatives: int, gap: int, draws: np.ndarray
) -> np.ndarray:
    """Ascending entries drawn by k-means++, one for each of `draws` (uniform in [0, 1)), or fewer where none is left.

    Groups are intervals, so what a group adds to the sum of squared distances is a look-up, and the weight that a draw
    hits is found by bisection within its group. A new entry changes its own group and the two beside it.
    """
    count, clusters = len(ordered) - gap, len(draws)
    entries = np.empty(clusters)
    edges = np.zeros(clusters + 1, np.int64)
    distances = np.empty(clusters)
    entries[0] = _at(ordered, negatives, gap, int(draws[0] * count))
    edges[1] = count
    distances[0] = _distance(ordered, centre, sums, negatives, gap, 0, count, entries[0])
    used = 1
    while used < clusters:
        target = draws[used] * distances[:used].sum()
        group = 0
        while group < used - 1 and target >= distances[group]:
            target -= distances[group]
            group += 1
        low, high = edges[group], edges[group + 1] - 1
        while low < high:
            middle = (low + high) // 2
            before = _distance(ordered, centre, sums, negatives, gap, edges[group], middle + 1, entries[group])
            if before > target:
                high = middle
            else:
                low = middle + 1
        entry = _at(ordered, negatives, gap, low)
        if entry == entries[group]:
            # Rounding led to a weight at distance zero: all that is left is rounding.
            break
        place = group + (entry > entries[group])
        for i in range(used, place, -1):
            entries[i], edges[i + 1], distances[i] = entries[i - 1], edges[i], distances[i - 1]
        entries[place] = entry
        used += 1
        edges[used] = count
        for i in range(max(place, 1), min(place + 2, used)):
            middle = (entries[i - 1] + entries[i]) / 2
            edges[i] = _first_above(ordered, negatives, gap, edges[i - 1], count, middle)
        for i in range(max(place - 1, 0), min(place + 2, used)):
            distances[i] = _distance(ordered, centre, sums, negatives, gap, edges[i], edges[i + 1], entries[i])
    return entries[:used]
