import pytest
from hypothesis import given
from hypothesis import strategies as st
from paretoscope.figures.scale import share_axis, share_scale, strip
from paretoscope.figures.theme import LIGHT
from paretoscope.tasks.classification import WORDS

FRACTIONS = st.floats(0, 1)
SEEN = st.lists(FRACTIONS, max_size=12)


@given(SEEN, FRACTIONS, FRACTIONS, FRACTIONS)
def test_the_axis_keeps_order_and_hides_nothing(seen, baseline, one, other):
    scale = share_scale(seen, baseline)
    low, high = scale.range
    assert all(low <= scale.position(value) <= high for value in (baseline, *seen))
    if one < other:
        assert scale.position(one) <= scale.position(other)
        if other - one > 1e-6:
            assert scale.position(one) < scale.position(other)


@given(SEEN, st.floats(0.3, 1))
def test_percent_from_the_floor_upwards_and_no_jump_at_it(seen, baseline):
    scale = share_scale(seen, baseline)
    assert scale.position(1.0) == 100
    assert scale.position(scale.floor) == pytest.approx(100 * scale.floor)
    assert scale.position(scale.floor - 1e-9) == pytest.approx(100 * scale.floor, abs=1e-6)
    assert scale.position(baseline) == pytest.approx(100 * baseline)


@given(SEEN, FRACTIONS)
def test_broken_only_for_a_point_below_the_floor(seen, baseline):
    scale = share_scale(seen, baseline)
    assert scale.broken == any(value < scale.floor for value in (baseline, *seen))
    assert bool(strip(scale, LIGHT)) == scale.broken


@given(SEEN, FRACTIONS)
def test_ticks_are_where_their_labels_say(seen, baseline):
    scale = share_scale(seen, baseline)
    ticks, labels = scale.ticks
    assert ticks == sorted(ticks)
    assert 2 <= len(ticks) <= 9
    assert all(scale.range[0] <= tick <= scale.range[1] for tick in ticks)
    assert [scale.position(float(label) / 100) for label in labels] == pytest.approx(ticks)


def test_a_collapsed_model_leaves_the_interesting_region_its_room():
    without, with_collapsed = share_scale([0.97, 0.98], 0.98), share_scale([0.1, 0.97, 0.98], 0.98)

    def share(scale):
        low, high = scale.range
        return (scale.position(0.98) - scale.position(0.97)) / (high - low)

    assert share(with_collapsed) > 0.7 * share(without)
    assert with_collapsed.position(0.1) < with_collapsed.position(0.5) < 100 * with_collapsed.floor


def test_axis_carries_its_unit():
    axis = share_axis(share_scale([], 0.98), WORDS, LIGHT)
    assert axis["title"]["text"] == "Accuracy (%)"
    assert axis["ticktext"] == ["96", "97", "98", "99", "100"]
