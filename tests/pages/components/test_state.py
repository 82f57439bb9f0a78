"""How long a page waits for its figures before it draws."""

from dataclasses import dataclass, field

import pytest
from paretoscope.service.jobs import State

from pages.components import state


@dataclass
class Evaluation:
    """A job that another holds up for a while: its first estimate comes while the page waits for a report."""

    left: float | None
    waits: int
    state: State = State.WAITING
    calls: list[str] = field(default_factory=list)

    @property
    def seconds_left(self) -> float | None:
        return self.left if self.state is State.RUNNING else None

    def wait(self, seconds: float) -> bool:
        self.calls.append("end")
        return False

    def wait_for_report(self, seconds: float) -> bool:
        self.calls.append("report")
        self.waits -= 1
        if self.waits == 0:
            self.state = State.RUNNING
        return self.state is State.RUNNING


@pytest.mark.parametrize("waits", [1, 2])
def test_a_quick_evaluation_that_had_to_wait_is_drawn_once(waits: int) -> None:
    job = Evaluation(left=0.02, waits=waits)
    state.await_answer(job)
    assert job.calls == ["end", *["report"] * waits, "end"]


def test_of_a_long_evaluation_the_first_estimate_is_drawn_at_once() -> None:
    job = Evaluation(left=30.0, waits=1)
    state.await_answer(job)
    assert job.calls == ["end", "report"]
