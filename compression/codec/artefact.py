"""The artefact: one file that holds everything needed to rebuild a compressed model. No code, no pickles.

Layout, little-endian: 8 bytes magic, 2 bytes version, then two sections, header and streams, each as 4 bytes length,
4 bytes CRC-32, payload; nothing after them. The header is zlib-packed JSON: architecture, source digest, recipe, and
for every entry of the state dict, in its order, `[name, kind, shape]`. The kinds:

    f4, f2, i8          floats of 32 or 16 bits, integers of 64, as they are
    q<bits><c|t>        integer codes, one scale per output channel or per tensor
    a<bits><c|t>        the same with a zero point beside each scale
    k<entries>f         codebook of floats
    k<entries>q<bits>   codebook of integer codes with one scale

The streams hold, in this order: the codes of every q, a and k tensor and every f4 weight, tensor by tensor; all scales;
all float entries; all integer entries and zero points; all remaining f4, f2 and i8 values. Codes of an a tensor are
stored less their zero point, modulo 2**bits, so that zero weights are zeros whatever their row's zero point.
"""

import json
import math
import re
import struct
import zlib
from dataclasses import dataclass
from itertools import islice

import numpy as np

from compression.codec.layout import read_narrow, read_wide, write_narrow, write_wide
from compression.codec.streams import StreamReader, StreamWriter
from compression.errors import ArtefactError, RecipeError
from compression.pipeline import CompressedModel
from compression.recipe import BITS, MAX_CLUSTERS, Recipe
from compression.structure import Structure
from compression.tensors import Codebook, CompressedTensor, Integers, Plain

MAGIC = b"\x89PSC\r\n\x1a\n"
VERSION = 1
MAX_HEADER_BYTES = 1 << 24
MAX_VALUES = 1 << 30
MAX_AXES = 32

_PREAMBLE = struct.Struct("<8sH")
_SECTION = struct.Struct("<II")
_KIND = re.compile(r"(f4|f2|i8)|[qa](\d+)([ct])|k(\d+)(f|q(\d+))")
_PLAIN_TYPES = {"f4": np.dtype(np.float32), "f2": np.dtype(np.float16), "i8": np.dtype(np.int64)}


def write(model: CompressedModel) -> bytes:
    """The file's bytes; the same model gives the same bytes. Its length is the model's size."""
    own = [name for name in model.order if name not in model.ties]
    tensors = [[name, _kind(_tensor(model, name)), list(_tensor(model, name).shape)] for name in own]
    header = {
        "architecture": model.architecture,
        "source": model.source,
        "recipe": model.recipe.to_dict(),
        "weights": list(model.weights),
        "tensors": tensors,
    }
    if structure := model.structure.to_dict():
        header["structure"] = structure
    if model.ties:
        header["ties"] = [[model.order.index(name), name, target] for name, target in model.ties.items()]
    text = json.dumps(header, separators=(",", ":")).encode()
    sections = zlib.compress(text, 9), write_streams(model, model.recipe.code.coder).finish()
    framed = b"".join(_SECTION.pack(len(section), zlib.crc32(section)) + section for section in sections)
    return _PREAMBLE.pack(MAGIC, VERSION) + framed


def read(data: bytes) -> CompressedModel:
    """Rebuild the compressed model, bit for bit; raises ArtefactError when `data` is not an artefact or is damaged."""
    header_bytes, block = _sections(data)
    header = _header(header_bytes)
    tensors = _read_streams(header, block)
    weights = {name: tensors[name] for name in header.weights}
    rest = {name: tensor for name, tensor in tensors.items() if name not in weights}
    order, own = [], iter(tensors)
    for position, name, _ in header.ties:
        order += [*islice(own, position - len(order)), name]
    order += own
    return CompressedModel(
        architecture=header.architecture,
        source=header.source,
        recipe=header.recipe,
        weights=weights,
        rest=rest,
        order=tuple(order),
        structure=header.structure,
        ties={name: target for _, name, target in header.ties},
    )


def streams_length(data: bytes) -> int:
    """Bytes of an artefact that are streams; the rest is header and framing."""
    return len(_sections(data)[1])


