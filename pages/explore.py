"""Explore: what a model is worth against size and time, live, for the recipe that the sidebar holds."""

import streamlit as st
from paretoscope.figures import theme

from pages.components import (
    controls,
    exchange,
    explorer,
    figure,
    history,
    kpis,
    notes,
    plots,
    question,
    state,
    tray,
)

look = theme.named(st.context.theme.type)
controls.open_view("explore")
state.begin()
controls.draw()
view, bench = state.view(), state.workbench()
question.ask()
state.open_subject(view.model)


def live() -> None:
    """All that changes while jobs run; redrawn by itself until they are done."""
    work = st.session_state.pop("started", None) or state.start()
    if exchange.take() or state.outdated(work.pace):
        # A point was chosen in here, and the sidebar must follow; or only a whole run can change how often this one is
        # repeated.
        st.rerun(scope="app")
    scene = plots.scene(work)
    with st.container(gap="small"):
        question.card(work, scene.answer, plots.answered(work, scene))
        explorer.plots(scene, plots.load)
        kpis.render(work)
        plots.progress(work)
        if work.exact:
            notes.render(view.model, view.recipe)
        history.render(bench, view.model)
    errors = state.words().errors
    names = ["Size ladder", "Sweeps", *([errors.tab] if errors else []), "All tried"]
    ladder, sweeps, *confusion, tried = st.tabs(names, key="tab", on_change="rerun")
    if ladder.open:
        with ladder:
            plots.ladder(work, look)
    if sweeps.open:
        with sweeps:
            plots.sweeps(work, look)
    for tab in confusion:
        if tab.open:
            with tab:
                plots.confusion(work, look)
    if tried.open:
        with tried:
            explorer.tried(scene, plots.load)


work = st.session_state.started = state.start()
state.repeat(live, work.pace)
figure.library()
tray.render(view)
