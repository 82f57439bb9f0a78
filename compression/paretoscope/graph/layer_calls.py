"""Calls whose weights are a layer's own: which `nn` module each is, read from the arguments of its operator."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import fx

from paretoscope.base.errors import ModelError
from paretoscope.graph.program import bound, place_of, shape_of


@dataclass(frozen=True, slots=True)
class LayerCall:
    """kind, settings: of `layers.LAYERS`. tensors: the nodes that are its weights, by leaf. args: of the call."""

    kind: str
    settings: dict[str, Any]
    tensors: dict[str, fx.Node]
    args: tuple[Any, ...]


Reader = Callable[[fx.Node], LayerCall | None]


def _with_bias(given: Mapping[str, Any]) -> dict[str, fx.Node]:
    return {"weight": given["weight"]} | ({"bias": given["bias"]} if given["bias"] is not None else {})


def _linear(node: fx.Node) -> LayerCall | None:
    given = bound(node)
    if not isinstance(given["weight"], fx.Node) or len(shape_of(given["weight"])) != 2:
        return None
    outputs, inputs = shape_of(given["weight"])
    settings = {"in_features": inputs, "out_features": outputs, "bias": given["bias"] is not None}
    return LayerCall("Linear", settings, _with_bias(given), (given["input"],))


def _convolution(axes: int, transposed: bool) -> Reader:
    def read(node: fx.Node) -> LayerCall | None:
        given = bound(node)
        if not isinstance(given["weight"], fx.Node):
            return None
        shape, groups = shape_of(given["weight"]), given["groups"]

        def spread(value: Any) -> Any:
            return value if isinstance(value, str) else list(value) * (axes if len(value) == 1 else 1)

        outputs, inputs = (shape[1] * groups, shape[0]) if transposed else (shape[0], shape[1] * groups)
        settings = {
            "in_channels": inputs,
            "out_channels": outputs,
            "kernel_size": list(shape[2:]),
            "stride": spread(given["stride"]),
            "padding": spread(given["padding"]),
            **({"output_padding": spread(given["output_padding"])} if transposed else {}),
            "dilation": spread(given["dilation"]),
            "groups": groups,
            "bias": given["bias"] is not None,
        }
        kind = f"Conv{'Transpose' if transposed else ''}{axes}d"
        return LayerCall(kind, settings, _with_bias(given), (given["input"],))

    return read


def _batch_norm(node: fx.Node) -> LayerCall | None:
    given = bound(node)
    if given["training"] or given["running_mean"] is None:
        raise ModelError(
            f"a network must be exported in evaluation mode; batch normalisation at {place_of(node)} is in training, "
            "or keeps no statistics. Call model.eval() before."
        )
    axes = len(shape_of(given["input"])) - 2
    tensors = {"running_mean": given["running_mean"], "running_var": given["running_var"]}
    affine = given["weight"] is not None
    if affine != (given["bias"] is not None) or axes not in (0, 1, 2, 3):
        return None
    tensors |= _with_bias(given) if affine else {}
    features = shape_of(given["running_mean"])[0]
    settings = {"num_features": features, "eps": given["eps"], "momentum": given["momentum"], "affine": affine}
    return LayerCall(f"BatchNorm{max(1, axes)}d", settings, tensors, (given["input"],))


def _layer_norm(node: fx.Node) -> LayerCall | None:
    given = bound(node)
    if given["weight"] is None:
        return None
    settings = {
        "normalized_shape": list(given["normalized_shape"]),
        "eps": given["eps"],
        "elementwise_affine": True,
        "bias": given["bias"] is not None,
    }
    return LayerCall("LayerNorm", settings, _with_bias(given), (given["input"],))


def _group_norm(node: fx.Node) -> LayerCall | None:
    given = bound(node)
    if given["weight"] is None or given["bias"] is None:
        return None
    settings = {
        "num_groups": given["num_groups"],
        "num_channels": shape_of(given["weight"])[0],
        "eps": given["eps"],
        "affine": True,
    }
    return LayerCall("GroupNorm", settings, _with_bias(given), (given["input"],))


def _embedding(node: fx.Node) -> LayerCall | None:
    given = bound(node)
    rows, width = shape_of(given["weight"])
    settings = {"num_embeddings": rows, "embedding_dim": width}
    return LayerCall("Embedding", settings, {"weight": given["weight"]}, (given["indices"],))


def _prelu(node: fx.Node) -> LayerCall | None:
    given = bound(node)
    settings = {"num_parameters": shape_of(given["weight"])[0]}
    return LayerCall("PReLU", settings, {"weight": given["weight"]}, (given["self"],))


def _recurrent(kind: str, nonlinearity: str = "") -> Reader:
    def read(node: fx.Node) -> LayerCall | None:
        given = bound(node)
        if given["train"]:
            raise ModelError(f"a network must be exported in evaluation mode; {place_of(node)} is in training.")
        directions = ("", "_reverse") if given["bidirectional"] else ("",)
        leaves = [
            f"{part}_l{layer}{direction}"
            for layer in range(given["num_layers"])
            for direction in directions
            for part in (
                ("weight_ih", "weight_hh", "bias_ih", "bias_hh") if given["has_biases"] else ("weight_ih", "weight_hh")
            )
        ]
        if len(leaves) != len(given["params"]):
            return None  # projections, which no layer here has
        tensors = dict(zip(leaves, given["params"], strict=True))
        hidden = shape_of(given["params"][1])[1]
        settings = {
            "input_size": shape_of(given["params"][0])[1],
            "hidden_size": hidden,
            "num_layers": given["num_layers"],
            "bias": given["has_biases"],
            "batch_first": given["batch_first"],
            "bidirectional": given["bidirectional"],
            **({"nonlinearity": nonlinearity} if nonlinearity else {}),
        }
        return LayerCall(kind, settings, tensors, (given["input"], given["hx"]))

    return read


LAYER_CALLS: dict[str, Reader] = {
    "aten.linear.default": _linear,
    **{
        f"aten.conv{n}d.{form}": _convolution(n, transposed=False) for n in (1, 2, 3) for form in ("default", "padding")
    },
    "aten.conv_transpose1d.default": _convolution(1, transposed=True),
    "aten.conv_transpose2d.input": _convolution(2, transposed=True),
    "aten.conv_transpose3d.input": _convolution(3, transposed=True),
    "aten.batch_norm.default": _batch_norm,
    "aten.layer_norm.default": _layer_norm,
    "aten.group_norm.default": _group_norm,
    "aten.embedding.default": _embedding,
    "aten.prelu.default": _prelu,
    "aten.lstm.input": _recurrent("LSTM"),
    "aten.gru.input": _recurrent("GRU"),
    "aten.rnn_tanh.input": _recurrent("RNN", "tanh"),
    "aten.rnn_relu.input": _recurrent("RNN", "relu"),
}
