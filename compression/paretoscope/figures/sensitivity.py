"""Which layer pays: the task's figure when only one layer is pruned, shared or quantized, a heat map and curves."""

import math
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from paretoscope.figures.scale import ShareScale, share_axis, share_scale, strip
from paretoscope.figures.theme import LIGHT, Theme, axis, fade, layout, literal
from paretoscope.tasks import Words

TITLES = {"sparsity": "Sparsity of the layer", "clusters": "Clusters of the layer", "bits": "Bits of the layer"}
# A drop of this share is as dark as it gets: whatever is worse is out of the question anyway.
DARKEST = 0.10
# Letters of a layer's name beside the heat map.
LONGEST, NARROW = 22, 16
# More layers than these stand side by side, so that the map fits a screen; one below the other takes 22 pixels.
MANY = 12


@dataclass(frozen=True, slots=True)
class Heat:
    """Layers against the values of one setting, from mild to harsh.

    labels: of the values. shares, divergences: of the task, a row a layer, None where it was not measured; the
    divergence is the mean one from the baseline's answers.
    """

    setting: str
    layers: tuple[str, ...]
    labels: tuple[str, ...]
    shares: tuple[tuple[float | None, ...], ...]
    divergences: tuple[tuple[float | None, ...], ...]
    baseline: float
    words: Words

    @property
    def wide(self) -> bool:
        """Whether the layers stand side by side."""
        return len(self.layers) > MANY

    @property
    def alt(self) -> str:
        """One sentence in place of the picture."""
        measured = sum(value is not None for row in self.shares for value in row)
        return (
            f"{self.words.title} of the model when one of its {len(self.layers)} layers alone is changed by its "
            f"{self.setting}: {measured} of {len(self.layers) * len(self.labels)} values measured."
        )


Curves = Mapping[str, Mapping[float, tuple[float, float]]]


def gather(setting: str, curves: Curves, values: Sequence[float], baseline: float, words: Words) -> Heat:
    """Arrange curves, {layer: {value: (share, divergence)}}, over the values that are wanted, mild ones first."""
    return Heat(
        setting=setting,
        layers=tuple(curves),
        labels=tuple(_label(setting, value) for value in values),
        shares=tuple(tuple(curve.get(value, (None, None))[0] for value in values) for curve in curves.values()),
        divergences=tuple(tuple(curve.get(value, (None, None))[1] for value in values) for curve in curves.values()),
        baseline=baseline,
        words=words,
    )


def _label(setting: str, value: float) -> str:
    return f"{100 * value:.4g} %" if setting == "sparsity" else f"{value:g}"


def draw(data: Heat, theme: Theme = LIGHT, *, chosen: str | None = None) -> go.Figure:
    """The heat map; customdata[0] of every cell is its layer. Dark: much is lost. The chosen layer is framed."""
    drops = [[None if v is None else max(0.0, data.baseline - v) for v in row] for row in data.shares]
    # The square root shows a point beside ten of them.
    shades = [[None if drop is None else math.sqrt(min(1, drop / DARKEST)) for drop in row] for row in drops]
    names, unit, wide = _names(data), data.words.change_unit, data.wide
    hovers = [[_hover(data, row, column) for column in range(len(data.labels))] for row in range(len(data.layers))]
    layers = [[[layer] for _ in data.labels] for layer in data.layers]
    heat = {
        "type": "heatmap",
        "x": names if wide else list(data.labels),
        "y": list(data.labels) if wide else names,
        "z": _turned(shades, wide),
        "zmin": 0,
        "zmax": 1,
        "xgap": 1 if wide else 2,
        "ygap": 2,
        "colorscale": [[0, fade(theme.accent, 0.12)], [0.5, fade(theme.alert, 0.45)], [1, theme.alert]],
        "colorbar": {
            "title": {"text": data.words.lost, "font": {"size": 12, "color": theme.muted}, "side": "right"},
            "tickvals": [math.sqrt(points / (data.words.factor * DARKEST)) for points in (0, 1, 3, 10)],
            "ticktext": ["0", f"1 {unit}", f"3 {unit}", f"10 {unit}+"],
            "tickfont": {"size": 12, "color": theme.muted},
            "thickness": 12,
            "outlinewidth": 0,
            # Beside the first layers, however many there are.
            **{"lenmode": "pixels", "len": 130, "y": 1, "yanchor": "top"},
        },
        "customdata": _turned(layers, wide),
        "hovertext": _turned(hovers, wide),
        "hovertemplate": "%{hovertext}<extra></extra>",
        "hoverongaps": False,
    }
    frames = []
    if chosen in data.layers:
        row = data.layers.index(chosen)
        own, all_values = (row - 0.5, row + 0.5), (-0.5, len(data.labels) - 0.5)
        (x0, x1), (y0, y1) = (own, all_values) if wide else (all_values, own)
        line = {"color": theme.text, "width": 2}
        frames.append(
            {"type": "rect", "x0": x0, "x1": x1, "y0": y0, "y1": y1, "line": line, "fillcolor": "rgba(0,0,0,0)"}
        )
    figure_layout = layout(
        theme,
        height=130 + 24 * len(data.labels) if wide else 90 + 22 * max(4, len(data.layers)),
        uirevision=f"heat {data.setting}",
        shapes=frames,
        **(_side_by_side(data, theme) if wide else _one_below_the_other(data, names, theme)),
    )
    return go.Figure({"data": [heat], "layout": figure_layout}, _validate=False)


