import pytest
from paretoscope.figures import layer_times
from paretoscope.figures.theme import DARK, LIGHT

THEMES = pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])


@THEMES
def test_layers_stand_in_the_order_of_the_network_with_the_rest_last(theme, validated) -> None:
    baseline = {"conv1.weight": 10.0, "other": 3.0, "a.very.long.name.of.a.layer.in.a.block.mlp.3.weight": 5.0}
    data = layer_times.gather({"conv1.weight": 4.0, "other": 2.0}, baseline)
    assert data.layers == ("conv1.weight", "a.very.long.name.of.a.layer.in.a.block.mlp.3.weight", "other")
    figure = validated(layer_times.draw(data, theme))
    own, beside = figure.data
    assert list(own.x) == [4.0, 0, 2.0] and list(beside.x) == [10.0, 5.0, 3.0]
    assert "no such layer" in own.hovertext[1] and "4 µs" in own.hovertext[0]
    labels = figure.layout.yaxis.ticktext
    assert labels[0] == "conv1" and labels[1].endswith("block.mlp.3") and len(labels[1]) == layer_times.LONGEST
    assert "most is spent in conv1, 4 µs" in data.alt


def test_layers_without_a_profile_say_so() -> None:
    data = layer_times.gather(None, {"conv1.weight": 1.0})
    assert data.own == (None,) and "not measured yet" in data.alt
    assert layer_times.gather(None, None).layers == ()
