"""What the pages share: the workbench of the process, and the view of a session with its link.

A view is a model, a recipe and how latency is measured. It lives in the session, not in widgets, because widgets forget
when their page is left; the link in the address bar carries it, and is read when it is not the one last written.

It is longer than other files: all pages have the view and the jobs of their session from this one name.
"""

import gc
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from dataclasses import dataclass, field, replace
from functools import wraps
from typing import Any

import streamlit as st
from paretoscope.base.errors import CompressionError
from paretoscope.measure.record import Latency, Record
from paretoscope.measure.subject import LARGEST_SIZE, Evaluation, Subject
from paretoscope.model.compressed import CompressedModel
from paretoscope.model.statistics import ModelStatistics
from paretoscope.networks.zoo import DEFAULT_MODEL, datasets
from paretoscope.recipe.link import TIMING
from paretoscope.recipe.recipe import Recipe
from paretoscope.service.jobs import Job, Priority, State
from paretoscope.service.limits import LimitError, Limits
from paretoscope.service.parties import Party, asking
from paretoscope.service.presets import best_known, movable
from paretoscope.service.scheduler import told_wait
from paretoscope.service.subjects import task_of
from paretoscope.service.timing import Timing
from paretoscope.service.workbench import Workbench
from paretoscope.tasks import Words
from streamlit.runtime.scriptrunner import get_script_run_ctx

from pages.components import naming, outline, plain, visitors
from pages.components.pace import Paces
from pages.components.turns import TURNS

# The page that trains what its sliders say, whatever it is worth before.
RECOVER = "recover"
CONTROLS = "control_"
BATCHES = (1, 8, 32, 128)
THREADS = (1, 2, 4)
SIZES = (1, 2, 3, 4)  # times the model's own
EXACT_ANSWER_S = 0.25
FIRST_ANSWER_S = 1.0
TURN_S = 2.0
STILL_S = 1.0
# Figures of the model before are dimmed at once, not after Streamlit's delay.
DIM = "<style>[data-testid='stMain'] [data-stale='true'] { opacity: 0.3; transition: none; }</style>"
# Between looks at a download.
LOOK_S = 0.2
# How long a browser may still send the link that a move has just replaced: on a busy server, or over a slow line.
LINK_DELAY_S = 30.0
# Recipes that a session remembers to have seen of a model.
TRAIL = 200


@dataclass(frozen=True)
class View:
    """What a link opens. recipe: left out, the one that the model opens on."""

    model: str = DEFAULT_MODEL
    recipe: Recipe = None
    timing: Timing = field(default_factory=Timing)

    def __post_init__(self) -> None:
        if self.recipe is None:
            object.__setattr__(self, "recipe", best_known(self.model).recipe)

    def to_query(self) -> dict[str, str]:
        defaults = Timing()
        timing = {
            name: str(getattr(self.timing, name))
            for name in TIMING
            if getattr(self.timing, name) != getattr(defaults, name)
        }
        return {"model": self.model, **self.recipe.to_query(), **timing}


def sizes(model: str) -> tuple[int, ...]:
    """Heights of input images that are offered: the model's own, and multiples of it; none for other inputs."""
    network = naming.find(model)
    if not naming.square(network):
        return ()
    own = network.input_shape[1]
    return tuple(factor * own for factor in SIZES if factor == 1 or factor * own <= LARGEST_SIZE)


def timing_of(model: str, **settings: Any) -> Timing:
    """A timing of a model; its own size, or one that is not offered for it, is no size at all."""
    size = settings.pop("size", None)
    return Timing(**settings, size=size if size in sizes(model)[1:] else None)


@st.cache_resource(show_spinner=False)
def workbench() -> Workbench:
    """The one workbench of this process."""
    # Jobs and pages are threads of one process: hand over between them more often than every 5 ms.
    sys.setswitchinterval(0.0005)
    return Workbench(limits=Limits.from_environment(), present=visitors.presence())


def subject(model: str) -> Subject:
    """A model, loaded when it is first asked for; raises CompressionError."""
    bench = workbench()
    return bench.subject(model) if bench.loaded(model) else _lasting(bench.subject(model))


def samples(model: str) -> int:
    """How many samples figures of a model are exact of."""
    return len(subject(model).judged)


def open_subject(model: str) -> Subject:
    """The subject for a page that shows nothing without it: tells that it loads, or why it cannot, and ends there."""
    bench = workbench()
    known, loading = bench.loaded(model), bench.load(model)
    place = st.empty()
    if st.session_state.get("opened_model") != model:
        # What is on the screen is of the model before.
        place.html(DIM)
    st.session_state.opened_model = model
    try:
        with st.spinner("Loading the model", show_time=True):
            _show_download(naming.find(model).data, loading)
            with TURNS.away():
                loading.exception()
            return loading.result() if known else _lasting(loading.result())
    except CompressionError as error:
        st.error(plain.escape(error))
        st.button("Try again", key="load_again", icon=":material/refresh:")
        st.stop()


