"""What is asked for when a network is added: its source, its data, its task and its preprocessing, checked together.

What does not fit is told before anything is kept; what fails leaves the library as it was.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paretoscope.base.errors import CompressionError
from paretoscope.base.progress import Progress, Within

if TYPE_CHECKING:
    from paretoscope.graph.network_graph import NetworkGraph

# The task that is chosen by the data: classification where they have labels and the network classes.
BY_DATA = ""


@dataclass(frozen=True, slots=True)
class Addition:
    """A network to be added, as plain data.

    source, weights, inputs: as `paretoscope.networks.adding.open_source` takes them. data: of the library or a set by
    name, "" for none. reads: a source that is read into the library as `data` first, "" where they are there; target:
    its column of labels. task: a task's name, or BY_DATA. preprocess: settings, None for what the origin suggests or
    the defaults. replace: whether it may take the place of another network of that name.
    """

    name: str
    source: str
    title: str = ""
    weights: str = ""
    inputs: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    data: str = ""
    reads: str = ""
    target: str = ""
    task: str = BY_DATA
    preprocess: Mapping[str, Any] | None = None
    replace: bool = False

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Addition":
        """What `to_dict` gave; TypeError or ValueError for anything else."""
        return cls(**{**data, "inputs": {name: tuple(map(int, shape)) for name, shape in data["inputs"].items()}})


def add(wish: Addition, progress: Progress) -> str:
    """Add a network; its name. Raises CompressionError, and Cancelled."""
    from paretoscope.data import library as all_data
    from paretoscope.networks import adding, library
    from paretoscope.networks.origins import Options

    library.check_new_name(wish.name, replace=wish.replace)
    progress.report(0.0, label="opening the network")
    found = adding.open_source(wish.source, Options(wish.weights, dict(wish.inputs)))
    new_data = False
    if wish.reads:
        new_data = wish.data not in all_data.names()
        progress.report(0.4, label="reading the data")
        all_data.add(wish.data, wish.reads, target=wish.target or None, progress=Within(progress))
    try:
        progress.report(0.8, label="checking that they fit")
        preprocess = wish.preprocess if wish.preprocess is not None else found.opened.preprocess
        task = _checked(wish, found.opened.imported.graph, preprocess)
        progress.report(0.9, label="keeping it")
        library.add(
            wish.name,
            found.opened.imported,
            source=Path(wish.source).name or wish.source,
            origin=found.origin,
            title=wish.title or None,
            notes=found.notes,
            data=wish.data,
            task=task,
            preprocess="" if preprocess is None else json.dumps(dict(preprocess)),
            replace=wish.replace,
        )
    except BaseException:
        if new_data:
            all_data.remove(wish.data)
        raise
    return wish.name


def _checked(wish: Addition, graph: "NetworkGraph", preprocess: Mapping[str, Any] | None) -> str:
    """The name of the task; raises CompressionError where network, data, preprocessing and task do not fit."""
    from paretoscope.data import library as all_data
    from paretoscope.data.dataset import datasets
    from paretoscope.data.prepared import prepare
    from paretoscope.data.preprocess import Preprocess
    from paretoscope.networks.imported import outputs_of
    from paretoscope.tasks import tasks
    from paretoscope.tasks.agreement import Agreement
    from paretoscope.tasks.classification import Classification

    settings = None if preprocess is None else Preprocess.from_json(dict(preprocess))
    outputs = outputs_of(graph)
    labelled = bool(wish.data)
    if wish.data and wish.data not in datasets:
        samples = all_data.open(wish.data)
        labels = samples.labels
        labelled = labels is not None and labels.ndim == 1
        prepare(samples, graph.inputs, settings, outputs=outputs)
    classes = len(outputs) == 1 and len(outputs[0]) == 1 and outputs[0][0] > 1
    if wish.task == BY_DATA:
        return Classification.name if labelled and classes else Agreement.name
    if tasks.get(wish.task).needs_labels and not labelled:
        raise CompressionError(
            f"{tasks.get(wish.task).title.lower()} needs data with a label a sample; "
            f"{wish.data or 'no data'} {'has' if wish.data else 'have'} none. Give labels, or choose agreement."
        )
    return wish.task
