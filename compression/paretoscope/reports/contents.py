"""What a report tells, as plain data."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from paretoscope.figures.explorer import Scene
from paretoscope.measure.comparison import Pair
from paretoscope.measure.record import Record
from paretoscope.recipe.differences import Row
from paretoscope.recipe.recipe import Recipe
from paretoscope.tasks import Flip, Words


@dataclass(frozen=True, slots=True)
class Configuration:
    """A configuration of the report, the chosen one or a pin.

    letter: of a pin. title: what it is called; told: its recipe in words; note: what its owner says of it. command: the
    line that reproduces its figures. record: None where it is not measured; ms: milliseconds, None where not timed.
    """

    letter: str
    title: str
    model: str
    recipe: Recipe
    told: str
    note: str
    command: str
    record: Record | None
    ms: float | None

    @property
    def named(self) -> str:
        """Letter and title."""
        return f"{self.letter} {self.title}".strip()


@dataclass(frozen=True, slots=True)
class Baseline:
    """The uncompressed network. value, interval: its figure in words; size: bytes as fp32; ms: None where not timed."""

    value: str
    interval: str
    size: int
    ms: float | None
    command: str


@dataclass(frozen=True, slots=True)
class Test:
    """The paired test of one configuration after another on the same samples; points in words."""

    before: str
    after: str
    points: str
    pair: Pair


@dataclass(frozen=True, eq=False, slots=True)
class Sample:
    """A sample whose answer flips. picture: uint8, small. curves: (channels, points). text: of all other samples.

    before, after: what the two say. truth: "" where there is none. kind: what became of the answer.
    """

    number: int
    before: tuple[str, str]
    after: tuple[str, str]
    truth: str
    kind: Flip
    picture: np.ndarray | None = None
    curves: np.ndarray | None = None
    text: str = ""


@dataclass(frozen=True, slots=True)
class Flips:
    """The samples of which two configurations say something else. counts: of all; samples: of those that are shown;
    same: whether every sample is answered alike."""

    before: str
    after: str
    counts: dict[Flip, int]
    same: bool
    samples: tuple[Sample, ...]


@dataclass(frozen=True, slots=True)
class Layer:
    """A weight. shape: in the baseline; weights: how many those are; bytes: of its codes in the chosen file."""

    name: str
    shape: tuple[int, ...]
    weights: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Report:
    """All that a report tells.

    words: of its task. summary: of the network, in a sentence. made: date and time. version: of the program. machine:
    of the timings; setting: how they were taken. asked, answered: the question and its answer in sentences, "" without
    limits. shown, tried: recipes in the file, and all. front: who is on it, by size. pins: beside the chosen one.
    settings: of the chosen one, then of the pins. rest: bytes of the chosen file that are of no layer. missing:
    sentences on what is left out.
    """

    model: str
    words: Words
    summary: str
    made: str
    version: str
    machine: str
    setting: str
    asked: str
    answered: str
    scene: Scene
    shown: int
    tried: int
    front: tuple[Configuration, ...]
    baseline: Baseline
    chosen: Configuration
    pins: tuple[Configuration, ...]
    settings: tuple[Row, ...]
    tests: tuple[Test, ...]
    flips: tuple[Flips, ...]
    layers: tuple[Layer, ...]
    rest: int
    missing: Sequence[str]