def _lasting(new: Subject) -> Subject:
    # Streamlit collects garbage after every run. Modules and models never become garbage; walking over them each time
    # holds everything up for some 400 ms.
    gc.collect()
    gc.freeze()
    return new


def _show_download(dataset: str, loading: Future) -> None:
    """While a model loads: an outline of the page, and how far the download of its dataset is, where there is one."""
    entry, bar = datasets.get(dataset) if dataset in datasets else None, st.empty()
    if not loading.done():
        outline.draw(bar)
    while wait([loading], LOOK_S).not_done:
        if entry is not None and (download := entry.download()):
            megabytes = f"{download.done / 1e6:.1f} of {download.total / 1e6:.1f} MB"
            bar.progress(download.share, f"Downloading {entry.title} into {plain.escape(download.folder)}: {megabytes}")
    bar.empty()


def statistics(model: str) -> ModelStatistics:
    """Statistics of a model; raises CompressionError."""
    return subject(model).statistics


def view() -> View:
    """The session's view."""
    if "view" not in st.session_state:
        st.session_state.view = View()
    return st.session_state.view


def leave_removed() -> str | None:
    """Go to the model that the dashboard opens on, where the session's was removed; the name of that one."""
    model = view().model
    if naming.known(model):
        return None
    load(View())
    recipes().pop(model, None)
    return model


def current_model() -> str:
    return view().model


def words() -> Words:
    """What the screen calls the figures of the current model, and how it writes them."""
    return task_of(current_model()).words


def current_recipe() -> Recipe:
    return view().recipe


def new_link() -> dict[str, str] | None:
    """What the address bar holds, where this session did not write it."""
    query = st.query_params.to_dict()
    if not query or query == st.session_state.get("written_link") or _just_replaced(query):
        return None
    return query


def write_link(beside: dict[str, str]) -> None:
    """Put the view into the address bar, and what else the session keeps there; call after the widgets."""
    query = {**view().to_query(), **beside}
    if query != st.query_params.to_dict():
        st.query_params.from_dict(query)
    written, now = st.session_state.get("written_link"), time.monotonic()
    if written != query:
        recent = [
            (link, when) for link, when in st.session_state.get("replaced_links", []) if now - when < LINK_DELAY_S
        ]
        st.session_state.replaced_links = [*recent, (written, now)]
    st.session_state.written_link = query


def _just_replaced(query: dict[str, str]) -> bool:
    """Whether a link is one of this session's own that quick moves have overtaken on its way to the browser."""
    context = get_script_run_ctx()
    if context is not None and context.is_history_navigation:
        return False  # somebody went back to it
    now = time.monotonic()
    return any(link == query and now - when < LINK_DELAY_S for link, when in st.session_state.get("replaced_links", []))


def load(new: View) -> None:
    """Change the view from outside the widgets: a link, a preset, a point. Only before the widgets or in a callback."""
    _keep(new)
    for key in [key for key in st.session_state if str(key).startswith(CONTROLS)]:
        del st.session_state[key]


def load_recipe(recipe: Recipe) -> None:
    load(replace(view(), recipe=recipe))


def changeable() -> Recipe:
    """What a change of the view's recipe starts from: what is bearable without training, or what is to be trained."""
    now = view()
    training = st.session_state.get("controls_on") == RECOVER
    return now.recipe.untrained if training else movable(now.model, now.recipe)


def load_changed(new: View) -> None:
    """`load` for a change that began at `changeable`; where that is not what the recipe says, the page tells it."""
    before, began = view(), changeable()
    load(new)
    if began != before.recipe.untrained:
        st.session_state.left_training = before, new, began


def change(new: View) -> None:
    """Take over what the widgets say; unfinished work for the view before is abandoned."""
    if new != view():
        _keep(new)


def _keep(new: View) -> None:
    st.session_state.view = new
    recipes()[new.model] = new.recipe


def recipes() -> dict[str, Recipe]:
    """The last recipe that this session had for each model that it has seen."""
    return st.session_state.setdefault("recipes", {})


def recipe_of(model: str) -> Recipe:
    """What a change to another model opens: what this session last had for it, or what it opens on."""
    return recipes().get(model) or best_known(model).recipe


