"""MNIST through torchvision: from the user's folder where it is there, else downloaded into it.

LeCun, Cortes and Burges, The MNIST database of handwritten digits, 1998.
"""

import os
import threading
import urllib.error
import urllib.request
from pathlib import Path

import torch
from torch import Tensor

from compression import cache
from compression.errors import ModelError
from compression.zoo.dataset import (
    DIGITS_CLASSES,
    Data,
    DatasetEntry,
    InputShape,
    as_input,
    datasets,
    digest_of,
)
from compression.zoo.torchvision_import import import_torchvision

ENVIRONMENT = "PARETOSCOPE_DATA"
FILES = tuple(f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1"))
CALIBRATION = 128
# Mean and standard deviation of a training pixel, ink from 0 to 1.
MEAN, STD = 0.1307, 0.3081
PATIENCE_S = 10.0

# Two pages that open the dataset at once must not download into the same files.
_reading = threading.Lock()


def folder() -> Path:
    """$PARETOSCOPE_DATA, or data in the user's cache folder; torchvision's layout, MNIST/raw, lies in it."""
    return Path(os.environ.get(ENVIRONMENT) or cache.folder() / "data")


def here() -> bool:
    """Whether the four files are in the folder, unpacked."""
    return all((_raw() / name).is_file() for name in FILES)


def _load(input_shape: InputShape) -> Data:
    train, train_labels = _read(train=True)
    test, test_labels = _read(train=False)
    train_images, test_images = (as_input(images, 255, MEAN, STD, input_shape) for images in (train, test))
    chosen = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))[:CALIBRATION]
    return Data(
        train_images=train_images,
        train_labels=train_labels,
        test_images=test_images,
        test_labels=test_labels,
        calibration_images=train_images[chosen],
        classes=DIGITS_CLASSES,
        digest=digest_of(test_images, test_labels),
    )


def _read(*, train: bool) -> tuple[Tensor, Tensor]:
    """Images, uint8 (n, 28, 28), and labels, int64 (n,); raises ModelError where there are none."""
    import_torchvision()
    from torchvision.datasets import MNIST

    with _reading:
        download = not here()
        if download:
            _expect_network(MNIST.mirrors)
        try:
            part = MNIST(folder(), train=train, download=download)
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


def _expect_network(mirrors: list[str]) -> None:
    """Raises ModelError where no mirror answers, in seconds; a download itself would wait for minutes."""
    for address in mirrors:
        try:
            urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=PATIENCE_S).close()
        except urllib.error.HTTPError:
            return  # it answers, if only that it has no index
        except OSError:
            continue
        return
    raise ModelError(
        f"MNIST must be in {_raw()}, or there must be a network to download it; neither is so. Put the four files "
        f"{', '.join(FILES)} there, or set {ENVIRONMENT} to the folder above their MNIST/raw."
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
    )
)
