import pytest
from paretoscope.figures import sensitivity
from paretoscope.figures.theme import DARK, LIGHT
from paretoscope.tasks.classification import WORDS

GRID = (0.0, 0.5, 0.9)
CURVES = {
    "conv.weight": {0.0: (0.98, 0.0), 0.5: (0.97, 0.02), 0.9: (0.50, 1.5)},
    "fc.weight": {0.0: (0.99, 0.0), 0.9: (0.88, 0.3)},
    "head.weight": {},
}
THEMES = pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])


@pytest.fixture(scope="module")
def heat() -> sensitivity.Heat:
    return sensitivity.gather("sparsity", CURVES, GRID, 0.98, WORDS)


def test_curves_are_arranged_over_the_grid_with_gaps_where_nothing_was_measured(heat):
    assert heat.layers == ("conv.weight", "fc.weight", "head.weight")
    assert heat.labels == ("0 %", "50 %", "90 %")
    assert heat.shares == ((0.98, 0.97, 0.50), (0.99, None, 0.88), (None, None, None))
    assert heat.divergences == ((0.0, 0.02, 1.5), (0.0, None, 0.3), (None, None, None))
    assert "3 layers" in heat.alt and "5 of 9 values" in heat.alt


@pytest.mark.parametrize(
    ("setting", "values", "labels"),
    [
        ("clusters", (256, 16, 2), ("256", "16", "2")),
        ("bits", (16, 1), ("16", "1")),
        ("sparsity", (0.995,), ("99.5 %",)),
    ],
)
def test_labels_are_written_as_the_sliders_write_them(setting, values, labels):
    assert sensitivity.gather(setting, {}, values, 0.9, WORDS).labels == labels


@THEMES
def test_cells_darken_with_the_drop_and_no_further_than_the_darkest(heat, theme, validated):
    (trace,) = validated(sensitivity.draw(heat, theme)).data
    shades = [list(row) for row in trace.z]
    assert (trace.zmin, trace.zmax) == (0, 1)
    assert shades[0] == pytest.approx([0.0, 0.1**0.5, 1.0])  # 0, 1 and 48 points
    assert shades[1] == [0.0, None, pytest.approx(1.0)]  # gained, not measured, exactly the darkest
    assert shades[2] == [None, None, None]
    assert list(trace.colorbar.tickvals) == pytest.approx([0, 0.1**0.5, 0.3**0.5, 1])


@THEMES
def test_every_cell_carries_its_layer_and_says_what_was_measured(heat, theme, validated):
    (trace,) = validated(sensitivity.draw(heat, theme)).data
    assert list(trace.y) == ["conv", "fc", "head"]
    for row, layer in enumerate(heat.layers):
        assert [cell[0] for cell in trace.customdata[row]] == [layer] * len(GRID)
    assert trace.hovertext[0][2].startswith("<b>conv</b>, sparsity 90 %<br>50.0 % accuracy")
    assert trace.hovertext[1][1] == trace.hovertext[2][0] == "not measured yet"


@pytest.mark.parametrize("row", range(3))
def test_the_frame_is_around_the_chosen_row(heat, row, validated):
    figure = validated(sensitivity.draw(heat, chosen=heat.layers[row]))
    (frame,) = figure.layout.shapes
    assert (frame.x0, frame.x1, frame.y0, frame.y1) == (-0.5, 2.5, row - 0.5, row + 0.5)


def test_a_layer_that_is_not_shown_has_no_frame(heat, validated):
    assert validated(sensitivity.draw(heat, chosen="other.weight")).layout.shapes == ()
    assert validated(sensitivity.draw(heat)).layout.shapes == ()


def of_layers(count: int) -> sensitivity.Heat:
    curves = {f"stage{index // 6}.{index}.convolution.weight": {8: (0.9, 0.0), 4: (0.5, 0.1)} for index in range(count)}
    return sensitivity.gather("bits", curves, (8, 4), 0.9, WORDS)


