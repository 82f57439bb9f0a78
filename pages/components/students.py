"""Progressive shrinking on the Recover page: smaller and smaller students, to the first that misses a requirement."""

from dataclasses import dataclass
from typing import Any

import streamlit as st
from paretoscope.base.recent import Recent
from paretoscope.figures import explorer
from paretoscope.figures.explorer import Marks
from paretoscope.measure.board import Board, Timed
from paretoscope.recipe.recipe import Recipe
from paretoscope.search.budget import Budget
from paretoscope.service.jobs import Job, State
from paretoscope.service.limits import LimitError
from paretoscope.service.parties import asking
from paretoscope.service.scheduler import told_wait
from paretoscope.service.study import StudyKind
from paretoscope.service.subjects import task_of
from paretoscope.training.shrink import Axis, ShrinkStep, smallest

from pages.components import explorer as shown
from pages.components import plain, plots, state
from pages.components.trainings import Request, party

EPOCHS, POINTS = 10, 0.5
# Searches of this process that their pages find again.
KEPT_SHRINKINGS = 256
TITLES = {"width": "width: fewer channels and neurons", "depth": "depth: fewer blocks"}
VERDICTS = {True: "✓ holds", False: "✗ misses", None: "training"}


@dataclass(frozen=True, eq=False)
class Shrinking:
    """A search of this process, for the students of one recipe along one axis."""

    axis: str
    epochs: int
    job: Job

    @property
    def steps(self) -> tuple[ShrinkStep, ...]:
        return self.job.result or self.job.partial or ()


@st.cache_resource(show_spinner=False)
def shrinkings() -> Recent[tuple[str, Recipe], Shrinking]:
    """The latest search of this process for each model and recipe; as trainings, they outlive their page."""
    return Recent(KEPT_SHRINKINGS)


def _found(request: Request) -> Shrinking | None:
    return shrinkings().get((request.model, request.start))


def pace(request: Request) -> float | None:
    """Seconds between redraws."""
    found = _found(request)
    return 1.0 if found is not None and not found.job.ended else None


def settings(request: Request) -> None:
    """What is reduced, what must be held, and the button that starts."""
    words = task_of(request.model).words
    st.markdown("### Smaller student")
    st.caption(
        "The network itself is made smaller, step by step, and each step is taught by the teacher and the settings "
        "above, until one would miss the required "
        f"{words.name} on the validation part. The last that holds is kept."
    )
    axis, points, epochs, go = st.columns([1.8, 1.1, 1.1, 1.1], vertical_alignment="bottom")
    axis.selectbox("Reduce the", [each.value for each in Axis], key="student_axis", format_func=TITLES.get)
    points.number_input(
        f"May lose, {words.points}",
        0.0,
        100.0,
        POINTS,
        0.1,
        key="student_points",
        help=f"Of validation {words.name}, below the baseline's.",
    )
    epochs.number_input("Epochs each", 1, 1000, EPOCHS, key="student_epochs")
    go.button(
        "Shrink",
        key="shrink",
        icon=":material/compress:",
        width="stretch",
        disabled=pace(request) is not None,
        on_click=_start,
        args=(request,),
    )


def _start(request: Request) -> None:
    # Read from the fields here: they may have changed after the button was drawn.
    axis, points, epochs = (st.session_state[f"student_{name}"] for name in ("axis", "points", "epochs"))
    st.session_state.shrinking_refused = None
    if pace(request) is None:
        try:
            with asking(party()):
                job = state.workbench().ask(StudyKind.SHRINK, request.model, request.recipe, axis, points, epochs)
        except LimitError as error:
            st.session_state.shrinking_refused = str(error)
        else:
            shrinkings()[request.model, request.start] = Shrinking(axis, epochs, job)


