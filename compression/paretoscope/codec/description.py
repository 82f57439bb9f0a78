"""The recipe in a file: a description of how it was made, which has no say in what it decodes to.

A file may come from a later version, whose recipes have settings that this one does not know. They are kept as they
are, word for word, and named; what is known of the recipe is read.
"""

from dataclasses import MISSING, fields
from typing import Any

from paretoscope.base.errors import RecipeError
from paretoscope.recipe.recipe import STEPS, VERSION, Recipe


def described(data: dict[str, Any]) -> tuple[Recipe, tuple[str, ...]]:
    """What is known of a recipe, and the names of its settings that are not, such as "quantize.dither"."""
    try:
        return Recipe.from_dict(data), ()
    except RecipeError:
        known: dict[str, Any] = {"version": VERSION}
        unknown = [] if data.get("version") == VERSION else ["version"]
    # The coder says how the streams are read, so nothing that another step says comes before it.
    for name in sorted((name for name in data if name != "version"), key=lambda name: name != "code"):
        step, left_out = _step(name, data[name]) if name in STEPS else _other(name, data[name])
        together = known if step is None else {**known, name: step}
        if step is not None and not _holds(together):
            left_out = [name]
        else:
            known = together
        unknown += left_out
    return Recipe.from_dict(known), tuple(unknown)


def _step(name: str, settings: Any) -> tuple[dict[str, Any] | None, list[str]]:
    """The settings of a step that are known, None where it cannot be without the others, and those that are not."""
    if not isinstance(settings, dict):
        return None, [name]
    required = [each.name for each in fields(STEPS[name]) if each.default is MISSING]
    known = {each: settings[each] for each in required if each in settings}
    if not _holds({"version": VERSION, name: known}):
        return None, [name]
    unknown = []
    for setting in (each for each in settings if each not in required):
        if _holds({"version": VERSION, name: {**known, setting: settings[setting]}}):
            known[setting] = settings[setting]
        else:
            unknown.append(f"{name}.{setting}")
    return known, unknown


def _other(name: str, value: Any) -> tuple[Any, list[str]]:
    """keep_ends and the overrides, of which those are left out that say more than is known."""
    if name == "overrides" and isinstance(value, list):
        known = [each for each in value if _holds({"version": VERSION, name: [each]})]
        return known or None, [name] * (len(known) < len(value))
    return (value, []) if _holds({"version": VERSION, name: value}) else (None, [name])


def _holds(data: dict[str, Any]) -> bool:
    try:
        Recipe.from_dict(data)
    except RecipeError:
        return False
    return True
