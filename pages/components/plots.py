"""The figures of the Explore page."""

import streamlit as st
from paretoscope.figures import confusion as confusion_figure
from paretoscope.figures import explorer
from paretoscope.figures import ladder as ladder_figure
from paretoscope.figures import sweeps as sweeps_figure
from paretoscope.figures.explorer import Marks, Scene
from paretoscope.figures.theme import Theme
from paretoscope.measure.record import Record
from paretoscope.recipe.recipe import Recipe
from paretoscope.search.cliff import Cliff
from paretoscope.service.presets import movable
from paretoscope.service.study import StudyKind

from pages.components import explorer as shown
from pages.components import figure, kept, naming, plain, state, widgets
from pages.components.state import Work


def load(digest: str) -> None:
    """Load the recipe of the point that was chosen."""
    board = state.workbench().board(state.current_model())
    place = board.place(digest)
    recipe = Recipe() if digest == Recipe().digest else None if place is None else board.record(place).recipe
    if recipe is not None:
        state.load_recipe(recipe)
        st.session_state.reload = True


def scene(work: Work) -> Scene:
    """What the two plots show, as far as the browser does not have it yet, and the answer to the question."""
    bench, view = state.workbench(), work.view
    subject, timing = bench.subject(view.model), view.timing
    of = f"{view.model} {timing}"
    board = bench.board(view.model)
    estimate = None
    if work.evaluation is not None and not work.exact:
        estimate = state.with_latency(work.evaluation.record, work.latency)
    return explorer.gather(
        board,
        bench.timed(board, view.model, timing),
        bench.reference_ms(view.model, timing),
        of=of,
        setting=timing.told,
        baseline=subject.baseline,
        samples=len(subject.judged),
        marks=Marks(
            current=view.recipe.digest,
            estimate=estimate,
            pins=kept.letters(view.model),
            names=naming.recipes(view.model),
            trail=state.trail(),
            predicted=bench.anchors(view.model, timing),
        ),
        budget=kept.budget(),
        since=shown.since(explorer.board_name(of, board)),
    )


def answered(work: Work, scene: Scene) -> Record | None:
    """The record that answers the question, or comes nearest, with its time."""
    if scene.answer.place is None:
        return None
    bench, view = state.workbench(), work.view
    record = bench.board(view.model).record(scene.answer.place)
    return state.with_latency(record, bench.latency(view.model, record.recipe, view.timing))


def progress(work: Work) -> None:
    """What is being measured, how long it takes yet, and a way to stop it."""
    if work.job is None:
        return
    bar, button = st.columns([5, 1], vertical_alignment="center")
    bar.progress(work.job.progress, text=plain.escape(state.told(work.job)))
    button.button(
        "Cancel", key="cancel", width="stretch", on_click=state.stop_filling, help="Stop filling in the plots."
    )


def ladder(work: Work, look: Theme) -> None:
    """How the file's length came about."""
    if work.evaluation is None:
        st.caption("Not measured." if work.failed else "Measuring.")
        return
    data = ladder_figure.gather(work.evaluation.record.size, work.evaluation.record.baseline.size_bytes)
    figure.show(ladder_figure.draw(data, look), "plot_ladder", alt=data.alt)
    st.caption(
        "Bytes of the whole model under each form, biases, normalisation, scales and codebooks included. The last bar "
        "is the file that Export writes."
    )


def sweeps(work: Work, look: Theme) -> None:
    """The figure when one slider moves and the others stay."""
    subject = state.workbench().subject(work.view.model)
    moved = movable(work.view.model, work.view.recipe)
    if work.view.recipe.recover is not None:
        st.caption(
            "The recipe without its training: that holds for one recipe alone."
            if moved == work.view.recipe.untrained
            else f"The recipe does not hold without its training. Swept instead: {plain.escape(moved.describe())}."
        )
    swept = sweeps_figure.gather(work.records, moved, subject.baseline, subject.task.words)
    for column, (name, data) in zip(st.columns(len(swept)), swept.items(), strict=True):
        with column:
            cliff = state.workbench().known(StudyKind.CLIFF, work.view.model, moved, name)
            ends = (cliff.last, cliff.first) if cliff else None
            figure.show(sweeps_figure.draw(data, look, cliff=ends), f"plot_sweep_{name}", alt=data.alt, on_click=load)
            _cliff(work, moved, name, cliff)


def _cliff(work: Work, recipe: Recipe, name: str, cliff: Cliff | None) -> None:
    """How far this slider can go, or the button that finds out."""
    model = work.view.model
    job = state.job(f"cliff {name}", (model, recipe))
    if cliff is not None and cliff.last is None:
        st.caption("Even the mildest value is told from the baseline.")
    elif cliff is not None and cliff.first is None:
        st.caption("No value is told from the baseline.")
    elif cliff is not None:
        st.caption(
            f"Cliff: up to {_value(name, cliff.last)} the model cannot be told from the baseline, from "
            f"{_value(name, cliff.first)} on it can ({len(cliff.steps)} evaluations)."
        )
    elif job is not None and not job.ended:
        st.caption(f"{plain.escape(job.label)}, {100 * job.progress:.0f} %")
    else:
        st.button(
            "Find the cliff",
            key=f"cliff_{name}",
            icon=":material/landslide:",
            help="The last value at which the model cannot be told from the baseline, by bisection.",
            on_click=lambda: state.follow(
                f"cliff {name}", (model, recipe), lambda: state.workbench().ask(StudyKind.CLIFF, model, recipe, name)
            ),
        )


def _value(name: str, value: float) -> str:
    return f"{100 * value:.4g} %" if name == "sparsity" else f"{value:g} {name}"


def confusion(work: Work, look: Theme) -> None:
    """Which classes are taken for which, and what compression changed about that."""
    if work.evaluation is None or not work.exact:
        st.caption("Not measured." if work.failed else "Measuring.")
        return
    subject = state.workbench().subject(work.view.model)
    data = confusion_figure.gather(
        subject.labels,
        work.evaluation.predictions.classes,
        subject.predictions.classes,
        words=subject.task.words.errors,
        classes=subject.task.classes,
    )
    titles = {"model": "This recipe", "baseline": "Baseline", "change": "Change"}
    shown = widgets.one_of("Shown", titles, "confusion_view")
    matrix, recall = st.columns(2)
    with matrix:
        figure.show(confusion_figure.draw(data, look, view=shown), "plot_confusion", alt=data.alt)
    with recall:
        figure.show(confusion_figure.draw_recall(data, look), "plot_recall", alt=data.alt)
    if data.note:
        st.caption(data.note)
