"""Presets: recipes with a name, ready to load."""

import json
from dataclasses import dataclass
from pathlib import Path

from compression.recipe import Recipe
from compression.registry import Registry

PATH = Path(__file__).parents[1] / "assets" / "presets.json"


@dataclass(frozen=True, slots=True)
class Preset:
    """A recipe, its title for a button and one sentence for a person."""

    name: str
    title: str
    summary: str
    recipe: Recipe


def _load() -> Registry[Preset]:
    registry: Registry[Preset] = Registry("preset")
    for entry in json.loads(PATH.read_text()):
        registry.add(Preset(entry["name"], entry["title"], entry["summary"], Recipe.from_dict(entry["recipe"])))
    return registry


presets = _load()
