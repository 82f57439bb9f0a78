"""PyTorch, compiled ahead of time: torch.export and the inductor compiler make C++ of the network (AOTInductor).

The same compiler as behind `torch.compile`, without its Python guards at each call. A library is compiled for one
structure, batch and number of threads, which takes some 10 s, and takes any weights: so each session loads anew in
milliseconds, into memory of its own. The libraries last as long as the process; the compiler keeps its own cache.
"""

import atexit
import os
import shutil
import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any
from weakref import WeakSet

import torch
from torch import nn

from paretoscope.base.errors import RuntimeUnavailableError
from paretoscope.base.files import lasting_folder
from paretoscope.base.lock import machine
from paretoscope.base.text import reason
from paretoscope.base.threads import torch_threads
from paretoscope.base.tracing import TRACING
from paretoscope.graph.trace import zeros
from paretoscope.runtimes.base import Program, Runtime, as_inputs, as_outputs, still_open
from paretoscope.runtimes.onnx_graph import Arrays, drawn, verify
from paretoscope.runtimes.pytorch import build_module

_COMPILERS = ("g++", "clang++")


@dataclass(frozen=True, eq=False, slots=True)
class _Library:
    """What is compiled of a structure. constants: tensors that its code uses and that are no weights, by name.

    verified: modules whose answers it was found to give.
    """

    package: Path
    constants: dict[str, torch.Tensor]
    verified: WeakSet[nn.Module] = field(default_factory=WeakSet)


_libraries: dict[tuple[str, tuple[tuple[int, ...], ...], int], _Library] = {}
_lock = threading.Lock()


class CompiledSession:
    """A module and, once images are known, what is compiled of it for as many; `bind` and `run` wait for that.

    Both raise RuntimeUnavailableError when it cannot be compiled, ModelError when its answers are not PyTorch's.
    """

    def __init__(self, program: Program, threads: int) -> None:
        self._program = program
        self._threads = threads
        self._loaded: dict[int, Callable[..., Any]] | None = {}

    def run(self, samples: Arrays) -> Arrays:
        return as_outputs(self.bind(samples)())

    def bind(self, samples: Arrays) -> Callable[[], Any]:
        inputs = tuple(map(torch.from_numpy, as_inputs(samples, self._program.inputs)))
        loaded, n = still_open(self._loaded), len(inputs[0])
        if n not in loaded:
            loaded[n] = _load(self._program, inputs, self._threads)
        network, threads = loaded[n], self._threads

        def call() -> Any:
            with torch_threads(threads), torch.inference_mode():
                return network(*inputs)

        return call

    def describe(self) -> dict[str, str | int]:
        return {
            "runtime": TORCH_COMPILED.title,
            "version": TORCH_COMPILED.version,
            "number format": self._program.number_format,
            "threads": self._threads,
        }

    def close(self) -> None:
        self._loaded = None


def _load(program: Program, samples: tuple[torch.Tensor, ...], threads: int) -> Callable[..., Any]:
    n = len(samples[0])
    try:
        library = _library(program, n, threads)
        network = torch._inductor.aoti_load_package(str(library.package))
        known = {**library.constants, **program.content.state_dict()}
        # Copies, so that each session has its weights in another place, as those of other runtimes do.
        weights = {name: known[name].detach().clone() for name in network.get_constant_fqns()}
        network.load_constants(weights, check_full_update=True, user_managed=True)
    except Exception as error:  # the compiler's errors have no common base but this
        raise RuntimeUnavailableError(
            f"PyTorch must be able to compile the network; it says: {reason(error, 300)}. "
            "Use the torch runtime for this model."
        ) from None

    run: Callable[..., Any] = network

    def call(*inputs: torch.Tensor, _keep_alive: dict[str, torch.Tensor] = weights) -> Any:
        return run(*inputs)

    if program.content not in library.verified:
        batch = drawn(program.inputs, n)
        with torch_threads(threads), torch.inference_mode():
            verify(lambda: as_outputs(call(*map(torch.from_numpy, batch))), program.content, batch)
        library.verified.add(program.content)
    return call


def _library(program: Program, n: int, threads: int) -> _Library:
    key = program.graph, tuple((n, *each.shape) for each in program.inputs), threads
    with _lock:
        if key not in _libraries:
            _libraries[key] = _compile(program.content, zeros(program.inputs, n), threads)
        return _libraries[key]


def _compile(module: nn.Module, samples: tuple[torch.Tensor, ...], threads: int) -> _Library:
    package = _folder() / f"{len(_libraries)}.pt2"
    settings = {
        "cpp.threads": threads,
        "aot_inductor.package_constants_in_so": False,
        # Nothing may be made of the values of these weights: the code runs with others, too.
        "always_keep_tensor_constants": True,
        "joint_graph_constant_folding": False,
    }
    with torch_threads(threads), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with machine(exclusive=True), TRACING:
            exported = torch.export.export(module, samples)
        torch._inductor.aoti_compile_and_package(exported, package_path=str(package), inductor_configs=settings)
    constants = {name: each for name, each in exported.constants.items() if isinstance(each, torch.Tensor)}
    return _Library(package, constants)


@cache
def _folder() -> Path:
    """For as long as the process lasts: a library is code, so it is not left where others might write."""
    folder = lasting_folder()
    atexit.register(folder.remove)
    return folder.path


def _compiler() -> str | None:
    """A C++ compiler as inductor looks for one, in $CXX first."""
    return next(filter(None, map(shutil.which, (os.environ.get("CXX", ""), *_COMPILERS))), None)


TORCH_COMPILED: Runtime = Runtime(
    name="torch-compiled",
    title="PyTorch, compiled",
    summary="PyTorch's compiler makes C++ of the network: fused loops in float32. The first timing compiles, 10 s.",
    reference="Ansel et al., PyTorch 2: Faster Machine Learning Through Dynamic Python Bytecode Transformation and "
    "Graph Compilation, 2024",
    number_formats=("fp32",),
    version=torch.__version__,
    build_as=lambda runnable, number_format: build_module(runnable, TORCH_COMPILED.name),
    open=CompiledSession,
    missing="" if _compiler() else "a C++ compiler (g++ or clang++)",
)
