"""What a server lets its visitors ask for: settings of whoever runs it, read from the environment.

The command line and the library have no such limits: they run on their user's own machine.
"""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields

from paretoscope.base.errors import CompressionError

PREFIX = "PARETOSCOPE_"


class LimitError(CompressionError):
    """What was asked for is more than this server gives."""


def _limit(default: float, variable: str, least: float = 1) -> float:
    return field(default=default, metadata={"variable": PREFIX + variable, "least": least})


@dataclass(frozen=True, slots=True)
class Limits:
    """Each is read from the environment variable of its metadata; inf is no limit.

    epochs, minutes: of one training; the minutes are training, without waiting and pauses, since it was started or
    gone on with. queue: trainings of all visitors that run, wait or pause. trainings, jobs: of one visitor at a time,
    trainings and all other work. batch, threads: of a timing. grace_minutes: how long a training goes on after its
    visitor has left. library: megabytes of networks and data that were added, beyond which nothing more is.
    """

    epochs: float = _limit(500, "MAX_EPOCHS")
    minutes: float = _limit(120, "MAX_MINUTES", 0.01)
    queue: float = _limit(20, "MAX_QUEUE")
    trainings: float = _limit(3, "MAX_TRAININGS")
    jobs: float = _limit(100, "MAX_JOBS")
    batch: float = _limit(128, "MAX_BATCH")
    threads: float = _limit(16, "MAX_THREADS")
    grace_minutes: float = _limit(15, "GRACE_MINUTES", 0)
    library: float = _limit(10_000, "MAX_LIBRARY_MB")

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> "Limits":
        """Raises LimitError where a variable is no number that its limit can be."""
        found = {}
        for each in fields(cls):
            variable, least = each.metadata["variable"], each.metadata["least"]
            if text := environment.get(variable, "").strip():
                try:
                    found[each.name] = float(text)
                except ValueError:
                    found[each.name] = math.nan
                if not found[each.name] >= least:
                    raise LimitError(
                        f"{variable} must be a number of at least {least:g}, or inf for no limit; got {text[:40]!r}. "
                        f"Set one, or unset it for {each.default:g}."
                    )
        return cls(**found)

    def check(self, name: str, what: str, value: float, remedy: str) -> None:
        """Raises LimitError where a value is above the limit of that name."""
        limit = getattr(self, name)
        if value > limit:
            raise LimitError(f"{what} must be at most {limit:g} on this server; got {value:g}. {remedy}")


# Whether visitors may name files of the server's own disk, whatever `own_machine` would say: "yes" or "no".
PATHS = PREFIX + "PATHS"


def paths(own_machine: bool, environment: Mapping[str, str] = os.environ) -> bool:
    """Whether a page offers files of the server's disk by their paths; raises LimitError for another value of PATHS.

    own_machine: whether the server answers nobody but this machine, which decides where the variable is not set.
    """
    said = environment.get(PATHS, "").strip().lower()
    if said not in ("", "yes", "no"):
        raise LimitError(
            f"{PATHS} must be yes or no; got {said[:40]!r}. Set one, or unset it for what the server finds."
        )
    return said == "yes" if said else own_machine


NONE = Limits(**{each.name: math.inf for each in fields(Limits)})
