"""Presets: recipes with a name, ready to load, and what each was measured to give on each model."""

import json
from dataclasses import dataclass

from paretoscope.base.errors import RecipeError
from paretoscope.base.places import ASSETS
from paretoscope.base.registry import Registry
from paretoscope.recipe.recipe import Recipe

PATH = ASSETS / "presets.json"


@dataclass(frozen=True, slots=True)
class Preset:
    """A recipe, its title for a button and one sentence for a person.

    model: the one model of the zoo that it was made for, by name; None for all.
    """

    name: str
    title: str
    summary: str
    recipe: Recipe
    model: str | None = None


def _load() -> Registry[Preset]:
    registry: Registry[Preset] = Registry("preset")
    for entry in json.loads(PATH.read_text()):
        recipe = Recipe.from_dict(entry["recipe"])
        registry.add(Preset(entry["name"], entry["title"], entry["summary"], recipe, entry.get("model")))
    return registry


presets = _load()


def presets_of(model: str) -> list[Preset]:
    """What is offered for a model: the presets for all models, then its own."""
    return [each for owner in (None, model) for each in presets if each.model == owner]


def preset_for(name: str, model: str | None = None) -> Preset:
    """The preset of that name; raises UnknownNameError, or RecipeError where it was made for another model."""
    found = presets.get(name)
    if model is not None and found.model not in (None, model):
        known = ", ".join(each.name for each in presets_of(model))
        raise RecipeError(
            f"a preset must be for all models or for {model}; got {name}, which is for {found.model}. "
            f"Choose one of: {known}."
        )
    return found
