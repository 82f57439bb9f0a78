"""The task's figure against size and against latency: one marker for each record, each loads its recipe.

Shape carries the meaning, colour repeats it: star = baseline, filled circles on a stepped line = front, target =
current, diamond = pinned, small dots = seen, hollow = not measured in full yet, with its interval. On the latency axis
squares reuse the timing of another recipe of the same graph and number format. Its milliseconds are one time of the
baseline over each recipe's speed-up (`measure.paired`), so that the star is at exactly 1.0 times. An arrow leads from a
recipe to the same one with training.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import plotly.graph_objects as go

from paretoscope.figures.scale import share_axis, strip
from paretoscope.figures.theme import LIGHT, Theme, axis, fade, layout
from paretoscope.figures.tradeoff_points import EXPECTED_RATIO, Point, PointKind, Tradeoff, has_interval


def draw(data: Tradeoff, theme: Theme = LIGHT, *, height: int = 340) -> go.Figure:
    """The figure; customdata[0] of every marker is its recipe digest (of `Recipe()` for the baseline's star)."""
    by_kind: dict[PointKind, list[Point]] = {
        PointKind.SEEN: [],
        PointKind.PREDICTED: [],
        PointKind.FRONT: [],
        PointKind.ESTIMATE: [],
        PointKind.PINNED: [],
        PointKind.BASELINE: [],
        PointKind.CURRENT: [],
    }
    for point in data.points:
        by_kind[point.kind].append(point)
    traces = [*_trail(data, theme), *_front(data, theme), *_reused(data, theme), *_trained_entry(data, theme)]
    for kind, points in by_kind.items():
        if points:
            trace = _markers(data, theme, kind, points)
            traces.append(trace)
            if kind in NAMES and any(point.reused for point in points):
                traces.append(_entry(trace, kind, points))
    xaxis = _size_axis(data, theme) if data.quantity == "size" else _latency_axis(data, theme)
    figure_layout = layout(
        theme,
        height=height,
        uirevision=f"{data.model} {data.quantity}",
        xaxis=xaxis,
        yaxis=share_axis(data.scale, data.words, theme),
        shapes=strip(data.scale, theme),
        annotations=[*_arrows(data, theme), *_notes(data, theme)],
        clickmode="event+select",
        dragmode="zoom",
    )
    # Room for the names of the columns; in both figures, so that they stand level side by side.
    figure_layout["legend"]["y"] = 1.08
    # Unvalidated: plotly's validation costs five times as much as all the rest; the tests validate.
    return go.Figure({"data": traces, "layout": figure_layout}, _validate=False)


STYLES: dict[PointKind, Callable[[Theme], dict[str, Any]]] = {
    PointKind.SEEN: lambda t: {"color": fade(t.muted, 0.5), "line": {"width": 0}},
    PointKind.FRONT: lambda t: {"size": 8, "color": t.text, "line": {"width": 1, "color": t.surface}},
    PointKind.ESTIMATE: lambda t: {"size": 9, "color": t.muted, "line": {"width": 1.5}},
    PointKind.PREDICTED: lambda t: {"size": 6, "color": t.muted, "line": {"width": 1}},
    PointKind.PINNED: lambda t: {"size": 12, "color": t.palette[1], "line": {"width": 1, "color": t.surface}},
    PointKind.BASELINE: lambda t: {
        "symbol": "star",
        "size": 15,
        "color": t.text,
        "line": {"width": 1, "color": t.surface},
    },
    PointKind.CURRENT: lambda t: {"size": 18, "color": t.accent, "line": {"width": 3}},
}
NAMES: dict[PointKind, str] = {
    PointKind.SEEN: "Seen",
    PointKind.ESTIMATE: "Estimate",
    PointKind.PREDICTED: "Predicted",
    PointKind.PINNED: "Pinned",
    PointKind.BASELINE: "Baseline",
    PointKind.CURRENT: "Current",
}
RANKS: dict[str, int] = {
    PointKind.CURRENT: 1,
    PointKind.BASELINE: 2,
    PointKind.FRONT: 3,
    PointKind.PINNED: 4,
    PointKind.SEEN: 5,
    PointKind.ESTIMATE: 6,
    PointKind.PREDICTED: 7,
    "reused": 8,
    "trained": 9,
}


def _markers(data: Tradeoff, theme: Theme, kind: PointKind, points: list[Point]) -> dict[str, Any]:
    scale, factor = data.scale, data.unit.factor
    marker = {"opacity": 1, **STYLES[kind](theme)}
    if kind == PointKind.SEEN:
        marker["size"] = [6 if point.visited else 5 for point in points]
    if kind != PointKind.BASELINE:
        marker["symbol"] = [_symbol(kind, point) for point in points]
    heights = [scale.position(point.share) for point in points]
    trace: dict[str, Any] = {
        "type": "scatter",
        "mode": "markers",
        "name": NAMES.get(kind, ""),
        "legendrank": RANKS[kind],
        "showlegend": kind in NAMES,
        "x": [point.x / factor for point in points],
        "y": heights,
        "customdata": [[point.digest] for point in points],
        "hovertext": [point.hover for point in points],
        "hovertemplate": "%{hovertext}<extra></extra>",
        "marker": marker,
        # A click selects; what is not selected must not fade.
        "selected": {"marker": {"opacity": 1}},
        "unselected": {"marker": {"opacity": 1}},
    }
    with_bars = [has_interval(point) for point in points]
    if any(with_bars):
        bar = {"type": "data", "symmetric": False, "thickness": 1.5, "width": 4, "color": marker["color"]}
        trace["error_y"] = {
            **bar,
            "array": [
                scale.position(p.high) - y if b else 0 for p, y, b in zip(points, heights, with_bars, strict=True)
            ],
            "arrayminus": [
                y - scale.position(p.low) if b else 0 for p, y, b in zip(points, heights, with_bars, strict=True)
            ],
        }
    if kind == PointKind.CURRENT and any(point.x_high > point.x_low for point in points):
        trace["error_x"] = {
            **bar,
            "array": [(point.x_high - point.x) / factor for point in points],
            "arrayminus": [(point.x - point.x_low) / factor for point in points],
        }
    return trace


def _symbol(kind: PointKind, point: Point) -> str:
    """The shape says the role, and whether the timing is of another recipe; hollow is what is not measured yet."""
    diamond = kind == PointKind.PINNED or (kind == PointKind.CURRENT and point.pinned)
    symbol = "diamond" if diamond else "square" if point.reused else "circle"
    if kind == PointKind.CURRENT:
        return symbol + ("-open" if point.estimate else "-open-dot")
    if diamond and point.reused and not point.estimate:
        return "diamond-wide"
    return symbol + "-open" * point.estimate


def _entry(trace: dict[str, Any], kind: PointKind, points: list[Point]) -> dict[str, Any]:
    """Take over a trace's entry in the legend, which would show the shape of whichever point is first."""
    trace["showlegend"] = False
    size = trace["marker"]["size"]
    marker = {
        **trace["marker"],
        "symbol": _symbol(kind, replace(points[0], reused=False)),
        "size": size if isinstance(size, int) else max(size),
    }
    own = {key: trace[key] for key in ("type", "mode", "name", "legendrank")}
    return {**own, "x": [None], "y": [None], "marker": marker, "hoverinfo": "skip", "showlegend": True}


def _reused(data: Tradeoff, theme: Theme) -> list[dict[str, Any]]:
    """The legend entry of the squares."""
    if not any(point.reused for point in data.points):
        return []
    marker = {"symbol": "square", "size": 7, "color": theme.muted}
    entry = {"type": "scatter", "mode": "markers", "x": [None], "y": [None], "name": "Reused", "marker": marker}
    return [{**entry, "hoverinfo": "skip", "legendrank": RANKS["reused"], "showlegend": True}]


def _front(data: Tradeoff, theme: Theme) -> list[dict[str, Any]]:
    """The stepped line (the best figure for at most this cost), and a legend entry with line and marker."""
    if not data.front:
        return []
    line = {
        "type": "scatter",
        "mode": "lines",
        "x": [x / data.unit.factor for x, _ in data.front],
        "y": [data.scale.position(share) for _, share in data.front],
        "line": {"shape": "hv", "width": 1.5, "color": theme.text},
        "hoverinfo": "skip",
        "showlegend": False,
    }
    entry = {
        **line,
        "mode": "lines+markers",
        "x": [None],
        "y": [None],
        "name": "Front",
        "marker": STYLES[PointKind.FRONT](theme),
        "legendrank": RANKS[PointKind.FRONT],
        "showlegend": True,
    }
    return [line, entry]


def _trail(data: Tradeoff, theme: Theme) -> list[dict[str, Any]]:
    """The way that the viewer came; on the latency axis it would only go up and down a column."""
    if data.quantity == "latency" or len(data.trail) < 2:
        return []
    return [
        {
            "type": "scatter",
            "mode": "lines",
            "x": [x / data.unit.factor for x, _ in data.trail],
            "y": [data.scale.position(share) for _, share in data.trail],
            "line": {"width": 1, "dash": "dot", "color": theme.faint},
            "hoverinfo": "skip",
            "showlegend": False,
        }
    ]


def _trained_entry(data: Tradeoff, theme: Theme) -> list[dict[str, Any]]:
    """The legend entry of the arrows."""
    if not data.trained:
        return []
    colour = theme.palette[2]
    marker = {"symbol": "triangle-right", "size": 9, "color": colour}
    entry = {"type": "scatter", "mode": "lines+markers", "x": [None], "y": [None], "name": "Trained", "marker": marker}
    entry["line"] = {"width": 1.5, "color": colour}
    return [{**entry, "hoverinfo": "skip", "legendrank": RANKS["trained"], "showlegend": True}]


def _arrows(data: Tradeoff, theme: Theme) -> list[dict[str, Any]]:
    """From each recipe to the same one with training."""

    def place(x: float) -> float:
        # Plotly places annotations on a logarithmic axis by the logarithm.
        return math.log10(x / data.unit.factor) if data.quantity == "size" else x / data.unit.factor

    arrow = {"xref": "x", "yref": "y", "axref": "x", "ayref": "y", "text": "", "showarrow": True, "arrowhead": 2}
    # The ends keep off the markers, the head off the large one of the current recipe.
    arrow |= {"arrowwidth": 1.5, "arrowcolor": theme.palette[2], "standoff": 11, "startstandoff": 4}
    return [
        {
            **arrow,
            "ax": place(start),
            "ay": data.scale.position(was),
            "x": place(end),
            "y": data.scale.position(now),
        }
        for (start, was), (end, now) in data.trained
    ]


def _size_axis(data: Tradeoff, theme: Theme) -> dict[str, Any]:
    sizes = [point.x / data.unit.factor for point in data.points]
    low, high = math.log10(min(*sizes, max(sizes) / EXPECTED_RATIO)), math.log10(max(sizes))
    pad = 0.06 * (high - low)
    ticks = _log_ticks(low - pad, high + pad)
    return axis(
        theme,
        f"Size of the file ({data.unit.name}, log scale)",
        type="log",
        range=[low - pad, high + pad],
        tickvals=ticks,
        ticktext=[f"{tick:g}" for tick in ticks],
    )


def _log_ticks(low: float, high: float) -> list[float]:
    """Round numbers between two powers of ten (exponents): fewer a decade over more decades."""
    mantissas = (1, 2, 5) if high - low < 2.5 else (1, 3) if high - low < 4 else (1,)
    decades = range(math.floor(low), math.ceil(high) + 1)
    ticks = [float(f"{m}e{decade}") for decade in decades for m in mantissas]
    return [tick for tick in ticks if low <= math.log10(tick) <= high]


def _latency_axis(data: Tradeoff, theme: Theme) -> dict[str, Any]:
    # From zero: half the time is half the way, and "not faster" looks like it.
    return axis(theme, f"Latency (ms per {data.setting})", range=[0, _longest(data)], nticks=7)


def _longest(data: Tradeoff) -> float:
    return 1.1 * max((point.x_high for point in data.points), default=1.0)


def _notes(data: Tradeoff, theme: Theme) -> list[dict[str, Any]]:
    note = {"showarrow": False, "font": {"size": 12, "color": theme.muted}}
    # Beside the points: collapsed models are small, and none takes next to no time.
    right = data.quantity == "size"
    side = {**note, "xref": "paper", "x": 1 if right else 0, "xanchor": "right" if right else "left", "yanchor": "top"}
    notes = []
    if data.scale.broken:
        text = f"below {100 * data.scale.floor:g} %: compressed scale"
        notes.append({**side, "y": data.scale.position(data.scale.floor), "text": text})
    if data.waiting and not right:
        told = [f"{data.waiting - data.undecided} not timed yet"] if data.waiting > data.undecided else []
        told += [f"{data.undecided} not known yet: timed while the machine was busy"] if data.undecided else []
        notes.append({**side, "yref": "paper", "y": 1, "text": ", ".join(told)})
    # Above the plot, where no marker is.
    above = {**note, "yref": "paper", "y": 1, "yanchor": "bottom"}
    notes += [{**above, "x": x, "text": text} for text, x in _labels(data)]
    return notes


def _labels(data: Tradeoff) -> list[tuple[str, float]]:
    """Names of the columns of number formats; columns too near to be labelled apart share one label."""
    labels: list[tuple[list[str], float]] = []
    for name, x in sorted(data.formats, key=lambda column: column[1]):
        if labels and x - labels[-1][1] < 0.1 * _longest(data):
            labels[-1][0].append(name)
        else:
            labels.append(([name], x))
    return [(", ".join(names), x) for names, x in labels]
