"""Weight sharing against the exact one-dimensional k-means; zero stays zero; invariances."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from paretoscope.methods import kmeans
from paretoscope.model.statistics import LayerStatistics

examples = settings(derandomize=True, deadline=None, database=None, max_examples=80)

SAMPLES = {
    "normal": lambda rng, n: rng.normal(size=n),
    "laplace": lambda rng, n: rng.laplace(size=n),
    "student-1": lambda rng, n: rng.standard_t(1, n),
    "student-2": lambda rng, n: rng.standard_t(2, n),
    "pareto": lambda rng, n: rng.pareto(1, n) * rng.choice([-1, 1], n),
    "uniform": lambda rng, n: rng.uniform(-1, 1, n),
    "lognormal": lambda rng, n: rng.lognormal(0, 1.5, n),
    "bimodal": lambda rng, n: np.where(rng.random(n) < 0.5, rng.normal(-3, 0.1, n), rng.normal(2, 0.5, n)),
    "few outliers": lambda rng, n: rng.normal(size=n) * np.where(rng.random(n) < 0.01, 100, 1),
    "discrete": lambda rng, n: rng.integers(1, 81, n) * rng.choice([-0.01, 0.01], n),
    "tight, far from zero": lambda rng, n: rng.normal(10, 0.01, n),
    "tighter, farther": lambda rng, n: rng.normal(1000, 0.01, n),
}
CLUSTERS = (2, 3, 4, 5, 7, 8, 12, 16, 24, 31, 32, 33, 35, 41, 48, 64, 90, 100, 128, 141, 166, 186, 200, 255, 256)

# Drawings whose best grouping lies far from where a greedy start puts it: sample, seed, n, sparsity, clusters.
HARD = [
    ("student-1", 4, 4000, 0.95, (34, 35, 36)),
    ("student-1", 0, 4000, 0.8, (136, 138, 139, 140, 141, 142)),
    ("student-1", 3, 1000, 0.0, (165, 166, 167, 170)),
    ("student-2", 0, 1000, 0.8, (35, 36)),
    ("lognormal", 3, 1000, 0.0, (166, 167, 168)),
    ("pareto", 0, 1000, 0.8, (42, 43, 44)),
    ("pareto", 0, 4000, 0.8, (89, 90, 91, 105)),
]

TIED = st.sampled_from([0.0, -0.0, 1.0, -1.0, 0.5, 2.0, -3.0])
# Magnitudes in 2**-10 .. 2**10, so that differences and middles of any two are exact in float64.
POSITIVE = st.floats(2.0**-10, 2.0**10, width=32)
VALUES = POSITIVE | POSITIVE.map(lambda value: -value)
WEIGHTS = arrays.arrays(
    np.float32, arrays.array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=6), elements=TIED
) | arrays.arrays(np.float32, st.integers(1, 60), elements=VALUES)


def least_errors(values: np.ndarray, most: int) -> np.ndarray:
    """The least squared error of 1..most clusters, at index 1..most: exact dynamic programming in float64.

    Row by row as in Wang & Song 2011; the best split of a prefix never moves left when the prefix grows, so each row
    takes its prefixes from coarse strides to fine ones, each between the splits of its two neighbours.
    """
    ordered = np.sort(values.astype(np.float64))
    ordered -= ordered.mean()
    count = len(ordered)
    sums, squares = (np.concatenate([[0.0], np.cumsum(ordered**power)]) for power in (1, 2))

    def cost(start, end):
        return np.maximum(squares[end] - squares[start] - (sums[end] - sums[start]) ** 2 / (end - start), 0)

    best = np.concatenate([[np.inf], cost(0, np.arange(1, count + 1))])
    result = [np.inf, best[count]]
    for clusters in range(2, most + 1):
        split = np.full((1 << count.bit_length()) + 1, count - 1)
        split[: count + 1] = clusters - 1
        row = np.full(count + 1, np.inf)
        stride = len(split) // 2
        while stride and clusters <= count:
            ends = np.arange(stride, count + 1, 2 * stride)
            ends = ends[ends >= clusters]
            first, last = split[ends - stride], np.minimum(split[ends + stride], ends - 1)
            lengths = last - first + 1
            offsets = np.cumsum(lengths) - lengths
            starts = np.arange(lengths.sum()) + np.repeat(first - offsets, lengths)
            errors = best[starts] + cost(starts, np.repeat(ends, lengths))
            if len(ends):
                row[ends] = np.minimum.reduceat(errors, offsets)
                hits = np.flatnonzero(errors == np.repeat(row[ends], lengths))
                split[ends] = starts[hits[np.searchsorted(hits, offsets)]]
            stride //= 2
        best = row
        result.append(best[count] if clusters <= count else 0.0)
    return np.array(result)


def least_errors_by_all_splits(values: np.ndarray, most: int) -> list[float]:
    """The least squared error by brute force: every way to cut the sorted values into groups."""
    ordered = sorted(float(value) for value in values)
    result = [np.inf]
    for clusters in range(1, most + 1):
        errors = []
        for cuts in itertools.combinations(range(1, len(ordered)), clusters - 1):
            groups = [ordered[i:j] for i, j in itertools.pairwise([0, *cuts, len(ordered)])]
            errors.append(sum(sum((v - sum(g) / len(g)) ** 2 for v in g) for g in groups))
        result.append(min(errors))
    return result


def draw(kind: str, seed: int, count: int, sparsity: float) -> np.ndarray:
    """A layer (count,) whose floor(sparsity * count) least magnitudes are zero."""
    weight = SAMPLES[kind](np.random.default_rng(seed), count).astype(np.float32)
    weight[np.argsort(np.abs(weight), kind="stable")[: int(sparsity * count)]] = 0
    return weight


def shared(weight: np.ndarray, clusters: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Entries, symbols and decoded weights; the layer's statistics are those of the weight itself."""
    entries = fitted(LayerStatistics.of("layer", weight), weight, clusters)
    symbols = kmeans.assign(weight, entries)
    return entries, symbols, np.concatenate([np.zeros(1, np.float32), entries])[symbols]


