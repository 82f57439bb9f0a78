"""The parts of the Layers page."""

from dataclasses import dataclass
from typing import Any

import streamlit as st
from paretoscope.base.units import format_bytes
from paretoscope.graph.outline import Outline
from paretoscope.measure import wording
from paretoscope.measure.layers import LayerRow
from paretoscope.measure.sensitivity import Sensitivity
from paretoscope.measure.wording import share_touched, smaller
from paretoscope.model.statistics import ModelStatistics
from paretoscope.recipe.recipe import Recipe
from paretoscope.search.suggest import Suggestion, Target, default_targets
from paretoscope.search.waterfall import Waterfall, steps_of
from paretoscope.service.jobs import Job
from paretoscope.service.shipped import Origin
from paretoscope.service.study import StudyKind

from pages.components import background, failures, plain, state
from pages.components.state import Work

STUDIES = ("graph", "sensitivity", "waterfall", "suggest")
TABS = ("Graph", "Table", "Sensitivity", "One layer", "Suggest", "Waterfall")
# Tabs that show what the curves of all layers are needed for.
OF_CURVES = ("Graph", "Sensitivity", "Suggest")


@dataclass(frozen=True)
class Studies:
    """What is known beside the evaluation of the recipe.

    rows: of the table; rows_of: where their times were taken, None for this machine. graph: the network's outline, or
    None. sensitivity: as far as it was measured. suggestion: for `wish`, None while it is not known. job: the first of
    the studies that still runs. due: whether one will begin when the view has stood still.
    """

    rows: list[LayerRow] | None
    rows_of: Origin | None
    graph: Outline | None
    sensitivity: Sensitivity | None
    waterfall: Waterfall | None
    suggestion: Suggestion | None
    job: Job | None
    due: bool

    def pace(self, work: Work) -> float | None:
        """Seconds between redraws."""
        return work.pace or (1.0 if self.job is not None or self.due else None)


def open_tab() -> str:
    """The tab that is looked at."""
    return st.session_state.get("layers_tab") or TABS[0]


def studies(work: Work) -> Studies:
    """What is known; what the open tab shows and is missing is begun: the table at once, longer studies in a while."""
    bench, model, recipe = state.workbench(), work.view.model, work.view.recipe.untrained
    tab = open_tab()
    table = state.follow("layers", model, lambda: bench.ask(StudyKind.LAYERS, model))
    other = bench.elsewhere(model, StudyKind.LAYERS, model) if table.result is None else None
    jobs: list[Job | None] = []
    due = False

    def missing(name: str, key: object, kind: StudyKind, *arguments: Any) -> Job | None:
        nonlocal due
        job = background.follow(name, key, kind, *arguments)
        due |= job is None and background.due(name, key)
        jobs.append(job)
        return job

    graph, curves = bench.known(StudyKind.GRAPH, model), bench.known(StudyKind.SENSITIVITY, model)
    if graph is None and tab == "Graph":
        missing("graph", model, StudyKind.GRAPH, model)
    whole = curves is not None
    if curves is None and (tab in OF_CURVES or state.job("sensitivity", model) is not None):
        job = missing("sensitivity", model, StudyKind.SENSITIVITY, model)
        curves = job.partial if job is not None else None
    fall = bench.known(StudyKind.WATERFALL, model, recipe)
    # What the engine refuses is told by the evaluation of the recipe.
    if fall is None and tab == "Waterfall" and work.exact and steps_of(recipe):
        missing("waterfall", (model, recipe), StudyKind.WATERFALL, model, recipe)
    asked = wish(work)
    suggestion = bench.known(StudyKind.SUGGEST, *asked)
    if suggestion is None and tab == "Suggest" and whole:
        missing("suggest", asked, StudyKind.SUGGEST, *asked)
    return Studies(
        rows=table.result if other is None else other.found,
        rows_of=None if other is None else other.origin,
        graph=graph,
        sensitivity=curves,
        waterfall=fall,
        suggestion=suggestion,
        job=next((job for job in (*jobs, table) if job is not None and not job.ended), None),
        due=due,
    )


