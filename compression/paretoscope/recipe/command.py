"""A recipe as options of the command line, so that whoever reads a figure can have it again."""

import shlex

from paretoscope.recipe import effects
from paretoscope.recipe.recipe import DEFAULTS, SETTINGS, Recipe
from paretoscope.recipe.values import Switch

PROGRAM = "python -m paretoscope"


def arguments(recipe: Recipe) -> list[str]:
    """The options that make this very recipe: what is at its default, or has no effect, is left out."""
    settings = recipe.settings()
    found = []
    for name, setting in SETTINGS.items():
        value = settings[name]
        if value in (DEFAULTS[name], effects.neutral(name, settings)):
            continue
        found += [setting.flag] if isinstance(setting.kind, Switch) else [setting.flag, setting.kind.write(value)]
    return found


def evaluating(model: str, recipe: Recipe, *more: str) -> str:
    """The line for a shell that measures a recipe on a model. more: further arguments."""
    return f"{PROGRAM} {shlex.join(['evaluate', model, *arguments(recipe), *more])}"
