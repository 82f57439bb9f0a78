"""Writes samples into a folder of the library, chunk after chunk, and takes the digest of their content."""

import hashlib
import json
import re
from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from paretoscope.base.errors import DataError
from paretoscope.base.progress import Progress
from paretoscope.base.text import listed, shown
from paretoscope.data.samples import DESCRIPTION, LABELS, Field, Kind, Samples

if TYPE_CHECKING:
    import numpy as np

# Bytes of an array that are read, hashed and written at once; chosen by hand; no benchmark.
CHUNK_BYTES = 8 << 20
# Most fields of a sample; chosen by hand; no benchmark.
MOST_FIELDS = 64
DTYPES = ("float32", "float64", "float16", "int64", "int32", "int16", "uint16", "uint8", "int8", "bool")
# What a target of real numbers is said to hold, for which no class can be meant.
REAL = "float numbers"
_FIELD = re.compile(r"[A-Za-z_][A-Za-z0-9_.]{0,63}")


class Writer:
    """What a source fills: fields of equal length, and labels, once each. `finished` closes it.

    folder: an empty one. train: how many of the first samples their source sets apart to train on. notes: what a person
    should know of how the data were read.
    """

    def __init__(self, folder: Path, progress: Progress) -> None:
        self.folder = folder
        self.train = 0
        self.notes: list[str] = []
        self._progress = progress
        self._fields: dict[str, Field] = {}
        self._lengths: dict[str, int] = {}
        self._digests: dict[str, str] = {}
        self._classes: tuple[str, ...] = ()
        self._unfit = ""

    def array(
        self,
        name: str,
        dtype: "np.dtype[np.generic]",
        shape: tuple[int, ...],
        chunks: "Iterable[np.ndarray]",
        columns: tuple[str, ...] = (),
    ) -> None:
        """A field of numbers. shape: of one sample. chunks: (m, *shape) each, of any m."""
        if dtype.name not in DTYPES:
            raise DataError(
                f"an array must hold numbers ({', '.join(DTYPES)}); {name} holds {dtype}. Save it as one of them."
            )
        self._new(Field(name, Kind.ARRAY, shape, dtype.name, columns))
        self._lengths[name] = self._write(f"{name}.npy", name, dtype.newbyteorder("="), shape, chunks)

    def encoded(self, name: str, kind: Kind, blobs: Iterable[bytes]) -> None:
        """A field of images, each as the bytes of its file, or of texts in UTF-8."""
        import numpy as np

        self._new(Field(name, kind))
        offsets, digest = array("q", [0]), hashlib.sha256()
        with open(self.folder / f"{name}.bin", "wb") as file:
            for blob in blobs:
                file.write(blob)
                digest.update(len(blob).to_bytes(8, "little"))
                digest.update(blob)
                offsets.append(offsets[-1] + len(blob))
                self._progress.report(label=f"{len(offsets) - 1:,} read")
        np.save(self.folder / f"{name}.offsets.npy", np.asarray(offsets, np.int64))
        self._lengths[name], self._digests[name] = len(offsets) - 1, digest.hexdigest()

    def labels(self, values: "np.ndarray", classes: tuple[str, ...] = ()) -> None:
        """Labels, whole numbers (n, ...), from 0. classes: what they say, where that is known."""
        import numpy as np

        if values.dtype.kind not in "iub" or (values.size and int(values.min()) < 0):
            raise DataError(
                f"labels must be whole numbers from 0; they are {values.dtype}"
                + (f" from {values.min()}" if values.size and values.dtype.kind in "iuf" else "")
                + ". Number the classes from 0."
            )
        self._classes = classes
        whole = np.ascontiguousarray(values, np.int64)
        self._lengths["labels"] = self._write(LABELS, "labels", whole.dtype, whole.shape[1:], [whole])

    def named_labels(self, values: "np.ndarray", classes: tuple[str, ...] = ()) -> None:
        """Labels as a source has them, one a sample: whole numbers from 0 are kept; texts are numbered by their order,
        or are the numbers that they all say.

        classes: names in the network's order, where the user gave them; texts are found among them. Other numbers are
        no classes: the data stay unlabelled, and `unfit` says what there was.
        """
        import numpy as np

        if values.ndim == 2 and values.shape[1] > 1 and _one_hot(values):
            values = values.argmax(axis=1)
        if values.ndim == 2 and values.shape[1] == 1:
            values = values[:, 0]
        if values.dtype.kind == "U" and not set(values.flat) <= set(classes) and all(map(_is_whole, values.flat)):
            values = values.astype(np.int64)
        if unfit := _unfit(values):
            self._unfit, self._lengths["labels"] = unfit, len(values)
            self.notes.append(f"The target holds {unfit}, which are no classes: the data count as unlabelled.")
            return
        if values.dtype.kind in "iub":
            self.labels(values, classes)
            return
        if values.ndim != 1:
            raise DataError(
                f"texts as labels must be one a sample, (n,); their shape is {values.shape}. Give one for each."
            )
        texts = [str(each) for each in values.tolist()]
        known = classes or tuple(sorted(set(texts)))
        places = {each: place for place, each in enumerate(known)}
        if unknown := sorted(set(texts) - set(known)):
            raise DataError(
                f"every label must be one of the named classes; {listed(map(shown, unknown))} is not. Name it too."
            )
        self.labels(np.array([places[each] for each in texts], np.int64), known)

    def finished(self, source: str, origin: str) -> Samples:
        """The samples, described; raises DataError where there are none or where lengths differ."""
        n = self._length()
        content = {
            "fields": [
                [each.name, each.kind.value, list(each.shape), each.dtype, self._digests[each.name]]
                for each in self._fields.values()
            ],
            "labels": self._digests.get("labels", ""),
            "classes": list(self._classes),
            "train": self.train,
            # Named only where there is one: digests of all other data stay what they were.
            **({"unfit": self._unfit} if self._unfit else {}),
        }
        samples = Samples(
            folder=self.folder,
            digest=hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest(),
            n=n,
            fields=tuple(self._fields.values()),
            labelled="labels" in self._digests,
            classes=self._classes,
            train=self.train,
            source=source,
            origin=origin,
            notes=tuple(self.notes),
            unfit=self._unfit,
        )
        (self.folder / DESCRIPTION).write_text(json.dumps(samples.describe(), indent=1))
        return samples

    def _length(self) -> int:
        if not self._fields:
            raise DataError("data must have at least one field of samples; there is none. Give some.")
        if len(set(self._lengths.values())) > 1:
            told = ", ".join(f"{name} {length}" for name, length in self._lengths.items())
            raise DataError(f"fields and labels must have one length; there are {told}. Leave out what is odd.")
        n = next(iter(self._lengths.values()))
        if n == 0:
            raise DataError("data must have at least one sample; there is none. Look at the file.")
        if not 0 <= self.train < n:
            raise DataError(f"a train split must leave samples to test on; it has {self.train} of {n}. Give test data.")
        return n

    def _new(self, field: Field) -> None:
        if not _FIELD.fullmatch(field.name) or field.name == "labels" or field.name.endswith(".offsets"):
            raise DataError(
                "a field's name must be a letter and then letters, digits, dots or underscores, and not labels; got "
                f"{shown(field.name)}. Rename it."
            )
        taken = {name.casefold() for name in self._fields}
        if field.name.casefold() in taken or len(taken) >= MOST_FIELDS:
            raise DataError(
                f"data must have at most {MOST_FIELDS} fields of different names; {field.name} is one too many. "
                "Leave some out."
            )
        self._fields[field.name] = field

    def _write(
        self,
        file_name: str,
        name: str,
        dtype: "np.dtype[np.generic]",
        shape: tuple[int, ...],
        chunks: "Iterable[np.ndarray]",
    ) -> int:
        """Write a .npy file whose length shows at its end; the length."""
        import numpy as np

        digest, n = hashlib.sha256(), 0
        with open(self.folder / file_name, "wb") as file:
            header = _header(file, dtype, (0, *shape))
            for chunk in _small(chunks):
                whole = np.ascontiguousarray(chunk, dtype)
                if whole.shape[1:] != shape:
                    raise DataError(f"samples of {name} must have shape {shape}; some have {whole.shape[1:]}.")
                file.write(whole.data if whole.size else b"")
                digest.update(whole.data if whole.size else b"")
                n += len(whole)
                self._progress.report(label=f"{name}: {n:,} read")
            file.seek(0)
            if _header(file, dtype, (n, *shape)) != header:
                raise AssertionError("NumPy leaves room in a header for any length of the first axis")
        self._digests[name] = digest.hexdigest()
        return n


