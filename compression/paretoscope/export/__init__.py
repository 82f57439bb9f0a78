"""Conversion: a compressed model in the formats that people deploy, each checked in its own runtime before it is given
away. A module of this folder that has a `FORMATS` adds them: nothing else names it."""

from paretoscope.export.base import Conversion, Format, Original, Verification, differing, formats, stem
from paretoscope.export.measured import figures_of, without_figures
from paretoscope.export.verify import Checked, convert, produce, verify
from paretoscope.export.zips import zipped

__all__ = [
    "Checked",
    "Conversion",
    "Format",
    "Original",
    "Verification",
    "convert",
    "differing",
    "figures_of",
    "formats",
    "produce",
    "stem",
    "verify",
    "without_figures",
    "zipped",
]
