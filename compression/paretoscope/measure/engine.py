"""Which engine runs a large network over its samples: PyTorch, the reference, or ONNX Runtime where it is faster and
says the same.

A session holds the weights of one recipe: with weights as inputs, ONNX Runtime could not lay them out for its kernels,
which is most of what makes it faster. So each evaluation makes a session where that is paid back, and compares it with
PyTorch on the first chunk, whose outputs are then taken from PyTorch.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from paretoscope.base.batch import Batch, length, parts, tensors_in
from paretoscope.base.errors import ModelError
from paretoscope.base.lock import machine
from paretoscope.networks.network import Input
from paretoscope.tasks.reference import Forward, run

# Largest difference from PyTorch, as a share of the largest output, as for exported files. By hand, no benchmark.
TOLERANCE = 1e-4
# Seconds that PyTorch must take at least before a session may pay; chosen by hand, no benchmark.
WORTH_S = 2.0
# Outputs may change places in a sample's top answer where they are as near as this; as TOLERANCE.
TIES = 2 * TOLERANCE


class Engine(StrEnum):
    """What ran a network over its samples."""

    TORCH = "torch"
    ONNX_RUNTIME = "onnxruntime"


@dataclass(slots=True)
class Speeds:
    """What is known of a network, whatever its weights: seconds to make a session, and seconds a sample in either
    engine. refused: whether ONNX Runtime cannot run it, or says something else."""

    build_s: float = 0.0
    onnx_s: float = 0.0
    torch_s: float = 0.0
    refused: bool = False

    def pays(self, n: int, seconds: float) -> bool:
        """Whether to make a session for n samples. seconds: a sample, in PyTorch, as it was when the network opened."""
        if self.refused or n * seconds < WORTH_S:
            return False
        return not self.build_s or n * (self.torch_s - self.onnx_s) > self.build_s


def engine_for(module: nn.Module, inputs: Sequence[Input], first: Batch, speeds: Speeds) -> tuple[Forward, Engine]:
    """The faster engine of a module for samples like those of the first chunk, where both agree on these.

    What was measured is noted in `speeds`.
    """
    began = time.perf_counter()
    try:
        session = _session(module, inputs)
    except (ModelError, RuntimeError):
        speeds.refused = True
        return module, Engine.TORCH
    built = time.perf_counter()
    found = run(session, first)
    onnx_ran = time.perf_counter()
    wanted = run(module, first)
    n = length(first)
    speeds.build_s, speeds.onnx_s = built - began, (onnx_ran - built) / n
    speeds.torch_s = (time.perf_counter() - onnx_ran) / n
    speeds.refused = not agree(wanted, found)
    if speeds.refused or speeds.onnx_s >= speeds.torch_s:
        return module, Engine.TORCH

    def forward(*inputs: Tensor) -> Any:
        same = all(one is other for one, other in zip(inputs, parts(first), strict=True))
        return wanted if same else session(*inputs)

    return forward, Engine.ONNX_RUNTIME


def agree(wanted: Any, found: Any) -> bool:
    """Whether outputs are PyTorch's to rounding, and the top answers along the last axis too, but for ties."""
    pairs = list(zip(tensors_in(wanted), tensors_in(found), strict=True))
    return all(_agree(one.float(), other.float()) for one, other in pairs)


def _agree(wanted: Tensor, found: Tensor) -> bool:
    if wanted.shape != found.shape:
        return False
    largest = float(wanted.abs().max().clamp_min(torch.finfo(torch.float32).tiny)) if wanted.numel() else 0.0
    if not bool(((wanted - found).abs() <= TOLERANCE * largest).all()):
        return False
    if wanted.ndim < 2 or wanted.shape[-1] < 2:
        return True
    best = wanted.max(dim=-1).values
    taken = wanted.gather(-1, found.argmax(dim=-1, keepdim=True)).squeeze(-1)
    return bool((best - taken <= TIES * largest).all())


@machine(exclusive=False)
def _session(module: nn.Module, inputs: Sequence[Input]) -> Callable[..., Any]:
    """A function that runs a module in ONNX Runtime; raises ModelError where it cannot be written as a graph."""
    # ONNX and its runtime take a while to import, and small networks need none of them.
    from paretoscope.runtimes.onnx_graph import export_fp32
    from paretoscope.runtimes.sessions import open_session, session_options

    data = export_fp32(module, inputs)
    session = open_session(data, session_options(torch.get_num_threads()))
    names = [each.name for each in session.get_inputs()]

    def forward(*inputs: Tensor) -> tuple[Tensor, ...]:
        feeds = {name: np.ascontiguousarray(each.numpy()) for name, each in zip(names, inputs, strict=True)}
        return tuple(torch.from_numpy(each) for each in session.run(None, feeds))

    return forward
