"""The columns of the page Compare: what stands in each, and what is measured for it while the page is open."""

import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import streamlit as st
from paretoscope.measure.record import Latency, Record
from paretoscope.measure.subject import Evaluation
from paretoscope.recipe.presets import presets_of
from paretoscope.recipe.recipe import Recipe
from paretoscope.search.provenance import Provenance, provenance
from paretoscope.service import pins
from paretoscope.service.jobs import Job, Priority
from paretoscope.service.pins import Pin
from paretoscope.service.subjects import task_of
from paretoscope.service.timing import Timing
from paretoscope.tasks import tasks

from pages.components import kept, naming, plain, state
from pages.components.state import Work
from pages.components.turns import TURNS

CURRENT = "Current"
# Jobs of the session by what they are for; each does one thing at a time, so that no visitor's limit is reached.
REDRAW_S = 0.5
EVALUATE, TIME = "compare evaluate", "compare time"


@dataclass(frozen=True)
class Column:
    """One configuration. tag: what figures call it: "Current", a letter, a preset's title. pin: None where it is none.

    evaluation: None while it is not measured; exact: whether it is of all samples. problem: why it cannot be measured.
    place: among the columns, which its colour follows.
    """

    tag: str
    model: str
    recipe: Recipe
    pin: Pin | None = None
    evaluation: Evaluation | None = None
    exact: bool = False
    latency: Latency | None = None
    problem: str | None = None
    place: int = 0

    @property
    def key(self) -> tuple[str, str]:
        return self.model, self.recipe.digest

    @property
    def name(self) -> str:
        """What its owner calls it; else the preset that it is, or what the recipe says."""
        preset = naming.recipes(self.model).get(self.recipe.digest, "")
        named = self.pin.name if self.pin is not None else ""
        return named or (preset if preset not in self.tag else "") or self.recipe.describe()

    @property
    def record(self) -> Record | None:
        return None if self.evaluation is None else self.evaluation.record


@dataclass(frozen=True)
class Known:
    """All columns, and whether something is still on its way. job: what runs, for a line below."""

    columns: tuple[Column, ...]
    timing: Timing
    job: Job | None
    waiting: bool


def explain() -> None:
    """What the page does; without pins, how to pin."""
    if kept.pinned():
        st.caption("The current configuration beside those that you pinned, on the same samples.")
    else:
        st.caption(
            "Press **Pin** below to keep the current configuration as A, move the sliders and pin the next as B; until "
            "then the current one stands beside the baseline and the presets."
        )


def choose() -> None:
    """Which task and which presets; what is told apart is not mixed."""
    view = state.view()
    own, others = task_of(view.model).name, [pin for pin in kept.pinned() if task_of(pin.model).name != _task()]
    names = list(dict.fromkeys([own, *(task_of(pin.model).name for pin in kept.pinned())]))
    offered = {preset.name: preset.title for preset in presets_of(view.model)}
    with st.container(horizontal=True, vertical_alignment="bottom", key="compare_choice"):
        if len(names) > 1:
            st.segmented_control(
                "Task",
                names,
                default=own,
                required=True,
                key="compare_task",
                format_func=lambda name: tasks.get(name).title,
                help="Figures of different tasks do not compare: one task is shown at a time.",
            )
        if _task() == own:
            st.pills(
                "Also beside",
                list(offered),
                selection_mode="multi",
                default=[] if kept.pinned() else list(offered),
                key=_also_key(),
                format_func=offered.get,
                help="The baseline and the presets, as further columns.",
            )
    if others:
        told = ", ".join(f"{pins.letter(kept.pinned().index(pin))} ({naming.called(pin.model)})" for pin in others)
        st.caption(plain.escape(f"Judged by another task, and not mixed in: {told}."))


def _task() -> str:
    own = task_of(state.current_model()).name
    return st.session_state.get("compare_task") or own


def _also_key() -> str:
    # What is chosen belongs to a model, and starts anew once something is pinned.
    return f"compare_also_{state.current_model()}_{bool(kept.pinned())}"


def wanted() -> list[Column]:
    """The columns without what is known of them: Current, the pins by letter, presets; one configuration once."""
    view, task = state.view(), _task()
    found = [Column(CURRENT, view.model, view.recipe)]
    found += [Column(pins.letter(at), pin.model, pin.recipe, pin) for at, pin in enumerate(kept.pinned())]
    chosen = st.session_state.get(_also_key())
    chosen = [each.name for each in presets_of(view.model)] if chosen is None and not kept.pinned() else chosen or []
    found += [Column(each.title, view.model, each.recipe) for each in presets_of(view.model) if each.name in chosen]
    unique: dict[tuple[str, str], Column] = {}
    for each in found:
        if task_of(each.model).name != task:
            continue
        first = unique.get(each.key)
        if first is None:
            unique[each.key] = each
        else:
            unique[each.key] = replace(first, tag=f"{first.tag}, {each.tag}", pin=first.pin or each.pin)
    return [replace(each, place=place) for place, each in enumerate(unique.values())]


