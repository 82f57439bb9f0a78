"""What the baseline says of the samples that a model is judged on: kept from before, or asked for again."""

from collections.abc import Callable
from typing import Any

import torch

from paretoscope.base.batch import Batch, call, length, mapped
from paretoscope.base.lock import machine

# The baseline's comparable outputs of a batch, the samples from number `start` on.
Reference = Callable[[int, Batch], Batch]
Forward = Callable[..., Any]


def kept(outputs: Batch) -> Reference:
    """The reference that reads the comparable outputs of all samples."""
    return lambda start, chunk: mapped(outputs, lambda each: each[start : start + length(chunk)])


def asked(model: Forward, comparable: Callable[[Any], Batch]) -> Reference:
    """The reference that runs the baseline again: for outputs that would not fit into memory."""
    return lambda start, chunk: comparable(run(model, chunk))


def run(model: Forward, chunk: Batch) -> Any:
    """What a model makes of a batch; no chunk runs while a timing has the machine to itself."""
    with torch.inference_mode(), machine(exclusive=False):
        return call(model, chunk)
