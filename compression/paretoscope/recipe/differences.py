"""Recipes side by side: each setting with what every one of them says of it, in words."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from paretoscope.recipe.recipe import SETTINGS, Recipe
from paretoscope.recipe.schema import Setting, Settings

# What stands for a setting that does nothing in a recipe.
ABSENT = "–"
# The words for several overrides are their number; of a few, their names too.
_NAMED = 2


@dataclass(frozen=True, slots=True)
class Row:
    """One setting. values: in words, one for each recipe; ABSENT where it does nothing there. differs: whether the
    recipes do not all have the same; one that has no such step has the default."""

    name: str
    label: str
    help: str
    values: tuple[str, ...]
    differs: bool


def rows(recipes: Sequence[Recipe]) -> list[Row]:
    """All settings that one of the recipes uses, in the order of the schema."""
    told = [recipe.settings() for recipe in recipes]
    found = []
    for name, setting in SETTINGS.items():
        values = tuple(_word(setting, recipe, settings) for recipe, settings in zip(recipes, told, strict=True))
        if set(values) != {ABSENT}:
            differs = len(set(values)) > 1 and any(settings[name] != told[0][name] for settings in told)
            found.append(Row(name, setting.label, setting.explained, values, differs))
    return found


def changes(before: Recipe, after: Recipe) -> list[Row]:
    """The settings in which two recipes differ."""
    return [row for row in rows([before, after]) if row.differs]


def _word(setting: Setting, recipe: Recipe, settings: Settings) -> str:
    value = settings[setting.name]
    if setting.prominent:
        return setting.word(value)
    absent = setting.step and getattr(recipe, setting.step) is None
    if absent or not setting.effect.holds(settings) or value is None or value in ("", ()):
        return ABSENT
    return _overrides(recipe) if setting.name == "overrides" else ", ".join(_parts(setting, value))


def _parts(setting: Setting, value: Any) -> list[str]:
    return [str(each) for each in value] if isinstance(value, tuple) else [setting.word(value)]


def _overrides(recipe: Recipe) -> str:
    found = recipe.overrides
    if len(found) > _NAMED:
        return f"for {len(found)} layers or patterns"
    told = (f"{each.layers}: {', '.join(SETTINGS[name].label for name, _ in each.settings)}" for each in found)
    return "; ".join(told)
