"""Latency in pictures: a bar a runtime, and lines over batch and threads. See also `calls` and `layer_times`.

Everywhere the recipe is in the accent colour and filled, the baseline beside it grey: two sides of one measurement.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import plotly.graph_objects as go

from paretoscope.base.units import format_ms
from paretoscope.figures.theme import LIGHT, Theme, axis, layout, literal
from paretoscope.measure.paired import paired_interval, paired_ms
from paretoscope.measure.record import Latency
from paretoscope.measure.wording import speed

OWN, BASELINE = "This recipe", "Baseline"


@dataclass(frozen=True, slots=True)
class RuntimeBar:
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
    def timed(self) -> Latency:
        """The latency of a bar that has one."""
        assert self.latency is not None, "a bar without a latency has no times"
        return self.latency

    @property
    def baseline_ms(self) -> float:
        return self.reference or self.timed.baseline_median_ms

    @property
    def ms(self) -> float:
        return paired_ms(self.timed, self.baseline_ms)

    @property
    def interval_ms(self) -> tuple[float, float]:
        return paired_interval(self.timed, self.baseline_ms)


@dataclass(frozen=True, slots=True)
class Bars:
    """The runtimes, in the order of the registry."""

    bars: tuple[RuntimeBar, ...]

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


def gather_bars(bars: Sequence[RuntimeBar]) -> Bars:
    """The bars as they are given; two of one label would be drawn on top of each other, so the first counts."""
    unique: dict[str, RuntimeBar] = {}
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


def _interval_bars(bars: Sequence[RuntimeBar], theme: Theme) -> dict[str, Any]:
    return {
        "type": "data",
        "symmetric": False,
        "thickness": 1.5,
        "width": 4,
        "color": theme.text,
        "array": [bar.interval_ms[1] - bar.ms for bar in bars],
        "arrayminus": [bar.ms - bar.interval_ms[0] for bar in bars],
    }


def _beside(bar: RuntimeBar, theme: Theme) -> dict[str, Any]:
    """What stands beside the bars of a runtime, or in place of them."""
    note = {"y": bar.label, "xanchor": "left", "showarrow": False, "align": "left", "yanchor": "middle"}
    if bar.latency is None:
        return {**note, "x": 0, "xshift": 4, "text": literal(bar.note), "font": {"size": 13, "color": theme.muted}}
    end = max(bar.interval_ms[1], bar.baseline_ms)
    text = f"<b>{format_ms(bar.ms)}</b>  {speed(bar.latency).words}"
    return {**note, "x": end, "xshift": 8, "text": text, "font": {"size": 13, "color": theme.text}}


def _bar_hover(bar: RuntimeBar) -> str:
    latency = bar.timed
    lines = [
        f"<b>{bar.label}</b>: {format_ms(bar.ms)}, {speed(latency)}",
        f"p95 {format_ms(latency.p95_ms)}, p99 {format_ms(latency.p99_ms)}",
    ]
    return "<br>".join(lines + ([f"<i>{literal(bar.note)}</i>"] if bar.note else []))


def _grey(text: str, theme: Theme) -> str:
    return f'<span style="color:{theme.faint}">{text}</span>'


Quantity = Literal["latency", "throughput"]
SETTINGS = {"batch": "Samples a batch (log scale)", "threads": "Threads (log scale)"}


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
    sides: dict[str, tuple[list[float], list[tuple[float, float]]]] = {
        OWN: ([latency.median_ms for latency in latencies], [interval_ms(each) for each in latencies]),
        BASELINE: ([latency.baseline_median_ms for latency in latencies], []),
    }
    traces = []
    for name, (milliseconds, intervals) in sides.items():
        own = name == OWN
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
            outer = [
                sorted(_quantity(end, latency.batch, quantity) for end in pair)
                for pair, latency in zip(intervals, latencies, strict=True)
            ]
            trace["error_y"] = {
                "type": "data",
                "symmetric": False,
                "thickness": 1.5,
                "width": 4,
                "color": theme.accent,
                "array": [high - y for (_, high), y in zip(outer, ys, strict=True)],
                "arrayminus": [y - low for (low, _), y in zip(outer, ys, strict=True)],
            }
        traces.append(trace)
    low, high = (math.log2(min(values)), math.log2(max(values))) if values else (0.0, 1.0)
    # Plotly's log axes count in powers of ten; the ticks are the values that were measured.
    ends = [(low - 0.3) * math.log10(2), (high + 0.3) * math.log10(2)]
    title = "Latency (ms a batch)" if quantity == "latency" else "Throughput (samples a second)"
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
    text = f"<b>{name}</b>, {setting} {value}<br>{format_ms(ms)} a batch, {rate:,.0f} samples a second"
    if own:
        text += f"<br>{speed(latency)}"
    return text
