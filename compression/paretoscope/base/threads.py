"""How many threads PyTorch may use. Small work is done on one: waking workers costs more than they save."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def torch_threads(threads: int) -> Iterator[None]:
    """Context in which PyTorch's operators use that many threads; the setting is the process's, so it is restored."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
