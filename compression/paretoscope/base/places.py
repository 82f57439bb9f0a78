"""Where the files lie that come with the code: in a checkout beside it, in an installed package within it."""

from pathlib import Path

PACKAGE = Path(__file__).parents[1]
# What a Python process needs on its path to find the package.
SOURCES = PACKAGE.parent


def _root() -> Path:
    checkout = PACKAGE.parents[1]
    return checkout if (checkout / "assets" / "presets.json").is_file() else PACKAGE / "dashboard"


# The folder of app.py, pages/ and assets/.
ROOT = _root()
ASSETS = ROOT / "assets"
