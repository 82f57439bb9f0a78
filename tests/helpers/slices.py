"""Subjects that are quick to train."""

from dataclasses import replace

from paretoscope.measure.subject import Subject


def sliced(subject: Subject, count: int) -> Subject:
    """A subject with the first so many training images."""
    data = subject.data
    data = replace(data, train_images=data.train_images[:count], train_labels=data.train_labels[:count])
    return replace(subject, data=data)
