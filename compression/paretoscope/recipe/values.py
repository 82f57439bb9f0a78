"""What settings may hold: kinds of values, each with its check, its words, and its text in a link.

`check` gives the value as a recipe stores it and raises RecipeError: rule, value, remedy. `values` says for a person
what is allowed, `word` what one value is called. What a screen offers stands beside the range that a recipe allows,
because a slider has few steps and a field two ends: `offered` are the steps of a slider, `field` the ends of a field.
"""

import dataclasses
import re
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar, Self

from paretoscope.base.errors import RecipeError
from paretoscope.base.text import LONGEST_NAME, MOST_NAMES, shown


class Term(StrEnum):
    """A choice: its name in recipes, and its label on a screen."""

    label: str

    def __new__(cls, value: str, label: str) -> Self:
        member = str.__new__(cls, value)
        member._value_ = value
        member.label = label
        return member


def names(terms: type[Term]) -> tuple[str, ...]:
    """The names of choices, in their order."""
    return tuple(each.value for each in terms)


def plain(value: Any) -> str:
    """A value as it is."""
    return str(value)


def percent(value: float) -> str:
    """A fraction as a percentage."""
    return f"{100 * value:.4g} %"


@dataclass(frozen=True, slots=True)
class Field:
    """What a field of a screen offers: its ends (None for no end), its step, and the format of its number."""

    low: float | None = None
    high: float | None = None
    step: float | None = None
    format: str | None = None


class ValueType(ABC):
    """What a setting's values may be.

    type: of an option of the command line. metavar: what stands for a value in its help.
    """

    __slots__ = ()
    type: ClassVar[type] = str

    @property
    def metavar(self) -> str | None:
        return None

    @property
    def offered(self) -> tuple[Any, ...]:
        """The steps of a slider; none for a field."""
        return ()

    @property
    @abstractmethod
    def values(self) -> str:
        """What is allowed, in words."""

    @abstractmethod
    def check(self, name: str, value: Any) -> Any:
        """The value as a recipe stores it; raises RecipeError."""

    def word(self, value: Any) -> str:
        """What a value is called on a screen."""
        return str(value)

    def read(self, name: str, text: str, sample: str) -> Any:
        """The value of a link's text, not checked yet; raises RecipeError. sample: a text that can be read."""
        return text

    def write(self, value: Any) -> str:
        """The text of a link."""
        return str(value)


class _Numeric(ValueType):
    __slots__ = ()

    def read(self, name: str, text: str, sample: str) -> Any:
        try:
            return self.type(text)
        except ValueError:
            raise RecipeError(
                f"{name} in a link must be a number; got {shown(text)}. Write e.g. {name}={sample}."
            ) from None


@dataclass(frozen=True, slots=True)
class Number(_Numeric):
    """A number from low to high, None for no end; above, below: whether an end is outside.

    remedy: what to pass. ends: the range as a message writes it, where the numbers alone would not read well.
    """

    low: float
    high: float | None = None
    above: bool = False
    below: bool = False
    remedy: str = ""
    ends: str = ""
    offered: tuple[float, ...] = ()
    field: Field = Field()
    said: Callable[[Any], str] = plain
    type: ClassVar[type] = float

    @property
    def values(self) -> str:
        if self.high is None:
            return f"{self.low:g} or more"
        low, high = self.ends.strip("[]()").split(", ") if self.ends else (f"{self.low:g}", f"{self.high:g}")
        return f"{'above ' * self.above}{low} to {'below ' * self.below}{high}"

    @property
    def rule(self) -> str:
        """The range as a message writes it."""
        if self.high is None:
            return f"of at least {self.low:g}"
        ends = f"{'[('[self.above]}{self.low:g}, {self.high:g}{'])'[self.below]}"
        return f"in {self.ends or ends}"

    def check(self, name: str, value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) <= sys.float_info.max:
            raise RecipeError(f"{name} must be a number {self.rule}; got {shown(value)}. {self.remedy}")
        enough = value > self.low if self.above else value >= self.low
        if not enough or (self.high is not None and not (value < self.high if self.below else value <= self.high)):
            raise RecipeError(f"{name} must be {self.rule}; got {value:g}. {self.remedy}")
        return float(value)

    def word(self, value: Any) -> str:
        return self.said(value)


def fraction(**more: Any) -> Number:
    """A number from 0 to below 1."""
    return Number(0, 1, below=True, remedy="Pass a fraction, e.g. 0.95.", **more)


