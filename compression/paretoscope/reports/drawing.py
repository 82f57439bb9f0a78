"""A report as a file."""

from paretoscope.reports import markup, sections
from paretoscope.reports.contents import Report
from paretoscope.reports.markup import Markup


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
