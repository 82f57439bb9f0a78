"""Widgets of settings: each is drawn from its description in the schema, by the kind of its values; and switches."""

import math
from collections.abc import Mapping
from typing import Any

import streamlit as st
from paretoscope.recipe.schema import Setting
from paretoscope.recipe.values import Choice, Number, Switch, Text, Whole

LARGEST = 2**53 - 1  # of the whole numbers that a browser counts with


def draw(
    setting: Setting,
    value: Any,
    key: str,
    *,
    disabled: bool = False,
    help: bool = True,
    options: tuple[Any, ...] | None = None,
    most: int | None = None,
    word: Any = None,
) -> None:
    """The widget of a setting, under a key of the session's state.

    options: what is offered, where that depends on more than the setting. most: an upper end below the field's own.
    word: what an option is called, where the schema cannot know. help: whether it says what the setting is.
    """
    kind, told = setting.kind, {"key": key, "help": setting.explained if help else None, "disabled": disabled}
    offered = kind.offered if options is None else options
    match kind:
        case Switch():
            st.session_state.setdefault(key, value)
            st.toggle(setting.label, value, **told)
        case Choice() | Text():
            options = offered if value in offered else (*offered, value)
            st.session_state.setdefault(key, value)
            st.selectbox(setting.label, options, options.index(value), format_func=word or setting.word, **told)
        case Number() | Whole() if offered:
            _slider(setting, value, offered, told)
        case Number() | Whole():
            _field(setting, value, most, told)
        case _:
            raise TypeError(f"there is no widget for {setting.name}, which holds {kind.values}")


def _slider(setting: Setting, value: Any, offered: tuple[Any, ...], told: dict[str, Any]) -> None:
    """A slider whose right end compresses most; None stands at its left end, as 0."""
    value = 0 if value is None else value
    # A recipe from a link or a point may hold a value between the steps: it gets a step of its own.
    if value not in offered:
        falling = offered[-1] < offered[-2]
        offered = tuple(sorted((*offered, value), key=(lambda each: -(each or math.inf)) if falling else None))
    st.session_state.setdefault(told["key"], value)
    st.select_slider(setting.label, offered, value, format_func=setting.word, **told)


def _field(setting: Setting, value: Any, most: int | None, told: dict[str, Any]) -> None:
    kind = setting.kind
    low = kind.field.low if kind.field.low is not None else kind.low
    high = kind.field.high if kind.field.high is not None else kind.high
    high = most if most is not None else high
    # A link may hold more than anyone would choose here.
    value = min(value, LARGEST)
    limits = {"min_value": kind.type(min(low, value))}
    if high is not None:
        limits["max_value"] = kind.type(max(high, value))
    step = kind.field.step if kind.field.step is not None or kind.type is float else 1
    st.session_state.setdefault(told["key"], value)
    st.number_input(setting.label, value=value, step=step, format=kind.field.format, **limits, **told)


def one_of(label: str, titles: Mapping[str, str], key: str, place: Any = st) -> str:
    """Which of several is shown, the first at first. titles: by their names. The label is heard, not seen."""
    return place.segmented_control(
        label,
        list(titles),
        default=next(iter(titles)),
        required=True,
        key=key,
        format_func=titles.get,
        label_visibility="collapsed",
    )
