"""All networks in one list: the zoo's and the user's, told without their weights being read."""

from dataclasses import dataclass
from functools import lru_cache

from paretoscope.base.errors import CompressionError
from paretoscope.networks import library, zoo
from paretoscope.networks.library import Damaged
from paretoscope.networks.network import Network
from paretoscope.networks.sources import find
from paretoscope.tasks import tasks

# Networks whose parameters are remembered.
COUNTED = 128


@dataclass(frozen=True, slots=True)
class Row:
    """One network of the list. size_bytes: of all its tensors. task: its title. own: whether the user added it. notes:
    what was told when it was opened. problem: why it cannot be, "" where it can; then the rest is empty.
    """

    name: str
    title: str
    inputs: str = ""
    parameters: int = 0
    size_bytes: int = 0
    task: str = ""
    data: str = ""
    source: str = ""
    own: bool = False
    notes: tuple[str, ...] = ()
    problem: str = ""


def roster() -> list[Row]:
    """The zoo's networks, then the user's."""
    rows = [_row(find(name)) for name in zoo.models.names()]
    for entry in library.entries():
        if isinstance(entry, Damaged):
            rows.append(Row(entry.name, entry.name, own=True, problem=entry.problem))
            continue
        try:
            rows.append(_row(entry.network, entry.source, entry.notes, own=True))
        except CompressionError as error:
            rows.append(Row(entry.name, entry.name, own=True, problem=str(error)))
    return rows


def _row(network: Network, source: str = "", notes: tuple[str, ...] = (), own: bool = False) -> Row:
    parameters, size_bytes = _count(network)
    return Row(
        name=network.name,
        title=network.title,
        inputs=told_inputs(network),
        parameters=parameters,
        size_bytes=size_bytes,
        task=tasks.get(network.task).title,
        data=network.data,
        source=source,
        own=own,
        notes=notes,
    )


def told_inputs(network: Network) -> str:
    """The inputs of a network in one line: "images 1 x 28 x 28"; their types where they are not float32."""
    return "; ".join(
        " ".join([each.name, " x ".join(map(str, each.shape)) or "a number", *[each.dtype] * (each.dtype != "float32")])
        for each in network.inputs
    )


@lru_cache(maxsize=COUNTED)
def _count(network: Network) -> tuple[int, int]:
    """Parameters and bytes of all tensors, tied ones once; nothing is read for it."""
    import torch

    with torch.device("meta"):
        module = network.bare()
    tensors = [*module.parameters(), *module.buffers()]
    return sum(each.numel() for each in module.parameters()), sum(each.nbytes for each in tensors)
