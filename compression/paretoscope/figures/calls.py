"""Every single call of a timing, both sides beneath each other (a sina plot)."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go

from paretoscope.base.units import format_ms
from paretoscope.figures.latency import BASELINE, OWN
from paretoscope.figures.theme import LIGHT, Theme, axis, fade, layout
from paretoscope.measure.latency import Samples

# The axis of single calls ends this far beyond the later 99th percentile, but no later than at so many medians, as long
# as the 95th percentiles are on it: calls that an interruption hit would squeeze all others into a line.
ROOM, MEDIANS = 1.25, 3.0
# Neighbouring points of a sequence with this step never come close: an even spread without chance (Weyl 1916).
GOLDEN = (math.sqrt(5) - 1) / 2


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


def gather(samples: Samples) -> Calls:
    """The calls of both sides, outliers included."""
    sides = {OWN: np.sort(samples.candidate_ms), BASELINE: np.sort(samples.baseline_ms)}
    quantiles = {name: _quantiles(calls) for name, calls in sides.items()}
    slowest = max(float(calls[-1]) for calls in sides.values())
    median, p95, p99 = (max(values) for values in zip(*quantiles.values(), strict=True))
    end = min(slowest, max(ROOM * p95, min(ROOM * p99, MEDIANS * median)))
    return Calls(
        sides=tuple(
            Side(name, calls, _offsets(calls, end), *quantiles[name], int((calls > end).sum()))
            for name, calls in sides.items()
        ),
        start=min(float(calls[0]) for calls in sides.values()),
        end=end,
    )


def _quantiles(calls: np.ndarray) -> tuple[float, float, float]:
    median, p95, p99 = np.percentile(calls, [50, 95, 99])
    return float(median), float(p95), float(p99)


def _offsets(calls: np.ndarray, end: float) -> np.ndarray:
    """A place beside the line for each of the sorted calls, within the outline of their histogram (a sina plot)."""
    shown = calls[calls <= end]
    bins = np.histogram_bin_edges(shown, bins=max(8, min(80, round(math.sqrt(len(calls))))))
    counts, _ = np.histogram(shown, bins)
    width = counts[np.clip(np.searchsorted(bins, calls, side="right") - 1, 0, len(counts) - 1)] / counts.max()
    spread = 2 * (np.arange(1, len(calls) + 1) * GOLDEN % 1) - 1
    return np.where(calls <= end, width * spread, 0.0)


def draw(data: Calls, theme: Theme = LIGHT, *, height: int = 320) -> go.Figure:
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
