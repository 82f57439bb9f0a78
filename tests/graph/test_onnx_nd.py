"""GatherND and ScatterND against ONNX Runtime, with indices of the file, computed ones, and those of a batch."""

import numpy as np
import pytest
import torch
from onnx import helper
from paretoscope.base.errors import ModelError
from paretoscope.base.libraries import onnxruntime
from paretoscope.graph.doors import read_onnx
from paretoscope.graph.graph_module import GraphModule
from paretoscope.runtimes.onnx_graph import export_fp32
from programs import onnx_model

DRAW = np.random.default_rng(0)
TABLE = DRAW.normal(size=(5, 3)).astype(np.float32)


def node(kind: str, *inputs: str, output: str = "y", **attributes):
    return helper.make_node(kind, [*inputs], [output], f"the {output}", **attributes)


def ints(*shape: int, most: int) -> np.ndarray:
    return DRAW.integers(-most, most, shape)


# The rows 0..3 in another order, each once.
ROWS = np.array([[2], [0], [-1]])
GATHERS = {
    # The batch lies behind the axes that are picked from.
    "one axis": (
        [
            node("Transpose", "x", output="t", perm=[1, 2, 0]),
            node("GatherND", "t", "i", output="g"),
            node("Transpose", "g", perm=[2, 0, 1]),
        ],
        {"i": ints(6, 1, most=4)},
        3,
    ),
    "two axes": (
        [
            node("Transpose", "x", output="t", perm=[1, 2, 0]),
            node("GatherND", "t", "i", output="g"),
            node("Transpose", "g", perm=[1, 0]),
        ],
        {"i": ints(6, 2, most=3)},
        2,
    ),
    "of a table": (
        [
            node("GatherND", "table", "i", output="rows"),
            node("Unsqueeze", "x", "one", output="u"),
            node("Add", "u", "rows"),
        ],
        {"i": ints(7, 4, 1, most=5), "table": TABLE, "one": np.array([1])},
        4,
    ),
}


def checked(model, rest=(4, 3), opset: int = 17) -> GraphModule:
    """The module, whose outputs are ONNX Runtime's for any batch, and those of the file that it is written as."""
    data = model.SerializeToString()
    made = read_onnx(data).module()
    for n in (1, 3):
        x = torch.randn(n, *rest, generator=torch.Generator().manual_seed(n))
        wanted = onnxruntime.InferenceSession(data).run(None, {"x": x.numpy()})[0]
        with torch.no_grad():
            np.testing.assert_allclose(made(x).numpy(), wanted, rtol=1e-5, atol=1e-6)
    return made


@pytest.mark.parametrize("name", GATHERS)
def test_a_gather_by_constants(name: str) -> None:
    nodes, weights, axes = GATHERS[name]
    made = checked(onnx_model(nodes, weights, ["n", 4, 3], axes=axes))
    # Of a table it is the table that is kept, not the rows that are picked.
    assert sum(each.numel() for each in made.parameters()) == (TABLE.size if "table" in weights else 0)


def test_a_gather_by_what_is_computed_within_each_sample() -> None:
    nodes = [
        node("ArgMax", "x", output="place", axis=1, keepdims=0),
        node("Unsqueeze", "place", "last", output="i"),
        node("GatherND", "x", "i", batch_dims=1),
    ]
    checked(onnx_model(nodes, {"last": np.array([-1])}, ["n", 4, 3], axes=3))


def test_a_gather_from_a_table_by_what_is_computed() -> None:
    nodes = [
        node("ArgMax", "x", output="place", axis=1, keepdims=0),
        node("Sub", "place", "four", output="negative"),
        node("Unsqueeze", "negative", "last", output="i"),
        node("GatherND", "table", "i"),
    ]
    weights = {"last": np.array([-1]), "table": TABLE, "four": np.array(4)}
    checked(onnx_model(nodes, weights, ["n", 4, 3], axes=3))


def test_a_scatter_of_constants_is_a_constant() -> None:
    nodes = [
        node("ScatterND", "table", "i", "rows", output="s"),
        node("Transpose", "s", output="weight", perm=[1, 0]),
        node("MatMul", "x", "weight"),
    ]
    made = checked(onnx_model(nodes, {"table": TABLE, "i": ROWS, "rows": TABLE[:3] * 2}, ["n", 4, 3], axes=3))
    assert [each.numel() for each in made.parameters()] == [TABLE.size]


def test_what_is_read_can_be_written_again() -> None:
    nodes = [
        node("Transpose", "x", output="t", perm=[1, 2, 0]),
        node("Slice", "t", "start", "end", output="u"),
        node("ScatterND", "t", "i", "u", output="s"),
        node("GatherND", "s", "pairs", output="g"),
        node("Transpose", "g", perm=[1, 0]),
    ]
    weights = {"i": ROWS, "start": np.array([1]), "end": np.array([4]), "pairs": ints(6, 2, most=3)}
    made = checked(onnx_model(nodes, weights, ["n", 4, 3], axes=2))
    x = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0))
    written = export_fp32(made, (4, 3), x.numpy())
    (found,) = onnxruntime.InferenceSession(written).run(None, {"images": x.numpy()})
    assert np.array_equal(found, made(x).detach().numpy())


REFUSED = {
    "writes along the batch": (node("ScatterND", "x", "i", "x"), {"i": np.array([[9]])}, "along the batch"),
    "along the batch": (node("GatherND", "x", "i"), {"i": np.array([[0, 1]])}, "along the batch"),
    "outside": (node("GatherND", "t", "i"), {"i": np.array([[4]])}, "out of the range"),
    "too many axes": (node("GatherND", "t", "i"), {"i": np.zeros((1, 4), np.int64)}, "for 3 axes|ONNX file"),
    "sums": (node("ScatterND", "t", "i", "t", reduction="add"), {"i": ROWS}, "the reduction add"),
    "computed": (node("ScatterND", "t", "c", "t"), {}, "indices that are computed"),
    "other updates": (node("ScatterND", "t", "i", "t"), {"i": ROWS}, "they must have"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_form_that_cannot_be_done_is_refused(name: str) -> None:
    last, weights, said = REFUSED[name]
    nodes = [
        node("Transpose", "x", output="t", perm=[1, 2, 0]),
        node("ArgMax", "t", output="place", axis=1),
        node("Identity", "place", output="c"),
        last,
    ]
    with pytest.raises(ModelError, match=said):
        read_onnx(onnx_model(nodes, weights, ["n", 4, 3], axes=3).SerializeToString())
