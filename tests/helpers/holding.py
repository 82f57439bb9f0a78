"""Work that a test makes up, which stands for a request in a workbench's scheduler."""

from collections.abc import Callable
from typing import Any

from paretoscope.service.jobs import Job
from paretoscope.service.workbench import Workbench


class MadeUp:
    """A request of no study. work: a function of its job."""

    def __init__(self, work: Callable[[Job], Any]) -> None:
        self._work = work

    def run(self, bench: Workbench, job: Job) -> Any:
        """As `Request.run`."""
        return self._work(job)


def submit(bench: Workbench, work: Callable[[Job], Any], *, priority: int = 0, label: str = "") -> Job:
    """The job of made-up work."""
    return bench._scheduler.submit(MadeUp(work), priority=priority, label=label, patience=90.0)
