"""Runtimes: each runs models, so that they can be timed and their answers compared.

A runtime first builds a program from a model (what it loads, in the number format that the recipe asks for), then
prepares a session of it with a pinned number of threads. Programs can be compared and kept without being run.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
from torch import nn

from paretoscope.base.batch import tensors_in
from paretoscope.base.errors import ModelError, RuntimeUnavailableError
from paretoscope.base.lock import machine
from paretoscope.graph.network_graph import DTYPES, GraphInput
from paretoscope.model.tensors import CompressedTensor
from paretoscope.runtimes.plans import LayerPlan

# A network is opened without ONNX, whose libraries take half a second to import.
if TYPE_CHECKING:
    from paretoscope.graph.trace import Inputs
    from paretoscope.runtimes.onnx_graph import Arrays


@dataclass(frozen=True, eq=False, slots=True)
class Runnable:
    """A model to be run.

    module: the decoded model, in evaluation mode. inputs: what it takes; a shape alone for one of float32, such as
    images (C, H, W). integer: whether its recipe wants integer activations (`Recipe.integer`); False for the baseline.
    weights, calibration: what integer number formats need, the compressed tensors by state-dict name and samples
    (n, ...) of the train split, an array for each input; the float formats compare their graph with the module on
    them, where there are any. ranges: those of activations that are known.
    """

    module: nn.Module
    inputs: "Inputs"
    integer: bool = False
    weights: Mapping[str, CompressedTensor] | None = None
    calibration: "Arrays | None" = None
    ranges: Mapping[str, tuple[float, float]] | None = None

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one sample of the first input."""
        from paretoscope.graph.trace import inputs_of

        return inputs_of(self.inputs)[0].shape


