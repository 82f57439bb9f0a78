"""Latency: whether the recipe is faster, why or why not, where it would be, and all that was measured to say so."""

import streamlit as st
from paretoscope.figures import theme

from pages.components import controls, devices, figure, history, latency, latency_figures, notes, state, tray

look = theme.named(st.context.theme.type)
controls.open_view("latency")
state.begin()
controls.draw()
view, bench = state.view(), state.workbench()
state.open_subject(view.model)

latency.title(view)


def live() -> None:
    """All that changes while jobs run; redrawn by itself until they are done."""
    work = st.session_state.pop("started", None) or state.start(fill=False)
    known = latency.known(work)
    if state.outdated(known.pace):
        st.rerun(scope="app")
    latency.verdict(known)
    latency.kpis(known)
    latency.settings(known)
    latency.progress(known)
    history.render(bench, view.model)
    runtimes, scaling, layers, distribution, others = st.tabs(
        ["Runtimes", "Batch and threads", "Layers", "Distribution", "Other devices"],
        key="latency_tab",
        on_change="rerun",
    )
    if runtimes.open:
        with runtimes:
            latency_figures.runtimes(known, look)
    if scaling.open:
        with scaling:
            latency_figures.scaling(known, look)
    if layers.open:
        with layers:
            latency_figures.layers(known, look)
    if distribution.open:
        with distribution:
            latency_figures.distribution(known, look)
    if others.open:
        with others:
            devices.render(known, look)
    if work.exact:
        notes.render(view.model, view.recipe)


work = st.session_state.started = state.start(fill=False)
state.repeat(live, latency.known(work).pace)
figure.library()
tray.render(view)
