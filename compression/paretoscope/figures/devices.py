"""Estimated latency on other devices, baseline beside current; for this machine the measurement beside the estimate."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from paretoscope.base.units import format_ms
from paretoscope.figures.theme import LIGHT, Theme, axis, layout
from paretoscope.measure.devices import Device, Projection

THIS_MACHINE = "This machine"


@dataclass(frozen=True, slots=True)
class Pair:
    """Milliseconds a call of the baseline and of the current model."""

    baseline: float
    current: float


@dataclass(frozen=True, slots=True)
class DeviceRow:
    """A device. measured: None where it is not at hand. lacks: what the current model does not fit into, or ""."""

    title: str
    estimated: Pair
    measured: Pair | None = None
    lacks: str = ""


@dataclass(frozen=True, slots=True)
class DeviceRows:
    """This machine first, where there is an estimate for it, then the devices in their order."""

    rows: tuple[DeviceRow, ...]

    @property
    def alt(self) -> str:
        """One sentence in place of the picture."""
        parts = []
        for row in self.rows:
            measured = f", measured {format_ms(row.measured.current)}" if row.measured else ""
            lacks = f", does not fit into its {row.lacks}" if row.lacks else ""
            parts.append(f"{row.title} {format_ms(row.estimated.current)}{measured}{lacks}")
        return f"Estimated latency: {'; '.join(parts)}."


def gather(
    projections: Iterable[tuple[Device, Projection, Projection]],
    here: Pair | None = None,
    measured: Pair | None = None,
) -> DeviceRows:
    """projections: of each device, those of the baseline and of the current model. here, measured: this machine's."""
    rows = [DeviceRow(THIS_MACHINE, here, measured)] if here is not None else []
    for device, baseline, current in projections:
        pair = Pair(1e3 * baseline.seconds, 1e3 * current.seconds)
        rows.append(DeviceRow(device.title, pair, lacks=_lacks(device, current)))
    return DeviceRows(tuple(rows))


def _lacks(device: Device, projection: Projection) -> str:
    short = {
        "flash": projection.flash_needed > device.flash_bytes,
        "RAM": projection.ram_needed > device.ram_bytes,
    }
    return " and ".join(name for name, lacking in short.items() if lacking)


def draw(data: DeviceRows, theme: Theme = LIGHT, *, height: int | None = None) -> go.Figure:
    """A row a device on a logarithmic axis; hollow markers are estimates, filled ones measurements."""
    titles = [row.title for row in data.rows]
    measured = [row for row in data.rows if row.measured is not None]
    sides = {"Baseline": ("baseline", "star", theme.text), "Current": ("current", "circle", theme.accent)}
    traces = [_connections(data, theme)]
    for name, (side, symbol, colour) in sides.items():
        values = [getattr(row.estimated, side) for row in data.rows]
        traces.append(_markers(f"{name}, estimate", titles, values, f"{symbol}-open", colour))
        if measured:
            values = [getattr(row.measured, side) for row in measured]
            traces.append(_markers(f"{name}, measured", [row.title for row in measured], values, symbol, colour))
    low, high = _range(data)
    ticks = [10.0**decade for decade in range(math.ceil(low), math.floor(high) + 1)]
    figure_layout = layout(
        theme,
        height=height or 110 + 34 * len(data.rows),
        uirevision="devices",
        xaxis=axis(
            theme,
            "Latency (ms, log scale)",
            type="log",
            range=[low, high],
            tickvals=ticks,
            ticktext=[f"{tick:g}" for tick in ticks],
        ),
        yaxis=axis(
            theme,
            autorange="reversed",
            type="category",
            categoryarray=titles,
            tickvals=titles,
            ticktext=[_label(row, theme) for row in data.rows],
            showgrid=False,
            ticklabelstandoff=6,
        ),
    )
    return go.Figure({"data": traces, "layout": figure_layout}, _validate=False)


def _label(row: DeviceRow, theme: Theme) -> str:
    if not row.lacks:
        return row.title
    return f'{row.title}<br><span style="color:{theme.alert};font-size:12px">exceeds its {row.lacks}</span>'


def _markers(name: str, titles: list[str], values: list[float], symbol: str, colour: str) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": values,
        "y": titles,
        "hovertext": [
            f"<b>{title}</b><br>{name.lower()}: {format_ms(x)}" for title, x in zip(titles, values, strict=True)
        ],
        "hovertemplate": "%{hovertext}<extra></extra>",
        "marker": {"symbol": symbol, "size": 13 if "star" in symbol else 11, "color": colour, "line": {"width": 1.5}},
    }


def _connections(data: DeviceRows, theme: Theme) -> dict[str, Any]:
    """A thin line from each baseline to its current model."""
    ends = [(row.title, (row.estimated.baseline, row.estimated.current, None)) for row in data.rows]
    return {
        "type": "scatter",
        "mode": "lines",
        "x": [x for _, values in ends for x in values],
        "y": [title for title, values in ends for _ in values],
        "line": {"width": 1, "color": theme.faint},
        "hoverinfo": "skip",
        "showlegend": False,
    }


def _range(data: DeviceRows) -> tuple[float, float]:
    pairs = [pair for row in data.rows for pair in (row.estimated, row.measured) if pair is not None]
    logs = [math.log10(x) for pair in pairs for x in (pair.baseline, pair.current)] or [0.0]
    return min(logs) - 0.3, max(logs) + 0.3