def _one_below_the_other(data: Heat, names: list[str], theme: Theme) -> dict[str, Any]:
    return {
        # Above, where it is seen beside many layers too.
        "xaxis": axis(theme, TITLES[data.setting], type="category", showgrid=False, side="top"),
        "yaxis": axis(
            theme,
            None,
            type="category",
            autorange="reversed",
            showgrid=False,
            tickvals=names,
            ticktext=[literal(abbreviated(name)) for name in names],
        ),
    }


def _side_by_side(data: Heat, theme: Theme) -> dict[str, Any]:
    """The names turned by a right angle; where there is no room for all, every second or third is left out."""
    small = {"size": 10, "color": theme.muted}
    return {
        "xaxis": axis(theme, None, type="category", showgrid=False, tickangle=-90, tickfont=small),
        "yaxis": axis(theme, TITLES[data.setting], type="category", autorange="reversed", showgrid=False),
    }


def _names(data: Heat) -> list[str]:
    """What each layer is called at its axis, one name each: short ones where the layers stand side by side."""
    names = [_short(layer) for layer in data.layers]
    if not data.wide:
        return names
    told = [abbreviated(name, NARROW) for name in names]
    return [literal(short if told.count(short) == 1 else name) for short, name in zip(told, names, strict=True)]


def _turned(rows: list[list[Any]], wide: bool) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)] if wide else rows


def _short(layer: str) -> str:
    return layer.removesuffix(".weight")


def abbreviated(name: str, longest: int = LONGEST) -> str:
    """The name with parts cut to a letter and their number, from the left, until it is short: "e.l.e0.mlp.3"."""
    parts = name.split(".")
    for index, part in enumerate(parts[:-1]):
        if len(".".join(parts)) <= longest:
            break
        parts[index] = part[:1] + part[len(part.rstrip(string.digits)) :] if not part.isdigit() else part
    return ".".join(parts)


def _hover(data: Heat, row: int, column: int) -> str:
    words, share, divergence = data.words, data.shares[row][column], data.divergences[row][column]
    if share is None:
        return "not measured yet"
    return (
        f"<b>{literal(_short(data.layers[row]))}</b>, {data.setting} {data.labels[column]}<br>"
        f"{words.value(share)} {words.name}, {words.change(share - data.baseline)}<br>"
        f"{words.divergence} {divergence:.3g}"
    )


def draw_curves(data: Heat, theme: Theme = LIGHT, *, chosen: str | None = None, height: int = 300) -> go.Figure:
    """A line a layer, the chosen one in the accent colour; customdata[0] of every marker is its layer."""
    scale = share_scale([v for row in data.shares for v in row if v is not None], data.baseline)
    order = sorted(data.layers, key=lambda layer: layer == chosen)
    traces = [_curve(data, data.layers.index(layer), scale, theme, layer == chosen) for layer in order]
    level = scale.position(data.baseline)
    rule = {"type": "line", "layer": "below", "xref": "paper", "x0": 0, "x1": 1, "y0": level, "y1": level}
    figure_layout = layout(
        theme,
        height=height,
        uirevision=f"curves {data.setting}",
        xaxis=axis(theme, TITLES[data.setting], type="category", categoryarray=list(data.labels)),
        yaxis=share_axis(scale, data.words, theme),
        shapes=[*strip(scale, theme), {**rule, "line": {"color": theme.muted, "width": 1, "dash": "dot"}}],
        showlegend=False,
    )
    return go.Figure({"data": traces, "layout": figure_layout}, _validate=False)


def _curve(data: Heat, row: int, scale: ShareScale, theme: Theme, chosen: bool) -> dict[str, Any]:
    colour = theme.accent if chosen else theme.faint
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": literal(_short(data.layers[row])),
        "x": list(data.labels),
        "y": [None if value is None else scale.position(value) for value in data.shares[row]],
        "customdata": [[data.layers[row]] for _ in data.labels],
        "hovertext": [_hover(data, row, column) for column in range(len(data.labels))],
        "hovertemplate": "%{hovertext}<extra></extra>",
        "line": {"width": 3 if chosen else 1, "color": colour},
        "marker": {"size": 8 if chosen else 4, "color": colour},
    }
