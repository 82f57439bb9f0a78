"""Tests of quantization by rate: paths against an exhaustive search, steps against closed forms, invariances."""

import itertools
import math

import numpy as np
import pytest
from paretoscope.methods import dependent, paths
from paretoscope.methods.dependent import DISTORTION, KILOBYTE
from paretoscope.model import powers
from paretoscope.model.tensors import Integers
from paretoscope.model.trellis import NEXT, follows

RNG = np.random.default_rng(0)


def quantize(weight, sensitivity=1.0, kept=None, hessian=None, exchange=1.0, bits=12, per_channel=True) -> Integers:
    weight = np.asarray(weight, np.float32)
    sensitivity = np.broadcast_to(np.asarray(sensitivity, float), (len(weight),)).copy()
    return dependent.quantize(weight, kept, sensitivity, hessian, exchange=exchange, bits=bits, per_channel=per_channel)


def exchange_for(step: float, sensitivity: float = 1.0) -> float:
    """The exchange rate that gives this step."""
    return KILOBYTE * math.log(2) * DISTORTION * sensitivity * step**2


def values_of_paths(length: int, most: int):
    """All codes of one column that the trellis allows, indices up to `most`."""
    for indices in itertools.product(range(-most, most + 1), repeat=length):
        state, codes = 0, []
        for k in indices:
            codes.append(2 * k - int(np.sign(k)) * (state >= 4))
            state = NEXT[state][k & 1]
        yield codes


def test_paths_are_the_nearest_of_all():
    # Without a price on bits, and long steps of one, the codes are the path of least squared error.
    paths = np.array(list(values_of_paths(5, 3)))
    hessian = np.eye(1)[None]
    for seed in range(20):
        column = np.random.default_rng(seed).uniform(0.6, 4, 5) * np.random.default_rng(seed + 99).choice([-1, 1], 5)
        tensor = quantize(column[:, None], hessian=hessian, exchange=exchange_for(1.0) * 1.01)
        # Damping counts as part of the moments of the inputs.
        found = np.square(column / 1.0 - tensor.codes[:, 0]).sum()
        best = np.square(column - paths).sum(axis=1).min()
        assert found == pytest.approx(best, rel=0.03)


def test_it_is_as_good_as_its_distortion_says():
    weight = RNG.normal(0, 40, (4000, 5))
    tensor = quantize(weight, hessian=np.eye(5)[None], exchange=exchange_for(1.0), bits=16, per_channel=False)
    assert np.square(weight - tensor.decode()).mean() / float(tensor.scale) ** 2 == pytest.approx(DISTORTION, rel=0.02)
    # Rounding to all even integers, of the same entropy, is 1.15 dB worse.
    assert pytest.approx(1 / 3 * 10**-0.115) == DISTORTION


def test_codes_follow_the_trellis_and_scales_are_powers():
    weight = RNG.laplace(0, 1, (24, 6, 3, 3))
    for bits, kind in ((3, np.int8), (4, np.int8), (8, np.int8), (9, np.int16), (16, np.int16)):
        tensor = quantize(weight, exchange=exchange_for(0.3), bits=bits)
        assert tensor.trellis and follows(tensor.codes)
        assert tensor.codes.dtype == kind and tensor.codes.shape == weight.shape
        assert np.abs(tensor.codes).max() <= 2 ** (bits - 1) - 1
        assert powers.to_steps(tensor.scale) is not None and tensor.scale.shape == (24,)


def test_sensitive_channels_get_finer_steps():
    weight = RNG.normal(0, 1, (8, 400))
    weight[4:] = weight[:4]
    tensor = quantize(weight, sensitivity=[1, 1, 1, 1, 16, 16, 16, 16], exchange=exchange_for(0.4))
    # Sixteen times the sensitivity: a quarter of the step.
    np.testing.assert_allclose(tensor.scale[:4] / tensor.scale[4:], 4, rtol=0.1)


def test_a_higher_exchange_rate_gives_fewer_bits():
    weight = RNG.normal(0, 1, (50, 60))
    spread = [len(np.unique(quantize(weight, exchange=10.0**e).codes)) for e in (-2, 0, 2, 3)]
    assert spread == sorted(spread, reverse=True) and spread[0] > 4 * spread[-1]
    assert not quantize(weight, exchange=1e9).codes.any()


