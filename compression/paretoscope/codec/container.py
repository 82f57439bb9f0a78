"""The container: magic, version and sections, each with its length and checksum, and what bounds a file's claims.

FORMAT.md is the specification; the names here are its names.
"""

import json
import math
import re
import struct
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from paretoscope.base.errors import ArtefactError, ModelError, NewerArtefactError

MAGIC = b"\x89PSC\r\n\x1a\n"
VERSION = 2
PREAMBLE = struct.Struct("<8sH")
SECTION = struct.Struct("<cII")
FIGURES = struct.Struct("<IIIf8s")

# In the order of the file. Padding is there only where a file of this many values needs it.
HEADER, FIGURES_ID, STREAMS, PADDING = b"H", b"F", b"S", b"P"

# Values that a file may declare: FREE_VALUES, and so many for each byte of its streams and padding.
FREE_VALUES, VALUES_PER_BYTE = 1 << 16, 1 << 12
# The values of one model, unless the caller says otherwise.
MAX_VALUES = 1 << 30

# The header's text: at most TEXT_FREE bytes and TEXT_PER_BYTE for each byte that it is packed into.
TEXT_FREE, TEXT_PER_BYTE, MAX_TEXT = 1 << 16, 1 << 7, 1 << 22
MAX_DEPTH = 16
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"')

# The preset dictionary of the header's deflate stream; its bytes are part of the format (FORMAT.md lists them).
DICTIONARY = (
    b'"F8_E4M3"],"F8_E5M2"],"F64"],"F16"],["lm_head.model.layers.10.self_attn.q_proj.k_proj.v_proj.o_proj.gate_proj.up'
    b"_proj.down_proj.input_layernorm.post_attention_layernorm.embed_tokens.transformer.h.0.attn.c_attn.c_proj.c_fc.di"
    b"stilbert.roberta.bert.encoder.layer.0.attention.self.query.key.value.output.dense.LayerNorm.intermediate.pooler."
    b"embeddings.word_embeddings.position_embeddings.token_type_embeddings.decoder.text_model.vision_model.logit_scale"
    b"downsample.0.layer1.0.layer2.0.layer3.0.layer4.0.blocks.0.norm1.norm2.mlp.attn.qkv.proj.cls_token.pos_embedheads"
    b'.head.class_token","f4",[1,1,192]],["encoder.pos_embedding.conv_proj.encoder.layers.encoder_layer_0.ln_1.self_at'
    b"tention.in_proj_weight.in_proj_bias.out_proj.ln_2.mlp.0.linear_1.linear_2.encoder.ln.classifier.1.features.18.0."
    b'features.1.conv.0.0.bias","rq16tp",[144]],["features.2.conv.1.0.weight","d12cp",[144,1,3,3]],["features.1.conv.2'
    b'.weight","d12cp",[144,24,1,1]],[960,160,320,1280],"structure":{"dropped":[],"folded":[["],"merged":[["],"factore'
    b'd":[["],"ties":[[1,""simplify":{"fold":true},"repair":{"rounding":"gptq","bias":true,"batchnorm":true},"keep_end'
    b's":true,"overrides":[{"layers":"conv1*","bits":"simplify":{"nodes":0.5,"importance":"bn","drop":["],"blocks":1,"'
    b'fold":true,"merge":true,"energy":0.9},"pattern":"2:4","threshold":0.01,"symmetric":false,"power_of_two":true,"te'
    b'rnary":0.7,"activations":8,"population":10,"rarest":1,"moved":"zero","start":"best","percentile":99.9,"calibrati'
    b'on":"kl","calibration":"mse","k16q8","k32q8p","q4c",[32,3,3],[16,1,3,3]],["downsample.1.stage3.2.shortcut.0.weig'
    b'ht","d12cp",[64,32,1,1]],["stage1.0.conv1.weight","q8c",[16,16,3,3]],["stage1.0.bn1.weight","f4",[16]],["stage1.'
    b'0.bn1.bias","f4",[16]],["stage1.0.bn1.running_mean","f2",[16]],["stage1.0.bn1.running_var","rq16tp",[16]],["stag'
    b'e1.0.bn1.num_batches_tracked","i8",[]],["stage2.0.conv2.weight","d12cp",[32,32,3,3]],["fc3.weight","k16q8",[10,6'
    b'4]],["fc2.weight","q8c",[100,300]],["fc1.weight","q8cp",[300,784]],["fc1.bias","rq16tp",[300]],["conv2.bias","rq'
    b'16tp",[128]],["classifier.bias","rq16tp",[10]]]}{"architecture":null,"source":"{"architecture":"mobilenet-v2","v'
    b'it-tiny","resnet-20","lenet-5","simple-cnn","source":"0123456789abcdef","recipe":{"version":1,"prune":{"sparsity'
    b'":0.5,"scope":"layer"},"prune":{"sparsity":0.8,"scope":"global"},"share":{"clusters":16},"quantize":{"bits":8,"g'
    b'ranularity":"tensor","granularity":"channel","quantize":{"bits":12,"calibration":"rate","exchange":1e-05,"weight'
    b'ing":"magnitude"},"calibration":"range","activations":8},"code":{"coder":"huffman","coder":"smallest","coder":"c'
    b'ontext","rest":"rate"},"coder":"ans","rest":"fp32"},"rest":"fp16"},"BF16"],"tensors":[["conv1.weight","'
)


