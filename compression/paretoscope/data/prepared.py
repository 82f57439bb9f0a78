"""Samples of the library as a network takes them: split into parts, preprocessed in chunks as they are read."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from paretoscope.base.batch import InputLike, joined
from paretoscope.base.errors import DataError
from paretoscope.base.text import listed
from paretoscope.data.data import CHUNK, Part
from paretoscope.data.feeds import Feed, feed_of
from paretoscope.data.preprocess import Preprocess
from paretoscope.data.samples import Field, Raw, Samples
from paretoscope.data.split import Parts, Split, split

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from paretoscope.base.batch import Batch

# Part of the digest: raised when the same samples are brought to a network in another way.
VERSION = 1
# Most bytes of decoded images and the like that stay in memory, of all parts together; chosen by hand; no benchmark.
KEPT_BYTES = 256 << 20
# Samples that are read and decoded at once, whatever chunk is asked for; chosen by hand; no benchmark.
READ = 32
# Labels that are looked at at once.
_LABELS = 1 << 20


@dataclass(frozen=True, eq=False)
class PreparedData:
    """Data of the library at a network's inputs. Tensors are made anew with each chunk.

    Memory: a chunk of what the network takes, READ decoded samples, and KEPT_BYTES of decoded samples that are read
    again: the first of each part that fit in. digest: of the content, the preprocessing, the inputs and the indices of
    the test part, so that nothing is decoded for it. labelled: not where the network's outputs are no classes. notes:
    what a person should know.
    """

    inputs: tuple[InputLike, ...]
    split: Split
    feeds: tuple[Feed, ...]
    train_feeds: tuple[Feed, ...]
    digest: str
    labelled: bool
    notes: tuple[str, ...] = ()
    _kept: "dict[tuple[Part, int, int], tuple[np.ndarray, ...]]" = field(default_factory=dict, repr=False)

    @property
    def drawn(self) -> bool:
        return False

    @property
    def unfit(self) -> str:
        """What the target holds where that can be no labels; "" without one, and where it can."""
        return self.split.test_samples.unfit

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of what the labels say; () where that is not known."""
        return self.split.test_samples.classes

    @cached_property
    def calibration(self) -> "Batch":
        import numpy as np

        return self._batch(self.train_feeds, self.split.train_samples, np.asarray(self.split.calibration))

    def length(self, part: Part) -> int:
        return len(self.split.indices(part))

    def samples(self, part: Part, size: int = CHUNK) -> "Iterator[Batch]":
        import torch

        n = self.length(part)
        for start in range(0, n, size):
            pieces = [
                self._read(part, at, min(at + READ, start + size, n)) for at in _steps(start, min(start + size, n))
            ]
            yield joined(tuple(torch.cat(each) if len(each) > 1 else each[0] for each in zip(*pieces, strict=True)))

    def at(self, part: Part, places: "Sequence[int]") -> "Batch":
        """The split's samples of these numbers, in their order; nothing else is read."""
        import numpy as np

        feeds = self.train_feeds if part is Part.TRAIN else self.feeds
        return self._batch(feeds, self.split.samples(part), self.split.indices(part)[np.asarray(places)])

    def labels(self, part: Part, size: int = CHUNK) -> "Iterator[Tensor]":
        import torch

        labels, indices = self.split.samples(part).labels, self.split.indices(part)
        if labels is None or not self.labelled:
            return
        for start in range(0, len(indices), size):
            yield torch.from_numpy(labels[indices[start : start + size]])

    def raw(self, part: Part, places: "Sequence[int]") -> "tuple[dict[str, Raw], np.ndarray]":
        """The raw samples of these numbers, for pictures of them, and their indices in the data."""
        import numpy as np

        indices = self.split.indices(part)[np.asarray(places)]
        return self.split.samples(part).read(indices), indices

    def _read(self, part: Part, start: int, end: int) -> "tuple[Tensor, ...]":
        """What the network takes of samples start to end, from memory where they were kept."""
        import torch

        key = part, start, end
        feeds = self.train_feeds if part is Part.TRAIN else self.feeds
        compact = self._kept.get(key)
        if compact is None:
            samples, indices = self.split.samples(part), self.split.indices(part)[start:end]
            compact = tuple(feed.compact(samples, indices) for feed in feeds)
            if any(feed.slow for feed in feeds) and self._kept_bytes + _bytes(compact) <= KEPT_BYTES:
                self._kept[key] = compact
        return tuple(torch.from_numpy(feed.finish(each)) for feed, each in zip(feeds, compact, strict=True))

    @property
    def _kept_bytes(self) -> int:
        return sum(map(_bytes, list(self._kept.values())))

    def _batch(self, feeds: tuple[Feed, ...], samples: Samples, indices: "np.ndarray") -> "Batch":
        import torch

        return joined(tuple(torch.from_numpy(feed.finish(feed.compact(samples, indices))) for feed in feeds))


