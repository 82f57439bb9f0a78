"""Views that an ONNX file writes as indices counted with the batch: any batch, and no table of indices."""

import numpy as np
import pytest
import torch
from onnx import helper
from paretoscope.base.libraries import onnxruntime
from paretoscope.graph.doors import read_onnx
from programs import onnx_model


def strided(step: int, places: np.ndarray, tail: list, axes: int) -> tuple[list, dict]:
    """as_strided of the means (n, 6) of x, as PyTorch's exporter writes it."""
    nodes = [
        helper.make_node("Shape", ["x"], ["size"], end=1, start=0),
        helper.make_node("Squeeze", ["size"], ["n"]),
        helper.make_node("ReduceMean", ["x"], ["mean"], axes=[-1, -2]),
        helper.make_node("Reshape", ["mean", "all"], ["flat"]),
        helper.make_node("Range", ["zero", "n", "one"], ["count"]),
        helper.make_node("Mul", ["count", "step"], ["first"]),
        helper.make_node("Unsqueeze", ["first", "behind"], ["column"]),
        helper.make_node("Add", ["column", "places"], ["indices"]),
        helper.make_node("Gather", ["flat", "indices"], ["view"], axis=0),
        *tail,
    ]
    weights = {
        "all": np.array([-1]), "zero": np.array(0), "one": np.array(1), "step": np.array(step),
        "behind": np.arange(1, axes), "places": places,
    }  # fmt: skip
    return nodes, weights


VIEWS = {
    "as it is": (6, np.arange(6).reshape(1, 6, 1, 1), 4, {"aten.reshape.default", "aten.view.default"}),
    "turned": (6, np.arange(6).reshape(2, 3).T[None], 3, {"aten.index.Tensor"}),
    "a part": (6, np.array([[0, 4]]), 2, {"aten.index.Tensor"}),
    # Not within a sample: a table of indices it is.
    "across samples": (6, np.array([[5, 0, 5]]), 2, {"aten.index.Tensor"}),
    "half of the samples": (3, np.array([[0, 1, 2]]), 2, {"aten.arange.default", "aten.arange.start_step"}),
}


@pytest.mark.parametrize("name", VIEWS)
def test_a_strided_view_is_one_of_any_batch(name: str) -> None:
    step, places, axes, operators = VIEWS[name]
    tail = [helper.make_node("Relu", ["view"], ["y"])]
    nodes, weights = strided(step, places, tail, axes)
    data = onnx_model(nodes, weights, ["n", 6, 2, 2], axes=axes).SerializeToString()
    found = read_onnx(data)
    used = {node.operator for node in found.graph.nodes}
    assert used & operators
    assert ("aten.arange.default" in used or "aten.arange.start_step" in used) == (name == "half of the samples")
    for n in (1, 2, 5):
        x = torch.randn(n, 6, 2, 2, generator=torch.Generator().manual_seed(n))
        wanted = onnxruntime.InferenceSession(data).run(None, {"x": x.numpy()})[0]
        np.testing.assert_allclose(found.module()(x).detach().numpy(), wanted, rtol=1e-5, atol=1e-6)


def test_a_network_with_such_a_view_is_one_like_any_other() -> None:
    """Convolution, mean of its maps as a strided view, normalisation, linear layer: the tail of a ConvNeXt."""
    draw = np.random.default_rng(0)
    tail = [
        helper.make_node("Transpose", ["view"], ["last"], perm=[0, 2, 3, 1]),
        helper.make_node("LayerNormalization", ["last", "norm.weight", "norm.bias"], ["normed"], axis=-1, epsilon=1e-6),
        helper.make_node("Transpose", ["normed"], ["first_again"], perm=[0, 3, 1, 2]),
        helper.make_node("Reshape", ["first_again", "rows"], ["features"]),
        helper.make_node("Gemm", ["features", "head.weight", "head.bias"], ["y"], transB=1),
    ]
    nodes, weights = strided(6, np.arange(6).reshape(1, 6, 1, 1), tail, 4)
    weights |= {
        "norm.weight": np.ones(6, np.float32), "norm.bias": np.zeros(6, np.float32), "rows": np.array([-1, 6]),
        "head.weight": draw.normal(size=(3, 6)).astype(np.float32), "head.bias": np.ones(3, np.float32),
    }  # fmt: skip
    data = onnx_model(nodes, weights, ["n", 6, 4, 4]).SerializeToString()
    found = read_onnx(data)
    assert set(found.graph.layers) == {"norm", "head"}
    x = torch.randn(3, 6, 4, 4, generator=torch.Generator().manual_seed(0))
    wanted = onnxruntime.InferenceSession(data).run(None, {"x": x.numpy()})[0]
    np.testing.assert_allclose(found.module()(x).detach().numpy(), wanted, rtol=1e-4, atol=1e-5)
