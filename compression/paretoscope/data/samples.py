"""Samples as the library keeps them: raw, memory-mapped, read by their indices.

A folder holds `data.json`, which describes it, and for each field one memory-mapped file: `NAME.npy` for an array, or
`NAME.bin` with `NAME.offsets.npy` for encoded images and for texts, one after the other. `labels.npy` beside them.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union

from paretoscope.base.errors import DataError, NewerArtefactError
from paretoscope.base.text import reason

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

VERSION = 1
DESCRIPTION, LABELS = "data.json", "labels.npy"
# Most pixels of an image, so that a small file cannot ask for all memory; chosen by hand; no benchmark.
MOST_PIXELS = 100_000_000

# What is read of a field: (n, ...), or one image or text for each sample.
Raw = Union["np.ndarray", list["Image"], list[str]]


class Kind(StrEnum):
    """What a field holds for each sample."""

    ARRAY = "array"
    IMAGE = "image"
    TEXT = "text"


@dataclass(frozen=True, slots=True)
class Field:
    """A named part of every sample. shape, dtype: of one sample of an array; () and "" for images and texts.

    columns: names of the numbers of a sample, where a table gave them.
    """

    name: str
    kind: Kind
    shape: tuple[int, ...] = ()
    dtype: str = ""
    columns: tuple[str, ...] = ()

    def told(self) -> str:
        """For a message, e.g. "x: float32 (6, 32)"."""
        if self.kind is not Kind.ARRAY:
            return f"{self.name}: {self.kind}s"
        return f"{self.name}: {self.dtype} {self.shape}"


@dataclass(frozen=True)
class Samples:
    """Raw samples, which stay on the disk until they are read.

    n: how many. classes: names of what the labels say, () where that is not known. train: how many of the first ones
    their source sets apart to train on; 0 where it sets none apart. notes: what a person should know of how they were
    read. source, origin: where they came from, and by which reader. digest: SHA-256 of the content. unfit: what their
    target holds where that can be no labels, such as float numbers; "" where they are labelled or came without a
    target.
    """

    folder: Path
    digest: str
    n: int
    fields: tuple[Field, ...]
    labelled: bool
    classes: tuple[str, ...]
    train: int
    source: str
    origin: str
    notes: tuple[str, ...]
    unfit: str = ""

    def __len__(self) -> int:
        return self.n

    @cached_property
    def labels(self) -> "np.ndarray | None":
        """int64 (n, ...), memory-mapped; None without."""
        return _mapped(self.folder / LABELS) if self.labelled else None

    def read(self, indices: "np.ndarray") -> dict[str, Raw]:
        """The samples of these indices, by field, in their order: a copy of arrays, images not yet decoded, texts."""
        return {field.name: self.field(field, indices) for field in self.fields}

    def field(self, field: Field, indices: "np.ndarray") -> Raw:
        """One field of these samples, as `read` gives it."""
        if field.kind is Kind.ARRAY:
            found: np.ndarray = self._arrays[field.name][indices]
            return found
        offsets, content = self._arrays[f"{field.name}.offsets"], self._arrays[field.name]
        blobs = [content[offsets[index] : offsets[index + 1]].tobytes() for index in indices]
        if field.kind is Kind.TEXT:
            return [blob.decode() for blob in blobs]
        return [opened(blob) for blob in blobs]

    @cached_property
    def _arrays(self) -> "dict[str, np.ndarray]":
        found = {}
        for field in self.fields:
            if field.kind is Kind.ARRAY:
                found[field.name] = _mapped(self.folder / f"{field.name}.npy")
            else:
                found[f"{field.name}.offsets"] = _mapped(self.folder / f"{field.name}.offsets.npy")
                found[field.name] = _bytes(self.folder / f"{field.name}.bin")
        return found

    def describe(self) -> dict[str, Any]:
        """As JSON, which `opened_folder` reads."""
        return {
            "version": VERSION,
            "digest": self.digest,
            "n": self.n,
            "fields": [
                {"name": each.name, "kind": each.kind.value, "shape": list(each.shape), "dtype": each.dtype}
                | ({"columns": list(each.columns)} if each.columns else {})
                for each in self.fields
            ],
            "labelled": self.labelled,
            "classes": list(self.classes),
            "train": self.train,
            "source": self.source,
            "origin": self.origin,
            "notes": list(self.notes),
            "unfit": self.unfit,
        }


def opened(blob: bytes) -> "Image":
    """An image from its file; its size is looked at and its pixels are not decoded. Raises DataError."""
    from PIL import Image

    try:
        image = Image.open(BytesIO(blob))
    except Exception as error:  # whatever a decoder of damaged bytes raises
        raise DataError(f"an image must be a whole file of a known format; {reason(error)}. Remove it.") from None
    if image.width * image.height > MOST_PIXELS:
        raise DataError(
            f"an image must have at most {MOST_PIXELS:,} pixels; one has {image.width} x {image.height}. Shrink it."
        )
    return image


def check_image(blob: bytes) -> None:
    """Decode an image; raises DataError where it is broken, with the reason."""
    image = opened(blob)
    try:
        image.load()
    except Exception as error:  # whatever a decoder of damaged bytes raises
        raise DataError(f"an image must be whole; {reason(error)}. Remove it.") from None


def opened_folder(folder: Path) -> Samples:
    """The samples of a folder of the library; raises DataError where it is damaged or from a later version."""
    try:
        found = json.loads((folder / DESCRIPTION).read_bytes())
        if found["version"] > VERSION:
            raise NewerArtefactError(
                f"data must be of version {VERSION} or older; {folder} is of version {found['version']}. Update."
            )
        return Samples(folder=folder, **_fields_of(found))
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise _damaged(folder, error) from None


def _damaged(path: Path, error: Exception) -> DataError:
    return DataError(
        f"data in the library must be whole; {path} is damaged ({reason(error)}). Remove the data and add them again."
    )


def _fields_of(found: Mapping[str, Any]) -> dict[str, Any]:
    fields = tuple(
        Field(each["name"], Kind(each["kind"]), tuple(each["shape"]), each["dtype"], tuple(each.get("columns", ())))
        for each in found["fields"]
    )
    return {
        "digest": str(found["digest"]),
        "n": int(found["n"]),
        "fields": fields,
        "labelled": bool(found["labelled"]),
        "classes": tuple(map(str, found["classes"])),
        "train": int(found["train"]),
        "source": str(found["source"]),
        "origin": str(found["origin"]),
        "notes": tuple(map(str, found["notes"])),
        # Libraries of earlier versions do not have it.
        "unfit": str(found.get("unfit", "")),
    }


def _mapped(path: Path) -> "np.ndarray":
    import numpy as np

    try:
        found: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise _damaged(path, error) from None
    return found


def _bytes(path: Path) -> "np.ndarray":
    import numpy as np

    try:
        return np.memmap(path, np.uint8, mode="r") if path.stat().st_size else np.empty(0, np.uint8)
    except OSError as error:
        raise _damaged(path, error) from None