@dataclass(frozen=True, slots=True)
class Whole(_Numeric):
    """A whole number from low to high, None for no end; or one of `among`.

    off: what is said of None, where the setting may be that. rule: of a message, where the ends alone do not say it.
    """

    low: int = 0
    high: int | None = None
    among: tuple[int, ...] = ()
    rule: str = ""
    remedy: str = "Pass e.g. 2, or 0 for none."
    off: str = ""
    allowed: str = ""
    offered: tuple[int, ...] = ()
    field: Field = Field()
    said: Callable[[Any], str] = plain
    type: ClassVar[type] = int

    @property
    def values(self) -> str:
        if self.allowed:
            return self.allowed
        return f"{self.low} or more" if self.high is None else f"{self.low} to {self.high}"

    def check(self, name: str, value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise RecipeError(f"{name} must be a whole number; got {shown(value)}. Pass an integer, e.g. 8.")
        high = sys.maxsize if self.high is None else self.high
        if value not in self.among if self.among else not self.low <= value <= high:
            rule = f"{self.low} or more" if self.high is None else f"in {self.low}..{self.high}"
            raise RecipeError(f"{name} must be {self.rule or rule}; got {shown(value)}. {self.remedy}")
        return value

    def word(self, value: Any) -> str:
        return self.said(value)

    def read(self, name: str, text: str, sample: str) -> Any:
        return None if self.off and text == self.off else _Numeric.read(self, name, text, sample)

    def write(self, value: Any) -> str:
        return self.off if value is None else str(value)


@dataclass(frozen=True, slots=True)
class Either(_Numeric):
    """One of two whole numbers, the second of which is off. remedy: what to pass."""

    on: int
    off: int
    remedy: str
    type: ClassVar[type] = int

    @property
    def values(self) -> str:
        return f"{self.on} or {self.off}"

    def check(self, name: str, value: Any) -> int:
        if isinstance(value, bool) or value not in (self.on, self.off):
            raise RecipeError(f"{name} must be {self.values}; got {shown(value)}. {self.remedy}")
        return int(value)


@dataclass(frozen=True, slots=True)
class Choice(ValueType):
    """One of some terms."""

    terms: type[Term]

    @property
    def names(self) -> tuple[str, ...]:
        return names(self.terms)

    @property
    def offered(self) -> tuple[str, ...]:
        return self.names

    @property
    def metavar(self) -> str:
        return "|".join(self.names)

    @property
    def values(self) -> str:
        *first, last = self.names
        return f"{', '.join(first)} or {last}"

    def check(self, name: str, value: Any) -> str:
        if value not in self.names:
            options = " or ".join(repr(option) for option in self.names)
            raise RecipeError(f"{name} must be {options}; got {shown(value)}. Choose one of these names.")
        return self._term(value).value

    def word(self, value: Any) -> str:
        return self._term(value).label

    def _term(self, value: str) -> Term:
        """The term of that name; raises ValueError where there is none."""
        return tuple(self.terms)[self.names.index(value)]


@dataclass(frozen=True, slots=True)
class Switch(ValueType):
    """On or off."""

    type: ClassVar[type] = bool
    values: ClassVar[str] = "on or off"

    def check(self, name: str, value: Any) -> bool:
        if not isinstance(value, bool):
            raise RecipeError(f"{name} must be true or false; got {shown(value)}. Pass one of the two.")
        return value

    def word(self, value: Any) -> str:
        return self.write(value)

    def read(self, name: str, text: str, sample: str) -> bool:
        if text not in ("on", "off"):
            raise RecipeError(f"{name} in a link must be on or off; got {shown(text)}. Write e.g. {name}=on.")
        return text == "on"

    def write(self, value: Any) -> str:
        return "on" if value else "off"


@dataclass(frozen=True, slots=True)
class Text(ValueType):
    """A text of some form. holds: whether one has it. rule, remedy: of the message. empty: what "" is called."""

    holds: Callable[[str], bool]
    rule: str
    remedy: str
    # `field`, because a dataclass would take the properties of the base for defaults.
    values: str = dataclasses.field()
    metavar: str = dataclasses.field()
    offered: tuple[str, ...] = ()
    empty: str = ""

    def check(self, name: str, value: Any) -> str:
        if not isinstance(value, str) or not self.holds(value):
            raise RecipeError(f"{name} must be {self.rule}; got {shown(value)}. {self.remedy}")
        return value

    def word(self, value: Any) -> str:
        return value or self.empty


@dataclass(frozen=True, slots=True)
class Names(ValueType):
    """Names of blocks, each once and sorted."""

    values: ClassVar[str] = "names of blocks"
    metavar: ClassVar[str] = "NAMES"

    def check(self, name: str, value: Any) -> tuple[str, ...]:
        named = isinstance(value, (list, tuple)) and all(isinstance(each, str) for each in value)
        if not named or any(not each or "," in each for each in value):
            raise RecipeError(f'{name} must be a list of block names; got {shown(value)}. Pass e.g. ["layer2.1"].')
        for each in value:
            check_name(f"a block in {name}", each)
        if len(value) > MOST_NAMES:
            raise RecipeError(f"{name} must have at most {MOST_NAMES} blocks; got {len(value)}. Name fewer.")
        return tuple(sorted(set(value)))

    def read(self, name: str, text: str, sample: str) -> tuple[str, ...]:
        return tuple(filter(None, text.split(",")))

    def write(self, value: Any) -> str:
        return ",".join(value)


def check_name(what: str, name: object) -> None:
    """Raises RecipeError unless it can be the name of something, or a pattern of names."""
    if not isinstance(name, str) or not 1 <= len(name) <= LONGEST_NAME or not name.isprintable():
        raise RecipeError(
            f"{what} must be a name of 1 to {LONGEST_NAME} printable characters; got {shown(name)}. Pass e.g. conv1."
        )


def matching(pattern: str) -> Callable[[str], bool]:
    """Whether a whole text matches a regular expression, of ASCII."""
    expression = re.compile(pattern, re.ASCII)
    return lambda text: expression.fullmatch(text) is not None