def test_a_squared_step_is_in_proportion_to_the_exchange_rate():
    steps = dependent.exchange_steps(np.array([1.0, 4.0]), np.array([1.0, 1.0]))
    assert steps[0] == pytest.approx(2 * steps[1])
    # Saving a bit costs ln 2 c F D^2 of harm: by the derivative of c F D^2 / 2, with a bit for each halving.
    harm = lambda bits: DISTORTION / 2 * (steps[0] * 2.0**-bits) ** 2  # noqa: E731
    slope = (harm(-1e-6) - harm(1e-6)) / 2e-6
    assert slope * KILOBYTE == pytest.approx(1.0, rel=1e-6)


def test_zeroed_weights_stay_zero():
    weight = RNG.normal(0, 1, (20, 30))
    kept = RNG.random((20, 30)) < 0.3
    moments = RNG.normal(size=(30, 200))
    for hessian in (None, (moments @ moments.T / 200)[None]):
        tensor = quantize(weight, kept=kept, hessian=hessian, exchange=exchange_for(0.1))
        assert not tensor.codes[~kept].any() and follows(tensor.codes)
        assert np.count_nonzero(tensor.codes) > 0.8 * kept.sum()


def correlated(columns: int, seed: int = 0) -> np.ndarray:
    inputs = np.random.default_rng(seed).normal(size=(columns, 3)) @ np.random.default_rng(seed + 1).normal(
        size=(3, 500)
    )
    inputs += 0.1 * np.random.default_rng(seed + 2).normal(size=inputs.shape)
    return (inputs @ inputs.T / 500)[None]


def output_error(weight, tensor, hessian):
    error = (weight - tensor.decode()).reshape(len(weight), -1)
    size = len(weight) // len(hessian)
    return sum(
        np.einsum("ri,ij,rj", e, h, e) for e, h in zip(error.reshape(-1, size, error.shape[1]), hessian, strict=True)
    )


def test_compensation_lowers_the_error_of_the_output():
    weight = RNG.normal(0, 1, (16, 40))
    hessian = correlated(40)
    plain = quantize(weight, exchange=exchange_for(0.5))
    # The steps stay: a sensitivity that counts what can be made good.
    share = (plain.scale / quantize(weight, hessian=hessian, exchange=exchange_for(0.5)).scale).mean()
    made_good = quantize(weight, hessian=hessian, exchange=exchange_for(0.5) * share**2)
    assert made_good.scale.mean() == pytest.approx(plain.scale.mean(), rel=0.1)
    assert output_error(weight, made_good, hessian) < 0.25 * output_error(weight, plain, hessian)


def test_groups_have_their_own_moments():
    weight = RNG.normal(0, 1, (12, 9))
    hessian = np.concatenate([correlated(9, seed) for seed in (1, 5, 9)])
    tensor = quantize(weight, hessian=hessian, exchange=exchange_for(0.3))
    assert follows(tensor.codes)
    others = quantize(weight, hessian=hessian[::-1].copy(), exchange=exchange_for(0.3))
    assert output_error(weight, tensor, hessian) / np.square(tensor.scale).sum() < (
        0.7 * output_error(weight, others, hessian) / np.square(others.scale).sum()
    )


def test_channels_keep_their_energy():
    weight = RNG.laplace(0, 1, (10, 5000))
    tensor = quantize(weight, exchange=exchange_for(1.0))
    decoded = tensor.decode().astype(float)
    # Half a step of the scale's grid is 1.1 %.
    np.testing.assert_allclose((weight * decoded).sum(axis=1), np.square(weight).sum(axis=1), rtol=0.012)


@pytest.mark.parametrize(("dead", "above"), [((1, 2, 5), {1: 0, 2: 0, 5: 4}), ((0, 1), {0: 2, 1: 2}), ((), {})])
def test_a_row_of_zeros_has_the_scale_of_the_row_above(dead, above):
    """The first ones have that of the first row with a weight; rows with weights keep their own."""
    weight, kept = RNG.normal(0, 1, (6, 50)), np.ones((6, 50), bool)
    kept[list(dead)] = False
    tensor = quantize(weight, np.geomspace(1, 50, 6), kept, exchange=exchange_for(0.3))
    assert [row.any() for row in tensor.decode()] == [row not in above for row in range(6)]
    assert all(tensor.scale[row] == tensor.scale[other] for row, other in above.items())
    assert len(set(tensor.scale)) == 6 - len(above)


