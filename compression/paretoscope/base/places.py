"""Where the files of the dashboard lie: beside the package in a checkout, within it once it is installed."""

from pathlib import Path

PACKAGE = Path(__file__).parents[1]
# The folder that a Python process needs on its path to find the package.
SOURCES = PACKAGE.parent

# Where hatch_build.py puts app.py, pages/, assets/ and .streamlit/ when it builds the wheel; a checkout has none.
_INSTALLED = PACKAGE / "dashboard"
ROOT = _INSTALLED if _INSTALLED.is_dir() else PACKAGE.parents[1]
ASSETS = ROOT / "assets"
