"""Networks: those of the zoo and yours, what each sees and answers, and how another one is added."""

import streamlit as st
from paretoscope.figures import theme

from pages.components import figure, networks, networks_add, networks_preview, state, visitors

visitors.let_in()
st.session_state.controls_on = "networks"
look = theme.named(st.context.theme.type)

st.title("Networks")
networks.explain()
rows = networks.rows()
chosen = networks.table(rows)
networks.actions(chosen)


def live() -> None:
    """What a network sees; redrawn by itself until that is known."""
    found = networks_preview.known(chosen)
    if state.outdated(found.pace, "preview_pace"):
        st.rerun(scope="app")
    networks_preview.render(chosen, found, look)


state.repeat(live, networks_preview.known(chosen).pace, "preview_pace")

st.divider()
networks_add.form()


def adding() -> None:
    """How far a network is that is being added; redrawn by itself until it is there."""
    if networks_add.take() or state.outdated(networks_add.pace(), "adding_pace"):
        st.rerun(scope="app")
    networks_add.progress()


state.repeat(adding, networks_add.pace(), "adding_pace")
figure.library()
