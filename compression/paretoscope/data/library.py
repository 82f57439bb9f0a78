"""The user's data: added under a name from any source, kept by content digest, opened by that name."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from paretoscope.base import library
from paretoscope.base.errors import CompressionError, DataError
from paretoscope.base.files import locked, temporary_folder
from paretoscope.base.library import LONGEST, Index, check_name, unwritable
from paretoscope.base.progress import SILENT, Progress
from paretoscope.data.origin import Options, split_options
from paretoscope.data.samples import Samples, opened_folder
from paretoscope.data.sources import find_origin
from paretoscope.data.sources.named import SETS
from paretoscope.data.writer import Writer

# Bytes that must stay free on the disk beside what is written; chosen by hand; no benchmark.
SPARE_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Entry:
    """Data of the library.

    name: what the user calls them. source: the text that they were added by; equal content of another name may have
    come from elsewhere. samples: what is there, nothing of it read yet.
    """

    name: str
    source: str
    samples: Samples


def add(
    name: str,
    text: str,
    *,
    target: str | None = None,
    code: bool = False,
    told: str = "",
    progress: Progress = SILENT,
    beside: bool = False,
) -> Entry:
    """Read data from a source into the library, in the place of what has the name.

    text: a path, a name of a set or a function of Python, with options behind a #, as in table.csv#target=price.
    target: the column or array of the labels. code: whether a function of the user may be called. told: what the
    library and messages call the source where its path says nothing, as that of a copy that goes. beside: whether data
    that have the name stay, and these get a number behind it; so do those named as a published set.

    Memory: one chunk of 8 MiB of an array, or one image and its pixels, beside 8 bytes a sample for offsets and labels;
    a table's chunk has 10,000 rows. Raises DataError, CompressionError for the name, and Cancelled.
    """
    check_name("data", name)
    path, given = split_options(text)
    if target is not None:
        given["target"] = target
    origin = find_origin(path, code=code)
    options = Options.of(origin, given, code=code, progress=progress)
    root = _folder()
    try:
        root.mkdir(parents=True, exist_ok=True)
        _expect_room(root)
        with temporary_folder(root / "adding") as scratch:
            writer = Writer(scratch, progress)
            origin.convert(path, writer, options)
            samples = writer.finished(told or text, origin.name)
            kept = root / samples.digest
            with _alone():
                if beside:
                    name = _free(name)
                if not _is_whole(kept):
                    shutil.rmtree(kept, ignore_errors=True)
                    _move(scratch, kept)
                _index().put(name, {"digest": samples.digest, "source": told or text})
    except DataError as error:
        if not told:
            raise
        raise DataError(str(error).replace(path, told)) from None
    except MemoryError:
        raise DataError(
            f"data must be read within this machine's memory; {told or text} needs more. Give less at once, e.g. an "
            "image folder instead of one array, or fewer rows."
        ) from None
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS, errno.EPERM):
            raise unwritable(error) from None
        raise DataError(f"{told or path} must be readable; {error.strerror or error}. Look at the file.") from None
    return Entry(name, told or text, opened_folder(kept))


def remove(name: str) -> None:
    """Forget data, and remove them where no other name has the same; raises UnknownNameError."""
    if not _folder().is_dir():
        _index().get(name)
    try:
        with _alone():
            digests = {each: _digest_if_whole(each) for each in _index().names()}
            _index().remove(name)
            digest = digests.pop(name, None)
            if digest is not None and digest not in digests.values():
                shutil.rmtree(_folder() / digest, ignore_errors=True)
    except OSError as error:
        raise unwritable(error) from None


def entries() -> tuple[Entry, ...]:
    """All data of the library by name; damaged ones are left out, `find` says what is wrong with them."""
    found = []
    for name in _index().names():
        try:
            found.append(find(name))
        except CompressionError:
            continue
    return tuple(found)


def find(name: str) -> Entry:
    """The data of that name; raises UnknownNameError, or DataError where they are damaged."""
    digest = _digest(name)
    return Entry(name, str(_index().get(name).get("source")), opened_folder(_folder() / digest))


def ensure(name: str, progress: Progress = SILENT) -> Entry:
    """As `find`; a published set that is not in the library yet is added under its own name, downloaded if need be."""
    if name not in names() and name in SETS:
        return add(name, name, progress=progress)
    return find(name)


def open(name: str) -> Samples:
    """The samples of that name; raises as `find` does."""
    return find(name).samples


def names() -> tuple[str, ...]:
    """The names of all data, without a look at them."""
    return _index().names()


def _free(name: str) -> str:
    """The name, or with the first number behind it that no data have."""
    taken, number, free = {*_index().names(), *SETS}, 1, name
    while free in taken:
        number += 1
        free = f"{name[: LONGEST - len(str(number)) - 1]}-{number}"
    return free


def _digest_if_whole(name: str) -> str | None:
    try:
        return _digest(name)
    except CompressionError:
        return None


def _digest(name: str) -> str:
    digest = str(_index().get(name).get("digest"))
    if len(digest) != 64 or not set(digest) <= set("0123456789abcdef"):
        raise DataError(f"data in the library must be whole; {name} is damaged. Remove the data and add them again.")
    return digest


@contextmanager
def _alone() -> Iterator[None]:
    """Context in which no other thread or process names or removes data. Raises OSError."""
    with locked(_folder() / "lock"):
        yield


def _index() -> Index:
    return Index("data", _folder() / "names")


def _folder() -> Path:
    return library.folder() / "data"


def _is_whole(kept: Path) -> bool:
    try:
        opened_folder(kept)
    except CompressionError:
        return False
    return True


def _move(scratch: Path, kept: Path) -> None:
    """Put a finished folder in its place; another process that added the same content may have been first."""
    whole = scratch / "whole"
    whole.mkdir()
    for each in list(scratch.iterdir()):
        if each != whole:
            with each.open("rb+") as file:
                os.fsync(file.fileno())
            each.rename(whole / each.name)
    try:
        whole.rename(kept)
    except OSError:
        if not kept.is_dir():
            raise


def _expect_room(root: Path) -> None:
    free = shutil.disk_usage(root).free
    if free < SPARE_BYTES:
        raise DataError(
            f"the library needs {SPARE_BYTES >> 20} MB of free disk beside the data; {root} has {free >> 20} MB. Make "
            f"room, or set {library.ENVIRONMENT} to another folder."
        )
