"""The user's own code: a function that makes the network. For the command line; a page never runs it."""

import importlib
import os
import re
import sys
from typing import TYPE_CHECKING, Any

from paretoscope.base.errors import ModelError
from paretoscope.base.text import shown
from paretoscope.networks.origins.origin import RANDOM, Opened, Options

if TYPE_CHECKING:
    from paretoscope.base.batch import Batch

_FORM = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


class Factory:
    name = "factory"
    title = "Python function"
    summary = "Your function without arguments that returns a module, or a module and example inputs."
    reference = "Yours"
    form = "package.module:function"
    place = 90

    def takes(self, text: str) -> bool:
        return _FORM.fullmatch(text) is not None

    def open(self, text: str, options: Options) -> Opened:
        from torch import nn

        from paretoscope.networks.origins import modules

        if not options.code:
            raise ModelError(
                f"code of a user is run on the command line alone; got {text}. Add it there: paretoscope add NAME "
                f"{text}, or write a file: torch.export.save(program, 'model.pt2')."
            )
        made = _called(text)
        module, example = made if isinstance(made, tuple) and len(made) == 2 else (made, None)
        if not isinstance(module, nn.Module):
            raise ModelError(
                f"{text} must return a torch.nn.Module, or one and a batch of example inputs; got {shown(made)}. "
                "Change the function."
            )
        if options.weights == RANDOM:
            raise ModelError(f"--weights random has no effect here: {text} makes its weights. Leave it out.")
        if options.weights:
            from pathlib import Path

            modules.load_weights(module, Path(options.weights))
        if example is None or options.inputs:
            batch = modules.floats(options.inputs, None, text)
        else:
            batch = _batch(text, example)
        return modules.opened(module, batch, text.rpartition(":")[2])


def _called(text: str) -> Any:
    place, _, function = text.partition(":")
    if (here := os.getcwd()) not in sys.path:
        sys.path.insert(0, here)
    try:
        found = getattr(importlib.import_module(place), function)
    except (ImportError, AttributeError) as error:
        raise ModelError(
            f"{text} must name a function of a module that can be imported from here; {error}. Check the name, or "
            "start in the folder of the module."
        ) from None
    try:
        return found()
    except Exception as error:  # whatever the user's code raises
        raise ModelError(f"{text} must return a network; it raised {type(error).__name__}: {error}.") from None


def _batch(text: str, example: Any) -> "Batch":
    """The example as two samples: torch.export takes a batch of one for a fixed size."""
    from torch import Tensor

    from paretoscope.base.batch import joined, parts

    tensors = parts(tuple(example) if isinstance(example, (tuple, list)) else example)
    if not tensors or not all(isinstance(each, Tensor) and each.ndim and len(each) for each in tensors):
        raise ModelError(
            f"{text} must return example inputs that are tensors with samples in front; got {shown(example)}."
        )
    return joined(tuple(each if len(each) > 1 else each.repeat(2, *[1] * (each.ndim - 1)) for each in tensors))


ORIGINS = (Factory(),)
