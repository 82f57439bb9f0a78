import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from paretoscope.methods import binarize
from paretoscope.model.tensors import Integers
from paretoscope.recipe.recipe import GRANULARITIES, Quantize

# All of them mean the mean magnitude.
CALIBRATIONS = ("range", "mse", "rate")

examples = settings(derandomize=True, deadline=None, database=None, max_examples=80)

POSITIVE = st.floats(2.0**-40, 2.0**40, width=32)
WEIGHTS = arrays.arrays(
    np.float32,
    arrays.array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=6),
    elements=POSITIVE | POSITIVE.map(lambda value: -value),
)
SETTINGS = st.builds(Quantize, st.just(1), st.sampled_from(GRANULARITIES), st.sampled_from(CALIBRATIONS))


def binarized(weight: np.ndarray, settings: Quantize, kept: np.ndarray | None = None) -> Integers:
    weight = weight if kept is None else np.where(kept, weight, np.float32(0))
    return binarize.apply(weight, kept, settings)


def alpha_by_hand(values: list[float]) -> np.float32:
    return np.float32(math.fsum(abs(value) for value in values) / len(values))


def test_by_hand():
    weight = np.float32([[1, -2, 3], [-4, 0.5, 0]])
    for granularity, calibration, alpha in [
        ("channel", "range", [2, 1.5]),
        ("channel", "mse", [2, 1.5]),
        ("tensor", "range", 1.75),
        ("tensor", "mse", 1.75),
    ]:
        tensor = binarized(weight, Quantize(1, granularity, calibration))
        assert tensor.codes.tolist() == [[1, -1, 1], [-1, 1, 1]]
        assert tensor.scale.tolist() == alpha


def test_pruned_weights_by_hand():
    weight = np.float32([[1, -2, 3], [-4, 0.5, 6]])
    kept = np.array([[False, True, True], [True, False, False]])
    for granularity, alpha in [("channel", [2.5, 4]), ("tensor", 3)]:
        tensor = binarized(weight, Quantize(1, granularity, "mse"), kept)
        assert tensor.codes.tolist() == [[0, -1, 1], [-1, 0, 0]]
        assert tensor.scale.tolist() == alpha


@given(WEIGHTS, SETTINGS)
@examples
def test_closed_form(weight, settings):
    tensor = binarized(weight, settings)
    assert tensor.bits == 1 and tensor.codes.dtype == np.int8 and tensor.scale.dtype == np.float32
    assert np.array_equal(tensor.codes, np.sign(weight))
    rows = weight if settings.granularity == "channel" else [weight]
    alphas = [alpha_by_hand(np.reshape(row, -1).tolist()) for row in rows]
    assert tensor.scale.shape == ((len(weight),) if settings.granularity == "channel" else ())
    assert np.allclose(tensor.scale.reshape(-1), alphas, rtol=2e-7, atol=0)


@pytest.mark.slow
@given(WEIGHTS, st.sampled_from(GRANULARITIES), st.booleans())
@examples
def test_mean_magnitude_is_the_alpha_of_least_squares(weight, granularity, prune):
    kept = np.arange(weight.size).reshape(weight.shape) % 3 != 1 if prune else None
    tensor = binarized(weight, Quantize(1, granularity, "mse"), kept)
    target = (weight if kept is None else np.where(kept, weight, 0)).astype(np.float64)
    rows = len(weight) if granularity == "channel" else 1
    target, codes = target.reshape(rows, -1), tensor.codes.reshape(rows, -1).astype(np.float64)
    used = codes.any(axis=1)
    solution = (codes * target).sum(axis=1)[used] / (codes * codes).sum(axis=1)[used]
    assert np.allclose(tensor.scale.reshape(-1)[used], solution, rtol=2e-7, atol=0)


@pytest.mark.slow
@given(WEIGHTS, st.sampled_from(GRANULARITIES))
@examples
def test_it_is_never_worse_than_zeros(weight, granularity):
    error = np.square(weight.astype(np.float64) - binarized(weight, Quantize(1, granularity)).decode()).sum()
    assert error <= np.square(weight.astype(np.float64)).sum() * (1 + 1e-6)


