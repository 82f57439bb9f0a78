"""The recipe: the whole configuration of a compression, as an immutable value.

A recipe names at most one step of each kind. Steps always run in the order simplify, prune, share, quantize, repair,
code, whatever the order in which they were chosen. Overrides refine prune, share and quantize for some layers. A step
that would do nothing (sparsity 0, 32 bits) is stored as absent and a setting that has no effect as its default, so that
two recipes with the same effect have the same digest.
"""

import dataclasses
import hashlib
import json
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from compression.errors import RecipeError

VERSION = 1

IMPORTANCES = ("l1", "l2", "bn")
SCOPES = ("global", "layer")
STARTS = ("optimal", "linear", "density", "k-means++", "best")
MOVES = ("zero", "nearest")
GRANULARITIES = ("channel", "tensor")
CALIBRATIONS = ("range", "mse", "percentile", "kl")
ROUNDINGS = ("nearest", "gptq")
CODERS = ("ans", "huffman")
REST_FORMATS = ("fp32", "fp16")

FULL_PRECISION = 32
INTEGER_BITS = 8
BITS = (*range(1, 17), 32)
MIN_CLUSTERS, MAX_CLUSTERS = 2, 256


def _shown(value: object) -> str:
    """A value for a message: short, whatever it is."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):
        return f"a {type(value).__name__} too large to print"
    return text if len(text) <= 60 else f"{text[:57]}..."


def _choice(name: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        options = " or ".join(repr(option) for option in allowed)
        raise RecipeError(f"{name} must be {options}; got {_shown(value)}. Choose one of these names.")


def _integer(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise RecipeError(f"{name} must be a whole number; got {_shown(value)}. Pass an integer, e.g. 8.")


def _count(name: str, value: object) -> None:
    _integer(name, value)
    if not 0 <= value <= sys.maxsize:
        raise RecipeError(f"{name} must be 0 or more; got {_shown(value)}. Pass e.g. 2, or 0 for none.")


def _switch(name: str, value: object) -> None:
    if not isinstance(value, bool):
        raise RecipeError(f"{name} must be true or false; got {_shown(value)}. Pass one of the two.")


def _number(name: str, value: object, rule: str, holds: Any, remedy: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) <= sys.float_info.max:
        raise RecipeError(f"{name} must be a number {rule}; got {_shown(value)}. {remedy}")
    if not holds(value):
        raise RecipeError(f"{name} must be {rule}; got {value:g}. {remedy}")
    return float(value)


def _fraction(name: str, value: object) -> float:
    return _number(name, value, "in [0, 1)", lambda v: 0 <= v < 1, "Pass a fraction, e.g. 0.95.")


@dataclass(frozen=True, slots=True)
class Simplify:
    """Architecture simplification: a smaller network of the same kind, before anything else.

    In this order: the blocks named in `drop` and then the `blocks` of least measured harm are removed; the fraction
    `nodes` of the channels and neurons is removed, least importance first; batch normalisation is folded into the
    convolution before it (`fold`); consecutive linear maps are merged (`merge`); linear and 1x1 layers are replaced by
    two thinner ones that keep the fraction `energy` of the squared singular values, where that saves (1: off).
    importance: of a channel, by the "l1" or "l2" norm of its weights or its batch normalisation scale, "bn".
    """

    nodes: float = 0.0
    importance: str = "l2"
    drop: tuple[str, ...] = ()
    blocks: int = 0
    fold: bool = False
    merge: bool = False
    energy: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "nodes", _fraction("nodes", self.nodes))
        _choice("importance", self.importance, IMPORTANCES)
        named = isinstance(self.drop, (list, tuple)) and all(isinstance(name, str) for name in self.drop)
        if not named or any(not name or "," in name for name in self.drop):
            raise RecipeError(f'drop must be a list of block names; got {_shown(self.drop)}. Pass e.g. ["layer2.1"].')
        object.__setattr__(self, "drop", tuple(sorted(set(self.drop))))
        _count("blocks", self.blocks)
        _switch("fold", self.fold)
        _switch("merge", self.merge)
        energy = _number("energy", self.energy, "in (0, 1]", lambda v: 0 < v <= 1, "Pass e.g. 0.9, or 1 for none.")
        object.__setattr__(self, "energy", energy)
        if self.nodes == 0:
            object.__setattr__(self, "importance", "l2")


@dataclass(frozen=True, slots=True)
class Prune:
    """Magnitude pruning: the smallest weights become zero.

    One of three rules. sparsity: fraction of the compressible weights to zero, in [0, 1); scope "global" ranks the
    weights of all layers together, "layer" takes the same fraction of each. threshold: every weight of a magnitude
    below it. pattern: "N:M", the N largest of every M consecutive weights of an output channel's inputs stay.
    """

    sparsity: float = 0.0
    scope: str = "global"
    threshold: float = 0.0
    pattern: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "sparsity", _fraction("sparsity", self.sparsity))
        _choice("scope", self.scope, SCOPES)
        threshold = _number(
            "threshold", self.threshold, "of at least 0", lambda v: v >= 0, "Pass a magnitude, e.g. 0.01."
        )
        object.__setattr__(self, "threshold", threshold)
        self._check_pattern()
        if bool(self.sparsity) + bool(self.threshold) + bool(self.pattern) > 1:
            raise RecipeError(
                f"prune must follow one rule of sparsity, threshold and pattern; got sparsity {self.sparsity:g}, "
                f"threshold {self.threshold:g}, pattern {self.pattern!r}. Leave two of them out."
            )
        if self.threshold or self.pattern:
            object.__setattr__(self, "scope", "global")

    def _check_pattern(self) -> None:
        match = re.fullmatch(r"(\d{1,3}):(\d{1,3})", self.pattern) if isinstance(self.pattern, str) else None
        if self.pattern != "" and (match is None or not 1 <= int(match[1]) < int(match[2])):
            raise RecipeError(
                f"pattern must be N:M with 1 <= N < M, N weights of every M stay; got {_shown(self.pattern)}. "
                "Pass e.g. 2:4."
            )

    @property
    def kept_of(self) -> tuple[int, int]:
        """N and M of the pattern."""
        kept, group = self.pattern.split(":")
        return int(kept), int(group)


@dataclass(frozen=True, slots=True)
class Share:
    """Weight sharing: the non-zero weights of a layer take at most `clusters` different values (k-means).

    start: of k-means; "optimal" is the optimal grouping, "best" the least error of "linear", "density", "k-means++".
    Afterwards groups of fewer than `population` weights and the `rarest` groups are dropped; their weights become
    zero or move to the nearest group left, as `moved` says ("zero" or "nearest").
    """

    clusters: int
    start: str = "optimal"
    population: int = 0
    rarest: int = 0
    moved: str = "nearest"

    def __post_init__(self) -> None:
        _integer("clusters", self.clusters)
        if not MIN_CLUSTERS <= self.clusters <= MAX_CLUSTERS:
            raise RecipeError(
                f"clusters must be in {MIN_CLUSTERS}..{MAX_CLUSTERS}; got {_shown(self.clusters)}. "
                "Pass e.g. 16, or leave the step out to share no weights."
            )
        _choice("start", self.start, STARTS)
        _count("population", self.population)
        _count("rarest", self.rarest)
        _choice("moved", self.moved, MOVES)
        if self.rarest >= self.clusters:
            raise RecipeError(
                f"rarest must be less than clusters; got {_shown(self.rarest)} of {self.clusters}. Keep one group."
            )
        if not self.population and not self.rarest:
            object.__setattr__(self, "moved", "nearest")


@dataclass(frozen=True, slots=True)
class Quantize:
    """Integer quantization: weights are rounded to `bits`-bit integers times a scale; 1 bit is binarization.

    bits: 32 (off), or 1..16. granularity: one scale per output "channel" or per "tensor".
    calibration: scale from the "range" (largest magnitude), or a clipping of least squared error ("mse"), at a
    "percentile" of the magnitudes (`percentile`, of 100) or of least KL divergence ("kl").
    symmetric: False adds a zero point, for weights that are not centred. A shared codebook always has one symmetric
    scale per tensor.
    1 bit only: any calibration but "range" means the mean magnitude; `power_of_two` rounds it to a power of two;
    `ternary` > 0 zeroes weights below `ternary` times the mean magnitude (Ternary Weight Networks: 0.7).
    activations: 32 for floats, or 8, so that layers whose weights have at most 8 bits run on integer kernels.
    """

    bits: int
    granularity: str = "channel"
    calibration: str = "range"
    percentile: float = 99.9
    symmetric: bool = True
    power_of_two: bool = False
    ternary: float = 0.0
    activations: int = FULL_PRECISION

    def __post_init__(self) -> None:
        _integer("bits", self.bits)
        if self.bits not in BITS:
            raise RecipeError(f"bits must be 32 or 1..16; got {_shown(self.bits)}. Pass e.g. 8, or 32 for none.")
        _choice("granularity", self.granularity, GRANULARITIES)
        _choice("calibration", self.calibration, CALIBRATIONS)
        percentile = _number("percentile", self.percentile, "in (50, 100]", lambda v: 50 < v <= 100, "Pass e.g. 99.9.")
        _switch("symmetric", self.symmetric)
        _switch("power_of_two", self.power_of_two)
        ternary = _number("ternary", self.ternary, "in [0, 3]", lambda v: 0 <= v <= 3, "Pass e.g. 0.7, or 0 for none.")
        if isinstance(self.activations, bool) or self.activations not in (INTEGER_BITS, FULL_PRECISION):
            raise RecipeError(
                f"activations must be 8 or 32; got {_shown(self.activations)}. Pass 8 for integer kernels, or 32."
            )
        binary = self.bits == 1
        effective = {
            "calibration": "mse" if binary and self.calibration != "range" else self.calibration,
            "percentile": percentile if self.calibration == "percentile" and not binary else 99.9,
            "symmetric": self.symmetric or binary,
            "power_of_two": self.power_of_two and binary,
            "ternary": ternary if binary else 0.0,
            "activations": self.activations if self.bits <= INTEGER_BITS else FULL_PRECISION,
        }
        for name, value in effective.items():
            object.__setattr__(self, name, value)


@dataclass(frozen=True, slots=True)
class Repair:
    """What wins back accuracy without training, from calibration samples of the train split.

    rounding: "nearest", or "gptq", which lets each column of weights make good the rounding errors of those before.
    bias: shifts each layer's output back to the mean that it had. batchnorm: re-estimates the statistics of batch
    normalisation.
    """

    rounding: str = "nearest"
    bias: bool = False
    batchnorm: bool = False

    def __post_init__(self) -> None:
        _choice("rounding", self.rounding, ROUNDINGS)
        _switch("bias", self.bias)
        _switch("batchnorm", self.batchnorm)


@dataclass(frozen=True, slots=True)
class Code:
    """How the artefact is written.

    coder: entropy coder of the weight codes, "ans" (asymmetric numeral systems) or "huffman".
    rest: format of biases and normalisation parameters, "fp32" or "fp16".
    """

    coder: str = "ans"
    rest: str = "fp32"

    def __post_init__(self) -> None:
        _choice("coder", self.coder, CODERS)
        _choice("rest", self.rest, REST_FORMATS)


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
                f'an override must say for which layers; got {_shown(self.layers)}. Pass a name or a pattern, "conv*".'
            )
        pairs = self.settings.items() if isinstance(self.settings, Mapping) else self.settings
        try:
            settings = {name: value for name, value in pairs}
        except (TypeError, ValueError):
            raise RecipeError(
                f"the settings of an override must be names with values; got {_shown(self.settings)}. "
                'Pass e.g. {"bits": 8}.'
            ) from None
        unknown = sorted((name for name in settings if name not in LAYER_SETTINGS), key=_shown)
        if unknown or not settings:
            raise RecipeError(
                f"an override may set {', '.join(LAYER_SETTINGS)}; got {', '.join(map(_shown, unknown)) or 'nothing'}. "
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
    code: Code = field(default_factory=Code)
    keep_ends: bool = False
    overrides: tuple[Override, ...] = ()

    def __post_init__(self) -> None:
        for name, kind in STEPS.items():
            value = getattr(self, name)
            if not isinstance(value, kind) and (value is not None or name == "code"):
                raise RecipeError(
                    f"{name} must be a {kind.__name__} step; got {_shown(value)}. Pass {kind.__name__}(...)."
                )
        _switch("keep_ends", self.keep_ends)
        if not isinstance(self.overrides, (list, tuple)) or not all(isinstance(o, Override) for o in self.overrides):
            raise RecipeError(
                f"overrides must be a list of overrides; got {_shown(self.overrides)}. Pass [Override(...)]."
            )
        object.__setattr__(self, "overrides", tuple(self.overrides))
        if self.simplify == Simplify():
            object.__setattr__(self, "simplify", None)
        if self.prune is not None and not (self.prune.sparsity or self.prune.threshold or self.prune.pattern):
            object.__setattr__(self, "prune", None)
        if self.quantize is not None and self.quantize.bits == FULL_PRECISION:
            object.__setattr__(self, "quantize", None)
        if self.repair == Repair():
            object.__setattr__(self, "repair", None)
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
        unknown = sorted(set(settings) - set(_DEFAULTS))
        if unknown:
            raise RecipeError(
                f"a recipe has the settings {', '.join(_DEFAULTS)}; got {', '.join(unknown)}. Name one of these."
            )
        settings = {**_DEFAULTS, **settings}
        steps = {
            name: kind(**{each.name: settings[each.name] for each in dataclasses.fields(kind)})
            for name, kind in STEPS.items()
            if name != "share" or settings["clusters"] is not None
        }
        return cls(**steps, keep_ends=settings["keep_ends"], overrides=_overrides(settings["overrides"]))

    def settings(self) -> dict[str, Any]:
        """The flat settings: `Recipe.of(**recipe.settings()) == recipe`."""
        result = dict(_DEFAULTS)
        for name in STEPS:
            if (step := getattr(self, name)) is not None:
                result.update(dataclasses.asdict(step))
        return {**result, "keep_ends": self.keep_ends, "overrides": self.overrides}

    def with_setting(self, name: str, value: Any) -> "Recipe":
        """The recipe with one slider ("sparsity", "clusters" or "bits") moved; what cannot stay beside it goes."""
        settings = {**self.settings(), name: value}
        if name == "sparsity" and value:
            settings.update(threshold=0.0, pattern="")
        if name == "clusters":
            settings["rarest"] = min(settings["rarest"], (value or 1) - 1)
        return Recipe.of(**settings)

    def _with(self, settings: tuple[tuple[str, Any], ...]) -> "Recipe":
        """The recipe for a layer that has these settings of its own."""
        own = dict(settings)
        everywhere = (*LAYER_SETTINGS, "activations")
        values = {name: value for name, value in self.settings().items() if name in everywhere}
        if own.keys() & set(_RULES):
            values.update({name: _DEFAULTS[name] for name in _RULES})
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
                if settings.keys() & set(_RULES):
                    own = {name: value for name, value in own.items() if name not in _RULES}
                own.update(settings)
        recipe = self._with(tuple(own.items())) if own else self
        share, quantize = recipe.share, recipe.quantize
        if end and self.keep_ends and (share is not None or quantize is not None):
            share = None
            bits = INTEGER_BITS if quantize is None else max(quantize.bits, INTEGER_BITS)
            quantize = dataclasses.replace(quantize or Quantize(bits), bits=bits)
        alone = bool(own.keys() & set(_RULES))
        return LayerRecipe(recipe.prune, share, quantize, alone)

    def to_query(self) -> dict[str, str]:
        """The settings as the texts of a link: the three sliders always, the others where they are not the default."""
        always = ("sparsity", "clusters", "bits")
        return {
            name: _TEXTS.get(name, _text)(value)
            for name, value in self.settings().items()
            if name in always or value != _DEFAULTS[name]
        }

    @classmethod
    def from_query(cls, query: Mapping[str, str]) -> "Recipe":
        """Read what `to_query` wrote, or a part of it; raises RecipeError."""
        unknown = sorted(set(query) - set(_DEFAULTS))
        if unknown:
            raise RecipeError(
                f"a link may set {', '.join(_DEFAULTS)}; got {', '.join(unknown)}. Remove what is not in that list."
            )
        return cls.of(**{name: _parsed(name, text) for name, text in query.items()})

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
    def form(self) -> str:
        """What the recipe makes of the network's graph: recipes of equal form run the same kernels on the same shapes.

        "" where the graph is the baseline's, but for the number format.
        """
        form: dict[str, Any] = {"simplify": _written(self.simplify)} if self.simplify else {}
        if self.integer:
            # Layers of more than 8 bits stay on floats.
            bits = [[override.layers, dict(override.settings).get("bits")] for override in self.overrides]
            floats = [[layers, own > INTEGER_BITS] for layers, own in bits if own is not None]
            if any(wide for _, wide in floats):
                form["floats"] = [self.keep_ends, floats]
        return json.dumps(form, sort_keys=True) if form else ""

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
        parts = [*_simplified(self.simplify), *_pruned(self.prune), *_shared(self.share), *_quantized(self.quantize)]
        parts += _repaired(self.repair)
        parts += ["ends at 8 bits"] * self.keep_ends
        count = len(self.overrides)
        parts += [f"{count} override{'s' * (count > 1)}"] * bool(count)
        parts = parts or ["no change"]
        parts += ["Huffman"] * (self.code.coder == "huffman")
        parts += ["fp16 rest"] * (self.code.rest == "fp16")
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
        fields = _mapping("a recipe", data, ("version", *STEPS, "keep_ends", "overrides"))
        version = fields.pop("version", None)
        if type(version) is not int or version != VERSION:
            raise RecipeError(
                f'version must be {VERSION}; got {_shown(version)}. Add "version": {VERSION}, '
                "or export the recipe again."
            )
        keep_ends, overrides = fields.pop("keep_ends", False), _overrides(fields.pop("overrides", []))
        steps = {name: _step(name, value) for name, value in fields.items()}
        return cls(**steps, keep_ends=keep_ends, overrides=overrides)

    @classmethod
    def from_json(cls, text: str | bytes) -> "Recipe":
        """Read the JSON form; raises RecipeError."""
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise RecipeError(f"a recipe must be JSON text; {error}. Export one to see the form.") from None
        return cls.from_dict(data)


STEPS = {
    "simplify": Simplify,
    "prune": Prune,
    "share": Share,
    "quantize": Quantize,
    "repair": Repair,
    "code": Code,
}

# Written even at their default, so that a recipe's text says what the sliders do.
_ALWAYS = ("sparsity", "scope", "clusters", "bits", "granularity", "calibration", "coder", "rest")

LAYER_SETTINGS = tuple(
    each.name for kind in (Prune, Share, Quantize) for each in dataclasses.fields(kind) if each.name != "activations"
)

# Of pruning: one at a time.
_RULES = ("sparsity", "threshold", "pattern")

_DEFAULTS: dict[str, Any] = {
    **{
        each.name: {"clusters": None, "bits": FULL_PRECISION}.get(each.name, each.default)
        for kind in STEPS.values()
        for each in dataclasses.fields(kind)
    },
    "keep_ends": False,
    "overrides": (),
}

_SAMPLES = {"sparsity": "0.8", "clusters": "16", "bits": "8", "pattern": "2:4"}


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return "off" if value is None else str(value)


_TEXTS = {
    "drop": ",".join,
    "overrides": lambda overrides: json.dumps(
        [{"layers": o.layers, **dict(o.settings)} for o in overrides], separators=(",", ":")
    ),
}


def _parsed(name: str, text: str) -> Any:
    """The value of a setting from the text of a link."""
    default = _DEFAULTS[name]
    if name in ("overrides",):
        return text
    if name == "drop":
        return tuple(filter(None, text.split(",")))
    if name == "clusters" and text == "off":
        return None
    if isinstance(default, bool):
        if text not in ("on", "off"):
            raise RecipeError(f"{name} in a link must be on or off; got {_shown(text)}. Write e.g. {name}=on.")
        return text == "on"
    kind = int if name == "clusters" else type(default)
    try:
        return kind(text)
    except ValueError:
        raise RecipeError(
            f"{name} in a link must be a number; got {_shown(text)}. Write e.g. {name}={_SAMPLES.get(name, default)}."
        ) from None


def _overrides(value: object) -> tuple[Override, ...]:
    """Overrides from a list of them, of mappings, or from JSON text."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise RecipeError(f"overrides must be JSON text; {error}. Export a recipe to see the form.") from None
    if not isinstance(value, (list, tuple)):
        raise RecipeError(f"overrides must be a list; got {_shown(value)}. Write it as [{{...}}].")
    return tuple(each if isinstance(each, Override) else _override(each) for each in value)


