"""A signal of one sample: a line for each channel over time."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go

from paretoscope.figures.theme import LIGHT, Theme, axis, layout


@dataclass(frozen=True, eq=False, slots=True)
class Signal:
    """curves: (channels, points). low, high: ends of the axis, which signals beside each other share."""

    curves: np.ndarray
    low: float
    high: float

    @property
    def alt(self) -> str:
        """One sentence in place of the picture."""
        channels, points = self.curves.shape
        return f"{channels} channels over {points} points, from {self.curves.min():.3g} to {self.curves.max():.3g}."


def gather(curves: np.ndarray, low: float, high: float) -> Signal:
    """A signal, (channels, points), on an axis from low to high."""
    return Signal(np.asarray(curves, np.float64), low, high)


def draw(data: Signal, theme: Theme = LIGHT, *, height: int = 110) -> go.Figure:
    """Thin lines without a legend: they tell whether a signal looks as it should."""
    traces = [
        {
            "type": "scatter",
            "mode": "lines",
            "y": curve.tolist(),
            "line": {"width": 1, "color": theme.palette[place % len(theme.palette)]},
            "hovertemplate": f"channel {place}, point %{{x}}: %{{y:.4g}}<extra></extra>",
        }
        for place, curve in enumerate(data.curves)
    ]
    room = 0.05 * ((data.high - data.low) or 1.0)
    sides: dict[str, Any] = {
        "xaxis": axis(theme, showticklabels=False, nticks=3),
        "yaxis": axis(theme, range=[data.low - room, data.high + room], nticks=3),
        "showlegend": False,
    }
    return go.Figure({"data": traces, "layout": layout(theme, height=height, **sides)}, _validate=False)
