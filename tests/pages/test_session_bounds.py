"""What a session and a server remember has a bound: the trail, the pins, the visitors and their sessions."""

import pytest
from paretoscope.recipe.recipe import Recipe
from paretoscope.service import pins

from pages.components import kept, state, visitors


class Session(dict):
    """What stands for Streamlit's session state."""

    __getattr__ = dict.__getitem__
    __setattr__ = dict.__setitem__


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> Session:
    session = Session()
    monkeypatch.setattr(state.st, "session_state", session)
    session.pins = []
    return session


def test_a_session_remembers_the_last_recipes(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "TRAIL", 3)
    recipes = [Recipe.of(bits=bits) for bits in (2, 3, 4, 5)]
    for recipe in (*recipes, recipes[2]):
        session.view = state.View("lenet-5", recipe)
        seen = state.trail()
    assert seen == [recipes[place].digest for place in (1, 3, 2)]


def test_a_session_has_a_pin_for_each_letter(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pins, "MOST", 2)
    recipes = [Recipe.of(bits=bits) for bits in (2, 3, 4)]
    for recipe in recipes:
        kept.toggle("lenet-5", recipe)
    assert [pin.recipe for pin in kept.pinned()] == recipes[:2] and not kept.has_room()
    kept.toggle("lenet-5", recipes[0])
    assert kept.letters("lenet-5") == {recipes[1].digest: "A"} and kept.letters("lenet-300-100") == {}


def test_a_server_remembers_the_last_visitors_and_their_sessions(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(visitors, "VISITORS", 2)
    monkeypatch.setattr(visitors, "SESSIONS", 3)
    known = visitors._sessions.__wrapped__()
    monkeypatch.setattr(visitors, "_sessions", lambda: known)
    for visitor in ("ann", "ben", "cem"):
        session.visitor = visitor
        for number in range(5):
            monkeypatch.setattr(visitors, "session", lambda number=number, visitor=visitor: f"{visitor} {number}")
            assert visitors.name() == visitor
    _, sessions = known
    assert list(sessions) == ["ben", "cem"]
    assert list(sessions["cem"]) == ["cem 2", "cem 3", "cem 4"]
