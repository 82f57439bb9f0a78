"""Weight sharing against an exact, slow k-means; zero stays zero; invariances."""

import numpy as np
import pytest

from compression.methods import share
from compression.statistics import LayerStatistics

SAMPLES = {
    "normal": lambda rng, n: rng.standard_normal(n),
    "laplace": lambda rng, n: rng.laplace(size=n),
    "student-2": lambda rng, n: rng.standard_t(2, n),
    "student-1": lambda rng, n: rng.standard_t(1, n),
    "uniform": lambda rng, n: rng.random(n) + 0.01,
    "two modes": lambda rng, n: np.concatenate([rng.normal(-3, 1, n // 2), rng.normal(3, 0.3, n - n // 2)]),
    "lognormal": lambda rng, n: rng.lognormal(0, 1.5, n),
    "few values": lambda rng, n: rng.integers(1, 60, n),
    "tight": lambda rng, n: 1 + 1e-4 * rng.standard_normal(n),
}


def least_error(values: np.ndarray, clusters: int) -> float:
    """The least squared error that `clusters` values can have: dynamic programming over all splits, O(k n^2)."""
    ordered = np.sort(values.astype(np.float64))
    ordered -= ordered.mean()
    count = len(ordered)
    sums = np.concatenate([[0.0], np.cumsum(ordered)])
    squares = np.concatenate([[0.0], np.cumsum(ordered**2)])
    start, end = np.arange(count)[:, None], np.arange(1, count + 1)[None, :]
    length = np.maximum(end - start, 1)
    cost = squares[end] - squares[start] - (sums[end] - sums[start]) ** 2 / length
    cost = np.where(end > start, np.maximum(cost, 0), np.inf)
    best = cost[0]
    for _ in range(1, min(clusters, count)):
        before = np.concatenate([[np.inf], best[:-1]])[:, None]
        best = np.minimum(best, (before + cost).min(axis=0))
    return float(best[-1])


def shared(weight: np.ndarray, clusters: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    layer = LayerStatistics.of("layer", weight)
    entries = share.fit(layer, np.count_nonzero(weight < 0), np.count_nonzero(weight > 0), clusters)
    symbols = share.assign(weight, entries)
    return entries, symbols, np.concatenate([np.zeros(1, np.float32), entries])[symbols]


@pytest.mark.parametrize("pruned", [0.0, 0.7])
@pytest.mark.parametrize("kind", SAMPLES)
def test_error_is_within_one_percent_of_the_least(kind: str, pruned: float) -> None:
    for seed, count in ((0, 60), (1, 700)):
        weight = SAMPLES[kind](np.random.default_rng(seed), count).astype(np.float32)[:, None]
        weight[np.abs(weight) < np.quantile(np.abs(weight), pruned)] = 0
        kept = weight[weight != 0]
        for clusters in (2, 3, 5, 8, 16, 31, 64, 100, 256):
            entries, _, decoded = shared(weight, clusters)
            error = ((decoded - weight).astype(np.float64) ** 2).sum()
            rounding = 1e-12 * (kept.astype(np.float64) ** 2).sum()
            assert len(entries) <= clusters
            assert error <= 1.01 * least_error(kept, clusters) + rounding


@pytest.mark.parametrize("kind", SAMPLES)
def test_every_weight_takes_its_nearest_entry_and_zero_stays_zero(kind: str) -> None:
    weight = SAMPLES[kind](np.random.default_rng(3), 3000).astype(np.float32).reshape(60, 50)
    weight[::7] = 0
    entries, symbols, decoded = shared(weight, 12)
    assert np.array_equal(symbols == 0, weight == 0)
    distance = np.abs(weight[..., None].astype(np.float64) - entries.astype(np.float64)).min(axis=-1)
    nonzero = weight != 0
    assert np.array_equal(np.abs(weight.astype(np.float64) - decoded)[nonzero], distance[nonzero])


def test_order_of_the_weights_does_not_matter() -> None:
    rng = np.random.default_rng(4)
    weight = rng.standard_t(3, (40, 30)).astype(np.float32)
    shuffled = rng.permutation(weight.reshape(-1)).reshape(weight.shape)
    assert np.array_equal(shared(weight, 20)[0], shared(shuffled, 20)[0])


@pytest.mark.parametrize("factor", [0.5, 4.0, 2.0**-20])
def test_scaling_by_a_power_of_two_scales_the_entries(factor: float) -> None:
    weight = np.random.default_rng(5).laplace(size=(50, 20)).astype(np.float32)
    assert np.array_equal(shared(weight * np.float32(factor), 16)[0], shared(weight, 16)[0] * np.float32(factor))


@pytest.mark.parametrize("clusters", [2, 3, 256])
def test_few_distinct_weights_are_kept_as_they_are(clusters: int) -> None:
    weight = np.array([[1.5, -2.0, 1.5], [0.0, -2.0, 1.5]], np.float32)
    entries, _, decoded = shared(weight, clusters)
    assert entries.tolist() == [-2.0, 1.5]
    assert np.array_equal(decoded, weight)


def test_256_entries_need_symbols_of_16_bits() -> None:
    weight = np.arange(1, 301, dtype=np.float32).reshape(30, 10)
    entries, symbols, _ = shared(weight, 256)
    assert len(entries) == 256 and symbols.dtype == np.uint16 and symbols.max() == 256


def test_a_layer_without_survivors_has_no_entries() -> None:
    entries, symbols, _ = shared(np.zeros((3, 4), np.float32), 8)
    assert len(entries) == 0 and not symbols.any() and symbols.dtype == np.uint8
