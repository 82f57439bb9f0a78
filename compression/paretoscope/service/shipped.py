"""Studies of the zoo that ship with the project: what is shown where this machine has measured nothing of its own.

One JSON file a model in assets/studies/, made by `python -m benchmarks.studies --write`. A document in it is named as
in the store, by its kind and a key of digests: one of other weights, data, recipes or methods is not found. Keys of
times leave the machine out, because no other has that one; who shows such a time says where it was taken.
"""

import json
import threading
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from paretoscope.base.places import ASSETS
from paretoscope.networks.zoo import models
from paretoscope.recipe.revision import METHODS

FOLDER = ASSETS / "studies"

# Kind and key of a document.
Place = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where and when studies were made: the processor and its cores, the day (ISO), the version of the package."""

    processor: str
    cores: int
    date: str
    version: str

    @property
    def told(self) -> str:
        """For people: "AMD EPYC, 2 cores, 2026-11-28"."""
        return f"{self.processor}, {self.cores} core{'s' * (self.cores != 1)}, {self.date}"


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """What a study found on another machine."""

    found: Any
    origin: Origin


@dataclass(frozen=True, slots=True)
class _File:
    origin: Origin
    documents: Mapping[Place, Any]


class Shipped:
    """The studies that ship, each model's file read when it is first asked for.

    folder: of the files; None for no studies at all. Threads: any number.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._files: dict[str, _File | None] = {}

    def document(self, model: str, place: Place) -> Elsewhere | None:
        """The plain data of a document of a zoo model, by these methods; None where none ships."""
        file = self._file(model)
        if file is None or place not in file.documents:
            return None
        return Elsewhere(file.documents[place], file.origin)

    def _file(self, model: str) -> _File | None:
        if self._folder is None or model not in models:
            return None
        with self._lock:
            if model not in self._files:
                path = self._folder / f"{model}.json"
                self._files[model] = _read(path) if path.exists() else None
            return self._files[model]


def _read(path: Path) -> _File | None:
    """The file; None for one of other methods. It belongs to the installation, so that a damaged one is an error."""
    data = json.loads(path.read_text())
    if data["methods"] != METHODS:
        return None
    return _File(Origin(**data["origin"]), {(kind, key): found for kind, key, found in data["documents"]})


def to_json(model: str, origin: Origin, documents: Iterable[tuple[Place, str]]) -> str:
    """The text of a model's file, a line for each document, of which the JSON is given."""
    head = {"model": model, "methods": METHODS, "origin": asdict(origin)}
    lines = [f"[{json.dumps(kind)},{json.dumps(key)},{text}]" for (kind, key), text in sorted(documents)]
    return f'{json.dumps(head)[:-1]}, "documents": [\n' + ",\n".join(lines) + "\n]}\n"
