"""Files that a visitor uploads, as files that a job can read."""

import re
import shutil
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from paretoscope.base.files import LastingFolder, lasting_folder

LONGEST = 100


class Uploads:
    """A temporary folder with uploaded files; it goes with this object, at the latest with the process."""

    def __init__(self) -> None:
        self._folder: LastingFolder = lasting_folder()
        weakref.finalize(self, self._folder.remove)

    def put(self, files: Sequence[Any]) -> Path | None:
        """Write uploaded files beside each other; the path of the first, None where there is none. Raises OSError."""
        paths = [self._folder.path / safe_name(file.name) for file in files]
        for file, path in zip(files, paths, strict=True):
            file.seek(0)
            with path.open("wb") as out:
                shutil.copyfileobj(file, out)
        return paths[0] if paths else None

    @property
    def folder(self) -> Path:
        return self._folder.path

    def remove(self) -> None:
        """Remove them now."""
        self._folder.remove()


def safe_name(name: str) -> str:
    """A visitor's file name without folders, dots in front and characters that mean something to anyone."""
    last = re.sub(r"[^A-Za-z0-9._-]", "_", name.replace("\\", "/").rpartition("/")[2]).lstrip(".-")
    stem, dot, suffix = last.rpartition(".")
    return f"{stem[:LONGEST]}{dot}{suffix[:LONGEST]}" or "file"


def own_name(name: str) -> str:
    """A name for the library from that of a file or a network: "torchvision:resnet18" gives "resnet18"."""
    last = re.split(r"[/\\:]", name.strip())[-1]
    stem = last.split(".")[0]
    return re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("._-")[:48].lower()
