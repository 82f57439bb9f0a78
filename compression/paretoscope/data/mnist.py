"""MNIST through torchvision: from the user's folder where it is there, else downloaded into it.

LeCun, Cortes and Burges, The MNIST database of handwritten digits, 1998.
"""

import os
import shutil
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from paretoscope.base import cache
from paretoscope.base.errors import ModelError
from paretoscope.base.files import temporary_folder
from paretoscope.data.dataset import (
    DIGITS_CLASSES,
    DatasetEntry,
    Download,
    ImageData,
    InputShape,
    as_input,
    datasets,
    digest_of,
)

if TYPE_CHECKING:
    from torch import Tensor

ENVIRONMENT = "PARETOSCOPE_DATA"
FILES = tuple(f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1"))
# Images for calibration; chosen by hand; no benchmark.
CALIBRATION = 128
# Mean and standard deviation of a training pixel, ink from 0 to 1.
MEAN, STD = 0.1307, 0.3081
# The size of the four files as they are downloaded, packed.
PACKED_BYTES = 11_594_722
# A network that is silent for so long has failed; chosen by hand; no benchmark.
PATIENCE_S = 10.0
# A folder of this age is what a killed download left, and the next download removes it; chosen by hand; no benchmark.
LEFT_S = 3600.0

# The folder into which files are being downloaded; None while none are.
_arriving: Path | None = None


def folder() -> Path:
    """$PARETOSCOPE_DATA, or data in the user's cache folder; torchvision's layout, MNIST/raw, lies in it."""
    return Path(os.environ.get(ENVIRONMENT) or cache.folder() / "data")


def here() -> bool:
    """Whether the four files are in the folder, unpacked."""
    return all((_raw() / name).is_file() for name in FILES)


def download() -> Download | None:
    """How far the download of this process is; None while there is none."""
    arriving, done = _arriving, 0
    if arriving is None:
        return None
    for name in FILES:
        with suppress(FileNotFoundError):
            done += (arriving / f"{name}.gz").stat().st_size
    return Download(done, PACKED_BYTES, _raw())


def ensure() -> None:
    """Have the four files in the folder, downloaded where they are not; raises ModelError."""
    if not here():
        _download()


def _load(input_shape: InputShape) -> ImageData:
    ensure()
    train, train_labels = _read(train=True)
    test, test_labels = _read(train=False)
    # Files of MNIST come in more than one order. Whichever it is, these are the same, and no class comes first.
    order, chosen = _by_content(test), _by_content(train)[:CALIBRATION]
    test, test_labels = test[order], test_labels[order]
    train_images, test_images = (as_input(images, 255, MEAN, STD, input_shape) for images in (train, test))
    return ImageData(
        train_images=train_images,
        train_labels=train_labels,
        test_images=test_images,
        test_labels=test_labels,
        calibration=train_images[chosen],
        digest=digest_of(test_images, test_labels),
    )


def _by_content(images: "Tensor") -> "Tensor":
    """Indices of the images in the order of their hashes."""
    import torch

    hashes = [sha256(image).digest() for image in images.numpy()]
    return torch.tensor(sorted(range(len(hashes)), key=hashes.__getitem__))


def _read(*, train: bool) -> "tuple[Tensor, Tensor]":
    """Images, uint8 (n, 28, 28), and labels, int64 (n,); raises ModelError where the files are damaged."""
    from paretoscope.base.torchvision_import import import_torchvision

    import_torchvision()
    from torchvision.datasets import MNIST

    try:
        part = MNIST(folder(), train=train)
        images, labels = part.data, part.targets
        whole = images.shape[1:] == (28, 28) and len(images) == len(labels) > 0 and int(labels.max()) < 10
        if not whole:
            raise ValueError(f"images of shape {tuple(images.shape)} with {len(labels)} labels")
    except (OSError, RuntimeError, ValueError, TypeError, KeyError, AssertionError) as error:
        reason = str(error) or "they are not in the IDX format"
        raise ModelError(
            f"MNIST must be whole in {_raw()}; it could not be read ({reason}). Remove the files there and try "
            f"again on a machine with a network, or set {ENVIRONMENT} to a folder that has it."
        ) from None
    return images, labels


def _download() -> None:
    """Put the files that are missing into the folder, from their mirrors or unpacked; ModelError where that fails.

    They arrive in a folder of their own and move when all are whole, so that a try that fails leaves nothing behind.
    """
    from http.client import HTTPException

    from paretoscope.base.torchvision_import import import_torchvision

    import_torchvision()
    from torchvision.datasets import MNIST

    packed = [_raw() / name for name, _ in MNIST.resources if (_raw() / name).is_file()]
    if len(packed) < len(MNIST.resources):
        _expect_network(MNIST.mirrors)
        # Torchvision's bars do not say what is downloaded.
        print(f"Downloading MNIST, {PACKED_BYTES / 1e6:.1f} MB, into {_raw()}", file=sys.stderr)
    try:
        _raw().mkdir(parents=True, exist_ok=True)
        for left in _raw().glob("download-*"):
            # An earlier version left it when it was killed; a younger folder may belong to a process at work.
            if time.time() - left.stat().st_mtime > LEFT_S:
                shutil.rmtree(left, ignore_errors=True)
        with temporary_folder(_raw() / "download") as scratch:
            arriving = scratch / "MNIST" / "raw"
            arriving.mkdir(parents=True)
            for file in packed:
                shutil.copy(file, arriving)
            with _patient(), _watched(arriving):
                MNIST(scratch, download=True)
            for name in FILES:
                if not (_raw() / name).is_file():
                    (arriving / name).replace(_raw() / name)
    # What torchvision raises where a network or a disk fails it.
    except (OSError, RuntimeError, HTTPException) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ModelError(
            f"MNIST must be downloaded whole into {_raw()}; that failed ({reason}). Nothing of it was kept: try again, "
            f"put {', '.join(FILES)} there yourself, or set {ENVIRONMENT} to another folder."
        ) from None


@contextmanager
def _watched(arriving: Path) -> Iterator[None]:
    global _arriving
    _arriving = arriving
    try:
        yield
    finally:
        _arriving = None


@contextmanager
def _patient() -> Iterator[None]:
    """Context in which new sockets time out after PATIENCE_S; torchvision has no setting for it and waits for ever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(PATIENCE_S)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _expect_network(mirrors: list[str]) -> None:
    """Raises ModelError where no mirror answers, in seconds; a download itself would wait for minutes."""
    import http.client
    import urllib.error
    import urllib.request

    for address in mirrors:
        try:
            urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=PATIENCE_S).close()
        except urllib.error.HTTPError:
            return  # it answers, if only that it has no index
        except (OSError, http.client.HTTPException):
            continue
        return
    raise ModelError(
        f"MNIST must be in {_raw()}, or there must be a network to download it; neither is so. Put the four files "
        f"{', '.join(FILES)}, packed (.gz) or not, there, or set {ENVIRONMENT} to the folder above their MNIST/raw."
    )


def _raw() -> Path:
    return folder() / "MNIST" / "raw"


datasets.add(
    DatasetEntry(
        name="mnist",
        title="MNIST",
        summary="70,000 real 28x28 scans of digits; 60,000 to train on, 10,000 to test on. Downloaded on first use.",
        reference="LeCun, Cortes and Burges, The MNIST database of handwritten digits, 1998",
        classes=DIGITS_CLASSES,
        loader=_load,
        here=here,
        download=download,
    )
)
