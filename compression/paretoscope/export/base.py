"""What a conversion is: a format, the files that it gives for a compressed model, and the check that they must pass.

A format writes files, and it runs them again in the runtime that they are meant for. What these say of the whole test
split is compared with what the network on the screen says of it; files that fail are not offered.
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pkgutil import iter_modules
from typing import Any

import numpy as np
import torch
from torch import nn

from paretoscope import codec
from paretoscope.base.batch import Batch, parts
from paretoscope.base.errors import ModelError, RecipeError
from paretoscope.base.lock import machine
from paretoscope.base.progress import SILENT, Progress
from paretoscope.base.registry import Registry
from paretoscope.data.data import CHUNK, Part
from paretoscope.export.measured import figures_of
from paretoscope.export.zips import zipped
from paretoscope.measure.record import Record
from paretoscope.measure.subject import Subject
from paretoscope.model.compressed import CompressedModel
from paretoscope.networks.network import Input
from paretoscope.recipe.recipe import Recipe
from paretoscope.runtimes.base import as_outputs
from paretoscope.runtimes.integer.blueprint import IntegerNetwork, simulate
from paretoscope.runtimes.onnx_graph import Arrays, arrays

# How far sums that are added up in another order may differ, in units of the largest logit (or of 1). Chosen by hand;
# what conversions of the zoo come to is printed by: python -m benchmarks.conversions.
TOLERANCE = 1e-4

# How the name of a module ends that is run in a process of its own and never imported here.
WORKER = "_worker"


@dataclass(frozen=True, eq=False, slots=True)
class Conversion:
    """The files of a compressed model in one format, by name; everything that the format needs is among them."""

    format: str
    files: Mapping[str, bytes]

    @property
    def size(self) -> int:
        """Bytes on disk, all files counted."""
        return sum(map(len, self.files.values()))

    def download(self, stem: str) -> tuple[str, bytes]:
        """One file to take away, with its name: the file itself, or a zip of several."""
        if len(self.files) == 1:
            ((name, data),) = self.files.items()
            return name, data
        return f"{stem}-{self.format}.zip", zipped(self.files)


@dataclass(frozen=True, slots=True)
class Verification:
    """What a conversion says of the test split in its own runtime, beside what the network on the screen says.

    n: images. differing: predictions that are not those on the screen. largest: absolute difference of a logit from
    the screen's. size: bytes on disk. seconds: of loading and running. problem: why it may not be offered, or None.
    """

    format: str
    runtime: str
    n: int
    differing: int
    largest: float
    correct: int
    size: int
    seconds: float
    problem: str | None = None

    @property
    def passed(self) -> bool:
        return self.problem is None

    @property
    def accuracy(self) -> float | None:
        return self.correct / self.n if self.n else None

    def to_dict(self) -> dict[str, Any]:
        """JSON's types; what is infinite is None."""
        data = dataclasses.asdict(self)
        data["largest"] = self.largest if np.isfinite(self.largest) else None
        return {**data, "accuracy": self.accuracy, "passed": self.passed}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "Verification":
        """What `to_dict` wrote; KeyError or TypeError when it is not that."""
        values = {field.name: data[field.name] for field in dataclasses.fields(cls)}
        values["largest"] = float("inf") if values["largest"] is None else float(values["largest"])
        return cls(**values)


