"""Images in a folder or a .zip: a folder for each class, or all beside each other without labels."""

import re
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import ClassVar

from paretoscope.base.errors import DataError
from paretoscope.base.text import listed, reason, shown
from paretoscope.data.origin import Options
from paretoscope.data.samples import Kind, check_image
from paretoscope.data.writer import Writer

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".jfif")
# Most bytes of one image's file, and most images; chosen by hand; no benchmark.
MOST_BYTES, MOST_IMAGES = 64 << 20, 5_000_000
TRAIN, TEST = ("train", "training"), ("test", "val", "valid", "validation")
FIELD = "images"
_NUMBERED = re.compile(r"(\d{1,5})(?:$|[_\- .])")


@dataclass(frozen=True, slots=True)
class Found:
    """An image's file. path: within the folder or archive. read: gives its bytes."""

    path: PurePosixPath
    read: Callable[[], bytes]


class Images:
    name = "images"
    title = "Image folder or .zip"
    summary = "A folder for each class, under train and test or not; without such folders the images are unlabelled."
    reference = "torchvision's ImageFolder; the suffixes are " + ", ".join(SUFFIXES)
    code = False
    place = 1
    options: ClassVar[Mapping[str, str]] = {
        "broken": "refuse (default) or skip images that cannot be decoded",
        "classes": "a file of the folders' names in the order of the network's classes",
    }

    def takes(self, text: str) -> bool:
        return text.lower().endswith(".zip") or (Path(text).is_dir() and not list(Path(text).glob("*-ubyte*")))

    def convert(self, text: str, into: Writer, options: Options) -> None:
        path = Path(text)
        if path.is_dir():
            _convert(_in_folder(path), text, into, options)
            return
        try:
            with zipfile.ZipFile(path) as archive:
                _convert(_without_root(_in_zip(archive)), text, into, options)
        except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError) as error:
            raise DataError(
                f"a .zip must be whole and without a password; {path}: {reason(error)}. Pack it again."
            ) from None


ORIGIN = Images()


def _in_folder(folder: Path) -> list[Found]:
    """Images of a folder and those in it; links to other folders are not followed."""
    found = []
    for path in sorted(folder.rglob("*")):
        inner = PurePosixPath(path.relative_to(folder).as_posix())
        if _is_image(inner) and path.is_file():
            found.append(Found(inner, partial(_of_file, path)))
    return found


def _in_zip(archive: zipfile.ZipFile) -> list[Found]:
    """Images of an archive; nothing of it is unpacked onto the disk."""
    found = []
    for info in sorted(archive.infolist(), key=lambda info: info.filename):
        inner = PurePosixPath(info.filename.replace("\\", "/"))
        # A damaged archive may have an entry without any name, which is no folder either.
        if info.filename and not info.is_dir() and _is_image(inner):
            found.append(Found(inner, partial(_of_zip, archive, info)))
    return found


def _of_file(path: Path) -> bytes:
    _expect_small(path.stat().st_size, str(path))
    return path.read_bytes()


def _of_zip(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    _expect_small(info.file_size, info.filename)
    return archive.read(info)


def _is_image(path: PurePosixPath) -> bool:
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in path.parts)
    return path.suffix.lower() in SUFFIXES and not hidden


def _expect_small(size: int, name: str) -> None:
    if size > MOST_BYTES:
        raise DataError(
            f"an image's file must have at most {MOST_BYTES >> 20} MB; {shown(name)} has {size >> 20}. Shrink it."
        )


def _without_root(found: list[Found]) -> list[Found]:
    """Archives often hold one folder with everything in it: it is no class."""
    while (
        found and len({each.path.parts[0] for each in found}) == 1 and all(len(each.path.parts) > 1 for each in found)
    ):
        found = [Found(PurePosixPath(*each.path.parts[1:]), each.read) for each in found]
    return found


def _convert(found: list[Found], source: str, into: Writer, options: Options) -> None:
    if not found or len(found) > MOST_IMAGES:
        raise DataError(
            f"there must be 1 to {MOST_IMAGES:,} images ({', '.join(SUFFIXES)}); {source} has {len(found):,}. Look at "
            "what is in it."
        )
    train, test = _splits(found, source)
    images = [*train, *test]
    depths = {len(each.path.parts) > 1 for each in images}
    if len(depths) > 1:
        lonely = next(each.path for each in images if len(each.path.parts) == 1)
        raise DataError(
            f"images must all lie in folders of classes, or none; in {source}, {shown(str(lonely))} lies beside such "
            "folders. Move it into one."
        )
    kept: list[Found] = []
    broken: list[str] = []
    skip = options.choice("broken", ("refuse", "skip")) == "skip"
    into.encoded(FIELD, Kind.IMAGE, _whole(images, kept, broken))
    if broken and not skip:
        raise DataError(
            f"every image must be whole; {len(broken)} of {len(images)} cannot be decoded: {listed(broken)}. Remove "
            "them, or leave them out by #broken=skip."
        )
    if broken:
        into.notes.append(f"{len(broken)} of {len(images)} images could not be decoded and were left out.")
    to_train = set(map(id, train))
    into.train = sum(id(each) in to_train for each in kept)
    if depths == {True}:
        _label([each.path.parts[0] for each in kept], into, options.classes)
    elif options.classes:
        raise DataError(f"classes are named for folders of images; {source} has none. Leave the option out.")


def _whole(images: list[Found], kept: list[Found], broken: list[str]) -> Iterator[bytes]:
    """The files of the images that can be decoded; fills both lists."""
    for each in images:
        blob = each.read()
        try:
            check_image(blob)
        except DataError:
            broken.append(str(each.path))
            continue
        kept.append(each)
        yield blob


def _splits(found: list[Found], source: str) -> tuple[list[Found], list[Found]]:
    """Images of a train folder and of a test folder, without that folder; without such folders all are test images."""
    tops = {each.path.parts[0] for each in found if len(each.path.parts) > 1}
    names = {top: top.lower() for top in tops}
    trains, tests = ([top for top in tops if names[top] in kind] for kind in (TRAIN, TEST))
    if not trains or not tests or len(tops) > 2:
        if len(trains) == 1 and len(tests) > 1 and len(tops) == len(trains) + len(tests):
            raise DataError(
                f"a folder must have one folder to test on beside that to train on; {source} has "
                f"{listed(sorted(tests))}. Give the test folder as data and the train folder as train data."
            )
        return [], found
    parts = [[each for each in found if each.path.parts[0] == top] for top in (*trains, *tests)]
    train, test = ([Found(PurePosixPath(*each.path.parts[1:]), each.read) for each in part] for part in parts)
    return train, test


def _label(folders: list[str], into: Writer, classes: tuple[str, ...]) -> None:
    """Labels from folders: a name's leading number where each has another one, else the place in their order."""
    import numpy as np

    names = sorted(set(folders))
    if classes:
        into.named_labels(np.array(folders), classes)
        return
    numbers = [int(match[1]) for name in names if (match := _NUMBERED.match(name))]
    if len(set(numbers)) == len(names):
        place = dict(zip(names, numbers, strict=True))
        named = {number: name for name, number in place.items()}
        classes = tuple(named.get(number, str(number)) for number in range(max(numbers) + 1))
        into.notes.append("Each folder's name begins with a number, which is its class.")
    else:
        place, classes = {name: number for number, name in enumerate(names)}, tuple(names)
    into.labels(np.array([place[name] for name in folders], np.int64), classes)
