"""The figures of the page Compare."""

import streamlit as st
from paretoscope.base.units import format_bytes
from paretoscope.figures import compare as draw
from paretoscope.figures import origins as map_of
from paretoscope.figures.theme import Theme
from paretoscope.recipe.presets import presets_of
from paretoscope.runtimes import runtimes
from paretoscope.search.provenance import family
from paretoscope.search.waterfall import steps_of
from paretoscope.service.jobs import Job, Priority
from paretoscope.service.study import StudyKind
from paretoscope.service.subjects import task_of

from pages.components import compare, figure, naming, plain, state, widgets
from pages.components.compare import Column, Known
from pages.components.layers_tabs import STEP_TITLES

# Characters of a configuration's name on the map.
NAME = 44
BYTES, FALLS = "compare bytes", "compare waterfalls"


def layers(known: Known, look: Theme) -> Job | None:
    """Bytes of each layer; counted as soon as the tab is open. The job that is waited for."""
    bench, ready = state.workbench(), [each for each in known.columns if each.exact]
    found, job = compare.fetch(
        BYTES,
        [
            (
                (each.model, each.recipe),
                lambda each=each: bench.known(StudyKind.BYTES, each.model, each.recipe),
                lambda each=each: bench.ask(StudyKind.BYTES, each.model, each.recipe),
            )
            for each in ready
        ],
    )
    sizes = {
        each.tag: (each.place, found[each.model, each.recipe])
        for each in ready
        if found[each.model, each.recipe] is not None
    }
    _problems(BYTES, ready)
    if not sizes:
        st.skeleton(height=240)
        return job
    titles = {"stacked": "A bar for each configuration", "grouped": "A group for each layer"}
    stacked = widgets.one_of("Bars", titles, "compare_bars") == "stacked"
    data = draw.gather_layers(sizes)
    drawn = draw.draw_stacks(data, look) if stacked else draw.draw(data, look, key="compare layers")
    figure.show(drawn, "plot_compare_stacks" if stacked else "plot_compare_layers", alt=data.alt)
    st.caption(
        "Codes of each layer's weights in the file, by its coder's own count; all else is scales, codebooks, tables, "
        "other tensors and the header. The bars of a configuration add up to its file."
    )
    return job


def steps(known: Known, look: Theme) -> Job | None:
    """The size ladders side by side, and what each step saves and costs; these studies run while the tab is open."""
    ready = [each for each in known.columns if each.record is not None]
    if not ready:
        st.skeleton(height=320)
        return None
    data = draw.gather_ladders({each.tag: (each.place, each.record.size) for each in ready})
    figure.show(draw.draw(data, look, key="compare ladders"), "plot_compare_ladders", alt=data.alt)
    st.caption("Bytes of the whole model under each form; the last group is the file. The axis is logarithmic.")
    bench, stepped = state.workbench(), [each for each in ready if each.exact and steps_of(each.recipe.untrained)]
    asked = {(each.model, each.recipe.untrained): each for each in stepped}
    found, job = compare.fetch(
        FALLS,
        [
            (
                key,
                lambda key=key: bench.known(StudyKind.WATERFALL, *key),
                lambda key=key: bench.ask(StudyKind.WATERFALL, *key, priority=Priority.LATER),
            )
            for key in asked
        ],
    )
    falls = {each.tag: (each.place, found[key]) for key, each in asked.items() if found[key] is not None}
    if falls:
        saved, cost = st.columns(2)
        words = task_of(known.columns[0].model).words
        for column, groups, name in (
            (saved, draw.gather_savings(falls, STEP_TITLES), "savings"),
            (cost, draw.gather_costs(falls, STEP_TITLES, words), "costs"),
        ):
            with column:
                figure.show(draw.draw(groups, look, key=f"compare {name}"), f"plot_compare_{name}", alt=groups.alt)
        trained = " Recipes with training are taken without it." * any(each.recipe.recover for each in stepped)
        st.caption(
            "What each step saves and costs: its mean over all orders of the steps (Shapley value), every part really "
            f"evaluated.{trained}"
        )
    if job is not None:
        st.caption(plain.escape(f"What each step saves and costs: {len(falls)} of {len(asked)}. {state.told(job)}"))
    return job


def origins(known: Known, look: Theme) -> None:
    """The map of where each configuration came from."""
    # What was pinned is older than what is on the sliders now.
    columns = sorted(known.columns, key=lambda each: each.pin is None)
    found = [compare.origin(each) for each in columns]
    descents = family([(each.model, each.recipe) for each in columns], found)
    data = map_of.gather(
        [(naming.called(each.model), plain.cut(_named(each), NAME), _figures(each), each.place) for each in columns],
        descents,
        {preset.name: preset.title for each in columns for preset in presets_of(each.model)},
        "Baseline",
    )
    st.mermaid_chart(map_of.draw(data, look), width="content", alt=data.alt)
    st.caption(
        "Presets have double sides, what a search found is pointed, what was trained leans; a dashed arrow leads to "
        "what came by a link or from an earlier visit. The map is worked out: each configuration stands behind the one "
        "that it differs from in the fewest settings."
    )


def _named(column: Column) -> str:
    return column.tag if column.name in column.tag else f"{column.tag}: {column.name}"


def _figures(column: Column) -> str:
    """A column's figures on one line, as far as they are known."""
    if column.record is None:
        return ""
    words = task_of(column.model).words
    return (
        f"{'' if column.exact else '≈ '}{words.value(column.record.figures.value)}, "
        f"{format_bytes(column.record.size.artefact)}"
    )


def speeds(known: Known, look: Theme) -> None:
    """Times with their paired speed-ups."""
    bench, bars = state.workbench(), []
    for each in known.columns:
        timing = compare.timing_for(each, known.timing)
        reference = bench.reference_ms(each.model, timing) if each.latency is not None else None
        bars.append(draw.Speed(each.tag, each.place, each.latency, reference))
    data = draw.gather_speeds(bars)
    figure.show(draw.draw_speeds(data, look), "plot_compare_speeds", alt=data.alt)
    timing = known.timing
    st.caption(
        f"{runtimes.get(timing.runtime).title}, batch {timing.batch}, {timing.threads} "
        f"thread{'s' * (timing.threads > 1)}. Each speed-up is of interleaved pairs with the fp32 baseline of the same "
        "network, with its 95 % interval; the time is the baseline's over it."
    )
    for each in known.columns:
        if problem := compare.untimed(each, timing):
            st.caption(plain.escape(f"{each.tag} could not be timed: {problem}"))


def _problems(name: str, columns: list[Column]) -> None:
    for each in columns:
        if problem := compare.problem_of(name, (each.model, each.recipe)):
            st.error(plain.escape(f"{each.tag}: {problem}"))
