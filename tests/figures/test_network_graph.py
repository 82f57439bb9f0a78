"""The graph as SVG: every tile within the drawing, none over another, its way and its colour, text from outside."""

import itertools
import re
from xml.etree import ElementTree

import pytest
from paretoscope.figures import network_graph as graph
from paretoscope.figures.theme import DARK, LIGHT
from paretoscope.graph.outline import Box, Outline
from paretoscope.measure.sensitivity import GRIDS, Sensitivity, SensitivityPoint
from paretoscope.tasks.classification import WORDS

SVG = "{http://www.w3.org/2000/svg}"


def chain(count: int, skip: int = 3) -> Outline:
    """So many layers, and a sum after every few that also reads what those began with."""
    boxes = [Box("x", "input", "", (), (), (3, 8, 8), ())]
    start = "x"
    for place in range(count):
        name = f"layer{place}"
        boxes.append(
            Box(name, "conv 3×3", name, (f"stage.{place}.conv.weight",), ("relu",), (8, 8, 8), (boxes[-1].name,))
        )
        if place % skip == skip - 1:
            boxes.append(Box(f"add{place}", "+", "", (), (), (8, 8, 8), (boxes[-1].name, start)))
            start = boxes[-1].name
    return Outline(tuple(boxes))


def picture(outline: Outline, lost: dict[str, float] | None = None) -> graph.Picture:
    weights = [name for box in outline.boxes for name in box.weights]
    return graph.gather(outline, dict.fromkeys(weights, 1000), lost or {}, WORDS, "lost when a layer alone is pruned")


def frames(svg: str) -> list[tuple[float, float, float, float]]:
    """Left, top, right and bottom of every tile and sign."""
    root = ElementTree.fromstring(svg)
    rects = [group.find(f"{SVG}rect") for group in root.findall(f"{SVG}g") if group.find(f"{SVG}rect") is not None]
    found = [[float(rect.get(name)) for name in ("x", "y", "width", "height")] for rect in rects]
    return [(x, y, x + width, y + height) for x, y, width, height in found]


@pytest.mark.parametrize("width", graph.WIDTHS)
@pytest.mark.parametrize("count", [1, 3, 20, 53])
def test_tiles_are_within_the_drawing_and_never_over_each_other(width: int, count: int) -> None:
    outline = chain(count)
    svg = graph.draw(picture(outline), LIGHT, width=width)
    height = float(re.search(r'height="([\d.]+)"', svg)[1])
    found = frames(svg)
    assert len(found) == len(outline.boxes)
    assert all(left >= 0 and right <= width and top >= 0 and bottom <= height for left, top, right, bottom in found)
    for one, other in itertools.combinations(found, 2):
        assert one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]
    # All ways are within it too.
    for path in re.findall(r'<path d="([^"]+)"', svg):
        numbers = [float(number) for number in re.findall(r"-?[\d.]+", path)]
        assert all(0 <= x <= width for x in numbers[::2]) and all(0 <= y <= height for y in numbers[1::2])


def test_fifty_three_layers_fit_a_large_screen() -> None:
    svg = graph.draw(picture(chain(53)), LIGHT, width=graph.WIDTHS[0])
    assert float(re.search(r'height="([\d.]+)"', svg)[1]) <= 900


def test_a_skip_is_an_arc_of_its_own_and_a_block_stays_in_a_row() -> None:
    data = picture(chain(53))
    skips = sum(len(tile.reads) - 1 for tile in data.tiles if tile.reads)
    svg = graph.draw(data, LIGHT)
    assert svg.count(f'stroke="{LIGHT.accent}" stroke-width="1.6"') == skips > 10
    assert f"{skips} ways that skip some" in data.alt
    # A row ends after a sum wherever it can.
    rows: dict[float, list[int]] = {}
    for place, spot in enumerate(graph._Plan.of(data, graph.WIDTHS[0]).spots):
        rows.setdefault(spot.row, []).append(place)
    assert all(data.tiles[row[-1]].label == "+" for row in list(rows.values())[:-1])


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_colours_are_what_is_lost_and_grey_where_nothing_is_known(theme) -> None:
    lost = {"stage.0.conv.weight": 0.0, "stage.1.conv.weight": 0.01, "stage.2.conv.weight": 0.5}
    svg = graph.draw(picture(chain(4), lost), theme, chosen="stage.1.conv.weight")
    for share in (0.0, 0.01, 0.5, None):
        assert f'fill="{graph.shade(share, theme)}"' in svg
    assert len({graph.shade(share, theme) for share in (0.0, 0.01, 0.03, 0.1, None)}) == 5
    assert graph.shade(0.1, theme) == graph.shade(0.9, theme)
    assert svg.count(f'stroke="{theme.text}" stroke-width="2.5"') == 1
    assert "-1.0 pt alone" in svg


def test_every_layer_can_be_reached_and_names_itself() -> None:
    root = ElementTree.fromstring(graph.draw(picture(chain(5)), LIGHT))
    tiles = [group for group in root.iter(f"{SVG}g") if group.get("class") == "tile"]
    assert [tile.get("data-layer") for tile in tiles] == [f"stage.{place}.conv.weight" for place in range(5)]
    assert all(tile.get("tabindex") == "0" and tile.get("role") == "button" for tile in tiles)
    assert tiles[0].get("aria-label") == "stage.0.conv: conv 3×3, relu; gives 8 × 8 × 8; 1 KB"


def test_text_from_outside_is_text() -> None:
    nasty = '"><script>alert(1)</script>&'
    box = Box("x", nasty, nasty, (f"{nasty}.weight",), (nasty,), None, ())
    svg = graph.draw(picture(Outline((box,))), LIGHT)
    assert "<script" not in svg
    (tile,) = [group for group in ElementTree.fromstring(svg).iter(f"{SVG}g") if group.get("class") == "tile"]
    assert tile.get("data-layer") == f"{nasty}.weight"
    told = graph.gather(Outline((box,)), {}, {}, WORDS, nasty)
    assert "<script" not in graph.legend(told, LIGHT)


def test_what_is_too_much_is_left_out_and_told() -> None:
    data = picture(chain(2 * graph.MOST))
    assert len(data.tiles) == graph.MOST and data.left_out == len(chain(2 * graph.MOST).boxes) - graph.MOST


@pytest.mark.parametrize("setting", graph.HARSH)
def test_what_colours_are_of_is_a_value_that_is_measured(setting: str) -> None:
    value, _ = graph.HARSH[setting]
    assert value in GRIDS[setting]
    points = tuple(SensitivityPoint(each, 50 if each == value else 99, 100, 0.0, 1) for each in GRIDS[setting])
    known = Sensitivity("m", 90, 100, {}, {}, {"a": {setting: points}, "b": {}})
    assert graph.lost_alone(known, setting) == {"a": pytest.approx(0.4)}