def _header(file: BinaryIO, dtype: "np.dtype[np.generic]", shape: tuple[int, ...]) -> int:
    from numpy.lib import format as npy

    described = {"descr": npy.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    npy.write_array_header_1_0(file, described)
    return file.tell()


def _small(chunks: "Iterable[np.ndarray]") -> "Iterator[np.ndarray]":
    """The same samples in chunks of at most CHUNK_BYTES, or of one sample."""
    for chunk in chunks:
        rows = max(1, CHUNK_BYTES // max(1, chunk[:1].nbytes))
        for start in range(0, len(chunk), rows):
            yield chunk[start : start + rows]


def _one_hot(values: "np.ndarray") -> bool:
    import numpy as np

    return bool(np.all((values == 0) | (values == 1)) and np.all(values.sum(axis=1) == 1))


def _is_whole(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 10


def _unfit(values: "np.ndarray") -> str:
    """What an array of numbers holds that can be no labels; "" where it can."""
    import numpy as np

    if values.dtype.kind == "f":
        known = values[~np.isnan(values)]
        with np.errstate(invalid="ignore"):
            whole = bool(known.size and np.all(known % 1 == 0))
        if whole and known.size < values.size:
            return f"whole numbers of a float type ({values.dtype}), and {values.size - known.size:,} that are missing"
        return f"whole numbers of a float type ({values.dtype})" if whole else f"{REAL} ({values.dtype})"
    if values.dtype.kind in "iu" and values.size and not 0 <= int(values.min()) <= int(values.max()) < 1 << 63:
        return f"whole numbers from {values.min()} to {values.max()}"
    return ""
