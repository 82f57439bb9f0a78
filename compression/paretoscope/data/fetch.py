"""Downloads a file, checks it, and puts it in its place whole or not at all."""

import hashlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from paretoscope.base.errors import DataError
from paretoscope.base.files import temporary_folder
from paretoscope.base.progress import Progress

# A network that is silent for so long has failed; chosen by hand; no benchmark.
PATIENCE_S = 10.0
_BYTES = 1 << 18


@dataclass(frozen=True, slots=True)
class Remote:
    """A file on the web. md5: as its publisher has it; against damage, not against forgery. size: in bytes, about."""

    url: str
    md5: str
    size: int

    @property
    def name(self) -> str:
        return self.url.rpartition("/")[2]


def fetch(remote: Remote, path: Path, progress: Progress) -> None:
    """Download a file to a path, if it is not there; raises DataError, which says where to put it by hand."""
    import http.client
    import urllib.request

    if path.is_file():
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary_folder(path) as scratch:
            arriving, digest, done = scratch / path.name, hashlib.md5(usedforsecurity=False), 0
            with urllib.request.urlopen(remote.url, timeout=PATIENCE_S) as answer, arriving.open("wb") as file:
                while read := answer.read(_BYTES):
                    file.write(read)
                    digest.update(read)
                    done += len(read)
                    if done > 2 * remote.size:
                        raise OSError("it is far larger than it should be")
                    progress.report(min(done, remote.size), remote.size, label=f"downloading {remote.name}")
            if digest.hexdigest() != remote.md5:
                raise OSError("what came is not what its publisher describes")
            arriving.replace(path)
    except (OSError, http.client.HTTPException) as error:
        with suppress(OSError):
            path.parent.rmdir()  # if it was made for nothing
        raise DataError(
            f"{remote.name} must be in {path.parent}, or be downloaded from {remote.url}; that failed ({error}). "
            f"Nothing of it was kept: try again, or put it there yourself."
        ) from None
