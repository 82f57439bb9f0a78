"""Files put together and taken apart by hand, as FORMAT.md says."""

import json
import struct
import zlib
from typing import Any

from paretoscope.codec.container import DICTIONARY, MAGIC

FIGURES = bytes(24)


def frame(header: bytes, streams: bytes, version: int = 2, figures: bytes = FIGURES, padding: bytes = b"") -> bytes:
    """A file of these sections, with right lengths and checksums."""
    parts = [(b"H", header), (b"F", figures), (b"S", streams), *[(b"P", padding)] * bool(padding)]
    framed = [name + struct.pack("<II", len(part), zlib.crc32(part)) + part for name, part in parts]
    return MAGIC + struct.pack("<H", version) + b"".join(framed)


def deflate(text: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15, 9, zdict=DICTIONARY)
    return packer.compress(text) + packer.flush()


def inflate(packed: bytes) -> bytes:
    return zlib.decompressobj(-15, zdict=DICTIONARY).decompress(packed)


def pack(header: bytes | dict[str, Any], streams: bytes, version: int = 2, **more: bytes) -> bytes:
    """A file of this header, unpacked, and these streams."""
    text = json.dumps(header, separators=(",", ":")).encode() if isinstance(header, dict) else header
    return frame(deflate(text), streams, version, **more)


def sections(data: bytes) -> dict[bytes, bytes]:
    """The sections by their id, checked."""
    assert data[:10] == MAGIC + b"\x02\x00"
    found, position = {}, 10
    while position < len(data):
        name, length, checksum = struct.unpack_from("<cII", data, position)
        section = data[position + 9 : position + 9 + length]
        assert zlib.crc32(section) == checksum and name not in found
        found[name] = section
        position += 9 + length
    assert position == len(data)
    return found


def unpack(data: bytes) -> tuple[dict[str, Any], bytes]:
    """The header, unpacked, and the streams."""
    found = sections(data)
    return json.loads(inflate(found[b"H"])), found[b"S"]


def numbers(*values: int, words: bytes = b"") -> bytes:
    """A block of streams with these numbers, Elias gamma coded, and this payload."""
    bits = "".join("0" * (len(f"{value + 1:b}") - 1) + f"{value + 1:b}" for value in values)
    data = bytes(int(bits[i : i + 8].ljust(8, "0"), 2) for i in range(0, len(bits), 8))
    return struct.pack("<I", len(data)) + data + words
