"""Sources of data, one file each, found by walking this folder: each declares itself as `ORIGIN`."""

import importlib
import pkgutil
from pathlib import Path

from paretoscope.base.errors import DataError
from paretoscope.base.files import nameable
from paretoscope.base.registry import Registry
from paretoscope.base.text import shown
from paretoscope.data.origin import DataOrigin


def _declared() -> list[DataOrigin]:
    modules = (importlib.import_module(f"{__name__}.{each.name}") for each in pkgutil.iter_modules(__path__))
    found: list[DataOrigin] = [module.ORIGIN for module in modules if hasattr(module, "ORIGIN")]
    return sorted(found, key=lambda each: (each.place, each.name))


origins: Registry[DataOrigin] = Registry("source of data", _declared)


def find_origin(text: str, *, code: bool = False) -> DataOrigin:
    """The source that takes a text without options. code: whether the user's own code may run. Raises DataError."""
    if not text.strip() or not nameable(text):
        told = f"{shown(text)}, which no file can be called" if text.strip() else "nothing"
        raise DataError(f"data must be named by a path, a set's name or a function; got {told}. Give one.")
    for origin in origins:
        if origin.takes(text):
            if origin.code and not code:
                raise DataError(
                    f"{origin.title} runs code, which only the command line does; got {shown(text)}. Use it."
                )
            return origin
    titles = "; ".join(origin.title for origin in origins if code or not origin.code)
    there = "" if Path(text).exists() else ", and no such file is there"
    raise DataError(f"data must be of a source that is known; {shown(text)} is of none{there}. Give one of: {titles}.")
