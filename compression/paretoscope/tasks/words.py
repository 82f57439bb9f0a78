"""What the screen calls a task's figures, and how it writes them."""

import math
from dataclasses import dataclass
from typing import Protocol


class Written(Protocol):
    """A number as text, with so many decimals."""

    def __call__(self, value: float, /, digits: int = 1) -> str: ...


@dataclass(frozen=True, slots=True)
class ErrorWords:
    """What the matrix of answers against the truth is called.

    tab: alone. matrix: in a sentence. truth, answer: titles of its sides. wrong: said of samples off the diagonal.
    right: title of an axis, the share of each true value that is found. one: a single value of the truth.
    pair: names a cell, with {truth} and {answer}.
    """

    tab: str
    matrix: str
    truth: str
    answer: str
    wrong: str
    right: str
    one: str
    pair: str


@dataclass(frozen=True, slots=True)
class FlipWord:
    """What became of a sample's answer. title: alone. told: behind a number of samples. before, after: marks beside the
    two answers, "" for none.
    """

    title: str
    told: str
    before: str = ""
    after: str = ""


@dataclass(frozen=True, slots=True)
class FlipWords:
    """What the screen calls samples whose answer got worse, got better, or is another. help: which those are. order: of
    which of them come first.
    """

    broken: FlipWord
    mended: FlipWord
    changed: FlipWord
    help: str
    order: str


@dataclass(frozen=True, slots=True)
class Words:
    """What the screen calls a task's headline figure, how it is written, and the tests beside it.

    title, name: alone, and within a sentence. unit: on an axis, of the figure times `factor`. change_unit: short, of a
    difference; point, points: the same in words. value, change: the figure and a difference of two as text. right: what
    follows the figure where a model is its subject ("95 % right"). chance: said of a model that is no better than
    guessing, at_chance: as a mark. interval, test: whose interval the figure has, and whose test tells models apart.
    divergence: what harm is the mean of; harm_unit, loss_unit: of harm, and of what training lowers. flips: of samples
    whose answer is another one. errors: None where there is no such matrix.
    """

    title: str
    name: str
    unit: str
    factor: float
    change_unit: str
    point: str
    points: str
    value: Written
    change: Written
    right: str
    chance: str
    at_chance: str
    interval: str
    test: str
    divergence: str
    harm_unit: str
    loss_unit: str
    flips: FlipWords
    errors: ErrorWords | None

    @property
    def axis(self) -> str:
        """Title of an axis, e.g. "Accuracy (%)"."""
        return f"{self.title} ({self.unit})"

    @property
    def lost(self) -> str:
        """Title of what compression costs, e.g. "Accuracy lost"."""
        return f"{self.title} lost"

    @property
    def number(self) -> str:
        """Format of the figure times `factor` in a table's column, in the notation of printf."""
        return f"%.2f {self.unit.replace('%', '%%')}"

    @property
    def difference(self) -> str:
        """Format of a difference times `factor` in a table's column, in the notation of printf."""
        return f"%+.2f {self.change_unit.replace('%', '%%')}"

    def ends(self, low: float, high: float, digits: int = 1) -> tuple[str, str]:
        """The ends of an interval as text, without a unit."""
        return f"{self.factor * low:.{digits}f}", f"{self.factor * high:.{digits}f}"


@dataclass(frozen=True, slots=True)
class Further:
    """A figure beside the headline figure, e.g. macro F1; one may be None, of a model that has none.

    key: its name in the stored figures and in the baseline's. help: what it tells. decimals: how many are shown.
    """

    key: str
    title: str
    help: str
    decimals: int

    def of(self, figures: object) -> float:
        """The figure of a model, or of the baseline; NaN where it has none."""
        value = getattr(figures, self.key)
        return math.nan if value is None else float(value)

    def text(self, figures: object) -> str:
        """The figure as text; "none" where there is none."""
        value = self.of(figures)
        return "none" if math.isnan(value) else f"{value:.{self.decimals}f}"

    def change(self, figures: object, baseline: object) -> str:
        """Its difference to the baseline's as text, with the sign; "none" where either has none."""
        change = self.of(figures) - self.of(baseline)
        return "none" if math.isnan(change) else f"{change:+.{self.decimals}f}"
