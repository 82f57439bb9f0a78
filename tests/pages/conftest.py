"""Shared by the tests of pages."""

from collections.abc import Iterator

import pytest
import streamlit as st

from pages.components import state


@pytest.fixture(scope="module", autouse=True)
def no_job_left() -> Iterator[None]:
    """What pages left in the background ends with the module: no test of another one runs beside it."""
    yield
    state.workbench().close()
    st.cache_resource.clear()