@dataclass(frozen=True, slots=True)
class Figures:
    """What was measured of a model: correct and baseline_correct of n samples, mean KL divergence from the baseline.

    dataset: the first 8 bytes of the dataset's digest, as 16 hexadecimal characters.
    """

    n: int
    correct: int
    baseline_correct: int
    mean_kl: float
    dataset: str


@dataclass(frozen=True, slots=True)
class Sections:
    """The payloads of a file; `figures` is None where nothing was measured."""

    header: bytes
    figures: Figures | None
    streams: bytes
    padding: int


def check_held(values: int) -> None:
    """Raises ModelError for a model of more values than a file may declare."""
    if values > MAX_VALUES:
        raise ModelError(
            f"a file may hold at most {MAX_VALUES:,} values; got {values:,}. Pack the weights in parts, a file each."
        )


def framed(header: bytes, figures: Figures | None, streams: bytes, values: int) -> bytes:
    """The file of these sections, for a model of so many values.

    Raises ModelError for figures that cannot be, or for more values than a reader takes.
    """
    check_held(values)
    parts = [(HEADER, header), (FIGURES_ID, _packed_figures(figures)), (STREAMS, streams)]
    if padding := padding_length(values, len(streams)):
        parts.append((PADDING, bytes(padding)))
    sections = [SECTION.pack(name, len(data), zlib.crc32(data)) + data for name, data in parts]
    return PREAMBLE.pack(MAGIC, VERSION) + b"".join(sections)


