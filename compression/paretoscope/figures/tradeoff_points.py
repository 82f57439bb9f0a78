"""The points of the two trade-off plots: what each record is there, where it stands and what is told of it."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import median
from typing import Literal

from paretoscope.base.units import Unit, bytes_unit, format_bytes, format_ms
from paretoscope.figures import pareto
from paretoscope.figures.scale import ShareScale, share_scale
from paretoscope.figures.theme import literal
from paretoscope.measure.paired import paired_interval, paired_ms, reference_ms
from paretoscope.measure.record import Record
from paretoscope.measure.wording import NOT_ALONE, share_touched, smaller, speed
from paretoscope.recipe.recipe import Recipe
from paretoscope.tasks import BaselineFigures, Words

Quantity = Literal["size", "latency"]

# The size axis has room for this compression ratio from the start, so that it stands still while points come in.
EXPECTED_RATIO = 32
TRAIL = 5  # the line through the points visited last has this many vertices


class PointKind(StrEnum):
    """What a record is on the plots, the one that is drawn where it is several."""

    BASELINE = "baseline"
    FRONT = "front"
    CURRENT = "current"
    PINNED = "pinned"
    ESTIMATE = "estimate"
    PREDICTED = "predicted"
    SEEN = "seen"


@dataclass(frozen=True, slots=True)
class Point:
    """One marker. x: bytes or milliseconds a batch, with its interval. share, low, high: the figure.

    kind says what it is drawn as, the most important role first: current, pinned, estimate, predicted, front, seen.
    estimate: not all of it is measured yet. reused: its x was measured for another recipe. pinned: also true for a
    current point that is pinned.
    """

    digest: str
    kind: PointKind
    x: float
    x_low: float
    x_high: float
    share: float
    low: float
    high: float
    estimate: bool
    reused: bool
    pinned: bool
    visited: bool
    hover: str


@dataclass(frozen=True, slots=True)
class Tradeoff:
    """What a trade-off figure shows. front, trail: (x, share) of the vertices of their lines. trained: (x, share)
    of a recipe without its training and with it, where both are known.

    waiting: how many records have no place on the latency axis yet, undecided: how many because their interval is too
    wide. setting: under what the latency was taken. formats: (number format, its median latency): all recipes of one
    format share a timing, so they form a column.
    """

    quantity: Quantity
    model: str
    setting: str
    points: tuple[Point, ...]
    front: tuple[tuple[float, float], ...]
    trail: tuple[tuple[float, float], ...]
    trained: tuple[tuple[tuple[float, float], tuple[float, float]], ...]
    formats: tuple[tuple[str, float], ...]
    waiting: int
    undecided: int
    scale: ShareScale
    unit: Unit
    words: Words

    @property
    def alt(self) -> str:
        """One sentence in place of the picture."""
        measured = [point for point in self.points if point.kind != PointKind.BASELINE]
        front = f"{len(self.front)} of them on the front"
        return f"{self.words.title} against {self.quantity} of {len(measured)} recipes, {front}."


def gather(
    records: Sequence[Record],
    *,
    x: Quantity,
    baseline: BaselineFigures,
    words: Words,
    current: str | None = None,
    pinned: Collection[str] = (),
    trail: Sequence[str] = (),
    samples: int | None = None,
    expected_ms: Mapping[str, float] | None = None,
    reference: float | None = None,
) -> Tradeoff:
    """The points of one model in one runtime. words: of the task.

    current, pinned, trail: recipe digests; the trail is what the viewer went through, oldest first.
    samples: size of the test split; a record of fewer samples is a running estimate. None: the largest that is seen.
    expected_ms: recipe digest -> predicted latency, for records whose speed-up is not known; drawn hollow.
    reference: milliseconds of the baseline, by which all are placed. None: that of the records' own timings; without
    any, the latency figure has no star.
    Where two records have one recipe, the one of more samples counts, then the later.
    """
    expected_ms = expected_ms or {}
    unique: dict[str, Record] = {}
    for record in records:
        known = unique.get(record.digests.recipe)
        if known is None or record.figures.n >= known.figures.n:
            unique[record.digests.recipe] = record
    samples = samples or max((record.figures.n for record in unique.values()), default=0)
    complete = [record for record in unique.values() if record.figures.n >= samples]
    reference = reference or reference_ms(record.latency for record in records if record.latency is not None)

    def place(record: Record) -> float | None:
        if x == "size":
            return record.size.artefact
        timing = record.latency
        return None if timing is None or not timing.decided or reference is None else paired_ms(timing, reference)

    front = pareto.front(complete, x=pareto.size_bytes if x == "size" else pareto.slowness)
    on_front = {record.digests.recipe for record in front}
    pinned, visited = set(pinned), set(trail)

    points: list[Point] = []
    waiting = undecided = 0
    for digest, record in unique.items():
        value = place(record)
        predicted = value is None and digest in expected_ms
        if predicted:
            value = expected_ms[digest]
        if value is None:
            waiting += 1
            undecided += record.latency is not None
            continue
        estimate = predicted or record.figures.n < samples
        kind = _kind(digest == current, digest in pinned, record.figures.n < samples, predicted, digest in on_front)
        low = high = value
        if x == "latency" and not predicted and record.latency is not None and reference is not None:
            low, high = paired_interval(record.latency, reference)
        figures = record.figures
        points.append(
            Point(
                digest=digest,
                kind=kind,
                x=value,
                x_low=low,
                x_high=high,
                share=figures.value,
                low=figures.low,
                high=figures.high,
                estimate=estimate,
                reused=x == "latency" and record.latency_reused and not predicted,
                pinned=digest in pinned,
                visited=digest in visited,
                hover=_hover(record, kind, samples, reference, expected_ms.get(digest), words),
            )
        )
    star = baseline.size_bytes if x == "size" else reference
    if star is not None:
        points.append(_baseline_point(baseline, star, x, words))

    places = {point.digest: (point.x, point.share) for point in points if point.kind != PointKind.BASELINE}
    seen = [p.share for p in points] + [p.low for p in points if has_interval(p)]
    return Tradeoff(
        quantity=x,
        model=next((record.model for record in records), ""),
        setting=_setting(unique.values()) if x == "latency" else "",
        points=tuple(points),
        front=tuple((at, record.figures.value) for record in front if (at := place(record)) is not None),
        trail=tuple(places[digest] for digest in trail if digest in places)[-TRAIL:],
        trained=tuple(_trained(unique, places)),
        formats=_formats(unique.values(), reference) if x == "latency" and reference is not None else (),
        waiting=waiting,
        undecided=undecided,
        scale=share_scale(seen, baseline.value),
        unit=bytes_unit((baseline.size_bytes / EXPECTED_RATIO, baseline.size_bytes)) if x == "size" else Unit("ms", 1),
        words=words,
    )


def _trained(
    records: Mapping[str, Record], places: Mapping[str, tuple[float, float]]
) -> Iterator[tuple[tuple[float, float], tuple[float, float]]]:
    for digest, record in records.items():
        start = record.recipe.untrained.digest
        if record.recipe.recover is not None and digest in places and start in places:
            yield places[start], places[digest]


def _kind(current: bool, pinned: bool, estimate: bool, predicted: bool, on_front: bool) -> PointKind:
    if current:
        return PointKind.CURRENT
    if pinned:
        return PointKind.PINNED
    if estimate:
        return PointKind.ESTIMATE
    if predicted:
        return PointKind.PREDICTED
    return PointKind.FRONT if on_front else PointKind.SEEN


def has_interval(point: Point) -> bool:
    return point.kind in (PointKind.CURRENT, PointKind.ESTIMATE) or (point.kind == PointKind.PINNED and point.estimate)


def _setting(records: Collection[Record]) -> str:
    settings = {
        f"batch of {timing.batch}, {timing.runtime}, {timing.threads} thread{'s' if timing.threads > 1 else ''}"
        for record in records
        if (timing := record.latency) is not None
    }
    return settings.pop() if len(settings) == 1 else "batch"


def _formats(records: Collection[Record], reference: float) -> tuple[tuple[str, float], ...]:
    timings: dict[str, list[float]] = {}
    for record in records:
        if record.latency is not None and record.latency.decided:
            timings.setdefault(record.latency.number_format, []).append(paired_ms(record.latency, reference))
    return tuple(sorted((name, median(values)) for name, values in timings.items()))


def _baseline_point(baseline: BaselineFigures, x: float, quantity: Quantity, words: Words) -> Point:
    cost = format_bytes(x) if quantity == "size" else format_ms(x)
    hover = f"<b>Baseline</b>, uncompressed fp32<br>{words.value(baseline.value)} {words.name}<br>{cost}"
    value = baseline.value
    return Point(Recipe().digest, PointKind.BASELINE, x, x, x, value, value, value, False, False, False, False, hover)


def _hover(
    record: Record, kind: PointKind, samples: int, reference: float | None, predicted_ms: float | None, words: Words
) -> str:
    figures, timing = record.figures, record.latency
    interval = " to ".join(words.ends(figures.low, figures.high))
    change = words.change(figures.value - record.baseline.value)
    size = [format_bytes(record.size.artefact), smaller(record.ratio), share_touched(record.touched)]
    lines = [
        f"<b>{literal(record.recipe.describe())}</b>",
        f"{words.value(figures.value)} {words.name} ({change}), 95 %: {interval}",
        ", ".join(filter(None, size)),
    ]
    if timing is not None and timing.decided and reference is not None:
        lines.append(f"{format_ms(paired_ms(timing, reference))}, {speed(timing)}")
        if record.latency_reused:
            lines.append("<i>reused from another recipe of the same graph</i>")
        if timing.alone is False:
            lines.append(f"<i>{NOT_ALONE}</i>")
    elif timing is not None:
        lines.append(f"latency: {speed(timing)}")
    if (timing is None or not timing.decided) and predicted_ms is not None:
        lines.append(f"about {format_ms(predicted_ms)}, <i>predicted: not timed yet</i>")
    if figures.n < samples:
        lines.append(f"<i>running estimate on {figures.n} of {samples} samples</i>")
    if kind == PointKind.FRONT:
        lines.append("on the front")
    return "<br>".join(lines)
