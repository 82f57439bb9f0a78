"""Networks that are there as modules: exported by torch.export, and imported as any program is."""

import inspect
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.export import Dim, export

from paretoscope.base.batch import parts
from paretoscope.base.errors import ModelError
from paretoscope.base.text import reason
from paretoscope.base.tracing import TRACING
from paretoscope.graph.importer import Imported, import_program

if TYPE_CHECKING:
    from torch import Tensor

    from paretoscope.base.batch import Batch


def import_module(module: nn.Module, example: "Batch") -> Imported:
    """The graph and tensors of a module in evaluation mode, in which it is exported and left as it was.

    example: two samples or more of its inputs, (n, ...) each; their values do not matter, their shapes and types do.
    A module that cannot be exported for any batch is exported for that of the example, as `import_program` says.
    Raises ModelError for what cannot be exported, with the reason.
    """
    inputs = parts(example)
    try:
        return import_traced(module, inputs, any_batch=True)
    except ModelError as error:
        try:
            return import_traced(module, inputs, any_batch=False)
        except ModelError:
            raise error from None


def import_traced(module: nn.Module, inputs: "tuple[Tensor, ...]", *, any_batch: bool) -> Imported:
    """As `import_module`: exported for any batch, or for that of the inputs alone. Raises ModelError."""
    batch = Dim("batch", min=1, max=2**20)
    each: Any = tuple({0: batch} for _ in inputs)
    kinds = [parameter.kind for parameter in inspect.signature(module.forward).parameters.values()]
    # Inputs that the module takes as one, `*inputs`, are described as one.
    shapes = None if not any_batch else ((each,) if kinds == [inspect.Parameter.VAR_POSITIONAL] else each)
    try:
        with TRACING, torch.no_grad(), _plainly(module):
            program = export(module, inputs, dynamic_shapes=shapes, strict=False)
    except ModelError:
        raise
    except Exception as error:  # PyTorch's errors have no common base
        raise ModelError(
            f"a network must be one that torch.export takes, with any number of samples; it says: {reason(error, 300)}."
        ) from None
    return import_program(program)


@contextmanager
def _plainly(module: nn.Module) -> Iterator[None]:
    """In evaluation mode, and without the attention that is one call of its own (the fast path of transformers)."""
    training = [each for each in module.modules() if each.training]
    fast, log = torch.backends.mha.get_fastpath_enabled(), logging.getLogger("torch._subclasses.fake_tensor")
    level = log.level
    torch.backends.mha.set_fastpath_enabled(False)
    log.setLevel(logging.CRITICAL)  # what fails is raised; a log of it beside that helps nobody
    module.eval()
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        log.setLevel(level)
        for each in training:
            each.training = True
