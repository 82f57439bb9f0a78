"""Whether what is measured is kept, and what of the history is not shown."""

import streamlit as st
from paretoscope.service.workbench import Workbench

from pages.components import plain


def render(bench: Workbench, model: str) -> None:
    if bench.store_error:
        st.warning(f"Results are kept in memory only: {plain.escape(bench.store_error)}", icon=":material/save:")
    for note in bench.store_notes(model):
        st.caption(f":material/history: {plain.escape(note)}")
