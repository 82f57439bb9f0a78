"""Published sets by their names, raw: from the user's folder of data, or downloaded into it."""

import tarfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from paretoscope.base.errors import DataError
from paretoscope.data import mnist
from paretoscope.data.dataset import DIGITS_CLASSES
from paretoscope.data.digits import digits_split
from paretoscope.data.fetch import Remote, fetch
from paretoscope.data.origin import Options
from paretoscope.data.sources import idx
from paretoscope.data.writer import Writer

if TYPE_CHECKING:
    import numpy as np

FIELD = "images"
_FASHION = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
# Checksums as torchvision has them; sizes of the packed files in bytes.
FASHION_FILES = (
    Remote(f"{_FASHION}train-images-idx3-ubyte.gz", "8d4fb7e6c68d591d4c3dfef9ec88bf0d", 26_421_880),
    Remote(f"{_FASHION}train-labels-idx1-ubyte.gz", "25c81989df183df01b3e8a0aad5dffbe", 29_515),
    Remote(f"{_FASHION}t10k-images-idx3-ubyte.gz", "bef4ecab320f06d8554ea6380940ec79", 4_422_102),
    Remote(f"{_FASHION}t10k-labels-idx1-ubyte.gz", "bb300cfdad3c16e7a12a480ee83cd310", 5_148),
)
FASHION_CLASSES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
# The version for C programs: that for Python is pickled, and nothing is unpickled here. The checksum is its page's.
CIFAR_FILE = Remote(
    "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d87530", 170_052_171
)
CIFAR_CLASSES = (*("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),)
CIFAR_FOLDER = "cifar-10-batches-bin"
CIFAR_TRAIN, CIFAR_TEST = tuple(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"
# A record: a byte for its class, then red, green and blue planes of 32 x 32.
_RECORD, _MOST_RECORDS = 1 + 3 * 32 * 32, 10_000


@dataclass(frozen=True, slots=True)
class NamedSet:
    """write: puts the raw set into a writer, from a folder."""

    name: str
    summary: str
    write: Callable[[Path, Writer, Options], None]


def _digits(folder: Path, into: Writer, options: Options) -> None:
    """Ink from 0 to 16 is spread over 0 to 255, as any other image's pixels."""
    import numpy as np

    train, train_labels, test, test_labels = digits_split()
    pixels = np.round(np.concatenate([train, test]) * (255 / 16)).astype(np.uint8)
    into.array(FIELD, pixels.dtype, pixels.shape[1:], [pixels])
    into.labels(np.concatenate([train_labels, test_labels]), DIGITS_CLASSES)
    into.train = len(train)


def _mnist(folder: Path, into: Writer, options: Options) -> None:
    raw = folder / "MNIST" / "raw"
    if folder == mnist.folder():
        mnist.ensure()
    _idx(raw, DIGITS_CLASSES, into)


def _fashion(folder: Path, into: Writer, options: Options) -> None:
    raw = folder / "FashionMNIST" / "raw"
    for remote in FASHION_FILES:
        if not (raw / remote.name.removesuffix(".gz")).is_file():
            fetch(remote, raw / remote.name, options.progress)
    _idx(raw, FASHION_CLASSES, into)


def _idx(raw: Path, classes: tuple[str, ...], into: Writer) -> None:
    pairs: list[tuple[Path, Path | None]] = []
    for part in ("train", "t10k"):
        names = f"{part}-images-idx3-ubyte", f"{part}-labels-idx1-ubyte"
        images, labels = (_there(raw / name) for name in names)
        pairs.append((images, labels))
    idx.write(pairs[0], pairs[1], into, classes)


def _there(path: Path) -> Path:
    for each in (path, path.with_name(f"{path.name}.gz")):
        if each.is_file():
            return each
    raise DataError(f"the set's files must be in {path.parent}; {path.name} is not, packed (.gz) or not. Put it there.")


def _cifar(folder: Path, into: Writer, options: Options) -> None:
    import numpy as np

    names = (*CIFAR_TRAIN, CIFAR_TEST)
    if all((folder / CIFAR_FOLDER / name).is_file() for name in names):
        contents: Iterator[bytes] = ((folder / CIFAR_FOLDER / name).read_bytes() for name in names)
    else:
        packed = folder / CIFAR_FILE.name
        fetch(CIFAR_FILE, packed, options.progress)
        contents = _members(packed, names)
    labels: list[np.ndarray] = []
    counts: list[int] = []
    into.array(FIELD, np.dtype(np.uint8), (3, 32, 32), _records(contents, labels, counts))
    into.labels(np.concatenate(labels).astype(np.int64), CIFAR_CLASSES)
    into.train = sum(counts[:-1])


def _members(packed: Path, names: tuple[str, ...]) -> Iterator[bytes]:
    """Files of an archive, in this order; nothing is unpacked onto the disk."""
    try:
        with tarfile.open(packed) as archive:
            for name in names:
                member = archive.extractfile(f"{CIFAR_FOLDER}/{name}")
                if member is None:
                    raise DataError(f"{packed} must hold the files of CIFAR-10; {name} is none. Remove it.")
                yield member.read(_RECORD * _MOST_RECORDS + 1)
    except (tarfile.TarError, EOFError, zlib.error, KeyError) as error:
        raise DataError(f"{packed} must be whole; it is not ({error}). Remove it: it is downloaded anew.") from None


def _records(contents: Iterator[bytes], labels: "list[np.ndarray]", counts: list[int]) -> "Iterator[np.ndarray]":
    """Images, uint8 (n, 3, 32, 32); fills the lists of labels and of lengths."""
    import numpy as np

    for content in contents:
        if not content or len(content) % _RECORD or len(content) > _RECORD * _MOST_RECORDS:
            raise DataError(
                f"a file of CIFAR-10 must be 1 to {_MOST_RECORDS:,} records of {_RECORD} bytes; one has "
                f"{len(content):,} bytes. Remove it: it is downloaded anew."
            )
        records = np.frombuffer(content, np.uint8).reshape(-1, _RECORD)
        if int(records[:, 0].max()) >= len(CIFAR_CLASSES):
            raise DataError("a label of CIFAR-10 must be below 10; one is not. Remove its files: they are got anew.")
        labels.append(records[:, 0])
        counts.append(len(records))
        yield records[:, 1:].reshape(-1, 3, 32, 32)


SETS = {
    each.name: each
    for each in (
        NamedSet("digits", "1,797 handwritten digits, 8 x 8, with scikit-learn.", _digits),
        NamedSet("mnist", "70,000 handwritten digits, 28 x 28.", _mnist),
        NamedSet("fashion-mnist", "70,000 pictures of clothes, 28 x 28.", _fashion),
        NamedSet("cifar10", "60,000 colour pictures of 10 kinds of things, 32 x 32.", _cifar),
    )
}


class Named:
    name = "named"
    title = f"Set by name ({', '.join(SETS)})"
    summary = " ".join(f"{each.name}: {each.summary}" for each in SETS.values())
    reference = (
        "Alpaydin and Kaynak 1998; LeCun, Cortes and Burges 1998; Xiao, Rasul and Vollgraf, Fashion-MNIST, 2017; "
        "Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009"
    )
    code = False
    place = 0
    options: ClassVar[Mapping[str, str]] = {
        "folder": f"where its files lie; else ${mnist.ENVIRONMENT}, into which they are downloaded",
    }

    def takes(self, text: str) -> bool:
        return text in SETS

    def convert(self, text: str, into: Writer, options: Options) -> None:
        folder = options.given.get("folder")
        SETS[text].write(Path(folder) if folder else mnist.folder(), into, options)


ORIGIN = Named()