class Original:
    """What is converted: a compressed model, its network, and what that says of the test split.

    Conversions are made from it and compared with it; everything is computed once, when it is first asked for.
    progress: told of the whole work, of which each part reports its own share here (`begin`).
    """

    def __init__(self, subject: Subject, compressed: CompressedModel, progress: Progress = SILENT) -> None:
        """Raises ModelError when the compressed model was made from other weights than the subject's."""
        if compressed.source != subject.statistics.digest:
            raise ModelError(
                f"a conversion must be of the weights of {subject.name} in this version; their digest is "
                f"{subject.statistics.digest[:12]}, this model's source {compressed.source[:12]}. "
                "Compress the model again."
            )
        self.subject = subject
        self.compressed = compressed
        self._progress = progress
        self._span = 0.0, 1.0
        self._done = 0.0

    def begin(self, low: float, high: float) -> None:
        """Say from which to which share of the whole work the next part reaches; 0 begins anew."""
        self._span = low, high
        self._done = low if low == 0 else max(self._done, low)

    def report(
        self,
        done: float | None = None,
        total: float = 1.0,
        *,
        label: str | None = None,
        partial: Any = None,
        left: float | None = None,
    ) -> None:
        """As `Progress.report`, of the part in hand."""
        low, high = self._span
        # What is computed once, when it is first needed, may fall into any part.
        self._done = max(self._done, low + (high - low) * (done or 0.0) / total)
        self._progress.report(self._done, label=label, partial=partial, left=left)

    @property
    def recipe(self) -> Recipe:
        return self.compressed.recipe

    @property
    def stem(self) -> str:
        """What its files are called, without an extension."""
        return stem(self.compressed.architecture, self.recipe)

    @property
    def n(self) -> int:
        """How many images the test split has."""
        return self.subject.data.length(Part.TEST)

    def first(self, count: int) -> Batch:
        """The first samples of the test split."""
        return next(self.subject.data.samples(Part.TEST, count))

    @property
    def inputs(self) -> tuple[Input, ...]:
        """What the network takes."""
        return self.subject.network.inputs

    @property
    def samples(self) -> Arrays:
        """Calibration samples, an array for each input."""
        return _arrays(self.subject.data.calibration)

    @cached_property
    def module(self) -> nn.Module:
        """The decoded network."""
        return self.subject.decoded(self.compressed)

    @cached_property
    def network(self) -> IntegerNetwork:
        """The integer network; only where the recipe has integer activations."""
        return self._integer(self.module, self.compressed)

    @cached_property
    def artefact(self) -> bytes:
        """The file without figures, of which the record has the digest."""
        return codec.write(self.compressed)

    @cached_property
    def exported(self) -> bytes:
        """The file with the figures of the record in it, as it is given away; just as long."""
        return codec.write(self.compressed, figures_of(self.record))

    @cached_property
    def record(self) -> Record:
        """The record of an exact evaluation, without latency."""
        for evaluation in self.subject.evaluate_compressed(self.compressed, self.artefact):
            self.report(evaluation.record.figures.n / self.n)
        return evaluation.record

    @cached_property
    def floats(self) -> Arrays:
        """Outputs (n, ...) of the decoded network in float arithmetic; a tuple of them where it has several."""
        return self.logits(self.module)

    @cached_property
    def screen(self) -> Arrays:
        """Outputs (n, ...) of the network on the screen: the integer one where the recipe is of integers."""
        return self.logits(self.network) if self.recipe.integer else self.floats

    @cached_property
    def rounding(self) -> float:
        """How far the float outputs are from those of exact arithmetic; some networks amplify every rounding."""
        module = self.subject.decoded(self.compressed).double()

        def exact(*inputs: torch.Tensor) -> Any:
            return module(*(each.double() if each.is_floating_point() else each for each in inputs))

        return distance(self.floats, self.logits(exact))

    @cached_property
    def nudged(self) -> Arrays:
        """Outputs of the integer network with its scales moved by two of their last places, up and down in turn."""
        return self.logits(self.network.nudged(2.0**-22))

    def logits(self, forward: Callable[..., Any]) -> Arrays:
        """Outputs (n, ...) of the test split, in the chunks in which accuracy is measured."""

        def run(samples: Arrays) -> Arrays:
            with torch.inference_mode():
                return as_outputs(forward(*map(torch.from_numpy, arrays(samples))))

        return self.run(run)

    def run(self, forward: Callable[[Arrays], Arrays], chunk: int = CHUNK) -> Arrays:
        """Outputs (n, ...) by a function of arrays, of a batch to its outputs: one, or a tuple of several."""
        found: list[tuple[np.ndarray, ...]] = []
        for place, samples in enumerate(self.subject.data.samples(Part.TEST, chunk)):
            if place * chunk % CHUNK == 0:
                self.report(place * chunk / self.n)
            with machine(exclusive=False):
                found.append(arrays(forward(_arrays(samples))))
        joined = tuple(np.concatenate(each) for each in zip(*found, strict=True))
        return joined[0] if len(joined) == 1 else joined

    def rebuilt(self, compressed: CompressedModel) -> Arrays:
        """Outputs of a model that was read from a file, on the network that the file alone describes.

        Raises ModelError unless its tensors are those of this model, bit for bit.
        """
        expect_same_tensors(compressed, self.compressed)
        module = compressed.build()
        return self.logits(self._integer(module, compressed) if compressed.recipe.integer else module)

    def _integer(self, module: nn.Module, compressed: CompressedModel) -> IntegerNetwork:
        return simulate(module, self.inputs, compressed.weights, self.samples, compressed.ranges)


