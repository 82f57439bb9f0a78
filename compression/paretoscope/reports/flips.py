"""The samples of a report: those whose answer flips, as small pictures, curves or words."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from paretoscope.base.png import shrunk
from paretoscope.measure import comparison
from paretoscope.measure.record import Record
from paretoscope.measure.subject import Subject
from paretoscope.reports.contents import Flips, Sample
from paretoscope.service import preview
from paretoscope.service.preview import Picked, Seen, Shown
from paretoscope.tasks import Answers, Flip

# Samples (broken, mended, those that moved most where none is either) that are shown from the baseline to the chosen
# configuration, and from that to each of so many pins; pixels of their longer sides, values of a row, curves of a
# signal. Chosen by hand, no benchmark.
FIRST, FURTHER, PINS = (12, 6, 12), (4, 4, 4), 6
PIXELS, VALUES, CURVES = 64, 8, 3
KINDS = (Flip.BROKEN, Flip.MENDED, Flip.CHANGED)


@dataclass(frozen=True, eq=False, slots=True)
class Answered:
    """A configuration with its answers to the test samples; record: None of the baseline."""

    name: str
    record: Record | None
    answers: Answers


def between(subject: Subject, answered: Sequence[Answered]) -> list[Flips]:
    """The samples that flip from the baseline to the chosen configuration, and from that to the first pins."""
    if len(answered) < 2:
        return []
    pairs = [(answered[0], answered[1]), *((answered[1], each) for each in answered[2 : 2 + PINS])]
    chosen = []
    for at, (before, after) in enumerate(pairs):
        if len(before.answers) != len(after.answers):
            continue
        found = comparison.flipped(subject.task, before.answers, after.answers, subject.labels)
        most = FURTHER if at else FIRST
        places = {
            kind: comparison.chosen(found, subject.labels, frozenset([kind]))[:count].tolist()
            for kind, count in zip(KINDS, most, strict=True)
            # Of answers that were wrong and are, none is worth a picture.
            if kind is not Flip.CHANGED or not subject.task.needs_labels
        }
        chosen.append((before, after, found, places))
    wanted = sorted({place for *_, places in chosen for each in places.values() for place in each})
    picked = preview.samples_at(subject, wanted) if wanted else None
    seen = {} if picked is None else {place: _looked(picked, at) for at, place in enumerate(wanted)}
    return [
        Flips(
            before=before.name,
            after=after.name,
            counts={kind: found.count(kind) for kind in places},
            same=found.same,
            samples=tuple(
                Sample(
                    number=place,
                    before=subject.task.said(before.answers, place),
                    after=subject.task.said(after.answers, place),
                    truth=_truth(subject, place),
                    kind=kind,
                    **seen[place],
                )
                for kind, each in places.items()
                for place in each
            ),
        )
        for before, after, found, places in chosen
    ]


def _truth(subject: Subject, place: int) -> str:
    if not subject.task.needs_labels or subject.labels.ndim != 1:
        return ""
    label, classes = int(subject.labels[place]), subject.task.classes
    return classes[label] if 0 <= label < len(classes) else str(label)


def _looked(picked: Picked, at: int) -> dict[str, Any]:
    """The first input of a sample that can be drawn, or all inputs in words."""
    for seen in picked.seen[at]:
        if seen.picture is not None:
            return {"picture": shrunk(seen.picture, PIXELS)}
        if seen.curves is not None:
            return {"curves": seen.curves[:CURVES]}
    return {"text": "; ".join(_row(shown, seen) for shown, seen in zip(picked.inputs, picked.seen[at], strict=True))}


def _row(shown: Shown, seen: Seen) -> str:
    if seen.text:
        return seen.text
    values = [f"{value:.4g}" for value in seen.values[:VALUES]]
    if shown.columns:
        values = [f"{column} {value}" for column, value in zip(shown.columns, values, strict=False)]
    return f"{', '.join(values)}{' …' * (len(seen.values) > VALUES)}"
