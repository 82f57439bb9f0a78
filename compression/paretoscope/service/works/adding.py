"""Networks of users: added, looked at, and read in another way."""

import json
from dataclasses import replace
from pathlib import Path

from paretoscope.base.errors import ModelError
from paretoscope.base.progress import Progress, Within
from paretoscope.data import library as samples
from paretoscope.data.preprocess import presets
from paretoscope.graph.importer import Imported
from paretoscope.networks import library, sources
from paretoscope.networks.origins import Options
from paretoscope.recipe.recipe import Recipe
from paretoscope.service import adding, subjects
from paretoscope.service import maps as maps_of
from paretoscope.service.additions import Addition
from paretoscope.service.knowledge import Knowledge
from paretoscope.service.maps import Maps
from paretoscope.service.preprocessing import Ranked, rank_presets
from paretoscope.service.preview import (
    Picked,
    Preview,
    Worth,
    answered,
    presets_for,
    preview,
    samples_at,
    seen,
    worth,
)


def add(bench: Knowledge, progress: Progress, wish: Addition) -> str:
    """Add a network to the library once it was run over its test split; its name. No code of the user is run."""
    progress.report(0.0, label="opening the network")
    candidate = adding.open_candidate(
        wish.name,
        wish.source,
        Options(wish.weights, dict(wish.inputs)),
        data=wish.data,
        data_told=Path(wish.data).name if wish.data_uploaded else "",
        train=wish.train,
        train_told=Path(wish.train).name if wish.train_uploaded else "",
        target=wish.target or None,
        task=wish.task or None,
        preprocess=wish.settings(),
        title=wish.title or None,
        replace=wish.replace,
        progress=Within(progress),
    )
    if wish.uploaded:
        candidate = replace(candidate, source=Path(wish.source).name)
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
    """The first samples, then the network's answers to them; what it is worth comes last.

    Opening a large network's subject takes the longest, as that runs it over more samples: these few do not wait.
    """
    if not bench.loaded(model):
        progress.report(label="reading the first samples")
        network = sources.find(model)
        data = subjects.data_of(network)
        shown = seen(network, data)
        progress.report(0.1, label="opening the network", partial=shown)
        shown = answered(shown, data, subjects.task_of(model), network.load())
        progress.report(0.2, label="running it over the first test samples", partial=shown)
    subject = bench.subject(model)
    return replace(preview(subject), worth=worth(subject))


def pick(bench: Knowledge, progress: Progress, model: str, places: tuple[int, ...]) -> Picked:
    """Some samples of the test split, as the network gets them."""
    return samples_at(bench.subject(model), places)


def baseline(bench: Knowledge, progress: Progress, model: str) -> Worth | None:
    """What the uncompressed network is worth on all test samples; partial: on those so far."""
    progress.report(label="opening the network")
    subject = bench.subject(model)
    samples = len(subject.judged)
    for n in subject.judged.running():
        progress.report(n, samples, label=f"{n:,} of {samples:,}", partial=worth(subject, n))
    return worth(subject)


def maps(
    bench: Knowledge, progress: Progress, model: str, before: Recipe, after: Recipe, places: tuple[int, ...]
) -> list[Maps]:
    """What two recipes say at each position of some samples."""
    return maps_of.maps(bench.subject(model), before, after, places)


def rank(bench: Knowledge, progress: Progress, model: str) -> list[Ranked]:
    """The presets that fit a network of the library by what it gets with each on its train part, the best first."""
    subject = bench.subject(model)
    fitting = [presets.get(name) for name in presets_for(subject)]
    if not fitting:
        raise ModelError(
            f"preprocessing is tried on pictures; {model} is measured on samples that are taken as they are. Prepare "
            "them in another way, and add them again."
        )
    network = subject.network
    return rank_presets(network, samples.open(network.train or network.data), fitting, progress=progress)


def take(bench: Knowledge, progress: Progress, model: str, preset: str) -> str:
    """Give a network of the library another preprocessing; its name. What was measured with the other stays stored."""
    entry = library.get(model)
    network = entry.network
    assert network.graph is not None, "networks of the library have a graph"
    library.add(
        model,
        Imported(network.graph, dict(network.load().state_dict())),
        source=entry.source,
        origin=entry.origin,
        title=network.title,
        notes=entry.notes,
        data=network.data,
        train=network.train,
        task=network.task,
        preprocess=json.dumps(presets.get(preset).preprocess.to_json()),
        replace=True,
    )
    bench.forget(model)
    return model