def _override(data: object) -> Override:
    values = _mapping("an override", data, ("layers", *LAYER_SETTINGS))
    return Override(values.pop("layers", None), tuple(values.items()))


def _written(step: Any) -> dict[str, Any]:
    return {
        each.name: list(value) if isinstance(value, tuple) else value
        for each in dataclasses.fields(step)
        if (value := getattr(step, each.name)) != each.default or each.name in _ALWAYS
    }


def _mapping(what: str, data: object, allowed: tuple[str, ...]) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise RecipeError(f"{what} must be a JSON object; got {_shown(data)}. Write it as {{...}}.")
    unknown = sorted((name for name in data if name not in allowed), key=_shown)
    if unknown:
        raise RecipeError(
            f"{what} may have the fields {', '.join(allowed)}; got {', '.join(map(_shown, unknown))}. "
            "Remove or rename what is not in that list."
        )
    return dict(data)


def _step(name: str, data: object) -> Any:
    kind = STEPS[name]
    fields = dataclasses.fields(kind)
    values = _mapping(name, data, tuple(f.name for f in fields))
    for f in fields:
        if f.default is dataclasses.MISSING and f.name not in values:
            raise RecipeError(f"{name} must state {f.name}; it is missing. Add it, or leave the step out.")
    return kind(**values)