def known(work: Work) -> Known:
    """What is known of each column; what is missing is started, one thing at a time, and nothing is waited for long."""
    view, bench = work.view, state.workbench()
    columns, waiting, open_columns = wanted(), False, []
    for column in columns:
        problem, opened = _opened(column.model)
        waiting |= not opened and problem is None
        open_columns.append((column, problem, opened))
    asked = [
        ((column.model, column.recipe), _finder(column), _evaluator(column))
        for column, _, opened in open_columns
        if opened
    ]
    evaluations, job = fetch(EVALUATE, asked)
    found = []
    for column, problem, opened in open_columns:
        evaluation = evaluations.get((column.model, column.recipe)) if opened else None
        exact = evaluation is not None
        if job is not None and evaluation is None:
            evaluation = state.job(EVALUATE, (column.model, column.recipe)) and job.partial
        problem = problem or problem_of(EVALUATE, (column.model, column.recipe))
        latency = bench.latency(column.model, column.recipe, timing_for(column, view.timing)) if opened else None
        found.append(replace(column, evaluation=evaluation, exact=exact, latency=latency, problem=problem))
    if job is None:
        job = _time(found, view.timing)
    return Known(tuple(found), view.timing, job, waiting)


def _opened(model: str) -> tuple[str | None, bool]:
    """Why a model cannot be opened, and whether it is; it is opened in the background."""
    bench = state.workbench()
    loading = bench.load(model)
    if not loading.done():
        return None, False
    problem = loading.exception()
    return (None, True) if problem is None else (str(problem), False)


def _finder(column: Column) -> Callable[[], Evaluation | None]:
    return lambda: state.workbench().find(column.model, column.recipe)


def _evaluator(column: Column) -> Callable[[], Job]:
    return lambda: state.workbench().evaluate(column.model, column.recipe, priority=Priority.SOON)


def timing_for(column: Column, timing: Timing) -> Timing:
    """How a column is timed: as the view, at sizes that its model has."""
    return state.timing_of(
        column.model, runtime=timing.runtime, batch=timing.batch, threads=timing.threads, size=timing.size
    )


def _time(columns: Sequence[Column], timing: Timing) -> Job | None:
    """Time what was never timed, one after another."""
    bench = state.workbench()

    def ask(column: Column) -> tuple[Hashable, Callable[[], Any], Callable[[], Job]]:
        own = timing_for(column, timing)
        return (
            (column.model, column.recipe, own),
            lambda: bench.latency(column.model, column.recipe, own),
            lambda: bench.time(column.model, column.recipe, own),
        )

    return fetch(TIME, [ask(each) for each in columns if each.exact and each.latency is None])[1]


def untimed(column: Column, timing: Timing) -> str | None:
    """Why a column could not be timed."""
    return problem_of(TIME, (column.model, column.recipe, timing_for(column, timing)))


def fetch(
    name: str, asked: Sequence[tuple[Hashable, Callable[[], Any], Callable[[], Job]]]
) -> tuple[dict[Hashable, Any], Job | None]:
    """What is known of each key, and the job that works on the first that is not known.

    asked: (key, what gives the result where it is known, what starts the job). Within one short wait as many are
    finished as can be. A job that failed is not started again: `problem_of` says why.
    """
    found: dict[Hashable, Any] = {}
    running, until = None, time.monotonic() + state.EXACT_ANSWER_S
    for key, find, start in asked:
        result = find()
        if result is None and running is None and problem_of(name, key) is None:
            job = state.follow(name, key, start)
            # A job that was refused for want of room is asked for again with the next redraw.
            with TURNS.away():
                ended = job.wait(max(0.0, until - time.monotonic()))
            if not ended or job.was_refused:
                running = job
            elif job.error is not None:
                _problems()[name, key] = job.error
                state.stop(name)
            else:
                result = job.result
        found[key] = result
    if running is None:
        state.stop(name)
    return found, running


def _problems() -> dict[tuple[str, Hashable], str]:
    return st.session_state.setdefault("compare_problems", {})


def problem_of(name: str, key: Hashable) -> str | None:
    """Why a job failed."""
    return _problems().get((name, key))


def forget_problems() -> None:
    """Try again what failed."""
    _problems().clear()


def enter() -> None:
    """What failed on an earlier visit of the page is tried again; call first."""
    if st.session_state.get("controls_on") != "compare":
        forget_problems()
        st.session_state.compare_awaited = False


def start() -> tuple[Work, Known]:
    """Start what the view and the columns need, wait briefly, and say what is known."""
    work = state.start(fill=False)
    return work, known(work)


def pace(known: Known, work: Work) -> float | None:
    """Seconds between redraws; a tab may wait for a job of its own."""
    awaited = known.waiting or known.job is not None or st.session_state.get("compare_awaited")
    return REDRAW_S if awaited else work.pace


def wait_for(job: Job | None) -> None:
    """Redraw until the job of the open tab has ended; call at the end of what is redrawn."""
    st.session_state.compare_awaited = job is not None
    if job is not None and st.session_state.pace is None:
        st.rerun(scope="app")


def origin(column: Column) -> Provenance:
    """Where a configuration came from."""
    searched = []
    for name in ("suggest", "allot"):
        job = state.job(name)
        made = getattr(job.result, "recipe", None) if job is not None and job.ended else None
        searched += [made.digest] if made is not None else []
    tried = st.session_state.get("trails", {}).get(column.model, [])
    return provenance(column.model, column.recipe, tried=tried, searched=searched)


def progress(work: Work, known: Known) -> None:
    """What is being measured; columns that could not be, with a way to try again."""
    if known.job is not None:
        st.caption(f":material/hourglass_top: {plain.escape(state.told(known.job))}")
    elif known.waiting:
        st.caption(":material/hourglass_top: Opening the networks")
    failed = [column for column in known.columns if column.problem and column.problem not in work.failed]
    if not failed:
        return
    for column in failed:
        st.error(plain.escape(f"{column.tag}: {column.problem}"))
    st.button("Try again", key="compare_again", icon=":material/refresh:", on_click=forget_problems)
