"""The sidebar: model, the three sliders, presets, advanced settings."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import streamlit as st
from paretoscope import runtimes
from paretoscope.base.errors import CompressionError
from paretoscope.figures.learn import PICTURED
from paretoscope.recipe import effects
from paretoscope.recipe.presets import Preset, presets_of
from paretoscope.recipe.recipe import DEFAULTS, FULL_PRECISION, INTEGER_BITS, RULES, SETTINGS, Recipe
from paretoscope.service.presets import known, movable, told_figures

from pages.components import exchange, kept, learn, link, naming, notes, plain, state, visitors, widgets
from pages.components.state import BATCHES, CONTROLS, THREADS, TIMING, View

PRUNED_BY = {
    "sparsity": "the smallest, by a rate",
    "threshold": "below a threshold",
    "pattern": "N of every M stay",
}
# Titles of the groups below the sliders, and the steps whose settings are in each; "" for the recipe as a whole.
GROUPS = {
    "Architecture": ("simplify",),
    "Pruning and sharing": ("prune", "share"),
    "Quantization": ("quantize", ""),
    "Repair without training": ("repair",),
    "Advanced": ("code",),
}
# What has a place of its own: on the page of layers, or as a switch in sight.
ELSEWHERE = ("drop", "overrides", "activations")
BY_RATE = ("exchange", "weighting")


def open_view(page: str, **beside: str) -> None:
    """Take the view from the link or from the widgets, whichever changed; call first on every page with controls.

    page: names the page. beside: what its link says too. What cannot be opened is told, and the view stays as it was.
    """
    visitors.let_in()
    if gone := state.leave_removed():
        st.warning(f"{plain.escape(gone)} is not in the library any more. Another model was opened.")
    link.open_link()
    if st.session_state.get("controls_on") != page:
        # Widgets of the page before have left values behind under the same keys.
        state.load(state.view())
        st.session_state.controls_on = page
    if CONTROLS + "model" in st.session_state:
        try:
            before, new = state.view(), _changed(state.view())
            if new.model != before.model:
                _switch(new)
            elif new.recipe != before.recipe and state.changeable() != before.recipe.untrained:
                state.load_changed(_without_training(before, new))
            else:
                state.change(new)
            st.session_state.control_error = None
        except CompressionError as error:
            st.session_state.control_error = str(error)
    state.write_link({**kept.to_query(), **beside})
    link.tell()
    if problem := st.session_state.get("control_error"):
        st.warning(f"The setting was not taken: {plain.escape(problem)}", icon=":material/tune:")
    if told := st.session_state.get("left_out"):
        st.info(plain.escape(told), icon=":material/info:")
    _offer_training()


def _changed(view: View) -> View:
    """The view with what the widgets say; what has no widget stays. Raises CompressionError."""
    held = {name: st.session_state.get(CONTROLS + name) for name in ("model", "rule", *SETTINGS, *TIMING)}
    given = {name: value for name, value in held.items() if value is not None}
    settings = {**view.recipe.settings(), **{name: given[name] for name in SETTINGS if name in given}}
    settings["clusters"] = settings["clusters"] or None
    if (integer := st.session_state.get(CONTROLS + "integer")) is not None:
        settings["activations"] = INTEGER_BITS if integer else FULL_PRECISION
    settings["rarest"] = min(settings["rarest"], (settings["clusters"] or 1) - 1)
    rule = given.get("rule", _rule(view.recipe))
    settings.update({name: DEFAULTS[name] for name in RULES if name != rule})
    timing = {name: given.get(name, getattr(view.timing, name)) for name in TIMING}
    model, recipe = given.get("model", view.model), Recipe.of(**settings)
    if (model, recipe) != (view.model, view.recipe):
        st.session_state.left_out = None
    if recipe != view.recipe:
        recipe = recipe.untrained  # training is of one recipe alone
    return View(model, recipe, state.timing_of(model, **timing))


def _without_training(before: View, moved: View) -> View:
    """What was moved of a recipe with training, on what is bearable without."""
    settings = before.recipe.untrained.settings()
    own = {name: value for name, value in moved.recipe.settings().items() if value != settings[name]}
    return replace(moved, recipe=Recipe.of(**{**state.changeable().settings(), **own}))


def _offer_training() -> None:
    """After a change to a preset that does not hold without its training: where it was made, and the way back."""
    before, new, start = st.session_state.get("left_training", (None, None, None))
    if new != state.view():
        return
    worth = known(before.model, before.recipe.untrained)
    words = state.words()
    right = f"{words.factor * worth.accuracy:.1f} {words.unit} {words.right}"
    named = next((each.title for each in presets_of(before.model) if each.recipe == start), start.describe())
    with st.container(horizontal=True, vertical_alignment="center", key="left_training"):
        st.caption(
            f"Without its training the recipe before gets {right}: your change was made to "
            f"{plain.escape(named)} instead."
        )
        st.button(
            "Back to the trained recipe",
            key="back_to_training",
            type="tertiary",
            icon=":material/undo:",
            on_click=state.load,
            args=(before,),
        )


def _switch(new: View) -> None:
    """To another model, with a recipe of its own; the one that the widgets say stays with the model before."""
    before = state.current_model()
    state.recipes()[before] = new.recipe
    st.session_state.model_before = before
    state.load(replace(new, recipe=state.recipe_of(new.model)))


def _offer_carrying(view: View) -> None:
    """After a change of model: its recipe for this one, without training and without layers that are not here."""
    before = st.session_state.get("model_before")
    if before in (None, view.model):
        return
    recipe, left_out = notes.fitted(view.model, movable(before, state.recipes()[before]))
    if recipe != view.recipe:
        st.button(
            f"Carry over: {plain.escape(recipe.describe())}",
            key="carry_over",
            type="tertiary",
            icon=":material/subdirectory_arrow_right:",
            help=f"The settings that {naming.titled(before)} has, on this model.",
            on_click=_carry,
            args=(recipe, left_out),
        )


def _carry(recipe: Recipe, left_out: str | None) -> None:
    state.load_recipe(recipe)
    st.session_state.left_out = left_out


def _rule(recipe: Recipe) -> str:
    prune = recipe.prune
    return "pattern" if prune and prune.pattern else "threshold" if prune and prune.threshold else "sparsity"


def _widget(name: str, settings: Mapping[str, Any], disabled: bool = False, help: bool = True) -> None:
    """The widget of a setting; one that can do nothing beside the others waits until it can."""
    value = settings[name] or SETTINGS[name].sample if name == "pattern" else settings[name]
    idle = not effects.works(name, state.current_recipe())
    widgets.draw(SETTINGS[name], value, CONTROLS + name, disabled=disabled or idle, help=help)


def _taught(name: str, settings: Mapping[str, Any], disabled: bool = False) -> None:
    """The widget of a setting, beside what opens its picture where sixteen weights can show it."""
    if name in PICTURED:
        learn.beside(SETTINGS[name], partial(_widget, name, settings, disabled=disabled, help=False))
    else:
        _widget(name, settings, disabled=disabled)


def _choice(label: str, key: str, options: tuple, value: Any, help: str, word: Callable[[Any], str] = str) -> None:
    """What is chosen here and is no setting of a recipe."""
    st.session_state.setdefault(CONTROLS + key, value)
    st.selectbox(label, options, options.index(value), key=CONTROLS + key, format_func=word, help=help)


def draw() -> None:
    """Draw the controls for the session's view into the sidebar."""
    with st.sidebar:
        _draw(state.view())