@pytest.mark.slow
@given(WEIGHTS, SETTINGS, st.integers(-40, 40))
@examples
def test_scaling_by_a_power_of_two(weight, settings, exponent):
    factor = np.float32(2.0**exponent)
    one, other = binarized(weight, settings), binarized(weight * factor, settings)
    assert np.array_equal(one.codes, other.codes) and np.array_equal(one.scale * factor, other.scale)


@pytest.mark.slow
@given(WEIGHTS, SETTINGS)
@examples
def test_signs_flip_with_the_weights(weight, settings):
    one, other = binarized(weight, settings), binarized(-weight, settings)
    assert np.array_equal(one.codes, -other.codes) and np.array_equal(one.scale, other.scale)


@pytest.mark.slow
@given(WEIGHTS, SETTINGS, st.randoms(use_true_random=False))
@examples
def test_order_does_not_matter(weight, settings, random):
    settings = Quantize(1, "tensor", settings.calibration)
    order = random.sample(range(weight.size), weight.size)
    one = binarized(weight, settings).decode().reshape(-1)[order]
    other = binarized(weight.reshape(-1)[order], settings).decode()
    assert np.allclose(one, other, rtol=2e-7, atol=0)


@pytest.mark.slow
@given(WEIGHTS, SETTINGS)
@examples
def test_a_channel_knows_nothing_of_the_others(weight, settings):
    settings = Quantize(1, "channel", settings.calibration)
    decoded = binarized(weight, settings).decode()
    for i in range(len(weight)):
        assert np.array_equal(decoded[i], binarized(weight[i : i + 1], settings).decode()[0])


@pytest.mark.slow
@given(WEIGHTS, SETTINGS)
@examples
def test_two_values_are_their_own_binarization(weight, settings):
    once = binarized(weight, settings)
    twice = binarized(once.decode(), settings)
    assert np.array_equal(once.codes, twice.codes)
    assert np.allclose(once.scale, twice.scale, rtol=2e-7, atol=0)


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("calibration", CALIBRATIONS)
class TestDegenerate:
    def test_an_unpruned_zero_takes_the_positive_value(self, granularity, calibration):
        tensor = binarized(np.float32([[0.0, -0.0, -3]]), Quantize(1, granularity, calibration))
        assert tensor.codes.tolist() == [[1, 1, -1]]
        assert tensor.scale.reshape(-1).tolist() == [1]

    def test_all_zeros_stay_zeros(self, granularity, calibration):
        tensor = binarized(np.zeros((2, 3), np.float32), Quantize(1, granularity, calibration))
        assert tensor.decode().tolist() == [[0, 0, 0], [0, 0, 0]]

    def test_all_pruned_is_all_zeros(self, granularity, calibration):
        weight = np.ones((2, 3), np.float32)
        tensor = binarized(weight, Quantize(1, granularity, calibration), np.zeros((2, 3), bool))
        assert tensor.decode().tolist() == [[0, 0, 0], [0, 0, 0]] and np.isfinite(tensor.scale).all()

    @pytest.mark.parametrize("value", [1e-45, -1e-45, 0.3, np.finfo(np.float32).max, -np.finfo(np.float32).max])
    def test_one_weight_and_constants_lose_nothing(self, value, granularity, calibration):
        for shape in [(1,), (3, 4)]:
            weight = np.full(shape, value, np.float32)
            assert np.array_equal(binarized(weight, Quantize(1, granularity, calibration)).decode(), weight)

    def test_is_pure(self, granularity, calibration):
        weight, kept = np.float32([[1, -2], [3, 0]]), np.array([[True, False], [True, True]])
        before = weight.tobytes(), kept.tobytes()
        binarized(weight, Quantize(1, granularity, calibration), kept)
        binarize.apply(weight, None, Quantize(1, granularity, calibration))
        assert (weight.tobytes(), kept.tobytes()) == before


