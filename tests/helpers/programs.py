"""Files of networks for tests of the doors: `.pt2` and `.onnx` of small modules, and archives with a part changed."""

import io
import json
import zipfile
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import onnx
import own_networks
import torch
from onnx import TensorProto, helper, numpy_helper
from paretoscope.base.batch import parts
from torch import nn
from torch.export import Dim, export, save


def program(module: nn.Module, inputs: tuple[torch.Tensor, ...], *, batch: bool = True) -> bytes:
    """What torch.export.save writes of it, sample inputs included. batch: any, else that of the inputs."""
    data = io.BytesIO()
    shapes = tuple({0: Dim("batch")} for _ in inputs) if batch else None
    save(export(module, inputs, dynamic_shapes=shapes), data)
    return data.getvalue()


@lru_cache(maxsize=32)
def own_program(name: str, n: int = 2, batch: bool = True) -> bytes:
    inputs = parts(own_networks._drawn(name, n, seed=1))
    return program(own_networks.module(name), inputs, batch=batch)


def repacked(data: bytes, change: Callable[[str, bytes], bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w", compression) as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
    return out.getvalue()


def with_json(data: bytes, change: Callable[[Any], Any], part: str = "models/") -> bytes:
    """The archive with the JSON of a part changed in place."""

    def changed(name: str, text: bytes) -> bytes:
        if part not in name or not name.endswith(".json"):
            return text
        found = json.loads(text)
        change(found)
        return json.dumps(found).encode()

    return repacked(data, changed)


def onnx_model(
    nodes: list[onnx.NodeProto],
    weights: dict[str, np.ndarray],
    shape: list[int | str],
    opset: int = 17,
    axes: int = 2,
) -> onnx.ModelProto:
    """A model of one input x and one output y of so many axes."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [f"y{i}" for i in range(axes)])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def small_onnx(batch: int | str = "n") -> onnx.ModelProto:
    """A convolution, a reshape that says the batch, a linear layer."""
    draw = np.random.default_rng(0)
    weights = {
        "body.conv.weight": draw.normal(size=(4, 2, 3, 3)).astype(np.float32),
        "body.conv.bias": draw.normal(size=4).astype(np.float32),
        "shape": np.array([-1 if isinstance(batch, str) else batch, 64], np.int64),
        "head.weight": draw.normal(size=(3, 64)).astype(np.float32),
        "head.bias": draw.normal(size=3).astype(np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["x", "body.conv.weight", "body.conv.bias"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Reshape", ["b", "shape"], ["c"]),
        helper.make_node("Gemm", ["c", "head.weight", "head.bias"], ["y"], transB=1),
    ]
    return onnx_model(nodes, weights, [batch, 2, 4, 4])
