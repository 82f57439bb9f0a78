"""A recipe as a caller names it: by itself, by a preset, by a link or by a file."""

import os
from pathlib import Path
from urllib.parse import parse_qsl

from paretoscope.base.errors import RecipeError
from paretoscope.base.text import shown
from paretoscope.recipe.file import YAML, open_recipe
from paretoscope.recipe.link import TIMING
from paretoscope.recipe.presets import preset_for
from paretoscope.recipe.recipe import Recipe


def recipe_given(given: Recipe | str | os.PathLike[str], model: str | None = None) -> Recipe:
    """The recipe that is meant: a recipe, the name of a preset, a link of the dashboard, or a JSON or YAML file.

    model: the name of the network that it is for; None for any. A text that ends in .json, .yaml or .yml is a file; one
    with "=" is a link or the query of one, which may state a timing beside the recipe. Raises RecipeError for what is
    no recipe or is for another network, UnknownNameError where no preset has that name.
    """
    if isinstance(given, Recipe):
        return given
    if isinstance(given, os.PathLike):
        return open_recipe(Path(given))
    if not isinstance(given, str):
        raise RecipeError(
            f"a recipe must be a Recipe, a preset's name, a link or a file; got {shown(given)}. Pass e.g. "
            "Recipe.of(sparsity=0.8, bits=8)."
        )
    if given.lower().endswith((".json", *YAML)):
        return open_recipe(Path(given))
    return _of_link(given, model) if "=" in given else preset_for(given, model).recipe


def _of_link(text: str, model: str | None) -> Recipe:
    query = dict(parse_qsl(text.rpartition("?")[2], keep_blank_values=True))
    named = query.pop("model", model)
    if None not in (named, model) and named != model:
        raise RecipeError(
            f"a link must be for the network that it is taken to; got one for {shown(named)}, not for {model}. "
            f"Open {named}, or leave model=... out of the link."
        )
    return Recipe.from_query({name: value for name, value in query.items() if name not in TIMING})
