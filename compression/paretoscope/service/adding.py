"""A network that is to be added: opened, given data, a task and preprocessing, judged, and kept or let go.

Nothing of it is in the library before `keep`, but data that were read for it, which `discard` removes again.
"""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from paretoscope.base.errors import CompressionError
from paretoscope.base.progress import SILENT, Progress
from paretoscope.base.text import listed
from paretoscope.codec import origin as _origin  # noqa: F401  (registers artefacts as an origin)
from paretoscope.data import library as samples
from paretoscope.data.data import Data
from paretoscope.data.preprocess import Preprocess, named_or_file
from paretoscope.measure.subject import Subject
from paretoscope.networks import adding, library
from paretoscope.networks.adding import Found
from paretoscope.networks.imported import network_of
from paretoscope.networks.library import Entry
from paretoscope.networks.network import Network
from paretoscope.networks.origins import Options
from paretoscope.service import subjects
from paretoscope.service.labels import doubts, expect_classes, without_labels
from paretoscope.tasks import tasks

CLASSIFICATION, AGREEMENT = "classification", "agreement"


@dataclass(frozen=True, eq=False)
class Candidate:
    """A network that is not kept yet. found: what its source gave. source: as it was typed. data: what it is judged
    on. read: names of data that were read into the library for it. notes: what a person should know of all that.
    """

    network: Network
    found: Found
    source: str
    data: Data
    notes: tuple[str, ...]
    read: tuple[str, ...] = ()

    def subject(self) -> Subject:
        """Run the baseline over the test split; raises CompressionError where the task cannot judge it."""
        return subjects.open_subject(self.network, self.data)

    def keep(self, *, replace: bool = False) -> Entry:
        """Add it to the library; raises CompressionError as `paretoscope.networks.library.add` does."""
        return library.add(
            self.network.name,
            self.found.opened.imported,
            source=self.source,
            origin=self.found.origin,
            title=self.network.title,
            notes=self.notes,
            data=self.network.data,
            train=self.network.train,
            task=self.network.task,
            preprocess=self.network.preprocess,
            replace=replace,
        )

    def discard(self) -> None:
        """Remove the data that were read for it."""
        for name in self.read:
            samples.remove(name)


def open_candidate(
    name: str,
    source: str,
    options: Options = Options(),  # noqa: B008 (immutable)
    *,
    data: str = "",
    data_told: str = "",
    train: str = "",
    train_told: str = "",
    target: str | None = None,
    task: str | None = None,
    preprocess: str | Mapping[str, Any] | None = None,
    title: str | None = None,
    replace: bool = False,
    progress: Progress = SILENT,
) -> Candidate:
    """Open a source and fit it with what it is judged on; raises CompressionError, and leaves nothing behind then.

    data, train: names of data of the library, or sources that are read into it; train "" for a part of data. data_told,
    train_told: what the library calls their sources where their paths say nothing. target: the column or array of the
    labels of what is read now. task: None for what `chosen_task` says. preprocess: the name of a
    preset, a file, or settings; None for what the source suggests.
    """
    library.check_new_name(name, replace=replace)
    if task is not None:
        tasks.get(task)
    chosen = None if preprocess is None else _preprocess(preprocess)
    found = adding.open_source(source, options)
    return of_found(
        found,
        name,
        source,
        data=data,
        data_told=data_told,
        train=train,
        train_told=train_told,
        target=target,
        task=task,
        preprocess=chosen,
        title=title,
        code=options.code,
        progress=progress,
    )


def of_found(
    found: Found,
    name: str,
    source: str,
    *,
    data: str = "",
    data_told: str = "",
    train: str = "",
    train_told: str = "",
    target: str | None = None,
    task: str | None = None,
    preprocess: Preprocess | None = None,
    title: str | None = None,
    code: bool = False,
    progress: Progress = SILENT,
) -> Candidate:
    """`open_candidate` of a network that is open already: to try other data, tasks or preprocessing."""
    if train and not data:
        raise CompressionError(f"data to train on need data to measure on; got train {train} alone. Give both.")
    asked, told = _parts(data, train), {"data": data_told, "train": train_told}
    if target is not None and asked and all(text in samples.names() for text in asked.values()):
        raise CompressionError(
            f"--target is for data that are read now; {listed(asked.values())} is in the library. Leave it out."
        )
    opened = found.opened
    if preprocess is None and opened.preprocess is not None and data:
        preprocess = Preprocess.from_json(opened.preprocess)
    read: list[str] = []
    try:
        named = {part: _data(text, name, target, code, told[part], progress, read) for part, text in asked.items()}
        network = network_of(
            name,
            opened.imported.graph,
            lambda: opened.imported.state,
            title=title or opened.title or name,
            data=named.get("data", ""),
            train=named.get("train", ""),
            preprocess=json.dumps(preprocess.to_json()) if preprocess is not None else "",
        )
        prepared = subjects.data_of(network)
        reason = None
        if task is None:
            task, reason = chosen_task(prepared, network)
        elif task == CLASSIFICATION:
            expect_classes(prepared, network)
        network = dataclasses.replace(network, task=task)
        tasks.get(task)
    except BaseException:
        for each in read:
            samples.remove(each)
        raise
    guess = doubts(prepared, network) if task == CLASSIFICATION else None
    notes = [*found.notes, *getattr(prepared, "notes", ()), *filter(None, [reason, guess])]
    return Candidate(network, found, source, prepared, tuple(notes), tuple(read))


def chosen_task(data: Data, network: Network) -> tuple[str, str | None]:
    """Classification of data whose labels are to be classes, which must fit; agreement where nothing can be classes,
    and why: labels are never left out in silence.

    Raises DataError as `expect_classes`.
    """
    why = without_labels(data, network)
    if why is None:
        expect_classes(data, network)
        return CLASSIFICATION, None
    return AGREEMENT, f"It is judged by agreement with the uncompressed network: {why}."


def _preprocess(given: str | Mapping[str, Any]) -> Preprocess:
    return named_or_file(given) if isinstance(given, str) else Preprocess.from_json(given)


def _parts(data: str, train: str) -> dict[str, str]:
    return {part: text for part, text in (("data", data), ("train", train)) if text}


def _data(
    text: str, network: str, target: str | None, code: bool, told: str, progress: Progress, read: list[str]
) -> str:
    """The name of data in the library; a source is read into it under a free name, which joins `read`."""
    if text in samples.names():
        return text
    name = samples.add(network, text, target=target, code=code, told=told, progress=progress, beside=True).name
    read.append(name)
    return name
