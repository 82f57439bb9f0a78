"""Where a configuration came from, as plain data: worked out from what is known, and said to be unknown where not."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from paretoscope.recipe import differences
from paretoscope.recipe.differences import Row
from paretoscope.recipe.presets import presets_of
from paretoscope.recipe.recipe import Recipe

Found = TypeVar("Found")

# Settings in which a recipe may differ from another that it is told to be made of; by hand, no benchmark.
NEAR = 3


class Source(StrEnum):
    """How a configuration was found."""

    BASELINE = "baseline"
    PRESET = "preset"
    SLIDERS = "sliders"
    SEARCH = "search"
    TRAINING = "training"
    UNKNOWN = "unknown"


WORDS = {
    Source.BASELINE: "the uncompressed network",
    Source.PRESET: "a preset",
    Source.SLIDERS: "tried in this session: sliders, a point or a link",
    Source.SEARCH: "found by a search in this session",
    Source.TRAINING: "trained",
    Source.UNKNOWN: "not known: a link, or an earlier visit",
}


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a configuration came from. near: the name of the preset that it is, or is nearest to, "" where none is
    near; title: its title. changes: the settings in which it differs from that one, values being (preset's, own)."""

    source: Source
    near: str = ""
    title: str = ""
    changes: tuple[Row, ...] = ()

    @property
    def told(self) -> str:
        """A short line for a person."""
        words = WORDS[self.source]
        if not self.near or self.source is Source.BASELINE:
            return words
        if not self.changes:
            return f"preset {self.title}, trained" if self.source is Source.TRAINING else f"preset {self.title}"
        moved = ", ".join(f"{row.label} {row.values[0]} → {row.values[1]}" for row in self.changes)
        return f"{words}; nearest preset {self.title}, but {moved}"


def provenance(
    model: str, recipe: Recipe, *, tried: Collection[str] = (), searched: Collection[str] = ()
) -> Provenance:
    """Where a recipe of a model came from.

    tried, searched: digests of recipes that this session had on its sliders, and that a search of its gave it.
    """
    if recipe == Recipe():
        return Provenance(Source.BASELINE)
    near, changes = _nearest(recipe, ((preset, preset.recipe) for preset in presets_of(model)))
    name, title = (near.name, near.title) if near is not None else ("", "")
    if near is not None and not changes:
        source = Source.PRESET if recipe.recover is None else Source.TRAINING
    elif recipe.digest in searched:
        source = Source.SEARCH
    elif recipe.recover is not None:
        source = Source.TRAINING
    else:
        source = Source.SLIDERS if recipe.digest in tried else Source.UNKNOWN
    return Provenance(source, name, title, changes)


@dataclass(frozen=True, slots=True)
class Descent:
    """What a configuration is made of, as far as it can be worked out: the nearest of those before it, a preset, or the
    baseline.

    parent: the place of the other configuration, or None. preset: the name of the preset, "" for another configuration
    or the baseline. changes: the settings in which it differs from that one; empty where it is the same, only trained,
    or too far from everything.
    """

    origin: Provenance
    parent: int | None = None
    preset: str = ""
    changes: tuple[Row, ...] = ()
    trained: bool = False


def family(members: Sequence[tuple[str, Recipe]], origins: Sequence[Provenance]) -> list[Descent]:
    """What each configuration, a model's name and a recipe, is made of; `origins`: where each came from.

    A configuration descends from one that stands before it in `members`, if that is as near as the nearest preset.
    """
    found = []
    for place, ((model, recipe), origin) in enumerate(zip(members, origins, strict=True)):
        before = [(at, old) for at, (own, old) in enumerate(members[:place]) if own == model and old != Recipe()]
        found.append(_descent(recipe, origin, before))
    return found


def _descent(recipe: Recipe, origin: Provenance, before: Sequence[tuple[int, Recipe]]) -> Descent:
    if origin.source is Source.BASELINE or (origin.near and not origin.changes):
        return Descent(origin)
    for at, old in before:
        if recipe in (old, old.untrained) or recipe.untrained == old:
            return Descent(origin, parent=at, trained=recipe.recover is not None and old.recover is None)
    parent, changes = _nearest(recipe, before)
    if parent is not None and (not origin.near or len(changes) <= len(origin.changes)):
        return Descent(origin, parent=parent, changes=changes)
    return Descent(origin, preset=origin.near, changes=origin.changes)


def _nearest(recipe: Recipe, offered: Iterable[tuple[Found, Recipe]]) -> tuple[Found | None, tuple[Row, ...]]:
    """What differs in the fewest settings, and these; none where all differ in more than NEAR."""
    found = [(each, tuple(differences.changes(old, recipe))) for each, old in offered if _alike(old, recipe)]
    near = [each for each in found if len(each[1]) <= NEAR]
    return min(near, key=lambda each: len(each[1]), default=(None, ()))


def _alike(preset: Recipe, recipe: Recipe) -> bool:
    """Whether one may be made of the other: what was trained is not told to be made of what was not."""
    trained = preset.recover is None, recipe.recover is None
    return preset == recipe or (len(set(trained)) == 1 and preset != Recipe())
