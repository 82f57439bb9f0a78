"""Who asks for a job: a visitor, and where of it. `asking` tells it, around the call that submits."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple


class Party(NamedTuple):
    """Who asks for a job. visitor: who limits count. place: of that visitor's, which wants a job of its own and takes
    turns with other places; a job that the visitor wants wherever it is, as a training, has none. name: what the place
    calls the job, where it wants several.
    """

    visitor: str
    place: str = ""
    name: str = ""


_asking: ContextVar[Party | None] = ContextVar("asking", default=None)


@contextmanager
def asking(party: Party) -> Iterator[None]:
    """Within, jobs are submitted for this party, or it joins those that are there already."""
    before = _asking.set(party)
    try:
        yield
    finally:
        _asking.reset(before)


def asking_party() -> Party | None:
    """For whom jobs are submitted just now, or None."""
    return _asking.get()
