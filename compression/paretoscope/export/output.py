"""Converted files on disk: all of them or none."""

import os
from collections.abc import Mapping
from pathlib import Path

from paretoscope.base import files
from paretoscope.base.errors import CompressionError


def write(path: str | os.PathLike[str], contents: Mapping[str, bytes]) -> list[Path]:
    """Write files, by name; returns where they are.

    A single one is written to `path`, or into it where that is a folder. Several become the folder `path`, which must
    be new or empty. A crash or a full disk leaves what was there before. Raises CompressionError.
    """
    path = Path(path)
    if len(contents) > 1:
        write_folder(path, contents)
        return [path / name for name in contents]
    ((name, data),) = contents.items()
    target = path / name if path.is_dir() else path
    files.write_atomically(target, data)
    return [target]


def write_folder(path: Path, contents: Mapping[str, bytes]) -> None:
    """Make a folder of these files; the folder appears with all of them in it. Raises CompressionError."""
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise CompressionError(f"{path} must be a new or an empty folder; it is not. Choose another place.")
    try:
        with files.temporary_folder(path) as made:
            # One that the umask lets others enter, inside the one that is locked.
            inner = made / "folder"
            inner.mkdir()
            for name, data in contents.items():
                files.write_atomically(inner / name, data)
            os.replace(inner, path)
    except CompressionError as error:
        # A person knows the folder by the name that they gave it.
        raise CompressionError(str(error).replace(str(inner), str(path))) from None
    except OSError as error:
        raise CompressionError(
            f"{path} must be in a folder that can be written; {error.strerror or error}. Choose another place."
        ) from None
