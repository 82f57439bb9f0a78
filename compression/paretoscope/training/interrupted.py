"""Trainings that ended before their last epoch and can go on from the checkpoint that they left."""

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from paretoscope.base.errors import CompressionError
from paretoscope.codec import shelf
from paretoscope.recipe.recipe import Recipe

# Most bytes of a header that is read: a checkpoint's is some tens of kilobytes. Chosen by hand, no benchmark.
_LARGEST = 1 << 24


@dataclass(frozen=True, slots=True)
class Interrupted:
    """A training that left a checkpoint. recipe: as asked for. done: epochs so far, of recipe.recover.epochs."""

    recipe: Recipe
    done: int


def interrupted(source: str) -> list[Interrupted]:
    """The trainings of the baseline with this digest that left a checkpoint, the latest first.

    A training that runs now is among them. Files that are no checkpoints are passed over; `unreadable` counts them.
    """
    paths = shelf.folder_of_own().glob(f"*-{source[:12]}.checkpoint")
    return [found for path in sorted(paths, key=_age, reverse=True) for found in _of(path, source)]


def unreadable() -> tuple[str, ...]:
    """A sentence for a person about checkpoints that this version cannot read; none where there are none."""
    count = sum(_read(path) is None for path in shelf.folder_of_own().glob("*.checkpoint"))
    if not count:
        return ()
    return (
        f"{count} checkpoint{'s' * (count > 1)} of interrupted trainings in {shelf.folder_of_own()} cannot be read by "
        f"this version and {'are' if count > 1 else 'is'} left there.",
    )


def _age(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # removed just now
        return 0.0


def _of(path: Path, source: str) -> Iterator[Interrupted]:
    found = _read(path)
    if found is None or found[0] != source:
        return
    # An older version gave the recipe another digest, and so the checkpoint another name: it is renamed.
    wanted = shelf.checkpoint_path(source, found[1].recipe)
    if path != wanted and not wanted.exists():
        with suppress(OSError):
            path.replace(wanted)
    yield found[1]


def _read(path: Path) -> tuple[str, Interrupted] | None:
    """The model's digest and the training, from the header of a safetensors file; None where it is no checkpoint.

    The header: its length in 8 bytes, little-endian, then JSON.
    """
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > _LARGEST:
                return None
            notes = json.loads(json.loads(file.read(length))["__metadata__"]["training"])
        recipe, done = Recipe.from_dict(notes["recipe"]), notes["epochs"][-1]["number"]
        if recipe.recover is None or type(done) is not int or not isinstance(notes["model"], str):
            return None
        return notes["model"], Interrupted(recipe, done)
    except (OSError, KeyError, IndexError, TypeError, ValueError, RecursionError, CompressionError):
        return None
