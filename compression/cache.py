"""Where the product keeps what it has measured, for this user on this machine."""

import os
from pathlib import Path

ENVIRONMENT = "PARETOSCOPE_STORE"


def folder() -> Path:
    """The folder of $PARETOSCOPE_STORE, or paretoscope in the user's cache folder; it may not exist yet."""
    if path := os.environ.get(ENVIRONMENT):
        return Path(path).parent
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "paretoscope"
