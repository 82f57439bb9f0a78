"""Shared by the tests of pages."""

from collections.abc import Iterator

import pytest
import streamlit as st
from paretoscope.service.workbench import Workbench

from pages.components import background, kept, state

DUE = background.due


@pytest.fixture(autouse=True)
def nothing_fills_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages measure what a test asks for; what fills in by itself has tests of its own."""
    monkeypatch.setattr(Workbench, "missing", lambda *_: False)
    monkeypatch.setattr(background, "due", lambda *_: False)


@pytest.fixture
def filling(nothing_fills_in: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is missing is measured by itself, as for a person, and at once: no hand moves."""
    monkeypatch.setattr(background, "due", DUE)
    monkeypatch.setattr(background, "still", lambda: True)


@pytest.fixture(autouse=True)
def no_pins_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """What one test pins is no matter of the next."""
    monkeypatch.setattr(kept, "_owner", lambda: None)


@pytest.fixture(scope="module", autouse=True)
def no_job_left() -> Iterator[None]:
    """What pages left in the background ends with the module: no test of another one runs beside it."""
    yield
    state.workbench().close()
    st.cache_resource.clear()
