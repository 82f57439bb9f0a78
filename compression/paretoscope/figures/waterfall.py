"""What each step of a recipe saves in bytes, and what it costs in the task's figure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from paretoscope.base.units import bytes_unit, format_bytes
from paretoscope.figures.theme import LIGHT, Theme, axis, layout
from paretoscope.tasks import Words


@dataclass(frozen=True, slots=True)
class Bar:
    """A step's share: `change` from `start`, in bytes or of the task's figure."""

    name: str
    start: float
    change: float


@dataclass(frozen=True, slots=True)
class Falls:
    """The two waterfalls, from the baseline to the recipe; bars of a kind add up exactly."""

    sizes: tuple[Bar, ...]
    shares: tuple[Bar, ...]
    baseline_bytes: float
    baseline_share: float
    words: Words

    @property
    def alt(self) -> str:
        """One sentence in place of the picture."""
        parts = [
            f"{size.name} {format_bytes(abs(size.change))} {'less' if size.change <= 0 else 'more'} and "
            f"{self.words.change(share.change)}"
            for size, share in zip(self.sizes, self.shares, strict=True)
        ]
        return f"What each step changes in size and {self.words.name}: {'; '.join(parts)}."


def gather(
    contributions: Sequence[tuple[str, float, float]], baseline_bytes: float, baseline_share: float, words: Words
) -> Falls:
    """contributions: (step, change of bytes, change of the task's figure) in the order in which they are drawn."""
    sizes, shares = [], []
    size, share = baseline_bytes, baseline_share
    for name, bytes_change, share_change in contributions:
        sizes.append(Bar(name, size, bytes_change))
        shares.append(Bar(name, share, share_change))
        size, share = size + bytes_change, share + share_change
    return Falls(tuple(sizes), tuple(shares), baseline_bytes, baseline_share, words)


def draw_sizes(data: Falls, theme: Theme = LIGHT, *, height: int = 280) -> go.Figure:
    """Bytes from the fp32 baseline down to the file."""
    unit = bytes_unit([data.baseline_bytes])
    last = data.baseline_bytes + sum(bar.change for bar in data.sizes)
    bars: list[tuple[str, float, float, bool | None]] = [("Baseline", 0.0, data.baseline_bytes, None)]
    bars += [(bar.name, bar.start, bar.change, True) for bar in data.sizes]
    bars.append(("This recipe", 0.0, last, None))
    texts = [
        format_bytes(abs(change)) if step is None else f"{'-' if change < 0 else '+'}{format_bytes(abs(change))}"
        for _, _, change, step in bars
    ]
    bars = [(name, start / unit.factor, change / unit.factor, step) for name, start, change, step in bars]
    figure = _draw(bars, texts, theme, height, f"Size ({unit.name})", worse=1, uirevision="waterfall size")
    # Room for the text under the last bar that falls.
    top = max(start + max(change, 0.0) for _, start, change, _ in bars)
    figure.layout.yaxis.range = [-0.08 * top, 1.08 * top]
    return figure


def draw_shares(data: Falls, theme: Theme = LIGHT, *, height: int = 280) -> go.Figure:
    """The task's figure from the baseline's to the recipe's."""
    words = data.words
    last = data.baseline_share + sum(bar.change for bar in data.shares)
    bars: list[tuple[str, float, float, bool | None]] = [("Baseline", 0.0, data.baseline_share, None)]
    bars += [(bar.name, bar.start, bar.change, True) for bar in data.shares]
    bars.append(("This recipe", 0.0, last, None))
    texts = [
        f"{words.factor * change:.1f} {words.unit}" if step is None else words.change(change)
        for _, _, change, step in bars
    ]
    bars = [(name, words.factor * start, words.factor * change, step) for name, start, change, step in bars]
    ends = [
        value for _, start, change, step in bars for value in ((change,) if step is None else (start, start + change))
    ]
    low, high = min(ends), max(ends)
    room = max(1.0, 0.25 * (high - low))
    figure = _draw(bars, texts, theme, height, words.axis, worse=-1, uirevision="waterfall figure")
    # The text above a bar that reaches 100 % stands in the margin.
    figure.layout.yaxis.range = [max(0.0, low - room), min(100.0, high + room)]
    return figure


def _draw(
    bars: Sequence[tuple[str, float, float, bool | None]],
    texts: Sequence[str],
    theme: Theme,
    height: int,
    title: str,
    *,
    worse: int,
    uirevision: str,
) -> go.Figure:
    colours = [theme.faint if step is None else _colour(change * worse, theme) for _, _, change, step in bars]
    trace: dict[str, Any] = {
        "type": "bar",
        "x": [name for name, *_ in bars],
        "base": [start for _, start, _, _ in bars],
        "y": [change for _, _, change, _ in bars],
        "text": list(texts),
        "textposition": "outside",
        "textfont": {"size": 12, "color": theme.text},
        "cliponaxis": False,
        "marker": {"color": colours, "line": {"width": 0}},
        "hovertemplate": "%{x}: %{text}<extra></extra>",
    }
    figure_layout = layout(
        theme,
        height=height,
        uirevision=uirevision,
        xaxis=axis(theme, None, type="category", showgrid=False),
        yaxis=axis(theme, title, nticks=6),
        margin={"l": 8, "r": 12, "t": 24, "b": 8},
        bargap=0.35,
        showlegend=False,
    )
    return go.Figure({"data": [trace], "layout": figure_layout}, _validate=False)


def _colour(harm: float, theme: Theme) -> str:
    return theme.alert if harm > 0 else theme.accent
