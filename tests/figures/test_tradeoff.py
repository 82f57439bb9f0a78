import dataclasses
import math
import random
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paretoscope.figures import pareto, tradeoff, tradeoff_points
from paretoscope.figures.theme import DARK, LIGHT
from paretoscope.recipe.recipe import Recipe
from paretoscope.tasks.classification import WORDS

gather = partial(tradeoff_points.gather, words=WORDS)

QUANTITIES = ("size", "latency")
RECIPES = [Recipe.of(sparsity=s / 20, clusters=k, bits=b) for s in range(19) for k in (None, 4, 16) for b in (32, 8, 2)]


@pytest.fixture(scope="module")
def records(make_record):
    """171 records in a plausible arch, two number formats, some collapsed."""
    draw = random.Random(7)
    return [
        make_record(
            recipe,
            size=draw.randrange(5_000, 900_000),
            correct=draw.choice([80, 400, *range(740, 796)]),
            ms=0.2 if recipe.bits <= 8 else 0.4,
            number_format="int8" if recipe.bits <= 8 else "fp32",
            measured_for=Recipe.of(bits=recipe.bits).digest,
        )
        for recipe in RECIPES
    ]


@pytest.fixture(scope="module")
def roles(records):
    digests = [record.digests.recipe for record in records]
    return {"current": digests[50], "pinned": {digests[3], digests[9], digests[50]}, "trail": digests[40:51]}


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize("x", QUANTITIES)
def test_every_record_is_one_clickable_marker(x, theme, records, roles, baseline, markers, validated):
    figure = validated(tradeoff.draw(gather(records, x=x, baseline=baseline, **roles), theme))
    drawn = [digest for digest, *_, symbol, _ in markers(figure) if symbol != "star"]
    assert sorted(drawn) == sorted(record.digests.recipe for record in records)
    stars = [digest for digest, *_, symbol, _ in markers(figure) if symbol == "star"]
    assert stars == [Recipe().digest]


@pytest.mark.parametrize("x", QUANTITIES)
def test_markers_stand_where_the_records_say(x, records, baseline, markers):
    data = gather(records, x=x, baseline=baseline)
    places = {
        digest: (at, height) for digest, at, height, symbol, _ in markers(tradeoff.draw(data)) if symbol != "star"
    }
    for record in records:
        expected = record.size.artefact / 1000 if x == "size" else 0.4 / record.latency.speedup
        assert places[record.digests.recipe] == (
            pytest.approx(expected),
            pytest.approx(data.scale.position(record.figures.accuracy)),
        )


@pytest.mark.parametrize("x", QUANTITIES)
def test_hover_tells_the_recipe_and_its_figures(x, records, baseline, markers):
    hovers = {digest: text for digest, *_, text in markers(tradeoff.draw(gather(records, x=x, baseline=baseline)))}
    for record in records[1:]:
        text = hovers[record.digests.recipe]
        assert record.recipe.describe() in text
        assert f"{100 * record.figures.accuracy:.1f} %" in text
        assert ("reused from another recipe" in text) == record.latency_reused
    if x == "latency":
        assert "0.2 ms, 2.00x faster [1.80, 2.20]" in hovers[records[1].digests.recipe]


@pytest.mark.parametrize("x", QUANTITIES)
def test_an_arrow_leads_from_a_recipe_to_the_same_one_with_training(x, make_record, baseline, validated):
    start = Recipe.of(sparsity=0.9, bits=4)
    trained, other = Recipe.of(sparsity=0.9, bits=4, epochs=8), Recipe.of(sparsity=0.8, epochs=8)
    rows = [
        make_record(start, size=31_000, correct=400, ms=0.2),
        make_record(trained, size=30_000, correct=780, ms=0.25),
        make_record(other, size=60_000, correct=784, ms=0.3),  # its start is not known
    ]
    data = gather(rows, x=x, baseline=baseline, reference=0.4)
    figure = validated(tradeoff.draw(data))
    (arrow,) = [each for each in figure.layout.annotations if each.showarrow]
    places = (31.0, 30.0) if x == "size" else (0.2, 0.25)
    assert (arrow.ax, arrow.x) == pytest.approx(tuple(map(math.log10, places)) if x == "size" else places)
    assert (arrow.ay, arrow.y) == pytest.approx((data.scale.position(0.5), data.scale.position(0.975)))
    assert (arrow.xref, arrow.axref, arrow.yref, arrow.ayref) == ("x", "x", "y", "y")
    assert "Trained" in [trace.name for trace in figure.data if trace.showlegend]
    assert sum("trained 8 epochs" in point.hover for point in data.points) == 2


