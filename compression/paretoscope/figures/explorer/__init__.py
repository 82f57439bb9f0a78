"""The explorer: the task's figure against size and against time as one instrument, with all that was tried beside it.

`gather` makes plain data of what is known. What draws it is JavaScript: `script` in a page or a report, with `style`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paretoscope.base.units import format_bytes, format_ms
from paretoscope.figures import pareto
from paretoscope.figures.scale import WINDOW, share_scale
from paretoscope.measure.board import Board, Changes, Timed, milliseconds, row, timing_row
from paretoscope.measure.record import Record
from paretoscope.recipe.recipe import Recipe
from paretoscope.search.budget import Answer, Budget, Limit, answer
from paretoscope.tasks import BaselineFigures, Words

FOLDER = Path(__file__).parent
# The parts of the script, in their order; each but the first uses those before.
PARTS = ("base.js", "plots.js", "tried.js")
TRAIL = 5  # the line through the points visited last has this many vertices


def script() -> str:
    """The JavaScript that draws the explorer: functions `drawPlots` and `drawTried`."""
    return "\n".join((FOLDER / part).read_text() for part in PARTS)


def style() -> str:
    """The style of what it draws; colours are variables of the page."""
    return (FOLDER / "style.css").read_text()


@dataclass(frozen=True, slots=True)
class Marks:
    """What is marked on the plots, by the digests of recipes.

    current: what the sliders say; estimate: its record while it is not exact. pins: letters. names: titles of presets
    and of trained models. trail: what the viewer went through, oldest first. predicted: sparsities with the
    milliseconds that were timed there, from which the time of other recipes is predicted.
    """

    current: str = ""
    estimate: Record | None = None
    pins: Mapping[str, str] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)
    trail: Sequence[str] = ()
    predicted: tuple[Sequence[float], Sequence[float]] = ((), ())


@dataclass(frozen=True, slots=True)
class Scene:
    """What the explorer draws. data: JSON. board: its name for the viewer. seen: changes of the board that are in it.

    answer: of the board, to the budget. alt: in words.
    """

    data: str
    board: str
    answer: Answer
    seen: int
    alt: str


def gather(
    board: Board,
    timed: Timed,
    reference: float | None,
    *,
    of: str,
    setting: str,
    baseline: BaselineFigures,
    samples: int,
    marks: Marks,
    budget: Budget,
    since: int = 0,
    pick: bool = True,
) -> Scene:
    """The scene of a model under one setting of timing.

    of: names the model and the setting. setting: the timing's in words. reference: milliseconds of the baseline, None
    until it was timed. samples: of the test split. since: changes of the board that the viewer has. pick: whether a
    click loads a recipe.
    """
    words, changes = board.words, board.changes(since)
    ms = milliseconds(timed, reference)
    columns = board.columns(ms)
    lost = words.factor * (baseline.value - columns.value)
    found = answer(budget, {Limit.SIZE: columns.size, Limit.MS: ms, Limit.LOST: lost})
    fronts = {
        "size": pareto.front(columns.size, columns.value, board.digest),
        "ms": pareto.front(ms, columns.value, board.digest),
    }
    estimate = marks.estimate
    named = board_name(of, board)
    alt = _alt(board, fronts["size"], words)
    head: dict[str, Any] = {
        "board": named,
        "since": since,
        "seen": changes.seen,
        "count": len(ms),
        "of": _of(changes, timed),
        "timings": [timing_row(each, reference) for each in timed.latencies],
        "reference": reference,
        "words": {"title": words.title, "axis": words.axis, "factor": words.factor, "unit": words.unit},
        "setting": setting,
        "current": board.place(marks.current),
        "estimate": None
        if estimate is None
        else [
            json.loads(row(estimate, words)),
            timing_row(estimate.latency, reference),
            f"running estimate on {estimate.figures.n:,} of {samples:,} samples",
        ],
        "pins": _places(board, marks.pins),
        "names": _places(board, marks.names),
        "trail": [place for each in marks.trail if (place := board.place(each)) is not None],
        "line": TRAIL,
        "fronts": {name: [int(place) for place in places] for name, places in fronts.items()},
        "trained": board.trainings(),
        "predicted": [list(each) for each in marks.predicted],
        "baseline": _baseline(baseline, reference, words),
        "floor": _floor(columns.value, estimate, baseline),
        "limits": _limits(budget, baseline, words),
        "best": found.place if found.fits else None,
        "pick": pick,
        "alt": alt,
    }
    rows = ",".join(f"[{place},{text}]" for place, text in changes.rows if place < len(ms))
    data = f'{{"rows":[{rows}],"head":{json.dumps(head, ensure_ascii=False, separators=(",", ":"))}}}'
    return Scene(data, named, found, changes.seen, alt)


def board_name(of: str, board: Board) -> str:
    """What a viewer calls a board. of: the model and the setting of timing."""
    return f"{of} {board.generation}"


def _of(changes: Changes, timed: Timed) -> list[list[int]]:
    """(place, timing) of the rows that are new."""
    return [[place, timed.of[place]] for place, _ in changes.rows if place < len(timed.of)]


def _places(board: Board, marked: Mapping[str, str]) -> list[tuple[int, str]]:
    return [(place, name) for digest, name in marked.items() if (place := board.place(digest)) is not None]


def _baseline(baseline: BaselineFigures, reference: float | None, words: Words) -> dict[str, Any]:
    told = [f"{words.value(baseline.value)} {words.name}", format_bytes(baseline.size_bytes)]
    return {
        "digest": Recipe().digest,
        "size": baseline.size_bytes,
        "ms": reference,
        "value": baseline.value,
        "told": [*told, *([format_ms(reference)] if reference is not None else [])],
    }


def _floor(values: NDArray[np.float64], estimate: Record | None, baseline: BaselineFigures) -> dict[str, Any]:
    """Where the linear part of the axis of the figure begins, and whether there are points below (`figures.scale`)."""
    seen = [] if estimate is None else [estimate.figures.value, estimate.figures.low]
    near = values[values >= baseline.value - WINDOW]
    seen += [float(each.min()) for each in (values, near) if len(each)]
    scale = share_scale([each for each in seen if np.isfinite(each)], baseline.value)
    return {"at": scale.floor, "broken": scale.broken, "range": scale.range}


def _limits(budget: Budget, baseline: BaselineFigures, words: Words) -> dict[str, float]:
    """The limits on the axes; that on what is lost as the lowest figure that is within."""
    limits: dict[str, float] = {limit.value: most for limit, most in budget.limits.items()}
    if (lost := limits.pop(Limit.LOST.value, None)) is not None:
        limits["value"] = baseline.value - lost / words.factor
    return limits


def _alt(board: Board, front: NDArray[np.intp], words: Words) -> str:
    """The front in words, for who does not see it."""
    records = [board.record(int(place)) for place in front]
    told = [f"{words.value(each.figures.value)} at {format_bytes(each.size.artefact)}" for each in records]
    title = f"{words.title} against size and time of {len(board):,} recipes."
    return f"{title} The front: {'; '.join(told)}." if told else title
