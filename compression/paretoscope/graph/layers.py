"""Layers of an imported network: which modules a graph may have, and with which settings.

A layer is an ordinary module of `torch.nn`, so that methods, training and torch-pruning see what they know. Its
settings are data: numbers, switches and lists of numbers, checked against the ranges here before anything is made.
"""

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