def fitted(layer: LayerStatistics, survivors: np.ndarray, clusters: int) -> np.ndarray:
    return kmeans.fit(layer, np.count_nonzero(survivors < 0), np.count_nonzero(survivors > 0), clusters)


def error_of(weight: np.ndarray, decoded: np.ndarray) -> float:
    return float(np.square(weight.astype(np.float64) - decoded).sum())


def rounding_of(weight: np.ndarray) -> float:
    """What rounding the entries to float32 can add to the squared error: half a unit in the last place each."""
    return weight.size * float(np.spacing(np.abs(weight).max()) / 2) ** 2


class TestOptimum:
    @pytest.mark.parametrize("seed", range(6))
    def test_the_oracle_itself(self, seed):
        rng = np.random.default_rng(seed)
        values = rng.standard_t(2, 9) if seed % 2 else rng.integers(-3, 4, 9)
        assert np.allclose(least_errors(values, 9)[1:], least_errors_by_all_splits(values, 9)[1:], atol=1e-12)

    @pytest.mark.parametrize("sparsity", [0.0, 0.8])
    @pytest.mark.parametrize("count", [60, 1000, 4000])
    @pytest.mark.parametrize("kind", SAMPLES)
    def test_within_one_percent(self, kind, count, sparsity):
        weight = draw(kind, 0, count, sparsity)
        layer = LayerStatistics.of("layer", weight)
        least, rounding = least_errors(weight[weight != 0], max(CLUSTERS)), rounding_of(weight)
        for clusters in CLUSTERS:
            entries = fitted(layer, weight, clusters)
            decoded = np.concatenate([np.zeros(1, np.float32), entries])[kmeans.assign(weight, entries)]
            assert len(entries) <= clusters
            assert error_of(weight, decoded) <= 1.01 * least[clusters] + rounding, clusters

    @pytest.mark.parametrize(("kind", "seed", "count", "sparsity", "clusters"), HARD)
    def test_within_one_percent_where_it_is_hard(self, kind, seed, count, sparsity, clusters):
        weight = draw(kind, seed, count, sparsity)
        least = least_errors(weight[weight != 0], max(clusters))
        for number in clusters:
            _, _, decoded = shared(weight, number)
            assert error_of(weight, decoded) <= 1.01 * least[number] + rounding_of(weight), number

    @pytest.mark.slow
    @given(WEIGHTS, st.integers(2, 12))
    @examples
    def test_within_one_percent_of_anything_small(self, weight, clusters):
        _, _, decoded = shared(weight, clusters)
        kept = weight[weight != 0]
        least = least_errors(kept, clusters)[clusters] if kept.size else 0
        # Sums of squares up to n * 1e6 are known to about 1e-16 of that.
        assert error_of(weight, decoded) <= 1.01 * least + rounding_of(weight) + 1e-14 * np.square(kept).sum()

    def test_two_clusters_by_hand(self):
        entries, symbols, _ = shared(np.float32([-1, 9, -3, 11, 0, 10, -2]), 2)
        assert entries.tolist() == [-2, 10]
        assert symbols.tolist() == [1, 2, 1, 2, 0, 2, 1]

    def test_statistics_of_the_whole_layer_serve_every_sparsity(self):
        """Sums over survivors are differences of the whole layer's: the same codebook as from the survivors alone."""
        weight = draw("laplace", 1, 3000, 0)
        layer = LayerStatistics.of("layer", weight)
        for sparsity in (0.1, 0.5, 0.9, 0.99):
            pruned = draw("laplace", 1, 3000, sparsity)
            survivors = pruned[pruned != 0]
            one = fitted(layer, pruned, 16)
            other = fitted(LayerStatistics.of("alone", survivors), survivors, 16)
            assert np.allclose(one, other, rtol=1e-6, atol=1e-7)

    @pytest.mark.parametrize("signs", [1, -1])
    def test_survivors_of_one_sign(self, signs):
        weight = signs * np.abs(draw("normal", 2, 500, 0.6))
        kept = weight[weight != 0]
        _, _, decoded = shared(weight, 8)
        assert error_of(weight, decoded) <= 1.01 * least_errors(kept, 8)[8] + rounding_of(weight)