class TestGrid:
    ENTRIES, COUNTS = np.float32([-3, -1, 2]), np.array([1, 2, 5])

    @pytest.mark.parametrize("calibration", CALIBRATIONS)
    def test_the_scale_is_the_mean_over_the_weights(self, calibration):
        tensor = binarize.grid(self.ENTRIES, self.COUNTS, Quantize(1, "channel", calibration))
        assert tensor.codes.tolist() == [-1, -1, 1] and tensor.scale.shape == ()
        assert tensor.scale == np.float32((3 + 2 + 10) / 8)
        assert tensor.bits == 1 and tensor.codes.dtype == np.int8

    @given(st.lists(st.tuples(POSITIVE, st.booleans(), st.integers(1, 50)), min_size=1, max_size=8))
    @examples
    def test_counts_weigh_as_if_the_weights_were_there(self, rows):
        entries = np.float32([-value if negative else value for value, negative, _ in rows])
        counts = np.array([count for _, _, count in rows])
        tensor = binarize.grid(entries, counts, Quantize(1, "tensor", "mse"))
        whole = binarized(np.repeat(entries, counts), Quantize(1, "tensor", "mse"))
        assert float(tensor.scale) == pytest.approx(float(whole.scale), rel=2e-7)
        assert np.array_equal(np.repeat(tensor.codes, counts), whole.codes)


THRESHOLDS = st.sampled_from([0.2, 0.7, 1.0, 3.0])


def rows_of(weight: np.ndarray, granularity: str) -> np.ndarray:
    return weight.reshape(len(weight) if granularity == "channel" else 1, -1)


class TestTernary:
    def test_by_hand(self):
        """Means 2 and 10: with 0.7 what is below 1.4 and 7 goes."""
        weight = np.float32([[1, -2, 3, 1.5, 2.5], [-30, 6.5, 0, 12, 1.5]])
        codes = [[0, -1, 1, 1, 1], [-1, 0, 0, 1, 0]]
        mean = binarized(weight, Quantize(1, calibration="mse", ternary=0.7))
        assert mean.codes.tolist() == codes and mean.scale.tolist() == [2.25, 21]

    @pytest.mark.slow
    @given(WEIGHTS, SETTINGS, THRESHOLDS, st.booleans())
    @examples
    def test_slow_twin(self, weight, settings, threshold, prune):
        settings = dataclasses.replace(settings, ternary=threshold)
        kept = np.arange(weight.size).reshape(weight.shape) % 3 != 1 if prune else None
        tensor = binarized(weight, settings, kept)
        rows = rows_of(weight, settings.granularity).tolist()
        alive = rows_of(np.ones_like(weight) if kept is None else kept, settings.granularity).tolist()
        for row, there, codes, alpha in zip(
            rows, alive, tensor.codes.reshape(len(rows), -1).tolist(), tensor.scale.reshape(-1).tolist(), strict=True
        ):
            values = [abs(value) for value, is_there in zip(row, there, strict=True) if is_there]
            mean = math.fsum(values) / max(len(values), 1)
            if any(value == pytest.approx(threshold * mean, rel=1e-6) for value in values):
                continue
            assert codes == [
                int(math.copysign(1, value)) if is_there and abs(value) >= threshold * mean else 0
                for value, is_there in zip(row, there, strict=True)
            ]
            survivors = [value for value in values if value >= threshold * mean]
            if survivors and settings.calibration == "mse":
                assert alpha == pytest.approx(math.fsum(survivors) / len(survivors), rel=1e-6)
            elif survivors:
                assert alpha >= max(survivors)

    @given(WEIGHTS, st.sampled_from(GRANULARITIES), THRESHOLDS)
    @examples
    def test_alpha_is_that_of_least_squares_for_its_codes(self, weight, granularity, threshold):
        tensor = binarized(weight, Quantize(1, granularity, "mse", ternary=threshold))
        rows, codes = (rows_of(part, granularity).astype(np.float64) for part in (weight, tensor.codes))
        used = codes.any(axis=1)
        solution = (codes * rows).sum(axis=1)[used] / (codes * codes).sum(axis=1)[used]
        assert np.allclose(tensor.scale.reshape(-1)[used], solution, rtol=2e-7, atol=0)

    @pytest.mark.parametrize("draw", ["normal", "laplace"])
    def test_beats_binary_on_bell_shapes(self, draw):
        weight = getattr(np.random.default_rng(3), draw)(size=(4, 500)).astype(np.float32)
        binary, ternary = (
            np.square(weight - binarized(weight, Quantize(1, calibration="mse", ternary=t)).decode()).sum()
            for t in (0.0, 0.7)
        )
        assert ternary < 0.7 * binary

    @pytest.mark.parametrize("granularity", GRANULARITIES)
    @pytest.mark.parametrize("calibration", CALIBRATIONS)
    def test_where_nothing_is_left(self, granularity, calibration):
        settings = Quantize(1, granularity, calibration, ternary=1.5)
        assert not binarized(np.ones((2, 3), np.float32), settings).codes.any()
        for weight in (np.zeros((2, 3), np.float32), np.full((2, 3), -0.0, np.float32)):
            tensor = binarized(weight, settings)
            assert not tensor.codes.any() and np.isfinite(tensor.scale).all()

    def test_an_unpruned_zero_is_zero(self):
        assert binarized(np.float32([[0, 1, -1]]), Quantize(1, ternary=1e-9)).codes.tolist() == [[0, 1, -1]]

    def test_grid_of_a_codebook_weighs_its_entries(self):
        entries, counts = np.float32([-4, -1, 2]), np.array([1, 10, 1])
        tensor = binarize.grid(entries, counts, Quantize(1, calibration="mse", ternary=0.9))
        assert tensor.codes.tolist() == [-1, 0, 1] and tensor.scale == 3  # 0.9 times the mean 16 / 12 is 1.2
        assert binarize.grid(entries, counts, Quantize(1, ternary=0.9)).scale == 3

    def test_grid_whose_survivors_no_weight_uses(self):
        tensor = binarize.grid(np.float32([1, 9]), np.array([3, 0]), Quantize(1, calibration="mse", ternary=2))
        assert tensor.codes.tolist() == [0, 1] and tensor.scale == 0

    def test_grid_where_nothing_is_left(self):
        tensor = binarize.grid(np.float32([1]), np.array([3]), Quantize(1, calibration="mse", ternary=2))
        assert tensor.codes.tolist() == [0] and tensor.scale == 0


