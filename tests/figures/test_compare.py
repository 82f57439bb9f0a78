"""Configurations side by side: bars against the numbers that they are made of."""

import pytest
import timings
from paretoscope.figures import compare
from paretoscope.figures.theme import DARK, LIGHT
from paretoscope.measure.layer_bytes import LayerBytes
from paretoscope.measure.record import Ladder
from paretoscope.search.waterfall import Contribution, Waterfall
from paretoscope.tasks.classification import WORDS

THEMES = pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
LADDER = Ladder(1_000_000, 500_000, 200_000, 150_000, 140_000, 141_000)
BYTES = {
    "Current": (0, LayerBytes((("fc1.weight", 800), ("fc2.weight", 100)), 50)),
    "A <b>": (1, LayerBytes((("fc1.weight", 400),), 60)),
}


def test_ladders_stand_side_by_side(validated) -> None:
    data = compare.gather_ladders({"Current": (0, LADDER), "A": (1, None), "B": (2, LADDER)})
    assert [series.label for series in data.series] == ["Current", "B"]
    assert data.categories[-1] == "Artefact" and data.series[1].texts[-1] == "141 KB"
    figure = validated(compare.draw(data))
    assert figure.layout.yaxis.type == "log" and list(figure.data[1].y) == [1000, 500, 200, 150, 140, 141]
    assert "B: Dense fp32 1 MB" in data.alt


@THEMES
def test_bars_of_a_configuration_add_up_to_its_file(theme, validated) -> None:
    data = compare.gather_layers(BYTES)
    assert data.categories == ("fc1", "fc2", "all else")
    assert data.series[1].values == (400, None, 60) and data.series[1].texts == ("400 B", "none", "60 B")
    stacks = validated(compare.draw_stacks(data, theme))
    assert sum(trace.x[0] for trace in stacks.data) == 950 == BYTES["Current"][1].file
    assert list(stacks.data[0].y) == ["Current", "A &lt;b&gt;"]
    grouped = validated(compare.draw(data, theme))
    assert [trace.name for trace in grouped.data] == ["Current", "A &lt;b&gt;"]
    # A pattern that has no ground of its own would hide the bar.
    assert all(trace.marker.pattern.bgcolor == trace.marker.color for trace in grouped.data)


def test_of_many_layers_the_smallest_are_one_bar() -> None:
    layers = tuple((f"layer{place}.weight", 1000 - place) for place in range(30))
    data = compare.gather_layers({"Current": (0, LayerBytes(layers, 5))})
    assert len(data.categories) == compare.LAYERS + 2 and data.categories[-2] == f"{30 - compare.LAYERS} other layers"
    assert sum(data.series[0].values) == pytest.approx((sum(count for _, count in layers) + 5) / 1)


def test_steps_are_shares_of_the_size_and_costs_of_the_figure(validated) -> None:
    fall = Waterfall(1000, 100, 0.95, 0.9, (Contribution("coding", 200.0, 0.0), Contribution("prune", 700.0, 0.05)), 4)
    titles = {"coding": "Coding alone", "prune": "Prune", "share": "Share"}
    saved = compare.gather_savings({"A": (1, fall)}, titles)
    assert saved.categories == ("Coding alone", "Prune") and saved.series[0].values == (20, 70)
    cost = compare.gather_costs({"A": (1, fall)}, titles, WORDS)
    assert cost.series[0].values == (0, 5) and cost.series[0].texts == ("0.0 pt", "+5.0 pt")
    validated(compare.draw(cost))


def test_times_are_the_baseline_over_the_paired_speed_up(validated) -> None:
    wide = timings.latency(0.1, 2.0, speedup_low=0.9, speedup_high=6.0)
    data = compare.gather_speeds(
        [
            compare.Speed("Current", 0, timings.latency(0.1, 2.0), 0.4),
            compare.Speed("A", 1, wide, 0.4),
            compare.Speed("B", 2, None, None),
        ]
    )
    assert [bar.ms for bar in data.bars] == [0.2, None, None]
    assert [bar.told for bar in data.bars] == ["2.00x faster [1.90, 2.10]", "not known yet", "not timed yet"]
    figure = validated(compare.draw_speeds(data))
    assert list(figure.data[0].x) == [0.2, 0, 0]
    assert figure.data[0].error_x.array[0] == pytest.approx(0.4 / 1.9 - 0.2)
    assert [(line.x0, line.y0) for line in figure.layout.shapes] == [(0.4, -0.45), (0.4, 0.55)]
    assert "B not timed yet" in data.alt


@THEMES
def test_no_two_of_many_columns_look_alike(theme) -> None:
    looks = [
        (mark["color"], mark["pattern"]["shape"]) for mark in (compare.marker(place, theme) for place in range(27))
    ]
    assert len(set(looks)) == 27
