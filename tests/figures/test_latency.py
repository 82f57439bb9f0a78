import math

import plotly.graph_objects as go
import pytest
import timings
from hypothesis import given
from hypothesis import strategies as st
from paretoscope.figures import latency
from paretoscope.figures.latency import RuntimeBar
from paretoscope.figures.theme import DARK, LIGHT

THEMES = pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])


def bars() -> list[RuntimeBar]:
    return [
        RuntimeBar(
            "PyTorch", "fp32", timings.latency(0.5, 1.0, runtime="torch", number_format="fp32"), "measured for another"
        ),
        RuntimeBar("ONNX Runtime", "int8", timings.latency(0.1, 2.0), chosen=True),
        RuntimeBar("OpenVINO", "int8", None, "not installed: install openvino"),
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
    (own, _) = latency.draw_bars(latency.gather_bars([RuntimeBar("A", "fp32", taken)])).data
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
    first, second = bars()[0], RuntimeBar("PyTorch", "fp32", None, "again")
    assert latency.gather_bars([first, second]).bars == (first,)


@THEMES
def test_without_any_timing_there_are_still_axes_and_reasons(theme, validated) -> None:
    figure = validated(
        latency.draw_bars(latency.gather_bars([RuntimeBar("A", "fp32", None, "not measured yet")]), theme)
    )
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