def _arrays(samples: Batch) -> Arrays:
    found = tuple(each.numpy() for each in parts(samples))
    return found[0] if len(found) == 1 else found


# Says why logits are not what a format promises, or None.
Judge = Callable[[Arrays, Original], str | None]


@dataclass(frozen=True, slots=True)
class Format:
    """A format: what people are told of it, how its files are written, run and judged.

    extension: of what is downloaded. runtime: what the files are run in. promise: what the check asks, for a person.
    modules: what must be importable; install: how to get it, where that is not part of the requirements.
    write: the files by name. run: their logits (n, classes) of the test split; raises where they do not load.
    integer_only: whether only recipes of integer activations have this format. whole: whether the files hold the
    weights, so that their size can be compared with that of the fp32 network. place: where a person sees it among the
    others, from low to high; of the same place in the order of names.
    """

    name: str
    title: str
    summary: str
    reference: str
    extension: str
    runtime: str
    promise: str
    write: Callable[[Original], dict[str, bytes]]
    run: Callable[[Mapping[str, bytes], Original], Arrays]
    judge: Judge
    modules: tuple[str, ...] = ()
    install: str = ""
    integer_only: bool = False
    whole: bool = True
    place: int = 100

    def available(self) -> bool:
        """Whether everything that it needs is installed."""
        return all(find_spec(module) is not None for module in self.modules)

    def refusal(self, recipe: Recipe) -> str | None:
        """Why a recipe has no such files, with the remedy, or None."""
        if self.integer_only and not recipe.integer:
            return (
                f"{self.name} needs integer activations; the recipe is: {recipe.describe()}. "
                "Choose 8 bits or fewer with 8-bit activations (Integer kernels on the page), or another format."
            )
        return None

    def missing(self) -> str | None:
        """What is not installed and how to install it, or None."""
        if self.available():
            return None
        return f"{self.name} needs a package that is not installed. Run: pip install {self.install}"

    def expect_possible(self, recipe: Recipe) -> None:
        """Raises ModelError where something is not installed, RecipeError where the recipe has no such files."""
        if problem := self.missing():
            raise ModelError(problem)
        if problem := self.refusal(recipe):
            raise RecipeError(problem)


def _registered() -> list[Format]:
    """The formats of all modules beside this one: one that has a `FORMATS` adds them."""
    package = "paretoscope.export"
    names = [each.name for each in iter_modules(import_module(package).__path__) if not each.name.endswith(WORKER)]
    modules = [import_module(f"{package}.{name}") for name in names]
    found = [each for module in modules for each in getattr(module, "FORMATS", ())]
    return sorted(found, key=lambda each: (each.place, each.name))


formats: Registry[Format] = Registry("format", _registered)


