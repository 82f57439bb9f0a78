"""What the layers of a model take in a runtime, the recipe's beside the baseline's."""

from collections.abc import Mapping
from dataclasses import dataclass

import plotly.graph_objects as go

from paretoscope.figures.latency import BASELINE, OWN
from paretoscope.figures.theme import LIGHT, Theme, axis, layout, literal
from paretoscope.runtimes.profiles import OTHER

# Letters of a layer's name beside its bar.
LONGEST = 24


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


def gather(own: Mapping[str, float] | None, baseline: Mapping[str, float] | None) -> LayerTimes:
    """The profiles of the recipe and of the baseline, by state-dict name; None while one is not measured."""
    own, baseline = own or {}, baseline or {}
    names = [name for name in dict.fromkeys([*own, *baseline]) if name != OTHER]
    names += [OTHER] * (OTHER in own or OTHER in baseline)
    return LayerTimes(tuple(names), tuple(map(own.get, names)), tuple(map(baseline.get, names)))


def draw(data: LayerTimes, theme: Theme = LIGHT) -> go.Figure:
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
