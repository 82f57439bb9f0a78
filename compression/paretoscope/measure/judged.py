"""Samples that models are judged on, with what the baseline says of them.

The baseline runs when its answers are needed first, chunk by chunk beside the model that is judged: of a large network
a first figure comes after a few samples, and nothing waits for the baseline's run over all. The order of the test part
is a draw, so its first samples are a fair sample of it.
"""

import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from paretoscope.base.batch import Batch, call, head, length, parts, tensors_in
from paretoscope.base.errors import ModelError
from paretoscope.base.lock import machine
from paretoscope.data.data import CHUNK, Data, Part
from paretoscope.tasks import Answers, BaselineFigures, Task
from paretoscope.tasks.reference import run

# What a quick evaluation may take, in seconds, by the baseline's own speed: a slider's move waits for it.
QUICK_S = 3.0
# Most bytes of the baseline's outputs that are kept; beyond, the baseline runs again beside each model. By hand.
KEPT_BYTES = 256 * 2**20
# Bytes that all calls of a network write for one chunk, about: a second of one core for convolutional nets. By hand.
CHUNK_BYTES = 512 * 2**20


@dataclass(frozen=True, eq=False)
class Judged:
    """A part of data and the baseline's answers, as far as they were asked for.

    chunk: samples that run at once. quick: how many a quick evaluation takes, all where that takes about QUICK_S.
    seconds: of the baseline for a sample, about, in PyTorch.
    size_bytes: of the baseline's state. Memory: KEPT_BYTES, and the answers of all samples.
    """

    model: nn.Module
    data: Data
    task: Task
    size_bytes: int
    chunk: int = CHUNK
    quick: int = 0
    seconds: float = 0.0
    part: Part = Part.TEST
    _outputs: dict[int, Batch] = field(default_factory=dict, repr=False)
    _answers: dict[int, tuple[bytes, bytes]] = field(default_factory=dict, repr=False)
    _lock: threading.RLock = field(default_factory=threading.RLock, repr=False)

    def __len__(self) -> int:
        return self.data.length(self.part)

    @cached_property
    def labels(self) -> np.ndarray:
        """Of all samples, (n, ...); (n, 0) where there are none."""
        if not self.data.labelled:
            return np.empty((len(self), 0))
        return torch.cat(list(self.data.labels(self.part))).numpy()

    def chunks(self, samples: int | None = None) -> Iterator[Batch]:
        """The first samples, all by default, in chunks."""
        left = len(self) if samples is None else samples
        for chunk in self.data.samples(self.part, self.chunk):
            if left <= 0:
                return
            yield chunk if length(chunk) <= left else head(chunk, left)
            left -= length(chunk)

    def reference(self, start: int, chunk: Batch) -> Batch:
        """The baseline's comparable outputs of the samples from number `start` on; kept while there is room."""
        with self._lock:
            known = self._outputs.get(start)
        if known is not None and length(known) >= length(chunk):
            return head(known, length(chunk))
        found = self.task.comparable(run(self.model, chunk))
        with self._lock:
            before = self._answers.get(start)
            written = self.task.write_answers(self.task.answers(found))
            if before is None or len(before[0]) < len(written[0]):
                self._answers[start] = written
            if _bytes([*self._outputs.values(), found]) <= KEPT_BYTES:
                self._outputs[start] = found
        return found

    def run(self, samples: int | None = None) -> None:
        """Ask the baseline about the first samples, all by default, where it was not asked yet."""
        for _ in self.running(samples):
            pass

    def running(self, samples: int | None = None) -> Iterator[int]:
        """`run` chunk by chunk: how many of the first samples the baseline was asked about after each."""
        start, wanted = self.known, len(self) if samples is None else min(samples, len(self))
        if start >= wanted:
            return
        at = 0
        for chunk in self.chunks(wanted):
            at += length(chunk)
            if at > start:
                self.reference(at - length(chunk), chunk)
                yield at

    @property
    def settled(self) -> int:
        """How many of the first samples figures are told of: all where the baseline was asked about all, or `quick`."""
        return len(self) if self.known == len(self) else self.quick

    @property
    def known(self) -> int:
        """How many of the first samples the baseline was asked about."""
        return len(self.answers)

    @property
    def answers(self) -> Answers:
        """The baseline's, of the first samples: as many as it was asked about."""
        with self._lock:
            size, found, at = sum(self.task.answer_bytes), [], 0
            while at in self._answers:
                found.append(self._answers[at])
                at += sum(map(len, found[-1])) // size
        return self.task.read_answers((b"".join(one for one, _ in found), b"".join(other for _, other in found)))

    def baseline(self, samples: int | None = None) -> BaselineFigures:
        """The baseline's own figures on the first samples, all by default; runs it where it was not run yet."""
        n = len(self) if samples is None else samples
        self.run(n)
        with self._lock:
            if n not in self._figures:
                answers = self._head(n)
                figures = self.task.score(answers, self.labels, answers)
                self._figures[n] = self.task.baseline(figures, self.size_bytes)
            return self._figures[n]

    @cached_property
    def _figures(self) -> dict[int, BaselineFigures]:
        return {}

    def _head(self, n: int) -> Answers:
        one, other = self.task.write_answers(self.answers)
        first, second = self.task.answer_bytes
        return self.task.read_answers((one[: n * first], other[: n * second]))


def check_samples(samples: int | None) -> None:
    """Raises ModelError for what is no number of samples."""
    if samples is not None and (isinstance(samples, bool) or not isinstance(samples, int) or samples < 1):
        raise ModelError(f"samples must be a whole number of at least 1; got {samples!r}. Leave it out for all.")


def chunk_of(model: nn.Module, sample: Batch) -> int:
    """Samples that are run at once, at most CHUNK: fewer for networks that write much, whatever the machine.

    sample: one.
    """
    with machine(exclusive=False), torch.inference_mode(), _Written() as written:
        call(model, sample)
    most: int = CHUNK_BYTES // max(1, written.bytes)
    return max(1, min(CHUNK, most))


def seconds_of(model: nn.Module, batch: Batch) -> tuple[Any, float]:
    """What a model makes of a batch, and seconds a sample, other work on the machine included."""
    with machine(exclusive=False), torch.inference_mode():
        began = time.perf_counter()
        outputs = call(model, batch)
        return outputs, (time.perf_counter() - began) / length(batch)


def quick_samples(seconds: float, n: int) -> int:
    """How many of n samples take at most QUICK_S: all of them, or 1, 2 or 5 times a power of ten, at least 10."""
    if seconds * n <= QUICK_S:
        return n
    most = max(QUICK_S / seconds, 10.0)
    power: int = 10 ** math.floor(math.log10(most))
    return min(n, max(step * power for step in (1, 2, 5) if step * power <= most))


def _bytes(batches: Sequence[Batch]) -> int:
    return sum(each.nbytes for batch in batches for each in parts(batch))


class _Written(TorchFunctionMode):
    """Adds up the bytes of what calls return; views count too, weights that are returned as they are do not."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes: int = 0

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        self.bytes += sum(each.nbytes for each in tensors_in(result) if not isinstance(each, nn.Parameter))
        return result
