"""Files that a visitor uploads, as files that a job can read."""

import re
import shutil
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from paretoscope.base.errors import CompressionError
from paretoscope.base.files import LastingFolder, lasting_folder

LONGEST = 100


class Uploads:
    """A temporary folder with uploaded files; it goes with this object, at the latest with the process."""

    def __init__(self) -> None:
        self._folder: LastingFolder = lasting_folder()
        self._count = 0
        weakref.finalize(self, self._folder.remove)

    def put(self, files: Sequence[Any]) -> Path | None:
        """Write files of one upload beside each other, apart from those of others; the path of the first, None where
        there is none. Raises CompressionError for two of one name, and OSError.
        """
        self._count += 1
        folder = self._folder.path / str(self._count)
        folder.mkdir()
        paths = [folder / safe_name(file.name) for file in files]
        if twice := next((each.name for each in paths if paths.count(each) > 1), None):
            raise CompressionError(f"files of one upload must have different names; two are {twice}. Remove one.")
        for file, path in zip(files, paths, strict=True):
            file.seek(0)
            with path.open("wb") as out:
                shutil.copyfileobj(file, out)
        return paths[0] if paths else None

    @property
    def folder(self) -> Path:
        return self._folder.path

    def nameless(self, text: str) -> str:
        """A text without the folders that uploaded files lie in."""
        return re.sub(rf"{re.escape(str(self._folder.path))}[\\/]\d+[\\/]", "", text)

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