def test_without_training_there_is_no_arrow(make_record, baseline):
    figure = tradeoff.draw(gather([make_record(Recipe.of(bits=4))], x="size", baseline=baseline))
    assert not [each for each in figure.layout.annotations if each.showarrow]
    assert "Trained" not in [trace.name for trace in figure.data]


def test_an_arrow_waits_until_both_ends_are_timed(make_record, baseline):
    rows = [make_record(Recipe.of(bits=4), ms=None), make_record(Recipe.of(bits=4, epochs=2))]
    assert gather(rows, x="latency", baseline=baseline).trained == ()
    assert len(gather(rows, x="size", baseline=baseline).trained) == 1


def test_roles_differ_without_colour(records, roles, baseline, markers):
    data = gather(records, x="size", baseline=baseline, **roles)
    figure = tradeoff.draw(data)
    symbols = {digest: symbol for digest, *_, symbol, _ in markers(figure)}
    sizes = {trace.name: trace.marker.size for trace in figure.data if trace.customdata is not None}
    assert symbols[roles["current"]] == "diamond-open-dot"
    assert symbols[next(iter(roles["pinned"] - {roles["current"]}))] == "diamond"
    assert sizes["Current"] > sizes["Baseline"] > sizes["Pinned"] > max(sizes["Seen"])
    line = next(trace for trace in figure.data if trace.line.shape == "hv")
    assert list(line.x) == [record.size.artefact / 1000 for record in pareto.front(records)]


def test_legend_names_each_kind_once(records, roles, baseline):
    figure = tradeoff.draw(gather(records, x="size", baseline=baseline, **roles))
    names = [trace.name for trace in figure.data if trace.showlegend]
    assert sorted(names) == ["Baseline", "Current", "Front", "Pinned", "Seen"]


def test_the_current_point_shows_its_interval(records, roles, baseline):
    data = gather(records, x="latency", baseline=baseline, **roles)
    current = next(record for record in records if record.digests.recipe == roles["current"])
    trace = next(trace for trace in tradeoff.draw(data).data if trace.name == "Current")
    assert trace.y[0] + trace.error_y.array[0] == pytest.approx(data.scale.position(current.figures.accuracy_high))
    assert trace.y[0] - trace.error_y.arrayminus[0] == pytest.approx(data.scale.position(current.figures.accuracy_low))
    timing = current.latency
    assert trace.x[0] + trace.error_x.array[0] == pytest.approx(0.4 / timing.speedup_low)
    assert trace.x[0] - trace.error_x.arrayminus[0] == pytest.approx(0.4 / timing.speedup_high)


def test_a_running_estimate_is_hollow_has_its_interval_and_is_not_on_the_front(records, baseline, make_record, markers):
    partial = make_record(Recipe.of(sparsity=0.33), size=1_000, correct=100, n=100)
    data = gather([*records, partial], x="size", baseline=baseline)
    figure = tradeoff.draw(data)
    symbol, hover = next((s, text) for digest, _, _, s, text in markers(figure) if digest == partial.digests.recipe)
    assert symbol == "circle-open"
    assert "running estimate on 100 of 800 samples" in hover
    assert data.front[0][0] > 1_000
    bars = next(trace for trace in figure.data if trace.name == "Estimate").error_y
    assert bars.arrayminus[0] == pytest.approx(1.0)

    current = tradeoff.draw(gather([*records, partial], x="size", baseline=baseline, current=partial.digests.recipe))
    assert [s for digest, *_, s, _ in markers(current) if digest == partial.digests.recipe] == ["circle-open"]


def test_the_split_may_be_larger_than_all_that_was_seen(baseline, make_record):
    record = make_record(Recipe.of(bits=8), correct=390, n=400)
    assert not gather([record], x="size", baseline=baseline).points[0].estimate
    assert gather([record], x="size", baseline=baseline, samples=800).points[0].estimate


def test_of_two_records_of_one_recipe_the_fuller_counts(baseline, make_record):
    recipe = Recipe.of(bits=8)
    partial, whole = make_record(recipe, correct=99, n=100), make_record(recipe)
    for given_order in ([partial, whole], [whole, partial]):
        points = gather(given_order, x="size", baseline=baseline).points
        assert [point.share for point in points if point.kind != "baseline"] == [whole.figures.accuracy]


