"""A layer's weights before and after a recipe: what pruning cut out, and on which values the rest came to lie."""

from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go

from paretoscope.base.units import format_percent
from paretoscope.figures.theme import LIGHT, Theme, axis, fade, layout

MOST_LEVELS = 256  # more distinct values than this are a continuum
SAMPLE = 65_536
HEADROOM = 1.6  # a level on which clipped weights pile up may tower this far above the original's peak


@dataclass(frozen=True, eq=False, slots=True)
class Distribution:
    """Densities over the values of the weights; areas are fractions of all weights of the layer.

    edges (bins + 1,), before (bins,): histogram of the original weights.
    x, after, shares, all (m,): the weights afterwards, without exact zeros: place, density, fraction of all weights.
        With few distinct values there is one entry for each, its density over the stretch of values that it stands
        for (half-way to its neighbours), so that both densities can be compared; otherwise one for each bin.
    levels: the distinct values afterwards, ascending, or None where there are more than 256.
    zero_before, zero_after: fractions of weights that are exactly zero. count: weights in the layer.
    """

    name: str
    count: int
    edges: np.ndarray
    before: np.ndarray
    x: np.ndarray
    after: np.ndarray
    shares: np.ndarray
    levels: np.ndarray | None
    zero_before: float
    zero_after: float

    @property
    def alt(self) -> str:
        """One sentence in place of the picture."""
        values = "a continuum of" if self.levels is None else str(len(self.levels))
        zero = format_percent(self.zero_after)
        return f"Weights of {self.name or 'a layer'} before and after the recipe: {values} values left, {zero} zero."


def gather(before: np.ndarray, after: np.ndarray, *, name: str = "", bins: int = 81) -> Distribution:
    """Count. before, after: the weights, of one size and any shape. An odd `bins` has zero in the middle of a bin."""
    before, after = np.ravel(before), np.ravel(after)
    limit = max(float(np.abs(before).max(initial=0)), float(np.abs(after).max(initial=0))) or 1.0
    edges = np.linspace(-limit, limit, bins + 1)
    width = edges[1] - edges[0]
    count = max(1, before.size)
    levels, numbers = _levels(after)
    if levels is not None:
        half = np.diff(levels) / 2
        # The outermost levels stand for all weights beyond them, and reach outwards at least as far as inwards.
        low = min(-limit, levels[0] - half[0]) if len(half) else -limit
        high = max(limit, levels[-1] + half[-1]) if len(half) else limit
        borders = np.concatenate([[low], levels[:-1] + half, [high]])
        stretch = np.diff(borders)
        kept = levels != 0
        x, shares, stretch = levels[kept], numbers[kept] / count, stretch[kept]
    else:
        x = (edges[1:] + edges[:-1]) / 2
        shares = np.histogram(after[after != 0], edges)[0] / count
        stretch = np.full(bins, width)
    return Distribution(
        name=name,
        count=before.size,
        edges=edges,
        before=np.histogram(before, edges)[0] / count / width,
        x=x,
        after=shares / stretch,
        shares=shares,
        levels=levels,
        zero_before=float(np.mean(before == 0)) if before.size else 0.0,
        zero_after=float(np.mean(after == 0)) if after.size else 0.0,
    )


def _levels(values: np.ndarray) -> tuple[np.ndarray | None, np.ndarray]:
    # A sample settles most layers without sorting millions of weights.
    if len(np.unique(values[:SAMPLE])) > MOST_LEVELS:
        return None, np.empty(0)
    levels, numbers = np.unique(values, return_counts=True)
    return (None, np.empty(0)) if len(levels) > MOST_LEVELS else (levels.astype(np.float64), numbers)


def draw(data: Distribution, theme: Theme = LIGHT, *, height: int = 240) -> go.Figure:
    """Grey area: before. Accent: after, a stem for each distinct value or bars; short ticks mark the values."""
    levels = data.levels
    stems = levels is not None
    width = data.edges[1] - data.edges[0]
    if levels is not None and len(levels) > 1:
        width = min(width, float(np.median(np.diff(levels))) * 1.5)
    outline = np.repeat(data.before, 2)
    traces = [
        {
            "type": "scatter",
            "name": "Before",
            "mode": "lines",
            "x": np.repeat(data.edges, 2)[1:-1].tolist(),
            "y": outline.tolist(),
            "fill": "tozeroy",
            "fillcolor": fade(theme.muted, 0.28),
            "line": {"width": 1, "color": theme.faint},
            "hoverinfo": "skip",
        },
        {
            "type": "bar",
            "name": "After",
            "x": data.x.tolist(),
            "y": data.after.tolist(),
            "width": 0.45 * width if stems else 0.9 * width,
            "marker": {"color": theme.accent if stems else fade(theme.accent, 0.65), "line": {"width": 0}},
            "hovertext": [format_percent(share, 2) for share in data.shares],
            "hovertemplate": "%{hovertext} of the weights at %{x:.4g}<extra></extra>",
        },
    ]
    peak = float(data.before.max(initial=0)) or 1.0
    top = 1.12 * min(max(peak, float(data.after.max(initial=0))), HEADROOM * peak)
    if data.levels is not None:
        traces.append(
            {
                "type": "scatter",
                "name": "Values",
                "mode": "markers",
                "x": data.levels.tolist(),
                "y": [-0.045 * top] * len(data.levels),
                "marker": {"symbol": "line-ns", "size": 7, "line": {"width": 1, "color": theme.text}},
                "hovertemplate": "%{x:.4g}<extra></extra>",
            }
        )
    notes = []
    if data.zero_after > data.zero_before:
        note = {"xref": "paper", "x": 1, "yref": "paper", "y": 1, "xanchor": "right", "yanchor": "top"}
        text = f"<b>{format_percent(data.zero_after)}</b> exactly zero"
        notes.append({**note, "text": text, "showarrow": False, "font": {"size": 13, "color": theme.text}})
    figure_layout = layout(
        theme,
        height=height,
        uirevision=data.name,
        xaxis=axis(theme, "Weight", nticks=7),
        yaxis=axis(theme, "Density", range=[-0.09 * top, top], showticklabels=False, nticks=4),
        annotations=notes,
        bargap=0,
    )
    return go.Figure({"data": traces, "layout": figure_layout}, _validate=False)
