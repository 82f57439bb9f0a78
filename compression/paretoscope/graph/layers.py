"""Layers of an imported network: which modules a graph may have, and with which settings.

A layer is an ordinary module of `torch.nn`, so that methods, training and torch-pruning see what they know. Its
settings are data: numbers, switches and lists of numbers, checked against the ranges here before anything is made.
"""

import re
from collections.abc import Mapping
from typing import Any

from torch import nn

from paretoscope.base.errors import ModelError

Settings = Mapping[str, Any]

# More would be no network, but an attempt to fill the memory.
LARGEST = 2**24

_CONV = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups", "bias")
_TRANSPOSED = (*_CONV[:5], "output_padding", *_CONV[5:])
_NORM = ("num_features", "eps", "momentum", "affine")
_RECURRENT = ("input_size", "hidden_size", "num_layers", "bias", "batch_first", "bidirectional")

LAYERS: dict[str, tuple[type[nn.Module], tuple[str, ...]]] = {
    "Linear": (nn.Linear, ("in_features", "out_features", "bias")),
    "Conv1d": (nn.Conv1d, _CONV),
    "Conv2d": (nn.Conv2d, _CONV),
    "Conv3d": (nn.Conv3d, _CONV),
    "ConvTranspose1d": (nn.ConvTranspose1d, _TRANSPOSED),
    "ConvTranspose2d": (nn.ConvTranspose2d, _TRANSPOSED),
    "ConvTranspose3d": (nn.ConvTranspose3d, _TRANSPOSED),
    "BatchNorm1d": (nn.BatchNorm1d, _NORM),
    "BatchNorm2d": (nn.BatchNorm2d, _NORM),
    "BatchNorm3d": (nn.BatchNorm3d, _NORM),
    "LayerNorm": (nn.LayerNorm, ("normalized_shape", "eps", "elementwise_affine", "bias")),
    "GroupNorm": (nn.GroupNorm, ("num_groups", "num_channels", "eps", "affine")),
    "Embedding": (nn.Embedding, ("num_embeddings", "embedding_dim")),
    "PReLU": (nn.PReLU, ("num_parameters",)),
    "LSTM": (nn.LSTM, _RECURRENT),
    "GRU": (nn.GRU, _RECURRENT),
    "RNN": (nn.RNN, (*_RECURRENT, "nonlinearity")),
}


def make(kind: str, settings: Settings, where: str) -> nn.Module:
    """The layer, on the device that is current; raises ModelError for a kind or a setting that none has."""
    if kind not in LAYERS:
        raise ModelError(f"a layer must be one of {', '.join(LAYERS)}; {where} is {kind!r}. Import the network again.")
    made, names = LAYERS[kind]
    if set(settings) != set(names):
        raise ModelError(
            f"a layer {kind} must have the settings {', '.join(names)}; {where} has {', '.join(sorted(settings))}. "
            "Import the network again."
        )
    for name, value in settings.items():
        if not _plausible(name, value):
            raise ModelError(f"the settings of a layer must be in range; {where} has {name} = {value!r}.")
    try:
        return made(**{name: tuple(v) if isinstance(v, list) else v for name, v in settings.items()})
    except (ValueError, TypeError, RuntimeError) as error:
        raise ModelError(f"a layer must be one that PyTorch can make; {where} is not ({error}).") from None


def _plausible(name: str, value: Any) -> bool:
    if name in ("bias", "affine", "elementwise_affine", "batch_first", "bidirectional"):
        return isinstance(value, bool)
    if name in ("eps", "momentum"):
        return isinstance(value, float) and 0 <= value <= 1
    if name == "nonlinearity":
        return value in ("tanh", "relu")
    if name == "padding" and isinstance(value, str):
        return value in ("same", "valid")
    numbers = value if isinstance(value, (list, tuple)) else [value]
    return 0 < len(numbers) <= 8 and all(type(n) is int and 0 <= n <= LARGEST for n in numbers)


