"""Whether labels fit a network's outputs as classes; what does not fit is told with what would."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from paretoscope.base.errors import DataError
from paretoscope.base.text import listed
from paretoscope.data.data import Data, Part
from paretoscope.data.writer import REAL
from paretoscope.networks.network import Network

if TYPE_CHECKING:
    from torch import Tensor

# Labels that are looked at at once; chosen by hand; no benchmark.
CHUNK = 1 << 20
OTHERWISE = "judge it by agreement (--task agreement), which needs no labels"


def without_labels(data: Data, network: Network) -> str | None:
    """Why nothing there can be classes: no labels, outputs that are none of classes, or a target of another kind, real
    numbers or several a sample. None where classes are to be expected, and what does not fit is a mistake.
    """
    if not network.data:
        return "there are no data, so that its inputs are drawn random numbers"
    unfit = _unfit(data)
    if not data.labelled and not unfit:
        return "the data have no labels"
    if not _classifies(network):
        return (
            f"classes need one output (n, classes) of two classes or more, and its outputs are {_outputs(network)}; "
            "the labels are left out"
        )
    if unfit.startswith(REAL):
        return f"the target holds {unfit}, which are no classes; it is left out"
    if data.labelled and (other := _other_kind(data)):
        return f"the labels are {other}, not one class a sample; they are left out"
    return None


def leaves_out(data: Data) -> bool:
    """Whether the data have labels, or what may have been meant as such."""
    return data.labelled or bool(_unfit(data))


def expect_classes(data: Data, network: Network) -> None:
    """Raises DataError where labels are not one class of the network's outputs for each sample of both parts.

    Data without labels pass: the task says what it needs.
    """
    if unfit := _unfit(data):
        raise DataError(
            f"labels must be whole numbers from 0, a class for each sample; the target holds {unfit}. Store classes as "
            f"integers from 0, or {OTHERWISE}."
        )
    if not data.labelled:
        return
    if not _classifies(network):
        raise DataError(
            f"labels need a network of one output (n, classes) of two classes or more; the outputs are "
            f"{_outputs(network)}. Give data without labels, or {OTHERWISE}."
        )
    for part in Part:
        _expect_part(data, part, network.outputs[0][0])


def doubts(data: Data, network: Network) -> str | None:
    """Whether the classes' order is a guess: their names are fewer than the network's outputs."""
    names, outputs = len(getattr(data, "classes", ())), network.outputs[0][-1]
    if not 0 < names < outputs:
        return None
    return (
        f"The labels name {names} classes, the network has {outputs} outputs: name all of them in its order by "
        "#classes=FILE, a name a line, where that is another one than that of the names."
    )


def _classifies(network: Network) -> bool:
    """Whether its outputs may be classes: one of two columns or more."""
    return len(network.outputs) == 1 and len(network.outputs[0]) == 1 and network.outputs[0][0] > 1


def _outputs(network: Network) -> str:
    return listed(_shape(shape) for shape in network.outputs)


def _shape(shape: tuple[int, ...]) -> str:
    return str(("n", *shape)).replace("'", "")


def _other_kind(data: Data) -> str:
    """Labels of another kind than a class for each sample: several, or real numbers; "" for any others."""
    for labels in _arrays(data.labels(Part.TEST, CHUNK)):
        if labels.ndim > 1:
            return f"{labels.dtype} {_shape(labels.shape[1:])}"
        # Whole numbers of a float type may well be classes, which were stored as such.
        if np.issubdtype(labels.dtype, np.floating) and np.any(np.isfinite(labels) & (labels % 1 != 0)):
            return f"{REAL} ({labels.dtype})"
    return ""


def _expect_part(data: Data, part: Part, classes: int) -> None:
    ends: list[int] = []
    n = 0
    for labels in _arrays(data.labels(part, CHUNK)):
        if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
            raise DataError(
                f"labels must be whole numbers, one a sample (n,); they are {labels.dtype} {_shape(labels.shape[1:])}. "
                f"Give a class for each sample, or {OTHERWISE}."
            )
        if len(labels):
            n, ends = n + len(labels), [min([*ends, int(labels.min())]), max([*ends, int(labels.max())])]
    # Labels of the train part are needed by what trains alone.
    if n != data.length(part) and (n or part is Part.TEST):
        raise DataError(
            f"there must be a label for each sample; the {part.value} part has {n:,} labels and "
            f"{data.length(part):,} samples. Give one for each."
        )
    if ends and not 0 <= ends[0] <= ends[1] < classes:
        remedy = "Subtract 1 from each" if ends == [1, classes] else "Number them as the network's outputs, from 0"
        raise DataError(
            f"labels must be from 0 to {classes - 1}, the network's {classes} outputs; those of the {part.value} part "
            f"go from {ends[0]} to {ends[1]}. {remedy}, or {OTHERWISE}."
        )


def _arrays(labels: "Iterator[Tensor]") -> Iterator[np.ndarray]:
    return (each.numpy() for each in labels)


def _unfit(data: Data) -> str:
    """What a target holds that can be no labels; only data of the library remember it."""
    return str(getattr(data, "unfit", ""))