def write_streams(model: CompressedModel, coder: str) -> StreamWriter:
    """All streams of a model, ready to be coded with `coder`."""
    writer = StreamWriter(coder)
    for tensor in model.weights.values():
        match tensor:
            case Integers(codes=codes, bits=bits, zero=zero) if zero is not None:
                steps = _wrapped(codes.astype(np.int32) - _beside(zero, codes), bits)
                if bits <= 8:
                    write_narrow(writer, (steps + 2 ** (bits - 1)).astype(np.uint8), 2**bits, 2 ** (bits - 1))
                else:
                    write_wide(writer, _zigzag(steps))
            case Integers(codes=codes, bits=bits) if bits <= 8:
                top = _top(bits)
                write_narrow(writer, (codes + np.int8(top)).view(np.uint8), 2 * top + 1, top)
            case Integers(codes=codes):
                write_wide(writer, _zigzag(codes))
            case Codebook(indices=indices, entries=entries):
                write_narrow(writer, indices, entries.shape[0] + 1, 0)
            case Plain(values=values):
                write_wide(writer, _float_bits(values))
    side = _side(model.weights.values())
    write_wide(writer, _float_bits(_joined([g.scale for g in side if isinstance(g, Integers)], np.float32)))
    write_wide(writer, _float_bits(_joined([g.values for g in side if isinstance(g, Plain)], np.float32)))
    write_wide(writer, _zigzag(_joined(_integers(model.weights.values()), np.int16)))
    for kind in _PLAIN_TYPES.values():
        values = _joined([t.values for t in model.rest.values() if t.values.dtype == kind], kind)
        write_wide(writer, values.view(np.uint64) if kind == np.int64 else _float_bits(values))
    return writer


@dataclass(frozen=True, slots=True)
class _Header:
    architecture: str
    source: str
    recipe: Recipe
    weights: tuple[str, ...]
    tensors: dict[str, tuple[re.Match[str], tuple[int, ...]]]
    structure: Structure
    ties: list[tuple[int, str, str]]


def _read_streams(header: _Header, block: bytes) -> dict[str, CompressedTensor]:
    reader = StreamReader(block, header.recipe.code.coder)
    codes: dict[str, np.ndarray] = {}
    for name in header.weights:
        kind, shape = header.tensors[name]
        count = math.prod(shape)
        _, bits, _, entries, _, _ = kind.groups()
        if bits and int(bits) <= 8 and _affine(kind):
            half = 2 ** (int(bits) - 1)
            flat = read_narrow(reader, count, 2 * half, half).astype(np.int16) - np.int16(half)
        elif bits and int(bits) <= 8:
            top = _top(int(bits))
            flat = read_narrow(reader, count, 2 * top + 1, top).view(np.int8) - np.int8(top)
        elif bits:
            flat = _unzigzag(read_wide(reader, count, np.uint16))
        elif entries:
            flat = read_narrow(reader, count, int(entries) + 1, 0)
        else:
            flat = _bits_float(read_wide(reader, count, np.uint32))
        codes[name] = flat.reshape(shape)

    kinds = [header.tensors[name] for name in header.weights]
    scale_counts = [_scale_count(kind, shape) for kind, shape in kinds]
    scales = iter(_parts(_bits_float(read_wide(reader, sum(scale_counts), np.uint32)), scale_counts))
    float_counts = [int(kind[4]) if kind[5] == "f" else 0 for kind, _ in kinds]
    floats = iter(_parts(_bits_float(read_wide(reader, sum(float_counts), np.uint32)), float_counts))
    grid_counts = [_integer_count(kind, shape) for kind, shape in kinds]
    grids = iter(_parts(_unzigzag(read_wide(reader, sum(grid_counts), np.uint16)), grid_counts))

    tensors: dict[str, CompressedTensor] = {}
    for name, (kind, _) in zip(header.weights, kinds, strict=True):
        scale, entries, grid = next(scales), next(floats), next(grids)
        if kind[1]:
            tensors[name] = Plain(codes[name])
        elif kind[2] and _affine(kind):
            bits = int(kind[2])
            width = np.int8 if bits <= 8 else np.int16
            shape = scale.shape if kind[3] == "c" else ()
            zero = _wrapped(grid.astype(np.int32), bits).reshape(shape)
            steps = _wrapped(codes[name].astype(np.int32) + _beside(zero, codes[name]), bits)
            tensors[name] = Integers(steps.astype(width), scale.reshape(shape), bits, zero.astype(width))
        elif kind[2]:
            tensors[name] = Integers(codes[name], scale if kind[3] == "c" else scale.reshape(()), int(kind[2]))
        elif kind[5] == "f":
            tensors[name] = Codebook(codes[name], Plain(entries))
        else:
            bits = int(kind[6])
            grid = grid.astype(np.int8 if bits <= 8 else np.int16)
            tensors[name] = Codebook(codes[name], Integers(grid, scale.reshape(()), bits))

    rest = {name: value for name, value in header.tensors.items() if name not in codes}
    for label, kind in _PLAIN_TYPES.items():
        names = [name for name, (match, _) in rest.items() if match[1] == label]
        counts = [math.prod(rest[name][1]) for name in names]
        unsigned = np.dtype(f"u{kind.itemsize}").type
        values = read_wide(reader, sum(counts), unsigned)
        values = values.view(np.int64) if kind == np.int64 else _bits_float(values)
        for name, part in zip(names, _parts(values, counts), strict=True):
            tensors[name] = Plain(part.reshape(rest[name][1]))
    reader.close()
    return {name: tensors[name] for name in header.tensors}


