"""The parts of the Recover page: what a training does and what it gave."""

from dataclasses import replace
from typing import Any

import streamlit as st
from paretoscope.base.units import format_bytes, format_p
from paretoscope.codec import shelf
from paretoscope.figures import recovery as figures
from paretoscope.figures.theme import Theme
from paretoscope.measure import wording
from paretoscope.measure.subject import Evaluation
from paretoscope.measure.wording import smaller
from paretoscope.recipe.recipe import Recipe
from paretoscope.service.jobs import Job, State
from paretoscope.service.scheduler import told_wait
from paretoscope.service.subjects import task_of
from paretoscope.training.epochs import Epoch, Recovery, best_of
from paretoscope.training.progress import duration
from paretoscope.training.worth import Worth, weigh

from pages.components import figure, naming, plain, state, training_settings
from pages.components.state import View
from pages.components.trainings import Known, Request, Training, mine, party, start


def title(view: View) -> None:
    """What the page is about, in one line."""
    recipe = plain.escape(view.recipe.untrained.describe())
    st.markdown(f"## Recover &nbsp; :small[:gray[**{naming.titled(view.model)}**, {recipe}]]")


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
        # To look at somebody else's training is not to want it: it may be left, and is not counted as this visitor's.
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
        place.page_link("pages/explore.py", label="See it in Explore", icon=":material/scatter_plot:")


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
        change = figures_.value - record.baseline.value
        told = wording.verdict(figures_.distinguishable, change)
        rows.append(
            {
                "": name,
                words.title: words.value(figures_.value, 2),
                "95 % interval": " to ".join(words.ends(figures_.low, figures_.high)),
                "Change": words.change(change, 2),
                "Against the baseline": f"{told}, {format_p(figures_.p_value)}",
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
    change = figures_.value - baseline.value
    return (
        f"{words.value(figures_.value)} ({words.change(change)}, {wording.verdict(figures_.distinguishable, change)})"
    )


def others(known: Known) -> None:
    """Trainings that run for other recipes, and those of this model that were interrupted."""
    for place, training in enumerate(known.others):
        words, button = st.columns([5, 1], vertical_alignment="center")
        done = training.epochs[-1].number if training.epochs else 0
        words.markdown(
            f":material/model_training: Also {_doing(training.job).lower()}: {naming.titled(training.model)}, "
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
            disabled=not mine(model, each.recipe),
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
    training_settings.put(recipe.recover, None)
    st.session_state.reload = True


def _resume(model: str, recipe: Recipe) -> None:
    _show(model, recipe)
    start(Request(model, recipe, None))


def _forget(model: str, recipe: Recipe) -> None:
    shelf.drop_checkpoint(state.workbench().subject(model).statistics.digest, recipe)
