import math

import numpy as np
import plotly.graph_objects as go
import pytest
import timings
from hypothesis import given
from hypothesis import strategies as st
from paretoscope.figures import latency
from paretoscope.figures.latency import Bar
from paretoscope.figures.theme import DARK, LIGHT
from paretoscope.measure.latency import Samples

THEMES = pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])


def bars() -> list[Bar]:
    return [
        Bar(
            "PyTorch", "fp32", timings.latency(0.5, 1.0, runtime="torch", number_format="fp32"), "measured for another"
        ),
        Bar("ONNX Runtime", "int8", timings.latency(0.1, 2.0), chosen=True),
        Bar("OpenVINO", "int8", None, "not installed: install openvino"),
    ]


def texts(figure: go.Figure) -> list[str]:
    return [note.text for note in figure.layout.annotations]


@THEMES
def test_every_runtime_has_its_pair_of_bars_or_the_reason_for_none(theme, validated) -> None:
    data = latency.gather_bars(bars())
    figure = validated(latency.draw_bars(data, theme))
    own, baseline = figure.data
    assert list(own.y) == list(baseline.y) == ["PyTorch fp32", "ONNX Runtime int8"]
    assert list(own.x) == [0.5, 0.1] and list(baseline.x) == [0.5, 0.2]
    assert list(figure.layout.yaxis.tickvals) == [bar.label for bar in data.bars]
    plain, chosen, grey = figure.layout.yaxis.ticktext
    assert (plain, chosen) == ("PyTorch fp32", "<b>ONNX Runtime int8</b>") and theme.faint in grey
    assert texts(figure)[2] == "not installed: install openvino"
    assert "<b>0.1 ms</b>  2.00x" in texts(figure)[1]
    assert "measured for another" in own.hovertext[0]
    assert "OpenVINO int8: not installed" in data.alt and "ONNX Runtime int8 0.1 ms (0.2 ms)" in data.alt
    assert figure.layout.xaxis.range[0] == 0 and figure.layout.xaxis.range[1] > 0.5


def test_the_interval_of_a_bar_follows_from_the_ratio() -> None:
    taken = timings.latency(0.1, 2.0, speedup_low=1.6, speedup_high=2.5)
    low, high = latency.interval_ms(taken)
    assert (low, high) == (pytest.approx(0.2 / 2.5), pytest.approx(0.2 / 1.6))
    (own, _) = latency.draw_bars(latency.gather_bars([Bar("A", "fp32", taken)])).data
    assert own.x[0] + own.error_x.array[0] == pytest.approx(high)
    assert own.x[0] - own.error_x.arrayminus[0] == pytest.approx(low)


@given(
    median=st.floats(0.01, 10),
    ratio=st.floats(0.1, 10),
    low=st.floats(0.1, 10),
    width=st.floats(1, 3),
)
def test_an_interval_contains_its_median(median: float, ratio: float, low: float, width: float) -> None:
    taken = timings.latency(median, ratio, speedup_low=low, speedup_high=low * width)
    least, most = latency.interval_ms(taken)
    assert least <= median <= most


def test_of_two_bars_of_one_label_the_first_counts() -> None:
    first, second = bars()[0], Bar("PyTorch", "fp32", None, "again")
    assert latency.gather_bars([first, second]).bars == (first,)


@THEMES
def test_without_any_timing_there_are_still_axes_and_reasons(theme, validated) -> None:
    figure = validated(latency.draw_bars(latency.gather_bars([Bar("A", "fp32", None, "not measured yet")]), theme))
    assert texts(figure) == ["not measured yet"] and not figure.data[0].x


@THEMES
@pytest.mark.parametrize("setting", ["batch", "threads"])
@pytest.mark.parametrize("quantity", ["latency", "throughput"])
def test_lines_over_what_was_measured(setting, quantity, theme, validated) -> None:
    def taken(value: int):
        return timings.latency(0.1 * value, 2.0, **{setting: value})

    data = latency.gather_lines(setting, {8: taken(8), 1: taken(1), 2: taken(2), 4: None}, current=2)
    figure = validated(latency.draw_lines(data, theme, quantity=quantity))
    own, baseline = figure.data
    assert list(own.x) == list(baseline.x) == [1, 2, 8] == list(figure.layout.xaxis.tickvals)
    batches = [1, 2, 8] if setting == "batch" else [1, 1, 1]
    for value, batch, y, other in zip([1, 2, 8], batches, own.y, baseline.y, strict=True):
        ms = 0.1 * value
        expected = (ms, 2 * ms) if quantity == "latency" else (1e3 * batch / ms, 500 * batch / ms)
        assert (y, other) == (pytest.approx(expected[0]), pytest.approx(expected[1]))
    assert list(own.marker.size) == [7, 11, 7]
    # On both scales the interval lies around its point.
    assert min(*own.error_y.array, *own.error_y.arrayminus) > 0
    left, right = figure.layout.xaxis.range
    assert left < math.log10(1) and math.log10(8) < right
    assert "1: 0.1 ms" in data.alt


@THEMES
def test_lines_without_a_measurement_are_an_empty_frame(theme, validated) -> None:
    data = latency.gather_lines("batch", {1: None}, current=1)
    assert not validated(latency.draw_lines(data, theme)).data[0].x
    assert "nothing measured yet" in data.alt


