"""The parts of the Recover page.

A training belongs to those who asked for it: it goes on when its page is left, and every session sees it. Once none of
them has been connected for the grace of the server's limits, it ends with its checkpoint, to be gone on with.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import streamlit as st
from paretoscope.base.errors import CompressionError
from paretoscope.base.recent import Recent
from paretoscope.base.units import format_bytes, format_p
from paretoscope.codec import shelf
from paretoscope.figures import recovery as figures
from paretoscope.figures.theme import Theme
from paretoscope.measure.subject import Evaluation
from paretoscope.measure.wording import smaller
from paretoscope.networks.zoo import models, teachers_of
from paretoscope.recipe.recipe import SETTINGS, Recipe, Recover
from paretoscope.recipe.schema import Setting
from paretoscope.service.jobs import Job, State
from paretoscope.service.limits import LimitError
from paretoscope.service.parties import Party, asking
from paretoscope.service.scheduler import told_wait
from paretoscope.service.study import StudyKind
from paretoscope.service.subjects import task_of
from paretoscope.training.interrupted import Interrupted, interrupted
from paretoscope.training.progress import cut, duration, seconds_left
from paretoscope.training.train import Epoch, Recovery, best_of
from paretoscope.training.worth import Worth, weigh

from pages.components import figure, plain, state, visitors, widgets
from pages.components.state import View

WIDGET = "training_"
SOURCES = {"labels": "labels", "teacher": "a teacher", "both": "both, mixed"}
PACES = {"gradual": "gradually", "one-shot": "from the start"}
DEFAULT = Recover(epochs=20, distill=0.5, ramp=0.5)
# What "both" and "gradually" mean until they are told otherwise.
MIX, RAMP = 0.5, 0.5
MOST_SHOWN = 3
# Settings that follow from several widgets, or from how a training ended.
APART = ("distill", "ramp", "stopped")
COLUMNS = 4
# Trainings of this process that their pages find again; more than a server's limits let run.
KEPT_TRAININGS = 256


@dataclass(frozen=True)
class Request:
    """A training that is asked for: recipe.recover is how, minutes the budget, None without."""

    model: str
    recipe: Recipe
    minutes: float | None

    @property
    def start(self) -> Recipe:
        return self.recipe.untrained


@dataclass(frozen=True, eq=False)
class Training:
    """A training of this process. minutes: its budget, or None. starter: the visitor who started it."""

    model: str
    recipe: Recipe
    job: Job
    minutes: float | None
    starter: str

    @property
    def epochs(self) -> tuple[Epoch, ...]:
        return self.job.partial or ()

    @property
    def seconds_left(self) -> float | None:
        left = seconds_left(self.epochs, self.recipe.recover.epochs)
        if left is None or self.minutes is None:
            return left
        return min(left, max(0.0, 60 * self.minutes - self.epochs[-1].seconds))

    @property
    def wanted(self) -> bool:
        """Whether this visitor asked for it."""
        return party() in self.job.parties

    @property
    def shared(self) -> bool:
        """Whether others asked for it."""
        return any(each != party() for each in self.job.parties)


def party() -> Party:
    """A visitor, for the trainings that it wants wherever it is."""
    return Party(visitors.name())


@st.cache_resource(show_spinner=False)
def trainings() -> Recent[tuple[str, Recipe], Training]:
    """The trainings that this process has started, the latest of each model and recipe: more than limits let run."""
    return Recent(KEPT_TRAININGS)


@dataclass(frozen=True)
class Known:
    """What is known of a request just now.

    training: that runs or has failed. left_by: why the latest ended that nobody has ended. there: whether the trained
    model is, also where its epochs are not known, as of those that ship. before, after: exact evaluations of the start
    and of the result. others: of this process, that run for other requests. left: trainings of this model that can go
    on, this one aside.
    """

    request: Request
    training: Training | None
    left_by: str | None
    recovery: Recovery | None
    there: bool
    resumable: bool
    before: Evaluation | None
    after: Evaluation | None
    problem: str | None
    others: tuple[Training, ...]
    left: tuple[Interrupted, ...]

    @property
    def running(self) -> bool:
        return self.training is not None and not self.training.job.ended

    @property
    def epochs(self) -> tuple[Epoch, ...]:
        """Of the training that runs, as far as it has got, or else of the one that has ended."""
        if self.running and self.training.epochs:
            return self.training.epochs
        return self.recovery.epochs if self.recovery is not None else ()

    @property
    def pace(self) -> float | None:
        """Seconds between redraws."""
        if self.running or self.others:
            return 1.0
        due = self.before is None or (self.there and self.after is None)
        return 0.5 if due and self.problem is None else None


def title(view: View) -> None:
    """What the page is about, in one line."""
    recipe = plain.escape(view.recipe.untrained.describe())
    st.markdown(f"## Recover &nbsp; :small[:gray[**{models.get(view.model).title}**, {recipe}]]")


def ask(view: View) -> Request:
    """The request that recipe and widgets make; the widgets allow what a recipe allows."""
    before, kept = st.session_state.get("training_of", (None, None)), st.session_state.setdefault("trainings", {})
    if before != (view.model, view.recipe):
        st.session_state.training_of = view.model, view.recipe
        step, minutes = _settings()
        if view.recipe.recover is not None:
            _put(_asked(view), None)
        elif before[0] != view.model and view.model in kept:
            _put(*kept[view.model])
        elif step.teacher and step.teacher not in teachers_of(view.model):
            _put(replace(step, teacher=""), minutes)  # of the model that was open before
    step, minutes = _settings()
    step, minutes = st.session_state.training = kept[view.model] = _changed(step, minutes)
    return Request(view.model, replace(view.recipe.untrained, recover=step), minutes)


def _asked(view: View) -> Recover:
    """What gave a trained recipe: one that was ended early was asked for all its epochs."""
    step = view.recipe.recover
    whole = replace(step, stopped=0)
    bench = state.workbench()
    try:
        found = bench.known(StudyKind.RECOVER, view.model, replace(view.recipe, recover=whole))
    except CompressionError:  # told by the page
        return step
    return whole if found is not None and found.recipe == view.recipe else step


def _settings() -> tuple[Recover, float | None]:
    return st.session_state.get("training", (DEFAULT, None))


def _put(step: Recover, minutes: float | None) -> None:
    """Change the settings from outside the widgets; only before them or in a callback."""
    st.session_state.training = step, minutes
    for key in [key for key in st.session_state if str(key).startswith(WIDGET)]:
        if key != "training_of":
            del st.session_state[key]


def _changed(step: Recover, minutes: float | None) -> tuple[Recover, float | None]:
    """The settings with what the widgets say.

    Where a training was ended belongs to a request only while all else stays as it was.
    """

    def held(name: str, otherwise: Any) -> Any:
        return st.session_state.get(WIDGET + name, otherwise)

    source, pace = held("source", _source(step)), held("pace", _pace(step))
    mix, ramp = held("mix", _mix(step)), held("ramp", _ramp(step))
    own = [each.name for each in SETTINGS.values() if each.step == "recover" and each.name not in APART]
    changed = replace(
        step,
        **{name: held(name, getattr(step, name)) for name in own},
        stopped=0,
        distill={"labels": 0.0, "teacher": 1.0, "both": mix}[source],
        ramp=ramp if pace == "gradual" else 0.0,
    )
    same = replace(changed, stopped=step.stopped) if step.stopped <= changed.epochs else changed
    return (step if same == step else changed), held("minutes", minutes)


def _source(step: Recover) -> str:
    return {0.0: "labels", 1.0: "teacher"}.get(step.distill, "both")


def _teacher(name: str) -> str:
    if not name:
        return "the baseline"
    return models.get(name).title if name in models else name


def _pace(step: Recover) -> str:
    return "gradual" if step.ramp else "one-shot"


def _mix(step: Recover) -> float:
    return step.distill if 0 < step.distill < 1 else MIX


def _ramp(step: Recover) -> float:
    return step.ramp or RAMP


def known(request: Request) -> Known:
    """Everything about a request; starts the evaluation of its start, where that is missing."""
    bench, running = state.workbench(), trainings()
    key = request.model, request.recipe
    training = running.get(key)
    left_by = None
    if training is not None and training.job.state in (State.DONE, State.CANCELLED):
        left_by = training.job.left_by
        training = None
    # A training that is about to end has put its model there already, and will tell its epochs too.
    ended = training is None or training.job.ended
    recovery = _recovery(request)
    recipe = request.recipe if recovery is None else recovery.recipe
    there = (recovery is not None or ended) and state.available(request.model, recipe)
    if not there:
        recovery = None  # its model was removed: to be trained again
    before, problem = _measured("start", request.model, request.start)
    after, failed = _measured("result", request.model, recipe) if there else (None, None)
    others = tuple(each for at, each in list(running.items()) if at != key and not each.job.ended)
    busy = {(each.model, each.recipe) for each in others} | {key}
    source = bench.subject(request.model).statistics.digest
    return Known(
        request=request,
        training=training,
        left_by=left_by,
        recovery=recovery,
        there=there,
        resumable=bench.resumable(*key),
        before=before,
        after=after,
        problem=problem or failed,
        others=others,
        left=tuple(each for each in interrupted(source) if (request.model, each.recipe) not in busy)[:MOST_SHOWN],
    )


def _recovery(request: Request) -> Recovery | None:
    bench = state.workbench()
    found = bench.known(StudyKind.RECOVER, request.model, request.recipe)
    if found is None and request.recipe.recover.stopped:
        whole = replace(request.recipe, recover=replace(request.recipe.recover, stopped=0))
        longer = bench.known(StudyKind.RECOVER, request.model, whole)
        found = None if longer is None else cut(longer, request.recipe)
    return found


def _measured(name: str, model: str, recipe: Recipe) -> tuple[Evaluation | None, str | None]:
    """The evaluation of a recipe, or why there is none. name: of the session's job that makes it."""
    bench, key = state.workbench(), (model, recipe)
    found = bench.find(*key)
    if found is not None:
        state.stop(name)
        return found, None
    job = state.follow(name, key, lambda: bench.evaluate(*key))
    state.keep()
    job.wait(state.EXACT_ANSWER_S)
    return job.result, job.error


