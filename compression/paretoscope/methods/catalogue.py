"""What each method does, in words, as a formula and with its source: the entries of the Methods page.

The text of a method stands in the method's file, in its `METHODS`.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from paretoscope.base.errors import UnknownNameError
from paretoscope.base.registry import Registry
from paretoscope.base.text import shown
from paretoscope.methods.all import declared
from paretoscope.recipe.recipe import SETTINGS, STEPS, Recipe


class Section(StrEnum):
    """The parts of the page, in their order: the steps of a recipe, and what concerns a recipe as a whole."""

    OVERVIEW = "overview"
    SIMPLIFY = "simplify"
    PRUNE = "prune"
    SHARE = "share"
    QUANTIZE = "quantize"
    REPAIR = "repair"
    RECOVER = "recover"
    LAYERS = "layers"
    CODE = "code"


class Picture(StrEnum):
    """What shows a method best: the weights of one layer before and after, the size of the whole model, or nothing."""

    LAYER = "layer"
    SIZE = "size"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Row:
    """A setting of a method: its name in a recipe, the values that are allowed, and what they mean."""

    name: str
    values: str
    meaning: str


def explained(**symbols: str) -> tuple[Row, ...]:
    """The rows of these settings, from the schema; each with its symbol in the formula, in LaTeX, "" for none."""
    rows = []
    for name, symbol in symbols.items():
        setting = SETTINGS[name]
        rows.append(Row(name, setting.kind.values, f"{f'${symbol}$: ' if symbol else ''}{setting.explained}"))
    return tuple(rows)


@dataclass(frozen=True, slots=True)
class MethodEntry:
    """A method as the screen shows it.

    summary: for a reader without the mathematics. formula: LaTeX. reference: Markdown.
    example: a recipe of this method alone, to show where the current recipe does without it.
    used_by: whether this method does something in a recipe.
    place: where in its section it stands; lower numbers come first, equal ones by name.
    """

    name: str
    title: str
    summary: str
    formula: str
    settings: tuple[Row, ...]
    reference: str
    section: Section
    example: Recipe
    used_by: Callable[[Recipe], bool]
    place: int = 0
    picture: Picture = Picture.LAYER

    @property
    def step(self) -> str | None:
        """The recipe's field that the method is a part of, or None for the recipe as a whole."""
        return self.section.value if self.section in STEPS else None

    @property
    def words(self) -> str:
        """All that is said of the method, and its settings as a screen and the field call them, for a search."""
        rows = [word for row in self.settings for word in (row.name, row.meaning)]
        known = [SETTINGS[row.name] for row in self.settings if row.name in SETTINGS]
        settings = [word for each in known for word in (each.label, each.flag, each.help, each.reference)]
        return " ".join([self.name, self.title, self.section, self.summary, *rows, *settings, self.reference]).lower()

    def alone(self, recipe: Recipe) -> Recipe:
        """The part of that recipe that is this method, without the other steps; the example where there is none.

        Repair and training need something to mend, so that they come with the whole recipe.
        """
        if not self.used_by(recipe):
            return self.example
        step = self.step
        if step is None or self.section in (Section.REPAIR, Section.RECOVER, Section.CODE):
            return recipe
        if self.section is Section.SIMPLIFY:
            names = {setting.name for setting in self.settings}
        else:
            names = {field.name for field in dataclasses.fields(STEPS[step])}
        return Recipe.of(**{name: value for name, value in recipe.settings().items() if name in names})


def _place(entry: MethodEntry) -> tuple[int, int]:
    return list(Section).index(entry.section), entry.place


methods: Registry[MethodEntry] = Registry("method", lambda: declared(MethodEntry, _place))


def of_setting(name: str) -> MethodEntry:
    """The first entry that explains a setting of a recipe; raises UnknownNameError."""
    entry = next((entry for entry in methods if any(row.name == name for row in entry.settings)), None)
    if entry is None:
        raise UnknownNameError(
            f"a method must explain the setting; none does {shown(name)}. Pass a setting of a method."
        )
    return entry


def found(text: str) -> tuple[MethodEntry, ...]:
    """The entries in which all words of a text occur, in their order; all entries for none."""
    words = text.lower().split()
    return tuple(entry for entry in methods if all(word in entry.words for word in words))
