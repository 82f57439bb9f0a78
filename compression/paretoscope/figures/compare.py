"""Configurations side by side in bars: a group for each category, a bar for each configuration, or a stack for each.

A configuration has its colour and its pattern in every figure, in the order of the columns, so that neither is needed
to tell it apart.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from paretoscope.base.units import Unit, bytes_unit, format_bytes, format_ms
from paretoscope.figures.ladder import RUNGS
from paretoscope.figures.theme import LIGHT, Theme, axis, fade, layout, literal
from paretoscope.measure.layer_bytes import LayerBytes
from paretoscope.measure.paired import paired_interval, paired_ms
from paretoscope.measure.record import Ladder, Latency
from paretoscope.measure.wording import UNDECIDED, speed
from paretoscope.search.waterfall import Waterfall
from paretoscope.tasks import Words

PATTERNS = ("", "/", "x", "-", "+", "|", "\\")
# Layers that have a bar of their own: those with the most bytes; by hand, no benchmark.
LAYERS = 12
REST = "all else"


@dataclass(frozen=True, slots=True)
class Series:
    """One configuration. place: among the columns. values, texts: of each category, None where there is none."""

    label: str
    place: int
    values: tuple[float | None, ...]
    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Groups:
    """Categories with a bar for each configuration. title: of the axis of values. log: whether that is logarithmic."""

    categories: tuple[str, ...]
    series: tuple[Series, ...]
    title: str
    told: str
    log: bool = False

    @property
    def alt(self) -> str:
        """One sentence in place of the picture."""
        each = "; ".join(
            f"{series.label}: "
            + ", ".join(f"{name} {text}" for name, text in zip(self.categories, series.texts, strict=True))
            for series in self.series
        )
        return f"{self.told} {each}."


def gather_ladders(ladders: Mapping[str, tuple[int, Ladder | None]]) -> Groups:
    """The size ladders of configurations by their labels, in the order of the columns; None: not measured yet.

    The first of each pair is its place among the columns.
    """
    names = [name for name in RUNGS if name != "baseline"]
    sizes = {
        label: (place, [getattr(ladder, name) for name in names])
        for label, (place, ladder) in ladders.items()
        if ladder is not None
    }
    unit = bytes_unit([size for _, found in sizes.values() for size in found])
    return Groups(
        tuple(RUNGS[name][0] for name in names),
        tuple(_bytes_series(label, place, found, unit) for label, (place, found) in sizes.items()),
        f"Size ({unit.name})",
        "Size of each configuration in each form.",
        log=True,
    )


def gather_layers(found: Mapping[str, tuple[int, LayerBytes]]) -> Groups:
    """Bytes of each layer; of many layers those with the most, the others together."""
    names = list(dict.fromkeys(name for _, each in found.values() for name, _ in each.layers))
    of = {label: dict(each.layers) for label, (_, each) in found.items()}
    largest = sorted(names, key=lambda name: -max(layers.get(name, 0) for layers in of.values()))[:LAYERS]
    own = [name for name in names if name in largest]
    others = [name for name in names if name not in largest]
    rows = {}
    for label, (place, each) in found.items():
        counts: list[int | None] = [of[label].get(name) for name in own]
        counts += [sum(of[label].get(name, 0) for name in others)] * bool(others)
        rows[label] = place, [*counts, each.rest]
    unit = bytes_unit([count for _, counts in rows.values() for count in counts if count])
    more = (f"{len(others)} other layers",) * bool(others)
    return Groups(
        (*(name.removesuffix(".weight") for name in own), *more, REST),
        tuple(_bytes_series(label, place, counts, unit) for label, (place, counts) in rows.items()),
        f"Bytes in the file ({unit.name})",
        "Bytes of each layer in the file of each configuration.",
    )


def gather_savings(found: Mapping[str, tuple[int, Waterfall]], titles: Mapping[str, str]) -> Groups:
    """What each step saves, as a share of the uncompressed size. titles: of the steps, in their order."""
    steps = _steps(found, titles)

    def value(fall: Waterfall, step: str) -> float | None:
        own = {each.step: each.bytes for each in fall.contributions}
        return 100 * own[step] / fall.dense_bytes if step in own else None

    series = tuple(
        _series(label, place, [value(fall, step) for step in steps], lambda value: f"{value:.1f} %")
        for label, (place, fall) in found.items()
    )
    names = tuple(titles[step] for step in steps)
    return Groups(names, series, "Saved (% of the size)", "What each step saves, in per cent of the size.")


def gather_costs(found: Mapping[str, tuple[int, Waterfall]], titles: Mapping[str, str], words: Words) -> Groups:
    """What each step costs of the task's figure."""
    steps = _steps(found, titles)

    def value(fall: Waterfall, step: str) -> float | None:
        own = {each.step: each.accuracy for each in fall.contributions}
        return words.factor * own[step] if step in own else None

    series = tuple(
        _series(label, place, [value(fall, step) for step in steps], lambda value: words.change(value / words.factor))
        for label, (place, fall) in found.items()
    )
    names = tuple(titles[step] for step in steps)
    return Groups(names, series, f"{words.lost} ({words.points})", f"What each step costs in {words.name}.")


