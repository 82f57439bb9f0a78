"""Subjects by name: which network, data and task belong together."""

import json

from paretoscope.data import library
from paretoscope.data.data import Data
from paretoscope.data.dataset import datasets, load_data
from paretoscope.data.drawn import drawn
from paretoscope.data.prepared import prepare
from paretoscope.data.preprocess import Preprocess
from paretoscope.data.split import Parts
from paretoscope.measure.subject import Subject
from paretoscope.networks import sources
from paretoscope.networks.drawn import lengths
from paretoscope.networks.network import Network
from paretoscope.tasks import Task, tasks


def task_of(model: str) -> Task:
    """How answers of a model are judged, without loading it; raises UnknownNameError."""
    network = sources.find(model)
    return _task(network, datasets.get(network.data).classes if network.data in datasets else ())


def load(model: str) -> Subject:
    """`open_subject` of a network of any source, by its name; raises UnknownNameError too."""
    return open_subject(sources.find(model))


def open_subject(network: Network, data: Data | None = None) -> Subject:
    """A network with data and the task that it names; runs the baseline over the samples of a quick evaluation.

    data: None for those that it names: a set that comes with the package, or data of the library; random numbers, which
    are marked as such, where it names none. Raises UnknownNameError for data or a task that is not there, ModelError or
    DataError where its weights or its data cannot be had.
    """
    if data is not None:
        return Subject.of(network, data, _task(network, getattr(data, "classes", ())))
    data, classes = _data(network)
    return Subject.of(network, data, _task(network, classes))


def _data(network: Network) -> tuple[Data, tuple[str, ...]]:
    """The data that a network names, and the names of their classes."""
    if not network.data:
        return drawn(network.inputs, below=_bounds(network)), ()
    if network.data in datasets and network.graph is None:
        return load_data(network.data, network.input_shape), datasets.get(network.data).classes
    preprocess = Preprocess.from_json(json.loads(network.preprocess)) if network.preprocess else None
    parts = Parts(train=library.open(network.train)) if network.train else None
    outputs = network.outputs if tasks.get(network.task).needs_labels else ()
    found = prepare(library.open(network.data), network.inputs, preprocess, parts, outputs=outputs)
    return found, found.classes


def _task(network: Network, classes: tuple[str, ...]) -> Task:
    return tasks.get(network.task)(classes)


def _bounds(network: Network) -> list[int]:
    """For each input, a number above all that it takes: the rows of the table that it is looked up in, or 2."""
    if network.graph is None:
        return [2] * len(network.inputs)
    rows = lengths(network.graph)
    return [rows.get(each.name, 2) for each in network.inputs]
