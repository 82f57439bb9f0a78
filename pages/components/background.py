"""What a page measures unasked: studies that are missing, while it is open and its view stands still.

They wait behind all that somebody asked for. One that a person stops, or that fails, is not begun again for the same
view; the page then says why, and offers to start it.
"""

import time
from typing import Any

import streamlit as st
from paretoscope.service.jobs import Job, Priority
from paretoscope.service.study import StudyKind

from pages.components import state


def due(name: str, key: object) -> bool:
    """Whether the study that a page calls so may be begun unasked: it was not stopped for this key, nor did it fail."""
    return st.session_state.get(f"unfilled {name}", (None, None))[0] != key


def still() -> bool:
    """Whether the view has stood still for long enough that no hand is moving."""
    return time.monotonic() - st.session_state.get("moved", (None, 0.0))[1] > state.STILL_S


def follow(name: str, key: object, kind: StudyKind, *arguments: Any) -> Job | None:
    """The job of a missing study; None before its time, where it is not to be begun, or where a limit has no room."""
    job = state.job(name, key)
    if job is None or job.cancelling:
        if not due(name, key) or not still():
            return None
        job = state.follow(name, key, lambda: state.workbench().ask(kind, *arguments, priority=Priority.LATER))
    if job.was_refused:
        state.stop(name)
        return None
    if job.error:
        stop(name, key, job.error)
        return None
    return job


def stop(name: str, key: object, why: str | None = None) -> None:
    """Abandon a study, and do not begin it unasked for this key again."""
    state.stop(name)
    st.session_state[f"unfilled {name}"] = key, why


def begin(name: str, key: object, kind: StudyKind, *arguments: Any) -> None:
    """Begin a study that a person asks for."""
    st.session_state.pop(f"unfilled {name}", None)
    state.stop(name)
    state.follow(name, key, lambda: state.workbench().ask(kind, *arguments, priority=Priority.ASKED))


def problem(name: str, key: object) -> str | None:
    """Why a study failed that was begun unasked."""
    of, why = st.session_state.get(f"unfilled {name}", (None, None))
    return why if of == key else None


def problems() -> set[str]:
    """Why studies failed that were begun unasked: the page tells each where the study is missed."""
    kept = [value for name, value in st.session_state.items() if str(name).startswith("unfilled ")]
    return {why for _, why in kept if why is not None}