def prepare(
    samples: Samples,
    inputs: Sequence[InputLike],
    preprocess: Preprocess | None = None,
    parts: Parts | None = None,
    *,
    outputs: Sequence[tuple[int, ...]] = (),
) -> PreparedData:
    """Samples for a network of these inputs; raises DataError where they do not fit.

    preprocess: None for `default`. parts: how train and test are made, None for the defaults of `Parts`. outputs:
    shapes of one sample's outputs, where labels are to be checked against them.
    """
    parts = Parts() if parts is None else parts
    inputs = tuple(inputs)
    fields = matched(samples, inputs)
    preprocess = default(samples, inputs) if preprocess is None else preprocess
    made = split(samples, parts)
    classes = _classes(samples, outputs)
    for each in {id(one): one for one in (made.test_samples, made.train_samples)}.values():
        _check_labels(each, classes)
    train_fields = matched(made.train_samples, inputs)
    # What is computed of samples, such as a column's mean, is computed of the train part.
    train_feeds = tuple(
        feed_of(each, field, preprocess, made.train_samples, made.train)
        for each, field in zip(inputs, train_fields, strict=True)
    )
    feeds = tuple(
        feed_of(each, field, preprocess, made.train_samples, made.train)
        for each, field in zip(inputs, fields, strict=True)
    )
    unused = [field.name for field in samples.fields if field not in fields]
    notes = samples.notes + ((f"No input takes {listed(unused)}: left out.",) if unused else ())
    labelled = samples.labelled and (classes > 0 or not outputs)
    if samples.labelled and not labelled:
        notes += ("Labels need one output that tells several classes apart; the network has none: they are not used.",)
    digest = _digest(samples, inputs, preprocess, made, feeds)
    return PreparedData(inputs, made, feeds, train_feeds, digest, labelled, notes)


def default(samples: Samples, inputs: Sequence[InputLike]) -> Preprocess:
    """The preprocessing that is taken where none is named: pixels from 0 to 1; it changes nothing of other arrays."""
    return Preprocess()


def matched(samples: Samples, inputs: Sequence[InputLike]) -> tuple[Field, ...]:
    """The field for each input: by name, or the only field for the only input. Raises DataError."""
    named = {field.name: field for field in samples.fields}
    if len(inputs) == len(samples.fields) == 1:
        return samples.fields
    if missing := [each.name for each in inputs if each.name not in named]:
        there = "; ".join(field.told() for field in samples.fields)
        raise DataError(
            f"data must have a field for each input of the network; {listed(missing)} is missing. There is {there}. "
            "Rename the arrays."
        )
    return tuple(named[each.name] for each in inputs)


def _classes(samples: Samples, outputs: Sequence[tuple[int, ...]]) -> int:
    """How many classes a network's outputs tell apart for such labels; 0 where they are no classes.

    One output has them: as its last axis for (classes,) and (length, classes), or its first for pictures of classes.
    """
    labels = samples.labels
    if labels is None or len(outputs) != 1 or not outputs[0]:
        return 0
    shape, each = outputs[0], labels.shape[1:]
    classes = shape[-1] if each == shape[:-1] else shape[0] if each == shape[1:] else 0
    return classes if classes > 1 else 0


def _check_labels(samples: Samples, classes: int) -> None:
    """Raises DataError where labels say classes that the network has no output for."""
    labels = samples.labels
    if labels is None or classes == 0:
        return
    top = max(int(labels[start : start + _LABELS].max()) for start in range(0, len(labels), _LABELS))
    if top >= classes:
        raise DataError(
            f"labels must be below the network's number of outputs, {classes}; the largest is {top}. Number the "
            "classes as the network does, from 0, or choose another network."
        )


def _digest(
    samples: Samples, inputs: tuple[InputLike, ...], preprocess: Preprocess, made: Split, feeds: tuple[Feed, ...]
) -> str:
    import numpy as np

    said = {
        "version": VERSION,
        "content": samples.digest,
        "inputs": [[each.name, list(each.shape), each.dtype] for each in inputs],
        "preprocess": preprocess.to_json(),
        # Numbers that were computed of the train part.
        "feeds": [feed.said for feed in feeds],
    }
    digest = hashlib.sha256(json.dumps(said, sort_keys=True).encode())
    digest.update(np.ascontiguousarray(made.test, np.int64).data)
    return digest.hexdigest()


def _steps(start: int, end: int) -> range:
    return range(start, end, READ)


def _bytes(arrays: "tuple[np.ndarray, ...]") -> int:
    return sum(each.nbytes for each in arrays)
