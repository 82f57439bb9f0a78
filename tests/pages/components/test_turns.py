"""Sessions take turns at drawing."""

import threading
import time
from collections.abc import Callable

import pytest

from pages.components.turns import Turns

PATIENCE_S = 20.0


def until(met: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not met():
        assert time.monotonic() < deadline, "what was waited for did not come"
        time.sleep(0.001)


class Run:
    """A run of a session in a thread of its own, which draws until it is told to end."""

    def __init__(self, turns: Turns, session: str, broken_off: bool = False) -> None:
        self.turns, self.session, self.broken_off = turns, session, broken_off
        self.drawing, self.end = threading.Event(), threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()
        until(lambda: self.drawing.is_set() or self.waits)

    @property
    def waits(self) -> bool:
        return any(thread == self.thread.ident for thread, _ in list(self.turns._waiting.values()))

    def _run(self) -> None:
        try:
            with self.turns.turn(self.session):
                self.drawing.set()
                assert self.end.wait(PATIENCE_S)
                if self.broken_off:
                    raise InterruptedError
        except InterruptedError:
            pass

    def finish(self) -> None:
        self.end.set()
        self.thread.join(PATIENCE_S)


def patient(at_once: int = 1) -> Turns:
    return Turns(at_once, long_s=PATIENCE_S)


def test_a_few_draw_at_once_and_others_wait() -> None:
    turns = patient(2)
    runs = [Run(turns, name) for name in "abc"]
    assert [run.drawing.is_set() for run in runs] == [True, True, False]
    runs[0].finish()
    until(runs[2].drawing.is_set)
    for run in runs[1:]:
        run.finish()
    assert not turns._drawing and not turns._waiting


def test_the_first_is_whose_last_turn_is_longest_ago() -> None:
    turns = patient()
    for name in "ab":
        Run(turns, name).finish()
    first = Run(turns, "c")
    b, a = Run(turns, "b"), Run(turns, "a")
    first.finish()
    until(a.drawing.is_set)
    assert b.waits
    a.finish()
    until(b.drawing.is_set)
    b.finish()


@pytest.mark.parametrize("broken_off", [False, True])
def test_a_run_that_is_broken_off_keeps_its_place(broken_off: bool) -> None:
    turns = patient()
    own = Run(turns, "own", broken_off)
    other = Run(turns, "other")
    third = Run(turns, "third")
    own.finish()
    until(other.drawing.is_set)
    again = Run(turns, "own")
    other.finish()
    until(again.drawing.is_set if broken_off else third.drawing.is_set)
    assert third.waits is broken_off and again.waits is not broken_off
    for run in (again, third) if broken_off else (third, again):
        run.finish()


def test_who_waits_for_something_lets_others_draw() -> None:
    turns, waited = patient(), threading.Event()
    with turns.turn("a"), turns.turn("a"):
        other = Run(turns, "b")
        assert other.waits
        with turns.away():
            until(other.drawing.is_set)
            threading.Thread(target=lambda: (other.finish(), waited.set()), daemon=True).start()
        assert not other.waits and waited.wait(PATIENCE_S)
    assert not turns._drawing and not turns._waiting


def test_a_long_run_holds_nobody_up() -> None:
    turns = Turns(1, long_s=0.01)
    slow = Run(turns, "slow")
    quick = Run(turns, "quick")
    until(quick.drawing.is_set)
    quick.finish()
    slow.finish()
    assert not turns._drawing


def test_outside_of_a_turn_there_is_none_to_give() -> None:
    with patient().away():
        pass
