"""The recipe: the whole configuration of a compression, as an immutable value.

A recipe names at most one step of each kind. Steps always run in the order simplify, prune, share, quantize, repair,
recover, code, whatever the order in which they were chosen. Overrides refine prune, share and quantize for some layers.
A step that would do nothing (sparsity 0, 32 bits) is stored as absent and a setting that has no effect as its default,
so that two recipes with the same effect have the same digest.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from paretoscope.base.errors import RecipeError
from paretoscope.base.text import listed, nearest, shown
from paretoscope.recipe import schema
from paretoscope.recipe.conditions import FULL_PRECISION, INTEGER_BITS, Calibration, Rest, shared
from paretoscope.recipe.migrations import VERSION, migrated, migrated_query
from paretoscope.recipe.overrides import LAYER_SETTINGS, LAYER_STEPS, LayerRecipe, Override, Overrides, overrides_of
from paretoscope.recipe.plain import loads, mapping
from paretoscope.recipe.schema import Effect, Setting, setting
from paretoscope.recipe.steps import STEPS, Code, Prune, Quantize, Recover, Repair, Share, Simplify
from paretoscope.recipe.steps.code import Coder
from paretoscope.recipe.steps.prune import RULES, Scope
from paretoscope.recipe.steps.quantize import BITS, Granularity, Weighting
from paretoscope.recipe.steps.recover import Schedule
from paretoscope.recipe.steps.repair import Rounding
from paretoscope.recipe.steps.share import MAX_CLUSTERS, MIN_CLUSTERS, Moved, Start
from paretoscope.recipe.steps.simplify import Importance
from paretoscope.recipe.values import Switch, names

__all__ = [
    "BITS",
    "CALIBRATIONS",
    "CLIPPINGS",
    "CODERS",
    "DEFAULTS",
    "FULL_PRECISION",
    "GRANULARITIES",
    "IMPORTANCES",
    "INTEGER_BITS",
    "LAYER_SETTINGS",
    "MAX_CLUSTERS",
    "MIN_CLUSTERS",
    "MOVES",
    "REST_FORMATS",
    "ROUNDINGS",
    "RULES",
    "SCHEDULES",
    "SCOPES",
    "SETTINGS",
    "STARTS",
    "STEPS",
    "VERSION",
    "WEIGHTINGS",
    "Code",
    "LayerRecipe",
    "Override",
    "Prune",
    "Quantize",
    "Recipe",
    "Recover",
    "Repair",
    "Share",
    "Simplify",
]

IMPORTANCES = names(Importance)
SCOPES = names(Scope)
STARTS = names(Start)
MOVES = names(Moved)
GRANULARITIES = names(Granularity)
CALIBRATIONS = names(Calibration)
CLIPPINGS = tuple(name for name in CALIBRATIONS if name != Calibration.RATE)
WEIGHTINGS = names(Weighting)
ROUNDINGS = names(Rounding)
SCHEDULES = names(Schedule)
CODERS = names(Coder)
REST_FORMATS = names(Rest)


# How `describe` names the coder, where it is not the default.
_CODED: dict[str, list[str]] = {
    Coder.HUFFMAN: ["Huffman"],
    Coder.CONTEXT: ["context coded"],
    Coder.SMALLEST: ["smallest coding"],
}


@dataclass(frozen=True, slots=True)
class Recipe:
    """A whole configuration. `Recipe()` is the lossless one: nothing is changed, only coded.

    keep_ends: the first and the last layer keep at least 8 bits, of their own, whatever the others share.
    overrides: other settings for some layers; where several match, later ones win.
    """

    simplify: Simplify | None = None
    prune: Prune | None = None
    share: Share | None = None
    quantize: Quantize | None = None
    repair: Repair | None = None
    recover: Recover | None = None
    code: Code = field(default_factory=Code)
    keep_ends: bool = setting(
        False,
        of=Switch(),
        label="First and last layer at 8 bits",
        help="The first and the last layer keep at least 8 bits of their own: they are small and sensitive.",
        reference="mixed precision with first and last layers of 8 bits, Dong et al. 2019",
        effect=Effect(
            lambda s: shared(s) or s["bits"] < INTEGER_BITS,
            "clusters or fewer than 8 bits elsewhere",
            lambda s: {"bits": 4},
            layers=True,
        ),
    )
    overrides: tuple[Override, ...] = setting(
        (),
        of=Overrides(),
        label="Overrides",
        help='Other settings for some layers, by name or pattern: [{"layers": "conv1*", "bits": 8}]. Later ones win.',
        reference="mixed precision, layerwise configuration, Dong et al. 2019",
    )

    def __post_init__(self) -> None:
        for name, kind in STEPS.items():
            value = getattr(self, name)
            if not isinstance(value, kind) and (value is not None or name == "code"):
                raise RecipeError(
                    f"{name} must be a {kind.__name__} step; got {shown(value)}. Pass {kind.__name__}(...)."
                )
        schema.check(self)
        if self.simplify == Simplify():
            object.__setattr__(self, "simplify", None)
        if self.prune is not None and not (self.prune.sparsity or self.prune.threshold or self.prune.pattern):
            object.__setattr__(self, "prune", None)
        if self.quantize is not None and self.quantize.bits == FULL_PRECISION:
            object.__setattr__(self, "quantize", None)
        if self.quantize is not None and self.quantize.calibration == Calibration.RATE and self.share is not None:
            # The grid of a codebook has no harm to be weighed: its entries are far fewer than its weights.
            object.__setattr__(self, "quantize", dataclasses.replace(self.quantize, calibration=Calibration.MSE.value))
        if self.code.rest == Rest.RATE and (self.quantize is None or self.quantize.calibration != Calibration.RATE):
            object.__setattr__(self, "code", dataclasses.replace(self.code, rest=Rest.FP16.value))
        if self.repair == Repair():
            object.__setattr__(self, "repair", None)
        if self.recover is not None and self.recover.epochs == 0:
            object.__setattr__(self, "recover", None)
        for override in self.overrides:
            self._with(override.settings)
        if self.share is None and self.quantize is None and not self.overrides:
            object.__setattr__(self, "keep_ends", False)

    @classmethod
    def of(cls, **settings: Any) -> "Recipe":
        """A recipe from flat settings, as sliders, command-line options and links give them.

        The names are those of the steps' fields (see `Recipe().settings()`), and `overrides`: a list of Override, of
        mappings {"layers": ..., setting: value} or their JSON text. Settings left out have their defaults.
        """
        unknown = sorted(set(settings) - set(DEFAULTS))
        if unknown:
            raise RecipeError(
                f"a recipe has settings of its own names; got {listed(map(shown, unknown))}."
                f"{nearest(unknown[0], DEFAULTS)} All are listed by: python -m paretoscope recipe --help."
            )
        settings = {**DEFAULTS, **settings}
        if settings["clusters"] is None:
            # No step holds them then; nonsense is refused all the same.
            Share(MAX_CLUSTERS, **{each.name: settings[each.name] for each in dataclasses.fields(Share)[1:]})
        steps = {
            name: kind(**{each.name: settings[each.name] for each in dataclasses.fields(kind)})
            for name, kind in STEPS.items()
            if name != "share" or settings["clusters"] is not None
        }
        return cls(**steps, keep_ends=settings["keep_ends"], overrides=overrides_of(settings["overrides"]))

    def settings(self) -> dict[str, Any]:
        """The flat settings: `Recipe.of(**recipe.settings()) == recipe`."""
        result = dict(DEFAULTS)
        for name in STEPS:
            if (step := getattr(self, name)) is not None:
                result.update(dataclasses.asdict(step))
        return {**result, "keep_ends": self.keep_ends, "overrides": self.overrides}

    @property
    def untrained(self) -> "Recipe":
        """The recipe without its training."""
        return dataclasses.replace(self, recover=None)

    def with_setting(self, name: str, value: Any) -> "Recipe":
        """The recipe with one slider ("sparsity", "clusters" or "bits") moved; what cannot stay beside it goes.

        Training is of one recipe alone, so it goes too.
        """
        settings = {**self.untrained.settings(), name: value}
        if name == "sparsity" and value:
            settings.update(threshold=0.0, pattern="")
        if name == "clusters":
            settings["rarest"] = min(settings["rarest"], (value or 1) - 1)
        return Recipe.of(**settings)

    def _with(self, settings: tuple[tuple[str, Any], ...]) -> "Recipe":
        """The recipe for a layer that has these settings of its own."""
        own = dict(settings)
        values = {name: value for name, value in self.settings().items() if SETTINGS[name].step in LAYER_STEPS}
        if own.keys() & set(RULES):
            values.update({name: DEFAULTS[name] for name in RULES})
        values.update(own)
        if type(values["clusters"]) is int and "rarest" not in own:
            values["rarest"] = min(values["rarest"], max(0, values["clusters"] - 1))
        return Recipe.of(**values)

    def for_layer(self, name: str, *, end: bool = False) -> LayerRecipe:
        """The steps for the layer of this state-dict name; `end` says that it is the first or the last one."""
        own: dict[str, Any] = {}
        for override in self.overrides:
            if override.matches(name):
                settings = dict(override.settings)
                if settings.keys() & set(RULES):
                    own = {name: value for name, value in own.items() if name not in RULES}
                own.update(settings)
        recipe = self._with(tuple(own.items())) if own else self
        share, quantize = recipe.share, recipe.quantize
        if end and self.keep_ends and (share is not None or quantize is not None):
            share = None
            bits = INTEGER_BITS if quantize is None else max(quantize.bits, INTEGER_BITS)
            quantize = dataclasses.replace(quantize or Quantize(bits), bits=bits)
        alone = bool(own.keys() & set(RULES))
        return LayerRecipe(recipe.prune, share, quantize, alone)

    def to_query(self) -> dict[str, str]:
        """The settings as the texts of a link: the three sliders always, the others where they are not the default."""
        return {
            name: SETTINGS[name].kind.write(value)
            for name, value in self.settings().items()
            if SETTINGS[name].prominent or value != DEFAULTS[name]
        }

    @classmethod
    def from_query(cls, query: Mapping[str, str]) -> "Recipe":
        """Read what `to_query` wrote, or a part of it; raises RecipeError."""
        return cls.of(**cls.parsed(query))

    @staticmethod
    def parsed(query: Mapping[str, str]) -> dict[str, Any]:
        """The flat settings that a link states, as it states them; raises RecipeError."""
        query = migrated_query(query)
        unknown = sorted(set(query) - set(DEFAULTS))
        if unknown:
            raise RecipeError(
                f"a link may set what a recipe has; got {listed(map(shown, unknown))}."
                f"{nearest(unknown[0], DEFAULTS)} Remove what is no setting."
            )
        return {name: SETTINGS[name].kind.read(name, text, SETTINGS[name].sample) for name, text in query.items()}

    @property
    def bits(self) -> int:
        """Bits of the quantization grid; 32 when the recipe does not quantize."""
        return self.quantize.bits if self.quantize else FULL_PRECISION

    @property
    def integer(self) -> bool:
        """Whether activations are integers too, so that layers of at most 8 bits run on integer kernels."""
        quantize = self.quantize
        return quantize is not None and quantize.bits <= INTEGER_BITS and quantize.activations == INTEGER_BITS

    @property
    def by_fisher(self) -> bool:
        """Whether a layer is quantized by rate and by what its errors cost on calibration samples."""
        plans = [self, *(self._with(override.settings) for override in self.overrides)]
        steps = [plan.quantize for plan in plans if plan.quantize is not None]
        return any(step.calibration == Calibration.RATE and step.weighting == Weighting.FISHER for step in steps)

    @property
    def graph_key(self) -> str:
        """What the recipe makes of the network's graph: recipes of equal keys run the same kernels on the same shapes.

        "" where the graph is the baseline's, but for the number format.
        """
        graph: dict[str, Any] = {"simplify": _written(self.simplify)} if self.simplify else {}
        if self.integer:
            # Layers of more than 8 bits stay on floats.
            bits = [(override.layers, dict(override.settings).get("bits")) for override in self.overrides]
            floats = [[layers, own > INTEGER_BITS] for layers, own in bits if own is not None]
            if any(wide for _, wide in floats):
                graph["floats"] = [self.keep_ends, floats]
        return json.dumps(graph, sort_keys=True) if graph else ""

    @property
    def lossless(self) -> bool:
        """Whether every weight decodes to exactly the float that it was."""
        return self == Recipe(code=Code(self.code.coder))

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON form, as 64 hexadecimal characters."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def describe(self) -> str:
        """One line for a person, settings that are not the default named: "80 % sparse, 16 clusters, 8 bits, mse"."""
        steps = (self.simplify, self.prune, self.share, self.quantize, self.repair, self.recover)
        parts = [words for step in steps if step is not None for words in step.describe()]
        parts += ["ends at 8 bits"] * self.keep_ends
        count = len(self.overrides)
        parts += [f"{count} override{'s' * (count > 1)}"] * bool(count)
        parts = parts or ["no change"]
        parts += _CODED.get(self.code.coder, [])
        parts += [f"{self.code.rest} rest"] * (self.code.rest != Rest.FP32)
        return ", ".join(parts)

    def to_dict(self) -> dict[str, Any]:
        """Plain data with a version; absent steps and most settings at their default are left out."""
        data: dict[str, Any] = {"version": VERSION}
        for name in STEPS:
            if (step := getattr(self, name)) is not None:
                data[name] = _written(step)
        if self.keep_ends:
            data["keep_ends"] = True
        if self.overrides:
            data["overrides"] = [{"layers": o.layers, **dict(o.settings)} for o in self.overrides]
        return data

    def to_json(self, indent: int | None = None) -> str:
        """The JSON form: sorted keys, so that equal recipes have equal texts."""
        separators = (",", ":") if indent is None else None
        return json.dumps(self.to_dict(), sort_keys=True, indent=indent, separators=separators)

    @classmethod
    def from_dict(cls, data: object) -> "Recipe":
        """Read plain data from outside; raises RecipeError on anything that `to_dict` could not have written."""
        fields = mapping("a recipe", migrated(data), ("version", *STEPS, *schema.described(cls)))
        version = fields.pop("version", None)
        if type(version) is not int or version != VERSION:
            raise RecipeError(
                f'version must be {VERSION}; got {shown(version)}. Add "version": {VERSION}, '
                "or export the recipe again."
            )
        keep_ends, overrides = fields.pop("keep_ends", False), overrides_of(fields.pop("overrides", []))
        steps = {name: _step(name, value) for name, value in fields.items()}
        return cls(**steps, keep_ends=keep_ends, overrides=overrides)

    @classmethod
    def from_json(cls, text: str | bytes) -> "Recipe":
        """Read the JSON form; raises RecipeError."""
        return cls.from_dict(loads(text, "a recipe"))


SETTINGS: dict[str, Setting] = {
    name: each for step, owner in (*STEPS.items(), ("", Recipe)) for name, each in schema.described(owner, step).items()
}

DEFAULTS: dict[str, Any] = {name: each.default for name, each in SETTINGS.items()}


def _written(step: Any) -> dict[str, Any]:
    return {
        each.name: list(value) if isinstance(value, tuple) else value
        for each in dataclasses.fields(step)
        if (value := getattr(step, each.name)) != each.default or SETTINGS[each.name].written
    }


def _step(name: str, data: object) -> Any:
    kind = STEPS[name]
    fields = dataclasses.fields(kind)
    values = mapping(name, data, tuple(f.name for f in fields))
    for f in fields:
        if f.default is dataclasses.MISSING and f.name not in values:
            raise RecipeError(f"{name} must state {f.name}; it is missing. Add it, or leave the step out.")
    return kind(**values)