def described(layer: nn.Module) -> tuple[str, dict[str, Any]]:
    """Kind and settings of a layer as it is now, its widths being those of its tensors."""
    kind = type(layer).__name__
    shapes = {
        name: tuple(t.shape) for name, t in (*layer._parameters.items(), *layer._buffers.items()) if t is not None
    }
    groups = getattr(layer, "groups", 1)
    known = told(kind, shapes, groups)
    settings = {name: known[name] if name in known else getattr(layer, name) for name in LAYERS[kind][1]}
    return kind, {name: list(value) if isinstance(value, tuple) else value for name, value in settings.items()}


# What most layers have: left out where a graph is written down.
DEFAULTS: Settings = {
    "stride": 1,
    "padding": 0,
    "output_padding": 0,
    "dilation": 1,
    "groups": 1,
    "eps": 1e-5,
    "momentum": 0.1,
    "elementwise_affine": True,
    "batch_first": False,
    "nonlinearity": "tanh",
}
Shapes = Mapping[str, tuple[int, ...]]


def told(kind: str, shapes: Shapes, groups: int = 1) -> dict[str, Any]:
    """The settings that a layer's tensors tell by their shapes; raises ModelError where these are no such layer's.

    shapes: of its own tensors, by leaf. groups: of a convolution.
    """
    try:
        return _told(kind, shapes, groups)
    except (KeyError, IndexError, ValueError, TypeError) as error:
        raise ModelError(
            f"a layer must have PyTorch's tensors; {kind} with {dict(shapes)!r:.200} has not ({error!r})."
        ) from None


def _told(kind: str, shapes: Shapes, groups: int) -> dict[str, Any]:
    if kind in ("LSTM", "GRU", "RNN"):
        return {
            "input_size": shapes["weight_ih_l0"][1],
            "hidden_size": shapes["weight_hh_l0"][1],
            "num_layers": sum(re.fullmatch(r"weight_ih_l\d+", leaf) is not None for leaf in shapes),
            "bias": "bias_ih_l0" in shapes,
            "bidirectional": "weight_ih_l0_reverse" in shapes,
        }
    if kind.startswith("BatchNorm"):
        return {"num_features": shapes["running_mean"][0], "affine": "weight" in shapes}
    first, *rest = shapes["weight"]
    bias = {"bias": "bias" in shapes}
    if kind == "Linear":
        return {"in_features": rest[0], "out_features": first, **bias}
    if kind.startswith("ConvTranspose"):
        return {"in_channels": first, "out_channels": rest[0] * groups, "kernel_size": rest[1:], **bias}
    if kind.startswith("Conv"):
        return {"in_channels": rest[0] * groups, "out_channels": first, "kernel_size": rest[1:], **bias}
    if kind == "LayerNorm":
        return {"normalized_shape": [first, *rest], **bias}
    if kind == "GroupNorm":
        return {"num_channels": first, "affine": True}
    if kind == "Embedding":
        return {"num_embeddings": first, "embedding_dim": rest[0]}
    return {"num_parameters": first}


def brief(kind: str, settings: Settings, shapes: Shapes) -> dict[str, Any]:
    """The settings that neither the tensors nor `DEFAULTS` tell; lists of one number are that number."""
    known = told(kind, shapes, settings.get("groups", 1))
    kept = {name: _short(value) for name, value in settings.items() if known.get(name) != value}
    return {name: value for name, value in kept.items() if DEFAULTS.get(name) != value}


def whole(kind: str, given: Settings, shapes: Shapes) -> dict[str, Any]:
    """All settings of a layer of which `brief` gave the rest; raises ModelError for what cannot be."""
    if kind not in LAYERS:
        raise ModelError(f"a layer must be one of {', '.join(LAYERS)}; got {kind!r:.60}.")
    names = LAYERS[kind][1]
    groups = given.get("groups", 1)
    if not set(given) <= set(names) or type(groups) is not int:
        raise ModelError(f"a layer {kind} must have the settings {', '.join(names)}; got {dict(given)!r:.100}.")
    settings = {**DEFAULTS, **told(kind, shapes, groups), **given}
    axes = len(settings.get("kernel_size", ()))
    spread = ("stride", "padding", "output_padding", "dilation")
    return {
        name: [settings[name]] * axes if name in spread and type(settings[name]) is int else settings[name]
        for name in names
    }


def _short(value: Any) -> Any:
    return value[0] if isinstance(value, list) and value and all(each == value[0] for each in value) else value
