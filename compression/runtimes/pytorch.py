"""PyTorch, eager: every layer is a call, in float32 whatever the recipe."""

import copy
import hashlib
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from compression.runtimes.base import Program, Runtime, Subject, as_input, runtimes
from compression.runtimes.threads import torch_threads


class PyTorchSession:
    """A module and the number of threads that each run of it is given."""

    def __init__(self, program: Program, threads: int) -> None:
        self._program = program
        self._module: nn.Module | None = program.content
        self._threads = threads

    def run(self, images: np.ndarray) -> np.ndarray:
        return self._call(torch.from_numpy(as_input(images, self._program.input_shape))).numpy()

    def bind(self, images: np.ndarray) -> Callable[[], object]:
        inputs = torch.from_numpy(as_input(images, self._program.input_shape))
        return lambda: self._call(inputs)

    def describe(self) -> dict[str, str | int]:
        return {
            "runtime": PYTORCH.title,
            "version": PYTORCH.version,
            "number format": self._program.number_format,
            "threads": self._threads,
        }

    def close(self) -> None:
        self._module = None

    def _call(self, inputs: torch.Tensor) -> torch.Tensor:
        with torch_threads(self._threads), torch.inference_mode():
            return self._module(inputs)


def _build(subject: Subject, number_format: str) -> Program:
    module = copy.deepcopy(subject.module).eval()
    return Program(PYTORCH.name, number_format, _structure(module), tuple(subject.input_shape), module)


def _structure(module: nn.Module) -> str:
    """SHA-256 of the modules' types and settings and of the names, shapes and types of all tensors."""
    types = [f"{name} {type(part).__module__}.{type(part).__qualname__}" for name, part in module.named_modules()]
    tensors = [f"{name} {tensor.dtype} {tuple(tensor.shape)}" for name, tensor in module.state_dict().items()]
    return hashlib.sha256("\n".join([repr(module), *types, *tensors]).encode()).hexdigest()


PYTORCH = runtimes.add(
    Runtime(
        name="torch",
        title="PyTorch",
        summary="Eager execution in float32: the same speed whatever the recipe, as long as the shapes stay.",
        reference="Paszke et al., PyTorch: An Imperative Style, High-Performance Deep Learning Library, 2019",
        number_formats=("fp32",),
        version=torch.__version__,
        build_as=_build,
        open=PyTorchSession,
    )
)
