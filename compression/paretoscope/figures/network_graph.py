"""The network as a graph: a tile for each layer, by what it loses and what it takes, and the ways between them.

Tiles run from left to right in rows, as text does; a row ends where only one value goes on, if it can, so that a
residual block stays together. A way to the next tile is a line; one that skips tiles is an arc over them. SVG by hand:
text is text, a tile can be reached by the keyboard, and nothing has to be loaded for it.
"""

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from paretoscope.base.units import format_bytes
from paretoscope.figures.sensitivity import DARKEST, abbreviated
from paretoscope.figures.theme import FONT, LIGHT, Theme, fade
from paretoscope.graph.outline import Outline
from paretoscope.measure.sensitivity import Sensitivity
from paretoscope.tasks import Words

# Boxes that are drawn at most; what comes after them is told.
MOST = 600
# Widths in CSS pixels that a page may choose from: large and small screens beside the controls, a tablet, a phone.
WIDTHS = (960, 800, 600, 340)

# What a layer alone is compressed to where tiles are coloured by what it loses, a value of the grids of
# `measure.sensitivity`, and how that is told: harsh, but not hopeless. Chosen by hand, no benchmark.
HARSH: Mapping[str, tuple[float, str]] = {
    "sparsity": (0.9, "is pruned to 90 %"),
    "clusters": (4, "shares 4 values"),
    "bits": (3, "is quantized to 3 bits"),
}

# In CSS pixels: a tile, what stands between two, the way around at the ends of rows, and the steps of arcs.
_TILE, _HEIGHT, _GAP, _MARGIN, _STEP = 98, 54, 15, 16, 8
_SMALL, _LETTER = 26, 5.6
_SIGNS = ("+", "×", "−")


@dataclass(frozen=True, slots=True)
class Tile:
    """One box of the outline. title: its place in the network. label: what it does. then: what only follows it.

    layer: the name of its weight, None where recipes act on none of it. bytes: of its weights. lost: share of the
    task's figure that is lost when it alone is compressed, None where that is not known. reads: places of the tiles
    before it.
    """

    title: str
    label: str
    then: tuple[str, ...]
    shape: tuple[int, ...] | None
    layer: str | None
    bytes: int | None
    lost: float | None
    reads: tuple[int, ...]

    @property
    def small(self) -> bool:
        """Whether it is drawn as a sign or a word."""
        return self.layer is None


@dataclass(frozen=True, slots=True)
class Picture:
    """The tiles, each after those that it reads. told: what their colours say. left_out: boxes that are not drawn."""

    tiles: tuple[Tile, ...]
    told: str
    words: Words
    left_out: int = 0

    @property
    def alt(self) -> str:
        """One sentence in place of the picture."""
        layers = [tile for tile in self.tiles if tile.layer is not None]
        skips = sum(source != place - 1 for place, tile in enumerate(self.tiles) for source in tile.reads)
        lost = max(layers, key=lambda tile: -1.0 if tile.lost is None else tile.lost, default=None)
        worst = "" if lost is None or not lost.lost else f" {lost.title} loses most: {self._lost(lost)}."
        return f"The network as a graph: {len(layers)} layers, {skips} ways that skip some.{worst}"

    def _lost(self, tile: Tile) -> str:
        assert tile.lost is not None, "only what is known is told"
        return self.words.change(-tile.lost)


def gather(
    outline: Outline,
    sizes: Mapping[str, int],
    lost: Mapping[str, float],
    words: Words,
    told: str,
) -> Picture:
    """The outline with what is known of its weights, by their names in the state dict.

    sizes: bytes. lost: shares of the task's figure, as far as they are known. told: what `lost` is.
    """
    boxes = outline.boxes[:MOST]
    places = {box.name: place for place, box in enumerate(boxes)}
    tiles = []
    for box in boxes:
        known = [lost[name] for name in box.weights if name in lost]
        tiles.append(
            Tile(
                title=_title(box.weights, box.where) or box.name,
                label=box.label,
                then=box.then,
                shape=box.shape,
                layer=box.weights[0] if box.weights else None,
                bytes=sum(sizes.get(name, 0) for name in box.weights) or None,
                lost=max(known) if known else None,
                reads=tuple(places[name] for name in box.reads if name in places),
            )
        )
    return Picture(tuple(tiles), told, words, len(outline.boxes) - len(boxes))


def lost_alone(known: Sensitivity, setting: str) -> dict[str, float]:
    """Share of the task's figure that each measured layer loses at the harsh value of a setting; never less than 0."""
    value, baseline = HARSH[setting][0], known.correct / known.n
    return {
        layer: max(0.0, baseline - point.correct / point.n)
        for layer, curve in known.curves.items()
        for point in curve.get(setting, ())
        if point.value == value
    }


