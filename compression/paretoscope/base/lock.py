"""A lock of the whole machine across processes, so that nothing of ours runs beside a timing.

Timings hold it alone for one round at a time, all other heavy work shares it for a piece at a time: a chunk of images,
a layer, a batch. It is a pair of files in a folder of this user alone, locked with flock(2): the kernel lets go of them
when a process ends, however it ends. The second file is a gate: whoever wants the machine alone keeps it shut while
waiting, so that evaluations without a gap between them cannot keep a timing out.

Work never fails for want of the lock. Where there is none to be had (a read-only disk, a file of another kind at its
name, a system without flock such as Windows), or another process holds it for longer than `PATIENCE_S` (suspended,
say), it goes on without: `trouble` says why, `alone` says so to a timing, and for `RESPITE_S` nobody waits again.
"""

import os
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

# None where the system has no flock.
fcntl = import_module("fcntl") if find_spec("fcntl") else None

ENVIRONMENT = "PARETOSCOPE_LOCK"
# How long a lock is waited for, and for how long nobody waits again after that; chosen by hand; no benchmark.
PATIENCE_S = 60.0
RESPITE_S = 600.0
# A shorter wait is not shown; chosen by hand; no benchmark.
TOLD_AFTER_S = 1.0
# Between two tries to lock a file; chosen by hand; no benchmark.
_PAUSE_S = 0.002

# What a wait is for, by whether the machine is wanted alone.
_AWAITED = {True: "other work of ours on this machine to pause", False: "a timing on this machine"}


class _Held(threading.local):
    """What this thread holds: None, or whether it holds the machine alone, and the locked file."""

    def __init__(self) -> None:
        self.exclusive: bool | None = None
        self.file: int | None = None


_held = _Held()
# By thread: since when it waits, and for what.
_waits: dict[int, tuple[float, str]] = {}
# By whether the machine was wanted alone: why there was no lock, and until when nobody waits for it.
_troubles: dict[bool, tuple[str, float]] = {}


def folder() -> Path:
    """The folder of $PARETOSCOPE_LOCK, or machine in this user's cache folder; raises RuntimeError without a home."""
    if path := os.environ.get(ENVIRONMENT):
        return Path(path)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "paretoscope" / "machine"


@contextmanager
def machine(exclusive: bool) -> Iterator[None]:
    """Context in which this thread holds the machine, alone or together with others that share it; waits until it can.

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
    """Context within `machine` in which this thread lets go of the machine, so that other work can have it."""
    before = _held.exclusive
    _hold(None)
    try:
        yield
    finally:
        _hold(before)


def alone() -> bool:
    """Whether this thread has the machine to itself: within `machine(exclusive=True)`, and not for want of a lock."""
    return _held.exclusive is True and _held.file is not None


def trouble() -> str | None:
    """Why work goes on without the lock just now, or None."""
    return next((text for text, _ in list(_troubles.values())), None)


def awaited(thread: int | None) -> str | None:
    """What a thread (its `ident`) waits for, in words, if it has waited for a second or longer."""
    waiting = None if thread is None else _waits.get(thread)
    if waiting is None:
        return None
    since, what = waiting
    return what if time.monotonic() - since >= TOLD_AFTER_S else None


def _hold(exclusive: bool | None) -> None:
    if exclusive == _held.exclusive:
        return
    if _held.file is not None:
        os.close(_held.file)
    # Set before waiting, so that it is true if the wait is interrupted.
    _held.exclusive, _held.file = None, None
    if exclusive is not None:
        _held.file = _locked(exclusive)
        _held.exclusive = exclusive


def _locked(exclusive: bool) -> int | None:
    """The descriptor of the locked file, or None without a lock; `_troubles` gets the reason."""
    _, until = _troubles.get(exclusive, ("", 0.0))
    waits = time.monotonic() >= until
    try:
        file = _attempt(exclusive, PATIENCE_S if waits else 0.0)
    except (OSError, RuntimeError) as error:
        if waits:
            respite = RESPITE_S if isinstance(error, TimeoutError) else 0.0
            _troubles[exclusive] = _why(error), time.monotonic() + respite
        return None
    _troubles.pop(exclusive, None)
    return file


def _why(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return (
            f"another process has held the lock of this machine for more than {PATIENCE_S:.0f} s ({error}). Work goes "
            "on without it, and timings that are taken so are marked. End that process, or let it go on."
        )
    return (
        f"the lock of this machine must be a file of this user alone; {error}. Work goes on without it, and timings "
        f"that are taken so are marked. Move that file away, or set {ENVIRONMENT} to a folder of yours."
    )


def _attempt(exclusive: bool, patience: float) -> int:
    """The descriptor of the locked file; raises TimeoutError, or another OSError where there is no lock to be had."""
    if fcntl is None:
        raise OSError("this system has no flock")
    place, deadline = folder(), time.monotonic() + patience
    _prepare(place)
    try:
        gate = _acquire(place / "gate", exclusive, deadline)
        try:
            return _acquire(place / "lock", exclusive, deadline)
        finally:
            os.close(gate)
    finally:
        _waits.pop(threading.get_ident(), None)


def _prepare(place: Path) -> None:
    """Make the folder; raises OSError unless it belongs to this user alone."""
    try:
        found = os.lstat(place)
    except FileNotFoundError:
        os.makedirs(place, mode=0o700, exist_ok=True)
        found = os.lstat(place)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise OSError(f"{place} is not a folder of this user")
    if stat.S_IMODE(found.st_mode) & 0o077:
        os.chmod(place, 0o700)


def _acquire(path: Path, exclusive: bool, deadline: float) -> int:
    while True:
        file = _open(path)
        try:
            while not _flock(file, exclusive):
                if time.monotonic() >= deadline:
                    raise TimeoutError(str(path))
                _waits.setdefault(threading.get_ident(), (time.monotonic(), _AWAITED[exclusive]))
                time.sleep(_PAUSE_S)
            if _still_at(path, file):
                return file
        except BaseException:
            os.close(file)
            raise
        # Somebody has cleared the folder meanwhile: others would lock another file.
        os.close(file)


def _flock(file: int, exclusive: bool) -> bool:
    assert fcntl is not None, "where there is no flock, no file is opened to be locked"
    try:
        fcntl.flock(file, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _still_at(path: Path, file: int) -> bool:
    try:
        return os.path.samestat(os.lstat(path), os.fstat(file))
    except FileNotFoundError:
        return False


def _open(path: Path) -> int:
    """Open a file that is locked, never read or written. A pipe must not block this, nor a link lead elsewhere."""
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
    except FileNotFoundError:  # the folder is cleared just now
        _prepare(path.parent)
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise OSError(f"{path} is not a regular file")
    return file
