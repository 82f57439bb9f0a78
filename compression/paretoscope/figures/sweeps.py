"""One slider at a time: the task's figure against sparsity, clusters and bits, with all the rest of the recipe held."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from paretoscope.base.units import format_bytes
from paretoscope.figures.scale import ShareScale, share_axis, share_scale, strip
from paretoscope.figures.theme import LIGHT, Theme, axis, fade, layout, literal
from paretoscope.measure.record import Record
from paretoscope.measure.wording import share_touched
from paretoscope.recipe.recipe import MAX_CLUSTERS, Recipe
from paretoscope.tasks import BaselineFigures, Words

TITLES = {"sparsity": "Sparsity (%)", "clusters": "Clusters (log scale)", "bits": "Bits (log scale)"}
NO_CLUSTERS = 2 * MAX_CLUSTERS  # where "off" stands on the axis of clusters: beyond the most that there are

Cliff = tuple[float | None, float | None] | None


@dataclass(frozen=True, slots=True)
class Swept:
    """One measured value of a slider. value: fraction, clusters (None = off) or bits; x: its place on the axis.

    share, low, high: the task's figure.
    """

    digest: str
    value: float | None
    x: float
    share: float
    low: float
    high: float
    current: bool
    hover: str


@dataclass(frozen=True, slots=True)
class Sweep:
    """One slider's measured values by x ascending; values not measured yet are simply absent."""

    slider: str
    steps: tuple[Swept, ...]
    current_x: float
    baseline: float
    scale: ShareScale
    words: Words

    @property
    def alt(self) -> str:
        """One sentence in place of the picture."""
        at = f"{self.words.title} at {len(self.steps)} values of {self.slider}"
        return f"{at}, the other settings as in the current recipe."


def gather(records: Sequence[Record], current: Recipe, baseline: BaselineFigures, words: Words) -> dict[str, Sweep]:
    """The sweeps "sparsity", "clusters" and "bits": of all records those that `current` turns into when this one
    slider is moved. They share one scale. words: of the task.
    """
    settings = current.settings()
    steps: dict[str, dict[str, Swept]] = {slider: {} for slider in TITLES}
    for record in records:
        own = record.recipe.settings()
        for slider in TITLES:
            # Comparing recipes, not settings: the scope of a prune step that is absent is no difference.
            if current.with_setting(slider, own[slider]) == record.recipe:
                steps[slider][record.digests.recipe] = _step(
                    record, slider, own[slider], record.recipe == current, words
                )
    seen = [value for found in steps.values() for step in found.values() for value in (step.share, step.low)]
    scale = share_scale(seen, baseline.value)
    return {
        slider: Sweep(
            slider=slider,
            steps=tuple(sorted(found.values(), key=_by_place)),
            current_x=_place(slider, settings[slider]),
            baseline=baseline.value,
            scale=scale,
            words=words,
        )
        for slider, found in steps.items()
    }


def _by_place(step: Swept) -> tuple[float, str]:
    return step.x, step.digest


def _place(slider: str, value: float | None) -> float:
    if slider == "sparsity":
        assert value is not None, "only clusters can be off"
        return 100 * value
    return math.log2(NO_CLUSTERS if value is None else value)


def _step(record: Record, slider: str, value: float | None, current: bool, words: Words) -> Swept:
    figures = record.figures
    return Swept(
        digest=record.digests.recipe,
        value=value,
        x=_place(slider, value),
        share=figures.value,
        low=figures.low,
        high=figures.high,
        current=current,
        hover=(
            f"<b>{literal(record.recipe.describe())}</b><br>{words.value(figures.value)} {words.name}, "
            f"95 %: {' to '.join(words.ends(figures.low, figures.high))}"
            f"<br>{', '.join(filter(None, [format_bytes(record.size.artefact), share_touched(record.touched)]))}"
        ),
    )