def _title(weights: Sequence[str], where: str) -> str:
    return weights[0].removesuffix(".weight").removesuffix("_weight") if weights else where


def draw(data: Picture, theme: Theme = LIGHT, *, width: int = WIDTHS[0], chosen: str | None = None) -> str:
    """An SVG of that width, in CSS pixels. chosen: the layer whose tile is framed.

    Tiles of layers have the class "tile", the layer's name in `data-layer`, and can be reached by the keyboard.
    """
    plan = _Plan.of(data, width)
    heaviest = max((tile.bytes for tile in data.tiles if tile.bytes), default=1)
    ways = [_way(points, theme, skips) for points, skips in plan.ways]
    tiles = [
        _drawn(tile, spot, theme, data.words, heaviest, tile.layer is not None and tile.layer == chosen)
        for tile, spot in zip(data.tiles, plan.spots, strict=True)
    ]
    # No label of the picture as a whole: whoever shows it has one, and its tiles are read one by one.
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {plan.height:g}" width="{width}" '
        f'height="{plan.height:g}" font-family="{html.escape(FONT)}" fill="{theme.text}">'
        f"<g>{''.join(ways)}</g>{''.join(tiles)}</svg>"
    )


def legend(data: Picture, theme: Theme = LIGHT) -> str:
    """What the colours and the bars mean, as HTML."""
    unit = data.words.change_unit
    steps = [(points, f"{points:g}{'+' if points == 10 else ''}") for points in (0, 1, 3, 10)]
    swatches = "".join(
        f'<span style="white-space:nowrap"><span style="display:inline-block;width:.9em;height:.9em;margin:0 .3em 0 '
        f'.6em;vertical-align:-.1em;background:{shade(points / data.words.factor, theme)}"></span>{text}</span>'
        for points, text in steps
    )
    return f"{html.escape(data.told)}, {html.escape(unit)}:{swatches}"


def shade(lost: float | None, theme: Theme) -> str:
    """The colour of a share that is lost, as in the heat map of sensitivity; grey where it is not known."""
    if lost is None:
        return theme.band
    depth = math.sqrt(min(1.0, max(0.0, lost) / DARKEST))
    return fade(theme.accent, 0.12) if depth == 0 else fade(theme.alert, round(0.12 + 0.6 * depth, 3))


@dataclass(frozen=True, slots=True)
class _Spot:
    """Where a tile is: left, top and width."""

    x: float
    y: float
    width: float
    row: int

    @property
    def centre(self) -> float:
        return self.x + self.width / 2

    @property
    def middle(self) -> float:
        return self.y + _HEIGHT / 2


