"""A report: one HTML file that needs nothing else, no network and no library, made of plain data.

What was not measured is left out, and a sentence says so. All text is escaped; the file forbids itself to load anything.
"""

from paretoscope.figures.report import markup, sections
from paretoscope.figures.report.contents import Configuration, Flips, Layer, Report, Sample, Setting, Test
from paretoscope.figures.report.markup import Markup

__all__ = ["Configuration", "Flips", "Layer", "Report", "Sample", "Setting", "Test", "draw"]


def draw(report: Report) -> str:
    """The report as a file."""
    parts: list[Markup] = [
        sections.head(report),
        sections.question(report),
        sections.chosen(report),
        sections.front(report),
        sections.comparison(report),
        sections.flips(report),
        sections.layers(report),
        sections.ladder(report),
        sections.commands(report),
        sections.reading(report),
    ]
    return markup.page(f"{report.model}: a report", parts, report.scene)
