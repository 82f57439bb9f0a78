"""A function of the user that gives arrays: for the command line alone, because it runs their code."""

import importlib
import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, ClassVar

from paretoscope.base.errors import DataError
from paretoscope.base.text import nearest, shown
from paretoscope.data.origin import Options
from paretoscope.data.sources.arrays import LABELS
from paretoscope.data.writer import Writer

if TYPE_CHECKING:
    import numpy as np

_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


class Code:
    name = "code"
    title = "Python function (package.module:function)"
    summary = "A function without arguments that gives an array or tensor, x and y, or a dictionary of them."
    reference = "Python's entry points: module:attribute"
    code = True
    place = 1
    options: ClassVar[Mapping[str, str]] = {"target": "the array of the labels", "classes": "a file of class names"}

    def takes(self, text: str) -> bool:
        return bool(_NAME.fullmatch(text))

    def convert(self, text: str, into: Writer, options: Options) -> None:
        if not options.code:
            raise DataError(f"a function of the user runs on the command line alone; got {shown(text)}. Add it there.")
        arrays = _named(_called(text), text)
        found = [each for each in LABELS if each in arrays and len(arrays) > 1]
        target = options.target or (found[0] if len(found) == 1 else None)
        if target is not None and target not in arrays:
            raise DataError(
                f"the target must be one of the arrays; {shown(target)} is not among {', '.join(arrays)}."
                + (nearest(target, arrays) or " Choose one of them.")
            )
        for name, values in arrays.items():
            if name != target:
                into.array(name, values.dtype, values.shape[1:], [values])
        if target is not None:
            into.named_labels(arrays[target], options.classes)


ORIGIN = Code()


def _called(text: str) -> Any:
    module, _, name = text.partition(":")
    with _here():
        try:
            return getattr(importlib.import_module(module), name)()
        except Exception as error:  # the user's code may raise anything
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise DataError(
                f"{text} must be a function that can be called without arguments; it gave {type(error).__name__}: "
                f"{reason}. Call it by itself to see where."
            ) from None


@contextmanager
def _here() -> Iterator[None]:
    """Context: modules of the current folder are found, as `python -m` finds them."""
    folder = os.getcwd()
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        with suppress(ValueError):
            sys.path.remove(folder)


def _named(found: Any, text: str) -> "dict[str, np.ndarray]":
    if isinstance(found, dict):
        values = {str(name): each for name, each in found.items()}
    elif isinstance(found, (tuple, list)):
        if len(found) != 2:
            raise DataError(f"{text} must give x and y, or a dictionary; it gave {len(found)} values. Name them.")
        values = {"x": found[0], "y": found[1]}
    else:
        values = {"x": found}
    return {name: _array(name, each, text) for name, each in values.items()}


def _array(name: str, value: Any, text: str) -> "np.ndarray":
    import numpy as np

    array = np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)
    if array.dtype.kind not in "fiubU" or array.ndim == 0:
        raise DataError(
            f"{text} must give arrays of numbers whose first axis counts samples; {name} is {array.dtype} "
            f"{array.shape}. Convert it."
        )
    return array
