"""What becomes of harm and size as the constants that were chosen by measuring take other values.

    python -m benchmarks.constants [--models NAME ...] [--only CONSTANT ...] [--integers]

Harm is the mean KL divergence from the baseline over 500 images of the train split, calibration images among them.
A cell is harm at equal bytes over that with the value in the code, geometric mean over the sizes that both reach; where
a constant says how coarse the finest step of few bits is, harm and bytes at the finest step over those with the value
in the code. Below 1 the other value would be better. `CALIBRATION_IMAGES` of integer kernels: harm over that with the
value in the code; --integers asks for that table alone.

Further: the nats that explain measured harm by relative errors (`NATS`), the squared error of the trellis
(`DISTORTION`), and the squared error of shared values over the least that there is (`CELLS_PER_CLUSTER`).
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache, partial
from typing import Any
from unittest import mock

import numpy as np
import torch
from paretoscope import codec
from paretoscope.data.data import CHUNK
from paretoscope.measure.subject import Subject
from paretoscope.methods import compensate, dependent, fisher, kmeans
from paretoscope.networks import zoo
from paretoscope.recipe.recipe import Recipe
from paretoscope.runtimes.integer import blueprint
from paretoscope.service import subjects

from benchmarks.measured import Cell, Table, columns, keep, parser
from benchmarks.moments import IMAGES, harm_ratio, without

RATES = tuple(np.geomspace(1e-5, 2e-3, 6).tolist())
FINEST = (1e-7,)
BY_RATE = {"calibration": "rate", "rest": "rate", "coder": "context"}
WITH_DATA = BY_RATE | {"bits": 12, "rounding": "gptq"}
UNCORRECTED = BY_RATE | {"bits": 12}
INT8 = {"bits": 8, "activations": 8}
FEW_WEIGHTS = 10_000
CLUSTERS = (16, 64, 256)


@dataclass(frozen=True)
class Case:
    """A constant of a module, other values of it, and the recipe in which they are compared, at exchange rates."""

    module: Any
    constant: str
    values: tuple[float, ...]
    settings: Mapping[str, Any]
    rates: tuple[float, ...] = RATES

    def having(self, value: float) -> AbstractContextManager[Any]:
        """The code with another value."""
        return mock.patch.object(self.module, self.constant, value)


@dataclass(frozen=True)
class Damping(Case):
    """The damping is the default of an argument, which a patch of the constant does not reach."""

    def having(self, value: float) -> AbstractContextManager[Any]:
        return mock.patch.object(dependent, "factorised", partial(dependent.factorised, damping=value))


CASES = (
    Case(dependent, "LEAST_SENSITIVITY", (0, 0.001, 0.1), WITH_DATA),
    Case(dependent, "BITS", (0, 0.1, 0.4, 1), UNCORRECTED),
    *(Case(dependent, "ROOM", (1, 1.5, np.inf), WITH_DATA | {"bits": bits}, FINEST) for bits in (3, 4)),
    Case(dependent, "FEW_BITS", (5,), WITH_DATA | {"bits": 5}, FINEST),
    Damping(dependent, "DAMPING", (0.001, 0.1), WITH_DATA),
    Case(fisher, "DRAWS", (1, 16), WITH_DATA),
)


@cache
def subject_of(name: str) -> Subject:
    return subjects.load(name)


def images_of(subject: Subject) -> torch.Tensor:
    """The images that harm is taken over, of the train split, as `benchmarks.moments` takes them."""
    images = subject.data.train_images
    return images[torch.randperm(len(images), generator=torch.Generator().manual_seed(0))[:IMAGES]]


def harm_of(subject: Subject, answers: Callable[[torch.Tensor], torch.Tensor]) -> float:
    """Mean divergence from the baseline in nats."""
    chunks = images_of(subject).split(CHUNK)
    reference = subject.task.outputs(subject.model, chunks)
    return float(subject.task.divergence(reference, subject.task.outputs(answers, chunks)).mean())


def points(subject: Subject, settings: Mapping[str, Any], rates: Sequence[float]) -> np.ndarray:
    """(rates, 2): bytes and harm."""
    found = []
    for recipe in (Recipe.of(**settings, exchange=rate) for rate in rates):
        compressed = subject.compress(recipe)
        decoded = compressed.load_into(copy.deepcopy(subject.model))
        found.append((len(codec.write(compressed)), harm_of(subject, decoded)))
    return np.array(found)


def integer_harm(name: str, images: int) -> float:
    """Harm of the integer network whose ranges are those of so many images."""
    subject = subject_of(name)
    with (
        mock.patch.object(blueprint, "CALIBRATION_IMAGES", images),
        subject.running(subject.compress(Recipe.of(**INT8))) as forward,
    ):
        return harm_of(subject, forward)


def compared(case: Case, value: float, name: str) -> Cell:
    """One value on one model against the code's."""
    own = subject_of(name)
    with case.having(value):
        # What a model's statistics are is kept with it: another draw of them needs it anew.
        other = subjects.load(name) if case.module is not dependent else own
        found = points(other, case.settings, case.rates)
    reference = _points(name, tuple(case.settings.items()), case.rates)
    if len(case.rates) > 1:
        return harm_ratio(found, reference)
    (size, harm), (own_size, own_harm) = found[0], reference[0]
    return f"{harm / own_harm:.2f} at {size / own_size:.2f} of the bytes"


@cache
def _points(name: str, settings: tuple[tuple[str, Any], ...], rates: tuple[float, ...]) -> np.ndarray:
    return points(subject_of(name), dict(settings), rates)


