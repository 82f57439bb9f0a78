"""Explore: what a model is worth against size and latency, live, for the recipe that the sidebar holds."""

import streamlit as st
from paretoscope.figures import theme

from pages.components import controls, exchange, export, figure, history, kpis, notes, plots, state, table

look = theme.named(st.context.theme.type)
controls.open_view("explore")
state.begin()
controls.draw()
view, bench = state.view(), state.workbench()
state.open_subject(view.model)


def live() -> None:
    """All that changes while jobs run; redrawn by itself until they are done."""
    work = st.session_state.pop("started", None) or state.start()
    if exchange.take() or state.outdated(work.pace):
        # A point was chosen in here, and the sidebar must follow; or only a whole run can change how often this one is
        # repeated.
        st.rerun(scope="app")
    kpis.render(work)
    plots.tradeoffs(work, look)
    plots.progress(work)
    if work.exact:
        notes.render(view.model, view.recipe)
    history.render(bench, view.model)
    errors = state.words().errors
    names = ["Size ladder", "Sweeps", *([errors.tab] if errors else []), "Records"]
    ladder, sweeps, *confusion, records = st.tabs(names, key="tab", on_change="rerun")
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
    if records.open:
        with records:
            table.render(work)


work = st.session_state.started = state.start()
state.repeat(live, work.pace)
figure.library()

with st.sidebar:
    export.render(work)