_Points = list[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class _Plan:
    """Spots of the tiles, ways between them (whether each skips tiles), and the height of it all."""

    spots: tuple[_Spot, ...]
    ways: tuple[tuple[_Points, bool], ...]
    height: float

    @classmethod
    def of(cls, data: Picture, width: int) -> "_Plan":
        rows = _rows(data.tiles, width - 2 * _MARGIN)
        row_of = {place: number for number, row in enumerate(rows) for place in row}
        across: dict[int, float] = {}
        for row in rows:
            x = float(_MARGIN)
            for place in row:
                across[place] = x
                x += _width(data.tiles[place]) + _GAP
        edges = [(source, place) for place, tile in enumerate(data.tiles) for source in tile.reads]
        skips = [edge for edge in edges if edge[1] != edge[0] + 1]
        wraps = [edge for edge in edges if edge[1] == edge[0] + 1 and row_of[edge[0]] != row_of[edge[1]]]
        middle = {place: across[place] + _width(data.tiles[place]) / 2 for place in across}
        lanes, used = _lanes(skips, row_of, middle, float(width), len(rows))
        # The way from the end of a row before is above the arcs of the next.
        tops, y = [], 0.0
        for number in range(len(rows)):
            y += (_STEP if number else 0) + _STEP * (used[number] + 1)
            tops.append(y)
            y += _HEIGHT
        spots = [
            _Spot(across[place], tops[row_of[place]], _width(data.tiles[place]), row_of[place]) for place in across
        ]
        ways: list[tuple[_Points, bool]] = []
        for source, target in edges:
            one, other = spots[source], spots[target]
            if (source, target) in lanes:
                up, down = lanes[source, target]
                ways.append((_arc(one, other, up, down, width - 3.0), True))
            elif (source, target) in wraps:
                lane = other.y - _STEP * (used[other.row] + 1)
                end = width - _MARGIN / 2
                ways.append(
                    (
                        [
                            (one.x + one.width, one.middle),
                            (end, one.middle),
                            (end, lane),
                            (_MARGIN / 2, lane),
                            (_MARGIN / 2, other.middle),
                            (other.x, other.middle),
                        ],
                        False,
                    )
                )
            else:
                ways.append(([(one.x + one.width, one.middle), (other.x, other.middle)], False))
        return cls(tuple(spots), tuple(ways), y + 4)


def _width(tile: Tile) -> float:
    if not tile.small:
        return _TILE
    return _SMALL if tile.label in _SIGNS else max(_SMALL, 12 + 6.2 * len(_word(tile)))


def _word(tile: Tile) -> str:
    return tile.label if len(tile.label) <= 14 else f"{tile.label[:13]}…"


def _rows(tiles: Sequence[Tile], width: float) -> list[list[int]]:
    """Places of the tiles in rows of at most that width; a row ends where one value alone goes on, if that is near."""
    last = [place for place in range(len(tiles))]
    for place, tile in enumerate(tiles):
        for source in tile.reads:
            last[source] = max(last[source], place)
    # Whether all that was made before a place is read by then, but for what the place itself gives.
    clean, reach = [], -1
    for place in range(len(tiles)):
        clean.append(reach <= place)
        reach = max(reach, last[place])
    rows: list[list[int]] = [[]]
    taken = 0.0
    for place, tile in enumerate(tiles):
        needed = _width(tile) + (_GAP if rows[-1] else 0)
        if rows[-1] and taken + needed > width:
            row = rows[-1]
            ends = [at for at in range(len(row)) if clean[row[at]]]
            cut = ends[-1] + 1 if ends and ends[-1] + 1 > len(row) // 2 else len(row)
            rows[-1], rest = row[:cut], row[cut:]
            rows.append(rest)
            taken = sum(_width(tiles[each]) + _GAP for each in rest) - (_GAP if rest else 0)
            needed = _width(tile) + (_GAP if rest else 0)
        rows[-1].append(place)
        taken += needed
    return rows


def _lanes(
    skips: Sequence[tuple[int, int]], row_of: Mapping[int, int], middle: Mapping[int, float], width: float, rows: int
) -> tuple[dict[tuple[int, int], tuple[int, int]], list[int]]:
    """For each way that skips tiles, its lane over the row that it leaves and over the one that it enters; and how many
    lanes each row has. Short ways lie lower.
    """
    taken: list[list[list[tuple[float, float]]]] = [[] for _ in range(rows)]

    def lane(row: int, low: float, high: float) -> int:
        for number, ends in enumerate(taken[row]):
            if all(high + 4 < start or end + 4 < low for start, end in ends):
                ends.append((low, high))
                return number + 1
        taken[row].append([(low, high)])
        return len(taken[row])

    found = {}
    for source, target in sorted(skips, key=lambda edge: edge[1] - edge[0]):
        if row_of[source] == row_of[target]:
            number = lane(row_of[source], middle[source], middle[target])
            found[source, target] = number, number
        else:
            found[source, target] = (
                lane(row_of[source], middle[source], width),
                lane(row_of[target], middle[target], width),
            )
    return found, [len(each) for each in taken]


def _arc(one: _Spot, other: _Spot, up: int, down: int, end: float) -> _Points:
    """Over the tiles from one to another; around the end of the rows where they are in two."""
    start, stop = one.centre + 4, other.centre - 4
    high, low = one.y - _STEP * up, other.y - _STEP * down
    if one.row == other.row:
        return [(start, one.y), (start, high), (stop, high), (stop, other.y)]
    return [(start, one.y), (start, high), (end, high), (end, low), (stop, low), (stop, other.y)]


def _way(points: _Points, theme: Theme, skips: bool) -> str:
    """A line with round corners and the head of an arrow at its end."""
    path = [f"M{points[0][0]:.1f} {points[0][1]:.1f}"]
    for before, corner, after in zip(points, points[1:], points[2:], strict=False):
        one, other = _towards(corner, before), _towards(corner, after)
        path.append(f"L{one[0]:.1f} {one[1]:.1f}Q{corner[0]:.1f} {corner[1]:.1f} {other[0]:.1f} {other[1]:.1f}")
    (x, y), (from_x, from_y) = points[-1], points[-2]
    path.append(f"L{x:.1f} {y:.1f}")
    across, along = ((0.0, 1.0), x - from_x) if abs(x - from_x) > abs(y - from_y) else ((1.0, 0.0), y - from_y)
    back = 4.5 if along > 0 else -4.5
    (a, b), (c, d) = (
        (x - back * across[1] + side * 3 * across[0], y - back * across[0] + side * 3 * across[1]) for side in (1, -1)
    )
    colour, line = (theme.accent, 1.6) if skips else (theme.muted, 1.2)
    return (
        f'<path d="{"".join(path)}" fill="none" stroke="{colour}" stroke-width="{line}"/>'
        f'<path d="M{x:.1f} {y:.1f}L{a:.1f} {b:.1f}L{c:.1f} {d:.1f}Z" fill="{colour}"/>'
    )


def _towards(corner: tuple[float, float], point: tuple[float, float], radius: float = 4.0) -> tuple[float, float]:
    away = math.hypot(point[0] - corner[0], point[1] - corner[1])
    share = min(radius, away / 2) / away if away else 0.0
    return corner[0] + share * (point[0] - corner[0]), corner[1] + share * (point[1] - corner[1])


def _drawn(tile: Tile, spot: _Spot, theme: Theme, words: Words, heaviest: int, chosen: bool) -> str:
    told = html.escape(_told(tile, words))
    if tile.small:
        return _sign(tile, spot, theme, told)
    right, base = spot.x + spot.width - 6, spot.y + 43
    letters = int((spot.width - 10) / _LETTER)
    shape = "" if tile.shape is None else "×".join(map(str, tile.shape))
    size = "" if tile.bytes is None else format_bytes(tile.bytes)
    bar = max(1.5, (spot.width - 2) * tile.bytes / heaviest) if tile.bytes else 0.0
    frame = f'stroke="{theme.text}" stroke-width="2.5"' if chosen else f'stroke="{theme.faint}" stroke-width="1"'
    assert tile.layer is not None, "small tiles are drawn as signs"
    return (
        f'<g class="tile" tabindex="0" role="button" data-layer="{html.escape(tile.layer)}" aria-label="{told}">'
        f"<title>{told}</title>"
        f'<rect x="{spot.x:.1f}" y="{spot.y:.1f}" width="{spot.width:g}" height="{_HEIGHT}" rx="5" '
        f'fill="{theme.surface}"/>'
        f'<rect x="{spot.x:.1f}" y="{spot.y:.1f}" width="{spot.width:g}" height="{_HEIGHT}" rx="5" '
        f'fill="{shade(tile.lost, theme)}" {frame}/>'
        f'<rect x="{spot.x + 1:.1f}" y="{spot.y + _HEIGHT - 5:.1f}" width="{bar:.1f}" height="4" rx="2" '
        f'fill="{theme.text}" fill-opacity="0.55"/>'
        f"{_text(spot.x + 6, spot.y + 15, abbreviated(tile.title, letters), 11, _BOLD, letters)}"
        f"{_text(spot.x + 6, spot.y + 29, tile.label, 10.5, '', letters)}"
        f"{_text(spot.x + 6, base, shape, 9.5, '', 10)}"
        f"{_text(right, base, size, 9.5, _TO_THE_LEFT, 10)}</g>"
    )


def _sign(tile: Tile, spot: _Spot, theme: Theme, told: str) -> str:
    sign = tile.label in _SIGNS
    height = _SMALL if sign else 22
    top = spot.middle - height / 2
    return (
        f"<g><title>{told}</title>"
        f'<rect x="{spot.x:.1f}" y="{top:.1f}" width="{spot.width:g}" height="{height}" rx="{height / 2:g}" '
        f'fill="{theme.surface}" stroke="{theme.muted}" stroke-width="1.2"/>'
        f"{_text(spot.centre, spot.middle + (5 if sign else 4), _word(tile), 15 if sign else 10.5, _CENTRED, 16)}</g>"
    )


_BOLD, _CENTRED, _TO_THE_LEFT = 'font-weight="600"', 'text-anchor="middle"', 'text-anchor="end"'


def _text(x: float, y: float, text: str, size: float, more: str, most: int) -> str:
    shown = text if len(text) <= most else f"{text[: most - 1]}…"
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size:g}" {more}>{html.escape(shown)}</text>'


def _told(tile: Tile, words: Words) -> str:
    """All that is known of a tile, in one line."""
    steps = ", ".join((tile.label, *tile.then))
    parts = [f"{tile.title}: {steps}" if tile.title else steps]
    parts += [f"gives {' × '.join(map(str, tile.shape))}"] if tile.shape is not None else []
    parts += [format_bytes(tile.bytes)] if tile.bytes is not None else []
    parts += [f"{words.change(-tile.lost)} alone"] if tile.lost is not None else []
    return "; ".join(parts)
