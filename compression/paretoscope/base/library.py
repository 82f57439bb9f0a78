"""The user's library: networks and data that were added, under names, beside the zoo.

A kind of thing has a folder of its own in it, with one small file for each name; what the names stand for lies beside
them by content. A name's file is written whole or not at all, so processes need no lock to share a library.
"""

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from paretoscope.base import cache, files
from paretoscope.base.errors import CompressionError, UnknownNameError
from paretoscope.base.text import listed, nearest, shown

ENVIRONMENT = "PARETOSCOPE_LIBRARY"
# Most characters of a name: it is shown in tables and is part of file names; chosen by hand; no benchmark.
LONGEST = 64
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")
# Names that Windows keeps for devices, whatever ends them.
_DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)


def folder() -> Path:
    """The folder of $PARETOSCOPE_LIBRARY, or library in the user's cache folder; it may not exist yet."""
    return Path(os.environ.get(ENVIRONMENT) or cache.folder() / "library")


def check_name(kind: str, name: object) -> str:
    """The name, if a network or data may have it: safe in addresses, on command lines and as a file of any system.

    kind: what it names, in one lower-case word. Raises CompressionError.
    """
    if isinstance(name, str) and len(name) <= LONGEST and _NAME.fullmatch(name) and not _DEVICES.fullmatch(name):
        return name
    raise CompressionError(
        f"a name of {kind} must be 1 to {LONGEST} letters (a to z), digits, dots, dashes or underscores, with a letter "
        f"or digit at both ends; got {shown(name)}. Choose e.g. my-{kind}."
    )


class Index:
    """What names stand for: a file of JSON for each, in a folder.

    kind: what is named, in one lower-case word, for messages.
    """

    def __init__(self, kind: str, path: Path) -> None:
        self.kind = kind
        self._path = path

    def names(self) -> tuple[str, ...]:
        """All names, sorted."""
        return tuple(sorted(each.stem for each in self._path.glob("*.json") if _NAME.fullmatch(each.stem)))

    def get(self, name: str) -> dict[str, Any]:
        """What was put under a name; raises UnknownNameError, or CompressionError where its file is damaged."""
        path = self._file(name)
        if not path.is_file():
            names = self.names()
            known = f"Choose one of: {listed(names, 20)}.{nearest(name, names)}" if names else "Add it first."
            raise UnknownNameError(f"{self.kind} must be in the library; {shown(name)} is not. {known}")
        try:
            found = json.loads(files.read(path))
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise CompressionError(f"{path} must be whole; it is damaged. Remove {name} and add it again.")
        return found

    def put(self, name: str, value: Mapping[str, Any]) -> None:
        """Name something, in the place of what had the name; raises CompressionError."""
        path = self._file(name)
        try:
            cache.private_folder(self._path)
        except OSError as error:
            raise unwritable(error) from None
        files.write_atomically(path, json.dumps(value, indent=1, sort_keys=True).encode(), private=True)

    def remove(self, name: str) -> None:
        """Forget a name; raises UnknownNameError."""
        path = self._file(name)
        if not path.is_file():
            self.get(name)
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise unwritable(error) from None

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name in self.names()

    def _file(self, name: str) -> Path:
        return self._path / f"{check_name(self.kind, name)}.json"


def unwritable(error: OSError) -> CompressionError:
    """What to raise where the library cannot be written."""
    return CompressionError(
        f"the library must be in a folder that can be written, with enough room; {folder()}: "
        f"{error.strerror or error}. Make room there, or set {ENVIRONMENT} to another folder."
    )