def settings(known: Known) -> None:
    """How it is trained, and the button that starts it."""
    step, minutes = _settings()
    how, pace, epochs, budget, go = st.columns([1.3, 1.3, 0.9, 1, 1.1], vertical_alignment="bottom")
    with how:
        _choice(
            "Learn from",
            "source",
            tuple(SOURCES),
            _source(step),
            "The labels of the train split, the answers of a teacher (distillation: of the uncompressed baseline, or "
            "of another model, which the training settings name), or both.",
            SOURCES.get,
        )
    with pace:
        _choice(
            "The recipe holds",
            "pace",
            tuple(PACES),
            _pace(step),
            "Gradually: sparsity rises and bits fall over the first epochs, so that the network can follow. Weights "
            "are shared once it holds in full.",
            PACES.get,
        )
    with epochs:
        most = min(1000, int(min(state.workbench().limits.epochs, 1000)))
        widgets.draw(SETTINGS["epochs"], step.epochs, WIDGET + "epochs", most=most)
    with budget:
        _minutes(minutes)
    go.button(
        _verb(known),
        key="train",
        type="primary",
        icon=":material/model_training:",
        width="stretch",
        disabled=known.running or (known.recovery is not None and not known.resumable),
        on_click=_start,
        args=(known.request,),
    )
    with st.expander("Training settings", icon=":material/tune:"):
        details(known.request.model, step)


