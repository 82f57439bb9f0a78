"""How long work reports its progress and is cancelled.

Work that takes longer than a moment is given a `Progress` and calls `report` between its pieces. A job of the service
is one; `Calling` makes one of a plain function, for a bar on a terminal; `SILENT` is for those who do not look.
"""

from collections.abc import Callable
from typing import Any, Protocol


class Cancelled(Exception):
    """Raised by `Progress.report` inside long work that was cancelled."""


class Progress(Protocol):
    """Where long work reports its progress."""

    def report(
        self,
        done: float | None = None,
        total: float = 1.0,
        *,
        label: str | None = None,
        partial: Any = None,
        left: float | None = None,
    ) -> None:
        """Called by the work between its pieces; raises Cancelled where the work is to end.

        done, total: pieces, or shares of the work; None where only the end is asked about. label: where the work is,
        in words. partial: the result so far. left: seconds, where the work knows better than `done` tells.
        """


class Calling:
    """A plain function as a Progress.

    tell: gets the done share of the work, or None, its label, or None, and its partial result, or None. What it raises
    ends the work.
    """

    def __init__(self, tell: Callable[[float | None, str | None, Any], None]) -> None:
        self._tell = tell

    def report(
        self,
        done: float | None = None,
        total: float = 1.0,
        *,
        label: str | None = None,
        partial: Any = None,
        left: float | None = None,
    ) -> None:
        """As `Progress.report`."""
        self._tell(None if done is None else done / total, label, partial)


class Within:
    """The Progress of a part of work that reports the whole itself: a report of the part only asks whether to end."""

    def __init__(self, whole: Progress) -> None:
        self._whole = whole

    def report(
        self,
        done: float | None = None,
        total: float = 1.0,
        *,
        label: str | None = None,
        partial: Any = None,
        left: float | None = None,
    ) -> None:
        """As `Progress.report`."""
        self._whole.report()


SILENT: Progress = Calling(lambda share, label, partial: None)