def sliders() -> None:
    """The model and the sliders that are always in sight, in a row, where there is no sidebar."""
    view = state.view()
    settings = view.recipe.settings()
    prominent = [setting for setting in SETTINGS.values() if setting.prominent]
    st.session_state.setdefault(CONTROLS + "model", view.model)
    names = naming.names()
    model, *places = st.columns(1 + len(prominent))
    model.selectbox("Model", names, names.index(view.model), key=CONTROLS + "model", format_func=naming.called)
    for place, setting in zip(places, prominent, strict=True):
        others = setting.name in RULES and _rule(view.recipe) != setting.name
        with place:
            _widget(setting.name, settings, disabled=others)


def _draw(view: View) -> None:
    settings = view.recipe.settings()
    st.session_state.setdefault(CONTROLS + "model", view.model)
    names = naming.names()
    st.selectbox("Model", names, names.index(view.model), key=CONTROLS + "model", format_func=naming.called)
    st.caption(naming.shown(view.model))
    _offer_carrying(view)

    for setting in SETTINGS.values():
        if setting.prominent:
            others = setting.name in RULES and _rule(view.recipe) != setting.name
            _taught(setting.name, settings, disabled=others)
    integer = SETTINGS["activations"]
    st.session_state.setdefault(CONTROLS + "integer", view.recipe.integer)
    st.toggle(
        integer.label,
        view.recipe.integer,
        key=CONTROLS + "integer",
        help=integer.explained,
        disabled=settings["bits"] > INTEGER_BITS,
    )

    st.caption("Presets")
    entries = presets_of(view.model)
    for start in range(0, len(entries), 2):
        for column, preset in zip(st.columns(2), entries[start : start + 2], strict=False):
            _preset(column, preset, view)

    # Drawn only while open: a hand on a slider waits for every widget of the page.
    for title, steps in GROUPS.items():
        group = st.expander(title, key=f"group_{title}", on_change="rerun")
        if group.open:
            with group:
                _group(view, settings, steps)
    if count := len(view.recipe.overrides):
        st.caption(f"Overrides for {count} layer{'s' * (count > 1)} or pattern{'s' * (count > 1)}; see Layers.")
        st.button("Remove them", key="remove_overrides", on_click=_remove_overrides, width="stretch")