class TestCodebook:
    @pytest.mark.slow
    @given(WEIGHTS, st.integers(2, 256))
    @examples
    def test_entries_are_few_distinct_ascending_and_among_the_weights(self, weight, clusters):
        entries, _, _ = shared(weight, clusters)
        kept = weight[weight != 0]
        assert entries.dtype == np.float32 and entries.ndim == 1
        assert len(entries) <= min(clusters, len(np.unique(kept)))
        assert (np.diff(entries) > 0).all()
        if kept.size:
            assert kept.min() <= entries[0] and entries[-1] <= kept.max()

    @given(WEIGHTS)
    @examples
    def test_few_distinct_weights_are_kept_as_they_are(self, weight):
        distinct = np.unique(weight[weight != 0])
        clusters = max(2, len(distinct))
        entries, _, decoded = shared(weight, clusters)
        assert entries.tolist() == distinct.tolist()
        assert np.array_equal(decoded, weight)

    @pytest.mark.parametrize("value", [1e-45, -1e-30, 0.1, -7.0, 3e38])
    @pytest.mark.parametrize("shape", [(1,), (1, 1), (37, 5)])
    def test_one_weight_and_constant_layers(self, value, shape):
        weight = np.full(shape, value, np.float32)
        entries, symbols, decoded = shared(weight, 16)
        assert entries.tolist() == [weight.flat[0]] and (symbols == 1).all()
        assert np.array_equal(decoded, weight)

    def test_a_layer_without_survivors_has_no_entries(self):
        entries, symbols, decoded = shared(np.array([[0.0, -0.0], [0.0, 0.0]], np.float32), 8)
        assert entries.shape == (0,) and entries.dtype == np.float32
        assert symbols.dtype == np.uint8 and not symbols.any() and not decoded.any()

    @pytest.mark.parametrize("offset", [0, 60])
    @pytest.mark.parametrize("exponent", [-90, 0, 90])
    def test_tiny_and_huge_magnitudes_are_as_good_as_others(self, exponent, offset):
        """Scaling by a power of two is exact, so the codebook scales with the weights, bit for bit."""
        weight = (draw("student-2", 4, 2000, 0) + offset).clip(-100, 100)
        factor = np.float32(2.0**exponent)
        for clusters in (2, 16, 100):
            entries, symbols, _ = shared(weight, clusters)
            scaled, same_symbols, _ = shared(weight * factor, clusters)
            assert np.array_equal(entries * factor, scaled) and np.array_equal(symbols, same_symbols)

    def test_magnitudes_far_apart(self):
        """A single outlier must not cost all other weights their digits."""
        weight = np.append(draw("normal", 5, 999, 0), np.float32(1e8))
        _, _, decoded = shared(weight, 17)
        assert error_of(weight[:-1], decoded[:-1]) <= 1.01 * least_errors(weight[:-1], 16)[16] + 1e-6

    @pytest.mark.parametrize("kind", SAMPLES)
    def test_order_of_the_weights_does_not_matter(self, kind):
        weight = draw(kind, 6, 1200, 0.5)
        order = np.random.default_rng(0).permutation(weight.size)
        entries, symbols, _ = shared(weight.reshape(30, 40), 20)
        shuffled, shuffled_symbols, _ = shared(weight[order], 20)
        assert np.array_equal(entries, shuffled)
        assert np.array_equal(symbols.reshape(-1)[order], shuffled_symbols)

    @pytest.mark.parametrize("kind", SAMPLES)
    def test_flipping_the_signs_costs_nothing(self, kind):
        weight = draw(kind, 7, 1200, 0.5)
        for clusters in (2, 16, 64):
            one, other = (error_of(w, shared(w, clusters)[2]) for w in (weight, -weight))
            assert one <= 1.01 * other + rounding_of(weight) and other <= 1.01 * one + rounding_of(weight)

    def test_duplicates_weigh(self):
        """Every weight twice is the same problem; one of them a hundred times draws an entry to it."""
        weight = draw("laplace", 8, 700, 0)
        assert np.allclose(shared(weight, 16)[0], shared(np.repeat(weight, 2), 16)[0], rtol=1e-6)
        entries, _, _ = shared(np.float32([0.9, 1.0, *[1.3] * 100, 5.0]), 2)
        assert entries.tolist() == pytest.approx([(0.9 + 1.0 + 130) / 102, 5.0], rel=1e-6)

    def test_is_pure(self):
        weight = draw("normal", 9, 1000, 0)
        layer = LayerStatistics.of("layer", weight.copy())
        before = [array.tobytes() for array in (layer.weight, layer.ordered, layer.block_sums)]
        one, other = fitted(layer, weight, 32), fitted(layer, weight, 32)
        assert np.array_equal(one, other)
        assert [array.tobytes() for array in (layer.weight, layer.ordered, layer.block_sums)] == before


