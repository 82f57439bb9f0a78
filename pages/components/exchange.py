"""The exchange rate that meets a wish: a size or a harm to be reached, and a job that looks for it."""

import streamlit as st
from paretoscope.base.errors import CompressionError
from paretoscope.search.allot import Allotment
from paretoscope.service.study import StudyKind

from pages.components import plain, state


def render() -> None:
    """The wish and its button, in the sidebar."""
    wish = st.segmented_control(
        "Meet",
        ["size", "harm"],
        default="size",
        key="allot_wish",
        format_func={"size": "a size", "harm": "a harm"}.get,
        help="The rate is looked for by encoding, or by running the train split.",
    )
    if wish == "harm":
        words = state.words()
        label = f"{words.harm_unit.capitalize()} of {words.divergence}, at most"
        st.number_input(label, 0.0, 10.0, 0.01, 0.001, format="%.4f", key="allot_harm")
    else:
        dense = state.workbench().subject(state.current_model()).baseline.size_bytes
        st.number_input("KB, at most", 0.1, dense / 1000, max(0.1, round(dense / 25_000, 1)), 1.0, key="allot_size")
    st.button("Find the rate", key="allot", width="stretch", on_click=_look, args=(wish,))
    if problem := st.session_state.get("allot_error"):
        st.warning(plain.escape(problem), icon=":material/flag:")


def _look(wish: str | None) -> None:
    bench, model, recipe = state.workbench(), state.current_model(), state.changeable()
    size, harm = None, None
    if wish == "harm":
        harm = st.session_state.allot_harm
    else:
        size = int(1000 * st.session_state.allot_size)
    st.session_state.allot_error = None
    key = (model, recipe, size, harm)
    try:
        job = state.follow("allot", key, lambda: bench.ask(StudyKind.ALLOT, *key))
    except CompressionError as error:
        st.session_state.allot_error = str(error)
        return
    st.session_state.allotting = job


def take() -> bool:
    """Load the recipe of a search that has ended; whether there was one."""
    job = st.session_state.get("allotting")
    if job is None or not job.ended:
        return False
    st.session_state.allotting = None
    found: Allotment | None = job.result
    if found is None:
        st.session_state.allot_error = job.error
    else:
        state.load_recipe(found.recipe)
        st.session_state.allot_error = None if found.reached else "The wish is out of reach; this is the nearest."
    return True
