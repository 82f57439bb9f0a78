"""Any state dict as a compressed model: without an architecture and without data."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from compression.errors import ModelError, RecipeError
from compression.pipeline import CompressedModel, compress
from compression.recipe import Recipe
from compression.statistics import ModelStatistics
from compression.tensors import Plain

# Types of safetensors that are held in another one: narrow and wide floats as the float32 that weights are, 8-bit
# floats as their bit patterns.
_FLOATS = {"F16": torch.float16, "BF16": torch.bfloat16, "F64": torch.float64}
_PATTERNS = {"F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2}
DTYPES = {**_FLOATS, **_PATTERNS}

# Held as they are.
_SAME = (
    *(torch.float32, torch.bool, torch.int8, torch.int16, torch.int32, torch.int64),
    *(torch.uint8, torch.uint16, torch.uint32, torch.uint64),
)


@dataclass(frozen=True, eq=False)
class PackedModel(CompressedModel):
    """A compressed state dict without an architecture: it decodes to tensors, and not to a module.

    dtypes: of the tensors that are held in another type, safetensors' names of their own; a key of DTYPES each.
    """

    dtypes: Mapping[str, str] = field(default_factory=dict)

    def build(self) -> torch.nn.Module:
        raise ModelError(
            "a network is built from an architecture; this file was packed from weights alone and names none. "
            "Unpack it and load the weights into the network that they are of."
        )

    def state_dict(self) -> dict[str, torch.Tensor]:
        """The tensors by name, each of the type that it was packed from."""
        return {name: self._restored(name) for name in self.order}

    def _restored(self, name: str) -> torch.Tensor:
        dtype, held = self.dtypes.get(name), self.rest.get(name)
        if dtype == "F16" and isinstance(held, Plain) and held.values.dtype == np.float16:
            return torch.tensor(held.values)
        values = torch.tensor(self.decode(name))
        if dtype in _PATTERNS:
            return values.view(_PATTERNS[dtype])
        if dtype == "BF16":
            return _to_brain(values)
        return values if dtype is None else values.to(_FLOATS[dtype])


def pack(state: Mapping[str, torch.Tensor], recipe: Recipe) -> PackedModel:
    """Compress the tensors of a state dict: floats of two or more axes are weights, everything else is the rest.

    64-bit floats become 32-bit ones where the recipe acts on weights. Raises RecipeError for steps that need a network
    or data, ModelError for tensors that cannot be compressed or held.
    """
    _check(recipe)
    weights, rest, dtypes = {}, {}, {}
    for name, tensor in state.items():
        tensor = tensor.detach().cpu().contiguous()
        weight = tensor.is_floating_point() and tensor.itemsize > 1 and tensor.ndim > 1 and tensor.numel() > 0
        # What no recipe touches needs no rules: neither fewer bits nor finite values.
        weight = weight and not (recipe.lossless and (tensor.dtype == torch.float64 or not tensor.isfinite().all()))
        (weights if weight else rest)[name] = _held(name, tensor, weight)
        label = next((label for label, kind in DTYPES.items() if kind == tensor.dtype), None)
        if label is not None and (weight or label != "F64"):
            dtypes[name] = label
    compressed = compress(ModelStatistics.of_arrays(weights, rest, tuple(state)), recipe)
    parts = {each.name: getattr(compressed, each.name) for each in fields(compressed)}
    return PackedModel(**parts, dtypes=dtypes)


def load_weights(data: bytes) -> dict[str, torch.Tensor]:
    """The state dict of a safetensors file, which keeps no order: numbers within names count as numbers.

    Raises ModelError.
    """
    try:
        state = load(data)
        return {name: state[name] for name in sorted(state, key=_natural)}
    except (SafetensorError, ValueError, KeyError) as error:
        raise ModelError(
            f"weights must be a safetensors file; {str(error)[:200]}. Save them with safetensors.torch.save_file."
        ) from None


def save_weights(state: Mapping[str, torch.Tensor]) -> bytes:
    """A safetensors file of a state dict."""
    return save(dict(state))


def _natural(name: str) -> list[str | int]:
    """A key that sorts layer.2 before layer.10."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"([0-9]+)", name)]


def _check(recipe: Recipe) -> None:
    needs = {
        "simplify": ("a network", recipe.simplify is not None),
        "repair": ("calibration data", recipe.repair is not None),
        "activations": ("a network that runs", recipe.quantize is not None and recipe.integer),
    }
    for step, (needed, used) in needs.items():
        if used:
            raise RecipeError(
                f"weights alone can be pruned, shared, quantized and coded; got {step}, which needs {needed}. "
                "Leave that out, or compress a model of the zoo."
            )


def _held(name: str, tensor: torch.Tensor, weight: bool) -> np.ndarray:
    """The array that stands for a tensor: equal to it, or float32 for a weight."""
    if tensor.dtype == torch.bfloat16:
        patterns = tensor.view(torch.uint16).numpy().astype(np.uint32)
        return np.asarray(patterns << np.uint32(16)).view(np.float32)
    if weight:
        return tensor.to(torch.float32).numpy()
    if tensor.dtype in _PATTERNS.values():
        return tensor.view(torch.uint8).numpy()
    if tensor.dtype in _SAME or tensor.dtype in (torch.float16, torch.float64):
        return tensor.numpy()
    raise ModelError(
        f"tensors must be of a type of {', '.join(DTYPES)} or whole numbers or F32; {name} is {tensor.dtype}. "
        "Convert it to one of these."
    )


def _to_brain(values: torch.Tensor) -> torch.Tensor:
    """float32 rounded to the nearest bfloat16, ties to even; patterns that fit keep their bits, NaN included."""
    bits = values.numpy().view(np.uint32)
    rounded = (bits + (bits >> np.uint32(16) & np.uint32(1)) + np.uint32(0x7FFF)) >> np.uint32(16)
    return torch.from_numpy(np.asarray(rounded, np.uint16)).view(torch.bfloat16)
