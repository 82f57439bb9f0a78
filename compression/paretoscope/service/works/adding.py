"""Networks of users: added, looked at, and tried with other preprocessing."""

from dataclasses import replace

from paretoscope.base.progress import Progress
from paretoscope.service import additions
from paretoscope.service.additions import Addition
from paretoscope.service.knowledge import Knowledge
from paretoscope.service.preview import Preview, preview, worth


def add(bench: Knowledge, progress: Progress, wish: Addition) -> str:
    """Add a network to the library; its name."""
    name = additions.add(wish, progress)
    bench.forget(name)
    return name


def look(bench: Knowledge, progress: Progress, model: str) -> Preview:
    """The first samples with the network's answers."""
    progress.report(label="opening the network")
    subject = bench.subject(model)
    found = preview(subject)
    progress.report(0.5, label="running it over the test split", partial=found)
    return replace(found, worth=worth(subject))
