"""The digits that scikit-learn ships, split once.

Read from its files: importing scikit-learn, and pandas with it, takes longer than all else that an evaluation imports.
"""

import gzip
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from paretoscope.base.errors import ModelError

if TYPE_CHECKING:
    import numpy as np

TRAIN = 1000
# Within the package sklearn: 64 pixels from 0 to 16 and the label, a line for each image.
FILE = Path("datasets", "data", "digits.csv.gz")


def digits_split() -> "tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]":
    """Train images, train labels, test images, test labels of the 1,797 digits, stratified, always the same.

    Images: uint8 (n, 8, 8), ink from 0 to 16. Labels: int64 (n,). Raises ModelError where they cannot be read.
    """
    import numpy as np

    table = _read()
    images, labels = table[:, :-1].reshape(-1, 8, 8).astype(np.uint8), table[:, -1].astype(np.int64)
    train, test = stratified(labels, TRAIN, np.random.RandomState(0))
    return images[train], labels[train], images[test], labels[test]


def _read() -> "np.ndarray":
    import numpy as np

    # Finds the folder of the package without importing it.
    found = find_spec("sklearn")
    folders = found.submodule_search_locations if found else None
    if not folders:
        raise ModelError("the digits come with scikit-learn, which must be installed; it is not. Install scikit-learn.")
    path = Path(folders[0]) / FILE
    try:
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            table: np.ndarray = np.loadtxt(lines, delimiter=",", dtype=np.int64)
            return table
    except (OSError, EOFError, ValueError) as error:
        raise ModelError(
            f"the digits must be in {path}; they could not be read ({error}). Install scikit-learn again."
        ) from None


def stratified(labels: "np.ndarray", train: int, random: "np.random.RandomState") -> "tuple[np.ndarray, np.ndarray]":
    """Indices of a train part of that size and of the rest, each class with its share of both, in random order.

    labels: int64 (n,). The draws are those of scikit-learn's train_test_split with `stratify`, one by one: weights and
    stored records belong to that very split.
    """
    import numpy as np

    _, counts = np.unique(labels, return_counts=True)
    members = np.split(np.argsort(labels, kind="stable"), np.cumsum(counts)[:-1])
    many = _shares(counts, train, random)
    # scikit-learn computes the shares of the rest too, which draws random numbers where rounding leaves a remainder.
    _shares(counts - many, len(labels) - train, random)
    shuffled = [each[random.permutation(len(each))] for each in members]
    first = [each[:n] for each, n in zip(shuffled, many, strict=True)]
    rest = [each[n:] for each, n in zip(shuffled, many, strict=True)]
    return random.permutation(np.concatenate(first)), random.permutation(np.concatenate(rest))


def _shares(counts: "np.ndarray", draws: int, random: "np.random.RandomState") -> "np.ndarray":
    """How many of `draws` come from classes of these sizes: rounded down, and up for the largest remainders."""
    import numpy as np

    exact = counts / counts.sum() * draws
    found = np.floor(exact)
    missing = int(draws - found.sum())
    for remainder in np.unique(exact - found)[::-1]:
        if missing == 0:
            break
        (equal,) = np.where(exact - np.floor(exact) == remainder)
        chosen = random.choice(equal, size=min(len(equal), missing), replace=False)
        found[chosen] += 1
        missing -= len(chosen)
    shares: np.ndarray = found.astype(int)
    return shares
