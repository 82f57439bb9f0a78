"""Networks of users: added, looked at, and read in another way."""

from dataclasses import replace

from paretoscope.base.progress import Progress, Within
from paretoscope.networks.origins import Options
from paretoscope.service import adding
from paretoscope.service.additions import Addition
from paretoscope.service.knowledge import Knowledge
from paretoscope.service.preview import Preview, preview, worth


def add(bench: Knowledge, progress: Progress, wish: Addition) -> str:
    """Add a network to the library once it was run over its test split; its name. No code of the user is run."""
    progress.report(0.0, label="opening the network")
    candidate = adding.open_candidate(
        wish.name,
        wish.source,
        Options(wish.weights, dict(wish.inputs)),
        data=wish.data,
        train=wish.train,
        target=wish.target or None,
        task=wish.task or None,
        preprocess=wish.settings(),
        title=wish.title or None,
        replace=wish.replace,
        progress=Within(progress),
    )
    try:
        progress.report(0.5, label="running it over the test split")
        candidate.subject()
        progress.report(0.9, label="keeping it")
        candidate.keep(replace=wish.replace)
    except BaseException:
        candidate.discard()
        raise
    bench.forget(wish.name)
    return wish.name


def look(bench: Knowledge, progress: Progress, model: str) -> Preview:
    """The first samples with the network's answers; what it is worth comes last."""
    progress.report(label="opening the network")
    subject = bench.subject(model)
    found = preview(subject)
    progress.report(0.5, label="running it over the test split", partial=found)
    return replace(found, worth=worth(subject))
