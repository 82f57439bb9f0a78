"""Tests of scales as whole numbers."""

import numpy as np
import pytest
from paretoscope.model import powers

EVERY = np.array([powers.ZERO, *range(powers.LEAST, powers.GREATEST + 1)])


def test_every_step_comes_back():
    scales = powers.from_steps(EVERY)
    assert scales.dtype == np.float32
    assert scales[0] == 0 and np.isfinite(scales).all()
    np.testing.assert_array_equal(powers.to_steps(scales), EVERY)


def test_steps_are_powers_of_the_32nd_root_of_two():
    exact = np.array([2.0 ** (step / 32) for step in EVERY[1:].tolist()])
    assert powers.from_steps(EVERY)[1:].tolist() == exact.astype(np.float32).tolist()


def test_the_nearest_power_is_the_nearest_by_ratio():
    values = np.exp(np.random.default_rng(0).uniform(-60, 60, 1000))
    found = powers.nearest(values).astype(float)
    assert powers.to_steps(found.astype(np.float32)) is not None
    assert np.abs(np.log2(found / values)).max() <= 0.5 / 32 + 1e-6
    assert powers.nearest(np.array(0.25)).shape == ()
    # What float32 cannot hold is the nearest that it can.
    assert powers.nearest(np.array([1e-300]))[0] == np.float32(2.0**-126)
    assert np.isfinite(powers.nearest(np.array([1e300])))[0]


@pytest.mark.parametrize(
    "values", [np.exp(np.random.default_rng(1).uniform(-60, 60, 500)), powers.from_steps(EVERY[1:])]
)
def test_powers_on_either_side(values):
    values = values.astype(np.float64)
    above, below = powers.at_least(values).astype(float), powers.at_most(values).astype(float)
    assert (above >= values).all() and (below <= values).all()
    assert np.log2(above / below).max() <= 1 / 32 + 1e-6
    held = powers.nearest(values) == values
    assert (above == values)[held].all() and (below == values)[held].all()


def test_the_ends_on_either_side():
    assert (
        powers.at_least(np.array(1e300))
        == powers.at_most(np.array(1e300))
        == powers.from_steps(np.array(powers.GREATEST))
    )
    assert powers.at_least(np.array(1e-300)) == powers.at_most(np.array(1e-300)) == np.float32(2.0**-126)


@pytest.mark.parametrize("scale", [0.3, -1.0, np.inf, -np.inf, np.nan, 1e-40, 1.0000001, 2.0**-127, -0.0])
def test_other_floats_are_no_steps(scale):
    assert powers.to_steps(np.array([1.0, scale], np.float32)) is None


@pytest.mark.parametrize("step", [powers.ZERO - 1, powers.ZERO + 1, powers.LEAST - 1, powers.GREATEST + 1, 2**40])
def test_other_steps_are_no_scales(step):
    assert powers.from_steps(np.array([0, step])) is None
