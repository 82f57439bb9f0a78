"""IDX files, as MNIST has them, packed (.gz) or not: one of samples with its labels beside it, or a folder of a set."""

import gzip
import re
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, ClassVar, cast

from paretoscope.base.errors import DataError
from paretoscope.base.text import listed
from paretoscope.data.origin import Options
from paretoscope.data.writer import CHUNK_BYTES, Writer

if TYPE_CHECKING:
    import numpy as np

FIELD = "images"
TYPES = {8: "u1", 9: "i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
_NAME = re.compile(r".*(idx\d*(-ubyte)?|-ubyte)(\.gz)?", re.IGNORECASE)
_IMAGES, _LABELS = re.compile(r"images([-.])idx\d", re.IGNORECASE), r"labels\g<1>idx1"


class Idx:
    name = "idx"
    title = "IDX files"
    summary = "A file of samples with that of its labels beside it, or a folder of train-* and t10k-* or test-* files."
    reference = "LeCun, Cortes and Burges, The MNIST database of handwritten digits: FILE FORMATS, 1998"
    code = False
    place = 1
    options: ClassVar[Mapping[str, str]] = {
        "labels": "the file of the labels, where it is not the one beside it",
        "classes": "a file of class names",
    }

    def takes(self, text: str) -> bool:
        path = Path(text)
        return bool(_NAME.fullmatch(path.name)) or (path.is_dir() and bool(_in_folder(path)))

    def convert(self, text: str, into: Writer, options: Options) -> None:
        path = Path(text)
        if path.is_dir():
            train, test = _parts(path)
            write(train, test, into, options.classes)
        else:
            labels = options.given.get("labels")
            write(None, (path, Path(labels) if labels else _beside(path)), into, options.classes)


ORIGIN = Idx()

Pair = tuple[Path, Path | None]


def write(train: Pair | None, test: Pair, into: Writer, classes: tuple[str, ...] = ()) -> None:
    """Samples and labels of a train split, if there is one, and of a test split. Raises DataError or OSError."""
    import numpy as np

    pairs = [test] if train is None else [train, test]
    headers = [_header_of(images) for images, _ in pairs]
    if len({(each.dtype, each.shape[1:]) for each in headers}) > 1:
        raise DataError(
            f"both splits must have samples of one shape; they have {listed(str(each.shape[1:]) for each in headers)}. "
            "Give one of the files."
        )
    first = headers[0]
    chunks = (chunk for images, _ in pairs for chunk in _chunks(images))
    into.array(FIELD, np.dtype(first.dtype), first.shape[1:], chunks)
    into.train = headers[0].shape[0] if train is not None else 0
    labels = [path for _, path in pairs if path is not None]
    if len(labels) == len(pairs):
        values = [np.concatenate(list(_chunks(path))) for path in labels]
        shapes = [str(each.shape[1:]) for each in values]
        if len(set(shapes)) > 1:
            raise DataError(
                f"both splits must have labels of one shape; they have {listed(shapes)}. Give one of the files."
            )
        into.named_labels(np.concatenate(values), classes)
    else:
        into.notes.append("There is no file of labels beside the samples: they are unlabelled.")


@dataclass(frozen=True, slots=True)
class _Header:
    dtype: str
    shape: tuple[int, ...]


def _header_of(path: Path) -> _Header:
    with _opened(path) as file:
        return _header(file, path)


def _header(file: IO[bytes], path: Path) -> _Header:
    try:
        start = file.read(4)
        if len(start) == 4 and start[:2] == b"\0\0" and start[2] in TYPES and 1 <= start[3] <= 8:
            shape = struct.unpack(f">{start[3]}I", file.read(4 * start[3]))
            # A sample must fit into memory.
            if all(shape) and _size(shape[1:]) <= 1 << 28:
                return _Header(TYPES[start[2]], shape)
    except (struct.error, EOFError, zlib.error, gzip.BadGzipFile):
        pass
    raise DataError(f"an IDX file must begin with its type and sizes; {path} does not. Look at the file.")


def _chunks(path: Path) -> "Iterator[np.ndarray]":
    import numpy as np

    with _opened(path) as file:
        header = _header(file, path)
        dtype = np.dtype(header.dtype)
        row = dtype.itemsize * _size(header.shape[1:])
        rows = max(1, CHUNK_BYTES // row)
        for start in range(0, header.shape[0], rows):
            wanted = min(rows, header.shape[0] - start)
            try:
                read = file.read(wanted * row)
            except (EOFError, zlib.error, gzip.BadGzipFile):
                read = b""
            if len(read) != wanted * row:
                raise DataError(f"an IDX file must be whole; {path} ends early. Get it again.")
            yield np.frombuffer(read, dtype).reshape(wanted, *header.shape[1:])


def _opened(path: Path) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(path, "rb") if path.name.lower().endswith(".gz") else path.open("rb"))


def _beside(path: Path) -> Path | None:
    """The file of labels beside one of images."""
    name = _IMAGES.sub(_LABELS, path.name)
    stem = name.removesuffix(".gz")
    candidates = [] if name == path.name else [path.with_name(stem), path.with_name(f"{stem}.gz")]
    return next((each for each in candidates if each.is_file()), None)


def _in_folder(folder: Path) -> list[Path]:
    """Files of samples in a folder, unpacked ones first where there are both."""
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.is_file() and _NAME.fullmatch(path.name) and _IMAGES.search(path.name):
            found.setdefault(path.name.removesuffix(".gz"), path)
    return list(found.values())


def _parts(folder: Path) -> tuple[Pair | None, Pair]:
    images = _in_folder(folder)
    train = [each for each in images if each.name.lower().startswith("train")]
    test = [each for each in images if each not in train]
    if len(train) > 1 or len(test) > 1 or not images:
        raise DataError(
            f"a folder of IDX files must have one set to test on and at most one to train on; {folder} has "
            f"{listed(each.name for each in images)}. Name one file."
        )
    pairs: list[Pair] = [(each, _beside(each)) for each in (*train, *test)]
    return (pairs[0], pairs[1]) if len(pairs) == 2 else (None, pairs[0])


def _size(shape: tuple[int, ...]) -> int:
    whole = 1
    for each in shape:
        whole *= each
    return whole