def trail() -> list[str]:
    """Digests of the recipes that this session has seen of the current model, oldest first; the last TRAIL of them."""
    digests = st.session_state.setdefault("trails", {}).setdefault(current_model(), [])
    digest = current_recipe().digest
    if digest in digests:
        digests.remove(digest)
    digests.append(digest)
    del digests[:-TRAIL]
    return digests


def follow(name: str, key: object, start) -> Job:
    """The session's job called `name` for `key`; it lets go of the one that it had for another key.

    A job that this server's limits refuse is one that has failed.
    """
    jobs: dict[str, tuple[object, Job]] = st.session_state.setdefault("jobs", {})
    old = jobs.get(name)
    if old is not None and old[0] == key and not (old[1].cancelling or old[1].was_refused):
        return old[1]
    if old is not None and old[0] != key:
        old[1].let_go(_party(name))
    try:
        with asking(_party(name)):
            jobs[name] = (key, start())
    except LimitError as error:
        jobs[name] = (key, Job.refused(name, str(error)))
    return jobs[name][1]


def _party(name: str) -> Party:
    """The session's want of the job that it calls `name`: another tab, or another name, may want the same."""
    return Party(visitors.name(), visitors.session(), name)


def keep() -> None:
    """Say that this session still waits for its jobs."""
    for name, (_, job) in st.session_state.get("jobs", {}).items():
        job.keep(_party(name))


def job(name: str, key: object = None) -> Job | None:
    """The session's job of that name, if it has one; with a key, only if that is what it works for."""
    found = st.session_state.get("jobs", {}).get(name)
    return found[1] if found and key in (None, found[0]) else None


def told(job: Job) -> str:
    """What a job does and how long it takes yet."""
    if job.state is State.WAITING and (wait := told_wait(workbench().ahead(job))):
        return f"{job.label}: {wait}"
    if job.awaited:
        return f"{job.label}: waits for {job.awaited}"
    left = job.seconds_left
    # The first moments say nothing about the rest.
    if left is None or left < 1 or job.progress < 0.02:
        return job.label
    return f"{job.label}, about {f'{left:.0f} s' if left < 100 else f'{left / 60:.0f} min'} left"


def available(model: str, recipe: Recipe) -> bool:
    """Whether a recipe gives a model here: one with training must have been trained on this machine."""
    if recipe.recover is None:
        return True
    try:
        compressed(model, recipe.to_json())
    except CompressionError:
        return False
    return True


@st.cache_resource(max_entries=32, show_spinner=False)
def compressed(model: str, recipe: str) -> CompressedModel:
    """A model compressed by a recipe (its JSON), for pictures of its weights; raises CompressionError."""
    return subject(model).compress(Recipe.from_json(recipe))


# Jobs whose progress the Explore page shows, the most urgent first.
_WATCHED = ("evaluate", "time", "cliff sparsity", "cliff clusters", "cliff bits", "allot", "fill")


@dataclass(frozen=True)
class Work:
    """What is known of the view just now.

    evaluation: of the current recipe, exact or a running estimate, or None.
    job: the first unfinished job of the session. failed: messages of jobs that failed. due: work that will start soon.
    again: seconds until a timing whose interval was too wide is taken again, or None.
    """

    view: View
    evaluation: Evaluation | None
    exact: bool
    latency: Latency | None
    job: Job | None
    failed: tuple[str, ...]
    due: bool
    again: float | None = None

    @property
    def records(self) -> list[Record]:
        """Every exact record of the model, with its latency; it takes the longer the more there are."""
        return workbench().records(self.view.model, self.view.timing)

    @property
    def pace(self) -> float | None:
        """Seconds between redraws: short while the current recipe is measured, longer while the plots fill in."""
        if self.job is not None and (not self.exact or self.latency is None):
            return 0.5
        return 2.0 if self.due or self.job is not None or self.again is not None else None


def begin() -> None:
    """Start the evaluation of the view, where its model is loaded, so that it runs while the page is drawn."""
    now, bench = view(), workbench()
    if bench.loaded(now.model) and bench.find(now.model, now.recipe) is None:
        follow("evaluate", (now.model, now.recipe), lambda: bench.evaluate(now.model, now.recipe))


