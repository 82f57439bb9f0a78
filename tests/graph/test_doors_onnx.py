"""The door for `.onnx` files of anybody: outputs are ONNX Runtime's, and hostile files are refused in one message."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from paretoscope.base.errors import ModelError
from paretoscope.base.libraries import onnxruntime
from paretoscope.graph.doors import read_onnx
from programs import onnx_model, small_onnx


def reference(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    return onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x})[0]


@pytest.mark.parametrize("batch", ["n", 1, 2])
def test_outputs_are_those_of_onnx_runtime_for_any_batch(batch) -> None:
    found = read_onnx(small_onnx(batch).SerializeToString())
    assert set(found.state) == {"body.conv.weight", "body.conv.bias", "head.weight", "head.bias"}
    assert set(found.graph.layers) == {"body.conv", "head"} and found.graph.inputs[0].name == "x"
    x = torch.randn(3, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        made = found.module()(x)
    np.testing.assert_allclose(made.numpy(), reference(small_onnx(), x.numpy()), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind, gates", [("LSTM", 4), ("GRU", 3), ("RNN", 1)])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_recurrent_layers_become_those_of_pytorch(kind: str, gates: int, direction: str) -> None:
    n = 2 if direction == "bidirectional" else 1
    draw = np.random.default_rng(1)
    weights = {
        "w": draw.normal(size=(n, gates * 5, 3)).astype(np.float32),
        "r": draw.normal(size=(n, gates * 5, 5)).astype(np.float32),
        "b": draw.normal(size=(n, 2 * gates * 5)).astype(np.float32),
    }
    settings = {"hidden_size": 5, "direction": direction} | ({"linear_before_reset": 1} if kind == "GRU" else {})
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[1, 0, 2]),
        helper.make_node(kind, ["t", "w", "r", "b"], ["all"], f"/rnn/{kind}", **settings),
        helper.make_node("Transpose", ["all"], ["y"], perm=[2, 0, 1, 3]),
    ]
    model = onnx_model(nodes, weights, ["n", 7, 3], axes=4)
    found = read_onnx(model.SerializeToString())
    assert {path: layer[0] for path, layer in found.graph.layers.items()} == {"rnn": kind}
    x = torch.randn(3, 7, 3, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        made = found.module()(x)
    np.testing.assert_allclose(made.numpy(), reference(model, x.numpy()), rtol=1e-4, atol=1e-5)


def test_open_sizes_are_asked_for_and_taken() -> None:
    model = onnx_model([helper.make_node("Relu", ["x"], ["y"])], {}, ["n", 3, "h", "w"], axes=4)
    with pytest.raises(ModelError, match="--input x="):
        read_onnx(model.SerializeToString())
    for name in ("x", ""):
        assert read_onnx(model.SerializeToString(), {name: (3, 8, 8)}).graph.inputs[0].shape == (3, 8, 8)
    with pytest.raises(ModelError, match="must name an input of the file; got 'z'"):
        read_onnx(model.SerializeToString(), {"z": (3, 8, 8)})


def external(folder: Path, location: str) -> Path:
    """A file whose weight lies at a location."""
    model = small_onnx()
    tensor = model.graph.initializer[0]
    data, tensor.raw_data = tensor.raw_data, b""
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    (folder / "weights.bin").write_bytes(data)
    (folder / "a.onnx").write_bytes(model.SerializeToString())
    return folder / "a.onnx"


def test_external_data_lies_beside_the_file(tmp_path) -> None:
    found = read_onnx(external(tmp_path, "weights.bin"))
    wanted = numpy_helper.to_array(small_onnx().graph.initializer[0])
    assert np.array_equal(found.state["body.conv.weight"].numpy(), wanted)
    with pytest.raises(ModelError, match="given alone"):
        read_onnx((tmp_path / "a.onnx").read_bytes())


@pytest.mark.parametrize("location", ["../secret.bin", "/etc/passwd", "link.bin", "missing.bin", "", "c:\\secret.bin"])
def test_external_data_elsewhere_is_refused(tmp_path, location: str) -> None:
    folder = tmp_path / "inner"
    folder.mkdir()
    (tmp_path / "secret.bin").write_bytes(bytes(10**4))
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    with pytest.raises(ModelError, match="external data must lie"):
        read_onnx(external(folder, location))


def node(kind: str, *inputs: str, **attributes) -> onnx.NodeProto:
    return helper.make_node(kind, [*inputs], ["y"], f"the {kind}", **attributes)


def test_what_cannot_be_a_network_here_is_refused_by_name() -> None:
    scale = {"s": np.ones((), np.float32), "z": np.zeros((), np.uint8)}
    for model, said in (
        (onnx_model([node("QuantizeLinear", "x", "s", "z")], scale, ["n", 4]), "quantized already"),
        (onnx_model([node("NonZero", "x")], {}, ["n", 4]), "NonZero at the NonZero"),
        (onnx_model([node("Attack", "x", domain="mine")], {}, ["n", 4]), "Attack"),
        (onnx_model([node("Relu", "x")], {}, ["n", 4], opset=8), "opset 9"),
        (onnx_model([node("MatMul", "x", "w")], {"w": np.ones((4, 2), np.float16)}, ["n", 4]), "half precision"),
        (onnx_model([node("Relu", "x")], {}, [2, 2**30]), "fixed sizes"),
        (onnx_model([node("Relu", "y")], {}, ["n", 4]), "ONNX file"),
        (onnx_model([node("Relu", "x"), node("Relu", "x")], {}, ["n", 4]), "ONNX file"),
        (onnx_model([node("MatMul", "x", "w")], {"w": np.ones((5, 2), np.float32)}, ["n", 4]), "MatMul the MatMul"),
    ):
        with pytest.raises(ModelError, match=said):
            read_onnx(model.SerializeToString())


def test_damaged_files_are_refused() -> None:
    data = small_onnx().SerializeToString()
    giant = small_onnx()
    giant.graph.initializer[0].dims[0] = 2**40
    for given in (b"", b"\x00" * 100, data[: len(data) // 2], giant.SerializeToString()):
        with pytest.raises(ModelError):
            read_onnx(given)
