"""What a person should know of how a recipe acts on a model: on every page that shows what it gave."""

import streamlit as st
import torch
from paretoscope.base.errors import CompressionError
from paretoscope.base.text import listed, shown
from paretoscope.methods.pipeline import unmatched
from paretoscope.model import weights
from paretoscope.recipe.effects import notes as without_effect
from paretoscope.recipe.recipe import Recipe
from paretoscope.service.subjects import task_of

from pages.components import naming, state


def render(model: str, recipe: Recipe) -> None:
    """Notes of a recipe, once it was measured: what it was measured on where that is nothing real, what was done, what
    was refused, what does nothing.
    """
    if state.subject(model).data.drawn:
        st.markdown(
            f":material/casino: No samples: {task_of(model).words.name} and harm are those on random inputs. Add the "
            "network again with samples for figures that count."
        )
    if found := _notes(model, recipe):
        with st.expander("How the recipe was applied", icon=":material/info:"):
            for note in found:
                st.text(note)


def _notes(model: str, recipe: Recipe) -> list[str]:
    if recipe.recover is not None:
        return list(dict.fromkeys([*_notes(model, recipe.untrained), *without_effect(recipe)]))
    # What needs no weights is told at once; compressing again costs a move of a slider its time.
    told = recipe.simplify or recipe.overrides or (recipe.prune and recipe.prune.pattern) or recipe.repair
    if not told:
        return without_effect(recipe)
    try:
        return list(state.compressed(model, recipe.to_json()).notes)
    except CompressionError as error:
        return [str(error)]


def fitted(model: str, recipe: Recipe) -> tuple[Recipe, str | None]:
    """The recipe without overrides for layers that a model has not, and what was left out: after a change of model."""
    if not recipe.overrides:
        return recipe, None
    with torch.device("meta"):
        names = weights.names(naming.find(model).bare())
    lost = unmatched(recipe, names)
    if not lost:
        return recipe, None
    kept = tuple(each for each in recipe.overrides if each not in lost)
    told = (
        f"{naming.called(model)} has no layers {listed(shown(each.layers) for each in lost)}: the settings for "
        "them were left out."
    )
    return Recipe.of(**{**recipe.settings(), "overrides": kept}), told
