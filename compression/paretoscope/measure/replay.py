"""Replay: a network as the list of calls that one forward pass makes, so that a pass can start in the middle.

A call is a module without children (or one that must stay whole), or any function of PyTorch between two modules.
Replaying all calls is the forward pass, bit for bit: the same kernels see the same numbers. Between two calls only the
values that a later call reads are alive; with them kept, a change of one weight costs the calls from its first use on.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from paretoscope.base.batch import Batch, call, parts, tensors_in
from paretoscope.base.errors import ModelError
from paretoscope.base.lock import machine

# These choose faster kernels when nobody watches, so they are called whole.
WHOLE = (nn.MultiheadAttention, nn.TransformerEncoderLayer, nn.TransformerEncoder)


@dataclass(frozen=True, slots=True)
class _Slot:
    """Stands for the value of that number among a call's arguments."""

    number: int


@dataclass(frozen=True, eq=False, slots=True)
class _Call:
    """A function and its arguments, slots for values; outputs: the numbers of the tensors that it returns.

    dying: numbers of the values that no later call reads.
    """

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    outputs: tuple[int, ...]
    dying: tuple[int, ...]


class Replay:
    """calls: in the order of execution. first_use: index of the call that first reads a parameter or buffer, by name;
    len(calls) for one that no call reads.

    Made for one shape of batches: where a network computes with the length of the batch, that is part of its calls.
    What a forward pass decides from the values it sees is decided as it was when the calls were recorded.
    """

    def __init__(
        self,
        calls: Sequence[_Call],
        first_use: dict[str, int],
        barriers: Sequence[tuple[int, int]],
        sizes: Sequence[int],
        output: Any,
    ) -> None:
        self.calls = calls
        self.first_use = first_use
        # Between a value's making and a change in place it must not be kept: the next pass would change it again.
        self._barriers = barriers
        self._sizes = sizes
        self._output = output

    @classmethod
    def record(cls, model: nn.Module, batch: Batch) -> "Replay":
        """Watch `model`, in evaluation mode, run over a batch; raises ModelError where no tensor comes out."""
        recorder = _Recorder(parts(batch))
        with machine(exclusive=False), torch.no_grad(), _watched(model, recorder), recorder:
            outputs = call(model, batch)
        if not list(tensors_in(outputs)):
            raise ModelError(
                f"a model must turn samples into tensors; this one gives a {type(outputs).__name__}. Pass the network "
                "itself."
            )
        return recorder.replay(model, outputs)

    def start(self, batch: Batch) -> dict[int, Tensor]:
        """The values alive before the first call."""
        return dict(enumerate(parts(batch)))

    def cut(self, name: str) -> int:
        """The call at which a pass may start when only that parameter has changed: its first use, or a little before
        where a value alive there is changed in place later."""
        position = self.first_use[name]
        while any(made < position <= changed for made, changed in self._barriers):
            position -= 1
        return position

    def alive_bytes(self, position: int) -> int:
        """Bytes of the values alive before the call of that index, for the batch that was recorded."""
        made = {number: i for i, each in enumerate(self.calls) for number in each.outputs}
        died = {number: i for i, each in enumerate(self.calls) for number in each.dying}
        last = len(self.calls)
        return sum(
            size for number, size in enumerate(self._sizes) if made.get(number, -1) < position <= died.get(number, last)
        )

    @property
    def reads(self) -> list[tuple[int, ...]]:
        """For each call, the identities of the tensors of the model that it reads, those within whole modules too."""
        found = []
        for each in self.calls:
            module = getattr(each.function, "__self__", None)
            owned = (*module.parameters(), *module.buffers()) if isinstance(module, nn.Module) else ()
            found.append(tuple(id(tensor) for tensor in (*tensors_in((each.args, each.kwargs)), *owned)))
        return found

    def seconds(self, batch: Batch) -> list[float]:
        """Seconds that each call takes in one pass over a batch of the recorded shape."""
        values, found = self.start(batch), []
        for place in range(len(self.calls)):
            began = time.perf_counter()
            self.run(values, place, place + 1)
            found.append(time.perf_counter() - began)
        return found

    @machine(exclusive=False)
    def run(self, values: dict[int, Tensor], start: int, stop: int) -> None:
        """Make the calls start..stop - 1, given the values alive before `start`; leaves those alive before `stop`."""
        with torch.inference_mode():
            for each in self.calls[start:stop]:
                args, kwargs = _replaced((each.args, each.kwargs), values)
                values.update(zip(each.outputs, tensors_in(each.function(*args, **kwargs)), strict=True))
                for number in each.dying:
                    del values[number]

    def outputs(self, values: dict[int, Tensor], start: int) -> Any:
        """What the network gives, given the values alive before `start`; these are left as they are."""
        values = dict(values)
        self.run(values, start, len(self.calls))
        return _replaced(self._output, values)


