"""Layers: which layer pays, what each may lose, and recipes that treat them differently."""

import streamlit as st
from paretoscope.figures import theme

from pages.components import controls, figure, layers, naming, notes, one_layer, plain, state

look = theme.named(st.context.theme.type)
controls.open_view("layers")
state.begin()
controls.draw()
view, bench = state.view(), state.workbench()
subject = state.open_subject(view.model)

st.title("Layers")
st.markdown(f"**{naming.titled(view.model)}**, layer by layer. Current recipe: {plain.escape(view.recipe.describe())}.")
layers.choose(subject.statistics)


def live() -> None:
    """All that changes while jobs run; redrawn by itself until they are done."""
    work = st.session_state.pop("started", None) or state.start(fill=False)
    studies = layers.studies(work)
    if state.outdated(studies.pace(work)):
        st.rerun(scope="app")
    layers.verdict(work)
    if work.exact:
        notes.render(view.model, view.recipe)
    layers.progress(studies)
    table, sensitivity, one, suggest, waterfall = st.tabs(
        ["Table", "Sensitivity", "One layer", "Suggest", "Waterfall"], key="layers_tab", on_change="rerun"
    )
    if table.open:
        with table:
            layers.table(studies)
    if sensitivity.open:
        with sensitivity:
            layers.sensitivity(work, studies, look)
    if one.open:
        with one:
            one_layer.render(work, look)
    if suggest.open:
        with suggest:
            layers.suggestion(work, studies)
    if waterfall.open:
        with waterfall:
            layers.waterfall(work, studies, look)


work = st.session_state.started = state.start(fill=False)
state.repeat(live, layers.studies(work).pace(work))
figure.library()
