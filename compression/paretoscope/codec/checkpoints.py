"""Weights in the files that people have: safetensors, PyTorch's .pt and .pth, and the index of a checkpoint in shards.

Nothing in them is executed: PyTorch's files are read with `weights_only=True`, and shards must lie beside their index.
"""

import io
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load

from paretoscope.base import files
from paretoscope.base.errors import ModelError
from paretoscope.base.text import listed, unpickled
from paretoscope.codec.container import check_held
from paretoscope.codec.kinds import values_of

INDEX = ".index.json"
PICKLED = (".pt", ".pth", ".bin", ".ckpt")
# Names that trainers give the state dict inside a checkpoint; the first that holds tensors counts.
WRAPPERS = ("state_dict", "model_state_dict", "model", "module")

MAX_INDEX, MAX_SHARDS = 1 << 26, 10_000


@dataclass(frozen=True)
class Checkpoint:
    """state: tensors by name, in the order that counts numbers within names as numbers. metadata: of safetensors.

    notes: what a person should know of how it was read, a sentence each.
    """

    state: Mapping[str, torch.Tensor]
    metadata: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def size_bytes(self) -> int:
        """Bytes of all tensors, those under two names twice."""
        return sum(tensor.numel() * tensor.itemsize for tensor in self.state.values())


def load_checkpoint(path: Path) -> Checkpoint:
    """The weights of a file; raises ModelError, or CompressionError where it cannot be read."""
    if path.name.endswith(INDEX):
        found = _sharded(path)
    else:
        data = files.read(path)
        found = _pickled(data, path.name) if path.suffix.lower() in PICKLED else _safetensors(data)
    # Before anything is copied: a tensor that repeats its values takes no room in PyTorch's files.
    check_held(sum(values_of(tuple(tensor.shape)) for tensor in found.state.values()))
    return found


def load_weights(data: bytes) -> dict[str, torch.Tensor]:
    """The state dict of a safetensors file's bytes, which keeps no order; raises ModelError."""
    try:
        return _ordered(load(data))
    except (SafetensorError, ValueError, KeyError) as error:
        raise ModelError(
            f"weights must be a safetensors file; {str(error)[:200]}. Save them with safetensors.torch.save_file, or "
            f"pass a file that ends in {', '.join(PICKLED)} or {INDEX}."
        ) from None


def _safetensors(data: bytes) -> Checkpoint:
    state = load_weights(data)
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return Checkpoint(state, dict(header.get("__metadata__") or {}))


def _pickled(data: bytes, name: str) -> Checkpoint:
    try:
        found = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # of many types, by where the file is off
        raise ModelError(
            f"{name[:100]} must hold tensors alone: nothing in it is executed, so other objects are refused; "
            f"{unpickled(error)}. Save model.state_dict() with safetensors.torch.save_file, or with torch.save."
        ) from None
    state, notes = _unwrapped(found, name)
    return Checkpoint(_ordered(state), notes=notes)


def _unwrapped(found: Any, name: str) -> tuple[dict[str, torch.Tensor], tuple[str, ...]]:
    """The tensors of what a file holds, and what is told of the rest."""
    notes: list[str] = []
    if isinstance(found, Mapping):
        key = next((key for key in WRAPPERS if isinstance(found.get(key), Mapping) and _tensors(found[key])), None)
        if key is not None:
            others = sorted(str(other) for other in found if other != key)
            notes.append(f"Read from {key!r} of the file" + f"; left out: {_listed(others)}." * bool(others))
            found = found[key]
    tensors = _tensors(found) if isinstance(found, Mapping) else {}
    if not tensors or not all(isinstance(each, str) for each in tensors):
        raise ModelError(
            f"{name[:100]} must hold a state dict, tensors by name, alone or under one of {', '.join(WRAPPERS)}; it "
            f"holds {type(found).__name__}. Save model.state_dict() with torch.save."
        )
    if others := [str(each) for each in found if each not in tensors]:
        notes.append(f"Left out, because they are no tensors: {_listed(others)}.")
    for each, tensor in tensors.items():
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_meta:
            kind, remedy = str(tensor.layout), "Save its .to_dense()"
            if tensor.is_quantized:
                kind, remedy = "quantized", "Save its .dequantize()"
            if tensor.is_meta:
                kind, remedy = "on the device meta, without any", "Save the model after its weights were loaded"
            raise ModelError(f"tensors must be dense and have values; {each[:100]} is {kind}. {remedy}.")
    return dict(tensors), tuple(notes)


def _tensors(found: Mapping[Any, Any]) -> dict[Any, torch.Tensor]:
    return {name: each for name, each in found.items() if isinstance(each, torch.Tensor)}


def _sharded(path: Path) -> Checkpoint:
    data = files.read(path)
    shards = _shards(data, path.name)
    state: dict[str, torch.Tensor] = {}
    metadata: dict[str, str] = {}
    notes: list[str] = []
    for shard in dict.fromkeys(shards.values()):
        place = path.parent / shard
        if not place.is_file():
            raise ModelError(
                f"the shards of a checkpoint must lie beside its index; {shard[:100]} is missing. Copy all "
                f"{len(set(shards.values()))} files that the index names into {path.parent}."
            )
        part = load_checkpoint(place)
        wanted = [name for name, of in shards.items() if of == shard]
        if absent := [name for name in wanted if name not in part.state]:
            raise ModelError(
                f"{shard[:100]} must hold the tensors that the index says; it lacks {_listed(absent)}. The files are "
                "not of one checkpoint: copy all of them again."
            )
        if extra := [name for name in part.state if name not in wanted]:
            notes.append(f"Left out of {shard}, because the index does not name them: {_listed(extra)}.")
        state |= {name: part.state[name] for name in wanted}
        metadata |= part.metadata
        notes += part.notes
    return Checkpoint(_ordered(state), metadata, tuple(notes))


def _shards(data: bytes, name: str) -> dict[str, str]:
    """The shard of each tensor, as the index has it; raises ModelError."""
    try:
        if len(data) > MAX_INDEX:
            raise ValueError(f"it has {len(data):,} bytes, {MAX_INDEX:,} at most")
        shards = json.loads(data, object_pairs_hook=_without_duplicates)["weight_map"]
        if not isinstance(shards, dict) or not shards or not all(isinstance(of, str) for of in shards.values()):
            raise ValueError("its weight_map names no file for each tensor")
        if len(set(shards.values())) > MAX_SHARDS:
            raise ValueError(f"it names more than {MAX_SHARDS:,} files")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        reason = "it has no weight_map" if isinstance(error, (KeyError, TypeError)) else str(error)[:200]
        raise ModelError(
            f"{name[:100]} must be the index of a checkpoint in shards, as save_pretrained writes it; {reason}. Pass "
            "the index of all shards, or one weights file."
        ) from None
    for shard in set(shards.values()):
        if shard in ("", ".", "..") or re.search(r"[/\\\0]", shard) or shard.endswith(INDEX):
            raise ModelError(
                f"an index must name files beside it; got {shard[:100]!r}. Put all shards into the folder of the index."
            )
    return shards


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("it names a tensor twice")
    return found


def _ordered(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: state[name] for name in sorted(state, key=_natural)}


def _natural(name: str) -> list[str | int]:
    """A key that sorts layer.2 before layer.10."""
    return [int(part) if part.isdecimal() and part.isascii() else part for part in re.split(r"([0-9]+)", name)]


def _listed(names: list[str]) -> str:
    return listed(name[:100] for name in names)
