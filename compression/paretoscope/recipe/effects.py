"""When a setting of a recipe has an effect, and what gives it one where it has none.

A recipe stores what has no effect as its default, so that two recipes of the same effect have the same digest. What a
person wrote is looked at before that: `check` refuses options, fields of a file and settings of an override that do
nothing, and names what would give them something to do; `notes` tells what of a recipe is idle.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from paretoscope.base.errors import RecipeError
from paretoscope.base.text import listed, shown
from paretoscope.recipe.recipe import DEFAULTS, RULES, Override, Recipe
from paretoscope.recipe.steps import FULL_PRECISION, INTEGER_BITS

Settings = Mapping[str, Any]

_NOTHING: Settings = MappingProxyType({})
# Examples of what gives other settings an effect.
_PRUNED = {"sparsity": 0.5}
_SHARED = {"clusters": 16}
_QUANTIZED = {"bits": 8}
_BY_RATE = {"bits": 8, "clusters": None, "calibration": "rate"}
_TRAINED = {"epochs": 10}

# Told at most; of more their number.
_TOLD = 3


@dataclass(frozen=True, slots=True)
class Effect:
    """When a setting has an effect.

    holds: of all flat settings, this one's own value among them. needs: in words for a person. gives: settings beside
    which it has one, the most natural first. layers: whether the plan of one layer is enough for it, that of an
    override or that of the ends.
    """

    holds: Callable[[Settings], bool]
    needs: str = ""
    gives: Callable[[Settings], Settings] = lambda settings: {}
    layers: bool = False


def _quantized(settings: Settings) -> bool:
    return settings["bits"] < FULL_PRECISION


def _spread(settings: Settings) -> bool:
    """More than one bit, whose scale is the mean magnitude, and a grid at all."""
    return 1 < settings["bits"] < FULL_PRECISION


def _by_rate(settings: Settings) -> bool:
    return _spread(settings) and settings["calibration"] == "rate" and settings["clusters"] is None


def _calibrated(settings: Settings) -> bool:
    return _spread(settings) and (settings["calibration"] != "rate" or settings["clusters"] is None)


def _shared(settings: Settings) -> bool:
    return settings["clusters"] is not None


def _trained(settings: Settings) -> bool:
    return settings["epochs"] > 0


def _distilled(settings: Settings) -> bool:
    return _trained(settings) and settings["distill"] > 0


def _pruned(settings: Settings) -> bool:
    return bool(settings["sparsity"] or settings["threshold"] or settings["pattern"])


def _gradual(settings: Settings) -> bool:
    """Whether training has something that can come gradually, and epochs for it (see recover.stages)."""
    falls = _spread(settings) and (settings["bits"] < INTEGER_BITS or settings["calibration"] == "rate")
    falls = falls or settings["bits"] == 1
    some = min(round(settings["ramp"] * settings["epochs"]), settings["epochs"] - 1) > 0
    return _trained(settings) and (some or not settings["ramp"]) and bool(settings["sparsity"] or falls)


def _gradually(settings: Settings) -> Settings:
    """What can come gradually: a sparsity, where no other rule prunes, or few bits."""
    return {"bits": 4} if settings["threshold"] or settings["pattern"] else _PRUNED


def _changed(settings: Settings) -> bool:
    changed = _pruned(settings) or _shared(settings) or _quantized(settings)
    return changed or settings["batchnorm"] or settings["rest"] != "fp32"


_ALWAYS = Effect(lambda settings: True)
_TRAINING = Effect(_trained, "epochs", lambda settings: _TRAINED)

EFFECTS: Mapping[str, Effect] = {
    "nodes": _ALWAYS,
    "importance": Effect(lambda s: s["nodes"] > 0, "nodes above 0", lambda s: {"nodes": 0.25}),
    "drop": _ALWAYS,
    "blocks": _ALWAYS,
    "fold": _ALWAYS,
    "merge": _ALWAYS,
    "energy": _ALWAYS,
    "sparsity": _ALWAYS,
    "scope": Effect(
        lambda s: s["sparsity"] > 0 and not (s["threshold"] or s["pattern"] or s.get(_ALONE)),
        "a sparsity by which layers are ranked",
        lambda s: {"threshold": 0.0, "pattern": "", **_PRUNED},
        layers=True,
    ),
    "threshold": _ALWAYS,
    "pattern": _ALWAYS,
    "clusters": _ALWAYS,
    "start": Effect(_shared, "clusters", lambda s: _SHARED, layers=True),
    "population": Effect(_shared, "clusters", lambda s: _SHARED, layers=True),
    "rarest": Effect(_shared, "clusters", lambda s: {"clusters": max(16, s["rarest"] + 1)}, layers=True),
    "moved": Effect(
        lambda s: _shared(s) and bool(s["population"] or s["rarest"]),
        "clusters of which some are dropped",
        lambda s: {**_SHARED, "population": 2},
        layers=True,
    ),
    "bits": _ALWAYS,
    "granularity": Effect(
        lambda s: _quantized(s) and not _shared(s),
        "16 bits or fewer and no clusters",
        lambda s: {**_QUANTIZED, "clusters": None},
        layers=True,
    ),
    "calibration": Effect(
        _calibrated,
        "2 to 16 bits (and, if it is rate, no clusters)",
        lambda s: {**_QUANTIZED, "clusters": None} if s["calibration"] == "rate" else _QUANTIZED,
        layers=True,
    ),
    "percentile": Effect(
        lambda s: _spread(s) and s["calibration"] == "percentile",
        "2 to 16 bits and calibration percentile",
        lambda s: {**_QUANTIZED, "calibration": "percentile"},
        layers=True,
    ),
    "symmetric": Effect(
        lambda s: _spread(s) and s["calibration"] != "rate" and not _shared(s),
        "2 to 16 bits, no clusters and another calibration than rate",
        lambda s: {**_QUANTIZED, "clusters": None, "calibration": "range"},
        layers=True,
    ),
    "power_of_two": Effect(lambda s: s["bits"] == 1, "1 bit", lambda s: {"bits": 1}, layers=True),
    "ternary": Effect(lambda s: s["bits"] == 1, "1 bit", lambda s: {"bits": 1}, layers=True),
    "exchange": Effect(_by_rate, "2 to 16 bits, calibration rate and no clusters", lambda s: _BY_RATE, layers=True),
    "weighting": Effect(_by_rate, "2 to 16 bits, calibration rate and no clusters", lambda s: _BY_RATE, layers=True),
    "activations": Effect(lambda s: s["bits"] <= INTEGER_BITS, "8 bits or fewer", lambda s: _QUANTIZED),
    "rounding": Effect(
        lambda s: _quantized(s) or _shared(s), "something to round: bits or clusters", lambda s: _QUANTIZED, layers=True
    ),
    "bias": Effect(
        _changed,
        "weights that change: sparsity, clusters or bits",
        lambda s: _QUANTIZED,
        layers=True,
    ),
    "batchnorm": _ALWAYS,
    "epochs": _ALWAYS,
    "learning_rate": _TRAINING,
    "schedule": _TRAINING,
    "minibatch": _TRAINING,
    "ramp": Effect(
        _gradual,
        "more than one epoch of it, and a sparsity, fewer than 8 bits or an exchange rate to rise to",
        lambda s: {"epochs": max(10, round(2 / s["ramp"])) if s["ramp"] else 10, **_gradually(s)},
    ),
    "distill": _TRAINING,
    "temperature": Effect(_distilled, "epochs and distill", lambda s: {**_TRAINED, "distill": 0.5}),
    "teacher": Effect(_distilled, "epochs and distill", lambda s: {**_TRAINED, "distill": 0.5}),
    "average": _TRAINING,
    "patience": Effect(
        lambda s: _trained(s) and s["patience"] < s["epochs"],
        "more epochs than that",
        lambda s: {"epochs": s["patience"] + 10},
    ),
    "augment": _TRAINING,
    "seed": _TRAINING,
    "stopped": Effect(
        lambda s: _trained(s) and s["stopped"] < s["epochs"],
        "more epochs than that",
        lambda s: {"epochs": s["stopped"] + 10},
    ),
    "coder": _ALWAYS,
    "rest": Effect(
        lambda s: s["rest"] != "rate" or _by_rate(s),
        "fp32 or fp16, or rate beside 2 to 16 bits, calibration rate and no clusters",
        lambda s: _BY_RATE,
    ),
    "keep_ends": Effect(
        lambda s: _shared(s) or s["bits"] < INTEGER_BITS,
        "clusters or fewer than 8 bits elsewhere",
        lambda s: {"bits": 4},
        layers=True,
    ),
    "overrides": _ALWAYS,
}

# Of a plan: whether an override gives a rule of pruning, so that the layer is pruned alone.
_ALONE = "alone"


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
    """What does nothing of the flat settings that someone wrote, and of the overrides of the recipe made of them.

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
    """What a recipe holds of a setting where it has no effect; beside `settings`, by flat names."""
    if name == "calibration" and settings["bits"] == 1:
        return "mse"  # the mean magnitude is the scale of least squared error
    return DEFAULTS[name]


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
    """What does nothing of a link that `Recipe.from_query` can read: sentences to show, at most three, none if all is
    well."""
    found = idle(Recipe.parsed(query), Recipe.from_query(query))
    return _few([each.text() for each in found])


