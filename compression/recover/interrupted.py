"""Trainings that ended before their last epoch and can go on from the checkpoint that they left."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from compression.errors import CompressionError
from compression.recipe import Recipe
from compression.recover import shelf

# Of a header: a checkpoint's is some tens of kilobytes.
_LARGEST = 1 << 24


@dataclass(frozen=True, slots=True)
class Interrupted:
    """recipe: what was asked for. done: epochs so far, of recipe.recover.epochs."""

    recipe: Recipe
    done: int


def interrupted(source: str) -> list[Interrupted]:
    """The trainings of the baseline with this digest that left a checkpoint, the latest first.

    One that runs has a checkpoint too. Files that are no checkpoints are passed over.
    """
    paths = shelf.folder_of_own().glob(f"*-{source[:12]}.checkpoint")
    return [found for path in sorted(paths, key=_age, reverse=True) for found in _read(path, source)]


def _age(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # removed just now
        return 0.0


def _read(path: Path, source: str) -> Iterator[Interrupted]:
    """From the header of a safetensors file: its length, 8 bytes, little-endian, and JSON."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > _LARGEST:
                return
            notes = json.loads(json.loads(file.read(length))["__metadata__"]["training"])
        recipe, done = Recipe.from_dict(notes["recipe"]), notes["epochs"][-1]["number"]
        if notes["model"] == source and recipe.recover is not None and type(done) is int:
            yield Interrupted(recipe, done)
    except (OSError, KeyError, IndexError, TypeError, ValueError, RecursionError, CompressionError):
        return
