"""The recipe: the whole configuration of a compression, as an immutable value.

A recipe names at most one step of each kind. Steps always run in the order prune, share, quantize, code, whatever
the order in which they were chosen. A step that would do nothing (sparsity 0, 32 bits) is stored as absent, so
that two recipes with the same effect have the same digest.
"""

import dataclasses
import hashlib
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from compression.errors import RecipeError

VERSION = 1

SCOPES = ("global", "layer")
GRANULARITIES = ("channel", "tensor")
CALIBRATIONS = ("range", "mse")
CODERS = ("ans", "huffman")
REST_FORMATS = ("fp32", "fp16")

FULL_PRECISION = 32
BITS = (1, 2, 3, 4, 5, 6, 7, 8, 16, 32)
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


@dataclass(frozen=True, slots=True)
class Prune:
    """Magnitude pruning: the smallest weights become zero.

    sparsity: fraction of the compressible weights to zero, in [0, 1).
    scope: "global" ranks the weights of all layers together, "layer" takes the same fraction of each layer.
    """

    sparsity: float
    scope: str = "global"

    def __post_init__(self) -> None:
        value = self.sparsity
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) <= sys.float_info.max:
            raise RecipeError(f"sparsity must be a number in [0, 1); got {_shown(value)}. Pass a fraction, e.g. 0.95.")
        if not 0 <= value < 1:
            raise RecipeError(f"sparsity must be in [0, 1); got {value:g}. Pass a fraction, e.g. 0.95.")
        object.__setattr__(self, "sparsity", float(value))
        _choice("scope", self.scope, SCOPES)


@dataclass(frozen=True, slots=True)
class Share:
    """Weight sharing: the non-zero weights of a layer take at most `clusters` different values (k-means)."""

    clusters: int

    def __post_init__(self) -> None:
        _integer("clusters", self.clusters)
        if not MIN_CLUSTERS <= self.clusters <= MAX_CLUSTERS:
            raise RecipeError(
                f"clusters must be in {MIN_CLUSTERS}..{MAX_CLUSTERS}; got {_shown(self.clusters)}. "
                "Pass e.g. 16, or leave the step out to share no weights."
            )


