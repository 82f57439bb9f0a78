"""The parts of the Latency page."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import streamlit as st
from paretoscope.base.units import format_bytes, format_ms
from paretoscope.measure.latency import Noise
from paretoscope.measure.paired import paired_ms
from paretoscope.measure.record import Latency
from paretoscope.measure.roofline import LayerWork
from paretoscope.measure.wording import UNDECIDED, speed
from paretoscope.recipe.recipe import Recipe
from paretoscope.runtimes.plans import sparse_layers
from paretoscope.search.verdict import Alternative, Verdict, judge
from paretoscope.service.jobs import Job, Priority, State
from paretoscope.service.shipped import Elsewhere
from paretoscope.service.study import StudyKind
from paretoscope.service.timing import Timing, alternatives, study_parts, study_timings

from pages.components import background, controls, failures, naming, plain, state
from pages.components import kpis as explore_kpis
from pages.components.state import View, Work

ICONS = {"faster": ":material/bolt:", "same": ":material/equal:", "slower": ":material/hourglass_bottom:"}
COLOURS = {"faster": "green", "same": "gray", "slower": "orange"}
WIDGET = "latency_"


@dataclass(frozen=True)
class Known:
    """What is known of the recipe's latency just now. groups: the timings that each figure shows. job: the study of
    this view, while it runs. due: whether it will begin when the view has stood still. whole: whether all of it is
    known. verdict: None until the recipe was timed.
    """

    work: Work
    groups: dict[str, list[Timing]]
    noise: Noise | None
    memory: tuple[int | None, int | None]
    job: Job | None
    due: bool
    whole: bool
    verdict: Verdict | None

    @property
    def view(self) -> View:
        return self.work.view

    @property
    def latency(self) -> Latency | None:
        return self.work.latency

    @property
    def pace(self) -> float | None:
        """Seconds between redraws."""
        return self.work.pace or (1.0 if self.job is not None or self.due else None)

    @property
    def told(self) -> str:
        """Why something is not measured yet."""
        return "being measured" if self.job is not None else "about to be measured" if self.due else "not measured yet"


def known(work: Work) -> Known:
    """Everything that has been measured for the view, and a study of what is missing, which begins by itself; one of
    another view is not wanted any more.
    """
    bench, view = state.workbench(), work.view
    if state.job("study", view) is None:
        state.stop("study")
    # What the page opens with comes first.
    ready = work.exact and work.latency is not None
    arguments = view.model, view.recipe, view.timing
    job = state.job("study", view)
    whole = (job is not None and job.state is State.DONE) or (ready and job is None and not _missing(view))
    if not whole and ready:
        job = background.follow("study", view, StudyKind.LATENCY, *arguments)
    due = not whole and job is None and not work.failed and background.due("study", view)
    groups = study_timings(view.recipe, view.timing)
    noise = bench.known(StudyKind.NOISE, view.model, view.timing)
    memory = tuple(bench.known(StudyKind.MEMORY, view.model, recipe, view.timing) for recipe in (view.recipe, Recipe()))
    verdict = None if work.latency is None else _judge(work, groups["runtimes"], noise)
    running = job if job is not None and not job.ended else None
    return Known(work, groups, noise, memory, running, due, whole, verdict)


def _missing(view: View) -> bool:
    """Whether something that the page shows was not measured here, and nothing says that it cannot be."""
    bench = state.workbench()
    return any(
        bench.known(part.what, *part.arguments(view.model)) is None
        and bench.problem(view.model, part.recipe, part.timing, part.what) is None
        for part in study_parts(view.recipe, view.timing)
        if part.what is not StudyKind.PROFILE or part.timing.chosen.profile is not None
    )


def elsewhere(view: View, kind: StudyKind, recipe: Recipe, timing: Timing) -> Elsewhere | None:
    """What ships of a study that this machine has not done: measured on another one."""
    return state.workbench().elsewhere(view.model, kind, view.model, recipe, timing)


def _judge(work: Work, timings: list[Timing], noise: Noise | None) -> Verdict:
    bench, view = state.workbench(), work.view
    timed = (bench.latency(view.model, view.recipe, timing) for timing in timings)
    record = work.evaluation.record if work.evaluation is not None else None
    return judge(
        view.recipe,
        work.latency,
        state.words(),
        record=record,
        noise=noise,
        others=[latency for latency in timed if latency is not None],
        alternatives=list(_alternatives(view)),
        skipping=_skipping(view),
    )


def _skipping(view: View) -> tuple[int, int] | None:
    """In how many of how many layers zeros are skipped, where that is known."""
    plan = state.workbench().known(StudyKind.PLAN, view.model, view.recipe, view.timing)
    return None if plan is None else sparse_layers(plan)


def work_of(view: View, recipe: Recipe) -> list[LayerWork]:
    """What the layers do in the chosen runtime, sparse ones with the weights that they multiply alone.

    Raises CompressionError.
    """
    bench = state.workbench()
    plan = {
        layer.weight: layer
        for layer in bench.known(StudyKind.PLAN, view.model, recipe, view.timing) or ()
        if layer.is_sparse
    }
    return [
        layer.sparse(plan[layer.name].multiplied / layer.weights) if layer.name in plan else layer
        for layer in bench.work(view.model, recipe, view.timing)
    ]


def _alternatives(view: View) -> Iterator[Alternative]:
    bench = state.workbench()
    for name, recipe in alternatives(view.recipe, view.timing).items():
        latency = bench.latency(view.model, recipe, view.timing)
        if latency is not None:
            evaluation = bench.find(view.model, recipe)
            yield Alternative(name, recipe, latency, evaluation.record if evaluation is not None else None)


def title(view: View) -> None:
    """What the page is about, in one line."""
    recipe = plain.escape(view.recipe.describe())
    st.markdown(f"## Latency &nbsp; :small[:gray[**{naming.titled(view.model)}**, {recipe}]]")


def verdict(known: Known) -> None:
    """The verdict, and the button that takes its advice."""
    failures.render(known.work)
    with st.container(border=True, key="verdict"):
        said = known.verdict
        if said is None:
            st.markdown("#### Not timed" if known.work.failed else "#### Timing the recipe against the baseline")
            if other := elsewhere(known.view, StudyKind.TIME, known.view.recipe, known.view.timing):
                st.caption(f"{speed(other.found)} on another machine: {plain.escape(other.origin.told)}.")
            return
        words, button = st.columns([5, 1.5], vertical_alignment="center")
        # A line must not end before the sign of a unit.
        reason, advice = (
            plain.escape(text.replace(" %", "\u00a0%").replace(" ms", "\u00a0ms"))
            for text in (f"{said.reason}.", said.advice)
        )
        told = f"{reason}\n{advice}".strip()
        words.markdown(f"#### {ICONS[said.tone]} :{COLOURS[said.tone]}[{plain.escape(said.headline)}]: {told}")
        if said.caveat:
            words.caption(plain.escape(said.caveat))
        if said.button:
            button.button(
                said.button, key="take_advice", type="primary", width="stretch", on_click=_take, args=(said,), wrap=True
            )


def _take(said: Verdict) -> None:
    view = state.view()
    if said.recipe is not None:
        state.load_recipe(said.recipe)
    else:
        state.load(replace(view, timing=replace(view.timing, runtime=said.runtime)))
    st.session_state.reload = True


def kpis(known: Known) -> None:
    """Median and ratio, tail, throughput, memory, and how far the machine is to be trusted."""
    latency, noise = known.latency, known.noise
    # As many side by side as have room for their values.
    with st.grid(min_column_width=180, gap="small"):
        columns = [st.container() for _ in range(5)]
    metric = {"border": True, "height": "stretch", "delta_color": "off", "delta_arrow": "off"}
    if latency is None:
        for column, label in zip(columns, ("Latency", "p95", "Throughput", "Peak memory", "Noise"), strict=True):
            column.metric(label, "–" if known.work.failed else "…", **metric)
        return
    reused = latency.measured_for != known.view.recipe.digest
    reference = state.workbench().reference_ms(known.view.model, known.view.timing)
    columns[0].metric(
        f"Latency, {latency.number_format}",
        format_ms(paired_ms(latency, reference)) if latency.decided else UNDECIDED,
        str(speed(latency)) if latency.decided else speed(latency).interval,
        help=("" if latency.decided else f"{explore_kpis.undecided(known.work)} ")
        + explore_kpis.told(latency)
        + (" Measured for another recipe of the same graph and number format." if reused else ""),
        **metric,
    )
    columns[1].metric(
        "p95",
        format_ms(latency.p95_ms),
        f"p99 {format_ms(latency.p99_ms)}",
        help=f"95 % of the calls took at most this, 99 % at most {format_ms(latency.p99_ms)}. Baseline: "
        f"{format_ms(latency.baseline_p95_ms)} and {format_ms(latency.baseline_p99_ms)}. "
        f"{latency.outliers} outliers, all counted.",
        **metric,
    )
    columns[2].metric(
        "Throughput",
        f"{_thousands(latency.throughput)}/s",
        f"baseline {_thousands(latency.baseline_throughput)}/s",
        help=f"Samples a second at batch {latency.batch}.",
        **metric,
    )
    own, baseline, told = _memory(known)
    columns[3].metric(
        "Peak memory",
        "–" if own is None else format_bytes(own),
        known.told if baseline is None else f"baseline {format_bytes(baseline)}",
        help="Of a fresh process that loads the model and runs it, beyond what the process took before." + told,
        **metric,
    )
    if noise is None:
        columns[4].metric("Noise", "–", known.told, help=NOISE_HELP, **metric)
    else:
        columns[4].metric(
            f"Noise, {'contains' if noise.contains_one else 'misses'} 1",
            f"{noise.speedup:.3f}",
            f"[{noise.low:.3f}, {noise.high:.3f}]",
            help=NOISE_HELP,
            **metric,
        )


def _memory(known: Known) -> tuple[int | None, int | None, str]:
    """Bytes of the recipe and of the baseline, and what is to be said of them where another machine took them."""
    own, baseline = known.memory
    if own is not None and baseline is not None:
        return own, baseline, ""
    view = known.view
    others = [elsewhere(view, StudyKind.MEMORY, recipe, view.timing) for recipe in (view.recipe, Recipe())]
    if not all(others):
        return own, baseline, ""
    told = f" Measured on another machine: {others[0].origin.told}; that of this one follows."
    return others[0].found, others[1].found, told


NOISE_HELP = (
    "The baseline timed against itself: its interval must contain 1. A recipe is called faster or slower only where "
    "its own interval, widened by this one, does not."
)


def _thousands(rate: float) -> str:
    """Three significant digits: 870, 17.2 k, 1.05 M."""
    for factor, unit in ((1e6, " M"), (1e3, " k")):
        if rate >= 0.9995 * factor:
            return f"{rate / factor:.3g}{unit}"
    return f"{rate:.3g}"


def settings(known: Known) -> None:
    """How latency is measured; the same settings as in the sidebar, and the button that measures all figures."""
    choices = controls.timing_choices(known.view)
    *columns, last = st.columns([1.3, 1, 1, *[1.2] * (len(choices) - 3), 1.2], vertical_alignment="bottom")
    for column, (name, (label, options, value, help, words)) in zip(columns, choices.items(), strict=True):
        st.session_state[WIDGET + name] = value
        column.selectbox(
            label, options, key=WIDGET + name, format_func=words, help=help, on_change=_change, args=(name,)
        )
    view = known.view
    # What the machine was too busy for can be taken again.
    done = known.whole and known.latency is not None and known.latency.decided
    last.button(
        "All measured" if done else "Measure now",
        key="study",
        type="secondary",
        icon=":material/check:" if done else ":material/timer:",
        width="stretch",
        disabled=done or (known.job is not None and known.job.priority <= Priority.ASKED),
        on_click=background.begin,
        args=("study", view, StudyKind.LATENCY, view.model, view.recipe, view.timing),
        help="Times the recipe in all runtimes, over batches and threads, what else might be faster, the baseline "
        "against itself, and profiles the layers. It begins by itself, behind other work, and goes on in front of it "
        "from here. What is known already is kept.",
    )
    if why := background.problem("study", view):
        st.caption(f"Not all could be measured: {plain.escape(why)}")


def _change(name: str) -> None:
    view = state.view()
    chosen = {each: getattr(view.timing, each) for each in state.TIMING} | {name: st.session_state[WIDGET + name]}
    state.load(replace(view, timing=state.timing_of(view.model, **chosen)))
    st.session_state.reload = True


def progress(known: Known) -> None:
    """What the study does just now, and a way to stop it."""
    if known.job is None:
        return
    bar, button = st.columns([5, 1], vertical_alignment="center")
    bar.progress(known.job.progress, text=plain.escape(known.job.partial or state.told(known.job)))
    button.button("Stop", key="cancel_latency", width="stretch", on_click=background.stop, args=("study", known.view))
