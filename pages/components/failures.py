"""What could not be measured, and the way out where there is one."""

import streamlit as st
from paretoscope.base.lock import trouble

from pages.components import background, plain, state
from pages.components.state import Work


def render(work: Work) -> None:
    """The messages, and why timings are marked, where they are; a recipe without training is sent to where that is."""
    for message in work.failed:
        if message in background.problems():
            continue
        st.error(plain.escape(message))
    if work.failed and not state.available(work.view.model, work.view.recipe):
        st.page_link("pages/recover.py", label="Train it on the page Recover", icon=":material/healing:")
    if told := trouble():
        st.warning(plain.escape(f"{told[0].upper()}{told[1:]}"), icon=":material/lock_open:")