def _sections(data: bytes) -> tuple[bytes, bytes]:
    if len(data) < _PREAMBLE.size or data[: len(MAGIC)] != MAGIC:
        raise ArtefactError(
            f"an artefact must begin with the bytes {MAGIC[:4]!r}; this file of {len(data)} bytes does not. "
            "Pass a file that was exported as an artefact."
        )
    _, version = _PREAMBLE.unpack_from(data)
    if version != VERSION:
        raise ArtefactError(f"an artefact must have version {VERSION}; this one has {version}. Export it again.")
    sections, position = [], _PREAMBLE.size
    for name in ("header", "streams"):
        if position + _SECTION.size > len(data):
            raise ArtefactError(f"the file must hold a {name} section; it ends early. Copy it again.")
        length, checksum = _SECTION.unpack_from(data, position)
        position += _SECTION.size
        section = data[position : position + length]
        if len(section) != length:
            raise ArtefactError(f"the {name} section must have {length} bytes; {len(section)} are left. Copy it again.")
        if zlib.crc32(section) != checksum:
            raise ArtefactError(f"the {name} section must match its checksum; it does not. Copy the file again.")
        sections.append(section)
        position += length
    if position != len(data):
        raise ArtefactError(
            f"an artefact must end with its streams; {len(data) - position} bytes follow. Copy it again."
        )
    return sections[0], sections[1]


def _header(packed: bytes) -> _Header:
    try:
        unpacker = zlib.decompressobj()
        text = unpacker.decompress(packed, MAX_HEADER_BYTES)
        if not unpacker.eof or unpacker.unused_data:
            raise ValueError(f"it is longer than {MAX_HEADER_BYTES} bytes or has bytes left over")
        data = json.loads(text)
        recipe = Recipe.from_dict(data["recipe"])
        architecture, source, weights = data["architecture"], data["source"], tuple(data["weights"])
        if not all(isinstance(value, str) for value in (architecture, source, *weights)):
            raise ValueError("a name is not text")
        (architecture + source).encode()
        weight_names = frozenset(weights)
        tensors = {}
        for name, kind, shape in data["tensors"]:
            match = _KIND.fullmatch(kind)
            if not isinstance(name, str) or name in tensors or match is None:
                raise ValueError(f"tensor {name!r} of kind {kind!r}")
            name.encode()
            if len(shape) > MAX_AXES or not all(type(size) is int and 0 <= size <= MAX_VALUES for size in shape):
                raise ValueError(f"shape {shape!r} of {name}")
            _check_kind(match, name in weight_names, tuple(shape))
            tensors[name] = match, tuple(shape)
        if len(weight_names) != len(weights) or not weight_names <= set(tensors):
            raise ValueError("weights that are no tensors")
        structure = Structure.from_dict(data.get("structure", {}))
        ties = _ties(data.get("ties", []), tensors)
    except (zlib.error, ValueError, KeyError, TypeError, RecursionError, RecipeError, ArtefactError) as error:
        raise ArtefactError(
            f"the header must describe a model; {str(error)[:200]}. The file is damaged: export it again."
        ) from None
    # An empty tensor may have scales, and NumPy limits the product of its other axes. A tie is decoded once more.
    shapes = [shape for _, shape in tensors.values()] + [tensors[target][1] for _, _, target in ties]
    total = sum(math.prod(max(size, 1) for size in shape) for shape in shapes)
    if total > MAX_VALUES:
        raise ArtefactError(f"a model must have at most {MAX_VALUES} values; this one declares {total}.")
    return _Header(architecture, source, recipe, weights, tensors, structure, ties)


def _ties(data: object, tensors: dict[str, object]) -> list[tuple[int, str, str]]:
    ties: list[tuple[int, str, str]] = []
    names, last = set(tensors), 0
    for position, name, target in data:
        if type(position) is not int or not isinstance(name, str) or name in names or target not in tensors:
            raise ValueError(f"tie {name!r} to {target!r}")
        if not last < position <= len(names):
            raise ValueError(f"tie {name!r} at {position}")
        name.encode()
        names.add(name)
        last = position
        ties.append((position, name, target))
    return ties


