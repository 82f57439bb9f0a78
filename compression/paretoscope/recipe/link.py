"""A link that is wrong in places: its valid settings are read, and each of the others is explained in a sentence.

`Recipe.from_query` refuses such a link as a whole; a person who follows it wants the valid part.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from paretoscope.base.errors import RecipeError
from paretoscope.base.text import MOST_NAMES, nearest, shown
from paretoscope.recipe.migrations import migrated_query
from paretoscope.recipe.overrides import Override
from paretoscope.recipe.plain import loads
from paretoscope.recipe.recipe import DEFAULTS, SETTINGS, Recipe
from paretoscope.recipe.values import Choice

# What a link of the dashboard may state beside the model and the recipe.
TIMING = ("runtime", "batch", "threads", "size")

# Unknown names for which the nearest right one is suggested; a link may hold thousands; chosen by hand; no benchmark.
GUESSED = 8

_CHOICES = {name: each.kind.names for name, each in SETTINGS.items() if isinstance(each.kind, Choice)}


@dataclass(frozen=True, slots=True)
class Reading:
    """What a link says of a recipe.

    recipe: what its valid settings make. query: the part of the link that was taken, which `Recipe.from_query` reads.
    problems: a sentence for each setting or override that was left out, in the order of the link.
    """

    recipe: Recipe
    query: Mapping[str, str]
    problems: tuple[str, ...]


def read(query: Mapping[str, str], *, beside: Iterable[str] = ()) -> Reading:
    """Read what is valid of a link: each setting by itself, and of those that exclude each other the first of a recipe.

    beside: names that the link may have besides the recipe's settings; they count as right names, nothing more.
    """
    query = migrated_query(query)
    known = (*DEFAULTS, *beside)
    wrong: dict[str, list[str]] = {}
    settings: dict[str, Any] = {}
    for name, text in query.items():
        if name not in DEFAULTS:
            guess = nearest(name, known, 1) if len(wrong) < GUESSED else ""
            wrong[name] = [f"A link has no setting {shown(name)}.{guess}"]
            continue
        try:
            settings |= Recipe.parsed({name: text})
        except RecipeError as error:
            wrong[name] = [str(error)]
    overrides = settings.pop("overrides", "[]")
    kept, left_out = _fitting(settings)
    wrong |= {name: [f"{why}{_choice(name, query[name])}"] for name, why in left_out.items()}
    recipe, wrong["overrides"] = _with_overrides(kept, overrides)
    taken = {name: query[name] for name in query if name in kept}
    if recipe.overrides:
        taken["overrides"] = recipe.to_query()["overrides"]
    return Reading(recipe, taken, tuple(told for name in query for told in wrong.get(name, ())))


def _choice(name: str, text: str) -> str:
    return nearest(text, _CHOICES.get(name, ()), 1)


def _fitting(settings: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """The settings that are valid together, and why each of the others is not."""
    kept: dict[str, Any] = {}
    # In the order of a recipe: settings on which others depend, such as clusters, come first.
    left, before = {name: settings[name] for name in DEFAULTS if name in settings}, None
    why: dict[str, str] = {}
    # A setting may be valid only beside one that comes later, so those that failed are tried again.
    while left and len(left) != before:
        before = len(left)
        for name in list(left):
            try:
                Recipe.of(**kept, **{name: left[name]})
            except RecipeError as error:
                why[name] = str(error)
            else:
                kept[name] = left.pop(name)
    return kept, {name: why[name] for name in left}


def _with_overrides(settings: Mapping[str, Any], text: str) -> tuple[Recipe, list[str]]:
    """The recipe with those of the overrides that are valid beside its settings, and why the others are not."""
    try:
        return Recipe.of(**settings, overrides=text), []
    except RecipeError as error:
        problem = str(error)
    try:
        entries = loads(text, "overrides")
    except RecipeError:
        entries = None
    if not isinstance(entries, list) or len(entries) > MOST_NAMES:
        return Recipe.of(**settings), [problem]
    kept: list[Override] = []
    problems: list[str] = []
    for entry in entries:
        try:
            kept += Recipe.of(**settings, overrides=[entry]).overrides
        except RecipeError as error:
            problems.append(str(error))
    return Recipe.of(**settings, overrides=kept), problems