def test_what_is_not_timed_waits_or_is_predicted(baseline, make_record, markers):
    timed, untimed = make_record(Recipe.of(bits=8)), make_record(Recipe.of(bits=4), ms=None)
    waiting = tradeoff.draw(gather([timed, untimed], x="latency", baseline=baseline))
    assert untimed.digests.recipe not in {digest for digest, *_ in markers(waiting)}
    assert any("1 not timed yet" in note.text for note in waiting.layout.annotations)

    expected = {untimed.digests.recipe: 0.21}
    data = gather([timed, untimed], x="latency", baseline=baseline, expected_ms=expected)
    at, symbol, hover = next(
        (x, s, text) for digest, x, _, s, text in markers(tradeoff.draw(data)) if digest == untimed.digests.recipe
    )
    assert (at, symbol) == (0.21, "circle-open")
    assert "predicted" in hover
    assert data.waiting == 0


def test_reused_predicted_and_measured_latencies_differ_without_colour(baseline, make_record, markers):
    own, other = make_record(Recipe.of(bits=8)), make_record(Recipe.of(bits=4), measured_for=Recipe.of(bits=8).digest)
    untimed = make_record(Recipe.of(bits=2), ms=None)
    records, expected = [own, other, untimed], {untimed.digests.recipe: 0.3}

    def symbols(x, **roles):
        figure = tradeoff.draw(gather(records, x=x, baseline=baseline, expected_ms=expected, **roles))
        names = [trace.name for trace in figure.data if trace.showlegend]
        found = {digest: symbol for digest, _, _, symbol, _ in markers(figure) if symbol != "star"}
        return [found[record.digests.recipe] for record in records], names

    assert symbols("latency")[0] == ["circle", "square", "circle-open"]
    assert {"Reused", "Predicted"} <= set(symbols("latency")[1])
    # On the axis of sizes all of them are measured.
    assert symbols("size")[0] == ["circle", "circle", "circle"]
    assert not {"Reused", "Predicted"} & set(symbols("size")[1])
    reused = {other.digests.recipe}
    assert symbols("latency", pinned=reused)[0][1] == "diamond-wide"
    assert symbols("latency", current=other.digests.recipe)[0][1] == "square-open-dot"
    assert symbols("latency", current=untimed.digests.recipe)[0][2] == "circle-open"


def test_the_legend_shows_roles_in_their_own_shapes(baseline, make_record):
    other = Recipe.of(bits=16).digest
    records = [make_record(Recipe.of(bits=bits), size=bits * 1000, measured_for=other) for bits in (8, 4, 2)]
    figure = tradeoff.draw(gather(records, x="latency", baseline=baseline, current=records[0].digests.recipe))
    shown = {trace.name: trace.marker.symbol for trace in figure.data if trace.showlegend}
    assert (shown["Current"], shown["Seen"], shown["Reused"]) == ("circle-open-dot", "circle", "square")
    names = [trace.name for trace in figure.data if trace.showlegend]
    assert len(names) == len(set(names))


def test_predictions_have_no_intervals_and_do_not_make_a_front(baseline, make_record):
    untimed = [make_record(Recipe.of(bits=bits), ms=None) for bits in (8, 4, 2)]
    expected = {record.digests.recipe: 0.1 for record in untimed}
    data = gather(untimed, x="latency", baseline=baseline, expected_ms=expected)
    assert data.front == () and data.waiting == 0
    (trace,) = [trace for trace in tradeoff.draw(data).data if trace.name == "Predicted"]
    assert len(trace.x) == 3 and trace.error_y.array is None


def test_all_are_placed_by_one_time_of_the_baseline(baseline, make_record, markers):
    # One network at four moments, one of them twice as slow: what is compared is the ratio within each moment.
    moments = {8: (0.5, 1.25), 4: (0.3, 0.8), 2: (0.4, 1.0), 5: (1.0, 2.0)}
    records = [
        make_record(Recipe.of(bits=bits), ms=ms / speedup, baseline_ms=ms) for bits, (ms, speedup) in moments.items()
    ]

    def places(records, **settings):
        figure = tradeoff.draw(gather(records, x="latency", baseline=baseline, **settings))
        return {digest: x for digest, x, *_ in markers(figure)}

    for reference in (None, 0.6):
        at, star = places(records, reference=reference), reference or 0.4
        assert at[Recipe().digest] == star
        for bits, (_, speedup) in moments.items():
            assert at[Recipe.of(bits=bits).digest] == pytest.approx(star / speedup)
    # Whoever is current moves nothing.
    assert places(records, current=records[0].digests.recipe) == places(records)
    assert places([]) == {}


