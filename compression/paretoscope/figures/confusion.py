"""Which classes are taken for which: the confusion matrix, its change against the baseline, recall of each class."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import plotly.graph_objects as go

from paretoscope.base.units import format_percent
from paretoscope.figures.theme import LIGHT, Theme, axis, fade, layout, literal
from paretoscope.tasks.words import ErrorWords

View = Literal["model", "baseline", "change"]

# Classes that a matrix can be read of, and pairs or classes that are drawn of more; chosen by hand, no benchmark.
LARGEST, SHOWN = 32, 30
# Longest name of a class in a pair, in characters.
NAME = 28
ALARMING = 5  # no fewer mistakes in one cell than this have the full colour: one alone is no alarm


@dataclass(frozen=True, eq=False, slots=True)
class Confusion:
    """Counts of samples, shape (classes, classes): row = true class, column = predicted class.

    baseline: the same of the baseline on the same samples, or None where it was not given. words: of the task.
    """

    classes: tuple[str, ...]
    counts: np.ndarray
    baseline: np.ndarray | None
    words: ErrorWords

    @property
    def ticks(self) -> list[str]:
        """Names of the classes, as Plotly shows them."""
        return [literal(each) for each in self.classes]

    @property
    def recall(self) -> np.ndarray:
        """Fraction of each true class that is found, float64 (classes,); NaN for a class without samples."""
        return _recall(self.counts)

    @property
    def baseline_recall(self) -> np.ndarray | None:
        """`recall` of the baseline."""
        return None if self.baseline is None else _recall(self.baseline)

    @property
    def many(self) -> bool:
        """Whether there are more classes than a matrix can be read of, so that the pairs mixed up most are drawn."""
        return len(self.classes) > LARGEST

    @property
    def note(self) -> str:
        """What is left out of the figures; "" where nothing is."""
        if not self.many:
            return ""
        return (
            f"Of {len(self.classes):,} classes: the {SHOWN} pairs that are mixed up most, and the {SHOWN} classes that "
            "fare worst."
        )

    @property
    def alt(self) -> str:
        """One sentence in place of the picture."""
        wrong = int(self.counts.sum() - np.trace(self.counts))
        return f"{self.words.matrix} of {int(self.counts.sum())} samples, {wrong} of them {self.words.wrong}."


def gather(
    labels: np.ndarray,
    predicted: np.ndarray,
    baseline_predicted: np.ndarray | None = None,
    *,
    words: ErrorWords,
    classes: Sequence[str] = (),
) -> Confusion:
    """Count. labels, predicted, baseline_predicted: integer classes, shape (n,), from 0; `classes` names them.

    words: of the task. Classes without a name, as those that a network knows beside the data's, are named by their
    number.
    """
    given = [array for array in (labels, predicted, baseline_predicted) if array is not None and len(array)]
    size = max(len(classes), *(1 + int(array.max()) for array in given)) if given else max(1, len(classes))
    # Two of one name would be one line of the figure.
    others = (f"class {number}" if str(number) in classes else str(number) for number in range(len(classes), size))
    names = (*classes, *others)
    baseline = None if baseline_predicted is None else _count(labels, baseline_predicted, size)
    return Confusion(names, _count(labels, predicted, size), baseline, words)


def _count(labels: np.ndarray, predicted: np.ndarray, size: int) -> np.ndarray:
    cells = np.asarray(labels, dtype=np.int64) * size + np.asarray(predicted, dtype=np.int64)
    return np.bincount(cells, minlength=size * size).reshape(size, size)


def _recall(counts: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        recall: np.ndarray = np.diagonal(counts) / counts.sum(axis=1)
        return recall


def draw(data: Confusion, theme: Theme = LIGHT, *, view: View = "model", height: int = 380) -> go.Figure:
    """One matrix: of the "model", of the "baseline", or the "change" from baseline to model.

    Hits and mistakes have a colour scale each: on a common one, two mistakes among eighty hits could not be seen.
    In the change, the accent marks what got better (more hits, fewer mistakes), the second colour what got worse.
    Of many classes the pairs that are mixed up most in that view are drawn instead, the model's mistakes and the
    baseline's beside each other. Raises ValueError for a view of a baseline that is not there.
    """
    shown = data.counts if view == "model" else data.baseline
    if shown is None:
        raise ValueError(f"view {view!r} needs the baseline's predictions; pass them to gather, or draw the model")
    if data.many:
        return _draw_pairs(data, theme, view, height)
    hits = np.eye(len(data.classes), dtype=bool)
    good, bad = theme.accent, theme.alert
    if view == "change":
        change = data.counts - shown
        better = np.where(hits, change, -change)
        text = np.where(change == 0, "", np.char.mod("%+d", change))
        span = max(ALARMING, int(np.abs(change).max()))
        scale = [[0, fade(bad, 0.9)], [0.5, theme.band], [1, fade(good, 0.9)]]
        layers = [_layer(theme, data, better, text, scale, (-span, span))]
    else:
        text = np.where(shown == 0, "", np.char.mod("%d", shown))
        worst = max(ALARMING, int(data.counts[~hits].max(initial=0)), _worst(data.baseline, hits))
        most = max(1, int(shown.sum(axis=1).max()))
        layers = [
            _layer(
                theme, data, np.where(hits, shown, np.nan), text, [[0, theme.band], [1, fade(good, 0.75)]], (0, most)
            ),
            _layer(
                theme, data, np.where(hits, np.nan, shown), text, [[0, theme.band], [1, fade(bad, 0.9)]], (0, worst)
            ),
        ]
    side = {"showgrid": False, "constrain": "domain", "type": "category"}
    figure_layout = layout(
        theme,
        height=height,
        uirevision="confusion",
        xaxis=axis(theme, data.words.answer, **side),
        yaxis=axis(theme, data.words.truth, autorange="reversed", scaleanchor="x", **side),
        showlegend=False,
    )
    return go.Figure({"data": layers, "layout": figure_layout}, _validate=False)


def _draw_pairs(data: Confusion, theme: Theme, view: View, height: int) -> go.Figure:
    """The pairs with the most mistakes, or the largest change of these: a filled dot, a hollow one for the baseline."""
    truth, answer = _pairs(data, view)
    names = [_pair(data, *pair) for pair in zip(truth.tolist(), answer.tolist(), strict=True)]
    before = None if data.baseline is None else data.baseline[truth, answer]
    figure_layout = layout(
        theme,
        height=max(height, 90 + 18 * len(names)),
        uirevision="confusion",
        xaxis=axis(theme, f"Samples {data.words.wrong}", rangemode="tozero", tickformat="d", nticks=6),
        yaxis=_lines(theme, names),
    )
    traces = _beside(theme, data.counts[truth, answer], before, names)
    return go.Figure({"data": traces, "layout": figure_layout}, _validate=False)


def _pairs(data: Confusion, view: View) -> tuple[np.ndarray, np.ndarray]:
    """True and predicted class of the pairs that are mixed up most, int64 (m,) each; those as often in their order."""
    weights = data.counts.copy()
    if data.baseline is not None and view != "model":
        weights = data.baseline.copy() if view == "baseline" else np.abs(data.counts - data.baseline)
    np.fill_diagonal(weights, 0)
    cells = np.flatnonzero(weights)
    most = cells[np.argsort(-weights.reshape(-1)[cells], kind="stable")][:SHOWN]
    return most // len(data.classes), most % len(data.classes)


def _pair(data: Confusion, truth: int, answer: int) -> str:
    return data.words.pair.format(truth=_short(data.classes[truth]), answer=_short(data.classes[answer]))


def _short(name: str) -> str:
    return literal(name if len(name) <= NAME else f"{name[: NAME - 1]}…")


def _lines(theme: Theme, names: Sequence[str]) -> dict[str, Any]:
    """An axis of lines from above, each with its name: those that were cut may be the same."""
    return axis(
        theme,
        range=[len(names) - 0.5, -0.5],
        tickmode="array",
        tickvals=list(range(len(names))),
        ticktext=list(names),
        automargin=True,
    )


def _beside(theme: Theme, values: np.ndarray, before: np.ndarray | None, names: Sequence[str]) -> list[dict[str, Any]]:
    """Filled dots on such lines, hollow ones for the baseline, and what lies between them."""
    places, traces = list(range(len(names))), []
    if before is not None:
        between = {
            "x": [value for pair in zip(before.tolist(), values.tolist(), strict=True) for value in (*pair, None)],
            "y": [place for place in places for _ in range(3)],
            "line": {"color": theme.faint, "width": 3},
        }
        traces.append({"type": "scatter", "mode": "lines", "hoverinfo": "skip", "showlegend": False, **between})
        hollow = {"symbol": "circle-open", "size": 9, "color": theme.muted, "line": {"width": 1.5}}
        traces.append(_marks("Baseline", before, names, hollow))
    filled = {"symbol": "circle", "size": 9, "color": theme.accent}
    return [*traces, _marks("This recipe", values, names, filled)]


def _marks(name: str, values: np.ndarray, names: Sequence[str], marker: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": values.tolist(),
        "y": list(range(len(names))),
        "marker": marker,
        # A dot at an end of the axis is drawn whole.
        "cliponaxis": False,
        "hovertext": list(names),
        "hovertemplate": "%{hovertext}: %{x:.4~g}<extra>" + name + "</extra>",
    }


def _worst(counts: np.ndarray | None, hits: np.ndarray) -> int:
    return 0 if counts is None else int(counts[~hits].max(initial=0))


def _layer(
    theme: Theme, data: Confusion, values: np.ndarray, text: np.ndarray, scale: list[Any], span: tuple[int, int]
) -> dict[str, Any]:
    return {
        "type": "heatmap",
        "x": data.ticks,
        "y": data.ticks,
        "z": [[None if np.isnan(value) else float(value) for value in row] for row in values],
        "text": text.tolist(),
        "texttemplate": "%{text}",
        "textfont": {"size": 13, "color": theme.text},
        "hovertemplate": data.words.pair.format(truth="%{y}", answer="%{x}") + ": %{text}<extra></extra>",
        "hoverongaps": False,
        "colorscale": scale,
        "zmin": span[0],
        "zmax": span[1],
        "showscale": False,
        "xgap": 2,
        "ygap": 2,
    }


def draw_recall(data: Confusion, theme: Theme = LIGHT, *, height: int = 380) -> go.Figure:
    """Recall of each class: a filled dot, and a hollow one for the baseline with a line between the two.

    Of many classes those that fare worst: that lost most against the baseline, or without one are found least.
    """
    if data.many:
        return _draw_worst(data, theme, height)
    recall, before = data.recall, data.baseline_recall
    traces = []
    if before is not None:
        gaps_x = [value for pair in zip(before, recall, strict=True) for value in (*(100 * np.array(pair)), None)]
        gaps_y = [name for name in data.ticks for _ in range(3)]
        line = {"color": theme.faint, "width": 3}
        traces.append(_dots(data, gaps_x, gaps_y, mode="lines", line=line, hoverinfo="skip", showlegend=False))
        hollow = {"symbol": "circle-open", "size": 9, "color": theme.muted, "line": {"width": 1.5}}
        traces.append(_dots(data, list(100 * before), data.ticks, name="Baseline", mode="markers", marker=hollow))
    filled = {"symbol": "circle", "size": 9, "color": theme.accent}
    traces.append(_dots(data, list(100 * recall), data.ticks, name="This recipe", mode="markers", marker=filled))
    known = np.concatenate([recall, [] if before is None else before])
    lowest = 100 * np.nanmin(known) if np.isfinite(known).any() else 0.0
    figure_layout = layout(
        theme,
        height=height,
        uirevision="recall",
        xaxis=axis(theme, data.words.right, range=[min(lowest - 2, 90), 101], nticks=6),
        yaxis=axis(theme, data.words.truth, autorange="reversed", type="category"),
    )
    return go.Figure({"data": traces, "layout": figure_layout}, _validate=False)


def _draw_worst(data: Confusion, theme: Theme, height: int) -> go.Figure:
    recall, before = data.recall, data.baseline_recall
    known = np.flatnonzero(np.isfinite(recall))
    fares = recall[known] if before is None else recall[known] - before[known]
    worst = known[np.argsort(fares, kind="stable")][:SHOWN]
    names = [_short(data.classes[each]) for each in worst.tolist()]
    figure_layout = layout(
        theme,
        height=max(height, 90 + 18 * len(names)),
        uirevision="recall",
        xaxis=axis(theme, data.words.right, range=[-2, 102], nticks=6),
        yaxis=_lines(theme, names),
    )
    traces = _beside(theme, 100 * recall[worst], None if before is None else 100 * before[worst], names)
    return go.Figure({"data": traces, "layout": figure_layout}, _validate=False)


def _dots(data: Confusion, x: Sequence[float], y: Sequence[str], **settings: Any) -> dict[str, Any]:
    values = [None if value is None or np.isnan(value) else float(value) for value in x]
    hover = ["" if value is None else format_percent(value / 100) for value in values]
    trace = {"type": "scatter", "x": values, "y": list(y), "hovertext": hover, **settings}
    if settings["mode"] == "markers":
        trace["hovertemplate"] = data.words.one + " %{y}: %{hovertext}<extra>" + settings["name"] + "</extra>"
    return trace
