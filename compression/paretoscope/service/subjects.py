"""Subjects by name: which network, data and task belong together."""

import json
from contextlib import suppress

from paretoscope.base.errors import CompressionError
from paretoscope.data import library
from paretoscope.data.data import Data
from paretoscope.data.dataset import datasets, load_data
from paretoscope.data.prepared import prepare
from paretoscope.data.preprocess import Preprocess
from paretoscope.data.split import Parts
from paretoscope.measure.subject import Subject
from paretoscope.networks import sources
from paretoscope.networks.drawn import drawn
from paretoscope.networks.network import Network
from paretoscope.tasks import Task, tasks


def task_of(model: str) -> Task:
    """How answers of a model are judged, without loading it; raises UnknownNameError."""
    return _task(sources.find(model))


def load(model: str) -> Subject:
    """`open_subject` of a network of any source, by its name; raises UnknownNameError too."""
    return open_subject(sources.find(model))


def open_subject(network: Network, data: Data | None = None) -> Subject:
    """A network with data and the task that it names; runs the baseline over the samples of a quick evaluation.

    data: None for those that it names: a set that comes with the package, or data of the library; random numbers, which
    are marked as such, where it names none. Raises UnknownNameError for data or a task that is not registered,
    ModelError where its weights or its data cannot be had, DataError where these do not fit.
    """
    return Subject.of(network, data_of(network) if data is None else data, _task(network))


def data_of(network: Network) -> Data:
    """The data that a network names, as it takes them; drawn ones where it names none. Raises as `open_subject`."""
    if network.graph is None:
        return load_data(network.data, network.input_shape)
    if not network.data:
        return drawn(network.graph)
    preprocess = Preprocess.from_json(json.loads(network.preprocess)) if network.preprocess else None
    parts = Parts(train=library.open(network.train)) if network.train else None
    outputs = network.outputs if tasks.get(network.task).needs_labels else ()
    return prepare(library.open(network.data), network.inputs, preprocess, parts, outputs=outputs)


def _task(network: Network) -> Task:
    return tasks.get(network.task)(_classes(network))


def _classes(network: Network) -> tuple[str, ...]:
    """Names of the classes; () where they are not known, as with data that are not here."""
    if network.graph is None:
        return datasets.get(network.data).classes
    with suppress(CompressionError):
        return library.open(network.data).classes if network.data else ()
    return ()
