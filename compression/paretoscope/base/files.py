"""Files are written whole or not at all; temporary ones are removed, even where their process was killed.

Whatever is temporary has MARK in its name and is locked, flock(2), while its process lives; the kernel lets go of the
lock however that ends. The next process that uses the folder removes what is marked, old enough to be locked, its own
user's, and not locked. Where there is no flock (Windows), it stays.
"""

import errno
import os
import secrets
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from paretoscope.base.errors import CompressionError

# None where the system has no flock.
fcntl = import_module("fcntl") if find_spec("fcntl") else None

MARK = "paretoscope-tmp-"
# A younger file may not be locked yet; making and locking one takes far less; chosen by hand; no benchmark.
YOUNG_S = 60.0
# Most entries of a folder that `tidy` looks at, so that a full folder delays nobody; chosen by hand; no benchmark.
_MOST = 20_000
# Most bytes of a file's own name in that of its temporary file, whose names may have 255; chosen by hand; no benchmark.
_LONGEST = 120

_tidied: set[str] = set()


def write_atomically(path: str | os.PathLike[str], data: bytes, *, private: bool = False) -> None:
    """Write `data` to `path`; a crash or a full disk leaves the old file, or none. Raises CompressionError.

    private: whether its owner alone may read it; else whoever the umask lets.
    """
    path = Path(path)
    try:
        _refuse_folder(path)
        tidy(path.parent)
        name = path.parent / _temporary_name(path.name)
        handle = os.open(name, _NEW, 0o600 if private else 0o666)
        try:
            with os.fdopen(handle, "wb") as file:
                _lock(handle)
                file.write(data)
                file.flush()
                os.fsync(handle)
                if os.name != "nt":
                    os.replace(name, path)
            if os.name == "nt":  # an open file cannot be renamed there
                os.replace(name, path)
        except BaseException:
            os.unlink(name)
            raise
        _flush_folder(path.parent)
    except OSError as error:
        raise _unwritable(path, error) from None


def check_writable(path: str | os.PathLike[str]) -> None:
    """Raise what `write_atomically` would where a file cannot be written: before long work, not after it.

    A file is made beside it and removed again; the file itself, if it is there, stays as it is.
    """
    path = Path(path)
    try:
        _refuse_folder(path)
        name = path.parent / _temporary_name(path.name)
        os.close(os.open(name, _NEW, 0o600))
        os.unlink(name)
    except OSError as error:
        raise _unwritable(path, error) from None


_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)


def _refuse_folder(path: Path) -> None:
    if path.exists() and not path.is_file():
        raise CompressionError(f"{path} must be a file or new; it is a folder or a device. Choose another place.")


def _unwritable(path: Path, error: OSError) -> CompressionError:
    return CompressionError(
        f"{path} must be in a folder that can be written; {error.strerror or error}. Choose another place."
    )


@contextmanager
def temporary_folder(beside: Path | None = None) -> Iterator[Path]:
    """Context: a private temporary folder, removed at the end. beside: a path next to which it is made.

    Raises OSError.
    """
    folder = lasting_folder(beside)
    try:
        yield folder.path
    finally:
        folder.remove()


class LastingFolder:
    """A temporary folder that stays until it is removed or the process ends."""

    def __init__(self, path: Path, lock: int | None) -> None:
        self.path = path
        self._lock = lock

    def remove(self) -> None:
        """Remove it and all in it, if it is still there."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def lasting_folder(beside: Path | None = None) -> LastingFolder:
    """Make one, in the system's folder for temporary files or beside a path. Raises OSError."""
    parent = Path(tempfile.gettempdir()) if beside is None else beside.parent
    tidy(parent)
    path = parent / _temporary_name("" if beside is None else beside.name)
    path.mkdir(mode=0o700)
    lock = None
    if fcntl is not None:
        lock = os.open(path, os.O_RDONLY)
        _lock(lock)
    return LastingFolder(path, lock)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Context in which no other thread or process has the lock at `path`; waits. Without flock it goes on without.

    Raises OSError where the file cannot be opened.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o600)
    try:
        if fcntl is not None:
            with suppress(OSError):  # a file system without locks
                fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _temporary_name(name: str) -> str:
    short = name.encode(errors="surrogateescape")[:_LONGEST].decode(errors="ignore")
    return f".{short}.{MARK}{secrets.token_hex(8)}" if name else f"{MARK}{secrets.token_hex(8)}"


def _lock(handle: int) -> None:
    if fcntl is not None:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def tidy(folder: Path) -> None:
    """Remove what killed processes of this user left in a folder, once a process; links are not followed."""
    key = os.path.abspath(folder)
    if fcntl is None or key in _tidied:
        return
    _tidied.add(key)
    with suppress(OSError), os.scandir(folder) as entries:
        for _, entry in zip(range(_MOST), entries, strict=False):
            if MARK in entry.name:
                _remove_left(entry)


def _remove_left(entry: os.DirEntry[str]) -> None:
    assert fcntl is not None, "where there is no flock, nothing is known to be left"
    with suppress(OSError):
        found = entry.stat(follow_symlinks=False)
        whole = stat.S_ISDIR(found.st_mode)
        mine = found.st_uid == os.getuid() and (whole or stat.S_ISREG(found.st_mode))
        if not mine or time.time() - found.st_mtime < YOUNG_S:
            return
        handle = os.open(entry.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            # It raises where a living process has it. What was locked may be another by now.
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(handle), os.stat(entry.path, follow_symlinks=False)):
                shutil.rmtree(entry.path, ignore_errors=True) if whole else os.unlink(entry.path)
        finally:
            os.close(handle)


def _flush_folder(folder: Path) -> None:
    """Make a rename last through a loss of power, where the system lets folders be flushed."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError:
        pass
    finally:
        os.close(handle)


def nameable(text: str) -> bool:
    """Whether this system could have a file of that name: none is too long, or holds a null."""
    try:
        os.lstat(text)
    except OSError as error:
        return error.errno != errno.ENAMETOOLONG
    except ValueError:
        return False
    return True


def read(path: str | os.PathLike[str]) -> bytes:
    """All bytes of `path`. Raises CompressionError."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise CompressionError(f"{path} must be a readable file; {error.strerror or error}. Check the path.") from None