def draw(data: Groups, theme: Theme = LIGHT, *, height: int = 320, key: str = "compare") -> go.Figure:
    """A group of bars for each category."""
    traces = [
        {
            "type": "bar",
            "name": literal(series.label),
            "x": [literal(name) for name in data.categories],
            "y": list(series.values),
            "marker": marker(series.place, theme),
            "hovertext": [
                f"<b>{literal(series.label)}</b>, {literal(name)}: {text}"
                for name, text in zip(data.categories, series.texts, strict=True)
            ],
            "hovertemplate": "%{hovertext}<extra></extra>",
        }
        for series in data.series
    ]
    scale: dict[str, Any] = {"type": "log", "dtick": 1} if data.log else {"nticks": 6, "rangemode": "tozero"}
    figure_layout = layout(
        theme,
        height=height,
        uirevision=key,
        barmode="group",
        bargap=0.25,
        bargroupgap=0.05,
        showlegend=True,
        xaxis=axis(theme, None, type="category", showgrid=False),
        yaxis=axis(theme, data.title, **scale),
    )
    return go.Figure({"data": traces, "layout": figure_layout}, _validate=False)


def draw_stacks(data: Groups, theme: Theme = LIGHT, *, key: str = "compare stacks") -> go.Figure:
    """A bar for each configuration, made of its categories from left to right, in two shades by turns."""
    labels = [literal(series.label) for series in data.series]
    traces = [
        {
            "type": "bar",
            "orientation": "h",
            "name": literal(name),
            "y": labels,
            "x": [series.values[place] for series in data.series],
            "text": [literal(name)] * len(labels),
            "textposition": "inside",
            "insidetextanchor": "middle",
            "textangle": 0,
            "textfont": {"color": theme.surface},
            "constraintext": "none" if len(data.categories) < 2 else "both",
            "marker": {
                "color": [
                    fade(theme.palette[series.place % len(theme.palette)], 1.0 if place % 2 == 0 else 0.6)
                    for series in data.series
                ],
                "line": {"width": 1, "color": theme.surface},
            },
            "hovertext": [
                f"<b>{literal(each.label)}</b>, {literal(name)}: {each.texts[place]}" for each in data.series
            ],
            "hovertemplate": "%{hovertext}<extra></extra>",
        }
        for place, name in enumerate(data.categories)
    ]
    figure_layout = layout(
        theme,
        height=80 + 44 * max(2, len(labels)),
        uirevision=key,
        barmode="stack",
        bargap=0.3,
        showlegend=False,
        uniformtext={"minsize": 10, "mode": "hide"},
        xaxis=axis(theme, data.title, nticks=6),
        yaxis=axis(theme, None, type="category", autorange="reversed", showgrid=False, ticklabelstandoff=6),
    )
    return go.Figure({"data": traces, "layout": figure_layout}, _validate=False)


@dataclass(frozen=True, slots=True)
class Speed:
    """One configuration's time. reference: milliseconds of its network's baseline, None where none was timed."""

    label: str
    place: int
    latency: Latency | None
    reference: float | None

    @property
    def ms(self) -> float | None:
        """Milliseconds a batch; None where it is not known."""
        if self.latency is None or self.reference is None or not self.latency.decided:
            return None
        return paired_ms(self.latency, self.reference)

    @property
    def told(self) -> str:
        """The paired speed-up with its interval, or why there is none."""
        if self.latency is None:
            return "not timed yet"
        return str(speed(self.latency)) if self.latency.decided else UNDECIDED


@dataclass(frozen=True, slots=True)
class Speeds:
    """The times of configurations, in the order of the columns."""

    bars: tuple[Speed, ...]

    @property
    def alt(self) -> str:
        """One sentence in place of the picture."""
        told = (f"{bar.label} {'' if bar.ms is None else format_ms(bar.ms) + ', '}{bar.told}" for bar in self.bars)
        return f"Time of each configuration: {'; '.join(told)}."


