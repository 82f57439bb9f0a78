import pytest
from paretoscope.figures import ladder
from paretoscope.figures.theme import DARK, LIGHT
from paretoscope.measure.record import Ladder

SIZE = Ladder(dense=1_000_000, sparse=1_200_000, packed=200_000, huffman=60_000, ans=50_000, artefact=51_000)


def test_rungs_are_the_ladder_from_dense_to_artefact():
    data = ladder.gather(SIZE, SIZE.dense)
    assert [rung.name for rung in data.rungs] == ["dense", "sparse", "packed", "huffman", "ans", "artefact"]
    assert [rung.bytes for rung in data.rungs] == [1_000_000, 1_200_000, 200_000, 60_000, 50_000, 51_000]
    assert data.rungs[1].ratio == pytest.approx(1 / 1.2)
    assert data.rungs[-1].ratio == pytest.approx(1_000_000 / 51_000)
    assert "Artefact 51 KB" in data.alt


def test_a_simplified_model_is_counted_from_its_baseline(validated):
    data = ladder.gather(SIZE, 4_000_000)
    assert [(rung.name, rung.bytes) for rung in data.rungs[:2]] == [("baseline", 4_000_000), ("dense", 1_000_000)]
    assert [rung.ratio for rung in data.rungs[:2]] == [1, 4]
    assert data.rungs[-1].ratio == pytest.approx(4_000_000 / 51_000)
    (bars,) = validated(ladder.draw(data)).data
    assert bars.text[:2] == ("<b>4 MB</b>", "<b>1 MB</b>  4.0x")


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_bars_are_labelled_and_the_artefact_stands_out(theme, validated):
    figure = validated(ladder.draw(ladder.gather(SIZE, SIZE.dense), theme))
    (bars,) = figure.data
    assert list(bars.x) == pytest.approx([1, 1.2, 0.2, 0.06, 0.05, 0.051])
    assert bars.text[0] == "<b>1 MB</b>"
    assert bars.text[-1] == "<b>51 KB</b>  19.6x"
    assert "1.2x larger" in bars.hovertext[1]
    assert [colour == theme.accent for colour in bars.marker.color] == [False] * 5 + [True]
    assert figure.layout.xaxis.title.text == "Size (MB)"
    assert figure.layout.xaxis.range[1] > max(bars.x)