def versioned(title: str, distribution: str) -> str:
    """A library's title with its version, where it is installed."""
    try:
        return f"{title} {version(distribution).partition('+')[0]}"
    except PackageNotFoundError:
        return title


def stem(architecture: str, recipe: Recipe) -> str:
    """What the files of a recipe are called, without an extension."""
    return f"{architecture}-{recipe.digest[:8]}"


def same_as_screen(logits: Arrays, original: Original) -> str | None:
    """Asks for the logits of the screen, bit for bit."""
    return _same(logits, original.screen)


def same_as_decoded(logits: Arrays, original: Original) -> str | None:
    """Asks for the logits of the decoded float network, bit for bit."""
    return _same(logits, original.floats)


def _same(logits: Arrays, expected: Arrays) -> str | None:
    off = distance(logits, expected)
    return f"logits must be the same, bit for bit; they are off by {off:.3g}" if off else None


def close_to_decoded(logits: Arrays, original: Original) -> str | None:
    """Asks for the logits of the decoded float network but for rounding, of which some networks make much."""
    off = distance(logits, original.floats)
    allowed = TOLERANCE * max([1.0, *(float(np.abs(each).max(initial=0)) for each in arrays(original.floats))])
    if off > allowed:
        allowed += 10 * original.rounding
    return (
        f"logits must be within {allowed:.2g} of the decoded network's; they are off by {off:.3g}"
        if off > allowed
        else None
    )


def answers(outputs: Arrays) -> np.ndarray:
    """The top answer of each sample (n,) of one output (n, classes); zeros for outputs that are no classes."""
    first = arrays(outputs)[0]
    if isinstance(outputs, tuple) or first.ndim != 2 or first.shape[1] < 2:
        return np.zeros(len(first), np.int64)
    top: np.ndarray = first.argmax(1)
    return top


def distance(outputs: Arrays, others: Arrays) -> float:
    """Largest absolute difference; infinite where only one is finite or a number, or the shapes differ."""
    pairs = arrays(outputs), arrays(others)
    if len(pairs[0]) != len(pairs[1]):
        return np.inf
    return max(map(_distance, *pairs), default=0.0)


def _distance(logits: np.ndarray, others: np.ndarray) -> float:
    if logits.shape != others.shape:
        return np.inf
    with np.errstate(invalid="ignore"):
        equal = (logits == others) | (np.isnan(logits) & np.isnan(others))
        difference = np.where(equal, 0, np.abs(logits.astype(np.float64) - others))
    return float(np.nan_to_num(difference, nan=np.inf).max(initial=0))


def differing(found: CompressedModel, expected: CompressedModel) -> list[str]:
    """What decodes otherwise, bit for bit: names of tensors, "recipe" for the recipe."""
    names = dict.fromkeys((*expected.order, *found.order))
    both = set(expected.order) & set(found.order)
    other = [name for name in names if name not in both or not _identical(found, expected, name)]
    return other if found.recipe == expected.recipe else ["recipe", *other]


def expect_same_tensors(found: CompressedModel, expected: CompressedModel) -> None:
    """Raises ModelError unless both decode to the same state dict, bit for bit, and have the same recipe."""
    if other := differing(found, expected):
        raise ModelError(
            f"the file must hold the compressed model, bit for bit; these are others: {', '.join(other[:3])}"
        )


def expect_figures(artefact: bytes, original: Original) -> None:
    """Raises ModelError unless the figures in a file are those that were measured."""
    found, expected = codec.read_figures(artefact), figures_of(original.record)
    if found != expected:
        raise ModelError(f"the file must hold the figures that were measured, {expected}; it holds {found}")


def _identical(found: CompressedModel, expected: CompressedModel, name: str) -> bool:
    one, other = found.decode(name), expected.decode(name)
    return one.shape == other.shape and one.dtype == other.dtype and one.tobytes() == other.tobytes()
