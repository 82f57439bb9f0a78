import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from paretoscope.methods import clipping, quantize
from paretoscope.model.tensors import Integers
from paretoscope.recipe.recipe import CLIPPINGS, GRANULARITIES, Quantize

examples = settings(derandomize=True, deadline=None, database=None, max_examples=80)

BITS = (2, 3, 4, 6, 8, 9, 16)
NORMAL_FLOATS = st.floats(2.0**-40, 2.0**40, width=32)
WEIGHTS = arrays.arrays(
    np.float32,
    arrays.array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=6),
    elements=st.just(0.0) | NORMAL_FLOATS | NORMAL_FLOATS.map(lambda value: -value),
)
SETTINGS = st.builds(Quantize, st.sampled_from(BITS), st.sampled_from(GRANULARITIES), st.sampled_from(CLIPPINGS))


def quantized(weight: np.ndarray, settings: Quantize) -> Integers:
    return quantize.apply(weight, np.abs(weight).reshape(len(weight), -1).max(axis=1), settings)


def error_of(weight: np.ndarray, tensor: Integers) -> float:
    return float(np.square(weight.astype(np.float64) - tensor.decode()).sum())


def heavy(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_t(3, shape).astype(np.float32)


def by_hand(weight: np.ndarray, bits: int) -> tuple[list[int], float]:
    """Range calibration of one row, value by value, in Python's own floats and banker's rounding."""
    top = 2 ** (bits - 1) - 1
    scale = float(np.float32(max(abs(float(value)) for value in weight)) / np.float32(top)) or 1.0
    codes = [round(float(np.float32(value) / np.float32(scale))) for value in weight]
    return [min(max(code, -top), top) for code in codes], scale


def least_error_by_scan(row: np.ndarray, bits: int, steps: int = 2000) -> float:
    """The least squared error over a fine scan of clipping ranges, from all of the range to a 64th of it."""
    row = row.astype(np.float64)
    top = 2 ** (bits - 1) - 1
    errors = []
    for ratio in np.geomspace(1 / 64, 1, steps):
        scale = np.abs(row).max() / top * ratio
        codes = np.clip(np.rint(row / scale), -top, top)
        errors.append(np.square(row - codes * scale).sum())
    return min(errors)


@pytest.mark.parametrize(("bits", "top"), [(2, 1), (3, 3), (4, 7), (8, 127), (16, 32767)])
def test_levels(bits, top):
    assert clipping.levels(bits) == top


def test_four_bits_by_hand():
    weight = np.float32([[7, -3.4, 0.5, 1.5], [-14, 2, 1, 14]])
    tensor = quantized(weight, Quantize(4))
    assert tensor.scale.tolist() == [1, 2]
    assert tensor.codes.tolist() == [[7, -3, 0, 2], [-7, 1, 0, 7]]  # halves round to even
    assert tensor.decode().tolist() == [[7, -3, 0, 2], [-14, 2, 0, 14]]
    whole = quantized(weight, Quantize(4, "tensor"))
    assert whole.scale.shape == () and whole.scale == 2
    assert whole.codes.tolist() == [[4, -2, 0, 1], [-7, 1, 0, 7]]


@pytest.mark.slow
@given(WEIGHTS, st.sampled_from(BITS))
@examples
def test_slow_twin_of_the_range(weight, bits):
    whole = quantized(weight, Quantize(bits, "tensor"))
    codes, scale = by_hand(weight.reshape(-1), bits)
    assert whole.codes.reshape(-1).tolist() == codes and float(whole.scale) == scale
    each = quantized(weight, Quantize(bits, "channel"))
    for row, row_codes, row_scale in zip(weight, each.codes, each.scale, strict=True):
        codes, scale = by_hand(row.reshape(-1), bits)
        assert row_codes.reshape(-1).tolist() == codes and float(row_scale) == scale


@pytest.mark.slow
@given(WEIGHTS, SETTINGS)
@examples
def test_form_of_the_result(weight, settings):
    tensor = quantized(weight, settings)
    top = 2 ** (settings.bits - 1) - 1
    assert tensor.bits == settings.bits
    assert tensor.codes.dtype == (np.int16 if settings.bits > 8 else np.int8)
    assert tensor.codes.shape == weight.shape
    assert np.abs(tensor.codes.astype(np.int32)).max() <= top
    assert tensor.scale.dtype == np.float32
    assert tensor.scale.shape == ((len(weight),) if settings.granularity == "channel" else ())
    assert (tensor.scale > 0).all() and np.isfinite(tensor.scale).all()
    assert not tensor.codes[weight == 0].any()
    assert (tensor.codes.astype(np.float32) * weight >= 0).all()


@given(WEIGHTS, st.sampled_from(BITS), st.sampled_from(GRANULARITIES))
@examples
def test_range_reaches_the_largest_weight_and_misses_none_by_more_than_half_a_step(weight, bits, granularity):
    tensor = quantized(weight, Quantize(bits, granularity))
    rows = weight.reshape(len(weight) if granularity == "channel" else 1, -1).astype(np.float64)
    codes = tensor.codes.reshape(rows.shape)
    scale = tensor.scale.reshape(-1, 1).astype(np.float64)
    largest = np.abs(rows).max(axis=1)
    assert (np.abs(codes).max(axis=1)[largest > 0] == clipping.levels(bits)).all()
    # Scale and quotient are float32: of the largest code, a relative 2**-22 comes on top of the half.
    half = scale * (0.5 + clipping.levels(bits) * 2.0**-22)
    assert (np.abs(rows - codes * scale) <= half).all()


@pytest.mark.slow
@given(WEIGHTS, st.sampled_from(BITS), st.sampled_from(GRANULARITIES))
@examples
def test_a_grid_is_its_own_quantization(weight, bits, granularity):
    once = quantized(weight, Quantize(bits, granularity))
    twice = quantized(once.decode(), Quantize(bits, granularity))
    assert np.array_equal(once.codes, twice.codes)
    assert np.allclose(once.decode(), twice.decode(), rtol=1e-6, atol=0)


@pytest.mark.slow
@given(WEIGHTS, SETTINGS, st.integers(-40, 40))
@examples
def test_scaling_by_a_power_of_two(weight, settings, exponent):
    factor = np.float32(2.0**exponent)
    one, other = quantized(weight, settings), quantized(weight * factor, settings)
    assert np.array_equal(one.codes, other.codes)
    used = np.abs(weight).reshape(one.scale.size, -1).max(axis=1) > 0  # all-zero rows have any scale
    assert np.array_equal((one.scale * factor).reshape(-1)[used], other.scale.reshape(-1)[used])


@pytest.mark.slow
@given(WEIGHTS, SETTINGS)
@examples
def test_signs_flip_with_the_weights(weight, settings):
    one, other = quantized(weight, settings), quantized(-weight, settings)
    assert np.array_equal(one.codes, -other.codes) and np.array_equal(one.scale, other.scale)


@pytest.mark.slow
@given(WEIGHTS, st.sampled_from(BITS), st.randoms(use_true_random=False))
@examples
def test_order_does_not_matter(weight, bits, random):
    order = random.sample(range(weight.size), weight.size)
    settings = Quantize(bits, "tensor")
    shuffled = quantized(weight.reshape(-1)[order], settings)
    assert np.array_equal(quantized(weight, settings).decode().reshape(-1)[order], shuffled.decode())


@pytest.mark.slow
@given(WEIGHTS, SETTINGS)
@examples
def test_a_channel_knows_nothing_of_the_others(weight, settings):
    # Channels as small as these share the clip ratio of the tensor under "kl".
    settings = Quantize(settings.bits, "channel", settings.calibration if settings.calibration != "kl" else "mse")
    tensor = quantized(weight, settings)
    for i in range(len(weight)):
        alone = quantized(weight[i : i + 1], settings)
        assert np.array_equal(tensor.decode()[i], alone.decode()[0])
        whole = quantized(weight[i : i + 1], Quantize(settings.bits, "tensor", settings.calibration))
        assert np.array_equal(whole.decode(), alone.decode())


@pytest.mark.slow
@given(WEIGHTS, SETTINGS)
@examples
def test_pruned_weights_stay_pruned(weight, settings):
    kept = np.arange(weight.size).reshape(weight.shape) % 3 == 0
    tensor = quantize.apply(
        np.where(kept, weight, np.float32(0)), np.abs(weight).reshape(len(weight), -1).max(axis=1), settings
    )
    assert not tensor.codes[~kept].any()


@pytest.mark.slow
@given(WEIGHTS, SETTINGS)
@examples
def test_is_pure(weight, settings):
    before, largest = weight.tobytes(), np.abs(weight).reshape(len(weight), -1).max(axis=1)
    one, other = quantize.apply(weight, largest, settings), quantize.apply(weight, largest, settings)
    assert weight.tobytes() == before
    assert np.array_equal(one.codes, other.codes) and np.array_equal(one.scale, other.scale)


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("calibration", CLIPPINGS)
@pytest.mark.parametrize("bits", BITS)
class TestDegenerate:
    def test_all_zeros(self, bits, granularity, calibration):
        tensor = quantized(np.zeros((3, 4), np.float32), Quantize(bits, granularity, calibration))
        assert not tensor.codes.any() and (tensor.scale > 0).all()

    @pytest.mark.parametrize("value", [0.3, -7.0, 1e-20, -1e20, 1e38])
    def test_one_weight_and_constant_layers_lose_nothing(self, value, bits, granularity, calibration):
        for shape in [(1,), (2, 3)]:
            tensor = quantized(np.full(shape, value, np.float32), Quantize(bits, granularity, calibration))
            assert np.allclose(tensor.decode(), np.float32(value), rtol=2e-7, atol=0)

    def test_a_row_of_zeros_among_others(self, bits, granularity, calibration):
        weight = np.float32([[0, 0], [1, -1]])
        decoded = quantized(weight, Quantize(bits, granularity, calibration)).decode()
        assert np.allclose(decoded, weight, rtol=2e-7, atol=0)

    @pytest.mark.parametrize("magnitude", [1e-30, 1e30])
    def test_tiny_and_huge_magnitudes_are_as_good_as_others(self, magnitude, bits, granularity, calibration):
        settings = Quantize(bits, granularity, calibration)
        weight = heavy(1, 4, 25)
        factor = np.float32(2.0 ** round(np.log2(magnitude)))
        assert np.array_equal(quantized(weight, settings).codes, quantized(weight * factor, settings).codes)

    def test_the_largest_float_stays_finite(self, bits, granularity, calibration):
        weight = np.float32([[np.finfo(np.float32).max, 1.0]])
        decoded = quantized(weight, Quantize(bits, granularity, calibration)).decode()
        assert np.isfinite(decoded).all()

    def test_magnitudes_near_the_smallest_float(self, bits, granularity, calibration):
        """Too small for a scale of their own, they may become zero; nothing becomes larger than it was."""
        weight = np.float32([[1e-45, -3e-45], [1e-44, 1e-45]])
        decoded = quantized(weight, Quantize(bits, granularity, calibration)).decode()
        assert np.isfinite(decoded).all() and np.abs(decoded).max() <= 1e-44


class TestLeastError:
    @pytest.mark.slow
    @given(WEIGHTS, st.sampled_from(BITS), st.sampled_from(GRANULARITIES))
    @examples
    def test_never_worse_than_the_range(self, weight, bits, granularity):
        best, plain = (error_of(weight, quantized(weight, Quantize(bits, granularity, c))) for c in ("mse", "range"))
        # At many bits a rounding of the quotient may pick the other of two codes that are equally near.
        assert best <= plain * (1 + (1e-3 if bits > 8 else 1e-6))

    @pytest.mark.parametrize("bits", BITS)
    @pytest.mark.parametrize("magnitude", [1e-44, 1e-40, 1e-38, 1e-36, 1e-30, 1e30, 1e37])
    def test_never_worse_at_any_magnitude(self, magnitude, bits):
        """Channels that training let die hold weights whose scale is smaller than the least normal float."""
        weight = (heavy(2, 1, 200) * magnitude).astype(np.float32)
        best, plain = (error_of(weight, quantized(weight, Quantize(bits, "tensor", c))) for c in ("mse", "range"))
        assert best <= plain * (1 + (1e-3 if bits > 8 else 1e-6))

    @pytest.mark.parametrize("bits", BITS)
    @pytest.mark.parametrize(
        "draw",
        [
            lambda rng: rng.normal(size=1500),
            lambda rng: rng.laplace(size=1500),
            lambda rng: rng.standard_t(2, 1500),
            lambda rng: rng.uniform(-1, 1, 1500),
            lambda rng: rng.lognormal(0, 1, 1500),
            lambda rng: np.where(rng.random(1500) < 0.8, 0, rng.normal(size=1500)),
        ],
        ids=["normal", "laplace", "student", "uniform", "lognormal", "pruned"],
    )
    def test_near_the_best_of_a_fine_scan(self, draw, bits):
        row = draw(np.random.default_rng(bits)).astype(np.float32)
        error = error_of(row[None], quantized(row[None], Quantize(bits, "channel", "mse")))
        assert error <= 1.01 * least_error_by_scan(row, bits)

    def test_clips_an_outlier_that_would_cost_all_the_others(self):
        weight = np.append(np.linspace(-1, 1, 999), 16).astype(np.float32)[None]
        best, plain = (quantized(weight, Quantize(4, "tensor", c)) for c in ("mse", "range"))
        assert best.scale < plain.scale / 1.5
        assert error_of(weight, best) < 0.8 * error_of(weight, plain)

    def test_two_bits_of_a_symmetric_pair_by_hand(self):
        """Codes -1, 0, 1: with weights 1 and n times 1/4 the best scale is 1 until the small ones outweigh it."""
        few = np.float32([[1, 0.25]])
        many = np.float32([[1, *[0.25] * 200]])
        assert quantized(few, Quantize(2, "tensor", "mse")).scale == pytest.approx(1, rel=0.02)
        assert quantized(many, Quantize(2, "tensor", "mse")).scale == pytest.approx(0.25, rel=0.03)

    def test_zeros_do_not_weigh(self):
        weight = heavy(3, 1, 300)
        padded = np.concatenate([weight, np.zeros((1, 700), np.float32)], axis=1)
        settings = Quantize(4, "channel", "mse")
        assert quantized(weight, settings).scale == quantized(padded, settings).scale


class TestGrid:
    ENTRIES = np.float32([-1.2, -0.3, 0.05, 0.4, 2.1])

    @pytest.mark.parametrize("bits", BITS)
    @pytest.mark.parametrize("calibration", CLIPPINGS)
    @pytest.mark.parametrize("granularity", GRANULARITIES)
    def test_is_one_scale_of_codes(self, bits, calibration, granularity):
        counts = np.array([5, 100, 1000, 80, 2])
        tensor = quantize.grid(self.ENTRIES, counts, Quantize(bits, granularity, calibration))
        assert tensor.scale.shape == () and tensor.codes.shape == (5,) and tensor.bits == bits
        assert np.abs(tensor.codes.astype(int)).max() <= clipping.levels(bits)
        assert (np.diff(tensor.decode()) >= 0).all()

    def test_range_by_hand(self):
        tensor = quantize.grid(np.float32([-7, 3.4, 0.4]), np.ones(3, np.int64), Quantize(4))
        assert tensor.codes.tolist() == [-7, 3, 0] and tensor.scale == 1

    @pytest.mark.parametrize("bits", [2, 3, 4, 8])
    def test_counts_weigh_as_if_the_weights_were_there(self, bits):
        counts = np.array([5, 100, 1000, 80, 2])
        settings = Quantize(bits, "tensor", "mse")
        tensor = quantize.grid(self.ENTRIES, counts, settings)
        spread = np.repeat(self.ENTRIES, counts)[None]
        assert float(tensor.scale) == pytest.approx(float(quantized(spread, settings).scale), rel=1e-6)

    def test_counts_move_the_scale(self):
        entries, settings = np.float32([0.25, 1]), Quantize(2, "tensor", "mse")
        assert quantize.grid(entries, np.array([1, 1]), settings).scale == pytest.approx(1, rel=0.02)
        assert quantize.grid(entries, np.array([200, 1]), settings).scale == pytest.approx(0.25, rel=0.03)

    @pytest.mark.parametrize("calibration", CLIPPINGS)
    def test_one_entry(self, calibration):
        tensor = quantize.grid(np.float32([-0.7]), np.array([9]), Quantize(8, "channel", calibration))
        assert tensor.decode().tolist() == pytest.approx([-0.7], rel=2e-7)


def nearest_rank(values: np.ndarray, percentile: float) -> float:
    return float(np.percentile(np.abs(values[values != 0]).astype(np.float64), percentile))


class TestPercentile:
    @pytest.mark.slow
    @given(WEIGHTS, st.sampled_from(BITS), st.sampled_from(GRANULARITIES), st.floats(50.1, 100))
    @examples
    def test_is_numpys_of_the_magnitudes_that_are_not_zero(self, weight, bits, granularity, percentile):
        settings = Quantize(bits, granularity, "percentile", percentile)
        tensor = quantized(weight, settings)
        rows = weight.reshape(tensor.scale.size, -1)
        for row, scale in zip(rows, tensor.scale.reshape(-1), strict=True):
            if row.any():
                assert scale == pytest.approx(nearest_rank(row, percentile) / clipping.levels(bits), rel=1e-6)

    @pytest.mark.slow
    @given(WEIGHTS, st.sampled_from(BITS), st.sampled_from(GRANULARITIES), st.booleans())
    @examples
    def test_a_hundred_is_the_range(self, weight, bits, granularity, symmetric):
        one, other = (
            quantized(weight, Quantize(bits, granularity, calibration, 100, symmetric=symmetric))
            for calibration in ("percentile", "range")
        )
        assert np.array_equal(one.codes, other.codes) and np.array_equal(one.scale, other.scale)

    def test_by_hand(self):
        """Magnitudes 1..9 and an outlier: at 75 % the place is 6.75, a magnitude of 7.75."""
        weight = np.float32([[1, -2, 3, 4, 5, -6, 7, 8, 9, 1000, 0, 0]])
        tensor = quantized(weight, Quantize(4, "tensor", "percentile", 75))
        assert tensor.scale == pytest.approx(7.75 / 7, rel=1e-6)
        assert tensor.codes.max() == 7 and tensor.decode().max() == pytest.approx(7.75)

    @pytest.mark.parametrize("percentile", [60, 90, 99.9])
    def test_counts_weigh_as_if_the_weights_were_there(self, percentile):
        entries, counts = np.float32([-1.2, -0.3, 0.05, 0.4, 2.1]), np.array([5, 0, 100, 80, 2])
        settings = Quantize(4, "tensor", "percentile", percentile)
        whole = quantized(np.repeat(entries, counts)[None], settings)
        assert quantize.grid(entries, counts, settings).scale == pytest.approx(whole.scale, rel=1e-6)


def divergence_by_hand(magnitudes: np.ndarray, peak: float, kept: int, top: int) -> float:
    """KL divergence of one candidate, bin by bin: outliers join the last bin, and each code's mass is spread evenly."""
    bins = np.minimum((np.abs(magnitudes) / peak * clipping.BINS).astype(int), clipping.BINS - 1)
    histogram = np.bincount(bins, minlength=clipping.BINS).astype(float)
    p = histogram[:kept].copy()
    p[-1] += histogram[kept:].sum()
    middles = np.arange(kept) + 0.5
    codes = np.minimum(np.floor(middles / (kept / top) + 0.5), top)
    q = np.zeros(kept)
    for code in np.unique(codes):
        filled = (codes == code) & (p > 0)
        if filled.any():
            q[filled] = max(histogram[:kept][codes == code].sum(), clipping.ALMOST_NONE) / filled.sum()
    p, q = p[p > 0] / p.sum(), q[p > 0] / histogram[:kept].sum()
    return float((p * np.log(p / q)).sum())


def best_ratio_by_hand(magnitudes: np.ndarray, peak: float, top: int) -> float:
    candidates = range(clipping.BINS, max(top, clipping.BINS // 64), -clipping.BINS_PER_STEP)
    return min(candidates, key=lambda kept: round(divergence_by_hand(magnitudes, peak, kept, top), 9)) / clipping.BINS


class TestDivergence:
    @pytest.mark.parametrize("bits", [2, 3, 4, 8])
    @pytest.mark.parametrize("draw", ["student", "normal", "outlier"])
    def test_slow_twin(self, draw, bits):
        rng = np.random.default_rng(bits)
        row = {
            "student": lambda: rng.standard_t(3, 6000),
            "normal": lambda: rng.normal(size=6000),
            "outlier": lambda: np.append(rng.normal(size=5000), 40),
        }[draw]().astype(np.float32)
        tensor = quantized(row[None], Quantize(bits, "tensor", "kl"))
        peak = float(np.abs(row).max())
        ratio = best_ratio_by_hand(row.astype(np.float64), peak, clipping.levels(bits))
        assert float(tensor.scale) == pytest.approx(ratio * peak / clipping.levels(bits), rel=1e-6)

    def test_an_outlier_is_clipped(self):
        row = np.append(np.random.default_rng(0).normal(size=20_000), 60).astype(np.float32)[None]
        assert quantized(row, Quantize(8, "tensor", "kl")).decode().max() < 10

    def test_zeros_do_not_weigh(self):
        weight = heavy(5, 1, 4000)
        padded = np.concatenate([weight, np.zeros((1, 9000), np.float32)], axis=1)
        settings = Quantize(4, "channel", "kl")
        assert quantized(weight, settings).scale == quantized(padded, settings).scale

    def test_small_channels_share_the_ratio_of_the_tensor(self):
        weight = heavy(6, 20, 500) * np.logspace(-3, 3, 20, dtype=np.float32)[:, None]
        tensor = quantized(weight, Quantize(4, "channel", "kl"))
        ratios = tensor.scale * 7 / np.abs(weight).max(axis=1)
        assert np.allclose(ratios, ratios[0], rtol=1e-6) and ratios[0] < 1
        scaled = (weight / np.abs(weight).max(axis=1, keepdims=True)).reshape(1, -1)
        assert ratios[0] == pytest.approx(float(quantized(scaled, Quantize(4, "tensor", "kl")).scale) * 7, rel=1e-6)

    def test_large_channels_have_their_own(self):
        weight = np.stack([heavy(7, 3000), np.random.default_rng(8).uniform(-1, 1, 3000).astype(np.float32)])
        tensor = quantized(weight, Quantize(4, "channel", "kl"))
        for row in range(2):
            alone = quantized(weight[row : row + 1], Quantize(4, "channel", "kl"))
            assert tensor.scale[row] == alone.scale[0]

    @pytest.mark.parametrize("bits", [2, 4, 8])
    @pytest.mark.parametrize("shape", [(3, 3), (1, 1), (2, 900)])
    @pytest.mark.parametrize("symmetric", [True, False])
    def test_too_few_weights_for_a_histogram_are_clipped_for_the_least_error(self, shape, bits, symmetric):
        weight = np.random.default_rng(bits).normal(size=shape).astype(np.float32)
        for granularity in GRANULARITIES:
            one, other = (quantized(weight, Quantize(bits, granularity, c, symmetric=symmetric)) for c in ("kl", "mse"))
            np.testing.assert_array_equal(one.decode(), other.decode())

    def test_few_values_are_clipped_for_the_least_error_however_many_weights_have_them(self):
        entries, counts = np.float32([-3, -2, -1, -0.5, 0.5, 1, 2, 3]), np.array([4, 90, 900, 4000, 4000, 900, 90, 4])
        one, other = (quantize.grid(entries, counts, Quantize(4, "tensor", c)) for c in ("kl", "mse"))
        assert one.scale == other.scale

    @pytest.mark.parametrize("bits", [9, 11, 13, 14, 16])
    def test_more_codes_than_bins_clip_nothing(self, bits):
        weight = heavy(9, 2, 3000)
        one, other = (quantized(weight, Quantize(bits, "channel", c)) for c in ("kl", "range"))
        assert np.array_equal(one.codes, other.codes)

    def test_counts_weigh_as_if_the_weights_were_there(self):
        rng = np.random.default_rng(10)
        entries, counts = np.sort(rng.normal(size=200)).astype(np.float32), rng.integers(1, 50, 200)
        settings = Quantize(4, "tensor", "kl")
        whole = quantized(np.repeat(entries, counts)[None], settings)
        assert quantize.grid(entries, counts, settings).scale == whole.scale


AFFINE = st.builds(
    Quantize,
    st.sampled_from(BITS),
    st.sampled_from(GRANULARITIES),
    st.sampled_from(CLIPPINGS),
    symmetric=st.just(False),
)


class TestAsymmetric:
    def test_by_hand(self):
        """Range -1 .. 14 in 15 steps of 1: zero lies one step above the least code, -8."""
        tensor = quantized(np.float32([[-1, 0, 0.4, 7.6, 14]]), Quantize(4, symmetric=False))
        assert tensor.scale.tolist() == [1] and tensor.zero.tolist() == [-7]
        assert tensor.codes.tolist() == [[-8, -7, -7, 1, 7]]
        assert tensor.decode().tolist() == [[-1, 0, 0, 8, 14]]

    def test_weights_of_one_sign_use_all_codes_on_their_side(self):
        weight = np.float32([[3, 6, 9, 45], [-3, -6, -9, -45]])
        tensor = quantized(weight, Quantize(4, symmetric=False))
        assert tensor.zero.tolist() == [-8, 7] and tensor.scale.tolist() == [3, 3]
        assert tensor.codes.tolist() == [[-7, -6, -5, 7], [6, 5, 4, -8]]
        assert np.array_equal(tensor.decode(), weight)

    @pytest.mark.slow
    @given(WEIGHTS, AFFINE)
    @examples
    def test_form_of_the_result(self, weight, settings):
        tensor = quantized(weight, settings)
        top = clipping.levels(settings.bits)
        kind = np.int16 if settings.bits > 8 else np.int8
        assert tensor.codes.dtype == tensor.zero.dtype == kind and tensor.scale.dtype == np.float32
        assert tensor.zero.shape == tensor.scale.shape
        assert tensor.scale.shape == ((len(weight),) if settings.granularity == "channel" else ())
        assert (tensor.scale > 0).all() and np.isfinite(tensor.scale).all()
        for codes in (tensor.codes, tensor.zero):
            assert codes.min() >= -top - 1 and codes.max() <= top
        decoded = tensor.decode()
        assert decoded.dtype == np.float32 and np.isfinite(decoded).all()
        assert not decoded[weight == 0].any()
        assert (decoded * np.sign(weight) >= 0).all()

    @given(WEIGHTS, st.sampled_from(BITS), st.sampled_from(GRANULARITIES))
    @examples
    def test_misses_none_by_more_than_a_step(self, weight, bits, granularity):
        """Half a step for rounding the weight, and at the ends half a step for rounding the zero point."""
        tensor = quantized(weight, Quantize(bits, granularity, symmetric=False))
        rows = weight.reshape(tensor.scale.size, -1).astype(np.float64)
        scale = tensor.scale.reshape(-1, 1).astype(np.float64)
        miss = np.abs(rows - tensor.decode().reshape(rows.shape))
        assert (miss <= scale * (1 + 2.0**bits * 2.0**-22)).all()
        inside = np.abs(tensor.codes.reshape(rows.shape) + 0.5) < clipping.levels(bits)
        assert (miss <= scale * (0.5 + 2.0**bits * 2.0**-22))[inside].all()

    @pytest.mark.slow
    @given(WEIGHTS, AFFINE)
    @examples
    def test_pruned_weights_stay_pruned(self, weight, settings):
        kept = np.arange(weight.size).reshape(weight.shape) % 3 == 0
        assert not quantized(np.where(kept, weight, np.float32(0)), settings).decode()[~kept].any()

    @given(WEIGHTS, AFFINE, st.integers(-40, 40))
    @examples
    def test_scaling_by_a_power_of_two(self, weight, settings, exponent):
        one, other = quantized(weight, settings), quantized(weight * np.float32(2.0**exponent), settings)
        assert np.array_equal(one.codes, other.codes) and np.array_equal(one.zero, other.zero)

    @pytest.mark.parametrize(
        ("bits", "calibration"), [(2, "mse"), (4, "mse"), *((b, c) for b in (2, 4, 8) for c in ("percentile", "kl"))]
    )
    def test_clipping_is_at_one_magnitude(self, bits, calibration):
        """An outlier on one side is clipped; the other side, which is shorter than that, keeps its full length."""
        weight = np.append(np.random.default_rng(bits).uniform(-0.5, 1, 20_000), 30).astype(np.float32)[None]
        tensor = quantized(weight, Quantize(bits, "tensor", calibration, 99.9, symmetric=False))
        steps = -(2 ** (bits - 1)) - int(tensor.zero), clipping.levels(bits) - int(tensor.zero)
        low, high = (step * float(tensor.scale) for step in steps)
        assert high < 3
        assert low <= -0.5 + float(tensor.scale)

    @pytest.mark.slow
    @given(WEIGHTS, st.sampled_from(BITS), st.sampled_from(GRANULARITIES))
    @examples
    def test_least_error_is_never_worse_than_the_range(self, weight, bits, granularity):
        best, plain = (
            error_of(weight, quantized(weight, Quantize(bits, granularity, c, symmetric=False)))
            for c in ("mse", "range")
        )
        assert best <= plain * (1 + (1e-3 if bits > 8 else 1e-6))

    @pytest.mark.parametrize("bits", [2, 3, 4, 8])
    def test_near_the_best_of_a_fine_scan(self, bits):
        row = (heavy(11, 1500) + np.float32(0.8)).astype(np.float64)
        error = error_of(
            row[None].astype(np.float32),
            quantized(row[None].astype(np.float32), Quantize(bits, "channel", "mse", symmetric=False)),
        )
        errors = []
        for clip in np.abs(row).max() * np.geomspace(1 / 64, 1, 1500):
            low, high = max(row.min(), -clip), min(row.max(), clip)
            scale = (high - low) / (2**bits - 1)
            zero = np.rint(-(2 ** (bits - 1)) - low / scale)
            steps = np.clip(np.rint(row / scale), -(2 ** (bits - 1)) - zero, 2 ** (bits - 1) - 1 - zero)
            errors.append(np.square(row - steps * scale).sum())
        assert error <= 1.02 * min(errors)

    @pytest.mark.parametrize("bits", [3, 4, 8, 12])
    def test_halves_the_error_of_weights_of_one_sign(self, bits):
        weight = np.random.default_rng(12).uniform(0, 1, (3, 800)).astype(np.float32)
        one, other = (error_of(weight, quantized(weight, Quantize(bits, symmetric=s))) for s in (True, False))
        assert other < 0.5 * one

    @pytest.mark.parametrize("calibration", CLIPPINGS)
    @pytest.mark.parametrize("granularity", GRANULARITIES)
    @pytest.mark.parametrize("bits", [2, 5, 8, 16])
    def test_degenerate_weights(self, bits, granularity, calibration):
        settings = Quantize(bits, granularity, calibration, symmetric=False)
        for value in (0.3, -7.0, 1e-20, 1e38):
            decoded = quantized(np.full((2, 3), value, np.float32), settings).decode()
            assert np.allclose(decoded, np.float32(value), rtol=3e-7, atol=0)
        assert not quantized(np.zeros((2, 3), np.float32), settings).decode().any()
        tiny = np.float32([[1e-45, -3e-45], [1e-44, 1e-45]])
        assert np.abs(quantized(tiny, settings).decode()).max() <= 1.5e-44
        largest = np.finfo(np.float32).max
        for low in (-largest, -0.6 * largest, -1.0, 0.0):
            assert np.isfinite(quantized(np.float32([[low, largest, 1]]), settings).decode()).all()

    def test_a_codebook_stays_symmetric(self):
        entries = np.float32([1, 2, 14])
        one, other = (quantize.grid(entries, np.ones(3, int), Quantize(4, symmetric=s)) for s in (True, False))
        assert other.zero is None and np.array_equal(one.codes, other.codes) and one.scale == other.scale


class TestScales:
    @pytest.mark.slow
    @given(WEIGHTS, SETTINGS | AFFINE)
    @examples
    def test_are_those_of_apply(self, weight, settings):
        largest = np.abs(weight).reshape(len(weight), -1).max(axis=1)
        scale, zero = quantize.scales(weight, largest, settings)
        tensor = quantize.apply(weight, largest, settings)
        assert np.array_equal(scale, tensor.scale) and scale.shape == tensor.scale.shape
        assert (zero is None) == (tensor.zero is None) == settings.symmetric
        assert zero is None or (np.array_equal(zero, tensor.zero) and zero.shape == scale.shape)

    @pytest.mark.parametrize("calibration", CLIPPINGS)
    def test_asymmetric_is_another_choice_of_the_same_settings(self, calibration):
        weight = heavy(13, 4, 100) + 1
        settings = Quantize(4, "channel", calibration)
        _, zero = quantize.scales(weight, np.abs(weight).max(axis=1), settings)
        _, other = quantize.scales(weight, np.abs(weight).max(axis=1), dataclasses.replace(settings, symmetric=False))
        assert zero is None and other.dtype == np.int8 and (other < 0).any()


@pytest.mark.parametrize("units", [[1, -1], [7, 3], [180, -90, 1], [380, 200], [1000, 511]])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_the_least_floats_keep_their_largest_weight(units, symmetric, bits):
    """Scales of so many of the least float: rounded down they would be 0, or not reach the largest weight."""
    weight = np.float32([units]) * np.float32(1e-45)
    for granularity in GRANULARITIES:
        decoded = quantized(weight, Quantize(bits, granularity, symmetric=symmetric)).decode()
        found = decoded[0] / np.float32(1e-45)
        steps = max(max(units) / clipping.levels(bits), 1)
        assert abs(found[0] - units[0]) <= 1.5 * steps and found[0] > 0


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("calibration", CLIPPINGS)
@pytest.mark.parametrize("bits", [2, 5, 16])
def test_weights_near_the_largest_float_stay_finite(bits, calibration, symmetric):
    draw = np.random.default_rng(bits)
    weight = (draw.uniform(-1, 1, (3, 700)) ** 3 * np.finfo(np.float32).max).astype(np.float32)
    for granularity in GRANULARITIES:
        tensor = quantized(weight, Quantize(bits, granularity, calibration, symmetric=symmetric))
        assert np.isfinite(tensor.decode()).all()
