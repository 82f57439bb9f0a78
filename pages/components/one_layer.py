"""One layer of the Layers page: its weights before and after, and settings of its own."""

from dataclasses import replace
from typing import Any

import numpy as np
import streamlit as st
from paretoscope.base.errors import CompressionError
from paretoscope.figures import distribution
from paretoscope.figures.theme import Theme
from paretoscope.recipe.recipe import Override, Recipe

from pages.components import figure, plain, state
from pages.components.layers import chosen_layer, short, shown
from pages.components.state import Work

SETTINGS = {"sparsity": "Sparsity", "clusters": "Clusters", "bits": "Bits"}
INHERITED = "as the others"


def render(work: Work, look: Theme) -> None:
    """The chosen layer before and after, and sliders of its own."""
    layer, recipe = chosen_layer(), work.view.recipe
    picture, own = st.columns([3, 2], gap="large")
    with picture:
        _histogram(layer, recipe, look)
    with own:
        _override(layer, recipe)


def _histogram(layer: str, recipe: Recipe, look: Theme) -> None:
    try:
        compressed = state.compressed(state.current_model(), recipe.to_json())
    except CompressionError as error:
        st.caption(f"No picture: {plain.escape(error)}")
        return
    if layer not in compressed.weights:
        st.caption(f"{plain.escape(short(layer))} is not in the simplified network under this name.")
        return
    before = _before(layer, recipe)
    data = distribution.gather(before, compressed.decode(layer), name=short(layer))
    figure.show(distribution.draw(data, look, height=300), "plot_layer", alt=data.alt)
    st.caption(
        f"{plain.escape(short(layer))}, before (grey) and after. Short ticks: the values of its codebook or grid."
    )


def _before(layer: str, recipe: Recipe) -> np.ndarray:
    return state.workbench().subject(state.current_model()).variant(recipe.simplify).statistics.layers[layer].weight


def _override(layer: str, recipe: Recipe) -> None:
    name = short(layer)
    own = _own(recipe, name)
    st.markdown(f"Settings of **{plain.escape(name)}** alone")
    sliders = {setting: f"own_{setting}_{name}_{recipe.digest[:8]}" for setting in SETTINGS}
    for setting, title in SETTINGS.items():
        options, value = _choices(setting), own.get(setting, INHERITED)
        if value not in (INHERITED, *options):
            # Set elsewhere, between the steps: it gets one of its own, in its place.
            options = sorted((*options, value), reverse=setting != "sparsity")
        st.select_slider(
            title,
            [INHERITED, *options],
            value=value,
            key=sliders[setting],
            format_func=lambda v, setting=setting: shown(setting, v),
        )
    apply, clear = st.columns(2)
    apply.button("Apply", key="own_apply", type="primary", width="stretch", on_click=_apply, args=(name, own, sliders))
    clear.button("Clear", key="own_clear", width="stretch", disabled=not own, on_click=_replace, args=(name, {}))
    if own:
        st.caption("Now: " + plain.escape(", ".join(f"{key} {shown(key, value)}" for key, value in own.items())) + ".")
    if problem := st.session_state.get("own_error"):
        st.error(plain.escape(problem))


def _own(recipe: Recipe, name: str) -> dict[str, Any]:
    """The settings that a recipe's override for just this layer holds."""
    return next((dict(override.settings) for override in recipe.overrides if override.layers == name), {})


def _choices(setting: str) -> list[float]:
    return {
        "sparsity": [percent / 100 for percent in range(0, 100, 5)] + [0.98, 0.99],
        "clusters": [256, 128, 64, 32, 16, 8, 4, 3, 2],
        "bits": [32, 16, 8, 7, 6, 5, 4, 3, 2, 1],
    }[setting]


def _apply(name: str, own: dict[str, Any], sliders: dict[str, str]) -> None:
    # Read from the sliders here: one may have moved after the button was drawn.
    moved = {setting: st.session_state[key] for setting, key in sliders.items()}
    if moved["sparsity"] != INHERITED:
        own = {setting: value for setting, value in own.items() if setting not in ("threshold", "pattern")}
    _replace(name, {setting: value for setting, value in {**own, **moved}.items() if value != INHERITED})


def _replace(name: str, settings: dict[str, Any]) -> None:
    """Give a layer these settings of its own, in place of those that it had."""
    recipe = state.current_recipe()
    others = tuple(override for override in recipe.overrides if override.layers != name)
    try:
        added = (Override(name, tuple(settings.items())),) if settings else ()
        changed = Recipe.of(**{**state.changeable().settings(), "overrides": (*others, *added)})
        state.load_changed(replace(state.view(), recipe=changed))
        st.session_state.own_error = None
    except CompressionError as error:
        st.session_state.own_error = str(error)
    st.session_state.reload = True
