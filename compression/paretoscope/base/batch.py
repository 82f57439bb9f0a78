"""Batches: what goes into a network at once, for networks of one input and of several."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Protocol, Union

if TYPE_CHECKING:
    from torch import Tensor

# (n, ...) for a network of one input; for one of several, a tensor for each input, in their order. A union of names:
# torch is not imported for a type.
Batch = Union["Tensor", tuple["Tensor", ...]]


class InputLike(Protocol):
    """What an input of a network is. shape: of one sample. dtype: name of its type in torch."""

    @property
    def name(self) -> str: ...

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> str: ...


def parts(batch: Batch) -> "tuple[Tensor, ...]":
    """The tensors of a batch, one for each input."""
    return batch if isinstance(batch, tuple) else (batch,)


def joined(tensors: "tuple[Tensor, ...]") -> Batch:
    """The batch of these tensors, one for each input: what `parts` takes apart."""
    return tensors[0] if len(tensors) == 1 else tensors


def mapped(batch: Batch, change: "Callable[[Tensor], Tensor]") -> Batch:
    """A batch of the changed tensors."""
    return joined(tuple(change(each) for each in parts(batch)))


def call(model: "Callable[..., Any]", batch: Batch) -> Any:
    """What a model makes of a batch."""
    return model(*parts(batch))


def length(batch: Batch) -> int:
    """How many samples a batch has."""
    return len(parts(batch)[0])


def head(batch: Batch, n: int) -> Batch:
    """The first n samples of a batch."""
    return mapped(batch, lambda each: each[:n])


def tensors_in(value: Any) -> "Iterator[Tensor]":
    """Every tensor in nested lists, tuples and dictionaries, such as the arguments of a call."""
    from torch import Tensor

    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from tensors_in(item)
    elif isinstance(value, dict):
        yield from tensors_in(tuple(value.values()))