def test_one_scale_for_the_tensor():
    tensor = quantize(RNG.normal(0, 1, (6, 50)), sensitivity=[1, 2, 3, 4, 5, 6], per_channel=False)
    assert tensor.scale.shape == ()
    assert tensor.decode().shape == (6, 50)


@pytest.mark.parametrize("weight", [np.zeros((4, 3)), np.full((4, 3), 0.5), np.full((1, 1), -2.0), np.zeros((2, 0))])
@pytest.mark.parametrize("moments", [False, True])
def test_unusual_weights(weight, moments):
    hessian = np.zeros((1, weight.shape[1], weight.shape[1])) if moments else None
    tensor = quantize(weight, hessian=hessian, exchange=1e-3)
    assert tensor.shape == weight.shape and np.isfinite(tensor.decode()).all()
    np.testing.assert_allclose(tensor.decode(), weight, atol=0.02)
    assert np.isfinite(quantize(weight, sensitivity=0.0, hessian=hessian).decode()).all()


def test_a_dead_channel_beside_live_ones():
    weight = RNG.normal(0, 1, (3, 20))
    weight[1] = 0
    tensor = quantize(weight, exchange=exchange_for(0.05))
    assert not tensor.decode()[1].any()
    np.testing.assert_allclose(tensor.decode(), weight, atol=0.15)


def test_it_is_pure_and_deterministic():
    weight, hessian = RNG.normal(0, 1, (9, 12)).astype(np.float32), correlated(12)
    before = weight.copy(), hessian.copy()
    one, two = (quantize(weight, hessian=hessian, exchange=0.5) for _ in range(2))
    np.testing.assert_array_equal(one.codes, two.codes)
    np.testing.assert_array_equal(one.scale, two.scale)
    np.testing.assert_array_equal(weight, before[0])
    np.testing.assert_array_equal(hessian, before[1])


def test_magnitudes_alone():
    found = dependent.magnitude_sensitivity(np.array([[3.0, 0.0], [0.0, 4.0]]))
    np.testing.assert_allclose(found, dependent.NATS / 25)
    # Weights k times as large get steps k times as long: the codes are the same.
    weight = RNG.normal(0, 1, (20, 30))
    one = quantize(weight, dependent.magnitude_sensitivity(weight)[0], exchange=1e-4)
    two = quantize(8 * weight, dependent.magnitude_sensitivity(8 * weight)[0], exchange=1e-4)
    np.testing.assert_array_equal(one.codes, two.codes)
    assert not dependent.magnitude_sensitivity(np.zeros((2, 3))).any()


def test_rest_values_are_rounded_to_the_step_of_their_harm():
    values = RNG.normal(0, 1, 500).astype(np.float32)
    tensor = dependent.round_values(values, sensitivity=2.0, exchange=0.01)
    step = float(tensor.scale)
    assert tensor.bits == 16 and tensor.codes.dtype == np.int16 and not tensor.trellis
    assert np.abs(tensor.decode() - values).max() <= step / 2 * 1.0001
    # Equal slopes with the trellis: a twelfth of a squared step against its distortion.
    assert step**2 / 12 == pytest.approx(DISTORTION * dependent.exchange_steps(np.array(2.0), 0.01) ** 2, rel=0.05)
    # Never so coarse that all of it is lost, never so fine that 16 bits do not hold it.
    assert dependent.round_values(values, 1e-30, 1.0).codes.any()
    fine = dependent.round_values(values, 1e30, 1e-6)
    np.testing.assert_allclose(fine.decode(), values, atol=2e-4)
    assert not dependent.round_values(np.zeros(3, np.float32), 1.0, 1.0).decode().any()


def test_new_rest_values_keep_their_grid():
    tensor = dependent.on_grid(np.array([0.1, -0.26, 4000]), np.float32(0.125).reshape(()))
    assert tensor.codes.tolist() == [1, -2, 32000] and tensor.scale == 0.125


def test_rest_values_that_outgrow_their_grid_widen_it():
    values = np.array([1.0, -5000, 1e9, 3.4028235e38], np.float32)
    for largest in (2, 3, 4):
        tensor = dependent.on_grid(values[:largest], np.float32(0.125).reshape(()))
        np.testing.assert_allclose(tensor.decode(), values[:largest], atol=np.abs(values[:largest]).max() / 2**15)
        assert powers.to_steps(tensor.scale) is not None and np.isfinite(tensor.decode()).all()