def calls(*extra: float) -> Samples:
    steady = 1 + 0.1 * np.sin(np.arange(400))
    return Samples(np.concatenate([steady, extra]), 2 * steady)


@THEMES
def test_every_call_is_drawn_and_what_lies_beyond_the_axis_is_told(theme, validated) -> None:
    data = latency.gather_calls(calls(50.0, 9.0))
    figure = validated(latency.draw_calls(data, theme))
    own, late, baseline = figure.data
    assert len(own.x) == 400 and len(baseline.x) == 400
    assert list(late.hovertext) == ["This recipe: 9 ms", "This recipe: 50 ms"]
    assert set(late.x) == {data.end} and late.marker.symbol == "triangle-right"
    assert data.clipped == (
        f"The axis ends at {data.end:.3g} ms; beyond it are 2 of 402 calls of this recipe, the slowest at 50 ms, "
        "drawn at its edge."
    )
    assert data.clipped in data.alt
    low, high = figure.layout.xaxis.range
    assert all(low <= x <= high for trace in figure.data for x in trace.x)


def test_nothing_is_said_of_clipping_where_nothing_is_clipped() -> None:
    data = latency.gather_calls(calls())
    assert data.clipped == "" and data.end == 2 * (1 + 0.1 * np.sin(np.arange(400))).max()
    assert len(latency.draw_calls(data).data) == 2


def test_a_late_percentile_does_not_squeeze_the_rest_and_is_told() -> None:
    steady = np.linspace(1.0, 1.1, 97)
    data = latency.gather_calls(Samples(np.append(steady, [90.0, 95.0, 99.0]), steady))
    own, _ = data.sides
    assert data.end == pytest.approx(latency.MEDIANS * own.median) and own.p99 > data.end and own.beyond == 3
    figure = latency.draw_calls(data)
    assert len(figure.layout.shapes) == 5
    assert texts(figure)[0].endswith("beyond the axis") and not texts(figure)[1].endswith("axis")
    # But the 95th percentiles are always on it.
    data = latency.gather_calls(Samples(np.append(np.ones(90), np.full(10, 50.0)), steady))
    assert data.end == 50.0 and data.clipped == ""


def test_percentiles_are_those_of_all_calls() -> None:
    samples = calls(50.0, 9.0)
    own, baseline = latency.gather_calls(samples).sides
    assert (own.median, own.p95, own.p99) == tuple(np.percentile(samples.candidate_ms, [50, 95, 99]))
    assert (baseline.median, baseline.p95, baseline.p99) == tuple(np.percentile(samples.baseline_ms, [50, 95, 99]))
    lines = [shape.x0 for shape in latency.draw_calls(latency.gather_calls(samples)).layout.shapes]
    assert lines == [own.median, own.p95, own.p99, baseline.median, baseline.p95, baseline.p99]


@given(values=st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=60), seed=st.integers(0, 9))
def test_any_calls_make_a_picture_whatever_their_order(values: list[float], seed: int) -> None:
    own = np.array(values)
    shuffled = np.random.default_rng(seed).permutation(own)
    data, again = latency.gather_calls(Samples(own, own)), latency.gather_calls(Samples(shuffled, own))
    assert (data.sides[0].calls == again.sides[0].calls).all() and (
        data.sides[0].offsets == again.sides[0].offsets
    ).all()
    assert np.isfinite(data.sides[0].offsets).all() and (np.abs(data.sides[0].offsets) <= 1).all()
    drawn = sum(len(trace.x) for trace in latency.draw_calls(data).data)
    assert drawn == 2 * len(values)


def test_the_strip_is_widest_where_most_calls_are() -> None:
    samples = Samples(np.concatenate([np.full(300, 1.0), np.full(20, 2.0)]), np.linspace(1, 2, 50))
    side = latency.gather_calls(samples).sides[0]
    widths = [np.abs(side.offsets[side.calls == value]).max() for value in (1.0, 2.0)]
    assert widths[0] > 0.9 and 0 < widths[1] <= 20 / 300


@THEMES
def test_layers_stand_in_the_order_of_the_network_with_the_rest_last(theme, validated) -> None:
    baseline = {"conv1.weight": 10.0, "other": 3.0, "a.very.long.name.of.a.layer.in.a.block.mlp.3.weight": 5.0}
    data = latency.gather_layers({"conv1.weight": 4.0, "other": 2.0}, baseline)
    assert data.layers == ("conv1.weight", "a.very.long.name.of.a.layer.in.a.block.mlp.3.weight", "other")
    figure = validated(latency.draw_layers(data, theme))
    own, beside = figure.data
    assert list(own.x) == [4.0, 0, 2.0] and list(beside.x) == [10.0, 5.0, 3.0]
    assert "no such layer" in own.hovertext[1] and "4 µs" in own.hovertext[0]
    labels = figure.layout.yaxis.ticktext
    assert labels[0] == "conv1" and labels[1].endswith("block.mlp.3") and len(labels[1]) == latency.LONGEST
    assert "most is spent in conv1, 4 µs" in data.alt


def test_layers_without_a_profile_say_so() -> None:
    data = latency.gather_layers(None, {"conv1.weight": 1.0})
    assert data.own == (None,) and "not measured yet" in data.alt
    assert latency.gather_layers(None, None).layers == ()