def test_what_is_not_known_yet_has_no_place_and_says_so(baseline, make_record, markers):
    timed, wide = make_record(Recipe.of(bits=8)), make_record(Recipe.of(bits=4), ms=1.05, ends=(0.91, 6.33))
    data = gather([timed, wide], x="latency", baseline=baseline)
    figure = tradeoff.draw(data)
    assert wide.digests.recipe not in {digest for digest, *_ in markers(figure)}
    assert "1 not known yet: timed while the machine was busy" in {note.text for note in figure.layout.annotations}
    assert (data.waiting, data.undecided) == (1, 1)
    # Nor does its moment count for the baseline's time.
    assert [point.x for point in data.points if point.kind == "baseline"] == [0.4]
    sizes = gather([timed, wide], x="size", baseline=baseline).points
    (hover,) = [point.hover for point in sizes if point.digest == wide.digests.recipe]
    assert "latency: not known yet [0.91, 6.33]" in hover

    both = gather([timed, wide], x="latency", baseline=baseline, expected_ms={wide.digests.recipe: 0.3})
    (point,) = [point for point in both.points if point.digest == wide.digests.recipe]
    assert (point.x, point.kind, both.waiting) == (0.3, "predicted", 0)


def test_a_timing_without_the_lock_is_marked(baseline, make_record):
    record = make_record(Recipe.of(bits=8))
    for alone in (True, None, False):
        timed = dataclasses.replace(record, latency=dataclasses.replace(record.latency, alone=alone))
        point, _ = gather([timed], x="latency", baseline=baseline).points
        assert ("without the machine's lock" in point.hover) == (alone is False)


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize("x", QUANTITIES)
def test_a_lone_baseline_is_a_whole_picture(x, theme, baseline, validated, markers):
    figure = validated(tradeoff.draw(gather([], x=x, baseline=baseline, reference=0.4), theme))
    assert [symbol for *_, symbol, _ in markers(figure)] == ["star"]
    if x == "size":
        assert list(figure.layout.xaxis.tickvals) == [50, 100, 200, 500, 1000]
        assert figure.layout.xaxis.title.text == "Size of the file (KB, log scale)"


@pytest.mark.slow
@given(places=st.lists(st.tuples(st.integers(50, 5_000_000), st.integers(0, 800), st.floats(0.001, 50)), max_size=12))
def test_all_markers_are_within_the_axes(places, baseline, make_record, markers):
    records = [
        make_record(Recipe.of(sparsity=i / 100), size=size, correct=correct, ms=ms)
        for i, (size, correct, ms) in enumerate(places)
    ]
    for x in QUANTITIES:
        figure = tradeoff.draw(gather(records, x=x, baseline=baseline, reference=0.4))
        (left, right), (low, high) = figure.layout.xaxis.range, figure.layout.yaxis.range
        if x == "size":
            left, right = 10**left, 10**right
        assert all(left <= at <= right and low <= height <= high for _, at, height, _, _ in markers(figure))


@pytest.mark.parametrize("x", QUANTITIES)
def test_the_order_of_the_records_does_not_matter(x, records, roles, baseline):
    shuffled = random.Random(3).sample(records, len(records))
    one = gather(records, x=x, baseline=baseline, **roles)
    other = gather(shuffled, x=x, baseline=baseline, **roles)
    assert set(one.points) == set(other.points)
    assert (one.front, one.trail, one.scale, one.formats) == (other.front, other.trail, other.scale, other.formats)


def test_latency_axis_starts_at_zero_and_states_its_setting(records, baseline):
    figure = tradeoff.draw(gather(records, x="latency", baseline=baseline))
    assert figure.layout.xaxis.range[0] == 0
    assert figure.layout.xaxis.title.text == "Latency (ms per batch of 1, onnxruntime, 1 thread)"
    assert {note.text for note in figure.layout.annotations} >= {"int8", "fp32"}


def test_columns_too_near_share_a_label(baseline, make_record):
    records = [
        make_record(Recipe.of(bits=8), ms=0.39, number_format="int8"),
        make_record(Recipe.of(bits=16), ms=0.40, number_format="fp32"),
    ]
    figure = tradeoff.draw(gather(records, x="latency", baseline=baseline))
    assert [note.text for note in figure.layout.annotations] == ["int8, fp32"]


def test_zoom_survives_a_redraw_but_not_another_model(records, roles, baseline):
    def revision(x, some):
        return tradeoff.draw(gather(some, x=x, baseline=baseline)).layout.uirevision

    assert revision("size", records) == revision("size", records[:10])
    assert revision("size", records) != revision("latency", records)
