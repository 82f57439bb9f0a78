"""Train, calibration and test parts of samples, always the same for the same content."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from paretoscope.base.errors import DataError
from paretoscope.data.data import Part
from paretoscope.data.digits import stratified
from paretoscope.data.samples import Samples

if TYPE_CHECKING:
    import numpy as np

# Part of a single set that is trained on: what is measured on the rest is as sure as what is learnt; by hand.
TRAIN_SHARE = 0.5
# Samples for calibration, as of the zoo's data; chosen by hand; no benchmark.
CALIBRATION = 128


@dataclass(frozen=True, slots=True)
class Parts:
    """How parts are made. train: a second set, which is trained on as a whole; the first is measured on as a whole.

    share: part of a single set that is trained on, in (0, 1). calibration: how many samples of the train part.
    """

    train: Samples | None = None
    share: float = TRAIN_SHARE
    calibration: int = CALIBRATION

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise DataError(f"the share to train on must be between 0 and 1; got {self.share}. Choose e.g. 0.5.")
        if self.calibration < 1:
            raise DataError(f"calibration needs at least one sample; got {self.calibration}. Choose e.g. 128.")


@dataclass(frozen=True, eq=False, slots=True)
class Split:
    """Indices, int64, of the parts: of test_samples to measure on, of train_samples to train on.

    calibration: a draw of the train part, stratified by classes where it is labelled.
    """

    test_samples: Samples
    train_samples: Samples
    test: "np.ndarray"
    train: "np.ndarray"
    calibration: "np.ndarray"

    def samples(self, part: Part) -> Samples:
        return self.train_samples if part is Part.TRAIN else self.test_samples

    def indices(self, part: Part) -> "np.ndarray":
        return self.train if part is Part.TRAIN else self.test


def split(samples: Samples, parts: Parts) -> Split:
    """The parts of samples; they share no sample.

    A second set stays whole; of the first its source's train split, where it has one, is left out then. A single set
    is split as its source does it, and where that does not, divided by `share`, stratified by classes, in an order that
    the content's digest draws. Raises DataError.
    """
    import numpy as np

    if parts.train is not None and parts.train.digest == samples.digest:
        raise DataError(
            "the set to train on must be another one than that to measure on; both have the same content. Give one: "
            "it is divided then."
        )
    random = np.random.RandomState(int(samples.digest[:8], 16))
    if parts.train is not None:
        train_samples, train = parts.train, np.arange(len(parts.train))
        test = np.arange(samples.train, len(samples))
        if train_samples.labelled != samples.labelled:
            raise DataError(
                "both sets must be labelled, or none; one is. Add labels to the other, or leave the train set out."
            )
    elif samples.train:
        train_samples, train, test = samples, np.arange(samples.train), np.arange(samples.train, len(samples))
    else:
        if len(samples) < 2:
            raise DataError("data must have at least 2 samples, to be divided; there is 1. Give more, or a train set.")
        train_samples = samples
        train, test = _divided(samples, np.arange(len(samples)), parts.share, random)
    # An order of its own: what is learnt from the first samples must not hang on how a file was sorted.
    train = train[random.permutation(len(train))]
    share = min(parts.calibration, len(train)) / len(train)
    calibration = train if share == 1 else _divided(train_samples, train, share, random)[0]
    # Measured in a drawn order: the first samples, which give the first figure, are a fair draw of all.
    return Split(samples, train_samples, test[random.permutation(len(test))], train, calibration)


def _divided(
    samples: Samples, indices: "np.ndarray", share: float, random: "np.random.RandomState"
) -> "tuple[np.ndarray, np.ndarray]":
    """A part of these indices of that share, and the rest; neither is empty."""
    import numpy as np

    first = min(max(1, round(len(indices) * share)), len(indices) - 1)
    labels = samples.labels
    if labels is not None and labels.ndim == 1:
        here, there = stratified(np.asarray(labels)[indices], first, random)
    else:
        order = random.permutation(len(indices))
        here, there = order[:first], order[first:]
    return indices[here], indices[there]
