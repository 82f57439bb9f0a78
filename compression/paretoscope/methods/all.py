"""All methods, found by walking this folder: a file that has methods or their texts declares them as `METHODS`."""

import functools
import importlib
import pkgutil
from collections.abc import Callable
from types import ModuleType
from typing import Any, TypeVar

from paretoscope.base.errors import CompressionError
from paretoscope.base.registry import Named

T = TypeVar("T", bound=Named)


@functools.cache
def _modules() -> tuple[ModuleType, ...]:
    """The files of this folder, by name; folders in it are not looked into."""
    package = importlib.import_module(__package__)
    files = (each.name for each in pkgutil.iter_modules(package.__path__) if not each.ispkg)
    return tuple(importlib.import_module(f"{__package__}.{name}") for name in files)


def declared(kind: type[T], place: Callable[[T], Any]) -> list[T]:
    """What the files declare of one kind, in the order of `place` and then of names, whatever the files are called.

    Raises CompressionError for two of one name.
    """
    found = [each for module in _modules() for each in getattr(module, "METHODS", ()) if isinstance(each, kind)]
    names = [each.name for each in found]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise CompressionError(
            f"a method's name must be unique; {', '.join(twice)} is declared more than once. Choose another name."
        )
    return sorted(found, key=lambda each: (place(each), each.name))
