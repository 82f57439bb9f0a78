"""What a network is, whatever it came from: a module, what goes into it, and what comes out."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from paretoscope.base.batch import joined
from paretoscope.base.errors import CompressionError, UnknownNameError
from paretoscope.base.registry import Registry
from paretoscope.base.text import shown

if TYPE_CHECKING:
    from torch import Tensor, nn

    from paretoscope.base.batch import Batch
    from paretoscope.graph.network_graph import NetworkGraph


@dataclass(frozen=True, slots=True)
class Input:
    """One input of a network. shape: of one sample, e.g. (C, H, W). dtype: name of its type in torch."""

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"

    def empty(self, n: int, device: str | None = None) -> "Tensor":
        """An uninitialised tensor for n samples, (n, *shape). device: None for the current one."""
        import torch  # names of networks are to be had without it

        return torch.empty(n, *self.shape, dtype=getattr(torch, self.dtype), device=device)


@dataclass(frozen=True, eq=False, slots=True, weakref_slot=True)
class Network:
    """A network that can be opened. outputs: shape of one sample's, each. data: name of the data that it is measured
    on, "" where it has none. One is the other where it is the very object: another of its name may be another network.

    bare: makes the module without the values of its weights, on the device that is current, "meta" included. opened:
    makes it with them; it may raise ModelError. task: name of the task that judges it. graph: the network as data,
    which its artefacts carry; None where the package has its code. train: name of the data that it is trained on, ""
    where a part of `data` is. preprocess: how samples become what it takes, as JSON; "" where they are that. digest: of
    all this, 64 hexadecimal characters; "" where the name alone tells it.
    """

    name: str
    title: str
    inputs: tuple[Input, ...]
    outputs: tuple[tuple[int, ...], ...]
    data: str
    bare: "Callable[[], nn.Module]"
    opened: "Callable[[], nn.Module]"
    task: str = "classification"
    graph: "NetworkGraph | None" = None
    train: str = ""
    preprocess: str = ""
    digest: str = ""

    def skeleton(self) -> "nn.Module":
        """The module in evaluation mode, without the values of its weights."""
        return self.bare().eval()

    def load(self) -> "nn.Module":
        """The module in evaluation mode, with its weights; raises ModelError where they cannot be had."""
        return self.opened().eval()

    def empty(self, n: int, device: str | None = None) -> "Batch":
        """An uninitialised batch of n samples."""
        return joined(tuple(each.empty(n, device) for each in self.inputs))

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one sample of the first input."""
        return self.inputs[0].shape


class NetworkSource(Protocol):
    """Where networks come from. names: of all that it has, in their order."""

    name: str
    title: str
    summary: str
    reference: str

    def names(self) -> tuple[str, ...]: ...

    def get(self, name: str) -> Network:
        """The network of that name; raises UnknownNameError."""
        ...


_ALIKE = ("inputs", "outputs", "data")

sources: Registry[NetworkSource] = Registry("source")


def names() -> tuple[str, ...]:
    """The names of the networks of all sources."""
    return tuple(name for source in sources for name in source.names())


def alike(name: str) -> tuple[str, ...]:
    """Names of the other networks of the same inputs, outputs and data as one; raises UnknownNameError.

    Those that cannot be opened are left out.
    """
    own, found = find(name), []
    for other in names():
        with suppress(CompressionError):
            network = find(other)
            if other != name and all(getattr(network, part) == getattr(own, part) for part in _ALIKE):
                found.append(other)
    return tuple(found)


def find(name: str) -> Network:
    """The network of that name, from the first source that has it; raises UnknownNameError."""
    for source in sources:
        if name in source.names():
            return source.get(name)
    raise UnknownNameError(f"a model must be registered; got {shown(name)}. Choose one of: {', '.join(names())}.")
