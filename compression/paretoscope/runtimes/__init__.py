"""Runtimes: what runs a model, to time it and to see what it answers.

A runtime is a file of this room, or of a folder of it, that holds a `Runtime`: it is found there, and nothing lists it.
A file may be imported before its library is installed: it imports an optional one when it is used.
"""

from importlib import import_module
from pkgutil import walk_packages

from paretoscope.base.registry import Registry
from paretoscope.runtimes.base import Program, Runnable, Runtime, Session, predict

__all__ = ["Program", "Runnable", "Runtime", "Session", "predict", "runtimes"]


def _first() -> Registry[Runtime]:
    """The runtimes of all files, in the order of the files' names; raises CompressionError where two have one name."""
    found: Registry[Runtime] = Registry("runtime")
    for name in sorted(module.name for module in walk_packages(__path__, f"{__name__}.")):
        for entry in vars(import_module(name)).values():
            if isinstance(entry, Runtime) and all(entry is not known for known in found):
                found.add(entry)
    return found


# The files are read at the first look: their libraries are large, and most evaluations time nothing.
runtimes: Registry[Runtime] = Registry("runtime", _first)