class _Recorder(TorchFunctionMode):
    """Numbers every tensor that a call returns; a later tensor of the same identity takes the place of the earlier."""

    def __init__(self, inputs: tuple[Tensor, ...]) -> None:
        super().__init__()
        self._values: list[Tensor] = []  # kept: an identity stands for a tensor only while the tensor lives
        self._numbers: dict[int, int] = {}
        self._versions: list[int] = []
        self._calls: list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any], tuple[int, ...], set[int]]] = []
        self._made: list[int] = []
        self._barriers: list[tuple[int, int]] = []
        self._first_use: dict[int, int] = {}
        for each in inputs:
            self._number(each, -1)

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        return self.call(func, args, kwargs or {})

    def call(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], owned: Sequence[Tensor] = ()
    ) -> Any:
        """Make a call and record it; owned: tensors that it reads beside its arguments."""
        inputs = list(tensors_in((args, kwargs)))
        before = [tensor._version for tensor in inputs]
        result = function(*args, **kwargs)
        outputs = list(tensors_in(result))
        if not outputs and before == [tensor._version for tensor in inputs]:
            return result
        index = len(self._calls)
        for tensor in (*inputs, *owned):
            self._first_use.setdefault(id(tensor), index)
        reads = {self._numbers[id(tensor)] for tensor in inputs if id(tensor) in self._numbers}
        slots = _with_slots((args, kwargs), self._numbers)
        for number, tensor in enumerate(self._values):
            if tensor._version != self._versions[number]:
                self._versions[number] = tensor._version
                self._barriers.append((self._made[number], index))
        numbers = tuple(self._number(tensor, index) for tensor in outputs)
        self._calls.append((function, *slots, numbers, reads))
        return result

    def replay(self, model: nn.Module, outputs: Any) -> Replay:
        """The calls, each with the values that die after it."""
        last = {number: index for index, (*_, made, _) in enumerate(self._calls) for number in made}
        last |= {number: index for index, (*_, reads) in enumerate(self._calls) for number in reads}
        output = _with_slots(outputs, self._numbers)
        for tensor in tensors_in(outputs):
            last.pop(self._numbers.get(id(tensor), -1), None)
        dying: dict[int, list[int]] = {}
        for number, index in last.items():
            dying.setdefault(index, []).append(number)
        calls = [
            _Call(function, args, kwargs, made, tuple(dying.get(index, ())))
            for index, (function, args, kwargs, made, _) in enumerate(self._calls)
        ]
        tensors = [
            *model.named_parameters(remove_duplicate=False),
            *model.named_buffers(remove_duplicate=False),
        ]
        first_use = {name: self._first_use.get(id(tensor), len(calls)) for name, tensor in tensors}
        sizes = [tensor.numel() * tensor.element_size() for tensor in self._values]
        return Replay(calls, first_use, self._barriers, sizes, output)

    def _number(self, tensor: Tensor, index: int) -> int:
        number = self._numbers[id(tensor)] = len(self._values)
        self._values.append(tensor)
        self._versions.append(tensor._version)
        self._made.append(index)
        return number


@contextmanager
def _watched(model: nn.Module, recorder: _Recorder) -> Iterator[None]:
    """Within, every module that is called whole reports its calls to the recorder, and nothing inside it does."""
    watched = list(_called_whole(model))
    for module in watched:
        module.forward = _reporting(module, recorder)
    try:
        yield
    finally:
        for module in watched:
            del module.forward


def _reporting(module: nn.Module, recorder: _Recorder) -> Callable[..., Any]:
    forward, owned = module.forward, (*module.parameters(), *module.buffers())

    def report(*args: Any, **kwargs: Any) -> Any:
        with torch._C.DisableTorchFunction():
            return recorder.call(forward, args, kwargs, owned)

    return report


def _called_whole(module: nn.Module) -> Iterator[nn.Module]:
    children = list(module.children())
    if not children or isinstance(module, WHOLE):
        yield module
    else:
        for child in children:
            yield from _called_whole(child)


def _mapped(value: Any, kind: type, change: Callable[[Any], Any]) -> Any:
    """A copy of nested lists, tuples and dictionaries with every `kind` in it changed."""
    if isinstance(value, kind):
        return change(value)
    if isinstance(value, (list, tuple)) and type(value) in (list, tuple):
        return type(value)(_mapped(item, kind, change) for item in value)
    if isinstance(value, dict):
        return {key: _mapped(item, kind, change) for key, item in value.items()}
    return value


def _with_slots(value: Any, numbers: dict[int, int]) -> Any:
    return _mapped(value, Tensor, lambda tensor: _Slot(numbers[id(tensor)]) if id(tensor) in numbers else tensor)


def _replaced(value: Any, values: dict[int, Tensor]) -> Any:
    return _mapped(value, _Slot, lambda slot: values[slot.number])