def notes(recipe: Recipe) -> list[str]:
    """What a recipe holds that does nothing, for a person: sentences, at most three."""
    return _few([each.text() for each in idle(recipe.settings(), recipe)])


def works(name: str, recipe: Recipe) -> bool:
    """Whether moving a setting of the recipe as a whole could change something: what a screen disables where not."""
    if name not in EFFECTS:
        return True
    settings = recipe.settings()
    effect = EFFECTS[name]
    tried = {"calibration": "range", "patience": 0, "stopped": 0, "rest": "fp32", "ramp": 0.0}
    return any(
        effect.holds({**plan, name: tried.get(name, plan[name])})
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
    if recipe.keep_ends and name != "keep_ends" and (_shared(stored) or _quantized(stored)):
        bits = stored["bits"] if _quantized(stored) else INTEGER_BITS
        yield {**stored, "clusters": None, "bits": max(bits, INTEGER_BITS)}


def _idle_in_overrides(recipe: Recipe) -> Iterator[Idle]:
    stored = recipe.settings()
    for place, override in enumerate(recipe.overrides):
        own = {name: value for name, value in override.settings if EFFECTS[name] is not _ALWAYS}
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
    """Whether a layer may have both; two patterns are taken to."""
    patterns = [any(sign in each.layers for sign in "*?[") for each in (one, other)]
    return all(patterns) or one.matches(other.layers) or other.matches(one.layers)


def _beside(settings: Settings, overrides: Iterable[Override]) -> dict[str, Any]:
    """The flat settings of a layer that these overrides match."""
    plan = dict(settings)
    for override in overrides:
        own = dict(override.settings)
        if own.keys() & set(RULES):
            plan.update({name: DEFAULTS[name] for name in RULES}, **{_ALONE: True})
        plan.update(own)
    return plan


def _remedy(name: str, settings: Settings) -> tuple[tuple[str, Any], ...]:
    """What must change for a setting to have an effect: of what gives it one, what cannot be left out."""
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
    flag = {"symmetric": "--asymmetric", "augment": "--no-augment"}.get(name, f"--{name.replace('_', '-')}")
    return flag if isinstance(value, bool) else f"{flag} {_plain(value)}"


def _plain(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else shown(value).strip("'")
