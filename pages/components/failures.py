"""What could not be measured, and the way out where there is one."""

import streamlit as st

from pages.components import state
from pages.components.state import Work


def render(work: Work) -> None:
    """The messages; a recipe that must be trained first is sent to where that is done."""
    for message in work.failed:
        st.error(message)
    if work.failed and not state.available(work.view.model, work.view.recipe):
        st.page_link("pages/recover.py", label="Train it on the page Recover", icon=":material/healing:")
