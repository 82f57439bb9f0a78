"""Any state dict as a compressed model: without an architecture and without data."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import fields

import numpy as np
import torch
from safetensors.torch import save

from paretoscope.base.errors import ModelError, RecipeError
from paretoscope.base.text import listed, shown
from paretoscope.methods.pipeline import check_overrides, compress, entropy_bytes, float_bytes
from paretoscope.model.packed import _PATTERNS, DTYPES, PackedModel
from paretoscope.model.statistics import ModelStatistics
from paretoscope.model.tensors import Codebook, CompressedTensor, Integers, Plain
from paretoscope.recipe.recipe import Recipe
from paretoscope.recipe.steps.code import Rest

# Types that are held as they are.
_SAME = (
    *(torch.float32, torch.bool, torch.int8, torch.int16, torch.int32, torch.int64),
    *(torch.uint8, torch.uint16, torch.uint32, torch.uint64),
)


# Last parts of the names of buffers: what common networks keep beside their weights.
_STATISTICS = r"running_mean|running_var"
_BUFFERS = re.compile(
    r"(.*_)?(mask|masked_bias|position_ids|inv_freq|position_index|cos_cached|sin_cached|coords_table|anchors|"
    rf"anchor_grid|{_STATISTICS})"
)
# Tensors of fewer values are stored under each of their names: that a handful are equal says nothing.
# Chosen by hand; no benchmark.
_LEAST_TIED = 64


def pack(state: Mapping[str, torch.Tensor], recipe: Recipe, metadata: Mapping[str, str] | None = None) -> PackedModel:
    """Compress the tensors of a state dict: floats of two or more axes are weights, everything else is the rest.

    Masks and other buffers are not weights (`_reason`), unless an override names them: one that matches no weight
    reaches what it does match, tensors of one axis too. They and tensors with values that are not finite are kept as
    they are, whatever the format of the rest. Tensors of equal content are stored once, and each tensor in the smaller
    of its forms. 64-bit floats become 32-bit ones where the recipe acts on weights. The notes say all of that. Raises
    RecipeError for steps that need a network or data, ModelError for tensors that cannot be held.
    """
    _check(recipe)
    _check_names(state)
    check_overrides(recipe, tuple(state))
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    ties = _ties(tensors, recipe)
    own = {name: tensor for name, tensor in tensors.items() if name not in ties}
    chosen, kept = _weights(own, recipe)
    weights: dict[str, np.ndarray] = {}
    rest: dict[str, np.ndarray] = {}
    dtypes: dict[str, str] = {}
    for name, tensor in own.items():
        weight = name in chosen
        (weights if weight else rest)[name] = _held(name, tensor, weight)
        label = next((label for label, kind in DTYPES.items() if kind == tensor.dtype), None)
        if label is not None and (weight or label != "F64"):
            dtypes[name] = label
    if recipe.code.rest != Rest.FP32:
        kept = _kept_of_the_rest({name: own[name] for name in rest}) | kept
    statistics = ModelStatistics.of_arrays(weights, rest, tuple(state), ties)
    compressed = compress(statistics, recipe)
    parts = {each.name: getattr(compressed, each.name) for each in fields(compressed)}
    parts["weights"] = {
        name: _smaller(tensor, statistics.layers[name].weight) for name, tensor in compressed.weights.items()
    }
    parts["rest"] = {name: Plain(rest[name]) if name in kept else each for name, each in compressed.rest.items()}
    wide = [name for name in chosen if own[name].dtype == torch.float64]
    parts["notes"] = (*compressed.notes, *_notes(kept, ties, wide))
    return PackedModel(**parts, dtypes=dtypes, metadata=dict(metadata or {}))


def share_touched(model: PackedModel, state: Mapping[str, torch.Tensor]) -> float:
    """The share of all values that the recipe acted on: those of tensors that are not stored as they were."""
    total = sum(tensor.numel() for name, tensor in state.items() if name not in model.ties)
    return 1 - sum(left_alone(model, state).values()) / total if total else 0.0


def left_alone(model: PackedModel, state: Mapping[str, torch.Tensor]) -> dict[str, int]:
    """The tensors that are stored as they were, and how many values each has; the largest first."""
    alone = {
        name: state[name].numel()
        for name, tensor in {**model.weights, **model.rest}.items()
        if isinstance(tensor, Plain) and _content(model.restored(name)) == _content(state[name])
    }
    return dict(sorted(alone.items(), key=lambda each: -each[1]))


def _weights(tensors: Mapping[str, torch.Tensor], recipe: Recipe) -> tuple[set[str], dict[str, str]]:
    """Names of the weights, and the reasons why others that look like weights are kept as they are."""
    if not (recipe.prune or recipe.share or recipe.quantize or recipe.overrides):
        # What no step touches needs no rules: neither fewer bits nor finite values.
        return {n for n, t in tensors.items() if _is_float(t) and t.ndim > 1 and not _unfit(t)
                and t.dtype != torch.float64}, {}  # fmt: skip
    kept = {name: _unfit(t) or _reason(name, t) for name, t in tensors.items() if _is_float(t) and t.ndim > 1}
    chosen = {name for name, reason in kept.items() if not reason}
    for override in recipe.overrides:
        if not any(override.matches(name) for name in chosen):
            named = {name: _obstacle(tensor) for name, tensor in tensors.items() if override.matches(name)}
            if named and all(named.values()):
                raise RecipeError(
                    f"an override must match a tensor that can be compressed; got {shown(override.layers)}, and "
                    f"{listed([f'{name} has {why}' for name, why in named.items()])}. Leave that override out."
                )
            kept |= {name: "" for name, why in named.items() if not why}
    return {name for name, reason in kept.items() if not reason}, {name: why for name, why in kept.items() if why}


def _is_float(tensor: torch.Tensor) -> bool:
    return tensor.is_floating_point() and tensor.itemsize > 1 and tensor.numel() > 0


def _unfit(tensor: torch.Tensor) -> str:
    """Why no recipe can act on a tensor, or ""."""
    if not tensor.isfinite().all():
        return "values that are not finite"
    if tensor.dtype == torch.float64 and tensor.abs().max() > torch.finfo(torch.float32).max:
        return "values beyond 32-bit floats"
    return ""


def _obstacle(tensor: torch.Tensor) -> str:
    """What keeps even an override from a tensor, or ""."""
    if not tensor.is_floating_point():
        return "no floats"
    if tensor.itemsize == 1:
        return "floats of 8 bits already"
    if not tensor.numel() or not tensor.ndim:
        return "no values" if tensor.ndim else "one value without an axis"
    return _unfit(tensor)


def _kept_of_the_rest(tensors: Mapping[str, torch.Tensor]) -> dict[str, str]:
    """Tensors of the rest that are no biases or normalisation either, and why."""
    kept = {}
    for name, tensor in tensors.items():
        if _is_float(tensor):
            last = name.rpartition(".")[2]
            buffer = _BUFFERS.fullmatch(last) and not re.fullmatch(_STATISTICS, last)
            kept[name] = _unfit(tensor) or ("names of buffers" if buffer else "")
    return {name: why for name, why in kept.items() if why}


def _smaller(tensor: CompressedTensor, weight: np.ndarray) -> CompressedTensor:
    """A codebook, or the floats that it groups where they take fewer bytes than entries and symbols together.

    Only where no kernel runs on it: kernels look shared values up, whatever they take in a file.
    """
    if not isinstance(tensor, Codebook) or not tensor.entries.shape[0]:
        return tensor
    each = tensor.entries.bits / 8 if isinstance(tensor.entries, Integers) else 4
    spent = entropy_bytes(tensor.indices.astype(np.uint32)) + tensor.entries.shape[0] * each
    floats = np.where(tensor.indices == 0, np.float32(0), weight)
    return Plain(floats) if spent >= float_bytes(floats) else tensor


def _reason(name: str, tensor: torch.Tensor) -> str:
    """Why a tensor is no weight, or "": a mask or another buffer, by its name or by what is in it.

    Masks are filled with the last number of a float type, or have two values of which one is 0: no trained weight does.
    """
    if _BUFFERS.fullmatch(name.rpartition(".")[2]):
        return "names of buffers"
    largest = tensor.abs().max().item()
    if any(largest == torch.finfo(kind).max for kind in (torch.float16, torch.bfloat16, torch.float32, tensor.dtype)):
        return "a fill value that ends the range of a float type, as masks have"
    flat = tensor.reshape(-1)
    if tensor.numel() > 2 and largest and ((flat == 0) | (flat == flat[flat != 0][0])).all() and (flat == 0).any():
        return "zeros and one other value, as masks have"
    return ""


def _ties(tensors: Mapping[str, torch.Tensor], recipe: Recipe) -> dict[str, str]:
    """Names of tensors that an earlier one equals in type, shape and every bit, where no override tells them apart."""
    first: dict[tuple[object, ...], str] = {}
    ties = {}
    for name, tensor in tensors.items():
        if tensor.numel() >= _LEAST_TIED and not tensor.is_complex():
            buffer = _BUFFERS.fullmatch(name.rpartition(".")[2]) is not None
            treated = (buffer, *(override.matches(name) for override in recipe.overrides))
            earlier = first.setdefault((tensor.dtype, tensor.shape, _content(tensor), treated), name)
            if earlier != name:
                ties[name] = earlier
    return ties


def _content(tensor: torch.Tensor) -> bytes:
    """A digest of every bit of a tensor."""
    return hashlib.sha256(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data).digest()


def _notes(kept: Mapping[str, str], ties: Mapping[str, str], wide: list[str]) -> list[str]:
    notes = [f"Rounded from 64-bit floats to 32-bit ones: {listed(wide)}."] * bool(wide)
    for reason in dict.fromkeys(kept.values()):
        names = [name for name, why in kept.items() if why == reason]
        act = "" if "not finite" in reason or "beyond" in reason else " An override that names one makes it a weight."
        notes.append(f"Kept as they are, for {reason}: {listed(names)}.{act}")
    if ties:
        notes.append(f"Stored once, being equal: {listed([f'{name} = {of}' for name, of in ties.items()])}.")
    return notes


def save_weights(state: Mapping[str, torch.Tensor], metadata: Mapping[str, str] | None = None) -> bytes:
    """A safetensors file of a state dict, with the metadata that such files may have."""
    return save(dict(state), metadata=dict(metadata) if metadata else None)


def _check_names(state: Mapping[str, torch.Tensor]) -> None:
    for name in state:
        try:
            name.encode()
        except UnicodeEncodeError:
            raise ModelError(
                f"names of tensors must be text; {shown(name)} has half of a character. Rename that tensor."
            ) from None


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
