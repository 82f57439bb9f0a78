"""Present: six prepared steps in large type, then the explorer to play with; nothing else on the screen."""

import streamlit as st

from pages.components import controls, explorer, kpis, plots, present, state

controls.open_view("present")
present.alone()
view = state.view()
state.open_subject(view.model)


def steps() -> None:
    """The six steps, drawn anew while some are measured."""
    if present.over():
        st.rerun(scope="app")
    found, jobs = present.measure(view)
    pace = present.PACE_S if any(not job.ended for job in jobs) else None
    if state.outdated(pace):
        st.rerun(scope="app")
    present.show(view, found)


def free() -> None:
    """The explorer over the whole width, drawn anew while something is measured."""
    work = st.session_state.pop("started", None) or state.start()
    if state.outdated(work.pace):
        st.rerun(scope="app")
    explorer.plots(plots.scene(work), plots.load)
    kpis.render(work)


if present.playing():
    with st.container(horizontal=True, vertical_alignment="center"):
        st.header("Try it yourself", anchor=False, width="stretch")
        st.button("Back to the steps", on_click=present.play, args=(False,), icon=":material/arrow_back:")
        st.button("Leave", key="leave", shortcut="Esc", icon=":material/close:", on_click=present.leave)
    controls.sliders()
    st.session_state.started = state.start()
    state.repeat(free, st.session_state.started.pace)
else:
    found, jobs = present.measure(view)
    state.repeat(steps, present.PACE_S if any(not job.ended for job in jobs) else None)
