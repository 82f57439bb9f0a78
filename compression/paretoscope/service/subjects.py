"""Subjects by name: which network, data and task belong together."""

from paretoscope.data.dataset import datasets, load_data
from paretoscope.measure.subject import Subject
from paretoscope.networks import sources
from paretoscope.networks.network import Network
from paretoscope.tasks import Task, tasks


def task_of(model: str) -> Task:
    """How answers of a model are judged, without loading it; raises UnknownNameError."""
    return _task(sources.find(model))


def load(model: str) -> Subject:
    """`open_subject` of a network of any source, by its name; raises UnknownNameError too."""
    return open_subject(sources.find(model))


def open_subject(network: Network) -> Subject:
    """A network with the data and the task that it names; runs the baseline over the test split once.

    Raises UnknownNameError for data or a task that is not registered, ModelError where its weights or its data cannot
    be had.
    """
    return Subject.of(network, load_data(network.data, network.input_shape), _task(network))


def _task(network: Network) -> Task:
    return tasks.get(network.task)(datasets.get(network.data).classes)