def _preset(column, preset: Preset, view: View) -> None:
    """Its button, with what was measured of it on this model; one that is no better than guessing says so."""
    figures = known(view.model, preset.recipe)
    column.button(
        f"{preset.title} · {state.words().at_chance}" if figures and figures.chance else preset.title,
        key=f"preset_{preset.name}",
        help=f"{preset.summary} {told_figures(figures)}" if figures else preset.summary,
        width="stretch",
        wrap=True,
        type="primary" if preset.recipe == view.recipe else "secondary",
        on_click=state.load_recipe,
        args=(preset.recipe,),
    )


def _remove_overrides() -> None:
    recipe = Recipe.of(**{**state.changeable().settings(), "overrides": ()})
    state.load_changed(replace(state.view(), recipe=recipe))


def _group(view: View, settings: Mapping[str, Any], steps: tuple[str, ...]) -> None:
    if "prune" in steps:
        words = "A rate, a threshold, or N:M as sparse hardware wants it."
        _choice("Which weights become zero", "rule", RULES, _rule(view.recipe), words, PRUNED_BY.get)
    rules = {_rule(view.recipe), st.session_state.get(CONTROLS + "rule")}
    for name in grouped(steps):
        if name not in RULES or name in rules:
            _taught(name, settings)
        if name == "calibration" and settings["calibration"] == "rate":
            for each in BY_RATE:
                _widget(each, settings)
            exchange.render()
    if "code" in steps:
        _timing(view)


def grouped(steps: tuple[str, ...]) -> list[str]:
    """The settings that a group of these steps has: those in no other place, in the schema's order."""
    apart = (*ELSEWHERE, *BY_RATE)
    return [
        each.name for each in SETTINGS.values() if each.step in steps and not each.prominent and each.name not in apart
    ]


def _timing(view: View) -> None:
    for name, (label, options, value, help, words) in timing_choices(view).items():
        if st.session_state.get(CONTROLS + name) not in options:
            st.session_state.pop(CONTROLS + name, None)  # of the model before
        _choice(label, name, options, value, help, words)
    missing_runtimes()


def timing_choices(view: View) -> dict[str, tuple[str, tuple, Any, str, Callable[[Any], str]]]:
    """Each setting of a timing: its label, options, current value, help, and how an option is written."""
    timing, sizes = view.timing, state.sizes(view.model)
    installed = tuple(runtime.name for runtime in runtimes.runtimes if not runtime.missing)
    found: dict[str, tuple[str, tuple, Any, str, Callable[[Any], str]]] = {
        "runtime": (
            "Runtime",
            installed,
            timing.runtime,
            "What runs the model when latency is measured.",
            lambda name: runtimes.runtimes.get(name).title,
        ),
        "batch": ("Batch", BATCHES, timing.batch, "Samples a call when latency is measured.", str),
        "threads": ("Threads", THREADS, timing.threads, "Threads of the runtime.", str),
    }
    if sizes:
        found["size"] = (
            "Input size",
            sizes,
            timing.size or sizes[0],
            "Height and width of the images when latency is measured. Answers are always those of the model's own "
            "size; a model that takes no other says so.",
            lambda size: f"{size} x {size}" + " (own)" * (size == sizes[0]),
        )
    return found


def missing_runtimes() -> None:
    """Which runtimes cannot be chosen, and what to install."""
    for runtime in runtimes.runtimes:
        if runtime.missing:
            st.caption(f"{runtime.title} is not installed: install {runtime.missing} to time in it.")
