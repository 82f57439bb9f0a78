"""A lock of the whole machine across processes, so that nothing of ours runs beside a timing.

Timings hold it alone for one round at a time, evaluations share it for a chunk at a time. It is a pair of files in the
system's folder for temporary files, locked with flock(2): the kernel lets go of them when a process ends, however it
ends. The second file is a gate: whoever wants the machine alone keeps it shut while waiting, so that evaluations
without a gap between them cannot keep a timing out.

A measurement never fails for want of the lock. Where there is none to be had (a read-only disk, a system without
flock such as Windows), or another process holds it for longer than `PATIENCE_S` (suspended, say), it goes without.
"""

import os
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:
    fcntl = None

PATIENCE_S = 60.0
_PAUSE_S = 0.002


class _Held(threading.local):
    """What this thread holds: None, or whether it holds the machine alone, and the locked file."""

    def __init__(self) -> None:
        self.exclusive: bool | None = None
        self.file: int | None = None


_held = _Held()


@contextmanager
def machine(exclusive: bool) -> Iterator[None]:
    """Within, this thread holds the machine, alone or together with others that share it; waits until it can.

    Contexts of one thread nest: an inner one asks for no less than the outer one has. Threads keep each other out.
    """
    before = _held.exclusive
    _hold(bool(exclusive or before))
    try:
        yield
    finally:
        _hold(before)


@contextmanager
def released() -> Iterator[None]:
    """Within a `machine` context, let go of the machine for a while, whatever runs in between."""
    before = _held.exclusive
    _hold(None)
    try:
        yield
    finally:
        _hold(before)


def _hold(exclusive: bool | None) -> None:
    if exclusive == _held.exclusive:
        return
    if _held.file is not None:
        os.close(_held.file)
    # What is held stays right where waiting is interrupted.
    _held.exclusive, _held.file = None, None
    if exclusive is not None:
        _held.file = _locked(exclusive)
        _held.exclusive = exclusive


def _locked(exclusive: bool) -> int | None:
    """The descriptor of the locked file, or None without a lock."""
    if fcntl is None:
        return None
    deadline = time.monotonic() + PATIENCE_S
    gate = _acquire("gate", exclusive, deadline)
    try:
        return _acquire("lock", exclusive, deadline)
    finally:
        if gate is not None:
            os.close(gate)


def _acquire(suffix: str, exclusive: bool, deadline: float) -> int | None:
    with suppress(OSError):
        file = _open(Path(tempfile.gettempdir()) / f"paretoscope-machine.{suffix}")
        try:
            while True:
                with suppress(BlockingIOError):
                    fcntl.flock(file, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
                    return file
                if time.monotonic() >= deadline:
                    break
                time.sleep(_PAUSE_S)
        except BaseException:
            os.close(file)
            raise
        os.close(file)
    return None


def _open(path: Path) -> int:
    """Only to be locked, never read or written: any user's file does, but not a link to elsewhere."""
    try:
        return os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CREAT, 0o644)