def _check_kind(kind: re.Match[str], is_weight: bool, shape: tuple[int, ...]) -> None:
    plain, bits, granularity, entries, _, entry_bits = kind.groups()
    if plain not in ((None, "f4") if is_weight else _PLAIN_TYPES):
        raise ValueError(f"kind {kind[0]} where it cannot be")
    if any(value and int(value) not in BITS[:-1] for value in (bits, entry_bits)):
        raise ValueError(f"kind {kind[0]} of unknown bits")
    if _affine(kind) and int(bits) == 1:
        raise ValueError(f"kind {kind[0]} of one bit")
    if (entries and int(entries) > MAX_CLUSTERS) or (granularity == "c" and not shape):
        raise ValueError(f"kind {kind[0]} for shape {shape}")


def _tensor(model: CompressedModel, name: str) -> CompressedTensor:
    return model.weights[name] if name in model.weights else model.rest[name]


def _kind(tensor: CompressedTensor) -> str:
    match tensor:
        case Plain(values=values):
            return next(label for label, kind in _PLAIN_TYPES.items() if kind == values.dtype)
        case Integers(scale=scale, bits=bits, zero=zero):
            return f"{'q' if zero is None else 'a'}{bits}{'c' if scale.ndim else 't'}"
        case Codebook(entries=Integers() as entries):
            return f"k{entries.shape[0]}q{entries.bits}"
        case Codebook(entries=entries):
            return f"k{entries.shape[0]}f"


def _scale_count(kind: re.Match[str], shape: tuple[int, ...]) -> int:
    if kind[2]:
        return shape[0] if kind[3] == "c" else 1
    return 1 if kind[6] else 0


def _integer_count(kind: re.Match[str], shape: tuple[int, ...]) -> int:
    if _affine(kind):
        return _scale_count(kind, shape)
    return int(kind[4]) if kind[6] else 0


def _affine(kind: re.Match[str]) -> bool:
    return kind[0].startswith("a")


def _side(weights) -> list[Plain | Integers]:
    """What holds scales or float entries, tensor by tensor."""
    return [t.entries if isinstance(t, Codebook) else t for t in weights if isinstance(t, (Integers, Codebook))]


def _integers(weights) -> list[np.ndarray]:
    """Integer entries and zero points, tensor by tensor."""
    found = []
    for tensor in weights:
        match tensor:
            case Codebook(entries=Integers(codes=codes)):
                found.append(codes)
            case Integers(zero=zero) if zero is not None:
                found.append(zero)
    return found


def _beside(zero: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Zero points, one or one for each row, in a shape that broadcasts over the codes."""
    return zero.reshape(zero.shape + (1,) * (codes.ndim - 1)) if zero.ndim else zero


def _wrapped(steps: np.ndarray, bits: int) -> np.ndarray:
    """Integers modulo 2**bits, into -2**(bits - 1) .. 2**(bits - 1) - 1: int16."""
    half = 2 ** (bits - 1)
    return (((steps + half) & (2 * half - 1)) - half).astype(np.int16)


def _joined(arrays: list[np.ndarray], kind: type) -> np.ndarray:
    return np.concatenate([np.zeros(0, kind), *(array.reshape(-1).astype(kind) for array in arrays)])


def _parts(values: np.ndarray, counts: list[int]) -> list[np.ndarray]:
    return np.split(values, np.cumsum(counts)[:-1]) if counts else []


def _top(bits: int) -> int:
    return max(1, 2 ** (bits - 1) - 1)


def _zigzag(codes: np.ndarray) -> np.ndarray:
    """Signed to unsigned 16 bits, small magnitudes first: 0, -1, 1, -2 -> 0, 1, 2, 3."""
    wide = codes.astype(np.int16)
    return ((wide << 1) ^ (wide >> 15)).view(np.uint16)


def _unzigzag(codes: np.ndarray) -> np.ndarray:
    return ((codes >> 1) ^ -(codes & 1)).astype(np.int16) if codes.size else codes.astype(np.int16)


def _float_bits(values: np.ndarray) -> np.ndarray:
    """Floats as unsigned integers, rotated by one: the exponent fills the top byte and the sign is the last bit."""
    bits = np.ascontiguousarray(values).view(f"u{values.itemsize}")
    kind = bits.dtype.type
    return (bits << kind(1)) | (bits >> kind(8 * bits.itemsize - 1))


def _bits_float(bits: np.ndarray) -> np.ndarray:
    kind = bits.dtype.type
    return ((bits >> kind(1)) | (bits << kind(8 * bits.itemsize - 1))).view(f"f{bits.itemsize}")
