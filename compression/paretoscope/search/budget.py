"""What a person can afford, and which of the measured recipes answers it best."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from paretoscope.base.errors import CompressionError
from paretoscope.base.text import shown


class Limit(StrEnum):
    """What may be limited: bytes of the file, milliseconds a batch, points of the task's figure lost."""

    SIZE = "size"
    MS = "ms"
    LOST = "lost"


# Bytes of the unit that the limit on the size is asked and linked in.
KILOBYTE = 1000
# A limit of no points lost, as a scale for what is lost beyond it: a tenth of a point.
FINEST_LOST = 0.1


@dataclass(frozen=True, slots=True)
class Budget:
    """At most so many bytes, so many milliseconds, so many points lost; None where that is not limited.

    lost: in the unit of the screen, `Words.factor` times the loss of the headline figure. Raises CompressionError for a
    size or a time that is not positive, a loss below 0, or what is no finite number.
    """

    size: float | None = None
    ms: float | None = None
    lost: float | None = None

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if value is None:
                continue
            least = "at least 0" if each.name == Limit.LOST else "above 0"
            if not math.isfinite(value) or value < 0 or (value == 0 and each.name != Limit.LOST):
                raise CompressionError(f"a limit on {each.name} must be {least}; got {value}. Leave it out for none.")

    @property
    def limits(self) -> dict[Limit, float]:
        """The limits that are set."""
        return {Limit(name): value for name, value in asdict(self).items() if value is not None}

    def to_query(self) -> dict[str, str]:
        """The limits as parameters of a link: kilobytes, milliseconds, points."""
        found = {"most_kb": None if self.size is None else self.size / KILOBYTE, "most_ms": self.ms}
        return {name: f"{value:.6g}" for name, value in {**found, "most_lost": self.lost}.items() if value is not None}

    @classmethod
    def from_query(cls, query: Mapping[str, str]) -> "tuple[Budget, tuple[str, ...]]":
        """The limits that a link has, and a sentence for each that cannot be read."""
        found: dict[str, float] = {}
        problems = []
        for name, key, factor in (("size", "most_kb", KILOBYTE), ("ms", "most_ms", 1), ("lost", "most_lost", 1)):
            if key not in query:
                continue
            try:
                found |= {name: float(query[key]) * factor}
                cls(**{name: found[name]})
            except (ValueError, CompressionError):
                found.pop(name, None)
                least = "at least 0" if name == "lost" else "above 0"
                problems.append(f"{key} in a link must be a number {least}; got {shown(query[key])}.")
        return cls(**found), tuple(problems)


QUERY = ("most_kb", "most_ms", "most_lost")


@dataclass(frozen=True, slots=True)
class Answer:
    """Which recipe answers a budget: its place among those that were asked about, or None without any.

    fits: whether it is within all limits; if not, it is the nearest, and over says by how much it misses each limit, in
    the limit's unit. fitting: how many are within. unknown: how many only lack their time, which is not measured yet.
    """

    place: int | None
    fits: bool
    over: Mapping[Limit, float]
    fitting: int
    unknown: int


def answer(budget: Budget, columns: Mapping[Limit, NDArray[np.float64]]) -> Answer:
    """The best recipe within a budget, or the nearest to it.

    columns: one value a recipe for each limit, NaN where it is not known, which is within no limit. Where the points
    lost are limited, the best is the smallest file; else it is that which loses least, the smaller of two alike. The
    nearest is that whose largest excess, as a share of its limit, is smallest.
    """
    size, lost = columns[Limit.SIZE], columns[Limit.LOST]
    limits = budget.limits
    if not len(size) or not limits:
        return Answer(None, False, {}, 0, 0)
    excess = {limit: columns[limit] - most for limit, most in limits.items()}
    within = {limit: over <= _slack(limits[limit]) for limit, over in excess.items()}
    fits = np.logical_and.reduce([each & ~np.isnan(excess[limit]) for limit, each in within.items()])
    known = np.logical_and.reduce([~np.isnan(each) for each in excess.values()])
    others = [each for limit, each in within.items() if limit is not Limit.MS]
    unknown = int((np.logical_and.reduce([~known, *others])).sum()) if Limit.MS in limits else 0
    if fits.any():
        places = np.flatnonzero(fits)
        keys = (lost[places], size[places]) if budget.lost is not None else (size[places], lost[places])
        best = int(places[np.lexsort(keys)[0]])
        return Answer(best, True, {}, len(places), unknown)
    if not known.any():
        return Answer(None, False, {}, 0, unknown)
    shares = [np.maximum(over, 0) / max(limits[limit], FINEST_LOST) for limit, over in excess.items()]
    worst = np.where(known, np.max(shares, axis=0), np.inf)
    nearest = int(np.lexsort((size, worst))[0])
    missed = {limit: float(over[nearest]) for limit, over in excess.items() if not within[limit][nearest]}
    return Answer(nearest, False, missed, 0, unknown)


def _slack(limit: float) -> float:
    # A limit is written with six digits; what is compared with it is not rounded.
    return 1e-6 * limit
