"""Files are written whole or not at all."""

import os
import tempfile
from pathlib import Path

from compression.errors import CompressionError


def write_atomically(path: str | os.PathLike[str], data: bytes) -> None:
    """Write `data` to `path`; a crash or a full disk leaves the old file, or none. Raises CompressionError."""
    path = Path(path)
    try:
        if path.exists() and not path.is_file():
            raise CompressionError(f"{path} must be a file or new; it is a folder or a device. Choose another place.")
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(name, 0o644)
            os.replace(name, path)
        except BaseException:
            os.unlink(name)
            raise
        _flush_folder(path.parent)
    except OSError as error:
        raise CompressionError(
            f"{path} must be in a folder that can be written; {error.strerror or error}. Choose another place."
        ) from None


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


def read(path: str | os.PathLike[str]) -> bytes:
    """All bytes of `path`. Raises CompressionError."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise CompressionError(f"{path} must be a readable file; {error.strerror or error}. Check the path.") from None