def wish(work: Work) -> tuple[str, Target, Recipe]:
    """What a suggestion is for: the model, the wish in the fields, and what is kept of the recipe."""
    model, recipe, stored = work.view.model, work.view.recipe, st.session_state
    size, drop = default_targets(state.workbench().subject(model).baseline.size_bytes)
    if stored.get("wish") == "drop":
        target = Target(drop=stored.get("wish_drop", drop.drop))
    else:
        kilobytes = stored.get(f"wish_size_{model}")
        target = size if kilobytes is None else Target(bytes=round(1000 * kilobytes))
    return model, target, Recipe(repair=recipe.repair, code=recipe.code)


def choose(statistics: ModelStatistics) -> None:
    """The layer that the page looks at closely."""
    names = list(statistics.layers)
    key = f"layer_{state.current_model()}"
    if st.session_state.get(key) not in names:
        st.session_state[key] = max(names, key=lambda name: statistics.layers[name].weight.size)
    shape = {name: " x ".join(map(str, layer.weight.shape)) for name, layer in statistics.layers.items()}
    st.selectbox("Layer to look at", names, key=key, format_func=lambda name: f"{short(name)} ({shape[name]})")


def chosen_layer() -> str:
    """The layer that is looked at."""
    return st.session_state[f"layer_{state.current_model()}"]


def look_at(layer: str) -> None:
    st.session_state[f"layer_{state.current_model()}"] = layer
    st.session_state.reload = True


def short(layer: str) -> str:
    """A layer without the name of its tensor."""
    return layer.removesuffix(".weight")


def shown(setting: str, value: float | str) -> str:
    """The value of a setting in words."""
    if isinstance(value, str):
        return value
    return f"{100 * value:.4g} %" if setting == "sparsity" else f"{value:g}"


def verdict(work: Work) -> None:
    """One line: what the current recipe comes to, and why something could not be measured."""
    failures.render(work)
    if work.evaluation is None:
        st.caption("Not measured." if work.failed else "Measuring the current recipe.")
        return
    record = work.evaluation.record
    change, words = record.figures.value - record.baseline.value, state.words()
    told = wording.verdict(record.figures.distinguishable, change)
    st.markdown(
        f"**{words.value(record.figures.value)}** {words.name} ({words.change(change)}, {told}), "
        f"**{format_bytes(record.size.artefact)}**, "
        + ", ".join(filter(None, [smaller(record.ratio), share_touched(record.touched)]))
        + ("." if work.exact else " so far; measuring.")
    )


def progress(known: Studies) -> None:
    """The study that runs, and a way to stop it."""
    if known.job is None:
        return
    bar, button = st.columns([5, 1], vertical_alignment="center")
    bar.progress(known.job.progress, text=plain.escape(state.told(known.job)))
    if known.job is not state.job("layers"):
        button.button("Stop", key="cancel_study", width="stretch", on_click=_stop, help="Stop measuring this.")


def _stop() -> None:
    for name in STUDIES:
        key = st.session_state.get("jobs", {}).get(name, (None,))[0]
        if key is not None:
            background.stop(name, key)


def waiting(name: str, key: object, label: str, button: str, kind: StudyKind, *arguments: Any) -> None:
    """In place of what is not known yet: that it is being measured, or why it is not, and a way to begin."""
    job = state.job(name, key)
    if job is not None and not job.ended:
        st.caption(f"{label}: being measured, it appears here by itself.")
    elif background.due(name, key):
        st.caption(f"{label}: about to be measured.")
    else:
        if why := background.problem(name, key):
            st.caption(f"{label} could not be measured: {plain.escape(why)}")
        st.button(button, key=f"measure_{name}", on_click=background.begin, args=(name, key, kind, *arguments))