def draw(data: Sweep, theme: Theme = LIGHT, *, height: int = 240, cliff: Cliff = None) -> go.Figure:
    """One panel; customdata[0] of every marker is its recipe digest. Dotted: baseline; band: 95 % interval.

    cliff: the last value that cannot be told from the baseline and the first that can; what lies beyond is shaded.
    """
    xs = [step.x for step in data.steps]
    position = data.scale.position
    low, high = [position(step.low) for step in data.steps], [position(step.high) for step in data.steps]
    traces: list[dict[str, Any]] = []
    if len(xs) > 1:
        traces.append(
            {
                "type": "scatter",
                "mode": "lines",
                "x": xs + xs[::-1],
                "y": high + low[::-1],
                "fill": "toself",
                "fillcolor": fade(theme.accent, 0.14),
                "line": {"width": 0},
                "hoverinfo": "skip",
            }
        )
    traces.append(
        {
            "type": "scatter",
            "mode": "lines+markers",
            "x": xs,
            "y": [position(step.share) for step in data.steps],
            "customdata": [[step.digest] for step in data.steps],
            "hovertext": [step.hover for step in data.steps],
            "hovertemplate": "%{hovertext}<extra></extra>",
            "line": {"width": 2, "color": theme.accent},
            "marker": {
                "color": theme.accent,
                "symbol": ["circle-open-dot" if step.current else "circle" for step in data.steps],
                "size": [15 if step.current else 6 for step in data.steps],
                "line": {"width": [2.5 if step.current else 0 for step in data.steps]},
                "opacity": 1,
            },
            "selected": {"marker": {"opacity": 1}},
            "unselected": {"marker": {"opacity": 1}},
        }
    )
    figure_layout = layout(
        theme,
        height=height,
        uirevision=f"sweep {data.slider}",
        xaxis=_axis(data, theme),
        yaxis=share_axis(data.scale, data.words, theme),
        shapes=[
            *strip(data.scale, theme),
            _rule(theme.muted, "dot", xref="paper", x0=0, x1=1, y0=position(data.baseline), y1=position(data.baseline)),
            _rule(theme.faint, "solid", yref="paper", y0=0, y1=1, x0=data.current_x, x1=data.current_x),
            *_beyond(data.slider, cliff, theme),
        ],
        annotations=_edge(data.slider, cliff, theme),
        showlegend=False,
        clickmode="event+select",
    )
    return go.Figure({"data": traces, "layout": figure_layout}, _validate=False)


def _edge_x(slider: str, cliff: Cliff) -> float | None:
    """Half-way between the last value that passes and the first that fails; None without both."""
    if cliff is None or None in cliff:
        return None
    return (_place(slider, cliff[0]) + _place(slider, cliff[1])) / 2


def _beyond(slider: str, cliff: Cliff, theme: Theme) -> list[dict[str, Any]]:
    edge = _edge_x(slider, cliff)
    if edge is None:
        return []
    # A sparser model lies to the right, one of fewer clusters or bits to the left.
    end = 200.0 if slider == "sparsity" else -2.0
    ends = {"x0": edge, "x1": end, "yref": "paper", "y0": 0, "y1": 1}
    area = {"type": "rect", "layer": "below", "line": {"width": 0}, "fillcolor": fade(theme.alert, 0.10), **ends}
    return [area, _rule(theme.alert, "dash", yref="paper", y0=0, y1=1, x0=edge, x1=edge)]


def _edge(slider: str, cliff: Cliff, theme: Theme) -> list[dict[str, Any]]:
    edge = _edge_x(slider, cliff)
    if edge is None or cliff is None:
        return []
    last = cliff[0]
    text = f"cliff at {100 * (last or 0.0):.4g} %" if slider == "sparsity" else f"cliff at {last:g}"
    place = {"x": edge, "xanchor": "right" if slider == "sparsity" else "left", "yref": "paper", "y": 0.02}
    return [
        {**place, "yanchor": "bottom", "text": text, "showarrow": False, "font": {"size": 12, "color": theme.alert}}
    ]


def _rule(colour: str, dash: str, **ends: Any) -> dict[str, Any]:
    return {"type": "line", "layer": "below", "line": {"color": colour, "width": 1, "dash": dash}, **ends}


def _axis(data: Sweep, theme: Theme) -> dict[str, Any]:
    title = TITLES[data.slider]
    if data.slider == "sparsity":
        return axis(theme, title, range=[-4, 104], tickvals=[0, 25, 50, 75, 100])
    values = [2, 8, 32, 128, None] if data.slider == "clusters" else [1, 2, 4, 8, 16, 32]
    ticks = [_place(data.slider, value) for value in values]
    labels = ["off" if value is None else str(value) for value in values]
    return axis(theme, title, range=[ticks[0] - 0.35, ticks[-1] + 0.35], tickvals=ticks, ticktext=labels)
