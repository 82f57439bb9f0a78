"""The doors for networks from files of anybody: what comes out is a graph of allow-listed operators, or a ModelError.

Nothing in a file is executed or unpickled, and what it declares is measured before memory is taken for it.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from torch import Tensor, nn

from paretoscope.base.batch import tensors_in
from paretoscope.base.errors import ModelError
from paretoscope.base.text import listed, reason, shown
from paretoscope.graph import onnx_file, onnx_import, pt2
from paretoscope.graph.any_batch import shapes
from paretoscope.graph.importer import Imported, import_program
from paretoscope.graph.network_graph import NetworkGraph, named_inputs
from paretoscope.graph.programs import import_traced

# More numbers at once are no value of one sample: resnet50 at 224 x 224 has 0.8 million. Chosen by hand.
MOST_VALUES = 1 << 28


def read_program(file: bytes | Path) -> Imported:
    """The network of a `.pt2`, which torch.export.save writes (PyTorch 2.8 and later). file: its bytes or its path.

    Raises ModelError: for a file that is no such archive, is damaged, or holds what could run code; for operators that
    are not allowed, by name and module; for values larger than MOST_VALUES a sample; and as `import_program` does.
    """
    program = pt2.read(file)
    with _refusing("a .pt2 file", pt2.WAY):
        imported = import_program(program)
        check_sizes(imported.graph)
    return imported


def check_sizes(graph: NetworkGraph) -> None:
    """Raises ModelError where a network fails on two samples, or makes larger values than MOST_VALUES a sample."""
    for each in graph.inputs:
        expect_small(math.prod(each.shape), each.name)
    values = shapes(graph, 2)
    where = {node.name: f"{node.operator} at {node.where or node.name}" for node in graph.nodes}
    for name, value in values.items():
        for tensor in tensors_in(value):
            expect_small(tensor.numel() // 2, where.get(name, name))


def expect_small(numbers: int, what: str) -> None:
    """Raises ModelError for more numbers of one sample than MOST_VALUES."""
    if numbers > MOST_VALUES:
        raise ModelError(
            f"a network must fit into memory: one value may have {MOST_VALUES:,} numbers a sample; {what} has "
            f"{numbers:,}. Export it for smaller inputs."
        )


def read_onnx(file: bytes | Path, shapes_of: Mapping[str, Sequence[int]] | None = None) -> Imported:
    """The network of an `.onnx` file, of opset 9 and later. file: its bytes, or its path where data lies beside it.

    shapes_of: shapes of one sample, without the batch, for inputs whose sizes the file leaves open, by name ("" for
    the only one).
    Weights keep the names that the file has for them, or get those of their nodes. A file for one batch is made to
    take any. Raises ModelError: as `onnx_file.read` does, for operators that are not known by name and node, for
    inputs that leave sizes open, and as `import_program` does.
    """
    model = onnx_file.read(file)
    with _refusing("an ONNX file", "Export it again"):
        network = onnx_import.OnnxNetwork(model).eval()
        given = _by_input(shapes_of or {}, [each.name for each in network.inputs])
        batches, examples = zip(*(onnx_import.example_of(each, given) for each in network.inputs), strict=True)
        fixed = {batch for batch in batches if batch is not None}
        if len(fixed) > 1:
            raise ModelError(f"every input must have the same batch in front; got {batches}. Export the network so.")
        imported = _import_onnx(network, [*examples], fixed.pop() if fixed else None)
        imported = Imported(named_inputs(imported.graph, [each.name for each in network.inputs]), imported.state)
        check_sizes(imported.graph)
    return imported


@contextmanager
def _refusing(what: str, way: str) -> Iterator[None]:
    """Within, whatever a damaged file makes of NumPy's and PyTorch's checks becomes a ModelError."""
    try:
        yield
    except ModelError:
        raise
    except Exception as error:  # these checks have no common error
        raise ModelError(
            f"{what} must hold a network that can be called; {type(error).__name__}: {reason(error, 200)}. {way}."
        ) from None


def _by_input(shapes_of: Mapping[str, Sequence[int]], names: Sequence[str]) -> Mapping[str, Sequence[int]]:
    given = {names[0] if not name and len(names) == 1 else name: shape for name, shape in shapes_of.items()}
    if unknown := [name for name in given if name not in names]:
        raise ModelError(
            f"--input must name an input of the file; got {shown(unknown[0])}. It has {listed(names, 12)}."
        )
    return given


def _import_onnx(network: nn.Module, examples: list[Tensor], fixed: int | None) -> Imported:
    """For any batch where the file leaves it open; else, or where that fails, from the graph for one batch."""
    if fixed is None:
        try:
            return import_traced(network, tuple(examples), any_batch=True)
        except ModelError as error:
            try:
                return import_traced(network, tuple(each[:1] for each in examples), any_batch=False)
            except ModelError:
                raise error from None
    return import_traced(network, tuple(each[:1].expand(fixed, *each.shape[1:]) for each in examples), any_batch=False)
