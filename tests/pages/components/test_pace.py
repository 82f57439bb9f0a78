"""Parts that redraw by themselves take a bounded share of the interpreter, however many they are."""

import pytest

from pages.components import pace
from pages.components.pace import GONE_S, SHARE, Paces


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(pace.time, "monotonic", lambda: now[0])
    return now


def room(parts: int, wanted: float = 2.0, cost_s: float = 0.04) -> Paces:
    paces = Paces()
    for _ in range(60):
        for part in range(parts):
            paces.drew(f"session {part}", "pace", wanted, cost_s)
    return paces


def test_a_few_are_redrawn_as_often_as_they_want(clock):
    assert room(4).stretched(2.0) == 2.0 and room(4).stretched(0.5) == 0.5
    assert room(4).stretched(None) is None


@pytest.mark.parametrize("parts", [10, 25, 50])
def test_many_together_take_their_share_and_no_more(clock, parts):
    got = room(parts).stretched(2.0)
    assert got > 2.0 and parts * 0.04 / got <= SHARE < parts * 0.04 / (got / 2)


def test_who_has_left_or_ended_does_not_count(clock):
    paces = room(50)
    for part in range(46):
        paces.drew(f"session {part}", "pace", None, 0.04)
    assert paces.stretched(2.0) == 2.0
    paces = room(50)
    clock[0] = GONE_S + 1
    assert paces.stretched(2.0) == 2.0


@pytest.mark.parametrize("draws", [1, 2, 4])
def test_the_first_draw_of_a_server_slows_nobody_down(clock, draws):
    paces = Paces()
    for cost_s in (3.0, 0.04, 0.04, 0.04)[:draws]:
        paces.drew("session", "pace", 2.0, cost_s)
    assert paces.stretched(2.0) == 2.0