def test_a_few_layers_stand_one_below_the_other():
    heights = [sensitivity.draw(of_layers(count)).layout.height for count in (1, 2, 8, sensitivity.MANY)]
    assert heights == sorted(heights) and heights[0] < heights[2] < heights[3]


@THEMES
def test_many_layers_stand_side_by_side_on_one_screen(theme, validated):
    data = of_layers(53)
    figure = validated(sensitivity.draw(data, theme, chosen=data.layers[7]))
    (trace,) = figure.data
    # On a screen of 720 pixels a figure has some 400.
    assert data.wide and figure.layout.height <= 400
    assert len(trace.x) == len(set(trace.x)) == 53 and list(trace.y) == ["8", "4"]
    assert [cell[0] for cell in trace.customdata[1]] == list(data.layers)
    assert trace.hovertext[1][7].startswith(f"<b>{data.layers[7].removesuffix('.weight')}</b>, bits 4<br>50.0 %")
    (frame,) = figure.layout.shapes
    assert (frame.x0, frame.x1, frame.y0, frame.y1) == (6.5, 7.5, -0.5, 1.5)
    # Plotly leaves out names that have no room, but not those that it is given one by one.
    assert figure.layout.xaxis.tickvals is None and figure.layout.xaxis.tickangle == -90


@THEMES
def test_the_chosen_curve_is_drawn_last_and_in_the_accent_colour(heat, theme, validated):
    figure = validated(sensitivity.draw_curves(heat, theme, chosen="conv.weight"))
    assert [trace.name for trace in figure.data] == ["fc", "head", "conv"]
    assert [trace.line.color for trace in figure.data] == [theme.faint, theme.faint, theme.accent]
    for trace, layer in zip(figure.data, ("fc.weight", "head.weight", "conv.weight"), strict=True):
        assert {item[0] for item in trace.customdata} == {layer}


def test_curves_have_gaps_fall_with_accuracy_and_share_the_baseline_of_the_heat_map(heat, validated):
    figure = validated(sensitivity.draw_curves(heat))
    conv, fc, head = figure.data
    assert conv.y[0] > conv.y[1] > conv.y[2]
    assert fc.y[0] > conv.y[0] and fc.y[1] is None
    assert list(head.y) == [None] * 3
    dotted = [shape for shape in figure.layout.shapes if shape.line.dash == "dot"]
    assert [shape.y0 for shape in dotted] == [conv.y[0]]
    low, high = figure.layout.yaxis.range
    assert all(low <= y <= high for trace in figure.data for y in trace.y if y is not None)


@THEMES
@pytest.mark.parametrize("draw", [sensitivity.draw, sensitivity.draw_curves])
def test_nothing_measured_yet_is_a_picture(draw, theme, validated):
    validated(draw(sensitivity.gather("clusters", {}, (256, 2), 0.9, WORDS), theme))
    validated(draw(sensitivity.gather("clusters", {"fc.weight": {}}, (256, 2), 0.9, WORDS), theme, chosen="fc.weight"))


@pytest.mark.parametrize(
    ("layer", "label"),
    [
        ("features.14.conv.0.0.weight", "features.14.conv.0.0"),
        ("encoder.layers.encoder_layer_0.mlp.3.weight", "e.l.e0.mlp.3"),
        ("encoder.layers.encoder_layer_12.self_attention.out_proj.weight", "e.l.e12.s.out_proj"),
        ("a_single_name_that_is_rather_long.weight", "a_single_name_that_is_rather_long"),
    ],
)
def test_long_names_are_abbreviated_beside_the_heat_map_only(layer, label, validated):
    figure = validated(sensitivity.draw(sensitivity.gather("bits", {layer: {8: (0.9, 0.1)}}, (8,), 0.9, WORDS)))
    (name,) = figure.data[0].y
    assert name == layer.removesuffix(".weight") and f"<b>{name}</b>" in figure.data[0].hovertext[0][0]
    assert list(figure.layout.yaxis.tickvals) == [name]
    assert list(figure.layout.yaxis.ticktext) == [label]
