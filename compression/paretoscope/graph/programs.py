"""Networks that are there as modules: exported by torch.export, and imported as any program is."""

from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.export import Dim, export

from paretoscope.base.batch import parts
from paretoscope.base.errors import ModelError
from paretoscope.base.tracing import TRACING
from paretoscope.graph.importer import Imported, import_program

if TYPE_CHECKING:
    from paretoscope.base.batch import Batch


def import_module(module: nn.Module, example: "Batch") -> Imported:
    """The graph and tensors of a module in evaluation mode.

    example: two samples or more of its inputs, (n, ...) each; their values do not matter, their shapes and types do.
    Raises ModelError for what cannot be exported, with the reason.
    """
    inputs = parts(example)
    batch = Dim("batch", min=1, max=2**20)
    try:
        with TRACING, torch.no_grad():
            program = export(module, inputs, dynamic_shapes=tuple({0: batch} for _ in inputs), strict=False)
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(
            f"a network must be one that torch.export takes, with any number of samples; it says: {reason[:300]}."
        ) from None
    return import_program(program)