def gather_speeds(bars: Sequence[Speed]) -> Speeds:
    """The bars in the order of the columns."""
    return Speeds(tuple(bars))


def draw_speeds(data: Speeds, theme: Theme = LIGHT) -> go.Figure:
    """Milliseconds a batch with the interval of the paired speed-up, which stands beside each bar."""
    labels = [literal(bar.label) for bar in data.bars]
    values = [bar.ms or 0.0 for bar in data.bars]
    ends = [_ends(bar) for bar in data.bars]
    longest = max([*(end for _, end in ends), *(bar.reference or 0.0 for bar in data.bars)], default=0.0) or 1.0
    traces = [
        {
            "type": "bar",
            "orientation": "h",
            "y": labels,
            "x": values,
            "marker": {
                "color": [theme.palette[bar.place % len(theme.palette)] for bar in data.bars],
                "cornerradius": 3,
            },
            "error_x": {
                "type": "data",
                "symmetric": False,
                "array": [end - value for (_, end), value in zip(ends, values, strict=True)],
                "arrayminus": [value - start for (start, _), value in zip(ends, values, strict=True)],
                "color": theme.text,
                "thickness": 1.5,
                "width": 4,
            },
            "hovertext": [f"<b>{label}</b>: {bar.told}" for label, bar in zip(labels, data.bars, strict=True)],
            "hovertemplate": "%{hovertext}<extra></extra>",
        }
    ]
    notes = [
        {
            "x": end,
            "y": label,
            "text": bar.told if bar.ms is None else f"<b>{format_ms(bar.ms)}</b>  {bar.told}",
            "xanchor": "left",
            "xshift": 8,
            "showarrow": False,
            "bgcolor": theme.surface,
            "font": {"size": 12, "color": theme.text if bar.ms is not None else theme.muted},
        }
        for label, bar, (_, end) in zip(labels, data.bars, ends, strict=True)
    ]
    lines = [
        {
            "type": "line",
            "x0": bar.reference,
            "x1": bar.reference,
            "y0": place - 0.45,
            "y1": place + 0.45,
            "line": {"color": theme.text, "width": 2, "dash": "dot"},
        }
        for place, bar in enumerate(data.bars)
        if bar.reference is not None
    ]
    figure_layout = layout(
        theme,
        height=80 + 40 * max(2, len(labels)),
        uirevision="compare speeds",
        bargap=0.35,
        showlegend=False,
        annotations=notes,
        shapes=lines,
        # Room for what stands beside the longest bar.
        xaxis=axis(theme, "Time (ms a batch); dotted: its baseline", range=[0, 1.9 * longest], nticks=6),
        yaxis=axis(theme, None, type="category", autorange="reversed", showgrid=False, ticklabelstandoff=6),
    )
    return go.Figure({"data": traces, "layout": figure_layout}, _validate=False)


def marker(place: int, theme: Theme) -> dict[str, Any]:
    """Colour and pattern of a column."""
    colours = len(theme.palette)
    # Where the colours start anew the patterns are shifted by one, so that both are never the same again.
    colour, shape = theme.palette[place % colours], PATTERNS[(place + place // colours) % len(PATTERNS)]
    # A pattern takes the place of the colour, unless it has that as its own ground.
    pattern = {"shape": shape, "bgcolor": colour, "fgcolor": theme.surface, "size": 6, "solidity": 0.25}
    return {"color": colour, "pattern": pattern, "line": {"width": 0}}


def _ends(bar: Speed) -> tuple[float, float]:
    if bar.ms is None or bar.latency is None or bar.reference is None:
        return 0.0, 0.0
    return paired_interval(bar.latency, bar.reference)


def _bytes_series(label: str, place: int, counts: Sequence[int | None], unit: Unit) -> Series:
    values = tuple(None if count is None else count / unit.factor for count in counts)
    return Series(label, place, values, tuple("none" if count is None else format_bytes(count) for count in counts))


def _series(label: str, place: int, values: Sequence[float | None], text: Callable[[float], str]) -> Series:
    texts = tuple("no such step" if value is None or math.isnan(value) else text(value) for value in values)
    return Series(label, place, tuple(values), texts)


def _steps(found: Mapping[str, tuple[int, Waterfall]], titles: Mapping[str, str]) -> list[str]:
    own = {each.step for _, fall in found.values() for each in fall.contributions}
    return [step for step in titles if step in own]
