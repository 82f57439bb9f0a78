"""See how small and how fast a neural network can get, and what that costs in accuracy.

    import paretoscope

    network = paretoscope.open_network("simple-cnn")
    small = paretoscope.compress(network, paretoscope.Recipe.of(sparsity=0.8, clusters=16, bits=8))
    record = paretoscope.evaluate(small)
    paretoscope.save(small, "simple-cnn.psc")
    module = paretoscope.load("simple-cnn.psc").build()

These names are the public API; all else may change from one version to the next. Importing this takes no time: each
name brings what it needs when it is first used. All that is raised on purpose is a CompressionError.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from paretoscope.api import (
        add_network,
        compress,
        convert,
        evaluate,
        from_module,
        load,
        open_network,
        presets,
        save,
    )
    from paretoscope.base.errors import CompressionError
    from paretoscope.data.arrays import ArrayData
    from paretoscope.data.data import Data
    from paretoscope.measure.record import Record
    from paretoscope.model.compressed import CompressedModel
    from paretoscope.networks.network import Network
    from paretoscope.recipe.recipe import Recipe
    from paretoscope.tasks.task import Task

__version__ = "0.2.0.dev0"

__all__ = [
    "ArrayData",
    "CompressedModel",
    "CompressionError",
    "Data",
    "Network",
    "Recipe",
    "Record",
    "Task",
    "add_network",
    "compress",
    "convert",
    "evaluate",
    "from_module",
    "load",
    "open_network",
    "presets",
    "save",
]

# Where each name comes from when it is first used (PEP 562), as type checkers read it above.
_PLACES = {
    **dict.fromkeys(("add_network", "compress", "convert", "evaluate", "from_module"), "api"),
    **dict.fromkeys(("load", "open_network", "presets", "save"), "api"),
    "ArrayData": "data.arrays",
    "CompressedModel": "model.compressed",
    "CompressionError": "base.errors",
    "Data": "data.data",
    "Network": "networks.network",
    "Recipe": "recipe.recipe",
    "Record": "measure.record",
    "Task": "tasks.task",
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
