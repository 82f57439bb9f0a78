"""Ordered registries of named entries: models, datasets, methods, runtimes."""

import reprlib
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, Protocol, TypeVar

from paretoscope.base.errors import CompressionError, UnknownNameError


class Named(Protocol):
    @property
    def name(self) -> str: ...


T = TypeVar("T", bound=Named)


class Registry(Generic[T]):
    """Entries by name, in the order in which they were added.

    kind: what an entry is, in one lower-case word, for messages: `Registry("model")`. first: gives the first entries,
    at the first look; for entries whose modules are slow to import. Safe from any thread.
    """

    def __init__(self, kind: str, first: Callable[[], Iterable[T]] | None = None) -> None:
        self.kind = kind
        self._added: dict[str, T] = {}
        self._first = first
        self._lock = threading.Lock()

    @property
    def _entries(self) -> dict[str, T]:
        if (first := self._first) is not None:
            # Outside the lock: imports have locks of their own, and an import may look here.
            entries: dict[str, T] = {}
            for entry in first():
                self._put(entry, entries)
            with self._lock:
                if self._first is not None:
                    self._added |= entries
                    self._first = None
        return self._added

    def add(self, entry: T) -> T:
        """Append an entry and return it; raises CompressionError when its name is taken."""
        self._put(entry, self._entries)
        return entry

    def _put(self, entry: T, entries: dict[str, T]) -> None:
        if entry.name in entries:
            raise CompressionError(
                f"a {self.kind}'s name must be unique; {entry.name!r} is registered already. Choose another name."
            )
        entries[entry.name] = entry

    def get(self, name: str) -> T:
        """The entry of that name; raises UnknownNameError, which lists the known names."""
        try:
            return self._entries[name]
        except (KeyError, TypeError):
            known = ", ".join(self._entries)
            raise UnknownNameError(
                f"a {self.kind} must be registered; got {reprlib.repr(name)}. Choose one of: {known}."
            ) from None

    def names(self) -> tuple[str, ...]:
        return tuple(self._entries)

    def __iter__(self) -> Iterator[T]:
        return iter(self._entries.values())

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, name: object) -> bool:
        return name in self._entries
