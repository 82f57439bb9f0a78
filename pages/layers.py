"""Layers: which layer pays, what each may lose, and recipes that treat them differently."""

import streamlit as st
from paretoscope.figures import theme

from pages.components import controls, figure, layers, layers_tabs, naming, notes, one_layer, plain, state, tray

look = theme.named(st.context.theme.type)
controls.open_view("layers")
state.begin()
controls.draw()
view, bench = state.view(), state.workbench()
subject = state.open_subject(view.model)

title, chooser = st.columns([3, 2], vertical_alignment="bottom")
with title:
    recipe = plain.escape(view.recipe.describe())
    st.markdown(f"## Layers &nbsp; :small[:gray[**{naming.titled(view.model)}**, {recipe}]]")
with chooser:
    layers.choose(subject.statistics)


def live() -> None:
    """All that changes while jobs run; redrawn by itself until they are done."""
    work = st.session_state.pop("started", None) or state.start(fill=False)
    studies = layers.studies(work)
    if state.outdated(studies.pace(work)):
        st.rerun(scope="app")
    layers.verdict(work)
    layers.progress(studies)
    graph, table, sensitivity, one, suggest, waterfall = st.tabs(layers.TABS, key="layers_tab", on_change="rerun")
    if graph.open:
        with graph:
            layers_tabs.graph(work, studies, look)
    if table.open:
        with table:
            layers_tabs.table(studies)
    if sensitivity.open:
        with sensitivity:
            layers_tabs.sensitivity(work, studies, look)
    if one.open:
        with one:
            one_layer.render(work, look)
    if suggest.open:
        with suggest:
            layers_tabs.suggestion(work, studies)
    if waterfall.open:
        with waterfall:
            layers_tabs.waterfall(work, studies, look)
    if work.exact:
        notes.render(view.model, view.recipe)


work = st.session_state.started = state.start(fill=False)
state.repeat(live, layers.studies(work).pace(work))
figure.library()
tray.render(view)
