"""What a screen asks for: what is known at once, and by a job what is not.

One workbench serves all visitors of a process; what they may ask for, its limits say. All measurements are jobs of one
scheduler: timings run alone. A job's work is a `Request`, plain data. It is submitted under the workbench's lock, so
that two who ask at once share one.
"""

from collections.abc import Callable, Hashable
from typing import Any

from paretoscope.networks import sources
from paretoscope.recipe.recipe import Recipe
from paretoscope.service.jobs import Job, JobKind, Priority
from paretoscope.service.knowledge import Knowledge
from paretoscope.service.limits import NONE, Limits
from paretoscope.service.parties import asking_party
from paretoscope.service.requests import Request
from paretoscope.service.scheduler import Scheduler
from paretoscope.service.store import Store
from paretoscope.service.studies import STUDIES
from paretoscope.service.study import StudyKind
from paretoscope.service.timing import Timing
from paretoscope.service.works import filling

# Cancel a job that no browser tab has polled for 90 s: a tab in the background polls once a minute.
PATIENCE_S = 90.0


class Workbench(Knowledge):
    """One for all sessions.

    store and settings: as for `Knowledge`. limits, present: what visitors may ask for, and whether one is there
    (`paretoscope.service.scheduler.Scheduler`).
    """

    def __init__(
        self,
        store: Store | None = None,
        *,
        limits: Limits = NONE,
        present: Callable[[str], bool] = lambda visitor: True,
        **settings: Any,
    ) -> None:
        super().__init__(STUDIES, store, limits=limits, **settings)
        self._scheduler = Scheduler(limits, present, lambda job, request: request.run(self, job))
        # Those that have not ended, and those that have ended since the last was submitted.
        self._jobs: dict[Hashable, Job] = {}

    def close(self) -> None:
        """End the worker thread; jobs that wait are cancelled, and what is not on disk is written, where it can be."""
        self._scheduler.close()
        super().close()

    def ahead(self, job: Job) -> list[Job]:
        """What a waiting job waits for."""
        return self._scheduler.ahead(job)

    def ask(self, kind: StudyKind, *arguments: Any, priority: int | None = None) -> Job:
        """The job of a study: one that others have asked for is joined, unless this one is more urgent.

        priority: None for the study's own. Raises LimitError, and UnknownNameError for a runtime or a format.
        """
        study, request = self.table[kind], Request(kind, arguments)
        if study.allow is not None:
            study.allow(self.limits, *arguments)
        shared = arguments if study.shared is None else study.shared(self, *arguments)
        priority = study.priority if priority is None else priority
        settings: dict[str, Any] = {"priority": priority, "label": study.label(*arguments), "patience": PATIENCE_S}
        if study.job is JobKind.TRAINING:
            patience = 60 * self.limits.grace_minutes
            settings |= {"patience": patience, "kind": study.job, "named": sources.find(arguments[0]).title}
        with self._lock:
            job = self._jobs.get((kind, shared))
            if job is None or job.priority > priority or not job.want(asking_party()):
                self._jobs = {key: job for key, job in self._jobs.items() if not job.ended}
                job = self._jobs[kind, shared] = self._scheduler.submit(request, **settings)
            return job

    def evaluate(self, model: str, recipe: Recipe, priority: int = Priority.NOW) -> Job:
        """The job that evaluates a recipe; its partial results are running estimates, its result an Evaluation."""
        return self.ask(StudyKind.EVALUATE, model, recipe, priority=priority)

    def time(self, model: str, recipe: Recipe, timing: Timing, priority: int = Priority.SOON) -> Job:
        """The job that times a recipe against the baseline; its result is a Latency. Raises LimitError."""
        return self.ask(StudyKind.TIME, model, recipe, timing, priority=priority)

    def fill(self, model: str, recipe: Recipe, timing: Timing, priority: int = Priority.LATER) -> Job:
        """The job that fills in what the plots need around a recipe: timings, the presets, the three sweeps.

        Raises LimitError.
        """
        return self.ask(StudyKind.FILL, model, recipe, timing, priority=priority)

    def missing(self, model: str, recipe: Recipe, timing: Timing) -> bool:
        """Whether `fill` would have anything to do."""
        return filling.missing(self, model, recipe, timing)
