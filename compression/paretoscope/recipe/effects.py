"""When a setting of a recipe has an effect, and what gives it one where it has none.

A recipe stores what has no effect as its default, so that two recipes of the same effect have the same digest. What a
person wrote is looked at before that: `check` refuses options, fields of a file and settings of an override that do
nothing, and names what would give them something to do; `notes` tells what of a recipe is idle.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from paretoscope.base.errors import RecipeError
from paretoscope.base.text import listed, shown
from paretoscope.recipe.conditions import ALONE, INTEGER_BITS, quantized, shared
from paretoscope.recipe.recipe import DEFAULTS, RULES, SETTINGS, Override, Recipe
from paretoscope.recipe.schema import ALWAYS, Effect, Settings
from paretoscope.recipe.values import Switch

EFFECTS: Mapping[str, Effect] = {name: each.effect for name, each in SETTINGS.items()}
_NOTHING: Settings = MappingProxyType({})
# Most sentences that are shown; the others are counted; chosen by hand; no benchmark.
_TOLD = 3


@dataclass(frozen=True, slots=True)
class Idle:
    """A setting that was written and does nothing.

    remedy: settings beside which it has an effect, those that must change. layers: the pattern of its override, "" for
    the recipe's own.
    """

    name: str
    value: Any
    remedy: tuple[tuple[str, Any], ...]
    layers: str = ""

    def text(self, options: bool = False) -> str:
        """Rule, value and remedy. options: in the words of the command line."""
        of = f" of the override {shown(self.layers)}" if self.layers else ""
        as_options = options and not self.layers
        name = option(self.name) if as_options else self.name
        added = [
            option(key, value) if as_options else f"{key} {_plain(value)}"
            for key, value in self.remedy
            if value not in (None, "") and (key != "threshold")
        ]
        removed = [
            option(key) if as_options else key
            for key, value in self.remedy
            if value in (None, "") or key == "threshold"
        ]
        steps = [f"{verb} {', '.join(names)}" for verb, names in (("set", added), ("take out", removed)) if names]
        steps.append(f"leave {name} out")
        remedy = " or ".join([" and ".join(steps[:-1]), steps[-1]] if len(steps) > 1 else steps)
        return (
            f"{name}{of} has an effect only with {EFFECTS[self.name].needs}; got {shown(self.value)} without. "
            f"{remedy[0].upper()}{remedy[1:]}."
        )


def idle(given: Settings, recipe: Recipe, *, beside: Settings = _NOTHING, defaults: bool = False) -> list[Idle]:
    """The settings without effect among flat settings that someone wrote, and in overrides of the recipe made of them.

    beside: settings that will be there too. defaults: whether a setting written at its default is looked at too; not
    where files write some always.
    """
    found = []
    base = {**recipe.settings(), **beside, **given}
    for name, value in given.items():
        if name == "overrides" or not (defaults or value != neutral(name, base)):
            continue
        if not any(EFFECTS[name].holds(plan) for plan in _plans(name, value, base, recipe)):
            found.append(Idle(name, value, _remedy(name, base)))
    return [*found, *_idle_in_overrides(recipe)]


def neutral(name: str, settings: Settings) -> Any:
    """The value that a recipe stores for a setting without effect. settings: the other ones, by flat names."""
    idle = SETTINGS[name].idle
    return DEFAULTS[name] if idle is None else idle(settings)


def check(given: Settings, recipe: Recipe, *, beside: Settings = _NOTHING, options: bool = False) -> None:
    """Raises RecipeError where a setting that someone wrote does nothing, naming what would give it an effect.

    beside: settings that will be there too. options: they were options of a command line, where a default is written
    on purpose too.
    """
    found = idle(given, recipe, beside=beside, defaults=options)
    if found:
        more = [option(each.name) if options and not each.layers else each.name for each in found[1:]]
        rest = f" The same goes for {listed(more)}." if more else ""
        raise RecipeError(found[0].text(options) + rest)


def problems(query: Mapping[str, str]) -> list[str]:
    """The settings without effect of a link that `Recipe.from_query` can read: at most three sentences to show, and one
    that counts the others."""
    found = idle(Recipe.parsed(query), Recipe.from_query(query))
    return _few([each.text() for each in found])


def notes(recipe: Recipe) -> list[str]:
    """The settings of a recipe without effect: at most three sentences to show, and one that counts the others."""
    return _few([each.text() for each in idle(recipe.settings(), recipe)])


def works(name: str, recipe: Recipe) -> bool:
    """Whether another value of a setting of the whole recipe could change something; a screen disables it if not."""
    if name not in EFFECTS:
        return True
    settings = recipe.settings()
    effect = EFFECTS[name]
    return any(
        effect.holds({**plan, name: plan[name] if effect.tried is None else effect.tried})
        for plan in _plans(name, settings[name], settings, recipe)
    )


def _few(sentences: list[str]) -> list[str]:
    more = len(sentences) - _TOLD
    return sentences if more <= 0 else [*sentences[:_TOLD], f"{more} more settings of this recipe have no effect."]


def _plans(name: str, value: Any, base: Settings, recipe: Recipe) -> Iterator[Settings]:
    """Flat settings of the recipe, and of layers that an override or `keep_ends` treats otherwise."""
    yield base
    stored = recipe.settings()
    # A default stands for itself; another value reaches the layers only as the recipe stores it.
    if not EFFECTS[name].layers or stored[name] != value:
        return
    for override in recipe.overrides:
        own = dict(override.settings)
        if name not in own:
            yield _beside(stored, [override])
    if recipe.keep_ends and name != "keep_ends" and (shared(stored) or quantized(stored)):
        bits = stored["bits"] if quantized(stored) else INTEGER_BITS
        yield {**stored, "clusters": None, "bits": max(bits, INTEGER_BITS)}


def _idle_in_overrides(recipe: Recipe) -> Iterator[Idle]:
    stored = recipe.settings()
    for place, override in enumerate(recipe.overrides):
        own = {name: value for name, value in override.settings if EFFECTS[name] is not ALWAYS}
        alone = _beside(stored, [override])
        for name, value in own.items():
            if value == neutral(name, alone) or EFFECTS[name].holds(alone):
                continue
            if not any(EFFECTS[name].holds({**plan, name: value}) for plan in _together(recipe, place)):
                yield Idle(name, value, _remedy(name, alone), override.layers)


def _together(recipe: Recipe, place: int) -> Iterator[Settings]:
    """Plans of layers that an override may share with others: with each of them, and with all."""
    stored, this = recipe.settings(), recipe.overrides[place]
    beside = [at for at, other in enumerate(recipe.overrides) if at != place and _meet(this, other)]
    for at in beside:
        yield _beside(stored, [recipe.overrides[each] for each in sorted((at, place))])
    yield _beside(stored, [recipe.overrides[each] for each in sorted((*beside, place))])


def _meet(one: Override, other: Override) -> bool:
    """Whether both may match one layer; two patterns are assumed to."""
    patterns = [any(sign in each.layers for sign in "*?[") for each in (one, other)]
    return all(patterns) or one.matches(other.layers) or other.matches(one.layers)


def _beside(settings: Settings, overrides: Iterable[Override]) -> dict[str, Any]:
    """The flat settings of a layer that these overrides match."""
    plan = dict(settings)
    for override in overrides:
        own = dict(override.settings)
        if own.keys() & set(RULES):
            plan.update({name: DEFAULTS[name] for name in RULES}, **{ALONE: True})
        plan.update(own)
    return plan


def _remedy(name: str, settings: Settings) -> tuple[tuple[str, Any], ...]:
    """The changes of other settings that give a setting an effect, without those that can be left out."""
    effect = EFFECTS[name]
    changes = {key: value for key, value in effect.gives(settings).items() if settings[key] != value}
    if not effect.holds({**settings, **changes}):
        return ()
    for key in list(changes):
        fewer = {each: value for each, value in changes.items() if each != key}
        if effect.holds({**settings, **fewer}):
            changes = fewer
    return tuple(changes.items())


def option(name: str, value: Any = True) -> str:
    """A setting as the command line has it."""
    each = SETTINGS[name]
    return each.flag if isinstance(each.kind, Switch) or value is True else f"{each.flag} {_plain(value)}"


def _plain(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else shown(value).strip("'")
