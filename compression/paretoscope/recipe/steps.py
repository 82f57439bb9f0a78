"""The steps of a recipe: what each can be told, and the words, rules and canonical form of its settings."""

import re
import sys
from dataclasses import dataclass
from typing import Any

from paretoscope.base.errors import RecipeError
from paretoscope.base.text import LONGEST_NAME, MOST_NAMES, shown

IMPORTANCES = ("l1", "l2", "bn")
SCOPES = ("global", "layer")
STARTS = ("optimal", "linear", "density", "k-means++", "best")
MOVES = ("zero", "nearest")
GRANULARITIES = ("channel", "tensor")
CLIPPINGS = ("range", "mse", "percentile", "kl")
CALIBRATIONS = (*CLIPPINGS, "rate")
WEIGHTINGS = ("fisher", "magnitude")
ROUNDINGS = ("nearest", "gptq")
SCHEDULES = ("cosine", "constant")
CODERS = ("ans", "huffman", "context", "smallest")
REST_FORMATS = ("fp32", "fp16", "rate")

FULL_PRECISION = 32
INTEGER_BITS = 8
BITS = (*range(1, 17), 32)
MIN_CLUSTERS, MAX_CLUSTERS = 2, 256


def check_name(what: str, name: object) -> None:
    """Raises RecipeError unless it can be the name of something, or a pattern of names."""
    if not isinstance(name, str) or not 1 <= len(name) <= LONGEST_NAME or not name.isprintable():
        raise RecipeError(
            f"{what} must be a name of 1 to {LONGEST_NAME} printable characters; got {shown(name)}. Pass e.g. conv1."
        )


def _choice(name: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        options = " or ".join(repr(option) for option in allowed)
        raise RecipeError(f"{name} must be {options}; got {shown(value)}. Choose one of these names.")


def _integer(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise RecipeError(f"{name} must be a whole number; got {shown(value)}. Pass an integer, e.g. 8.")


def _count(name: str, value: object) -> None:
    _integer(name, value)
    if not 0 <= value <= sys.maxsize:
        raise RecipeError(f"{name} must be 0 or more; got {shown(value)}. Pass e.g. 2, or 0 for none.")


def switch(name: str, value: object) -> None:
    if not isinstance(value, bool):
        raise RecipeError(f"{name} must be true or false; got {shown(value)}. Pass one of the two.")


def _number(name: str, value: object, rule: str, holds: Any, remedy: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) <= sys.float_info.max:
        raise RecipeError(f"{name} must be a number {rule}; got {shown(value)}. {remedy}")
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
    Widths are rounded to what kernels run fast on: 8 channels at a time where there are that many.
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
            raise RecipeError(f'drop must be a list of block names; got {shown(self.drop)}. Pass e.g. ["layer2.1"].')
        for name in self.drop:
            check_name("a block in drop", name)
        if len(self.drop) > MOST_NAMES:
            raise RecipeError(f"drop must have at most {MOST_NAMES} blocks; got {len(self.drop)}. Name fewer.")
        object.__setattr__(self, "drop", tuple(sorted(set(self.drop))))
        _count("blocks", self.blocks)
        switch("fold", self.fold)
        switch("merge", self.merge)
        energy = _number("energy", self.energy, "in (0, 1]", lambda v: 0 < v <= 1, "Pass e.g. 0.9, or 1 for none.")
        object.__setattr__(self, "energy", energy)
        if self.nodes == 0:
            object.__setattr__(self, "importance", "l2")

    def describe(self) -> list[str]:
        """Words for a person, settings that are not the default named."""
        blocks = len(self.drop) + self.blocks
        return [
            *[f"{blocks} block{'s' * (blocks > 1)} dropped"] * bool(blocks),
            *[f"{100 * self.nodes:.4g} % of nodes removed ({self.importance})"] * bool(self.nodes),
            *["batch norm folded"] * self.fold,
            *["linear merged"] * self.merge,
            *[f"rank at {100 * self.energy:.4g} % energy"] * (self.energy < 1),
        ]


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
                f"pattern must be N:M with 1 <= N < M, N weights of every M stay; got {shown(self.pattern)}. "
                "Pass e.g. 2:4."
            )

    @property
    def kept_of(self) -> tuple[int, int]:
        """N and M of the pattern."""
        kept, group = self.pattern.split(":")
        return int(kept), int(group)

    def describe(self) -> list[str]:
        """Words for a person, settings that are not the default named."""
        if self.pattern:
            return [f"{self.pattern} sparse"]
        if self.threshold:
            return [f"weights below {self.threshold:.4g} zero"]
        return [f"{100 * self.sparsity:.4g} % sparse" + " in each layer" * (self.scope == "layer")]


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
                f"clusters must be in {MIN_CLUSTERS}..{MAX_CLUSTERS}; got {shown(self.clusters)}. "
                "Pass e.g. 16, or leave the step out to share no weights."
            )
        _choice("start", self.start, STARTS)
        _count("population", self.population)
        _count("rarest", self.rarest)
        _choice("moved", self.moved, MOVES)
        if self.rarest >= self.clusters:
            raise RecipeError(
                f"rarest must be less than clusters; got {shown(self.rarest)} of {self.clusters}. Keep one group."
            )
        if not self.population and not self.rarest:
            object.__setattr__(self, "moved", "nearest")

    def describe(self) -> list[str]:
        """Words for a person, settings that are not the default named."""
        dropped = [f"groups under {self.population} weights"] * bool(self.population)
        dropped += [f"{self.rarest} rarest"] * bool(self.rarest)
        return [
            f"{self.clusters} clusters",
            *[f"{self.start} start"] * (self.start != "optimal"),
            *[f"{' and '.join(dropped)} to {self.moved}"] * bool(dropped),
        ]


