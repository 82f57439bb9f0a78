from itertools import pairwise

import pytest
from paretoscope.figures import waterfall
from paretoscope.figures.theme import DARK, LIGHT
from paretoscope.tasks.classification import WORDS

STEPS = [("Coding alone", -100_000.0, 0.0), ("Prune", -700_000.0, -0.03), ("Quantize", 50_000.0, 0.01)]
DRAWINGS = pytest.mark.parametrize("draw", [waterfall.draw_sizes, waterfall.draw_shares])
THEMES = pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])


@pytest.fixture(scope="module")
def falls() -> waterfall.Falls:
    return waterfall.gather(STEPS, 1_000_000, 0.95, WORDS)


def test_each_bar_starts_where_the_one_before_it_ended(falls):
    for bars, first in ((falls.sizes, 1_000_000), (falls.shares, 0.95)):
        assert [bar.name for bar in bars] == ["Coding alone", "Prune", "Quantize"]
        assert bars[0].start == first
        for before, after in pairwise(bars):
            assert after.start == before.start + before.change
    assert falls.sizes[-1].start + falls.sizes[-1].change == 250_000


@DRAWINGS
@THEMES
def test_the_bars_run_from_the_baseline_to_the_recipe(draw, theme, falls, validated):
    (trace,) = validated(draw(falls, theme)).data
    assert list(trace.x) == ["Baseline", "Coding alone", "Prune", "Quantize", "This recipe"]
    ends = [base + change for base, change in zip(trace.base, trace.y, strict=True)]
    assert trace.base[0] == trace.base[-1] == 0
    assert list(trace.base[1:-1]) == pytest.approx(ends[:-2])
    assert ends[-1] == pytest.approx(ends[-2])


def test_units_and_texts(falls, validated):
    (sizes,) = validated(waterfall.draw_sizes(falls)).data
    (accuracies,) = validated(waterfall.draw_shares(falls)).data
    assert sizes.y[0] == pytest.approx(1.0)  # megabytes
    assert list(sizes.text) == ["1 MB", "-100 KB", "-700 KB", "+50 KB", "250 KB"]
    assert accuracies.y[0] == pytest.approx(95)
    assert list(accuracies.text)[::4] == ["95.0 %", "93.0 %"]
    assert "3.0" in accuracies.text[2] and "1.0" in accuracies.text[3]


@THEMES
def test_harm_has_the_colour_of_harm(theme, falls):
    (sizes,) = waterfall.draw_sizes(falls, theme).data
    (accuracies,) = waterfall.draw_shares(falls, theme).data
    saved, grown = theme.accent, theme.alert
    assert list(sizes.marker.color) == [theme.faint, saved, saved, grown, theme.faint]
    assert list(accuracies.marker.color) == [theme.faint, theme.accent, theme.alert, theme.accent, theme.faint]


@pytest.mark.parametrize(
    "steps",
    [
        STEPS,
        [("Prune", -10.0, 0.0)],
        [("Prune", -999_000.0, -0.85), ("Share", -500.0, 0.02)],
        [("Quantize", 30_000.0, 0.05)],
    ],
)
@DRAWINGS
def test_every_end_of_a_step_is_in_sight(draw, steps, validated):
    figure = validated(draw(waterfall.gather(steps, 1_000_000, 0.95, WORDS)))
    (trace,) = figure.data
    low, high = figure.layout.yaxis.range
    for base, change in list(zip(trace.base, trace.y, strict=True))[1:-1]:
        assert low <= min(base, base + change) and max(base, base + change) <= high
    assert low < trace.y[0] <= high and low < trace.y[-1] <= high


@DRAWINGS
@THEMES
def test_no_steps_leave_the_baseline(draw, theme, validated):
    data = waterfall.gather([], 1_000_000, 0.95, WORDS)
    (trace,) = validated(draw(data, theme)).data
    assert list(trace.x) == ["Baseline", "This recipe"] and trace.y[0] == trace.y[1]


def test_alt_says_what_each_step_does(falls):
    assert "Prune 700 KB less" in falls.alt and "Quantize 50 KB more" in falls.alt
