"""A private SQLite file whose schema has a version; it is made anew if it is lost while the program runs.

The version stands in `PRAGMA user_version`. Older files are migrated in one transaction, newer ones are not written to.
Each operation opens its own connection, so threads and processes may share one file and one `Database`.
"""

import os
import sqlite3
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import TypeVar

from paretoscope.base.cache import ENVIRONMENT, private_folder
from paretoscope.base.errors import StoreError

T = TypeVar("T")

# SQLite's application id of our files, "PSCO": it tells a damaged file of ours from another program's database.
APPLICATION = 0x5053434F
_HEAD, _MAGIC = 100, b"SQLite format 3\0"
# How long an operation waits for another process that writes, and between two tries; chosen by hand; no benchmark.
PATIENCE_S = 10.0
_PAUSE_S = 0.02


class Newer(Exception):
    """The file has a schema of a later version."""


class Database:
    """A file. migrations: functions of a connection; the one at place i makes schema version i + 1 of version i.

    told: what became of files that were damaged while or before they were used, a sentence each.
    """

    def __init__(self, path: Path, migrations: tuple[Callable[[sqlite3.Connection], None], ...]) -> None:
        self.path = path
        self.told: list[str] = []
        self._migrations = migrations
        self._lock = threading.Lock()
        self._ours = False

    def run(self, operation: Callable[[sqlite3.Connection], T], patience: float = PATIENCE_S) -> T:
        """Run an operation on a connection, in one transaction, and return its result. Raises StoreError.

        A file that was deleted, emptied or damaged meanwhile is made anew, and the operation begins again, once.
        patience: seconds to wait for another process that holds the file.
        """
        try:
            try:
                return self._once(operation, patience)
            except sqlite3.Error as error:
                if not self._mended(error):
                    raise
                return self._once(operation, patience)
        except Newer as error:
            raise StoreError(
                f"the record store must have a schema of version {len(self._migrations)} or lower; {self.path} has "
                f"{error}: a newer version of this program wrote it, and it is left alone. Use that version, or set "
                f"{ENVIRONMENT} to another path."
            ) from None
        except (sqlite3.Error, OSError) as error:
            raise StoreError(
                f"the record store must be a SQLite file that can be written; {self.path}: {error}. "
                f"Free space, move the file away, or set {ENVIRONMENT} to another path."
            ) from None

    def _once(self, operation: Callable[[sqlite3.Connection], T], patience: float) -> T:
        if not self._ours or not self.path.exists():
            private_folder(self.path.parent)
            # SQLite gives its files beside it the same mode.
            with suppress(FileExistsError):
                os.close(os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        with closing(sqlite3.connect(self.path, timeout=patience)) as connection:
            if _version(connection) != len(self._migrations):
                self._migrate(connection, patience)
            connection.execute("PRAGMA synchronous = NORMAL")
            with connection:
                result = operation(connection)
            self._ours = True
            self._make_private()
        return result

    def _make_private(self) -> None:
        """Take the rights of others from files that an earlier version made, or that were copied here."""
        for path in self._files():
            with suppress(OSError):
                found = path.stat()
                if stat.S_ISREG(found.st_mode) and stat.S_IMODE(found.st_mode) & 0o077:
                    path.chmod(0o600)

    def _files(self) -> Iterator[Path]:
        return (self.path.with_name(f"{self.path.name}{ending}") for ending in ("", "-wal", "-shm"))

    def _migrate(self, connection: sqlite3.Connection, patience: float) -> None:
        """Bring the file to the latest version; waits while another process does, which SQLite does not."""
        deadline = time.monotonic() + patience
        while True:
            try:
                self._check_version(connection)
                connection.execute("PRAGMA journal_mode = WAL")
                with connection:
                    connection.execute("BEGIN IMMEDIATE")
                    # Another process may have been first.
                    for migration in self._migrations[self._check_version(connection) :]:
                        migration(connection)
                    connection.execute(f"PRAGMA application_id = {APPLICATION}")
                    connection.execute(f"PRAGMA user_version = {len(self._migrations)}")
                return
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(_PAUSE_S)

    def _check_version(self, connection: sqlite3.Connection) -> int:
        version = _version(connection)
        if not 0 <= version <= len(self._migrations):
            raise Newer(version)
        return version

    def _mended(self, error: sqlite3.Error) -> bool:
        """Whether what was wrong with the file is out of the way: it lost its tables, or is damaged and moved aside."""
        with self._lock:
            if "no such table" in str(error) and self._is_ours():
                with suppress(sqlite3.Error), closing(sqlite3.connect(self.path, timeout=PATIENCE_S)) as connection:
                    connection.execute("PRAGMA user_version = 0")
                    return True
                return False
            damaged = getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
            return damaged and self._is_ours() and self._set_aside()

    def _is_ours(self) -> bool:
        """Whether a damaged file is one that this process used, or is marked as ours; others stay as they are."""
        if self._ours:
            return True
        with suppress(OSError), self.path.open("rb") as file:
            head = file.read(_HEAD)
            return head.startswith(_MAGIC) and int.from_bytes(head[68:72], "big") == APPLICATION
        return False

    def _set_aside(self) -> bool:
        name = f"{self.path.name}.damaged-{time.strftime('%Y%m%d-%H%M%S')}"
        try:
            for path in self._files():
                with suppress(FileNotFoundError):
                    path.rename(path.with_name(path.name.replace(self.path.name, name, 1)))
        except OSError:
            return False
        self.told.append(f"The record store was damaged and a new one was begun; the damaged one is kept as {name}.")
        return True


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])