def _simplified(step: Simplify | None) -> list[str]:
    if step is None:
        return []
    blocks = len(step.drop) + step.blocks
    return [
        *[f"{blocks} block{'s' * (blocks > 1)} dropped"] * bool(blocks),
        *[f"{100 * step.nodes:.4g} % of nodes removed ({step.importance})"] * bool(step.nodes),
        *["batch norm folded"] * step.fold,
        *["linear merged"] * step.merge,
        *[f"rank at {100 * step.energy:.4g} % energy"] * (step.energy < 1),
    ]


def _pruned(step: Prune | None) -> list[str]:
    if step is None:
        return []
    if step.pattern:
        return [f"{step.pattern} sparse"]
    if step.threshold:
        return [f"weights below {step.threshold:.4g} zero"]
    return [f"{100 * step.sparsity:.4g} % sparse" + " in each layer" * (step.scope == "layer")]


def _shared(step: Share | None) -> list[str]:
    if step is None:
        return []
    dropped = [f"groups under {step.population} weights"] * bool(step.population)
    dropped += [f"{step.rarest} rarest"] * bool(step.rarest)
    return [
        f"{step.clusters} clusters",
        *[f"{step.start} start"] * (step.start != "optimal"),
        *[f"{' and '.join(dropped)} to {step.moved}"] * bool(dropped),
    ]


def _quantized(step: Quantize | None) -> list[str]:
    if step is None:
        return []
    binary = f"ternary ({step.ternary:g})" if step.ternary else "binary"
    clipping = {"range": [], "percentile": [f"{step.percentile:g}th percentile"]}
    return [
        binary if step.bits == 1 else f"{step.bits} bits",
        *["per tensor"] * (step.granularity == "tensor"),
        *clipping.get(step.calibration, [step.calibration]),
        *["asymmetric"] * (not step.symmetric),
        *["power of two"] * step.power_of_two,
        *["integer kernels"] * (step.activations == INTEGER_BITS),
    ]


def _repaired(step: Repair | None) -> list[str]:
    if step is None:
        return []
    return [
        *["gptq"] * (step.rounding == "gptq"),
        *["bias corrected"] * step.bias,
        *["batch norm re-estimated"] * step.batchnorm,
    ]