def padding_length(values: int, streams: int) -> int:
    """Bytes of padding that make a file of such streams long enough for its values; 0 for all but constant tensors."""
    return max(0, -(-(values - FREE_VALUES) // VALUES_PER_BYTE) - streams)


def sections(data: bytes) -> Sections:
    """Take a file apart and check its checksums; raises ArtefactError."""
    if len(data) < PREAMBLE.size or data[: len(MAGIC)] != MAGIC:
        raise ArtefactError(
            f"an artefact must begin with the bytes {MAGIC[:4]!r}; this file of {len(data)} bytes does not. "
            "Pass a file that was exported as an artefact."
        )
    _, version = PREAMBLE.unpack_from(data)
    if version > VERSION:
        raise newer(f"format {version}, where this one reads format {VERSION}")
    if version != VERSION:
        raise ArtefactError(
            f"an artefact must have format {VERSION}; this one has format {version}, of an earlier version of this "
            "program. Decompress it with that version, or export it again with this one."
        )
    position = PREAMBLE.size
    header, position = _section(data, position, HEADER, "header")
    figures, position = _section(data, position, FIGURES_ID, "figures")
    streams, position = _section(data, position, STREAMS, "streams")
    padding = b""
    if data[position : position + 1] == PADDING:
        padding, position = _section(data, position, PADDING, "padding")
        if not padding or any(padding):
            raise ArtefactError(
                f"padding must be zeros; got {len(padding)} bytes that are not. The file is damaged: copy it again."
            )
    if position != len(data):
        raise ArtefactError(
            f"an artefact must end with its last section; {len(data) - position} bytes follow. Copy the file again."
        )
    return Sections(header, _unpacked_figures(figures), streams, len(padding))


def newer(what: str) -> NewerArtefactError:
    """The error for a file that is whole and has something that this version does not know."""
    return NewerArtefactError(
        f"the file was written by a newer version of this program: it has {what}. Update the program, or export the "
        "model again with this version."
    )


def _section(data: bytes, position: int, name: bytes, title: str) -> tuple[bytes, int]:
    if position + SECTION.size > len(data):
        raise ArtefactError(f"the file must hold a {title} section; it ends early. Copy the file again.")
    found, length, checksum = SECTION.unpack_from(data, position)
    if found != name:
        raise ArtefactError(
            f"the {title} section must begin with {name!r} at byte {position}; got {found!r}. Copy the file again."
        )
    start = position + SECTION.size
    if length > len(data) - start:
        raise ArtefactError(
            f"the {title} section must have {length} bytes; {len(data) - start} are left. Copy the file again."
        )
    section = data[start : start + length]
    if zlib.crc32(section) != checksum:
        raise ArtefactError(f"the {title} section must match its checksum; it does not. Copy the file again.")
    return section, start + length


def check_values(values: int, found: Sections, limit: int | None = None) -> None:
    """Refuse, before anything is allocated, a model of more values than the file may declare or the caller accepts."""
    limit = MAX_VALUES if limit is None else limit
    if values > limit:
        raise ArtefactError(
            f"a model must have at most {limit} values here; this one declares {values}. "
            "Allow more where the file is to be trusted."
        )
    if found.padding != padding_length(values, len(found.streams)):
        raise ArtefactError(
            f"{values} values in {len(found.streams)} bytes of streams must have "
            f"{padding_length(values, len(found.streams))} bytes of padding; got {found.padding}. "
            "The file is damaged: copy it again."
        )


def _packed_figures(figures: Figures | None) -> bytes:
    if figures is None:
        return bytes(FIGURES.size)
    if not _sound(figures):
        raise ModelError(
            f"figures must be counts of at least one sample and a divergence of 0 or more; got {figures}. "
            "Pass those of a record."
        )
    numbers = figures.n, figures.correct, figures.baseline_correct, figures.mean_kl
    return FIGURES.pack(*numbers, bytes.fromhex(figures.dataset))


def _unpacked_figures(data: bytes) -> Figures | None:
    if len(data) != FIGURES.size:
        raise ArtefactError(
            f"figures must take {FIGURES.size} bytes; got {len(data)}. The file is damaged: copy it again."
        )
    if not any(data):
        return None
    n, correct, baseline_correct, mean_kl, dataset = FIGURES.unpack(data)
    figures = Figures(n, correct, baseline_correct, mean_kl, dataset.hex())
    if not _sound(figures):
        raise ArtefactError(
            f"figures must be counts of at least one sample and a divergence of 0 or more; got {figures}. "
            "The file is damaged: export it again."
        )
    return figures


def _sound(figures: Figures) -> bool:
    counts = figures.n, figures.correct, figures.baseline_correct
    return (
        all(type(count) is int and 0 <= count <= figures.n for count in counts)
        and 1 <= figures.n < 1 << 32
        and 0 <= figures.mean_kl < float(np.finfo(np.float32).max)
        and re.fullmatch("[0-9a-f]{16}", figures.dataset) is not None
    )


def pack_text(data: dict[str, Any]) -> bytes:
    """JSON as a raw deflate stream with the preset dictionary."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS, 9, zdict=DICTIONARY)
    return packer.compress(json.dumps(data, separators=(",", ":")).encode()) + packer.flush()


def unpack_text(packed: bytes) -> dict[str, Any]:
    """Undo `pack_text`; raises ValueError, zlib.error or RecursionError on what it cannot have written."""
    most = min(MAX_TEXT, TEXT_FREE + TEXT_PER_BYTE * len(packed))
    unpacker = zlib.decompressobj(-zlib.MAX_WBITS, zdict=DICTIONARY)
    text = unpacker.decompress(packed, most)
    if not unpacker.eof or unpacker.unused_data:
        raise ValueError(f"its text is longer than {most} bytes, unfinished, or has bytes left over")
    _check_depth(text)
    data = json.loads(
        text, object_pairs_hook=_without_duplicates, parse_constant=_no_number, parse_float=_finite, parse_int=_integer
    )
    if not isinstance(data, dict):
        raise ValueError("it is no JSON object")
    return data


def _check_depth(text: bytes) -> None:
    marks = np.frombuffer(_STRING.sub(b"", text), np.uint8)
    opening = (marks == ord("[")) | (marks == ord("{"))
    closing = (marks == ord("]")) | (marks == ord("}"))
    depth = np.cumsum(opening.astype(np.int8) - closing.astype(np.int8), dtype=np.int32)
    if len(depth) and depth.max() > MAX_DEPTH:
        raise ValueError(f"it is nested more than {MAX_DEPTH} deep")


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object has a name twice")
    return found


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is no number")


def _finite(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError(f"{text[:20]} is too large a number")
    return value


def _integer(text: str) -> int:
    if len(text) > 19:
        raise ValueError(f"{text[:20]} is too large a number")
    return int(text)