def _no_minutes() -> str:
    most = state.workbench().limits.minutes
    return "no limit" if most == math.inf else f"{most:g}, the most"


def _verb(known: Known) -> str:
    if known.running:
        return "Training"
    if known.resumable:
        return "Go on"
    if known.recovery is not None:
        return "Trained"
    return "Train again" if known.there else "Start"


def details(model: str, step: Recover) -> None:
    """The other settings of a training, those that mean something beside where and how fast it learns."""
    source, gradual = _source(step), _pace(step) == "gradual"
    idle = {"ramp": not gradual, "distill": source != "both", "temperature": source == "labels"}
    idle |= {"teacher": source == "labels", "epochs": True, "stopped": True}
    own = [each for each in SETTINGS.values() if each.step == "recover" and not idle.get(each.name, False)]
    rows = math.ceil(len(own) / COLUMNS)
    for place, column in enumerate(st.columns(COLUMNS)):
        with column:
            for setting in own[place * rows : (place + 1) * rows]:
                _setting(setting, model, step)


def _setting(setting: Setting, model: str, step: Recover) -> None:
    match setting.name:
        case "teacher":
            # A link may name one that this model cannot have; starting the training says so.
            names = tuple(dict.fromkeys(("", *teachers_of(model), step.teacher)))
            widgets.draw(setting, step.teacher, WIDGET + "teacher", options=names, word=_teacher)
        case "distill":
            widgets.draw(setting, _mix(step), WIDGET + "mix")
        case "ramp":
            widgets.draw(setting, _ramp(step), WIDGET + "ramp")
        case name:
            widgets.draw(setting, getattr(step, name), WIDGET + name)


