"""Networks: those of the zoo and yours, what each sees and answers, and how another one is added."""

import streamlit as st
from paretoscope.figures import theme

from pages.components import figure, networks, networks_add, networks_preview, state, visitors

visitors.let_in()
st.session_state.controls_on = "networks"
look = theme.named(st.context.theme.type)

st.title("Networks")
# Each part has a place of its own: a line more or less above the form must not move its fields, or the browser makes
# them anew, and a file that is on its way is lost with the field that it was given to.
with st.container():
    networks.explain()
with st.container():
    rows = networks.rows()
    chosen = networks.table(rows)
with st.container():
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
