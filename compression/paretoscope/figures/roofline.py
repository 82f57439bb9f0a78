"""The roofline of this machine with a model's layers on it: how near each comes to what arithmetic and bytes allow."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from paretoscope.base.units import format_bytes, format_percent
from paretoscope.figures.theme import LIGHT, Theme, axis, fade, layout, literal
from paretoscope.measure.machine import Machine
from paretoscope.measure.roofline import Bound, LayerWork, estimate, resident_bytes
from paretoscope.runtimes.profiles import OTHER

# Slopes nearer to each other than this could not be labelled apart.
APART = 1.6
SMALLEST, LARGEST = 6, 34


@dataclass(frozen=True, slots=True)
class Spot:
    """A layer. intensity: operations a byte; speed: operations/s reached; share: of the time of all layers.

    reached: the share of its roof, which is the lower of the machine's peak and what its bytes allow. seconds: a call,
    measured.
    """

    name: str
    kind: str
    bound: Bound
    integer: bool
    macs: int
    bytes: int
    seconds: float
    share: float
    intensity: float
    speed: float
    reached: float


@dataclass(frozen=True, slots=True)
class Line:
    """A limit with its label: value in operations/s for a ceiling, in bytes/s for a slope."""

    label: str
    value: float


@dataclass(frozen=True, slots=True)
class Roofline:
    """ceilings: peaks, fp32 first. slopes: bandwidths, memory first. left_out: layers that have no measured time."""

    spots: tuple[Spot, ...]
    ceilings: tuple[Line, Line]
    slopes: tuple[Line, ...]
    left_out: int

    @property
    def alt(self) -> str:
        """One sentence in place of the picture."""
        limits = ", ".join(line.label for line in (*self.ceilings, *self.slopes))
        if not self.spots:
            return f"Roofline of this machine: {limits}; no layer was timed."
        longest = max(self.spots, key=lambda spot: spot.seconds)
        return (
            f"Roofline of this machine ({limits}) with {len(self.spots)} layers; the longest, {longest.name}, reaches "
            f"{_operations(longest.speed)}, {format_percent(longest.reached, 0)} of its roof."
        )


def gather(work: Sequence[LayerWork], times: Mapping[str, float], machine: Machine) -> Roofline:
    """The layers of `work` that have a time in `times`: microseconds a call, by name, as a runtime's profile says.

    What belongs to no layer ("other") is no point of the figure, but its time counts in the shares.
    """
    bounds = {layer.name: layer for layer in estimate(work, machine).layers}
    spent = math.fsum(times.values())
    layers = [layer for layer in work if layer.name != OTHER]
    timed = [layer for layer in layers if layer.macs and layer.bytes and times.get(layer.name, 0) > 0]
    spots = []
    for layer in timed:
        found, seconds = bounds[layer.name], 1e-6 * times[layer.name]
        peak = machine.int8_ops if layer.integer else machine.flops
        spots.append(
            Spot(
                name=layer.name,
                kind=layer.kind,
                bound=found.bound,
                integer=layer.integer,
                macs=layer.macs,
                bytes=layer.bytes,
                seconds=seconds,
                share=times[layer.name] / spent,
                intensity=layer.intensity,
                speed=layer.flops / seconds,
                reached=max(layer.flops / peak, found.memory_s) / seconds,
            )
        )
    ceilings = (
        Line(f"fp32 {_short(machine.flops)}", machine.flops),
        Line(f"int8 {_short(machine.int8_ops)}", machine.int8_ops),
    )
    # Longest first, so that the small ones lie on top.
    spots.sort(key=lambda spot: -spot.share)
    return Roofline(tuple(spots), ceilings, _slopes(machine, resident_bytes(work)), len(layers) - len(timed))


def _slopes(machine: Machine, resident: int) -> tuple[Line, ...]:
    """Memory, the nearest cache, and the cache that holds this model, if it is neither."""
    nearest, here = machine.curve[0][1], machine.bandwidth_at(resident)
    slopes = [Line(f"Memory {_rate(machine.bandwidth)}", machine.bandwidth)]
    if here > APART * machine.bandwidth and nearest > APART * here:
        slopes.append(Line(f"Cache {_rate(here)}", here))
    if nearest > APART * machine.bandwidth:
        slopes.append(Line(f"L1 {_rate(nearest)}", nearest))
    return tuple(slopes)


SYMBOLS: dict[Bound, str] = {"compute": "circle", "memory": "square", "overhead": "diamond"}
NAMES: dict[Bound, str] = {"compute": "arithmetic", "memory": "bytes", "overhead": "overhead"}


def draw(data: Roofline, theme: Theme = LIGHT, *, height: int = 360) -> go.Figure:
    """Both axes logarithmic; each layer at its intensity and its speed, its area by its share of the time.

    The slopes end at the peak of the number format that is used; that of integers is dotted where no layer uses them.
    """
    (left, right), (low, high) = _ranges(data)
    traces = [_slope(line, data, left, theme) for line in data.slopes]
    top_slope = data.slopes[-1].value
    for line, used in zip(data.ceilings, (True, _uses_integers(data)), strict=True):
        traces.append(_ceiling(line, line.value / top_slope, right, theme, used))
    traces += [_spots(data, bound, theme) for bound in SYMBOLS if any(spot.bound == bound for spot in data.spots)]
    figure_layout = layout(
        theme,
        height=height,
        uirevision="roofline",
        xaxis=_log_axis(theme, "Arithmetic intensity (operations a byte)", left, right, lambda x: f"{x:g}"),
        yaxis=_log_axis(theme, "Speed (operations/s)", low, high, _short),
        annotations=_labels(data, left, right, theme),
    )
    legend_title = {"text": "Bound by", "font": {"size": 12, "color": theme.muted}}
    figure_layout["legend"] |= {"title": legend_title, "itemsizing": "constant"}
    return go.Figure({"data": traces, "layout": figure_layout}, _validate=False)


def _ranges(data: Roofline) -> tuple[tuple[float, float], tuple[float, float]]:
    """Both axes' ends: the layers, the ridge points, and room for the labels on either side."""
    intensities = [spot.intensity for spot in data.spots]
    speeds = [spot.speed for spot in data.spots]
    peak, memory = data.ceilings[0].value, data.slopes[0].value
    right = max([2 * peak / memory, *(5 * x for x in intensities)])
    nearest = min([peak / data.slopes[-1].value, *intensities])
    # The labels of the slopes take the left third of a narrow figure.
    left = nearest * (nearest / right) ** 0.6
    top = max(line.value for line in data.ceilings)
    low = min([memory * left / 2, *(speed / 2 for speed in speeds)])
    return (left, right), (low, 2 * top)


