"""A training in pictures: loss, the task's figure and size over its epochs, live.

Everywhere what is measured on the decoded compressed model is in the accent colour and solid; what training saw is grey
and dotted. The ring is the epoch that is kept; in the shaded epochs the recipe does not hold in full yet.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import plotly.graph_objects as go

from paretoscope.base.units import Unit, bytes_unit, format_bytes, format_percent
from paretoscope.figures.scale import ShareScale, share_axis, share_scale, strip
from paretoscope.figures.theme import LIGHT, Theme, axis, layout
from paretoscope.tasks import Words
from paretoscope.training.epochs import Epoch, best_of

Quantity = Literal["loss", "figure", "size"]
QUANTITIES: tuple[Quantity, ...] = ("loss", "figure", "size")


@dataclass(frozen=True, slots=True)
class Curves:
    """A training so far. total: epochs that it may take. best: number of the epoch that is kept, None before one.

    ramp: the last epoch in which the recipe did not hold in full yet, 0 without.
    """

    epochs: tuple[Epoch, ...]
    total: int
    best: int | None
    ramp: int
    words: Words

    @property
    def alt(self) -> str:
        """One sentence in place of the pictures."""
        name, value = self.words.name, self.words.value
        if not self.epochs:
            return f"Loss, {name} and size over the epochs: none yet."
        first, last = self.epochs[0], self.epochs[-1]
        best = next((epoch for epoch in self.epochs if epoch.number == self.best), None)
        told = "" if best is None else f"; best {value(best.validation_accuracy)} in epoch {best.number}"
        return (
            f"Loss, {name} and size over {last.number} of {self.total} epochs: validation {name} from "
            f"{value(first.validation_accuracy)} to {value(last.validation_accuracy)}{told}."
        )


def gather(epochs: Sequence[Epoch], total: int, words: Words, best: int | None = None) -> Curves:
    """The curves. words: of the task. best: None for the best so far."""
    if best is None and (found := best_of(epochs)) is not None:
        best = found.number
    ramp = max((epoch.number for epoch in epochs if not epoch.holds), default=0)
    return Curves(tuple(epochs), total, best, ramp, words)


def draw(data: Curves, quantity: Quantity, theme: Theme = LIGHT, *, height: int = 240) -> go.Figure:
    """One of the three plots over the epochs."""
    own, seen = {"loss": _losses, "figure": _shares, "size": _sizes}[quantity](data)
    traces = [*([_line(seen, theme, own=False)] if seen else []), _line(own, theme, own=True), *_ring(data, own, theme)]
    figure_layout = layout(
        theme,
        height=height,
        uirevision=f"recovery {quantity} {data.total}",
        xaxis=_epochs(data, theme),
        yaxis=_values(data, quantity, theme),
        shapes=[*(strip(_scale(data), theme) if quantity == "figure" else []), *_ramp(data, theme)],
        annotations=_ramp_label(data, theme),
        margin={"l": 8, "r": 12, "t": 24, "b": 8},
    )
    return go.Figure({"data": traces, "layout": figure_layout}, _validate=False)


@dataclass(frozen=True, slots=True)
class _Series:
    name: str
    xs: list[int]
    ys: list[float]
    told: list[str]


def _losses(data: Curves) -> tuple[_Series, _Series]:
    # On a logarithmic axis there is no zero.
    return (
        _series(
            "Validation",
            data,
            lambda epoch: epoch.validation_loss or None,
            lambda value: f"{value:.3g} {data.words.loss_unit}",
        ),
        _series("Training", data, lambda epoch: epoch.loss or None, lambda value: f"{value:.3g}"),
    )


def _shares(data: Curves) -> tuple[_Series, _Series]:
    told, place = data.words.value, _scale(data).position
    return (
        _series("Validation", data, lambda epoch: epoch.validation_accuracy, told, place),
        _series("Training", data, lambda epoch: epoch.train_accuracy, told, place),
    )


def _scale(data: Curves) -> ShareScale:
    """As in the figures of recipes: linear where epochs are compared, compressed where the start has collapsed."""
    seen = [epoch.validation_accuracy for epoch in data.epochs]
    seen += [epoch.train_accuracy for epoch in data.epochs if epoch.train_accuracy is not None]
    return share_scale(seen, max(seen, default=1.0))


def _sizes(data: Curves) -> tuple[_Series, None]:
    factor = _unit(data).factor
    return _series("File", data, lambda epoch: epoch.size, format_bytes, lambda size: size / factor), None


def _series(
    name: str,
    data: Curves,
    value: Callable[[Epoch], float | None],
    told: Callable[[float], str],
    place: Callable[[float], float] = lambda value: value,
) -> _Series:
    points = [(epoch, found) for epoch in data.epochs if (found := value(epoch)) is not None]
    hover = [
        f"<b>{'Start' if epoch.number == 0 else f'Epoch {epoch.number}'}</b><br>{name}: {told(found)}"
        f"<br>{format_percent(epoch.sparsity)} zero, learning rate {epoch.learning_rate:.2g}"
        for epoch, found in points
    ]
    return _Series(name, [epoch.number for epoch, _ in points], [place(found) for _, found in points], hover)


def _line(series: _Series, theme: Theme, *, own: bool) -> dict[str, Any]:
    colour = theme.accent if own else theme.muted
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": series.name,
        "x": series.xs,
        "y": series.ys,
        "line": {"width": 2 if own else 1.5, "color": colour, "dash": "solid" if own else "dot"},
        "marker": {"size": 5 if own else 4, "color": colour, "symbol": "circle" if own else "square"},
        "hovertext": series.told,
        "hovertemplate": "%{hovertext}<extra></extra>",
    }


def _ring(data: Curves, series: _Series, theme: Theme) -> list[dict[str, Any]]:
    if data.best not in series.xs:
        return []
    place = series.xs.index(data.best)
    return [
        {
            "type": "scatter",
            "mode": "markers",
            "name": "Kept",
            "x": [data.best],
            "y": [series.ys[place]],
            "marker": {"size": 14, "symbol": "circle-open", "color": theme.accent, "line": {"width": 2.5}},
            "cliponaxis": False,
            "hoverinfo": "skip",
        }
    ]


def _epochs(data: Curves, theme: Theme) -> dict[str, Any]:
    pad = 0.04 * data.total
    step = {"dtick": 1} if data.total <= 8 else {"nticks": 7}
    return axis(theme, "Epoch", range=[-pad, data.total + pad], tickformat="d", **step)


def _values(data: Curves, quantity: Quantity, theme: Theme) -> dict[str, Any]:
    if quantity == "loss":
        low, high = _ends(data)
        ticks = _log_ticks(low, high)
        return axis(
            theme,
            f"Loss ({data.words.loss_unit}, log scale)",
            type="log",
            range=[low, high],
            tickvals=ticks,
            ticktext=[f"{tick:g}" for tick in ticks],
        )
    if quantity == "figure":
        return share_axis(_scale(data), data.words, theme)
    return axis(theme, f"Size of the file ({_unit(data).name})", rangemode="tozero", nticks=5)


def _ends(data: Curves) -> tuple[float, float]:
    """The range of the axis of losses, as powers of ten, with room for a marker; at least a factor of two."""
    logs = [math.log10(y) for series in _losses(data) for y in series.ys] or [0.0]
    middle, half = (max(logs) + min(logs)) / 2, max(0.15, (max(logs) - min(logs)) / 2)
    return middle - 1.12 * half, middle + 1.12 * half


def _log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times the powers of ten between two, or the powers alone where those would be too many."""
    powers = range(math.floor(low), math.ceil(high) + 1)
    ticks = [factor * 10.0**power for power in powers for factor in (1, 2, 5)]
    ticks = [float(f"{tick:.6g}") for tick in ticks if low <= math.log10(tick) <= high]
    return ticks if len(ticks) <= 7 else [tick for tick in ticks if f"{tick:e}".startswith("1.")]


def _unit(data: Curves) -> Unit:
    return bytes_unit([epoch.size for epoch in data.epochs])


def _ramp(data: Curves, theme: Theme) -> list[dict[str, Any]]:
    if not data.ramp:
        return []
    ends = {"x0": 0.5, "x1": data.ramp + 0.5, "yref": "paper", "y0": 0, "y1": 1}
    return [{"type": "rect", "layer": "below", "line": {"width": 0}, "fillcolor": theme.band, **ends}]


def _ramp_label(data: Curves, theme: Theme) -> list[dict[str, Any]]:
    # Too narrow for a word at first.
    if data.ramp < 0.2 * data.total:
        return []
    place = {"x": (data.ramp + 1) / 2, "xanchor": "center", "yref": "paper", "y": 0.02, "yanchor": "bottom"}
    return [{**place, "text": "ramp", "showarrow": False, "font": {"size": 12, "color": theme.muted}}]
