"""Names from outside in figures: Plotly takes tags in texts as HTML, and draws links of them."""

from paretoscope.figures import layer_times, sensitivity
from paretoscope.figures.theme import literal
from paretoscope.tasks.classification import WORDS

NAME = '<a href="http://evil.example">fc1</a>.weight'
SHOWN = '&lt;a href="http://evil.example"&gt;fc1&lt;/a&gt;'


def test_literal_leaves_ordinary_names_alone() -> None:
    assert literal('layer1.0.conv1, 80 % sparse, it\'s "fine"') == 'layer1.0.conv1, 80 % sparse, it\'s "fine"'
    assert literal(NAME) == f"{SHOWN}.weight"


def test_hovers_and_ticks_show_a_layer_by_its_name() -> None:
    (bar, _) = layer_times.draw(layer_times.gather({NAME: 3.0}, {NAME: 4.0})).to_dict()["data"]
    assert bar["hovertext"][0].startswith(f"<b>{SHOWN}</b>, ")
    data = sensitivity.gather("sparsity", {NAME: {0.5: (0.9, 0.1)}}, (0.5,), 0.95, WORDS)
    for figure in (sensitivity.draw(data), sensitivity.draw_curves(data, chosen=NAME)):
        for trace in figure.to_dict()["data"]:
            hovers = str(trace.get("hovertext", ""))
            assert "<a " not in hovers and "<a " not in str(trace.get("name", ""))
    assert SHOWN in str(sensitivity.draw(data).to_dict()["data"][0]["hovertext"])
