"""Export: the current model in the formats that people deploy, each checked before it is offered, and back again."""

import streamlit as st

from pages.components import controls, exporting, exporting_matrix, layers, naming, notes, plain, state, tray

controls.open_view("export")
state.begin()
controls.draw()
view = state.view()
state.open_subject(view.model)

recipe = plain.escape(view.recipe.describe())
st.markdown(f"## Export &nbsp; :small[:gray[**{naming.titled(view.model)}**, {recipe}]]")


def live() -> None:
    """All that changes while jobs run; redrawn by itself until they are done."""
    work = st.session_state.pop("started", None) or state.start(fill=False)
    exporting.fill(work)
    offers = exporting.offers(work)
    if state.outdated(exporting.pace(work, offers)):
        st.rerun(scope="app")
    layers.verdict(work)
    exporting.downloads(work)
    exporting.actions(offers)
    exporting.table(work, offers)
    exporting.buttons(work, offers)
    exporting.reasons(offers)
    if work.exact:
        notes.render(view.model, view.recipe)


work = st.session_state.started = state.start(fill=False)
state.repeat(live, exporting.pace(work, exporting.offers(work)))

bandwidths, back = st.columns(2, gap="large")
with bandwidths:
    exporting.bandwidths()
with back:
    exporting.upload()


def matrix() -> None:
    """The checks of all models; redrawn by itself while their conversions run."""
    if state.outdated(exporting_matrix.pace(), "matrix_pace"):
        st.rerun(scope="app")
    exporting_matrix.render()


state.repeat(matrix, exporting_matrix.pace(), "matrix_pace")
tray.render(view)
