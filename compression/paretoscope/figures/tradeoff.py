"""The task's figure against size and against latency: one marker for each record, each loads its recipe.

Shape carries the meaning, colour repeats it: star = baseline, filled circles on a stepped line = front, target =
current, diamond = pinned, small dots = seen, hollow = not measured in full yet, with its interval. On the latency axis
squares reuse the timing of another recipe of the same graph and number format. Its milliseconds are one time of the
baseline over each recipe's speed-up (`measure.paired`), so that the star is at exactly 1.0 times. An arrow leads from a
recipe to the same one with training.
"""

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any, Literal

import plotly.graph_objects as go

from paretoscope.base.units import Unit, bytes_unit, format_bytes, format_ms
from paretoscope.figures import pareto
from paretoscope.figures.scale import ShareScale, share_axis, share_scale, strip
from paretoscope.figures.theme import LIGHT, Theme, axis, fade, layout, literal
from paretoscope.measure.paired import paired_interval, paired_ms, reference_ms
from paretoscope.measure.record import Record
from paretoscope.measure.wording import NOT_ALONE, smaller, speed
from paretoscope.recipe.recipe import Recipe
from paretoscope.tasks import BaselineFigures, Words

Quantity = Literal["size", "latency"]
Kind = Literal["baseline", "front", "current", "pinned", "estimate", "predicted", "seen"]

# The size axis has room for this compression ratio from the start, so that it stands still while points come in.
EXPECTED_RATIO = 32
TRAIL = 5  # the line through the points visited last has this many vertices


@dataclass(frozen=True, slots=True)
class Point:
    """One marker. x: bytes or milliseconds a batch, with its interval. share, low, high: the figure.

    kind says what it is drawn as, the most important role first: current, pinned, estimate, predicted, front, seen.
    estimate: not all of it is measured yet. reused: its x was measured for another recipe. pinned: also true for a
    current point that is pinned.
    """

    digest: str
    kind: Kind
    x: float
    x_low: float
    x_high: float
    share: float
    low: float
    high: float
    estimate: bool
    reused: bool
    pinned: bool
    visited: bool
    hover: str


@dataclass(frozen=True, slots=True)
class Tradeoff:
    """What a trade-off figure shows. front, trail: (x, share) of the vertices of their lines. trained: (x, share)
    of a recipe without its training and with it, where both are known.

    waiting: how many records have no place on the latency axis yet, undecided: how many because their interval is too
    wide. setting: under what the latency was taken. formats: (number format, its median latency): all recipes of one
    format share a timing, so they form a column.
    """

    quantity: Quantity
    model: str
    setting: str
    points: tuple[Point, ...]
    front: tuple[tuple[float, float], ...]
    trail: tuple[tuple[float, float], ...]
    trained: tuple[tuple[tuple[float, float], tuple[float, float]], ...]
    formats: tuple[tuple[str, float], ...]
    waiting: int
    undecided: int
    scale: ShareScale
    unit: Unit
    words: Words

    @property
    def alt(self) -> str:
        """One sentence in place of the picture."""
        measured = [point for point in self.points if point.kind != "baseline"]
        front = f"{len(self.front)} of them on the front"
        return f"{self.words.title} against {self.quantity} of {len(measured)} recipes, {front}."


