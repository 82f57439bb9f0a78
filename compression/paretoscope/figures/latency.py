"""Latency in pictures: a bar a runtime, lines over batch and threads, every single call, and the time of each layer.

Everywhere the recipe is in the accent colour and filled, the baseline beside it grey: two sides of one measurement.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import plotly.graph_objects as go

from paretoscope.base.units import format_ms
from paretoscope.figures.theme import LIGHT, Theme, axis, fade, layout, literal
from paretoscope.measure.latency import Samples
from paretoscope.measure.layers import OTHER
from paretoscope.measure.paired import paired_interval, paired_ms
from paretoscope.measure.record import Latency
from paretoscope.measure.wording import speed

# Letters of a layer's name beside its bar.
LONGEST = 24
# The axis of single calls ends this far beyond the later 99th percentile, but no later than at so many medians, as long
# as the 95th percentiles are on it: calls that an interruption hit would squeeze all others into a line.
ROOM, MEDIANS = 1.25, 3.0
# Neighbouring points of a sequence with this step never come close: an even spread without chance (Weyl 1916).
GOLDEN = (math.sqrt(5) - 1) / 2

OWN, BASELINE = "This recipe", "Baseline"


@dataclass(frozen=True, slots=True)
class Bar:
    """One runtime in one number format. latency: None where there is none, and then `note` says why.

    reference: milliseconds of the baseline in that runtime, the same for all number formats and recipes; the time of
    the recipe follows from the speed-up. None: what the baseline took beside it. chosen: whether it is the one that the
    page is about. note: also what a person should know of a latency that is there, e.g. that it was measured for
    another recipe.
    """

    title: str
    number_format: str
    latency: Latency | None
    note: str = ""
    chosen: bool = False
    reference: float | None = None

    @property
    def label(self) -> str:
        return f"{self.title} {self.number_format}"

    @property
    def baseline_ms(self) -> float:
        return self.reference or self.latency.baseline_median_ms

    @property
    def ms(self) -> float:
        return paired_ms(self.latency, self.baseline_ms)

    @property
    def interval_ms(self) -> tuple[float, float]:
        return paired_interval(self.latency, self.baseline_ms)


@dataclass(frozen=True, slots=True)
class Bars:
    """The runtimes, in the order of the registry."""

    bars: tuple[Bar, ...]

    @property
    def alt(self) -> str:
        """One sentence in place of the picture."""
        told = [
            f"{bar.label} {format_ms(bar.ms)} ({format_ms(bar.baseline_ms)})"
            if bar.latency is not None
            else f"{bar.label}: {bar.note}"
            for bar in self.bars
        ]
        return f"Latency of the recipe, and of the baseline, by runtime: {'; '.join(told)}."


def gather_bars(bars: Sequence[Bar]) -> Bars:
    """The bars as they are given; two of one label would be drawn on top of each other, so the first counts."""
    unique: dict[str, Bar] = {}
    for bar in bars:
        unique.setdefault(bar.label, bar)
    return Bars(tuple(unique.values()))


def draw_bars(data: Bars, theme: Theme = LIGHT) -> go.Figure:
    """Milliseconds a batch: recipe above, baseline below; the recipe's interval follows from the ratio's."""
    labels = [bar.label for bar in data.bars]
    timed = [bar for bar in data.bars if bar.latency is not None]
    longest = max((bar.interval_ms[1] for bar in timed), default=1.0)
    longest = max([longest, *(bar.baseline_ms for bar in timed)])
    own = {
        "type": "bar",
        "orientation": "h",
        "name": OWN,
        "y": [bar.label for bar in timed],
        "x": [bar.ms for bar in timed],
        "marker": {"color": theme.accent, "opacity": [1 if bar.chosen else 0.6 for bar in timed], "cornerradius": 3},
        "error_x": _interval_bars(timed, theme),
        "hovertext": [_bar_hover(bar) for bar in timed],
        "hovertemplate": "%{hovertext}<extra></extra>",
    }
    beside = {
        "type": "bar",
        "orientation": "h",
        "name": "Baseline in the same runtime",
        "y": [bar.label for bar in timed],
        "x": [bar.baseline_ms for bar in timed],
        "marker": {"color": theme.faint, "cornerradius": 3},
        "hovertext": [f"Baseline in {bar.title}: {format_ms(bar.baseline_ms)}" for bar in timed],
        "hovertemplate": "%{hovertext}<extra></extra>",
    }
    ticks = [
        f"<b>{bar.label}</b>" if bar.chosen else bar.label if bar.latency is not None else _grey(bar.label, theme)
        for bar in data.bars
    ]
    figure_layout = layout(
        theme,
        height=70 + 33 * max(4, len(labels)),
        uirevision="runtimes",
        xaxis=axis(theme, "Median latency (ms a batch)", range=[0, 1.45 * longest], nticks=8),
        yaxis=axis(
            theme,
            type="category",
            categoryorder="array",
            categoryarray=labels,
            range=[len(labels) - 0.5, -0.5],
            showgrid=False,
            tickvals=labels,
            ticktext=ticks,
            ticklabelstandoff=6,
        ),
        annotations=[_beside(bar, theme) for bar in data.bars],
        barmode="group",
        bargap=0.3,
        bargroupgap=0.08,
    )
    return go.Figure({"data": [own, beside], "layout": figure_layout}, _validate=False)


def interval_ms(latency: Latency) -> tuple[float, float]:
    """The interval of the median in milliseconds: the baseline's median over the ends of the ratio's interval."""
    fast, slow = latency.baseline_median_ms / latency.speedup_high, latency.baseline_median_ms / latency.speedup_low
    return min(fast, latency.median_ms), max(slow, latency.median_ms)


def _interval_bars(bars: Sequence[Bar], theme: Theme) -> dict[str, Any]:
    return {
        "type": "data",
        "symmetric": False,
        "thickness": 1.5,
        "width": 4,
        "color": theme.text,
        "array": [bar.interval_ms[1] - bar.ms for bar in bars],
        "arrayminus": [bar.ms - bar.interval_ms[0] for bar in bars],
    }


def _beside(bar: Bar, theme: Theme) -> dict[str, Any]:
    """What stands beside the bars of a runtime, or in place of them."""
    note = {"y": bar.label, "xanchor": "left", "showarrow": False, "align": "left", "yanchor": "middle"}
    if bar.latency is None:
        return {**note, "x": 0, "xshift": 4, "text": literal(bar.note), "font": {"size": 13, "color": theme.muted}}
    end = max(bar.interval_ms[1], bar.baseline_ms)
    text = f"<b>{format_ms(bar.ms)}</b>  {speed(bar.latency).words}"
    return {**note, "x": end, "xshift": 8, "text": text, "font": {"size": 13, "color": theme.text}}


def _bar_hover(bar: Bar) -> str:
    latency = bar.latency
    lines = [
        f"<b>{bar.label}</b>: {format_ms(bar.ms)}, {speed(latency)}",
        f"p95 {format_ms(latency.p95_ms)}, p99 {format_ms(latency.p99_ms)}",
    ]
    return "<br>".join(lines + ([f"<i>{literal(bar.note)}</i>"] if bar.note else []))


def _grey(text: str, theme: Theme) -> str:
    return f'<span style="color:{theme.faint}">{text}</span>'


Quantity = Literal["latency", "throughput"]
SETTINGS = {"batch": "Images a batch (log scale)", "threads": "Threads (log scale)"}


@dataclass(frozen=True, slots=True)
class Lines:
    """Latencies of one recipe in one runtime over batches or over threads, those that were measured, ascending."""

    setting: str
    latencies: tuple[tuple[int, Latency], ...]
    current: int

    @property
    def alt(self) -> str:
        """One sentence in place of the picture."""
        told = ", ".join(f"{value}: {format_ms(latency.median_ms)}" for value, latency in self.latencies)
        return f"Latency by {self.setting}: {told}." if told else f"Latency by {self.setting}: nothing measured yet."


def gather_lines(setting: str, latencies: Mapping[int, Latency | None], current: int) -> Lines:
    """The lines over a setting ("batch" or "threads"); values without a latency are left out. current: of the page."""
    known = sorted((value, latency) for value, latency in latencies.items() if latency is not None)
    return Lines(setting, tuple(known), current)


def draw_lines(data: Lines, theme: Theme = LIGHT, *, quantity: Quantity = "latency", height: int = 300) -> go.Figure:
    """Both sides over a log-2 axis; the recipe's line has the interval that follows from the ratio's."""
    values = [value for value, _ in data.latencies]
    latencies = [latency for _, latency in data.latencies]
    sides = {
        OWN: ([latency.median_ms for latency in latencies], [interval_ms(each) for each in latencies]),
        BASELINE: ([latency.baseline_median_ms for latency in latencies], None),
    }
    traces = []
    for name, (milliseconds, intervals) in sides.items():
        own = intervals is not None
        ys = [_quantity(ms, latency.batch, quantity) for ms, latency in zip(milliseconds, latencies, strict=True)]
        trace: dict[str, Any] = {
            "type": "scatter",
            "mode": "lines+markers",
            "name": name,
            "x": values,
            "y": ys,
            "line": {"width": 2, "color": theme.accent if own else theme.muted, "dash": "solid" if own else "dot"},
            "marker": {
                # Open, so that the recipe's markers can be seen within.
                "size": [(11 if value == data.current else 7) + 4 * (not own) for value in values],
                "symbol": "circle" if own else "square-open",
                "color": theme.accent if own else theme.muted,
            },
            "hovertext": [_line_hover(name, data.setting, value, latency) for value, latency in data.latencies],
            "hovertemplate": "%{hovertext}<extra></extra>",
        }
        if own:
            ends = [
                sorted(_quantity(end, latency.batch, quantity) for end in pair)
                for pair, latency in zip(intervals, latencies, strict=True)
            ]
            trace["error_y"] = {
                "type": "data",
                "symmetric": False,
                "thickness": 1.5,
                "width": 4,
                "color": theme.accent,
                "array": [high - y for (_, high), y in zip(ends, ys, strict=True)],
                "arrayminus": [y - low for (low, _), y in zip(ends, ys, strict=True)],
            }
        traces.append(trace)
    low, high = (math.log2(min(values)), math.log2(max(values))) if values else (0.0, 1.0)
    # Plotly's log axes count in powers of ten; the ticks are the values that were measured.
    ends = [(low - 0.3) * math.log10(2), (high + 0.3) * math.log10(2)]
    title = "Latency (ms a batch)" if quantity == "latency" else "Throughput (images a second)"
    figure_layout = layout(
        theme,
        height=height,
        uirevision=f"{data.setting} {quantity}",
        xaxis=axis(
            theme, SETTINGS[data.setting], type="log", range=ends, tickvals=values, ticktext=list(map(str, values))
        ),
        yaxis=axis(theme, title, rangemode="tozero", nticks=6),
    )
    return go.Figure({"data": traces, "layout": figure_layout}, _validate=False)


def _quantity(milliseconds: float, batch: int, quantity: Quantity) -> float:
    return milliseconds if quantity == "latency" else 1e3 * batch / milliseconds


def _line_hover(name: str, setting: str, value: int, latency: Latency) -> str:
    own = name == OWN
    ms, rate = (
        (latency.median_ms, latency.throughput) if own else (latency.baseline_median_ms, latency.baseline_throughput)
    )
    text = f"<b>{name}</b>, {setting} {value}<br>{format_ms(ms)} a batch, {rate:,.0f} images a second"
    if own:
        text += f"<br>{speed(latency)}"
    return text


@dataclass(frozen=True, slots=True)
class Side:
    """Every call of one side. calls: float64 (n,) milliseconds, ascending. offsets: (n,) in (-1, 1), where each is
    drawn beside its line: the more calls took about as long, the wider. beyond: how many are beyond the axis.
    """

    name: str
    calls: np.ndarray
    offsets: np.ndarray
    median: float
    p95: float
    p99: float
    beyond: int

    @property
    def told(self) -> str:
        """The side within a sentence."""
        return {OWN: "this recipe", BASELINE: "the baseline"}[self.name]

    @property
    def slowest(self) -> float:
        return float(self.calls[-1])


@dataclass(frozen=True, slots=True)
class Calls:
    """The single calls behind a median. end: of the axis, in milliseconds."""

    sides: tuple[Side, ...]
    start: float
    end: float

    @property
    def alt(self) -> str:
        """One sentence in place of the picture."""
        told = "; ".join(
            f"{side.name}: {len(side.calls)} calls, median {format_ms(side.median)}, p95 {format_ms(side.p95)}, "
            f"p99 {format_ms(side.p99)}"
            for side in self.sides
        )
        return f"Durations of all single calls. {told}. {self.clipped}".strip()

    @property
    def clipped(self) -> str:
        """What the axis leaves out, in a sentence; "" where that is nothing."""
        told = [
            f"{side.beyond} of {len(side.calls)} calls of {side.told}, the slowest at {format_ms(side.slowest)}"
            for side in self.sides
            if side.beyond
        ]
        if not told:
            return ""
        return f"The axis ends at {format_ms(self.end)}; beyond it are {', and '.join(told)}, drawn at its edge."


def gather_calls(samples: Samples) -> Calls:
    """The calls of both sides, outliers included."""
    sides = {OWN: np.sort(samples.candidate_ms), BASELINE: np.sort(samples.baseline_ms)}
    quantiles = {name: tuple(map(float, np.percentile(calls, [50, 95, 99]))) for name, calls in sides.items()}
    slowest = max(float(calls[-1]) for calls in sides.values())
    median, p95, p99 = (max(values) for values in zip(*quantiles.values(), strict=True))
    end = min(slowest, max(ROOM * p95, min(ROOM * p99, MEDIANS * median)))
    return Calls(
        sides=tuple(
            Side(name, calls, _offsets(calls, end), *quantiles[name], beyond=int((calls > end).sum()))
            for name, calls in sides.items()
        ),
        start=min(float(calls[0]) for calls in sides.values()),
        end=end,
    )


def _offsets(calls: np.ndarray, end: float) -> np.ndarray:
    """A place beside the line for each of the sorted calls, within the outline of their histogram (a sina plot)."""
    shown = calls[calls <= end]
    bins = np.histogram_bin_edges(shown, bins=max(8, min(80, round(math.sqrt(len(calls))))))
    counts, _ = np.histogram(shown, bins)
    width = counts[np.clip(np.searchsorted(bins, calls, side="right") - 1, 0, len(counts) - 1)] / counts.max()
    spread = 2 * (np.arange(1, len(calls) + 1) * GOLDEN % 1) - 1
    return np.where(calls <= end, width * spread, 0.0)


def draw_calls(data: Calls, theme: Theme = LIGHT, *, height: int = 320) -> go.Figure:
    """A strip of dots a side, with lines at the median, the 95th and the 99th percentile."""
    traces, shapes, notes = [], [], []
    for row, side in enumerate(data.sides):
        colour = theme.accent if row == 0 else theme.muted
        inside = side.calls <= data.end
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": side.name,
                "x": side.calls[inside].tolist(),
                "y": (0.36 * side.offsets[inside] - row).tolist(),
                "marker": {"size": 4, "color": fade(colour, 0.45), "line": {"width": 0}},
                "hovertemplate": f"{side.name}: %{{x:.3g}} ms<extra></extra>",
            }
        )
        if side.beyond:
            late = side.calls[~inside]
            traces.append(
                {
                    "type": "scatter",
                    "mode": "markers",
                    "name": f"{side.name}, beyond the axis",
                    "x": [data.end] * side.beyond,
                    "y": (0.36 * (2 * np.arange(1, side.beyond + 1) / (side.beyond + 1) - 1) - row).tolist(),
                    "marker": {"size": 9, "symbol": "triangle-right", "color": theme.alert},
                    "cliponaxis": False,
                    "hovertext": [f"{side.name}: {format_ms(call)}" for call in late],
                    "hovertemplate": "%{hovertext}<extra></extra>",
                }
            )
        for value, width, dash in ((side.median, 2.5, "solid"), (side.p95, 1.2, "dash"), (side.p99, 1.2, "dot")):
            if value > data.end:
                continue
            ends = {"x0": value, "x1": value, "y0": -row - 0.42, "y1": -row + 0.42}
            shapes.append({"type": "line", **ends, "line": {"color": theme.text, "width": width, "dash": dash}})
        notes.append(_percentiles(side, row, data.end, theme))
    pad = 0.04 * (data.end - data.start or data.end)
    figure_layout = layout(
        theme,
        height=height,
        uirevision="calls",
        xaxis=axis(theme, "Duration of a call (ms)", range=[data.start - pad, data.end + pad], nticks=8),
        yaxis=axis(
            theme,
            range=[-len(data.sides) + 0.35, 0.62],
            tickvals=[-row for row in range(len(data.sides))],
            ticktext=[side.name for side in data.sides],
            showgrid=False,
            fixedrange=True,
        ),
        shapes=shapes,
        annotations=notes,
        showlegend=False,
    )
    return go.Figure({"data": traces, "layout": figure_layout}, _validate=False)


def _percentiles(side: Side, row: int, end: float, theme: Theme) -> dict[str, Any]:
    text = f"median <b>{format_ms(side.median)}</b>  p95 {format_ms(side.p95)}  p99 {format_ms(side.p99)}"
    text += ", beyond the axis" * (side.p99 > end)
    place = {"xref": "paper", "x": 1, "xanchor": "right", "y": -row + 0.44, "yanchor": "bottom"}
    return {**place, "text": text, "showarrow": False, "font": {"size": 12, "color": theme.muted}}


@dataclass(frozen=True, slots=True)
class LayerTimes:
    """Microseconds a call by layer, in the order of the network, what belongs to no layer last.

    own, baseline: None where a side has no such layer, or was not profiled.
    """

    layers: tuple[str, ...]
    own: tuple[float | None, ...]
    baseline: tuple[float | None, ...]

    @property
    def alt(self) -> str:
        """One sentence in place of the picture."""
        known = [(time, layer) for layer, time in zip(self.layers, self.own, strict=True) if time is not None]
        if not known:
            return "Time of each layer: not measured yet."
        time, layer = max(known)
        return f"Time of each of {len(known)} parts of the network; most is spent in {short(layer)}, {time:.3g} µs."


def gather_layers(own: Mapping[str, float] | None, baseline: Mapping[str, float] | None) -> LayerTimes:
    """The profiles of the recipe and of the baseline, by state-dict name; None while one is not measured."""
    own, baseline = own or {}, baseline or {}
    names = [name for name in dict.fromkeys([*own, *baseline]) if name != OTHER]
    names += [OTHER] * (OTHER in own or OTHER in baseline)
    return LayerTimes(tuple(names), tuple(map(own.get, names)), tuple(map(baseline.get, names)))


def draw_layers(data: LayerTimes, theme: Theme = LIGHT) -> go.Figure:
    """A pair of bars a layer, the first on top."""
    sides = ((OWN, data.own, theme.accent), (BASELINE, data.baseline, theme.faint))
    bars = [
        {
            "type": "bar",
            "orientation": "h",
            "name": name,
            "y": list(data.layers),
            "x": [0 if time is None else time for time in times],
            "marker": {"color": colour, "cornerradius": 2},
            "hovertext": [
                f"<b>{literal(short(layer))}</b>, {name[0].lower()}{name[1:]}: "
                + ("no such layer" if t is None else f"{t:.3g} µs")
                for layer, t in zip(data.layers, times, strict=True)
            ],
            "hovertemplate": "%{hovertext}<extra></extra>",
        }
        for name, times, colour in sides
    ]
    figure_layout = layout(
        theme,
        height=90 + 26 * max(4, len(data.layers)),
        uirevision="layers",
        xaxis=axis(theme, "Time of a call (µs)", rangemode="tozero", nticks=6),
        yaxis=axis(
            theme,
            type="category",
            autorange="reversed",
            showgrid=False,
            tickvals=list(data.layers),
            ticktext=[literal(_abbreviated(layer)) for layer in data.layers],
            ticklabelstandoff=6,
        ),
        barmode="group",
        bargap=0.3,
    )
    return go.Figure({"data": bars, "layout": figure_layout}, _validate=False)


def short(layer: str) -> str:
    """A layer's name without ".weight"."""
    return layer.removesuffix(".weight")


def _abbreviated(layer: str) -> str:
    """The end of the name, which tells layers apart: "…layer_0.mlp.3"."""
    name = short(layer)
    return name if len(name) <= LONGEST else f"…{name[1 - LONGEST :]}"
