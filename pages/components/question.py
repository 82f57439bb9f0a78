"""The question: what the user can afford, and what of all that is known answers it."""

from collections.abc import Mapping

import streamlit as st
from paretoscope.base.units import format_bytes, format_ms
from paretoscope.measure.paired import paired_ms
from paretoscope.measure.record import Record
from paretoscope.measure.wording import speed
from paretoscope.search.budget import KILOBYTE, Answer, Budget, Limit

from pages.components import downloads, kept, naming, plain, state
from pages.components.state import Work

# Characters of a recipe on the card, on which its figures come first; the help has all of it.
NAME = 32
FIELDS = {Limit.SIZE: "afford_size", Limit.MS: "afford_ms", Limit.LOST: "afford_lost"}
HELP = (
    "What you can afford: kilobytes (1,000 bytes) of the file, milliseconds a batch in the chosen runtime on this "
    "machine, and how much lower the {name} may be. An empty field is no limit."
)
PICKED = (
    "Of all that was measured of this model, the {what} within the limits. It is picked by the same test samples that "
    "its figures are of: the best of many looks a little better than it will be on new ones."
)


def ask() -> None:
    """The line of limits; an empty one limits nothing."""
    budget, words = kept.budget(), state.words()
    values = {
        Limit.SIZE: None if budget.size is None else budget.size / KILOBYTE,
        Limit.MS: budget.ms,
        Limit.LOST: budget.lost,
    }
    for limit, key in FIELDS.items():
        if st.session_state.get("asked_budget") != budget or key not in st.session_state:
            st.session_state[key] = values[limit]
    st.session_state.asked_budget = budget
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key="question"):
        st.header("Explore", anchor=False, width="content")
        st.markdown("At most", width="content", help=HELP.format(name=words.name))
        _number("KB", Limit.SIZE, values)
        _number("ms", Limit.MS, values)
        _number(f"{words.points} lost", Limit.LOST, values)
        st.button(
            "Search within this budget",
            key="search",
            icon=":material/search:",
            on_click=state.fill_now,
            disabled=not budget.limits,
            help="Measures the presets and the sweeps around what is shown, which may fit, and picks the best.",
        )


def _number(unit: str, limit: Limit, values: Mapping[Limit, float | None]) -> None:
    st.number_input(
        f"At most, {unit}",
        min_value=0.0,
        value=values[limit],
        format="%.6g",
        key=FIELDS[limit],
        placeholder="any",
        label_visibility="collapsed",
        width=88,
        on_change=_taken,
    )
    st.markdown(unit, width="content")


def _taken() -> None:
    """Take over the limits; a size or a time of 0 is none."""
    given = {limit: st.session_state.get(key) for limit, key in FIELDS.items()}
    size, ms = given[Limit.SIZE], given[Limit.MS]
    kept.afford(Budget(size * KILOBYTE if size else None, ms or None, given[Limit.LOST]))
    st.session_state.asked_budget = kept.budget()


def card(work: Work, answer: Answer, record: Record | None) -> None:
    """The best so far, or what misses by how much and what would help. record: the answer's, with its timing."""
    budget = kept.budget()
    if not budget.limits:
        return
    with st.container(horizontal=True, vertical_alignment="center", border=True, key="answer", gap="small"):
        if record is None:
            st.markdown(plain.escape(_nothing(answer)))
            return
        told = f"**{_named(record)}**: {_figures(record, work)}"
        detail = plain.escape(record.recipe.describe())
        if answer.fits:
            what = "smallest file" if budget.lost is not None else "one that loses least"
            count = f"{answer.fitting:,} fit" if answer.fitting > 1 else "the only one that fits"
            st.markdown(
                f":material/check_circle: Best so far: {told} ({count})",
                help=f"{detail}. {PICKED.format(what=what)}",
                width="content",
            )
        else:
            over = ", ".join(f"{_amount(limit, by)} too {OVER[limit]}" for limit, by in answer.over.items())
            st.markdown(
                f":material/block: Nothing tried fits. Nearest: {told}, **{over}**. {_remedy(answer)}"
                f"{_untimed(answer)}",
                help=f"{detail}.",
                width="content",
            )
        st.button("Load", key="answer_load", on_click=_load, args=(record,), icon=":material/input:")
        st.download_button(
            "Download",
            lambda: downloads.artefact(work.view.model, record.recipe),
            downloads.artefact_name(work.view.model, record.recipe),
            key="answer_download",
            on_click="ignore",
            icon=":material/download:",
            help="The artefact, the file whose length is shown.",
        )


OVER = {Limit.SIZE: "large", Limit.MS: "slow", Limit.LOST: "inaccurate"}
REMEDIES = {
    Limit.SIZE: "Fewer bits, more zeros, or a smaller architecture make it smaller.",
    Limit.MS: "Integer arithmetic, a smaller architecture or another runtime make it faster.",
    Limit.LOST: "Training wins it back (page Recover), as does a rate that is calibrated by data.",
}


def _remedy(answer: Answer) -> str:
    return REMEDIES[max(answer.over, key=lambda limit: list(REMEDIES).index(limit))]


def _untimed(answer: Answer) -> str:
    return f" {answer.unknown:,} may fit, but are not timed yet." if answer.unknown else ""


def _amount(limit: Limit, by: float) -> str:
    if limit is Limit.SIZE:
        return format_bytes(by)
    return format_ms(by) if limit is Limit.MS else f"{by:.1f} {state.words().points}"


def _nothing(answer: Answer) -> str:
    if answer.unknown:
        return f"{answer.unknown:,} would fit, but are not timed yet."
    return "Nothing is measured yet that can be compared with these limits."


def _named(record: Record) -> str:
    return plain.escape(naming.recipes(record.model).get(record.digests.recipe) or record.recipe.describe(), NAME)


def _figures(record: Record, work: Work) -> str:
    words = state.words()
    told = [format_bytes(record.size.artefact), words.change(record.figures.value - record.baseline.value)]
    reference = state.workbench().reference_ms(work.view.model, work.view.timing)
    if record.latency is not None and record.latency.decided and reference is not None:
        told.append(f"{format_ms(paired_ms(record.latency, reference))}, {speed(record.latency).words}")
    return plain.escape(", ".join(told))


def _load(record: Record) -> None:
    state.load_recipe(record.recipe)
    st.session_state.reload = True
