"""What a session keeps beside its view: pinned configurations, and what the user can afford. Both live in the link.

Pins live in the store too, so that a visitor finds them again: where a login tells who that is, or where the server
answers its own machine alone.
"""

from dataclasses import replace

import streamlit as st
from paretoscope.recipe.recipe import Recipe
from paretoscope.search.budget import Budget
from paretoscope.service import pins
from paretoscope.service.pins import Pin

from pages.components import naming, state, visitors

OWN_MACHINE = "own machine"


def budget() -> Budget:
    """What the user can afford."""
    return st.session_state.setdefault("budget", Budget())


def afford(new: Budget) -> None:
    """Take over what the user can afford."""
    st.session_state.budget = new


def pinned() -> list[Pin]:
    """The session's pins, in the order of their letters; at first those that the store has of this visitor."""
    if "pins" not in st.session_state:
        owner = _owner()
        found = state.workbench().pins(owner) if owner else []
        st.session_state.pins = [pin for pin in found if naming.known(pin.model)]
    return st.session_state.pins


def take(new: list[Pin]) -> None:
    """Replace the session's pins, and keep them."""
    st.session_state.pins = new[: pins.MOST]
    if owner := _owner():
        state.workbench().keep_pins(owner, st.session_state.pins)


def letters(model: str) -> dict[str, str]:
    """The letters of a model's pins by the digests of their recipes."""
    return {pin.recipe.digest: pins.letter(at) for at, pin in enumerate(pinned()) if pin.model == model}


def is_pinned(model: str, recipe: Recipe) -> bool:
    return recipe.digest in letters(model)


def has_room() -> bool:
    return len(pinned()) < pins.MOST


def toggle(model: str, recipe: Recipe) -> None:
    """Pin a configuration, or let go of it."""
    pin = Pin(model, recipe)
    others = [each for each in pinned() if each.key != pin.key]
    if len(others) < len(pinned()):
        take(others)
    elif has_room():
        take([*others, pin])


def rename(pin: Pin, name: str, note: str) -> None:
    """What the owner says of a pin."""
    new = replace(pin, name=name.strip()[: pins.NAME], note=note.strip()[: pins.NOTE])
    take([new if each.key == pin.key else each for each in pinned()])


def to_query() -> dict[str, str]:
    """Pins and budget as parameters of a link."""
    text = pins.to_text(pinned())
    return {**budget().to_query(), **({pins.QUERY: text} if text else {})}


def open_link(query: dict[str, str]) -> tuple[str, ...]:
    """Take pins and budget from a link; a sentence for each part that was left out.

    Pins of a link are added to nobody's: they replace what is shown, and are kept once they are changed.
    """
    st.session_state.budget, problems = Budget.from_query(query)
    if pins.QUERY not in query:
        return problems
    found, unread = pins.from_text(query[pins.QUERY])
    strangers = [f"Pin of {pin.model!r}: there is no such model." for pin in found if not naming.known(pin.model)]
    st.session_state.pins = [pin for pin in found if naming.known(pin.model)]
    return (*problems, *unread, *strangers)


def _owner() -> str | None:
    """Under which name the store has this visitor's pins; None for those who are somebody else after each visit."""
    if visitors.configured():
        return visitors.name()
    return OWN_MACHINE if visitors.own_machine() else None