class TestAssign:
    @pytest.mark.slow
    @given(WEIGHTS, st.lists(VALUES, min_size=1, max_size=20, unique=True))
    @examples
    def test_slow_twin(self, weight, entries):
        """The nearest entry of each weight, the lower one of two that are equally near; zero for zero."""
        entries = np.unique(np.float32(entries))
        symbols = kmeans.assign(weight, entries)
        assert symbols.shape == weight.shape and symbols.dtype == np.uint8
        for value, symbol in zip(weight.reshape(-1).tolist(), symbols.reshape(-1).tolist(), strict=True):
            if value == 0:
                assert symbol == 0
            else:
                distances = [abs(value - entry) for entry in entries.tolist()]
                assert symbol == 1 + distances.index(min(distances))

    @pytest.mark.parametrize("kind", SAMPLES)
    @pytest.mark.parametrize("clusters", [2, 16, 255, 256])
    def test_of_the_fitted_entries_the_nearest(self, kind, clusters):
        weight = draw(kind, 10, 5000, 0.3).reshape(50, 4, 25)
        entries, symbols, decoded = shared(weight, clusters)
        assert np.array_equal(symbols == 0, weight == 0)
        nonzero = weight != 0
        nearest = np.abs(weight[nonzero][:, None].astype(np.float64) - entries).min(axis=1)
        assert np.array_equal(np.abs(weight.astype(np.float64) - decoded)[nonzero], nearest)

    def test_between_two_entries_the_lower(self):
        entries = np.float32([-1, 1, 2])
        assert kmeans.assign(np.float32([-9, 1.5, 1.5000001, 1.4999999, 9]), entries).tolist() == [1, 2, 3, 2, 3]

    def test_middles_that_no_float32_can_hold(self):
        one = np.float32(1)
        above = np.nextafter(one, np.float32(2))
        weight = np.array([one, above, -one, -above], np.float32)
        assert kmeans.assign(weight, np.array([-above, -one, one, above])).tolist() == [3, 4, 2, 1]

    def test_middles_of_the_largest_floats(self):
        largest = np.finfo(np.float32).max
        weight = np.array([-largest, largest, 1], np.float32)
        assert kmeans.assign(weight, np.array([-largest, largest], np.float32)).tolist() == [1, 2, 2]
        assert kmeans.assign(weight, np.array([largest / 2, largest], np.float32)).tolist() == [1, 2, 1]

    @pytest.mark.parametrize(("count", "kind"), [(1, np.uint8), (255, np.uint8), (256, np.uint16)])
    def test_symbols_are_as_narrow_as_the_codebook_allows(self, count, kind):
        entries = np.arange(1, count + 1, dtype=np.float32)
        symbols = kmeans.assign(entries[::-1], entries)
        assert symbols.dtype == kind
        assert symbols.tolist() == list(range(count, 0, -1))

    @pytest.mark.parametrize("count", [1, 1023, 1024, 1025, 5000])
    def test_any_number_of_weights(self, count):
        weight = np.arange(count, dtype=np.float32) % 5
        assert kmeans.assign(weight, np.float32([1, 2, 3, 4])).tolist() == (np.arange(count) % 5).tolist()

    def test_no_weight_at_all(self):
        symbols = kmeans.assign(np.zeros((0, 3), np.float32), np.float32([1]))
        assert symbols.shape == (0, 3) and symbols.dtype == np.uint8

    def test_input_is_not_touched(self):
        weight, entries = np.float32([[0, 1], [2, -3]]), np.float32([-3, 2])
        before = weight.tobytes(), entries.tobytes()
        kmeans.assign(weight, entries)
        assert (weight.tobytes(), entries.tobytes()) == before


