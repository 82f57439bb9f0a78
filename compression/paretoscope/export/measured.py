"""An artefact with the figures that were measured of it, and without: its length is the same."""

import numpy as np

from paretoscope import codec
from paretoscope.codec.container import framed, sections
from paretoscope.codec.header import Header
from paretoscope.measure.record import Record
from paretoscope.tasks.plain import Counted


def figures_of(record: Record) -> codec.Figures | None:
    """What an artefact says of itself; the divergence has the digits of the file, float32.

    None for a task whose answers are not right or wrong: the format has no place for its figures.
    """
    figures, baseline = record.figures, record.baseline
    if not (isinstance(figures, Counted) and isinstance(baseline, Counted)):
        return None
    return codec.Figures(
        n=record.figures.n,
        correct=figures.correct,
        baseline_correct=baseline.correct,
        mean_kl=float(np.float32(record.figures.harm)),
        dataset=record.digests.dataset[:16],
    )


def without_figures(artefact: bytes) -> bytes:
    """An artefact as it was before anything was measured, of which a record has the digest.

    Raises ArtefactError for what is no artefact.
    """
    found = sections(artefact)
    return framed(found.header, None, found.streams, Header.unpack(found.header).values)
