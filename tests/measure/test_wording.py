import math
import re

import pytest
import timings
from hypothesis import given
from hypothesis import strategies as st
from paretoscope.measure.record import WIDEST, Touched
from paretoscope.measure.wording import faster, share_touched, size_ratio, smaller, speed, speed_between, untouched
from paretoscope.recipe.recipe import Recipe

RATIOS = st.floats(0.002, 400)


def timed(low: float, ratio: float, high: float):
    return timings.latency(0.1, ratio, speedup_low=low, speedup_high=high)


@pytest.mark.parametrize(
    "ends, told",
    [
        ((1.59, 1.6, 1.62), "1.60x faster [1.59, 1.62]"),
        ((1 / 1.27, 1 / 1.25, 1 / 1.23), "1.25x slower [1.23, 1.27]"),
        ((0.98, 1.0, 1.03), "as fast [0.98, 1.03]"),
        ((1.0, 1.01, 1.03), "as fast [1.00, 1.03]"),
        ((1.0004, 1.0012, 1.004), "1.0012x faster [1.0004, 1.0040]"),
        ((0.91, 1.05, 6.33), "not known yet [0.91, 6.33]"),
        ((2.0, 3.0, 4.0), "not known yet [2.00, 4.00]"),
        ((11.24, 12.34, 13.44), "12.3x faster [11.2, 13.4]"),
        ((99.0, 120.4, 140.0), "120x faster [99, 140]"),
    ],
)
def test_a_speed_up_in_words(ends, told):
    assert str(speed(timed(*ends))) == told


@given(ratio=RATIOS, below=st.floats(1, 1.2), above=st.floats(1, 1.2))
def test_the_words_say_what_the_interval_says(ratio, below, above):
    low, high = ratio / below, ratio * above
    told = speed(timed(low, ratio, high))
    ends = [float(end) for end in re.findall(r"[0-9.]+", told.interval)]
    assert ends == sorted(ends)
    if low <= 1 <= high:
        assert told.words == "as fast"
    else:
        factor, way = told.words.split(" ")
        assert way == ("faster" if ratio > 1 else "slower")
        assert float(factor[:-1]) >= 1 and all(end >= 1 for end in ends)
        assert math.isclose(float(factor[:-1]), max(ratio, 1 / ratio), rel_tol=0.006)


@given(ratio=RATIOS, below=st.floats(1, 1.2), above=st.floats(1, 1.2))
def test_either_way_round_the_figures_are_the_same(ratio, below, above):
    one, other = (
        speed_between(ratio, ratio / below, ratio * above),
        speed_between(1 / ratio, 1 / (ratio * above), 1 / (ratio / below)),
    )
    if one.words != "as fast" and other.words != "as fast":
        swap = {"faster": "slower", "slower": "faster"}
        assert other.words == re.sub("faster|slower", lambda found: swap[found.group()], one.words)
        assert other.interval == one.interval


def test_an_interval_is_too_wide_from_a_stated_factor_on():
    assert timed(1.0, 1.2, WIDEST).decided and not timed(1.0, 1.2, 1.001 * WIDEST).decided
    assert timed(0.1, 0.12, 0.14).decided and not timed(0.91, 1.05, 6.33).decided


def test_estimates_have_no_interval():
    assert [faster(ratio) for ratio in (2, 0.8, 1, 1.004)] == [
        "2.00x faster",
        "1.25x slower",
        "as fast",
        "1.004x faster",
    ]


def test_sizes_have_one_decimal():
    assert [smaller(ratio) for ratio in (27.49, 1.69, 128.34, 1.001, 0.8, 1.02)] == [
        "27.5x smaller",
        "1.7x smaller",
        "128.3x smaller",
        "the same size",
        "1.2x larger",
        "1.02x smaller",
    ]
    assert [size_ratio(ratio) for ratio in (1, 27.49, 0.04)] == ["1.0x", "27.5x", "0.04x"]


TOUCHED = Touched(0.4, (("embeddings", 0.5), ("normalisation", 0.1)))


def test_the_share_touched_is_told_beside_a_size():
    assert share_touched(TOUCHED) == "touched 40.0 %"
    assert share_touched(None) == ""


def test_what_is_not_touched_is_named_where_it_is_much():
    recipe = Recipe.of(bits=8)
    assert untouched(TOUCHED, recipe) == (
        "The recipe acts on 40.0 % of the parameters only. As they were, of all parameters: embeddings (50.0 %), "
        "normalisation (10.0 %)."
    )
    assert untouched(Touched(0.9, (("embeddings", 0.1),)), recipe) == ""
    assert untouched(None, recipe) == ""
    # A recipe that was to change nothing is not told so.
    assert untouched(Touched(0.0, (("embeddings", 1.0),)), Recipe.of(coder="smallest")) == ""