def started(weight: np.ndarray, clusters: int, start: str, seed: int = 0) -> tuple[np.ndarray, float]:
    """Entries and squared error."""
    counts = np.count_nonzero(weight < 0), np.count_nonzero(weight > 0)
    entries = kmeans.fit(LayerStatistics.of("layer", weight), *counts, clusters, start, seed)
    decoded = np.concatenate([np.zeros(1, np.float32), entries])[kmeans.assign(weight, entries)]
    return entries, error_of(weight, decoded)


def lloyd_by_hand(values: np.ndarray, entries: np.ndarray) -> np.ndarray:
    """Lloyd's iterations over single weights in float64, until nothing moves; entries without a weight stay."""
    values = values.astype(np.float64)
    while True:
        symbols = np.abs(values[:, None] - entries).argmin(axis=1)
        means = [values[symbols == i].mean() if (symbols == i).any() else entries[i] for i in range(len(entries))]
        if np.allclose(means, entries, rtol=1e-12, atol=0):
            return np.array(means)[np.unique(symbols)]
        entries = np.array(means)


CLASSIC = ("linear", "density", "k-means++")


class TestStarts:
    @pytest.mark.parametrize("sparsity", [0.0, 0.6])
    @pytest.mark.parametrize("clusters", [2, 3, 5, 8])
    def test_linear_and_density_slow_twins(self, clusters, sparsity):
        weight = draw("normal", 20 + clusters, 600, sparsity)
        kept = np.sort(weight[weight != 0])
        linear = np.linspace(kept[0], kept[-1], clusters)
        assert started(weight, clusters, "linear")[0] == pytest.approx(lloyd_by_hand(kept, linear), rel=1e-5)
        density = kept[[len(kept) * (2 * i + 1) // (2 * clusters) for i in range(clusters)]].astype(np.float64)
        assert started(weight, clusters, "density")[0] == pytest.approx(lloyd_by_hand(kept, density), rel=1e-5)

    @pytest.mark.parametrize("kind", SAMPLES)
    @pytest.mark.parametrize("clusters", [2, 16, 60])
    def test_best_is_the_least_of_three_and_none_beats_the_optimum(self, kind, clusters):
        weight = draw(kind, 21, 3000, 0.3)
        errors = {start: started(weight, clusters, start)[1] for start in (*CLASSIC, "best", "optimal")}
        slack = rounding_of(weight)
        assert errors["best"] <= min(errors[start] for start in CLASSIC) * (1 + 1e-6) + slack
        assert errors["optimal"] <= 1.01 * errors["best"] + slack

    @pytest.mark.parametrize("kind", SAMPLES)
    def test_k_means_plus_plus_is_near_the_optimum(self, kind):
        weight = draw(kind, 22, 3000, 0.0)
        optimum = started(weight, 16, "optimal")[1]
        errors = [started(weight, 16, "k-means++", seed)[1] for seed in range(5)]
        assert min(errors) <= 2 * optimum + rounding_of(weight)

    def test_draws_follow_the_squared_distance(self):
        """With one far group in a hundred the second entry is nearly always drawn from it, whatever the first was."""
        weight = np.concatenate([np.full(99, 1.0), np.full(1, 1000.0), np.linspace(1.001, 1.01, 99)]).astype(np.float32)
        for seed in range(20):
            assert started(weight, 2, "k-means++", seed)[0][-1] == 1000

    def test_seeds_decide_and_are_repeatable(self):
        weight = draw("student-2", 23, 3000, 0.0)
        fits = [started(weight, 12, "k-means++", seed)[0].tolist() for seed in (0, 1, 2, 0)]
        assert fits[0] == fits[3] and len({tuple(fit) for fit in fits[:3]}) > 1

    @pytest.mark.slow
    @given(WEIGHTS, st.integers(2, 256), st.sampled_from([*CLASSIC, "best"]))
    @examples
    def test_entries_are_few_distinct_ascending_and_each_is_used(self, weight, clusters, start):
        entries, error = started(weight, clusters, start)
        kept = weight[weight != 0]
        assert entries.dtype == np.float32 and len(entries) <= min(clusters, len(np.unique(kept)))
        assert (np.diff(entries) > 0).all() and np.isfinite(error)
        if kept.size:
            assert len(entries) >= 1 and kept.min() <= entries[0] and entries[-1] <= kept.max()

    @pytest.mark.slow
    @given(WEIGHTS)
    @examples
    def test_few_distinct_weights_are_kept_by_drawing(self, weight):
        distinct = np.unique(weight[weight != 0])
        for start in ("k-means++", "best"):
            _, error = started(weight, max(2, len(distinct)), start)
            assert error <= 1e-13 * np.square(weight.astype(np.float64)).sum()

    @pytest.mark.parametrize("start", [*CLASSIC, "best"])
    @pytest.mark.parametrize("value", [1e-45, 0.1, -7.0, 3e38])
    def test_constant_layers(self, value, start):
        weight = np.full((5, 3), value, np.float32)
        assert started(weight, 8, start)[0].tolist() == [weight.flat[0]]

    @pytest.mark.parametrize("start", [*CLASSIC, "best"])
    def test_no_survivors(self, start):
        assert kmeans.fit(LayerStatistics.of("layer", np.ones(4, np.float32)), 0, 0, 8, start).shape == (0,)

    @pytest.mark.parametrize("start", [*CLASSIC, "best"])
    def test_statistics_of_the_whole_layer_serve_every_sparsity(self, start):
        layer = LayerStatistics.of("layer", draw("laplace", 24, 2000, 0))
        pruned = draw("laplace", 24, 2000, 0.7)
        counts = np.count_nonzero(pruned < 0), np.count_nonzero(pruned > 0)
        alone = LayerStatistics.of("alone", pruned[pruned != 0])
        one, other = (kmeans.fit(each, *counts, 10, start) for each in (layer, alone))
        assert np.allclose(one, other, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("start", ["optimal", "linear", "density", "k-means++", "best"])
def test_entries_lie_among_their_weights_beside_the_largest_floats(start):
    """Sums of ordinary weights are lost in those of the largest float; their entries are none the less among them."""
    ordinary = np.random.default_rng(0).normal(size=300).astype(np.float32)
    weight = np.append(ordinary, np.float32(3.4e38))
    layer = LayerStatistics.of("layer", weight)
    entries = kmeans.fit(layer, np.sum(weight < 0), np.sum(weight > 0), 8, start)
    assert np.isfinite(entries).all() and entries[-1] == np.float32(3.4e38)
    assert (np.abs(entries[:-1]) <= np.abs(ordinary).max()).all()
