"""The store as the workbench uses it: where it fails, measurements go on in memory, and `problem` says why."""

from collections.abc import Callable
from typing import TypeVar

from paretoscope.base.errors import StoreError
from paretoscope.service.store import Store

T = TypeVar("T")


class Stored:
    """Calls a store. Threads: any number; the last call says whether the store works. No lock is held while it does."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._error: str | None = None

    @property
    def problem(self) -> str | None:
        """How many results are not on disk and why, or why the last call failed; None where all is well."""
        return self.store.problem or self._error

    def call(self, operation: Callable[[Store], T]) -> T | None:
        """What the operation gives; None where the store fails."""
        try:
            result = operation(self.store)
        except StoreError as error:
            self._error = str(error)
            return None
        self._error = None
        return result
