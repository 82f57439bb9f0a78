"""Shared by the tests of pages."""

from collections.abc import Iterator

import pytest
import streamlit as st
from paretoscope.service.workbench import Workbench

from pages.components import kept, state


@pytest.fixture(autouse=True)
def nothing_fills_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages measure what a test asks for; that plots fill in by themselves is the matter of browser tests."""
    monkeypatch.setattr(Workbench, "missing", lambda *_: False)


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