@dataclass(frozen=True, eq=False, slots=True)
class Program:
    """A model as a runtime loads it: for ONNX Runtime the bytes of an ONNX file, for PyTorch a module.

    graph: digest of the structure. Programs of one graph, number format and runtime take the same time. note: what a
    person should know of how it was made, or "".
    """

    runtime: str
    number_format: str
    graph: str
    inputs: tuple[GraphInput, ...]
    content: Any
    note: str = ""

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one sample of the first input."""
        return self.inputs[0].shape


class Session(Protocol):
    """A program that is loaded and ready. After `close`, `run` and `bind` raise ModelError."""

    def run(self, samples: "Arrays") -> "Arrays":
        """The outputs (n, ...) of samples, an array for each input (n, ...), n >= 1; raises ModelError for others.

        One array for a network of one output, a tuple for one of several.
        """
        ...

    def bind(self, samples: "Arrays") -> Callable[[], object]:
        """A call that runs these samples and nothing else, for timing: no copies, no conversion, no checks."""
        ...

    def describe(self) -> dict[str, str | int]:
        """Runtime, version, number format, threads and the like, for a person."""
        ...

    def close(self) -> None:
        """Give back what the session holds."""
        ...


@dataclass(frozen=True, slots=True)
class Runtime:
    """A runtime, as the screen and the measures know it.

    number_formats: what it can compute in, "fp32" always. build: makes the program of a model in one of them.
    open: makes a session of a program with that many threads. version: of the library behind it, "" where it is not
    installed. profile: microseconds a call that each weight's layer takes, by state-dict name, and the rest ("other"),
    by the runtime's own profile of a program on a batch of samples with so many threads, over so many runs; None where
    it has none. plan: what it does with the zeros of each layer of a program, on a batch of images with so many
    threads; None where it skips none. sees_zeros: whether the time depends on which weights are zero, so that each
    recipe has its own. missing: what must be installed before it can run, "" where nothing is.
    """

    name: str
    title: str
    summary: str
    reference: str
    number_formats: tuple[str, ...]
    version: str
    build_as: Callable[[Runnable, str], Program]
    open: Callable[[Program, int], Session]
    profile: "Callable[[Program, Arrays, int, int], dict[str, float]] | None" = None
    plan: "Callable[[Program, Arrays, int], list[LayerPlan]] | None" = None
    sees_zeros: bool = False
    missing: str = ""

    def number_format(self, integer: bool) -> str:
        """The format that a recipe runs in: "int8" for integer activations where the runtime offers it, or "fp32"."""
        return "int8" if integer and "int8" in self.number_formats else "fp32"

    def build(self, runnable: Runnable, number_format: str | None = None) -> Program:
        """The program of a model, in the number format of its recipe or another. Equal models give equal programs.

        Raises ModelError when the runtime cannot express the model, RuntimeUnavailableError when it is not installed.
        """
        self.require()
        number_format = number_format or self.number_format(runnable.integer)
        if number_format not in self.number_formats:
            raise ModelError(
                f"the number format must be one of {', '.join(self.number_formats)} in {self.title}; "
                f"got {number_format}. Choose one of these, or another runtime."
            )
        with machine(exclusive=False):
            return self.build_as(runnable, number_format)

    def prepare(self, program: Program, threads: int = 1) -> Session:
        """A session of a program of this runtime; raises ModelError, or RuntimeUnavailableError if it cannot load."""
        self.require()
        if program.runtime != self.name:
            raise ModelError(
                f"a program runs in the runtime that built it, {program.runtime}; got {self.name}. Build it again."
            )
        if isinstance(threads, bool) or not isinstance(threads, int) or threads < 1:
            raise ModelError(f"threads must be a whole number of at least 1; got {threads!r}. Pass e.g. 1.")
        return self.open(program, threads)

    def require(self) -> None:
        """Raises RuntimeUnavailableError when something must be installed first."""
        if self.missing:
            raise RuntimeUnavailableError(f"{self.title} must be installed to run here. Install {self.missing}.")


def as_inputs(samples: "Arrays", inputs: Sequence[GraphInput]) -> tuple[np.ndarray, ...]:
    """The samples as sessions take them, contiguous, one array for each input; raises ModelError for anything else."""
    from paretoscope.graph.trace import Trace
    from paretoscope.runtimes.onnx_graph import arrays

    found = arrays(samples)
    wanted = [np.dtype(Trace.numpy_type(DTYPES[each.dtype])) for each in inputs]
    fit = len(found) == len(inputs) and all(
        array.shape[1:] == each.shape and len(array) == len(found[0]) >= 1 and array.dtype == dtype
        for array, each, dtype in zip(found, inputs, wanted, strict=True)
    )
    if not fit:
        asked = " and ".join(f"{each.dtype} of shape (n, {', '.join(map(str, each.shape))})" for each in inputs)
        raise ModelError(
            f"images must be {asked}, n >= 1; got {' and '.join(f'{each.dtype} {each.shape}' for each in found)}. "
            "Load the dataset at the model's input shape."
        )
    return tuple(np.ascontiguousarray(each) for each in found)


def as_outputs(made: Any) -> "Arrays":
    """What a module has returned, as arrays: one, or a tuple of several."""
    found = tuple(each.numpy() for each in tensors_in(made))
    return found[0] if len(found) == 1 else found


Held = TypeVar("Held")


def still_open(held: Held | None) -> Held:
    """What a session holds; raises ModelError when it has given it back."""
    if held is None:
        raise ModelError("a session cannot run after `close`; this one was closed. Prepare another of its program.")
    return held


def predict(session: Session, images: "Arrays", chunk: int = 256) -> np.ndarray:
    """The predicted class (n,), int64, of each sample, by the very program that is timed."""
    from paretoscope.runtimes.onnx_graph import arrays

    parts = []
    for start in range(0, len(arrays(images)[0]), chunk):
        with machine(exclusive=False):
            made = session.run(tuple(each[start : start + chunk] for each in arrays(images)))
        parts.append(arrays(made)[0].argmax(1))
    return np.concatenate(parts)
