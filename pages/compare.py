"""Compare: configurations side by side, tested in pairs, down to the samples whose answer flips."""

import streamlit as st
from paretoscope.figures import theme

from pages.components import (
    compare,
    compare_figures,
    compare_flips,
    compare_sheet,
    controls,
    failures,
    figure,
    state,
    tray,
)

look = theme.named(st.context.theme.type)
compare.enter()
controls.open_view("compare")
state.begin()
controls.draw()
view = state.view()

st.title("Compare")
compare.explain()
compare.choose()
state.open_subject(view.model)


def live() -> None:
    """All that changes while jobs run; redrawn by itself until they are done."""
    work, known = st.session_state.pop("compare_started", None) or compare.start()
    if state.outdated(compare.pace(known, work)):
        st.rerun(scope="app")
    failures.render(work)
    compare_sheet.sheet(known, look)
    compare.progress(work, known)
    differs, pairs, flips, layers, steps, times, origins = st.tabs(
        ["What differs", "Tested in pairs", "Samples that flip", "Bytes by layer", "Steps", "Time", "Where from"],
        key="compare_tab",
        on_change="rerun",
    )
    job = None
    if differs.open:
        with differs:
            compare_sheet.recipes(known, look)
    if pairs.open:
        with pairs:
            compare_sheet.pairs(known, look)
    if flips.open:
        with flips:
            job = compare_flips.render(known, look)
    if layers.open:
        with layers:
            job = compare_figures.layers(known, look)
    if steps.open:
        with steps:
            job = compare_figures.steps(known, look)
    if times.open:
        with times:
            compare_figures.speeds(known, look)
    if origins.open:
        with origins:
            compare_figures.origins(known, look)
    compare.wait_for(job)


st.session_state.compare_started = work, known = compare.start()
state.repeat(live, compare.pace(known, work))
figure.library()
tray.render(view)