def _choice(label: str, name: str, options: tuple[str, ...], value: str, help: str, words: Any = str) -> None:
    st.session_state.setdefault(WIDGET + name, value)
    st.selectbox(label, options, options.index(value), key=WIDGET + name, format_func=words, help=help)


def _minutes(held: float | None) -> None:
    held = None if held is None else min(held, widgets.LARGEST)
    st.session_state.setdefault(WIDGET + "minutes", held)
    # Only a field whose default is None can be left empty.
    st.number_input(
        "Minutes, at most",
        key=WIDGET + "minutes",
        help=f"Empty: {_no_minutes()}. When the time is up, the best epoch so far is kept, and it can be gone on with.",
        min_value=min(0.01, held or 0.01),
        step=1.0,
        format="%g",
        value=None,
        placeholder=_no_minutes(),
    )


def _start(request: Request) -> None:
    """Start a training or go on with it, or join the one that runs already."""
    st.session_state.training_refused = None
    try:
        with asking(party()):
            job = state.workbench().ask(StudyKind.RECOVER, request.model, request.recipe, request.minutes)
    except LimitError as error:
        st.session_state.training_refused = str(error)
    else:
        key, found = (request.model, request.recipe), trainings().get((request.model, request.recipe))
        if found is None or found.job is not job:
            trainings()[key] = Training(*key, job, request.minutes, visitors.name())
    st.session_state.reload = True


def verdict(known: Known) -> None:
    """The answer in one line, what a training does just now, and the buttons that go with it."""
    if known.problem:
        st.error(plain.escape(known.problem))
    if known.training is not None and known.training.job.error:
        st.error(plain.escape(known.training.job.error))
    if refused := st.session_state.get("training_refused"):
        st.error(f"Not started: {plain.escape(refused)}")
    if known.left_by:
        st.info(
            f"The training was ended, and can be gone on with: {plain.escape(known.left_by)}.", icon=":material/pause:"
        )
    with st.container(border=True, key="verdict"):
        if known.running:
            _progress(known)
        elif known.recovery is not None:
            _answer(known)
        elif known.there:
            _answer_alone(known)
        else:
            _prospect(known)


def _prospect(known: Known) -> None:
    if known.before is None:
        st.markdown("#### Not measured" if known.problem else "#### Measuring the recipe without training")
        return
    record = known.before.record
    lost = record.baseline.value - record.figures.value
    told = f"without training {_told(known.before)}, {format_bytes(record.size.artefact)}"
    if lost <= 0:
        st.markdown(f"#### Nothing to win back: {told}")
    else:
        st.markdown(f"#### Not trained yet: {told}")
    st.caption(
        ("An earlier training was interrupted and can go on from its last epoch. " if known.resumable else "")
        + "Weights are trained within what the recipe can represent. A part of the train split chooses the epoch that "
        "is kept; the test split is looked at once, afterwards."
    )


def _progress(known: Known) -> None:
    training, job = known.training, known.training.job
    words, pause, cancel = st.columns([5, 1, 1], vertical_alignment="center")
    total, epochs = known.request.recipe.recover.epochs, training.epochs
    done = epochs[-1].number if epochs else 0
    with words:
        st.markdown(f"#### {_doing(job)}: epoch {done} of {total}{_remaining(training)}")
        st.progress(done / total if total else 0.0, text=_best_so_far(epochs))
        if job.state is State.WAITING and not job.paused and (wait := told_wait(state.workbench().ahead(job))):
            st.caption(f"{plain.escape(wait)}.")
    if not training.wanted:
        # Of others: to look at is not to want, so that it may be left and does not count as this visitor's.
        cancel.button(
            "Want it too",
            key="want_training",
            width="stretch",
            disabled=job.cancelling,
            on_click=_join,
            args=(training,),
            help="Another visitor started it. It then goes on also when that one cancels it or leaves.",
        )
        return
    if job.paused:
        pause.button("Go on", key="go_on", icon=":material/play_arrow:", width="stretch", on_click=job.go_on)
    else:
        pause.button(
            "Pause",
            key="pause",
            icon=":material/pause:",
            width="stretch",
            disabled=job.cancelling or training.shared,
            on_click=job.pause,
            help="Another visitor wants it too." if training.shared else "Others may go on meanwhile.",
        )
    cancel.button(
        "Cancel",
        key="cancel_training",
        icon=":material/stop:",
        width="stretch",
        disabled=job.cancelling,
        on_click=_let_go,
        args=(training,),
        help="It goes on for the other visitor who wants it."
        if training.shared
        else "Keeps the best epoch so far; the training can go on from there later.",
    )


