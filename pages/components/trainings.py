"""The trainings of this process: asked for, looked up and started.

A training belongs to those who asked for it: it goes on when its page is left, and every session sees it. Once none of
them has been connected for the grace of the server's limits, it ends with its checkpoint, to be gone on with.
"""

from dataclasses import dataclass, replace

import streamlit as st
from paretoscope.base.recent import Recent
from paretoscope.measure.subject import Evaluation
from paretoscope.recipe.recipe import Recipe
from paretoscope.service.jobs import Job, State
from paretoscope.service.limits import LimitError
from paretoscope.service.parties import Party, asking
from paretoscope.service.study import StudyKind
from paretoscope.training.epochs import Epoch, Recovery
from paretoscope.training.interrupted import Interrupted, interrupted
from paretoscope.training.progress import cut, seconds_left

from pages.components import state, visitors
from pages.components.turns import TURNS

MOST_SHOWN = 3
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
    running: bool
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
    def epochs(self) -> tuple[Epoch, ...]:
        """The epochs so far of the training that runs, or else those of the one that has ended."""
        if self.running and self.training is not None and self.training.epochs:
            return self.training.epochs
        return self.recovery.epochs if self.recovery is not None else ()

    @property
    def pace(self) -> float | None:
        """Seconds between redraws."""
        if self.running or self.others:
            return 1.0
        due = self.before is None or (self.there and self.after is None)
        return 0.5 if due and self.problem is None else None


def known(request: Request) -> Known:
    """Everything about a request; starts the evaluation of its start, where that is missing."""
    bench, running = state.workbench(), trainings()
    key = request.model, request.recipe
    training = running.get(key)
    left_by = None
    if training is not None and training.job.state in (State.DONE, State.CANCELLED):
        left_by = training.job.left_by
        training = None
    # Asked once and first: a training that ends while the rest is looked up is looked up again.
    still = training is not None and not training.job.ended
    # A training that is about to end has put its model there already, and will tell its epochs too.
    recovery = _recovery(request)
    recipe = request.recipe if recovery is None else recovery.recipe
    there = (recovery is not None or not still) and state.available(request.model, recipe)
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
        running=still,
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
    with TURNS.away():
        job.wait(state.EXACT_ANSWER_S)
    return job.result, job.error


def start(request: Request) -> None:
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


def mine(model: str, recipe: Recipe) -> bool:
    """Whether this visitor may forget a training: who started it, and everyone after a restart of the server."""
    found = trainings().get((model, recipe))
    return found is None or found.starter == visitors.name()
