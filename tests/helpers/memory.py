"""What work allocates, for tests of its bounds."""

import threading
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def tracing() -> Iterator[Callable[[], int]]:
    """Gives a function that tells the most bytes allocated since.

    Compiled code of another thread that allocates while tracing ends crashes the process (the allocators are exchanged
    under it: github.com/python/cpython/issues/128679), so no job may be left running.
    """
    left = [thread.name for thread in threading.enumerate() if thread.name == "paretoscope-job"]
    assert not left, "jobs of an earlier test still run: close their workbench or scheduler"
    tracemalloc.start()
    try:
        yield lambda: tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
