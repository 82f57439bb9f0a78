"""Reports: what is known of a configuration as one HTML file that needs nothing else, no network and no library.

What was not measured is left out, and a sentence says so. All text is escaped, and the file forbids itself to load
anything.
"""

from paretoscope.reports.drawing import draw
from paretoscope.reports.gathering import gather, write

__all__ = ["draw", "gather", "write"]
