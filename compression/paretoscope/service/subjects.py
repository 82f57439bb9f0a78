"""Subjects by name: which network, data and task belong together."""

from paretoscope.data.dataset import datasets
from paretoscope.networks.zoo import models
from paretoscope.tasks import Task
from paretoscope.tasks.classification import Classification


def task_of(model: str) -> Task:
    """How answers of a model are judged, without loading it; raises UnknownNameError."""
    return Classification(datasets.get(models.get(model).dataset).classes)