class TestPowerOfTwo:
    @pytest.mark.slow
    @given(WEIGHTS, SETTINGS)
    @examples
    def test_is_the_nearest_in_the_logarithm(self, weight, settings):
        plain = binarized(weight, settings)
        rounded = binarized(weight, dataclasses.replace(settings, power_of_two=True))
        assert np.array_equal(plain.codes, rounded.codes)
        assert rounded.scale.dtype == np.float32 and rounded.scale.shape == plain.scale.shape
        mantissas, _ = np.frexp(rounded.scale)
        assert (mantissas == 0.5).all()
        ratio = plain.scale.astype(np.float64) / rounded.scale
        assert (ratio <= 2**0.5 * (1 + 1e-7)).all() and (ratio >= 2**-0.5 * (1 - 1e-7)).all()

    @pytest.mark.parametrize("value", [2.0**-149, 2.0**-130, 1.0, 2.0**127])
    def test_a_power_of_two_stays(self, value):
        weight = np.full((2, 2), value, np.float32)
        assert binarized(weight, Quantize(1, power_of_two=True)).scale.tolist() == [value, value]

    def test_the_largest_float_stays_finite_and_zero_stays_zero(self):
        largest = np.full((1, 2), np.finfo(np.float32).max, np.float32)
        assert binarized(largest, Quantize(1, power_of_two=True)).scale.tolist() == [2.0**127]
        assert binarized(np.zeros((1, 2), np.float32), Quantize(1, power_of_two=True)).scale.tolist() == [0]

    def test_grid_of_a_codebook(self):
        tensor = binarize.grid(np.float32([-3, 5]), np.array([1, 1]), Quantize(1, "tensor", power_of_two=True))
        assert tensor.scale.shape == () and tensor.scale == 4 and tensor.codes.tolist() == [-1, 1]