def start(fill: bool = True) -> Work:
    """Start what the view needs, wait briefly for its evaluation, and say what is known.

    Fast models are exact within that wait, so that most moves of a slider draw once; others show their first estimate.
    The plots are filled in only when the view has stood still for a while: that work must not take the cores from a
    hand that is still moving; `fill` says whether this page shows them.
    """
    now, bench = view(), workbench()
    if st.session_state.get("moved", (None, 0.0))[0] != now:
        st.session_state.moved = now, time.monotonic()
        stop("fill")
        for name in [name for name, (_, job) in st.session_state.get("jobs", {}).items() if job.error]:
            stop(name)
    still = time.monotonic() - st.session_state.moved[1] > STILL_S
    key = now.model, now.recipe
    refused = False
    begun = job("evaluate", key)
    if (begun is not None and not begun.ended) or bench.find(*key) is None:
        evaluating = follow("evaluate", key, lambda: bench.evaluate(*key))
        await_answer(evaluating)
        refused = evaluating.error is not None
    else:
        stop("evaluate")
    if refused:
        return work()
    if bench.due(now.model, now.recipe, now.timing):
        running = job("time", now)
        if running is not None and running.state is State.DONE:
            stop("time")
        follow("time", now, lambda: bench.time(now.model, now.recipe, now.timing))
    else:
        stop("time")
    due = fill and st.session_state.get("unfilled") != now and bench.missing(now.model, now.recipe, now.timing)
    if due and still:
        follow("fill", now, lambda: bench.fill(now.model, now.recipe, now.timing))
    return work(due)


def await_answer(evaluating: Job) -> None:
    """Wait for the end of a quick evaluation, or the first estimate of a long one, while others draw."""
    with TURNS.away():
        if evaluating.wait(EXACT_ANSWER_S):
            return
        evaluating.wait_for_report(FIRST_ANSWER_S)
        if evaluating.state is State.WAITING:
            # While others have their turn, drawing this page without an answer would take the time that they need.
            evaluating.wait_for_report(TURN_S)
        if (evaluating.seconds_left or 0.0) < EXACT_ANSWER_S:
            # A quick one that had to wait for its turn: its estimate comes just before its end, and is not worth a draw
            # of its own, after which the figure would wait for the next one.
            evaluating.wait(EXACT_ANSWER_S)


def work(due: bool = False) -> Work:
    """The state of the view's work; `due` says that some of it has yet to start."""
    now, bench = view(), workbench()
    jobs = {name: job for name, (_, job) in st.session_state.get("jobs", {}).items()}
    keep()
    evaluation = bench.find(now.model, now.recipe)
    exact = evaluation is not None
    latency = bench.latency(now.model, now.recipe, now.timing)
    if not exact and "evaluate" in jobs:
        evaluation = jobs["evaluate"].partial
    return Work(
        view=now,
        evaluation=evaluation,
        exact=exact,
        latency=latency,
        job=next((jobs[name] for name in _WATCHED if name in jobs and not jobs[name].ended), None),
        failed=tuple(dict.fromkeys(job.error for job in jobs.values() if job.error)),
        due=due,
        again=bench.seconds_until_again(now.model, now.recipe, now.timing) if latency is not None else None,
    )


def repeat(draw: Callable[[], None], pace: float | None, name: str = "pace") -> None:
    """Draw a part of the page now, and by itself every so many seconds, None for never, until it is `outdated`.

    Where much repeats itself on this server, it does so less often.
    """
    st.session_state[name] = pace
    st.session_state[f"{name} whole"] = True

    @wraps(draw)
    def measured() -> None:
        with TURNS.turn(visitors.session()):
            began = time.thread_time()
            try:
                draw()
            finally:
                paces().drew(visitors.session(), name, pace, time.thread_time() - began)

    st.fragment(measured, run_every=paces().stretched(pace))()


@st.cache_resource(show_spinner=False)
def paces() -> Paces:
    """What repeats itself in this process."""
    return Paces()


def outdated(pace: float | None, name: str = "pace") -> bool:
    """Asked while such a part is drawn: whether only a whole run of the page can go on, its pace or its view being new.

    A whole run has just set both. Where its pace has changed since, the next repetition asks again: of two whole runs
    at once Streamlit drops what it has not sent of the first, so that the sliders would keep their old values.
    """
    whole, reload = st.session_state.pop(f"{name} whole", False), st.session_state.pop("reload", False)
    if whole:
        return st.session_state[name] is None and pace is not None
    return reload or pace != st.session_state[name]


def stop(name: str) -> None:
    """Abandon the session's job of that name."""
    job = st.session_state.get("jobs", {}).pop(name, None)
    if job is not None:
        job[1].let_go(_party(name))


def fill_now() -> None:
    """Fill in the plots at once, also where that was stopped before."""
    st.session_state.pop("unfilled", None)
    now, bench = view(), workbench()
    stop("fill")
    follow("fill", now, lambda: bench.fill(now.model, now.recipe, now.timing, Priority.ASKED))


def stop_filling() -> None:
    """Abandon the background work for this view, for good."""
    st.session_state.unfilled = view()
    stop("fill")


def with_latency(record: Record, latency: Latency | None) -> Record:
    """The record with its latency, for records that are not stored yet."""
    return replace(record, latency=latency)
