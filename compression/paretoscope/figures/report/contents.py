"""What a report tells, as plain data."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from paretoscope.figures.explorer import Scene
from paretoscope.measure.record import Record
from paretoscope.recipe.recipe import Recipe


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
class Setting:
    """A setting in words, as each configuration has it."""

    label: str
    values: tuple[str, ...]

    @property
    def differs(self) -> bool:
        return len(set(self.values)) > 1


@dataclass(frozen=True, slots=True)
class Test:
    """The paired test of one configuration after another, and what became of the answers."""

    before: str
    after: str
    points: str
    p_value: float
    measurable: bool
    broken: int
    mended: int
    n: int


@dataclass(frozen=True, eq=False, slots=True)
class Sample:
    """A sample whose answer flips. picture: uint8, small. curves: (channels, points). text: of all other samples.

    before, after: what the two say. truth: "" where there is none. broken: whether the answer got worse.
    """

    number: int
    before: tuple[str, str]
    after: tuple[str, str]
    truth: str
    broken: bool
    picture: np.ndarray | None = None
    curves: np.ndarray | None = None
    text: str = ""


@dataclass(frozen=True, slots=True)
class Flips:
    """The samples of which two configurations say something else. count: of all; samples: of those that are shown."""

    before: str
    after: str
    broken: int
    mended: int
    samples: tuple[Sample, ...]


@dataclass(frozen=True, slots=True)
class Layer:
    """A weight of the chosen configuration. before: bytes as fp32 in the baseline; bytes: of its codes in the file."""

    name: str
    shape: tuple[int, ...]
    before: int
    weights: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Report:
    """All that a report tells.

    made: date and time, version. machine: of the timings; setting: how they were taken. asked, answered: the question
    and its answer in sentences. shown, tried: rows in the file, and recipes that were tried. front: on it, by size.
    pins: beside the chosen one. missing: sentences on what is left out.
    """

    model: str
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
    baseline: Configuration
    chosen: Configuration
    pins: tuple[Configuration, ...]
    settings: tuple[Setting, ...]
    tests: tuple[Test, ...]
    flips: tuple[Flips, ...]
    layers: tuple[Layer, ...]
    rest: int
    missing: Sequence[str]
