"""Small pictures as PNG files, made of zlib alone (W3C Portable Network Graphics, third edition)."""

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GREY, _COLOUR = 0, 2


def png(pixels: NDArray[np.uint8]) -> bytes:
    """A picture (height, width), or (height, width, 3) in colour, as a file."""
    height, width = pixels.shape[:2]
    kind = _GREY if pixels.ndim == 2 else _COLOUR
    # Each row begins with the number of its filter: none.
    rows = np.hstack([np.zeros((height, 1), np.uint8), np.ascontiguousarray(pixels).reshape(height, -1)])
    header = struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), 9)), (b"IEND", b""))
    return _SIGNATURE + b"".join(_chunk(name, data) for name, data in parts)


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def shrunk(pixels: NDArray[np.uint8], most: int) -> NDArray[np.uint8]:
    """A picture whose sides have at most so many pixels, each the mean of a square of the old ones."""
    factor = -(-max(pixels.shape[:2]) // most)
    if factor <= 1:
        return pixels
    height, width = (side // factor * factor for side in pixels.shape[:2])
    if not height or not width:
        return pixels[::factor, ::factor]
    squares = pixels[:height, :width].reshape(height // factor, factor, width // factor, factor, -1)
    found: NDArray[np.uint8] = (
        squares.mean(axis=(1, 3)).round().astype(np.uint8).reshape(height // factor, width // factor, *pixels.shape[2:])
    )
    return found
