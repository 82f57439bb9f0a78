"""Torchvision, also where its wheel does not match the build of torch.

A CPU build of torch beside torchvision's CUDA build is a common pair: package registries serve the CUDA build by
default. Torchvision's compiled extension cannot be loaded there, so its operators are unknown to torch, and
`import torchvision` stops at `operator torchvision::nms does not exist`, because it gives two of them a shape function
whether or not they exist. Models and transforms need none of the operators: declaring those two is enough. Calling
one still raises NotImplementedError.
"""

import importlib
import sys
import threading
from functools import lru_cache
from types import ModuleType

import torch

_MISSING = "operator torchvision::"
_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)

# Two threads must not mend one import at once.
_importing = threading.Lock()

# The declarations last as long as the object that made them.
_declarations: torch.library.Library | None = None


def import_torchvision() -> ModuleType:
    """The torchvision package; `from torchvision... import ...` works afterwards.

    Nothing is declared where the plain import works. Raises what that import raises for any other reason.
    """
    with _importing:
        return _import_torchvision()


@lru_cache(maxsize=1)
def _import_torchvision() -> ModuleType:
    try:
        return importlib.import_module("torchvision")
    except RuntimeError as error:
        if _MISSING not in str(error):
            raise
    _forget_partial_import()
    _declare_operators()
    return importlib.import_module("torchvision")


def _forget_partial_import() -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]


def _declare_operators() -> None:
    global _declarations
    _declarations = torch.library.Library("torchvision", "DEF")
    for schema in _SCHEMAS:
        _declarations.define(schema)