def vary(cases: Sequence[Case], models: Sequence[str]) -> Table:
    """A line a value, a column a model."""
    ratio = "{:.2f}"
    table = Table(columns("constant", "in the code", "instead", *((name, ratio) for name in models), ("all", ratio)))
    for case in cases:
        bits = f", {case.settings['bits']} bits" if case.rates == FINEST else ""
        held = compensate.DAMPING if case.constant == "DAMPING" else getattr(case.module, case.constant)
        for value in case.values:
            cells = [compared(case, value, name) for name in models]
            ratios = [each for each in cells if isinstance(each, float)]
            mean = float(np.exp(np.log(ratios).mean())) if ratios else None
            table.add(f"{case.constant}{bits}", f"{held:g}", f"{value:g}", *cells, mean)
    return table


def integers(models: Sequence[str]) -> Table:
    """Harm of integer networks by the images that their ranges are of, over that with as many as the code takes."""
    held = blueprint.CALIBRATION_IMAGES
    ratio = "{:.2f}"
    table = Table(columns("CALIBRATION_IMAGES", *((name, ratio) for name in models)), f"{held} in the code")
    reference = [integer_harm(name, held) for name in models]
    for images in (16, 32, 128):
        found = [integer_harm(name, images) for name in models]
        table.add(images, *(harm / own for harm, own in zip(found, reference, strict=True)))
    return table


def nats(models: Sequence[str]) -> Table:
    """Twice the harm over the sum of the relative squared errors of all layers, which is what NATS stands for."""
    numbers = "{:.3f}"
    heads = columns("model", ("least of the rates", numbers), ("median", numbers), ("greatest", numbers))
    table = Table(heads, f"Nats that explain harm, weighted by magnitude; {dependent.NATS:g} in the code")
    for name in models:
        subject, found = subject_of(name), []
        for rate in RATES:
            with without():
                compressed = subject.compress(Recipe.of(**UNCORRECTED, weighting="magnitude", exchange=rate))
            harm = harm_of(subject, compressed.load_into(copy.deepcopy(subject.model)))
            layers = subject.statistics.layers
            errors = [
                np.square(compressed.decode(layer) - layers[layer].weight).sum() / np.square(layers[layer].weight).sum()
                for layer in layers
            ]
            found.append(2 * harm / float(np.sum(errors)))
        table.add(name, min(found), float(np.median(found)), max(found))
    return table


def distortion() -> Table:
    """Squared error of the trellis' codes on a Gaussian source at a fine step, with no regard to bits."""
    weight = np.random.default_rng(0).standard_normal((512, 256)).astype(np.float32)
    with mock.patch.object(dependent, "BITS", 0):
        found = dependent.quantize(weight, None, np.ones(512), None, exchange=1.0, bits=12, per_channel=False)
    step = float(found.scale)
    error = float(np.square(found.decode().astype(np.float64) - weight).mean()) / step**2
    table = Table(
        columns(
            "codes",
            ("squared error, in squared steps", "{:.4f}"),
            ("less than every other integer's, dB", "{:.2f}"),
            ("DISTORTION in the code", "{:.4f}"),
        )
    )
    table.add("trellis of eight states", error, -10 * float(np.log10(error / (4 / 12))), dependent.DISTORTION)
    return table


def cells() -> Table:
    """Shared values of small layers: squared error over the least, the greatest and the mean over layers."""
    form = "{:.5f}, {:.5f}"
    layers = [
        layer
        for name in zoo.models_of("digits")
        for layer in subject_of(name).statistics.layers.values()
        if FEW_WEIGHTS / 5 <= layer.weight.size <= FEW_WEIGHTS
    ]
    table = Table(
        columns("CELLS_PER_CLUSTER", *((f"{clusters} clusters: greatest, mean", form) for clusters in CLUSTERS)),
        f"Squared error over the least, {len(layers)} layers; {kmeans.CELLS_PER_CLUSTER} in the code",
    )
    for count in (3, 6, 12):
        found = []
        for clusters in CLUSTERS:
            ratios = [_error(layer, clusters, count) / _error(layer, clusters, FEW_WEIGHTS) for layer in layers]
            found.append((max(ratios), float(np.mean(ratios))))
        table.add(count, *found)
    return table


def _error(layer: Any, clusters: int, cells_per_cluster: int) -> float:
    """Squared error of the codebook of all weights; with a cell for each weight it is the least."""
    count = len(layer.ordered)
    with mock.patch.object(kmeans, "CELLS_PER_CLUSTER", cells_per_cluster):
        # Not the compiled function, which holds the constants that it was compiled with.
        entries = kmeans._fit.py_func(layer.ordered, layer.centre, layer.block_sums, count, 0, clusters)
    nearest = np.abs(layer.ordered[:, None].astype(np.float64) - np.unique(entries)[None]).min(axis=1)
    return float(np.square(nearest).sum())


def main() -> None:
    asked = parser(__doc__)
    asked.add_argument("--models", nargs="+", default=zoo.models_of("digits"), metavar="NAME")
    names = [*dict.fromkeys(case.constant for case in CASES)]
    asked.add_argument("--only", nargs="+", default=names, choices=names, metavar="CONSTANT")
    asked.add_argument("--integers", action="store_true", help="the images of integer kernels alone")
    options = asked.parse_args()
    torch.set_num_threads(1)
    keep("constants-integers", [integers(options.models)], options)
    if options.integers:
        return
    print()
    tables: list[Table] = []
    for make in (distortion, cells, partial(nats, options.models)):
        tables.append(make())
        print()
    tables.insert(0, vary([case for case in CASES if case.constant in options.only], options.models))
    keep("constants", tables, options)


if __name__ == "__main__":
    main()