def gather(
    records: Sequence[Record],
    *,
    x: Quantity,
    baseline: BaselineFigures,
    words: Words,
    current: str | None = None,
    pinned: Collection[str] = (),
    trail: Sequence[str] = (),
    samples: int | None = None,
    expected_ms: Mapping[str, float] | None = None,
    reference: float | None = None,
) -> Tradeoff:
    """The points of one model in one runtime. words: of the task.

    current, pinned, trail: recipe digests; the trail is what the viewer went through, oldest first.
    samples: size of the test split; a record of fewer samples is a running estimate. None: the largest that is seen.
    expected_ms: recipe digest -> predicted latency, for records whose speed-up is not known; drawn hollow.
    reference: milliseconds of the baseline, by which all are placed. None: that of the records' own timings; without
    any, the latency figure has no star.
    Where two records have one recipe, the one of more samples counts, then the later.
    """
    expected_ms = expected_ms or {}
    unique: dict[str, Record] = {}
    for record in records:
        known = unique.get(record.digests.recipe)
        if known is None or record.figures.n >= known.figures.n:
            unique[record.digests.recipe] = record
    samples = samples or max((record.figures.n for record in unique.values()), default=0)
    complete = [record for record in unique.values() if record.figures.n >= samples]
    reference = reference or reference_ms(record.latency for record in records if record.latency is not None)

    def place(record: Record) -> float | None:
        if x == "size":
            return record.size.artefact
        timing = record.latency
        return None if timing is None or not timing.decided or reference is None else paired_ms(timing, reference)

    front = pareto.front(complete, x=pareto.size_bytes if x == "size" else pareto.slowness)
    on_front = {record.digests.recipe for record in front}
    pinned, visited = set(pinned), set(trail)

    points: list[Point] = []
    waiting = undecided = 0
    for digest, record in unique.items():
        value = place(record)
        predicted = value is None and digest in expected_ms
        if predicted:
            value = expected_ms[digest]
        if value is None:
            waiting += 1
            undecided += record.latency is not None
            continue
        estimate = predicted or record.figures.n < samples
        kind = _kind(digest == current, digest in pinned, record.figures.n < samples, predicted, digest in on_front)
        low = high = value
        if x == "latency" and not predicted:
            low, high = paired_interval(record.latency, reference)
        figures = record.figures
        points.append(
            Point(
                digest=digest,
                kind=kind,
                x=value,
                x_low=low,
                x_high=high,
                share=figures.value,
                low=figures.low,
                high=figures.high,
                estimate=estimate,
                reused=x == "latency" and record.latency_reused and not predicted,
                pinned=digest in pinned,
                visited=digest in visited,
                hover=_hover(record, kind, samples, reference, expected_ms.get(digest), words),
            )
        )
    star = baseline.size_bytes if x == "size" else reference
    if star is not None:
        points.append(_baseline_point(baseline, star, x, words))

    places = {point.digest: (point.x, point.share) for point in points if point.kind != "baseline"}
    seen = [p.share for p in points] + [p.low for p in points if _has_interval(p)]
    return Tradeoff(
        quantity=x,
        model=next((record.model for record in records), ""),
        setting=_setting(unique.values()) if x == "latency" else "",
        points=tuple(points),
        front=tuple((place(record), record.figures.value) for record in front),
        trail=tuple(places[digest] for digest in trail if digest in places)[-TRAIL:],
        trained=tuple(_trained(unique, places)),
        formats=_formats(unique.values(), reference) if x == "latency" and reference is not None else (),
        waiting=waiting,
        undecided=undecided,
        scale=share_scale(seen, baseline.value),
        unit=bytes_unit((baseline.size_bytes / EXPECTED_RATIO, baseline.size_bytes)) if x == "size" else Unit("ms", 1),
        words=words,
    )


def _trained(
    records: Mapping[str, Record], places: Mapping[str, tuple[float, float]]
) -> Iterator[tuple[tuple[float, float], tuple[float, float]]]:
    for digest, record in records.items():
        start = record.recipe.untrained.digest
        if record.recipe.recover is not None and digest in places and start in places:
            yield places[start], places[digest]


def _kind(current: bool, pinned: bool, estimate: bool, predicted: bool, on_front: bool) -> Kind:
    if current:
        return "current"
    if pinned:
        return "pinned"
    if estimate:
        return "estimate"
    if predicted:
        return "predicted"
    return "front" if on_front else "seen"


def _has_interval(point: Point) -> bool:
    return point.kind in ("current", "estimate") or (point.kind == "pinned" and point.estimate)


def _setting(records: Collection[Record]) -> str:
    settings = {
        f"batch of {timing.batch}, {timing.runtime}, {timing.threads} thread{'s' if timing.threads > 1 else ''}"
        for record in records
        if (timing := record.latency) is not None
    }
    return settings.pop() if len(settings) == 1 else "batch"


def _formats(records: Collection[Record], reference: float) -> tuple[tuple[str, float], ...]:
    timings: dict[str, list[float]] = {}
    for record in records:
        if record.latency is not None and record.latency.decided:
            timings.setdefault(record.latency.number_format, []).append(paired_ms(record.latency, reference))
    return tuple(sorted((name, median(values)) for name, values in timings.items()))


def _baseline_point(baseline: BaselineFigures, x: float, quantity: Quantity, words: Words) -> Point:
    cost = format_bytes(x) if quantity == "size" else format_ms(x)
    hover = f"<b>Baseline</b>, uncompressed fp32<br>{words.value(baseline.value)} {words.name}<br>{cost}"
    value = baseline.value
    return Point(Recipe().digest, "baseline", x, x, x, value, value, value, False, False, False, False, hover)