def _join(training: Training) -> None:
    if training.job.want(party()):
        training.job.go_on()
    st.session_state.reload = True


def _let_go(training: Training) -> None:
    training.job.let_go(party())
    st.session_state.reload = True


def _doing(job: Job) -> str:
    if job.cancelling:
        return "Ending, the best epoch so far is kept"
    if job.paused:
        return "Paused"
    return "Training" if job.state is State.RUNNING else "Waiting"


def _remaining(training: Training) -> str:
    left = training.seconds_left
    return "" if left is None or training.job.cancelling else f", about {duration(max(1.0, left))} left"


def _best_so_far(epochs: tuple[Epoch, ...]) -> str:
    best = best_of(epochs)
    if best is None:
        return "No epoch has ended yet."
    if best.number == 0:
        return "The start is the best so far of what follows the recipe in full."
    return f"Best so far: {state.words().value(best.validation_accuracy)} on the validation part, epoch {best.number}"


def _answer(known: Known) -> None:
    words, button = st.columns([5, 1.5], vertical_alignment="center")
    recovery, worth = known.recovery, _worth(known)
    step = recovery.recipe.recover
    with words:
        if worth is None:
            st.markdown(f"#### Trained {step.stopped or recovery.epochs[-1].number} epochs")
        else:
            colour = "green" if worth.points > 0 and worth.certain else "gray" if worth.points >= 0 else "orange"
            st.markdown(f"#### :{colour}[{plain.escape(worth.headline)}]")
        st.caption(_kept(recovery, worth))
    if recovery.best == 0:
        return  # nothing that the start is not
    _offer(button, recovery.recipe)


def _answer_alone(known: Known) -> None:
    """The answer where only the trained model is known, and not how it came about."""
    words, button = st.columns([5, 1.5], vertical_alignment="center")
    with words:
        if known.after is None:
            st.markdown("#### Not measured" if known.problem else "#### Measuring the trained model")
        else:
            size = format_bytes(known.after.record.size.artefact)
            st.markdown(f"#### Trained: {_told(known.after)}, {size}")
        st.caption("The trained model is here, but not how its epochs went: it was trained elsewhere, or that is gone.")
    _offer(button, known.request.recipe)


def _offer(place: Any, recipe: Recipe) -> None:
    """The button that loads a trained recipe, or the way to it."""
    if recipe != state.current_recipe():
        place.button(
            "Load the result",
            key="load_trained",
            type="primary",
            icon=":material/check:",
            width="stretch",
            on_click=_load,
            args=(recipe,),
            help="Explore, Layers, Latency and Export go on with it.",
        )
    else:
        place.page_link("pages/explore.py", label="Loaded: see it in Explore", icon=":material/scatter_plot:")


def _kept(recovery: Recovery, worth: Worth | None) -> str:
    step, last = recovery.recipe.recover, recovery.epochs[-1].number
    if not any(epoch.holds for epoch in recovery.epochs[1:]):
        kept = "It was ended during the ramp, before the recipe held in full, so that the start is kept."
    elif recovery.best == 0:
        kept = "No epoch was better than the start, on the validation part: the start is kept."
    else:
        kept = f"Epoch {recovery.best} of {last} was the best on the validation part and is kept."
    early = f" Ended after {last} of {step.epochs} epochs." if last < step.epochs else ""
    return " ".join(filter(None, [kept + early, worth.caveat if worth is not None else ""]))


def _worth(known: Known) -> Worth | None:
    if known.before is None or known.after is None:
        return None
    subject = state.workbench().subject(known.request.model)
    return weigh(subject.task, known.before, known.after, subject.labels, known.recovery)


def _load(recipe: Recipe) -> None:
    state.load_recipe(recipe)
    st.session_state.reload = True


def curves(known: Known, look: Theme) -> None:
    """Loss, the figure and size over the epochs."""
    best = None if known.running or known.recovery is None else known.recovery.best
    data = figures.gather(known.epochs, known.request.recipe.recover.epochs, state.words(), best)
    if not data.epochs:
        return
    for column, quantity in zip(st.columns(3), figures.QUANTITIES, strict=True):
        with column:
            figure.show(figures.draw(data, quantity, look), f"plot_{quantity}", alt=data.alt)
    st.caption(
        "Validation: the decoded compressed model on the part of the train split that is kept back. Training: batches "
        "as they were trained on, with the training's own loss. The ring is the epoch that is kept"
        f"{' so far' if known.running else ''}."
        + (" In the shaded epochs the recipe does not hold in full yet." if data.ramp else "")
    )


