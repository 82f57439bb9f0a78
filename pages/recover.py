"""Recover: training that wins back what compression lost, watched while it runs, and weighed against its time."""

import streamlit as st
from paretoscope.figures import theme

from pages.components import (
    controls,
    figure,
    history,
    notes,
    recover,
    state,
    students,
    training_settings,
    trainings,
    tray,
)

look = theme.named(st.context.theme.type)
controls.open_view(state.RECOVER)
controls.draw()
view, bench = state.view(), state.workbench()
state.open_subject(view.model)

recover.title(view)
request = training_settings.ask(view)
known = trainings.known(request)
training_settings.settings(known)


def live() -> None:
    """All that changes while a training runs; redrawn by itself until it has ended."""
    known = trainings.known(request)
    if state.outdated(known.pace):
        st.rerun(scope="app")
    recover.verdict(known)
    recover.curves(known, look)
    recover.result(known)
    if known.before is not None:
        notes.render(view.model, request.recipe)
    history.render(bench, view.model)
    recover.others(known)


state.repeat(live, known.pace)

students.settings(request)


def shrinking() -> None:
    """The students so far; redrawn by itself while they train."""
    if state.outdated(students.pace(request), "students_pace"):
        st.rerun(scope="app")
    students.render(request)


state.repeat(shrinking, students.pace(request), "students_pace")
figure.library()
tray.render(view)