def _uses_integers(data: Roofline) -> bool:
    return any(spot.integer for spot in data.spots)


def _slope(line: Line, data: Roofline, left: float, theme: Theme) -> dict[str, Any]:
    top = data.ceilings[_uses_integers(data)].value
    memory = line is data.slopes[0]
    return {
        "type": "scatter",
        "mode": "lines",
        "x": [left, top / line.value],
        "y": [left * line.value, top],
        "line": {"width": 1.5 if memory else 1, "color": theme.muted, "dash": "solid" if memory else "dash"},
        "hoverinfo": "skip",
        "showlegend": False,
    }


def _ceiling(line: Line, start: float, right: float, theme: Theme, used: bool) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines",
        "x": [start, right],
        "y": [line.value, line.value],
        "line": {"width": 1.5, "color": theme.muted if used else theme.faint, "dash": "solid" if used else "dot"},
        "hoverinfo": "skip",
        "showlegend": False,
    }


def _spots(data: Roofline, bound: Bound, theme: Theme) -> dict[str, Any]:
    colour = {"compute": theme.palette[0], "memory": theme.palette[1], "overhead": theme.palette[2]}[bound]
    spots = [spot for spot in data.spots if spot.bound == bound]
    largest = max(spot.share for spot in data.spots)
    return {
        "type": "scatter",
        "mode": "markers",
        "name": NAMES[bound],
        "x": [spot.intensity for spot in spots],
        "y": [spot.speed for spot in spots],
        "hovertext": [_hover(spot) for spot in spots],
        "hovertemplate": "%{hovertext}<extra></extra>",
        "marker": {
            "symbol": SYMBOLS[bound],
            "size": [max(SMALLEST, LARGEST * math.sqrt(spot.share / largest)) for spot in spots],
            "color": fade(colour, 0.55),
            "line": {"width": 1, "color": colour},
        },
    }


def _hover(spot: Spot) -> str:
    unit = "OP" if spot.integer else "FLOP"
    return "<br>".join(
        [
            f"<b>{literal(spot.name)}</b>, {literal(spot.kind)}{', int8' if spot.integer else ''}",
            f"{spot.macs:,} MACs, {format_bytes(spot.bytes)}: {spot.intensity:.2g} operations a byte",
            f"{_microseconds(spot.seconds)}, {format_percent(spot.share)} of the time",
            f"{_operations(spot.speed, unit)}, {format_percent(spot.reached, 0)} of its roof",
            f"bound by {NAMES[spot.bound]}",
        ]
    )


def _labels(data: Roofline, left: float, right: float, theme: Theme) -> list[dict[str, Any]]:
    """Slopes are labelled on their left ends, in the line; ceilings above their right ends."""
    note = {"showarrow": False, "font": {"size": 12, "color": theme.muted}}
    labels = []
    for line in data.slopes:
        place = {"x": math.log10(1.05 * left), "y": math.log10(1.05 * line.value * left), "xanchor": "left"}
        labels.append({**note, **place, "text": line.label, "bgcolor": theme.surface, "borderpad": 1})
    for line in data.ceilings:
        place = {"x": math.log10(right), "y": math.log10(line.value), "xanchor": "right", "yanchor": "bottom"}
        labels.append({**note, **place, "text": line.label})
    if data.left_out:
        text = f"{data.left_out} layer{'s' if data.left_out > 1 else ''} not timed"
        corner = {"xref": "paper", "yref": "paper", "x": 1, "y": 0, "xanchor": "right", "yanchor": "bottom"}
        labels.append({**note, **corner, "text": text})
    return labels


def _log_axis(theme: Theme, title: str, low: float, high: float, text: Any) -> dict[str, Any]:
    ticks = [10.0**decade for decade in range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1)]
    return axis(
        theme,
        title,
        type="log",
        range=[math.log10(low), math.log10(high)],
        tickvals=ticks,
        ticktext=[text(tick) for tick in ticks],
    )


def _short(value: float) -> str:
    """A number with the letter of its power of a thousand: 10G."""
    power = min(4, max(0, math.floor(math.log10(value) / 3 + 1e-9)))
    return f"{value / 1000**power:.3g}{('', 'K', 'M', 'G', 'T')[power]}"


def _operations(speed: float, unit: str = "FLOP") -> str:
    text = _short(speed)
    return f"{text[:-1]} {text[-1]}{unit}/s" if text[-1].isalpha() else f"{text} {unit}/s"


def _rate(speed: float) -> str:
    return f"{format_bytes(float(f'{speed:.2g}'))}/s"


def _microseconds(seconds: float) -> str:
    return f"{1e6 * seconds:.3g} µs"
