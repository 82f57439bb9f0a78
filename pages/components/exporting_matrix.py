"""Every model of the same data in every format with the current recipe: what was checked, and what is left to check."""

from collections.abc import Callable

import streamlit as st
from paretoscope.export import Format, Verification, formats
from paretoscope.networks.network import Network
from paretoscope.service.jobs import Job, State
from paretoscope.service.limits import LimitError
from paretoscope.service.parties import Party, asking
from paretoscope.service.study import StudyKind

from pages.components import naming, plain, state, visitors

FIGURES: dict[str, Callable[[Verification], str]] = {
    "Size": lambda found: f"{found.size / 1000:,.1f} KB",
    "Predictions that differ": lambda found: f"{found.differing} of {found.n}",
    "Largest difference": lambda found: f"{found.largest:.2g}",
}


def _figures() -> dict[str, Callable[[Verification], str]]:
    """What a cell may show, under its name."""
    words = state.words()
    return {**FIGURES, words.title: lambda found: words.value(found.accuracy, 2)}


def _jobs() -> dict[tuple[str, str], Job]:
    """The session's jobs for the current recipe, by model and format; those for the one before are cancelled."""
    recipe = state.view().recipe
    found = st.session_state.get("matrix")
    if found is None or found[0] != recipe:
        _cancel()
        st.session_state.matrix = recipe, {}
    return st.session_state.matrix[1]


def _cancel() -> None:
    for job in st.session_state.get("matrix", (None, {}))[1].values():
        job.let_go(_party())


def _models() -> list[Network]:
    """Those that are measured on the same data as the current one; that one alone where it has none."""
    own = naming.find(state.view().model)
    return [each for each in map(naming.find, naming.names()) if each.data == own.data] if own.data else [own]


def _columns() -> dict[str, str]:
    """Titles of columns by the models' names; users may give two of theirs one title."""
    shared = _models()
    titles = [each.title for each in shared]
    return {each.name: each.title if titles.count(each.title) == 1 else each.name for each in shared}


def _check_all() -> None:
    bench, recipe, jobs = state.workbench(), state.view().recipe, _jobs()
    for model in _models():
        for format in formats:
            if _possible(format) and _known(model.name, format) is None:
                try:
                    with asking(_party()):
                        jobs[model.name, format.name] = bench.ask(StudyKind.CONVERT, model.name, recipe, format.name)
                except LimitError as error:
                    jobs[model.name, format.name] = Job.refused(format.title, str(error))


def _party() -> Party:
    return Party(visitors.name(), visitors.session(), "matrix")


def _possible(format: Format) -> bool:
    return format.available() and format.refusal(state.view().recipe) is None


def _known(model: str, format: Format) -> Verification | None:
    job, bench = _jobs().get((model, format.name)), state.workbench()
    if job is not None and job.result is not None:
        return job.result.verification
    # Loading a model takes seconds, for which a table must not wait.
    return bench.known(StudyKind.CONVERT, model, state.view().recipe, format.name) if bench.loaded(model) else None


def pace() -> float | None:
    """Seconds between redraws."""
    return 1.0 if any(not job.ended for job in _jobs().values()) else None


def render() -> None:
    """The table, its one figure to be chosen, and the button or the progress."""
    st.subheader("Every model in every format", anchor="matrix")
    _action()
    figures, columns = _figures(), _columns()
    if not any(_cell(name, format, figures["Size"]) for format in formats for name in columns):
        st.caption("What the current recipe makes of every model of these data, in each format.")
        return
    shown = st.segmented_control(
        "Figure", list(figures), default="Size", required=True, key="matrix_figure", label_visibility="collapsed"
    )
    rows = [
        {"Format": format.title, **{title: _cell(name, format, figures[shown]) for name, title in columns.items()}}
        for format in formats
    ]
    st.dataframe(
        rows,
        key="matrix_table",
        hide_index=True,
        height=38 + 35 * len(rows),
        placeholder="–",
        alt=f"{shown} of every model in every format",
        column_config={
            "Format": st.column_config.TextColumn(width=146),
            **{title: st.column_config.TextColumn(width=134, alignment="right") for title in columns.values()},
        },
    )
    _reasons()
    st.caption(
        "Each model with the current recipe, each file run over the test split in its own runtime. Sizes count all "
        "files; differences are to the same recipe on the screen."
    )


def _action() -> None:
    jobs = _jobs()
    for job in jobs.values():
        job.keep(_party())
    left = sum(not job.ended for job in jobs.values())
    if not left:
        st.button(
            "Convert and check every model",
            key="matrix_all",
            icon=":material/done_all:",
            on_click=_check_all,
            help="All that is not known yet. One conversion after another, in the background; some minutes.",
        )
        return
    bar, button = st.columns([5, 1], vertical_alignment="center")
    bar.progress(1 - left / len(jobs), text=f"{len(jobs) - left} of {len(jobs)} conversions checked")
    button.button("Cancel", key="cancel_matrix", width="stretch", on_click=_cancel, help="Stop all conversions.")


def _cell(model: str, format: Format, figure: Callable[[Verification], str]) -> str | None:
    found, job = _known(model, format), _jobs().get((model, format.name))
    if found is not None and found.passed:
        return figure(found)
    if _problem(model, format) is not None:
        return "failed"
    return "converting" if job is not None and job.state is State.RUNNING else None


def _problem(model: str, format: Format) -> str | None:
    found, job = _known(model, format), _jobs().get((model, format.name))
    return job.error if found is None and job is not None else found and found.problem


def _reasons() -> None:
    """What failed, each reason once."""
    failed: dict[str, list[str]] = {}
    for model in _models():
        for format in formats:
            if problem := _problem(model.name, format):
                failed.setdefault(problem, []).append(model.title)
    if failed:
        with st.expander("Why some failed"):
            for problem, titles in failed.items():
                st.markdown(f"**{plain.escape(', '.join(dict.fromkeys(titles)))}**: {plain.escape(problem)}")