@dataclass(frozen=True, slots=True)
class Quantize:
    """Integer quantization: weights are rounded to `bits`-bit integers times a scale; 1 bit is binarization.

    bits: 32 (off), or 1..16. granularity: one scale per output "channel" or per "tensor".
    calibration: scale from the "range" (largest magnitude), or a clipping of least squared error ("mse"), at a
    "percentile" of the magnitudes (`percentile`, of 100) or of least KL divergence ("kl"); or by "rate" and harm: steps
    of all layers allotted by one `exchange` rate, the harm (nats of mean KL divergence from the baseline) that saving
    a kilobyte may cost, and codes on the trellis of dependent quantization, of at most `bits` bits. Harm is weighted
    by `weighting`: "fisher", measured on calibration samples, or "magnitude", a rule for weights without data.
    symmetric: False adds a zero point, for weights that are not centred. A shared codebook always has one symmetric
    scale per tensor.
    1 bit only: the scale is the mean magnitude ("mse"), whatever the calibration; `power_of_two` rounds it;
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
    exchange: float = 1e-5
    weighting: str = "fisher"
    activations: int = FULL_PRECISION

    def __post_init__(self) -> None:
        _integer("bits", self.bits)
        if self.bits not in BITS:
            raise RecipeError(f"bits must be 32 or 1..16; got {shown(self.bits)}. Pass e.g. 8, or 32 for none.")
        _choice("granularity", self.granularity, GRANULARITIES)
        _choice("calibration", self.calibration, CALIBRATIONS)
        percentile = _number("percentile", self.percentile, "in (50, 100]", lambda v: 50 < v <= 100, "Pass e.g. 99.9.")
        switch("symmetric", self.symmetric)
        switch("power_of_two", self.power_of_two)
        ternary = _number("ternary", self.ternary, "in [0, 3]", lambda v: 0 <= v <= 3, "Pass e.g. 0.7, or 0 for none.")
        if isinstance(self.activations, bool) or self.activations not in (INTEGER_BITS, FULL_PRECISION):
            raise RecipeError(
                f"activations must be 8 or 32; got {shown(self.activations)}. Pass 8 for integer kernels, or 32."
            )
        rule = _number("exchange", self.exchange, "in [1e-12, 1e3]", lambda v: 1e-12 <= v <= 1e3, "Pass e.g. 1e-5.")
        _choice("weighting", self.weighting, WEIGHTINGS)
        binary = self.bits == 1
        rate = self.calibration == "rate" and not binary
        effective = {
            # A recipe of 1 bit is written as it always was where the mean magnitude was asked for.
            "calibration": "mse" if binary else self.calibration,
            "percentile": percentile if self.calibration == "percentile" and not binary else 99.9,
            "symmetric": self.symmetric or binary or rate,
            "exchange": rule if rate else 1e-5,
            "weighting": self.weighting if rate else "fisher",
            "power_of_two": self.power_of_two and binary,
            "ternary": ternary if binary else 0.0,
            "activations": self.activations if self.bits <= INTEGER_BITS else FULL_PRECISION,
        }
        for name, value in effective.items():
            object.__setattr__(self, name, value)

    def describe(self) -> list[str]:
        """Words for a person, settings that are not the default named."""
        binary = f"ternary ({self.ternary:g})" if self.ternary else "binary"
        clipping = {
            "range": [],
            "percentile": [f"{self.percentile:g}th percentile"],
            "rate": [f"{self.exchange:g} nats a KB", *["weighted by magnitude"] * (self.weighting == "magnitude")],
        }
        most = "at most " * (self.calibration == "rate")
        return [
            binary if self.bits == 1 else f"{most}{self.bits} bits",
            *["per tensor"] * (self.granularity == "tensor"),
            *(clipping.get(self.calibration, [self.calibration]) if self.bits > 1 else []),
            *["asymmetric"] * (not self.symmetric),
            *["power of two"] * self.power_of_two,
            *["integer kernels"] * (self.activations == INTEGER_BITS),
        ]


@dataclass(frozen=True, slots=True)
class Repair:
    """What wins back accuracy without training, from calibration samples of the train split.

    rounding: "nearest", or "gptq", which lets each column of weights make good the rounding errors of those before.
    bias: shifts each layer's output back to the mean that it had. batchnorm: re-estimates the statistics of batch
    normalisation. Of a recipe with training, repair is of the start alone; see recover.train.
    """

    rounding: str = "nearest"
    bias: bool = False
    batchnorm: bool = False

    def __post_init__(self) -> None:
        _choice("rounding", self.rounding, ROUNDINGS)
        switch("bias", self.bias)
        switch("batchnorm", self.batchnorm)

    def describe(self) -> list[str]:
        """Words for a person, settings that are not the default named."""
        return [
            *["gptq"] * (self.rounding == "gptq"),
            *["bias corrected"] * self.bias,
            *["batch norm re-estimated"] * self.batchnorm,
        ]


@dataclass(frozen=True, slots=True)
class Recover:
    """What wins back accuracy with training, within what the other steps can represent.

    epochs: passes over the train split, at most; 0 for none. learning_rate: of Adam, its peak; schedule "cosine" falls
    to zero, "constant" stays. minibatch: samples a step. ramp: share of the epochs over which sparsity rises to its
    target and bits fall to theirs. distill: weight of the teacher's answers in the loss, the rest being the labels';
    temperature: that softens those answers. teacher: a model of the zoo, trained on the same dataset; the baseline
    itself where it is empty. average: decay of a running mean, over the optimiser's steps, of what is trained; the
    mean is measured and kept; 0 for the weights of the last step (Polyak and Juditsky, Acceleration of stochastic
    approximation by averaging, 1992). patience: epochs without a better one that end it, 0 for never. augment: train on
    images that are turned, scaled and shifted a little. seed: of the validation part and of all draws. stopped: the
    epoch after which it was ended by hand or by a budget, 0 where it was not.
    """

    epochs: int = 0
    learning_rate: float = 1e-3
    schedule: str = "cosine"
    minibatch: int = 50
    ramp: float = 0.0
    distill: float = 0.0
    temperature: float = 4.0
    teacher: str = ""
    average: float = 0.0
    patience: int = 0
    augment: bool = True
    seed: int = 0
    stopped: int = 0

    def __post_init__(self) -> None:
        for name in ("epochs", "patience", "seed", "stopped"):
            _count(name, getattr(self, name))
        _integer("minibatch", self.minibatch)
        if not 1 <= self.minibatch <= 2**20:
            raise RecipeError(f"minibatch must be in 1..{2**20}; got {shown(self.minibatch)}. Pass e.g. 50.")
        rate = _number("learning_rate", self.learning_rate, "in (0, 10]", lambda v: 0 < v <= 10, "Pass e.g. 0.001.")
        heat = _number("temperature", self.temperature, "in [0.1, 100]", lambda v: 0.1 <= v <= 100, "Pass e.g. 4.")
        mix = _number("distill", self.distill, "in [0, 1]", lambda v: 0 <= v <= 1, "Pass e.g. 0.5, or 0 for none.")
        _choice("schedule", self.schedule, SCHEDULES)
        switch("augment", self.augment)
        if not isinstance(self.teacher, str) or not re.fullmatch(r"[\w.-]{0,64}", self.teacher, re.ASCII):
            raise RecipeError(
                f"teacher must be the name of a model; got {shown(self.teacher)}. Pass e.g. 'lenet-5', or '' for the "
                "baseline."
            )
        if self.stopped > self.epochs:
            raise RecipeError(
                f"stopped must be an epoch of the {self.epochs}; got {shown(self.stopped)}. Pass 0 for all of them."
            )
        effective = {
            "learning_rate": rate,
            "ramp": _fraction("ramp", self.ramp),
            "distill": mix,
            "temperature": heat if mix else 4.0,
            "teacher": self.teacher if mix else "",
            "average": _fraction("average", self.average),
            "stopped": self.stopped if self.stopped < self.epochs else 0,
        }
        for name, value in effective.items():
            object.__setattr__(self, name, value)

    def describe(self) -> list[str]:
        """Words for a person, settings that are not the default named."""
        done = f"{self.stopped} of {self.epochs}" if self.stopped else f"{self.epochs}"
        return [
            f"trained {done} epoch{'s' * (self.epochs > 1)}",
            *[f"distilled from {self.teacher}" if self.teacher else "distilled"] * bool(self.distill),
            *["gradually"] * bool(self.ramp),
            *["averaged"] * bool(self.average),
        ]


@dataclass(frozen=True, slots=True)
class Code:
    """How the artefact is written.

    coder: entropy coder of the weight codes: "ans" (asymmetric numeral systems) or "huffman" by how often each code
    occurs, "context" by what was coded before it, or "smallest", the same with more effort.
    rest: format of biases and normalisation parameters, "fp32", "fp16", or "rate": integers whose step follows from the
    exchange rate of quantization (fp16 for what has no gradient, and where quantization is not by rate).
    """

    coder: str = "ans"
    rest: str = "fp32"

    def __post_init__(self) -> None:
        _choice("coder", self.coder, CODERS)
        _choice("rest", self.rest, REST_FORMATS)
