"""How many threads PyTorch may use. Small work is done on one: waking workers costs more than they save."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def torch_threads(threads: int) -> Iterator[None]:
    """Within, PyTorch's operators use so many threads. The setting belongs to the process, so it is put back after."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
