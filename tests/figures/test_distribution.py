import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from paretoscope.figures import distribution
from paretoscope.figures.theme import DARK, LIGHT


@pytest.fixture(scope="module")
def weights():
    return np.random.default_rng(0).normal(0, 0.05, 4096).astype(np.float32)


def pruned(weights, threshold=0.05):
    return np.where(np.abs(weights) < threshold, np.float32(0), weights)


@given(st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=60), st.integers(1, 40))
def test_areas_are_shares_of_all_weights(values, threshold):
    before = np.array(values, np.float32)
    after = pruned(before, threshold / 40)
    data = distribution.gather(before, after)
    assert (data.before * np.diff(data.edges)).sum() == pytest.approx(1)
    assert data.shares.sum() + data.zero_after == pytest.approx(1)
    assert data.zero_after == np.count_nonzero(after == 0) / len(after)


def test_few_values_one_entry_each_with_its_stretch():
    before = np.array([-1.0, -0.4, 0.1, 0.9, 1.0], np.float32)
    after = np.array([-0.5, -0.5, 0.0, 1.0, 1.0], np.float32)
    data = distribution.gather(before, after)
    assert data.levels.tolist() == [-0.5, 0, 1]
    assert data.x.tolist() == [-0.5, 1]
    assert data.shares.tolist() == [0.4, 0.4]
    # -0.5 stands for -1 .. -0.25; 1 for 0.5 .. 1.5, as far outwards as inwards.
    assert data.after.tolist() == pytest.approx([0.4 / 0.75, 0.4 / 1.0])


def test_a_fine_grid_has_the_density_of_the_original(weights):
    step = np.float32(0.25 / 127)
    data = distribution.gather(weights, np.round(weights / step) * step, bins=21)
    middle = np.abs(data.x) < 0.05
    expected = np.exp(-((data.x[middle] / 0.05) ** 2) / 2) / (0.05 * np.sqrt(2 * np.pi))
    assert np.mean(data.after[middle] / expected) == pytest.approx(1, abs=0.1)


def test_a_continuum_has_no_levels_and_is_binned(weights):
    data = distribution.gather(weights, pruned(weights))
    assert data.levels is None
    assert len(data.x) == len(data.before) == 81
    inner = np.abs(data.x) < 0.04
    assert (data.after[inner] == 0).all()
    outer = np.abs(data.x) > 0.06
    assert data.after[outer] == pytest.approx(data.before[outer])


def test_values_beyond_the_sample_still_make_a_continuum():
    few_then_many = np.concatenate([np.zeros(distribution.SAMPLE), np.linspace(0.1, 1, 400)]).astype(np.float32)
    assert distribution.gather(few_then_many, few_then_many).levels is None


def test_order_and_shape_do_not_matter(weights):
    after = pruned(weights)
    order = np.random.default_rng(1).permutation(len(weights))
    one = distribution.gather(weights, after)
    other = distribution.gather(weights[order].reshape(64, 4, 4, 4), after[order].reshape(64, 4, 4, 4))
    assert (one.before == other.before).all()
    assert (one.after == other.after).all()


def test_twice_the_weights_half_the_density(weights):
    after = (np.sign(weights) * 0.04).astype(np.float32)
    one, other = distribution.gather(weights, after), distribution.gather(2 * weights, 2 * after)
    assert other.before == pytest.approx(one.before / 2)
    assert other.after == pytest.approx(one.after / 2)


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_picture_marks_levels_and_tells_the_zeros(theme, weights, validated):
    after = np.round(pruned(weights) / 0.05).astype(np.float32) * np.float32(0.05)
    data = distribution.gather(weights, after, name="fc1")
    figure = validated(distribution.draw(data, theme))
    ticks = next(trace for trace in figure.data if trace.name == "Values")
    assert list(ticks.x) == data.levels.tolist()
    assert figure.layout.annotations[0].text == f"<b>{100 * data.zero_after:.1f} %</b> exactly zero"
    stems = next(trace for trace in figure.data if trace.name == "After")
    assert 0 not in stems.x


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_extremes_are_pictures_too(theme, weights, validated):
    zeros = np.zeros(8, np.float32)
    for before, after in ((weights, weights), (weights, np.zeros_like(weights)), (zeros, zeros)):
        figure = validated(distribution.draw(distribution.gather(before, after), theme))
        low, high = figure.layout.yaxis.range
        assert low < 0 < high
    assert len(validated(distribution.draw(distribution.gather(weights, weights))).layout.annotations) == 0
