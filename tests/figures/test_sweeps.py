import math

import pytest
from paretoscope.figures import sweeps
from paretoscope.figures.theme import DARK, LIGHT
from paretoscope.recipe.recipe import Recipe
from paretoscope.tasks.classification import WORDS

CURRENT = Recipe.of(sparsity=0.8, scope="layer", clusters=16, bits=8)
SETTINGS = CURRENT.settings()


@pytest.fixture(scope="module")
def records(make_record):
    """The sweeps around CURRENT, in no order, among records that belong to none."""
    values = {"sparsity": (0.9, 0.0, 0.5), "clusters": (None, 4, 256), "bits": (2, 32)}
    recipes = [Recipe.of(**{**SETTINGS, slider: value}) for slider in values for value in values[slider]]
    strangers = [Recipe(), Recipe.of(sparsity=0.8, clusters=16, bits=8), Recipe.of(sparsity=0.9, clusters=4, bits=8)]
    return [make_record(recipe, correct=700 + i) for i, recipe in enumerate([*recipes, CURRENT, *strangers])]


def test_a_sweep_has_the_records_that_differ_in_its_slider_only(records, baseline):
    data = sweeps.gather(records, CURRENT, baseline, WORDS)
    assert [step.value for step in data["sparsity"].steps] == [0.0, 0.5, 0.8, 0.9]
    assert [step.value for step in data["clusters"].steps] == [4, 16, 256, None]
    assert [step.value for step in data["bits"].steps] == [2, 8, 32]
    for sweep in data.values():
        assert [step.digest for step in sweep.steps if step.current] == [CURRENT.digest]
        assert [step.x for step in sweep.steps] == sorted(step.x for step in sweep.steps)


def test_the_order_of_the_records_does_not_matter(records, baseline):
    assert sweeps.gather(records[::-1], CURRENT, baseline, WORDS) == sweeps.gather(records, CURRENT, baseline, WORDS)


def test_places_on_the_axes(records, baseline):
    data = sweeps.gather(records, CURRENT, baseline, WORDS)
    assert [step.x for step in data["sparsity"].steps] == pytest.approx([0, 50, 80, 90])
    assert [step.x for step in data["clusters"].steps] == [2, 4, 8, 9]
    assert data["bits"].current_x == math.log2(8)


def test_panels_share_one_scale_on_which_all_is_seen(records, baseline):
    data = sweeps.gather(records, CURRENT, baseline, WORDS)
    (scale,) = {sweep.scale for sweep in data.values()}
    low, high = scale.range
    assert all(low <= scale.position(step.low) <= high for sweep in data.values() for step in sweep.steps)


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize("slider", ["sparsity", "clusters", "bits"])
def test_every_step_is_one_clickable_marker(slider, theme, records, baseline, markers, validated):
    data = sweeps.gather(records, CURRENT, baseline, WORDS)[slider]
    figure = validated(sweeps.draw(data, theme))
    drawn = {digest: (x, y, symbol, hover) for digest, x, y, symbol, hover in markers(figure)}
    assert list(drawn) == [step.digest for step in data.steps]
    by_digest = {record.digests.recipe: record for record in records}
    for step in data.steps:
        x, y, symbol, hover = drawn[step.digest]
        assert (x, y) == (step.x, pytest.approx(data.scale.position(step.share)))
        assert (symbol == "circle-open-dot") == step.current
        assert by_digest[step.digest].recipe.describe() in hover
    low, high = figure.layout.xaxis.range
    assert all(low < x < high for x, *_ in drawn.values())


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_nothing_measured_yet_is_a_picture_with_the_baseline(theme, baseline, validated):
    for sweep in sweeps.gather([], CURRENT, baseline, WORDS).values():
        figure = validated(sweeps.draw(sweep, theme))
        assert len(sweep.steps) == 0
        dotted = [shape for shape in figure.layout.shapes if shape.line.dash == "dot"]
        assert [shape.y0 for shape in dotted] == [pytest.approx(100 * baseline.accuracy)]


EDGES = [
    ("sparsity", (0.8, 0.9), 85, "80 %"),
    ("clusters", (16, 8), 3.5, "16"),
    ("bits", (4, 3), (2 + math.log2(3)) / 2, "4"),
]


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize(("slider", "cliff", "edge", "label"), EDGES)
def test_a_cliff_is_half_way_and_shades_what_lies_beyond(
    slider, cliff, edge, label, theme, records, baseline, validated
):
    data = sweeps.gather(records, CURRENT, baseline, WORDS)[slider]
    figure = validated(sweeps.draw(data, theme, cliff=cliff))
    plain = validated(sweeps.draw(data, theme))
    area, rule = figure.layout.shapes[len(plain.layout.shapes) :]
    assert (area.type, rule.line.dash) == ("rect", "dash")
    assert area.x0 == rule.x0 == rule.x1 == pytest.approx(edge)
    # A harsher value lies to the right for the sparsity, to the left for the others; the shade leaves the panel there.
    low, high = figure.layout.xaxis.range
    assert area.x1 > high if slider == "sparsity" else area.x1 < low
    (note,) = figure.layout.annotations
    assert note.text == f"cliff at {label}"
    assert figure.data == plain.data


@pytest.mark.parametrize("cliff", [None, (None, 0.1), (0.98, None), (None, None)])
def test_without_both_ends_no_cliff_is_drawn(cliff, records, baseline, validated):
    data = sweeps.gather(records, CURRENT, baseline, WORDS)["sparsity"]
    assert validated(sweeps.draw(data, cliff=cliff)) == validated(sweeps.draw(data))