def render(request: Request) -> None:
    """The steps so far, in a table and as points."""
    found = _found(request)
    if refused := st.session_state.get("shrinking_refused"):
        st.error(f"Not started: {plain.escape(refused)}")
    if found is None:
        return
    if found.job.left_by:
        st.info(
            f"The search was ended, and can be gone on with: {plain.escape(found.job.left_by)}.",
            icon=":material/pause:",
        )
    if found.job.error:
        st.error(plain.escape(found.job.error))
    if not found.job.ended:
        _progress(found)
    if not found.steps:
        return
    plot, table = st.columns([2, 3])
    with plot:
        _points(request, found)
    with table:
        st.dataframe(
            [_row(request.model, found, step) for step in found.steps],
            key="students",
            hide_index=True,
            width="stretch",
            alt=f"Students with their {task_of(request.model).words.name}, size and whether they meet the requirement",
        )
        kept = smallest(found.steps)
        if kept is not None and kept.recipe != state.current_recipe() and found.job.ended:
            st.button(
                "Load the smallest that holds",
                key="load_student",
                type="primary",
                icon=":material/check:",
                on_click=_load,
                args=(kept.recipe,),
            )
        elif kept is None and found.job.ended and not found.job.error:
            st.caption("Even the largest student misses the requirement.")


def _progress(found: Shrinking) -> None:
    words, button = st.columns([5, 1], vertical_alignment="center")
    text = plain.escape(found.job.label)
    if found.steps and found.steps[-1].holds is None:
        text += f", student {len(found.steps)}, epoch {found.steps[-1].epochs[-1].number} of {found.epochs}"
    if found.job.state is State.WAITING and (wait := told_wait(state.workbench().ahead(found.job))):
        text += f": {plain.escape(wait)}"
    words.progress(min(1.0, found.job.progress), text=text)
    wanted = party() in found.job.parties
    button.button(
        "Cancel" if wanted else "Want it too",
        key="cancel_shrink" if wanted else "want_shrink",
        width="stretch",
        disabled=found.job.cancelling,
        on_click=found.job.let_go if wanted else found.job.want,
        args=(party(),),
        help="Keeps the students so far; Shrink goes on where it was. It goes on while another visitor wants it."
        if wanted
        else "Another visitor started it. It then goes on also when that one cancels it or leaves.",
    )


def _row(model: str, found: Shrinking, step: ShrinkStep) -> dict[str, Any]:
    evaluation = None if step.holds is None else state.workbench().find(model, step.recipe)
    settings, value = step.recipe.settings(), task_of(model).words.value
    removed = f"{100 * settings['nodes']:.4g} %" if found.axis == "width" else f"{settings['blocks']}"
    return {
        "Nodes removed" if found.axis == "width" else "Blocks dropped": removed,
        "Requirement": VERDICTS[step.holds],
        "Validation": value(step.accuracy),
        "Test": "–" if evaluation is None else value(evaluation.record.figures.value, 2),
        "Size": "–" if evaluation is None else f"{evaluation.record.size.artefact / 1000:.1f} KB",
    }


def _points(request: Request, found: Shrinking) -> None:
    bench = state.workbench()
    recipes = [step.recipe for step in found.steps if step.holds is not None]
    known = {recipe: each for recipe in recipes if (each := bench.find(request.model, recipe)) is not None}
    ended, records = list(known), [each.record for each in known.values()]
    if not records:
        return
    kept = smallest(found.steps)
    subject, timing = bench.subject(request.model), state.view().timing
    scene = explorer.gather(
        Board(subject.task.words, records),
        Timed(tuple(bench.latency(request.model, each, timing) for each in ended), tuple(range(len(records)))),
        bench.reference_ms(request.model, timing),
        of="students",
        setting=timing.told,
        baseline=subject.baseline,
        samples=len(subject.judged),
        marks=Marks(current=kept.recipe.digest if kept is not None else "", trail=[recipe.digest for recipe in ended]),
        budget=Budget(),
    )
    shown.plots(scene, plots.load, "plots_students")
    if kept is not None:
        st.caption("The target is the smallest so far that holds.")


def _load(recipe: Recipe) -> None:
    state.load_recipe(recipe)
    st.session_state.reload = True
