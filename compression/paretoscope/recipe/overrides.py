"""Overrides: other settings for some layers."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, ClassVar

from paretoscope.base.errors import RecipeError
from paretoscope.base.text import MOST_NAMES, listed, shown
from paretoscope.recipe import schema
from paretoscope.recipe.plain import loads, mapping
from paretoscope.recipe.steps import STEPS, Prune, Quantize, Share
from paretoscope.recipe.values import ValueType, check_name

# The steps that an override may change for some layers.
LAYER_STEPS = ("prune", "share", "quantize")

LAYER_SETTINGS = tuple(
    name for step in LAYER_STEPS for name, each in schema.described(STEPS[step], step).items() if not each.whole
)


@dataclass(frozen=True, slots=True)
class Override:
    """Other settings for some layers: those whose name matches the pattern `layers`, e.g. "layer1.*".

    settings: pairs (name, value) of settings of prune, share and quantize that differ from the recipe's. A layer with a
    sparsity, threshold or pattern of its own is pruned alone and not ranked with the others.
    """

    layers: str
    settings: tuple[tuple[str, Any], ...]

    def __post_init__(self) -> None:
        if not isinstance(self.layers, str) or not self.layers:
            raise RecipeError(
                f'an override must say for which layers; got {shown(self.layers)}. Pass a name or a pattern, "conv*".'
            )
        check_name("layers of an override", self.layers)
        pairs = self.settings.items() if isinstance(self.settings, Mapping) else self.settings
        try:
            settings = {name: value for name, value in pairs}
        except (TypeError, ValueError):
            raise RecipeError(
                f"the settings of an override must be names with values; got {shown(self.settings)}. "
                'Pass e.g. {"bits": 8}.'
            ) from None
        unknown = sorted((name for name in settings if name not in LAYER_SETTINGS), key=shown)
        if unknown or not settings:
            raise RecipeError(
                f"an override may set {', '.join(LAYER_SETTINGS)}; got {listed(map(shown, unknown)) or 'nothing'}. "
                "Name one of these."
            )
        object.__setattr__(self, "settings", tuple(sorted(settings.items())))

    def matches(self, layer: str) -> bool:
        """Whether it is meant for a layer, by its name with or without ".weight"."""
        return fnmatchcase(layer, self.layers) or fnmatchcase(layer.removesuffix(".weight"), self.layers)


@dataclass(frozen=True, slots=True)
class LayerRecipe:
    """The steps for one layer. own_rate: whether an override prunes it alone."""

    prune: Prune | None
    share: Share | None
    quantize: Quantize | None
    own_rate: bool = False


@dataclass(frozen=True, slots=True)
class Overrides(ValueType):
    """A list of overrides; a link has them as JSON."""

    values: ClassVar[str] = "a pattern and settings"
    metavar: ClassVar[str] = "JSON"

    def check(self, name: str, value: Any) -> tuple[Override, ...]:
        if not isinstance(value, (list, tuple)) or not all(isinstance(each, Override) for each in value):
            raise RecipeError(f"{name} must be a list of overrides; got {shown(value)}. Pass [Override(...)].")
        if len(value) > MOST_NAMES:
            raise RecipeError(
                f"a recipe may have at most {MOST_NAMES} overrides; got {len(value)}. "
                'Join layers of equal settings by a pattern, "conv*".'
            )
        return tuple(value)

    def write(self, value: Any) -> str:
        return json.dumps([{"layers": o.layers, **dict(o.settings)} for o in value], separators=(",", ":"))


def overrides_of(value: object) -> tuple[Override, ...]:
    """Overrides from a list of them, of mappings, or from JSON text."""
    if isinstance(value, str):
        value = loads(value, "overrides")
    if not isinstance(value, (list, tuple)):
        raise RecipeError(f"overrides must be a list; got {shown(value)}. Write it as [{{...}}].")
    return tuple(each if isinstance(each, Override) else _override(each) for each in value)


def _override(data: object) -> Override:
    values = mapping("an override", data, ("layers", *LAYER_SETTINGS))
    return Override(values.pop("layers", None), tuple(values.items()))