@dataclass(frozen=True, slots=True)
class Quantize:
    """Integer quantization: weights are rounded to `bits`-bit integers times a scale; 1 bit is binarization.

    bits: 32 (off), 16, or 1..8.
    granularity: one scale per output "channel" or per "tensor"; a shared codebook always has one per tensor.
    calibration: scale from the "range" (largest magnitude) or from the clipping of least squared error, "mse".
    """

    bits: int
    granularity: str = "channel"
    calibration: str = "range"

    def __post_init__(self) -> None:
        _integer("bits", self.bits)
        if self.bits not in BITS:
            raise RecipeError(f"bits must be 32, 16 or 1..8; got {_shown(self.bits)}. Pass e.g. 8, or 32 for none.")
        _choice("granularity", self.granularity, GRANULARITIES)
        _choice("calibration", self.calibration, CALIBRATIONS)


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
class Recipe:
    """A whole configuration. `Recipe()` is the lossless one: nothing is changed, only coded."""

    prune: Prune | None = None
    share: Share | None = None
    quantize: Quantize | None = None
    code: Code = field(default_factory=Code)

    def __post_init__(self) -> None:
        for name, kind in STEPS.items():
            value = getattr(self, name)
            if not isinstance(value, kind) and (value is not None or name == "code"):
                raise RecipeError(
                    f"{name} must be a {kind.__name__} step; got {_shown(value)}. Pass {kind.__name__}(...)."
                )
        if self.prune is not None and self.prune.sparsity == 0:
            object.__setattr__(self, "prune", None)
        if self.quantize is not None and self.quantize.bits == FULL_PRECISION:
            object.__setattr__(self, "quantize", None)

    @classmethod
    def of(
        cls,
        *,
        sparsity: float = 0.0,
        scope: str = "global",
        clusters: int | None = None,
        bits: int = FULL_PRECISION,
        granularity: str = "channel",
        calibration: str = "range",
        coder: str = "ans",
        rest: str = "fp32",
    ) -> "Recipe":
        """A recipe from flat settings, as sliders, command-line options and links give them."""
        return cls(
            prune=Prune(sparsity, scope),
            share=None if clusters is None else Share(clusters),
            quantize=Quantize(bits, granularity, calibration),
            code=Code(coder, rest),
        )

    def settings(self) -> dict[str, Any]:
        """The flat settings: `Recipe.of(**recipe.settings()) == recipe`."""
        prune = self.prune or Prune(0.0)
        quantize = self.quantize or Quantize(FULL_PRECISION)
        return {
            **dataclasses.asdict(prune),
            "clusters": self.share.clusters if self.share else None,
            **dataclasses.asdict(quantize),
            **dataclasses.asdict(self.code),
        }

    def to_query(self) -> dict[str, str]:
        """The settings as the texts of a link: the three sliders always, the others where they are not the default."""
        settings, defaults = self.settings(), Recipe().settings()
        always = ("sparsity", "clusters", "bits")
        shown = {name: value for name, value in settings.items() if name in always or value != defaults[name]}
        return {name: "off" if value is None else str(value) for name, value in shown.items()}

    @classmethod
    def from_query(cls, query: Mapping[str, str]) -> "Recipe":
        """Read what `to_query` wrote, or a part of it; raises RecipeError."""
        known = Recipe().settings()
        unknown = sorted(set(query) - set(known))
        if unknown:
            raise RecipeError(
                f"a link may set {', '.join(known)}; got {', '.join(unknown)}. Remove what is not in that list."
            )
        kinds = {"sparsity": float, "clusters": int, "bits": int}
        settings: dict[str, Any] = {}
        for name, text in query.items():
            if name == "clusters" and text == "off":
                continue
            try:
                settings[name] = kinds.get(name, str)(text)
            except ValueError:
                raise RecipeError(
                    f"{name} in a link must be a number; got {_shown(text)}. Write e.g. {name}={_SAMPLES[name]}."
                ) from None
        return cls.of(**settings)

    @property
    def bits(self) -> int:
        """Bits of the quantization grid; 32 when the recipe does not quantize."""
        return self.quantize.bits if self.quantize else FULL_PRECISION

    @property
    def lossless(self) -> bool:
        """Whether every weight decodes to exactly the float that it was."""
        return self.prune is None and self.share is None and self.quantize is None and self.code.rest == "fp32"

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON form, as 64 hexadecimal characters."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def describe(self) -> str:
        """One line for a person, settings that are not the default named: "80 % sparse, 16 clusters, 8 bits, mse"."""
        parts = []
        if self.prune:
            layers = " in each layer" if self.prune.scope == "layer" else ""
            parts.append(f"{100 * self.prune.sparsity:.4g} % sparse{layers}")
        if self.share:
            parts.append(f"{self.share.clusters} clusters")
        if self.quantize:
            parts.append("binary" if self.quantize.bits == 1 else f"{self.quantize.bits} bits")
            parts += ["per tensor"] * (self.quantize.granularity == "tensor")
            parts += ["mse"] * (self.quantize.calibration == "mse")
        parts = parts or ["no change"]
        parts += ["Huffman"] * (self.code.coder == "huffman")
        parts += ["fp16 rest"] * (self.code.rest == "fp16")
        return ", ".join(parts)

    def to_dict(self) -> dict[str, Any]:
        """Plain data with a version; absent steps are left out."""
        steps = {name: dataclasses.asdict(step) for name in STEPS if (step := getattr(self, name)) is not None}
        return {"version": VERSION, **steps}

    def to_json(self, indent: int | None = None) -> str:
        """The JSON form: sorted keys, so that equal recipes have equal texts."""
        separators = (",", ":") if indent is None else None
        return json.dumps(self.to_dict(), sort_keys=True, indent=indent, separators=separators)

    @classmethod
    def from_dict(cls, data: object) -> "Recipe":
        """Read plain data from outside; raises RecipeError on anything that `to_dict` could not have written."""
        fields = _mapping("a recipe", data, ("version", *STEPS))
        version = fields.pop("version", None)
        if type(version) is not int or version != VERSION:
            raise RecipeError(
                f'version must be {VERSION}; got {_shown(version)}. Add "version": {VERSION}, '
                "or export the recipe again."
            )
        return cls(**{name: _step(name, value) for name, value in fields.items()})

    @classmethod
    def from_json(cls, text: str | bytes) -> "Recipe":
        """Read the JSON form; raises RecipeError."""
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise RecipeError(f"a recipe must be JSON text; {error}. Export one to see the form.") from None
        return cls.from_dict(data)


_SAMPLES = {"sparsity": "0.8", "clusters": "16", "bits": "8"}

STEPS = {"prune": Prune, "share": Share, "quantize": Quantize, "code": Code}


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


def _step(name: str, data: object) -> Prune | Share | Quantize | Code:
    kind = STEPS[name]
    fields = dataclasses.fields(kind)
    values = _mapping(name, data, tuple(f.name for f in fields))
    for f in fields:
        if f.default is dataclasses.MISSING and f.name not in values:
            raise RecipeError(f"{name} must state {f.name}; it is missing. Add it, or leave the step out.")
    return kind(**values)
