"""A mapping that keeps what was used last: every cache of this package that grows with use has such a bound."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from typing import Generic, TypeVar, overload

from paretoscope.base.errors import CompressionError

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
D = TypeVar("D")


class Recent(Generic[K, V]):
    """Entries up to a bound; setting more drops those that were not used (set or got) for the longest time.

    most: entries, or the sum of their `weight`. The last entry stays, however much it weighs. Threads: any number; its
    lock is held for each call alone, and nothing else is called under it but `weight`.
    """

    def __init__(self, most: float, weight: Callable[[V], float] = lambda value: 1) -> None:
        if not most >= 1:
            raise CompressionError(f"a cache must have room for at least 1; got {most}. Pass e.g. 100.")
        self.most = most
        self._weight = weight
        self._lock = threading.RLock()
        self._entries: OrderedDict[K, V] = OrderedDict()
        self._total = 0.0

    @overload
    def get(self, key: K) -> V | None: ...

    @overload
    def get(self, key: K, default: D) -> V | D: ...

    def get(self, key: K, default: D | None = None) -> V | D | None:
        """The value of a key, which counts as a use of it, or the default."""
        with self._lock:
            return self[key] if key in self._entries else default

    def pop(self, key: K) -> None:
        """Forget a key, where it is known."""
        with self._lock:
            if key in self._entries:
                self._total -= self._weight(self._entries.pop(key))

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._entries.clear()
            self._total = 0.0

    def items(self) -> list[tuple[K, V]]:
        """All entries, the least recently used first; looking at them counts as no use."""
        with self._lock:
            return list(self._entries.items())

    def values(self) -> list[V]:
        """All values, in the order of `items`."""
        with self._lock:
            return list(self._entries.values())

    def __getitem__(self, key: K) -> V:
        """The value of a key, which counts as a use of it; raises KeyError."""
        with self._lock:
            self._entries.move_to_end(key)
            return self._entries[key]

    def __setitem__(self, key: K, value: V) -> None:
        with self._lock:
            self.pop(key)
            self._entries[key] = value
            self._total += self._weight(value)
            while self._total > self.most and len(self._entries) > 1:
                self.pop(next(iter(self._entries)))

    def __contains__(self, key: object) -> bool:
        with self._lock:
            return key in self._entries

    def __iter__(self) -> Iterator[K]:
        with self._lock:
            return iter(list(self._entries))

    def __len__(self) -> int:
        with self._lock:
            return len(self._entries)
