"""A program of torch.export, `.pt2`: the float network as a graph, with any number of images."""

import io
import json
import re
import zipfile
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch.export import Dim, ExportedProgram

from paretoscope.base.batch import parts
from paretoscope.base.errors import ModelError
from paretoscope.base.lock import machine
from paretoscope.base.threads import torch_threads
from paretoscope.base.tracing import TRACING
from paretoscope.export.base import Format, Original, close_to_decoded, versioned
from paretoscope.graph.graph_module import GraphModule
from paretoscope.runtimes.onnx_graph import Arrays

# What torch.export writes for the sizes of our networks: sums and products of the batch and of numbers.
_NAMES = "Add|Mul|Min|Max|Mod|FloorDiv"
_SIZE = re.compile(rf"(Symbol\('s\d+', positive=True, integer=True\)|Integer\(-?\d+\)|{_NAMES}|[(), ]|\d)+")


@machine(exclusive=True)  # forward passes beside it would be rounded otherwise
def save(module: torch.nn.Module, samples: tuple[torch.Tensor, ...], *, batch: int | None = None) -> bytes:
    """The bytes of a `.pt2`; samples: a tensor (n, ...) for each input. Raises ModelError.

    batch: how many samples it takes, those of the sample; None for any number, with a sample of 2.
    """
    data, given = io.BytesIO(), tuple(each.clone() for each in samples)
    try:
        with TRACING, torch_threads(1):
            program = torch.export.export(module, given, dynamic_shapes=_shapes(module, given, batch))
            # Samples would be stored as a pickle.
            program.example_inputs = None
            torch.export.save(program, data)
    except Exception as error:  # the compiler's errors have no common base but this
        reason = str(error).partition("\n")[0]
        raise ModelError(f"a model must be traceable to be exported; {reason}. Choose another format.") from None
    return data.getvalue()


def _shapes(module: torch.nn.Module, samples: tuple[torch.Tensor, ...], batch: int | None) -> Any:
    """Any number of samples of each input, unless it is fixed."""
    if batch:
        return None
    size = {0: Dim("batch")}
    # The forward pass of an imported network takes `*inputs`, which are one argument.
    return (tuple(size for _ in samples),) if isinstance(module, GraphModule) else tuple(size for _ in samples)


@machine(exclusive=False)
def load(data: bytes) -> ExportedProgram:
    """The program of a `.pt2` that holds nothing but tensors and a graph; raises ModelError.

    torch.export.load unpickles what is marked as pickled, and evaluates the expressions of sizes: both are refused
    before it sees the file.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            _expect_plain(archive)
    except (zipfile.BadZipFile, ValueError, KeyError, RecursionError) as error:
        raise ModelError(f"a .pt2 file must be an archive of torch.export; {error}. Export it again.") from None
    return torch.export.load(io.BytesIO(data))


def _expect_plain(archive: zipfile.ZipFile) -> None:
    for name in archive.namelist():
        folder, _, leaf = name.rpartition("/")
        if leaf.endswith(".json"):
            for key, value in _pairs(json.loads(archive.read(name))):
                if (key == "use_pickle" and value is not False) or (key == "expr_str" and not _SIZE.fullmatch(value)):
                    raise ModelError(f"a .pt2 file must hold no code; {name} has {key} {value!r}. Export it again.")
        elif "/data/" in name and not re.fullmatch(r"weight_\d+|tensor_\d+", leaf) and archive.getinfo(name).file_size:
            raise ModelError(f"a .pt2 file must hold tensors and a graph; got {folder}/{leaf}. Export it again.")


def _pairs(data: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(data, dict):
        yield from data.items()
    for item in data.values() if isinstance(data, dict) else data if isinstance(data, list) else ():
        yield from _pairs(item)


def _write(original: Original) -> dict[str, bytes]:
    return {f"{original.stem}.pt2": save(original.module, parts(original.first(2)))}


def _run(files: Mapping[str, bytes], original: Original) -> Arrays:
    (data,) = files.values()
    return original.logits(load(data).module())


TORCH_EXPORT = Format(
    name="torch-export",
    title="PyTorch program",
    summary="A graph of torch.export with decoded float weights: for PyTorch without our code, and for ExecuTorch.",
    reference="PyTorch documentation, torch.export",
    extension=".pt2",
    runtime=versioned("PyTorch", "torch") + ", torch.export.load",
    promise="the decoded network but for rounding",
    write=_write,
    run=_run,
    judge=close_to_decoded,
    place=60,
)
FORMATS = (TORCH_EXPORT,)