def row_with_a_large_weight(rows: int = 1) -> np.ndarray:
    return np.tile(np.float32([[1, *np.linspace(-0.02, 0.02, 31)]]), (rows, 1)) * np.linspace(0.9, 1, rows)[:, None]


@pytest.mark.parametrize("bits", range(5, 17))
@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("moments", [False, True])
def test_the_largest_weight_is_held(bits, per_channel, moments):
    weight = row_with_a_large_weight(40)
    hessian = np.eye(32)[None] if moments else None
    tensor = quantize(weight, hessian=hessian, exchange=1e-12, bits=bits, per_channel=per_channel)
    # The trellis may leave out the codes next to it; its scale is off by 1.1 % at most.
    np.testing.assert_allclose(tensor.decode()[:, 0], weight[:, 0], rtol=0.012, atol=3.5 * float(tensor.scale.max()))
    assert tensor.trellis and np.abs(tensor.codes).max() <= 2 ** (bits - 1) - 1


@pytest.mark.parametrize("moments", [False, True])
@pytest.mark.parametrize("per_channel", [True, False])
def test_two_bits_keep_the_large_weights(moments, per_channel):
    weight = np.random.default_rng(1).laplace(0, 1, (30, 60)).astype(np.float32)
    hessian = correlated(60) if moments else None
    tensor = quantize(weight, hessian=hessian, exchange=1e-9, bits=2, per_channel=per_channel)
    assert set(np.unique(tensor.codes)) == {-1, 0, 1} and not tensor.trellis and tensor.bits == 2
    assert powers.to_steps(tensor.scale) is not None
    largest = np.abs(weight).argmax(axis=1)
    assert moments or (np.sign(weight) == tensor.codes)[range(30), largest].all()
    metric = correlated(60) if moments else np.eye(60)[None]
    error = output_error(weight, tensor, metric)
    assert error < (0.1 if moments else 0.5) * np.einsum("ri,ij,rj", weight, metric[0], weight)


@pytest.mark.parametrize("per_channel", [True, False])
def test_channels_far_below_the_step_do_not_come_back_larger(per_channel):
    weight = np.random.default_rng(2).normal(0, 1, (24, 200)).astype(np.float32)
    weight[::2] *= 0.1
    for step in (0.2, 0.5, 1.0, 2.0, 3.0):
        decoded = quantize(weight, exchange=exchange_for(step), per_channel=per_channel).decode()
        before, after = (np.square(each[::2].astype(float)).sum(axis=1) for each in (weight, decoded))
        # Scales that keep the correlation make the codes up to sqrt(2) times as large; their grid is 1.1 % off.
        assert (after <= 2.1 * before).all(), step


@pytest.mark.parametrize("largest", [3.4028235e38, 1e38, 1e-37, 1e-40, 1e-45])
@pytest.mark.parametrize("bits", [2, 3, 8, 16])
@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("moments", [False, True])
def test_the_ends_of_float32_stay_finite(largest, bits, per_channel, moments):
    weight = np.float32([[1, -1, 0.5, 0.01], [1e-3, 0, 0, -1e-3], [1, 1, 1, 1]]) * np.float32(largest)
    for exchange in (1e-12, 1e-3, 1e3):
        sensitivity = dependent.magnitude_sensitivity(weight)
        hessian = np.eye(4)[None] if moments else None
        tensor = quantize(weight, sensitivity, hessian=hessian, exchange=exchange, bits=bits, per_channel=per_channel)
        decoded = tensor.decode().astype(float)
        assert np.isfinite(decoded).all()
        assert np.square(decoded - weight).sum() <= np.square(weight.astype(float)).sum() * (1 + 1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("top", [3, 7, 2047, 2**15 - 1])
@pytest.mark.parametrize("sign", [1, -1])
def test_targets_beyond_the_largest_code_take_the_largest_of_their_parity(top, sign):
    """Error compensation moves targets there; each state and parity has a code within three of the largest."""
    rows = 12
    target, path = sign * np.geomspace(1, 1000, rows) * (top + 1), np.empty(rows, np.int32)
    bits = np.zeros((rows, 2, 3))
    paths._best_path(target, np.ones(1), np.ones(rows, bool), bits, top, 0.0, np.array(NEXT), path)
    assert (sign * path >= top - 3).all() and (sign * path <= top).all()
    # The best of all paths reaches the largest code as soon as it is in a state of odd ones.
    assert top in sign * path
