import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from paretoscope.figures import calls
from paretoscope.figures.theme import DARK, LIGHT
from paretoscope.measure.latency import Samples

THEMES = pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])


def sampled(*extra: float) -> Samples:
    steady = 1 + 0.1 * np.sin(np.arange(400))
    return Samples(np.concatenate([steady, extra]), 2 * steady)


@THEMES
def test_every_call_is_drawn_and_what_lies_beyond_the_axis_is_told(theme, validated) -> None:
    data = calls.gather(sampled(50.0, 9.0))
    figure = validated(calls.draw(data, theme))
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
    data = calls.gather(sampled())
    assert data.clipped == "" and data.end == 2 * (1 + 0.1 * np.sin(np.arange(400))).max()
    assert len(calls.draw(data).data) == 2


def test_a_late_percentile_does_not_squeeze_the_rest_and_is_told() -> None:
    steady = np.linspace(1.0, 1.1, 97)
    data = calls.gather(Samples(np.append(steady, [90.0, 95.0, 99.0]), steady))
    own, _ = data.sides
    assert data.end == pytest.approx(calls.MEDIANS * own.median) and own.p99 > data.end and own.beyond == 3
    figure = calls.draw(data)
    assert len(figure.layout.shapes) == 5
    texts = [note.text for note in figure.layout.annotations]
    assert texts[0].endswith("beyond the axis") and not texts[1].endswith("axis")
    # But the 95th percentiles are always on it.
    data = calls.gather(Samples(np.append(np.ones(90), np.full(10, 50.0)), steady))
    assert data.end == 50.0 and data.clipped == ""


def test_percentiles_are_those_of_all_calls() -> None:
    samples = sampled(50.0, 9.0)
    own, baseline = calls.gather(samples).sides
    assert (own.median, own.p95, own.p99) == tuple(np.percentile(samples.candidate_ms, [50, 95, 99]))
    assert (baseline.median, baseline.p95, baseline.p99) == tuple(np.percentile(samples.baseline_ms, [50, 95, 99]))
    lines = [shape.x0 for shape in calls.draw(calls.gather(samples)).layout.shapes]
    assert lines == [own.median, own.p95, own.p99, baseline.median, baseline.p95, baseline.p99]


@given(values=st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=60), seed=st.integers(0, 9))
def test_any_calls_make_a_picture_whatever_their_order(values: list[float], seed: int) -> None:
    own = np.array(values)
    shuffled = np.random.default_rng(seed).permutation(own)
    data, again = calls.gather(Samples(own, own)), calls.gather(Samples(shuffled, own))
    assert (data.sides[0].calls == again.sides[0].calls).all() and (
        data.sides[0].offsets == again.sides[0].offsets
    ).all()
    assert np.isfinite(data.sides[0].offsets).all() and (np.abs(data.sides[0].offsets) <= 1).all()
    drawn = sum(len(trace.x) for trace in calls.draw(data).data)
    assert drawn == 2 * len(values)


def test_the_strip_is_widest_where_most_calls_are() -> None:
    samples = Samples(np.concatenate([np.full(300, 1.0), np.full(20, 2.0)]), np.linspace(1, 2, 50))
    side = calls.gather(samples).sides[0]
    widths = [np.abs(side.offsets[side.calls == value]).max() for value in (1.0, 2.0)]
    assert widths[0] > 0.9 and 0 < widths[1] <= 20 / 300
