"""Configurations that a person keeps in sight: A, B, C ..., with names and notes; in the link, and in the store."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlencode

from paretoscope.base.errors import CompressionError
from paretoscope.base.text import shown
from paretoscope.recipe.recipe import Recipe

# One for each letter.
MOST = 26
# Characters of a name and of a note.
NAME, NOTE = 40, 400
# The parameter of a link, and what stands between two pins in it.
QUERY, BETWEEN = "pins", "!"
# The kind of the store's document.
DOCUMENT = "pins"


@dataclass(frozen=True, slots=True)
class Pin:
    """A configuration that is kept: the model's name, the recipe, and what its owner says of it."""

    model: str
    recipe: Recipe
    name: str = ""
    note: str = ""

    @property
    def key(self) -> tuple[str, str]:
        """What a pin is of: one configuration is pinned once."""
        return self.model, self.recipe.digest


def letter(place: int) -> str:
    """The letter of a pin by its place: A, B, C ..."""
    return chr(ord("A") + place)


def to_text(pins: Sequence[Pin]) -> str:
    """Pins as one parameter of a link."""
    return BETWEEN.join(
        urlencode({"of": pin.model, "as": pin.name, "note": pin.note, **pin.recipe.to_query()}) for pin in pins
    )


def from_text(text: str) -> tuple[list[Pin], tuple[str, ...]]:
    """The pins of a link, and a sentence for each that cannot be read."""
    pins: list[Pin] = []
    problems = []
    parts = [part for part in text.split(BETWEEN) if part]
    for place, part in enumerate(parts[:MOST]):
        try:
            query = dict(parse_qsl(part, keep_blank_values=True, max_num_fields=100))
            model, name, note = (query.pop(key, "") for key in ("of", "as", "note"))
            if not model:
                raise CompressionError("a pin must name its model.")
            pin = Pin(model, Recipe.from_query(query), name[:NAME], note[:NOTE])
        except (CompressionError, ValueError) as error:
            problems.append(f"Pin {letter(place)} of the link cannot be read: {shown(str(error))}")
            continue
        if pin.key not in [each.key for each in pins]:
            pins.append(pin)
    if len(parts) > MOST:
        problems.append(f"A link has at most {MOST} pins; this one has {len(parts)}. The first {MOST} were taken.")
    return pins, tuple(problems)


def to_json(pins: Sequence[Pin]) -> str:
    """Pins as a document of the store."""
    return json.dumps(
        [{"model": pin.model, "recipe": pin.recipe.to_dict(), "name": pin.name, "note": pin.note} for pin in pins]
    )


def from_json(text: str) -> list[Pin]:
    """The pins of a document; raises ValueError, KeyError, TypeError or RecipeError where it is none."""
    return [
        Pin(str(each["model"]), Recipe.from_dict(each["recipe"]), str(each["name"]), str(each["note"]))
        for each in json.loads(text)
    ][:MOST]
