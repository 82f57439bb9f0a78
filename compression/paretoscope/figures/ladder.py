"""The size ladder: how the bytes of the artefact came about, one bar for each form of the same model."""

from dataclasses import dataclass

import plotly.graph_objects as go

from paretoscope.base.units import Unit, bytes_unit, format_bytes
from paretoscope.figures.theme import LIGHT, Theme, axis, layout
from paretoscope.measure.record import Ladder
from paretoscope.measure.wording import size_ratio, smaller

# Field of the record's ladder -> what stands beside the bar, and what the hover adds.
RUNGS = {
    "baseline": ("Baseline", "the model before its architecture was simplified"),
    "dense": ("Dense fp32", "every weight as a 32-bit float"),
    "sparse": ("Sparse", "the non-zero weights as floats, with relative indices"),
    "packed": ("Packed", "codes in as few whole bits as they need"),
    "huffman": ("Huffman", "frequent codes in fewer bits, whole bits for each"),
    "ans": ("ANS", "frequent codes in fewer bits, fractions of a bit too"),
    "artefact": ("Artefact", "the file as written, with its header: what you ship"),
}


@dataclass(frozen=True, slots=True)
class Rung:
    """One form of the model. bytes: its size; ratio: the baseline's bytes / these bytes."""

    name: str
    title: str
    meaning: str
    bytes: int
    ratio: float


@dataclass(frozen=True, slots=True)
class LadderData:
    """The rungs from the baseline to the artefact, and the unit of their axis."""

    rungs: tuple[Rung, ...]
    unit: Unit

    @property
    def alt(self) -> str:
        """One sentence in place of the picture."""
        return "Size ladder: " + ", ".join(f"{rung.title} {format_bytes(rung.bytes)}" for rung in self.rungs) + "."


def gather(size: Ladder, baseline: int) -> LadderData:
    """The ladder of one record; baseline: bytes of the model before its architecture was simplified.

    The whole model is in every rung: biases, normalisation, scales, codebooks. The baseline has one of its own where it
    differs from the dense form.
    """
    rungs = []
    for name, (title, meaning) in RUNGS.items():
        count = baseline if name == "baseline" else getattr(size, name)
        if name != "baseline" or count != size.dense:
            rungs.append(Rung(name, title, meaning, count, baseline / count))
    return LadderData(tuple(rungs), bytes_unit([baseline]))


def draw(data: LadderData, theme: Theme = LIGHT, *, height: int = 260) -> go.Figure:
    """Horizontal bars on a linear axis, the largest form on top; the artefact in the accent colour."""
    factor = data.unit.factor
    bars = {
        "type": "bar",
        "orientation": "h",
        "y": [rung.title for rung in data.rungs],
        "x": [rung.bytes / factor for rung in data.rungs],
        "text": [_label(rung, first=rung is data.rungs[0]) for rung in data.rungs],
        "textposition": "outside",
        "textfont": {"size": 13, "color": theme.text},
        "cliponaxis": False,
        "hovertext": [
            f"<b>{rung.title}</b>: {rung.meaning}<br>{rung.bytes:,} bytes, against the baseline: {smaller(rung.ratio)}"
            for rung in data.rungs
        ],
        "hovertemplate": "%{hovertext}<extra></extra>",
        "marker": {
            "color": [theme.accent if rung.name == "artefact" else theme.faint for rung in data.rungs],
            "cornerradius": 3,
        },
    }
    longest = max(rung.bytes for rung in data.rungs) / factor
    figure_layout = layout(
        theme,
        height=height,
        uirevision="ladder",
        # A third more than the longest bar: the room that its label takes on a narrow screen.
        xaxis=axis(theme, f"Size ({data.unit.name})", range=[0, 1.4 * longest], nticks=6),
        yaxis=axis(theme, autorange="reversed", showgrid=False, ticklabelstandoff=6),
        bargap=0.35,
        showlegend=False,
    )
    return go.Figure({"data": [bars], "layout": figure_layout}, _validate=False)


def _label(rung: Rung, *, first: bool) -> str:
    size = f"<b>{format_bytes(rung.bytes)}</b>"
    return size if first else f"{size}  {size_ratio(rung.ratio)}"