def result(known: Known) -> None:
    """The trained model, once it is there, beside its start and the baseline, on the test split."""
    if known.before is None:
        return
    before = known.before.record
    task = task_of(known.request.model)
    words = task.words
    low, high = task.interval(before.baseline, before.figures.n)
    rows = [
        {
            "": "Baseline",
            words.title: words.value(before.baseline.value, 2),
            "95 % interval": " to ".join(words.ends(low, high)),
            "Change": "–",
            "Against the baseline": "–",
            "Size": format_bytes(before.baseline.size_bytes),
            "Smaller": "–",
        }
    ]
    after = None if known.running or known.after is None else known.after.record
    for name, record in (("Without training", before), ("Trained", after)):
        if record is None:
            continue
        figures_ = record.figures
        rows.append(
            {
                "": name,
                words.title: words.value(figures_.value, 2),
                "95 % interval": " to ".join(words.ends(figures_.low, figures_.high)),
                "Change": words.change(figures_.value - record.baseline.value, 2),
                "Against the baseline": f"{'' if figures_.distinguishable else 'in'}distinguishable, "
                + format_p(figures_.p_value),
                "Size": format_bytes(record.size.artefact),
                "Smaller": smaller(record.ratio),
            }
        )
    st.dataframe(
        rows,
        key="recovered",
        hide_index=True,
        width="stretch",
        alt=f"Baseline, recipe without training and trained recipe: {words.name} on the test split and size",
        column_config={"Against the baseline": st.column_config.TextColumn(help=f"{words.test}.")},
    )


def _told(evaluation: Evaluation) -> str:
    figures_, baseline, words = evaluation.record.figures, evaluation.record.baseline, state.words()
    told = "distinguishable" if figures_.distinguishable else "indistinguishable"
    return f"{words.value(figures_.value)} ({words.change(figures_.value - baseline.value)}, {told} from the baseline)"


def others(known: Known) -> None:
    """Trainings that run for other recipes, and those of this model that were interrupted."""
    for place, training in enumerate(known.others):
        words, button = st.columns([5, 1], vertical_alignment="center")
        done = training.epochs[-1].number if training.epochs else 0
        words.markdown(
            f":material/model_training: Also {_doing(training.job).lower()}: {models.get(training.model).title}, "
            f"{plain.escape(training.recipe.describe())}, epoch {done}{_remaining(training)}"
        )
        button.button(
            "Show",
            key=f"show_{place}",
            width="stretch",
            on_click=_show,
            args=(training.model, training.recipe),
        )
    for place, each in enumerate(known.left):
        words, go, drop = st.columns([4, 1, 1], vertical_alignment="center")
        words.markdown(
            f":material/history: Interrupted after epoch {each.done} of {each.recipe.recover.epochs}: "
            f"{plain.escape(each.recipe.describe())}"
        )
        model = known.request.model
        go.button("Go on", key=f"resume_{place}", width="stretch", on_click=_resume, args=(model, each.recipe))
        drop.button(
            "Forget",
            key=f"forget_{place}",
            width="stretch",
            disabled=not _mine(model, each.recipe),
            on_click=_forget,
            args=(model, each.recipe),
            help="Only who started it may forget it; after a restart of the server everyone may.",
        )


def _show(model: str, recipe: Recipe) -> None:
    """Turn the page to a training."""
    view = state.view()
    timing = view.timing if model == view.model else replace(view.timing, size=None)
    state.load(replace(view, model=model, recipe=recipe.untrained, timing=timing))
    st.session_state.training_of = model, recipe.untrained
    _put(recipe.recover, None)
    st.session_state.reload = True


def _resume(model: str, recipe: Recipe) -> None:
    _show(model, recipe)
    _start(Request(model, recipe, None))


def _mine(model: str, recipe: Recipe) -> bool:
    found = trainings().get((model, recipe))
    return found is None or found.starter == visitors.name()


def _forget(model: str, recipe: Recipe) -> None:
    shelf.drop_checkpoint(state.workbench().subject(model).statistics.digest, recipe)
