"""PyTorch, eager: every layer is a call, in float32 whatever the recipe."""

import copy
import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from paretoscope.base.threads import torch_threads
from paretoscope.graph.trace import inputs_of
from paretoscope.runtimes.base import Program, Runnable, Runtime, as_inputs, as_outputs, still_open
from paretoscope.runtimes.onnx_graph import Arrays
from paretoscope.runtimes.profiles import OTHER, WARM_UP_RUNS, typical


class PyTorchSession:
    """A module and the number of threads that each run of it is given."""

    def __init__(self, program: Program, threads: int) -> None:
        self._program = program
        self._module: nn.Module | None = program.content
        self._threads = threads

    def run(self, samples: Arrays) -> Arrays:
        return as_outputs(self.bind(samples)())

    def bind(self, samples: Arrays) -> Callable[[], object]:
        module = still_open(self._module)
        inputs = tuple(map(torch.from_numpy, as_inputs(samples, self._program.inputs)))
        return lambda: self._call(module, inputs)

    def describe(self) -> dict[str, str | int]:
        return {
            "runtime": PYTORCH.title,
            "version": PYTORCH.version,
            "number format": self._program.number_format,
            "threads": self._threads,
        }

    def close(self) -> None:
        self._module = None

    def _call(self, module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> Any:
        with torch_threads(self._threads), torch.inference_mode():
            return module(*inputs)


_LAYERS = (
    nn.Linear,
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
    nn.MultiheadAttention,
    nn.Embedding,
    nn.LSTM,
    nn.GRU,
    nn.RNN,
)


class _OperatorClock(TorchDispatchMode):
    """Seconds of each operator that is run, in order, with the names of the weights among its arguments.

    Names are found by memory, which views of a weight share with it.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # PyTorch leaves it without annotations
        self.seconds: list[float] = []
        self.weights: list[tuple[str, ...]] = []
        named = {
            f"{path}.{name}".removeprefix("."): tensor
            for path, part in module.named_modules()
            if isinstance(part, _LAYERS)
            for name, tensor in part.named_parameters(recurse=False)
            if tensor.ndim > 1
        }
        self.sizes = {name: tensor.numel() for name, tensor in named.items()}
        self._names = {tensor.untyped_storage().data_ptr(): name for name, tensor in named.items()}

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        start = time.perf_counter()
        result = func(*args, **kwargs)
        self.seconds.append(time.perf_counter() - start)
        tensors = [each for each in tree_leaves((args, kwargs)) if isinstance(each, torch.Tensor)]
        found = (self._names.get(each.untyped_storage().data_ptr()) for each in tensors)
        self.weights.append(tuple(dict.fromkeys(name for name in found if name)))
        return result


def _profile(program: Program, samples: Arrays, threads: int, runs: int) -> dict[str, float]:
    """By a clock around each operator, at PyTorch's dispatcher: the interquartile mean of each over the runs.

    An operator that takes several weights, as that of a whole attention does, is split by their sizes. All times add
    up to that of the operators; what Python spends between them is not in it.
    """
    inputs = tuple(map(torch.from_numpy, as_inputs(samples, program.inputs)))
    clocks = []
    with torch_threads(threads), torch.inference_mode():
        for _ in range(WARM_UP_RUNS + runs):
            with _OperatorClock(program.content) as clock:
                program.content(*inputs)
            clocks.append(clock)
    last = clocks[-1]
    found = {**dict.fromkeys(last.sizes, 0.0), OTHER: 0.0}
    for weights, seconds in zip(last.weights, zip(*(clock.seconds for clock in clocks), strict=True), strict=True):
        whole = sum(last.sizes[name] for name in weights)
        for name in weights or (OTHER,):
            share = last.sizes[name] / whole if weights else 1.0
            found[name] += 1e6 * share * typical(seconds)
    return found


def build_module(runnable: Runnable, runtime: str) -> Program:
    """A program whose content is a module of its own, in float32."""
    module = copy.deepcopy(runnable.module).eval()
    return Program(runtime, "fp32", _structure(module), inputs_of(runnable.inputs), module)


def _structure(module: nn.Module) -> str:
    """SHA-256 of the modules' types and settings and of the names, shapes and types of all tensors."""
    types = [f"{name} {type(part).__module__}.{type(part).__qualname__}" for name, part in module.named_modules()]
    tensors = [f"{name} {tensor.dtype} {tuple(tensor.shape)}" for name, tensor in module.state_dict().items()]
    return hashlib.sha256("\n".join([repr(module), *types, *tensors]).encode()).hexdigest()


PYTORCH: Runtime = Runtime(
    name="torch",
    title="PyTorch",
    summary="Eager execution in float32: the same speed whatever the recipe, as long as the shapes stay.",
    reference="Paszke et al., PyTorch: An Imperative Style, High-Performance Deep Learning Library, 2019",
    number_formats=("fp32",),
    version=torch.__version__,
    build_as=lambda runnable, number_format: build_module(runnable, PYTORCH.name),
    open=PyTorchSession,
    profile=_profile,
)
