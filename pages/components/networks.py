"""The list of the Networks page, and what can be done with one of it."""

from dataclasses import replace

import streamlit as st
from paretoscope.base.errors import CompressionError
from paretoscope.base.units import format_bytes
from paretoscope.networks import library
from paretoscope.service.roster import Row, roster
from paretoscope.service.subjects import task_of

from pages.components import menu, plain, state, visitors

# Rows of the list that are seen without scrolling.
ROWS = 9


def explain() -> None:
    """What the page is for."""
    st.markdown(
        "The zoo's networks and yours. A network of your own is a model like any other on every page and in every "
        "command, once it is added below."
    )
    if told := st.session_state.get("networks_told"):
        st.success(plain.escape(told), icon=":material/check:")
    if problem := st.session_state.get("networks_error"):
        st.error(plain.escape(problem))


def rows() -> list[Row]:
    """All networks, the user's first, those that are damaged too."""
    place = st.empty()
    with place:
        st.skeleton(height=_height(ROWS))
    found = sorted(roster(), key=lambda row: not row.own)
    place.empty()
    return found


def _height(lines: int) -> int:
    return 38 + 35 * lines


def choose(name: str) -> None:
    """Look at a network; only before the list or in a callback."""
    st.session_state.networks_chosen = name
    st.session_state.networks_generation = st.session_state.get("networks_generation", 0) + 1
    st.session_state.networks_removing = None


def table(rows: list[Row]) -> Row:
    """The list; a click on a line looks at that network. The one that is looked at."""
    names = [row.name for row in rows]
    if st.session_state.get("networks_chosen") not in names:
        wanted = st.query_params.get("model", state.current_model())
        choose(wanted if wanted in names else names[0])
    key = f"networks_{st.session_state.networks_generation}"
    place = names.index(st.session_state.networks_chosen)
    number = st.column_config.NumberColumn
    event = st.dataframe(
        [_line(row) for row in rows],
        key=key,
        hide_index=True,
        height=_height(min(len(rows), ROWS)),
        placeholder="–",
        on_select="rerun",
        selection_mode="single-row",
        selection_default={"selection": {"rows": [place]}},
        alt="Networks with their inputs, parameters, size, task, data and the figure of the uncompressed one",
        column_config={
            "Network": st.column_config.TextColumn(width=190),
            "From": st.column_config.TextColumn(width=70),
            "Inputs": st.column_config.TextColumn(width=190),
            "Parameters": number(format="localized", width=104),
            "Size": st.column_config.TextColumn(width=90, help="As 32-bit floats, all tensors counted."),
            "Baseline": st.column_config.TextColumn(
                help="What the uncompressed network gets on its test split; measured when it is opened."
            ),
        },
    )
    picked = event.selection.rows[0] if event.selection.rows else place
    if names[picked] != st.session_state.networks_chosen:
        st.session_state.networks_chosen = names[picked]
        st.session_state.networks_removing = st.session_state.networks_told = None
    return rows[picked]


def _line(row: Row) -> dict[str, object]:
    return {
        "Network": plain.cut(row.title, 80),
        "Name": row.name,
        "From": "yours" if row.own else "zoo",
        "Inputs": plain.cut(row.inputs or "damaged", 120),
        "Parameters": row.parameters or None,
        "Size": format_bytes(row.size_bytes) if row.size_bytes else None,
        "Task": row.task,
        "Data": row.data or None,
        "Baseline": _baseline(row),
    }


def _baseline(row: Row) -> str | None:
    """The figure of a network that is open; opening one takes seconds, for which a list must not wait."""
    bench = state.workbench()
    if row.problem or not bench.loaded(row.name):
        return None
    task = task_of(row.name)
    if not task.needs_labels:
        return None
    try:
        subject = bench.subject(row.name)
        exact = subject.judged.settled == len(subject.judged)
        return f"{'' if exact else '≈ '}{task.words.value(subject.baseline.value)}"
    except CompressionError:
        return None


def actions(row: Row) -> None:
    """Open it, or remove it, which is asked twice."""
    st.subheader(plain.escape(row.title, 80), anchor="network")
    if row.problem:
        st.error(plain.escape(row.problem))
    with st.container(horizontal=True, vertical_alignment="center", key="network_actions"):
        if not row.problem:
            st.button(
                "Open in Explore",
                key="open_network",
                type="primary",
                icon=":material/scatter_plot:",
                on_click=_open,
                args=(row.name,),
            )
        if row.own:
            _removing(row)


def _open(name: str) -> None:
    view = state.view()
    if name != view.model:
        timing = state.timing_of(name, **{each: getattr(view.timing, each) for each in state.TIMING})
        state.load(replace(view, model=name, recipe=state.recipe_of(name), timing=timing))
    menu.go("pages/explore.py")


def _removing(row: Row) -> None:
    if not mine(row.name):
        st.caption("Another visitor added it, and alone may remove it.")
        return
    if st.session_state.get("networks_removing") != row.name:
        st.button("Remove", key="remove_network", icon=":material/delete:", on_click=_ask, args=(row.name,))
        return
    st.button(
        f"Remove {plain.escape(row.name)} for good",
        key="remove_network_sure",
        icon=":material/delete_forever:",
        on_click=_remove,
        args=(row.name,),
    )
    st.button("Keep it", key="keep_network", type="tertiary", on_click=_ask, args=(None,))
    st.caption("Its data, its files that you took and what was measured of it stay.")


def _ask(name: str | None) -> None:
    st.session_state.networks_told = None
    st.session_state.networks_removing = name


def _remove(name: str) -> None:
    st.session_state.networks_removing = st.session_state.networks_error = None
    try:
        if not mine(name):
            return
        library.remove(name)
    except CompressionError as error:
        st.session_state.networks_error = str(error)
        return
    state.workbench().forget(name)
    added().pop(name, None)
    st.session_state.networks_told = f"Removed {name}."


@st.cache_resource(show_spinner=False)
def added() -> dict[str, str]:
    """Which visitor of this process added a network, by its name; a name of the library has one network."""
    return {}


def mine(name: str) -> bool:
    """Whether this visitor may remove a network: who added it, and everyone after a restart of the server."""
    return added().get(name, visitors.name()) == visitors.name()
