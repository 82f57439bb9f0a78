"""Subjects by name: which network, data and task belong together."""

from paretoscope.data.dataset import datasets, load_data
from paretoscope.measure.subject import Subject
from paretoscope.networks import sources
from paretoscope.tasks import Task
from paretoscope.tasks.classification import Classification


def task_of(model: str) -> Task:
    """How answers of a model are judged, without loading it; raises UnknownNameError."""
    return Classification(datasets.get(sources.find(model).data).classes)


def load(model: str) -> Subject:
    """A network of any source with its data and its task; runs the baseline over the test split once.

    Raises UnknownNameError, or ModelError where its weights or its data cannot be had.
    """
    network = sources.find(model)
    return Subject.of(network, load_data(network.data, network.input_shape), task_of(model))
