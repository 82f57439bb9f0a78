"""Safetensors: the decoded state dict, and the integer codes with what turns them back into floats."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays
from safetensors.torch import load, save

from paretoscope.base.errors import ArtefactError, ModelError
from paretoscope.codec.description import described
from paretoscope.export.base import Format, Original, same_as_decoded, same_as_screen, versioned
from paretoscope.graph import compact
from paretoscope.model.compressed import CompressedModel
from paretoscope.model.structure import Structure, build
from paretoscope.model.tensors import Codebook, CompressedTensor, Integers, Plain
from paretoscope.runtimes.onnx_graph import Arrays

_REFERENCE = "Safetensors, huggingface.co/docs/safetensors"
METADATA = "paretoscope"
HOW = {
    "plain": "NAME as it is; float16 means that value as float32",
    "integers": "(NAME:codes - NAME:zero) * NAME:scale in float32, scale and zero along the first axis; zero may be "
    "absent and is 0 then",
    "codebook": "table[NAME:indices], the table being 0 followed by NAME:entries, or by NAME:entries:codes * "
    "NAME:entries:scale",
    "turned": "names of tensors and their groups, where there are any: what is decoded as (groups * b, a, ...) is "
    "(groups * a, b, ...) in the state dict, b and a exchanged within each group",
}


def decoded(model: CompressedModel) -> bytes:
    """The full decoded state dict as a safetensors file, whose metadata name the architecture, source and recipe."""
    origin = {"architecture": model.architecture, "source": model.source, "recipe": dict(model.told)}
    # One entry only: safetensors writes several in a random order, and equal models should give equal files.
    return save(model.state_dict(), {METADATA: json.dumps(origin, sort_keys=True)})


def codes(model: CompressedModel) -> bytes:
    """Integer codes, scales, zero points and codebooks as tensors; the metadata say how they decode.

    A tensor NAME is stored as NAME, as NAME:codes with NAME:scale and NAME:zero, or as NAME:indices with NAME:entries
    (or NAME:entries:codes and NAME:entries:scale), as `HOW` says.
    """
    arrays: dict[str, np.ndarray] = {}
    tensors = {
        name: _put(arrays, name, model.weights[name] if name in model.weights else model.rest[name])
        for name in model.order
        if name not in model.ties
    }
    header = {
        "architecture": model.architecture,
        "source": model.source,
        "recipe": dict(model.told),
        "structure": model.structure.to_dict(),
        "order": list(model.order),
        "weights": list(model.weights),
        "ties": dict(model.ties),
        **({"turned": dict(model.turned)} if model.turned else {}),
        **({"graph": compact.packed(model.graph, model.shapes())} if model.graph is not None else {}),
        "tensors": tensors,
        "decode": HOW,
    }
    return save_arrays(arrays, {METADATA: json.dumps(header, sort_keys=True)})


def _put(arrays: dict[str, np.ndarray], name: str, tensor: CompressedTensor) -> dict[str, Any]:
    """Add the arrays of a tensor; returns what the metadata say of it."""
    match tensor:
        case Integers(codes=values, scale=scale, bits=bits, zero=zero):
            arrays[f"{name}:codes"], arrays[f"{name}:scale"] = _whole(values), _whole(scale)
            if zero is not None:
                arrays[f"{name}:zero"] = _whole(zero)
            return {"kind": "integers", "bits": bits} | ({"trellis": True} if tensor.trellis else {})
        case Codebook(indices=indices, entries=Integers() as entries):
            arrays[f"{name}:indices"] = _whole(indices)
            arrays[f"{name}:entries:codes"] = _whole(entries.codes)
            arrays[f"{name}:entries:scale"] = _whole(entries.scale)
            return {"kind": "codebook", "bits": entries.bits}
        case Codebook(indices=indices, entries=Plain(values=values)):
            arrays[f"{name}:indices"], arrays[f"{name}:entries"] = _whole(indices), _whole(values)
            return {"kind": "codebook"}
        case Plain(values=values):
            arrays[name] = _whole(values)
            return {"kind": "plain"}
        case _:
            raise TypeError(f"a compressed tensor of a kind that is not known here: {type(tensor).__name__}")


def _whole(array: np.ndarray) -> np.ndarray:
    return np.asarray(array, order="C")


def read_codes(data: bytes) -> CompressedModel:
    """The compressed model that `codes` wrote; raises ArtefactError for anything else."""
    try:
        arrays = load_arrays(data)
        header = json.loads(_metadata(data)[METADATA])
        tensors = {name: _take(arrays, name, about) for name, about in header["tensors"].items()}
        recipe, unknown = described(header["recipe"])
        model = CompressedModel(
            architecture=header["architecture"],
            source=header["source"],
            recipe=recipe,
            description=header["recipe"] if unknown else None,
            weights={name: tensors[name] for name in header["weights"]},
            rest={name: _rest(tensor) for name, tensor in tensors.items() if name not in header["weights"]},
            order=tuple(header["order"]),
            structure=Structure.from_dict(header["structure"]),
            ties=header["ties"],
            turned=header.get("turned", {}),
        )
        if "graph" not in header:
            return model
        return replace(model, graph=compact.unpacked(header["graph"], model.shapes(), model.ties))
    except (ModelError, SafetensorError, KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise ArtefactError(
            f"the file must hold codes as this version writes them; it does not ({error!r}). Export the model again."
        ) from None


def _rest(tensor: CompressedTensor) -> Plain | Integers:
    if isinstance(tensor, Plain | Integers):
        return tensor
    raise ValueError("a codebook is of weights alone")


def _take(arrays: Mapping[str, np.ndarray], name: str, about: Mapping[str, Any]) -> CompressedTensor:
    if about["kind"] == "integers":
        zero = arrays.get(f"{name}:zero")
        trellis = about.get("trellis") is True
        return Integers(arrays[f"{name}:codes"], arrays[f"{name}:scale"], about["bits"], zero, trellis)
    if about["kind"] == "plain":
        return Plain(arrays[name])
    if "bits" not in about:
        return Codebook(arrays[f"{name}:indices"], Plain(arrays[f"{name}:entries"]))
    entries = Integers(arrays[f"{name}:entries:codes"], arrays[f"{name}:entries:scale"], about["bits"])
    return Codebook(arrays[f"{name}:indices"], entries)


def _metadata(data: bytes) -> dict[str, str]:
    """What stands beside the tensors: 8 bytes length, then JSON."""
    length = int.from_bytes(data[:8], "little")
    found = json.loads(data[8 : 8 + length])["__metadata__"]
    return {str(name): str(value) for name, value in found.items()}


def _write_decoded(original: Original) -> dict[str, bytes]:
    return {f"{original.stem}.safetensors": decoded(original.compressed)}


def _run_decoded(files: Mapping[str, bytes], original: Original) -> Arrays:
    (data,) = files.values()
    state = load(data)
    for name in original.compressed.order:
        expected = torch.from_numpy(np.array(original.compressed.decode(name)))
        if name not in state or state[name].dtype != expected.dtype or not torch.equal(state[name], expected):
            raise ModelError(f"the file must hold the decoded tensors, bit for bit; {name} differs")
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    module = build(original.compressed.architecture, original.compressed.structure, shapes, original.compressed.graph)
    module.load_state_dict(state, strict=True)
    return original.logits(module.eval())


def _write_codes(original: Original) -> dict[str, bytes]:
    return {f"{original.stem}.codes.safetensors": codes(original.compressed)}


def _run_codes(files: Mapping[str, bytes], original: Original) -> Arrays:
    (data,) = files.values()
    return original.rebuilt(read_codes(data))


SAFETENSORS = Format(
    name="safetensors",
    title="Safetensors, decoded",
    summary="The full state dict as floats, for load_state_dict; every tool reads it, and nothing is smaller.",
    reference=_REFERENCE,
    extension=".safetensors",
    runtime=versioned("PyTorch", "torch"),
    promise="bit for bit the decoded network",
    write=_write_decoded,
    run=_run_decoded,
    judge=same_as_decoded,
    place=40,
)
SAFETENSORS_CODES = Format(
    name="safetensors-codes",
    title="Safetensors, codes",
    summary="Integer codes, scales, zero points and codebooks as tensors; the metadata say how they decode.",
    reference=_REFERENCE,
    extension=".codes.safetensors",
    runtime=versioned("NumPy and PyTorch", "torch"),
    promise="bit for bit",
    write=_write_codes,
    run=_run_codes,
    judge=same_as_screen,
    place=41,
)
FORMATS = (SAFETENSORS, SAFETENSORS_CODES)