def _hover(
    record: Record, kind: Kind, samples: int, reference: float | None, predicted_ms: float | None, words: Words
) -> str:
    figures, timing = record.figures, record.latency
    interval = " to ".join(words.ends(figures.low, figures.high))
    change = words.change(figures.value - record.baseline.value)
    lines = [
        f"<b>{literal(record.recipe.describe())}</b>",
        f"{words.value(figures.value)} {words.name} ({change}), 95 %: {interval}",
        f"{format_bytes(record.size.artefact)}, {smaller(record.ratio)}",
    ]
    if timing is not None and timing.decided and reference is not None:
        lines.append(f"{format_ms(paired_ms(timing, reference))}, {speed(timing)}")
        if record.latency_reused:
            lines.append("<i>reused from another recipe of the same graph</i>")
        if timing.alone is False:
            lines.append(f"<i>{NOT_ALONE}</i>")
    elif timing is not None:
        lines.append(f"latency: {speed(timing)}")
    if (timing is None or not timing.decided) and predicted_ms is not None:
        lines.append(f"about {format_ms(predicted_ms)}, <i>predicted: not timed yet</i>")
    if figures.n < samples:
        lines.append(f"<i>running estimate on {figures.n} of {samples} images</i>")
    if kind == "front":
        lines.append("on the front")
    return "<br>".join(lines)


def draw(data: Tradeoff, theme: Theme = LIGHT, *, height: int = 340) -> go.Figure:
    """The figure; customdata[0] of every marker is its recipe digest (of `Recipe()` for the baseline's star)."""
    by_kind: dict[str, list[Point]] = {
        "seen": [],
        "predicted": [],
        "front": [],
        "estimate": [],
        "pinned": [],
        "baseline": [],
        "current": [],
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


STYLES: dict[str, Callable[[Theme], dict[str, Any]]] = {
    "seen": lambda t: {"color": fade(t.muted, 0.5), "line": {"width": 0}},
    "front": lambda t: {"size": 8, "color": t.text, "line": {"width": 1, "color": t.surface}},
    "estimate": lambda t: {"size": 9, "color": t.muted, "line": {"width": 1.5}},
    "predicted": lambda t: {"size": 6, "color": t.muted, "line": {"width": 1}},
    "pinned": lambda t: {"size": 12, "color": t.palette[1], "line": {"width": 1, "color": t.surface}},
    "baseline": lambda t: {"symbol": "star", "size": 15, "color": t.text, "line": {"width": 1, "color": t.surface}},
    "current": lambda t: {"size": 18, "color": t.accent, "line": {"width": 3}},
}
NAMES = {
    "seen": "Seen",
    "estimate": "Estimate",
    "predicted": "Predicted",
    "pinned": "Pinned",
    "baseline": "Baseline",
    "current": "Current",
}
RANKS = {
    "current": 1,
    "baseline": 2,
    "front": 3,
    "pinned": 4,
    "seen": 5,
    "estimate": 6,
    "predicted": 7,
    "reused": 8,
    "trained": 9,
}


def _markers(data: Tradeoff, theme: Theme, kind: str, points: list[Point]) -> dict[str, Any]:
    scale, factor = data.scale, data.unit.factor
    marker = {"opacity": 1, **STYLES[kind](theme)}
    if kind == "seen":
        marker["size"] = [6 if point.visited else 5 for point in points]
    if kind != "baseline":
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
    with_bars = [_has_interval(point) for point in points]
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
    if kind == "current" and any(point.x_high > point.x_low for point in points):
        trace["error_x"] = {
            **bar,
            "array": [(point.x_high - point.x) / factor for point in points],
            "arrayminus": [(point.x - point.x_low) / factor for point in points],
        }
    return trace


def _symbol(kind: str, point: Point) -> str:
    """The shape says the role, and whether the timing is of another recipe; hollow is what is not measured yet."""
    diamond = kind == "pinned" or (kind == "current" and point.pinned)
    symbol = "diamond" if diamond else "square" if point.reused else "circle"
    if kind == "current":
        return symbol + ("-open" if point.estimate else "-open-dot")
    if diamond and point.reused and not point.estimate:
        return "diamond-wide"
    return symbol + "-open" * point.estimate


def _entry(trace: dict[str, Any], kind: str, points: list[Point]) -> dict[str, Any]:
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
        "marker": STYLES["front"](theme),
        "legendrank": RANKS["front"],
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
