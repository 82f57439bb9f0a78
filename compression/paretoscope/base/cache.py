"""The folders of this user's measurements and trained models, which no other user may read."""

import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from paretoscope.base import files

ENVIRONMENT = "PARETOSCOPE_STORE"


def folder() -> Path:
    """The folder of $PARETOSCOPE_STORE, or paretoscope in the user's cache folder; it may not exist yet."""
    if path := os.environ.get(ENVIRONMENT):
        return Path(path).parent
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "paretoscope"


def recovered() -> Path:
    """The folder of the user's trained models and checkpoints; it may not exist yet."""
    return folder() / "recovered"


def tidy() -> None:
    """Remove what killed processes left where this program keeps temporary files, once a process."""
    for each in (Path(tempfile.gettempdir()), folder(), recovered()):
        files.tidy(each)


def private_folder(path: Path) -> None:
    """Make a folder that only its owner may enter; one that exists loses the rights of others if the program chose it.

    The program chose the default folder and what lies in it. The user chose that of $PARETOSCOPE_STORE, maybe /tmp.
    Raises OSError.
    """
    made = not path.exists()
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if made or path == recovered() or (path == folder() and not os.environ.get(ENVIRONMENT)):
        with suppress(OSError):
            if stat.S_IMODE(path.stat().st_mode) & 0o077:
                path.chmod(0o700)
