"""Files of samples changed at random, for `benchmarks.fuzz_doors`: each is read into a library of its own, and away."""

import gzip
import io
import os
import random
import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
from paretoscope.base import library as root
from paretoscope.base.files import temporary_folder
from paretoscope.data import library
from PIL import Image
from safetensors.numpy import save

from tests.helpers.mutations import damaged

# The names of files by their doors.
FILES = {
    "npz": "x.npz",
    "npy": "x.npy",
    "arrays": "x.safetensors",
    "csv": "x.csv",
    "parquet": "x.parquet",
    "idx": "images-idx3-ubyte",
    "idx.gz": "images-idx3-ubyte.gz",
    "images": "x.zip",
    "image": "x.zip",
    "text": "x.txt",
}
DOORS = tuple(FILES)


def sources() -> dict[str, bytes]:
    """A whole file for each door."""
    draw = np.random.default_rng(0)
    x, y = draw.normal(size=(12, 3, 4)).astype(np.float32), np.arange(12) % 3
    npz, npy, table, parquet = (io.BytesIO() for _ in range(4))
    np.savez_compressed(npz, x=x, y=y)
    np.save(npy, x)
    rows = [f"{a:.3f},{b:.3f},{['ant', 'bee', 'cat'][kind]}" for (a, b), kind in zip(x[:, 0, :2], y, strict=True)]
    table.write("\n".join(["a,b,kind", *rows]).encode())
    pyarrow.parquet.write_table(pyarrow.table({"a": x[:, 0, 0], "b": x[:, 0, 1], "y": y}), parquet)
    idx = struct.pack(">IIII", 0x803, 12, 4, 4) + bytes(draw.integers(0, 256, 12 * 16, dtype=np.uint8))
    return {
        "npz": npz.getvalue(),
        "npy": npy.getvalue(),
        "arrays": save({"x": x, "y": y}),
        "csv": table.getvalue(),
        "parquet": parquet.getvalue(),
        "idx": idx,
        "idx.gz": gzip.compress(idx),
        "images": _zipped(_pictures(draw)),
        "image": b"",
        "text": "\n".join(["a bee", "an ant, and a bee", "", "naïve"] * 3).encode(),
    }


def _pictures(draw: np.random.Generator) -> dict[str, bytes]:
    found = {}
    for kind in ("png", "jpeg", "bmp", "webp", "gif", "tiff"):
        for place in range(2):
            out = io.BytesIO()
            Image.fromarray(draw.integers(0, 256, (6, 5, 3), dtype=np.uint8)).save(out, kind)
            found[f"{'ab'[place]}/{kind}.{kind}"] = out.getvalue()
    return found


def _zipped(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


def read(door: str, data: bytes, draw: random.Random) -> None:
    """Read a changed file into a library that goes; raises what the door raises."""
    if door == "image":
        # One of the pictures is damaged, and the archive is whole.
        pictures = _pictures(np.random.default_rng(0))
        name = draw.choice(list(pictures))
        changed = _zipped(pictures | {name: damaged(pictures[name], draw)})
    else:
        changed = damaged(data, draw)
    with _library() as folder:
        path = folder / FILES[door]
        path.write_bytes(changed)
        library.add("changed", f"{path}#target=kind" if door == "csv" else str(path))


@contextmanager
def _library() -> Iterator[Path]:
    """A folder, and the library in it for as long as the context lasts."""
    before = os.environ.get(root.ENVIRONMENT)
    with temporary_folder() as folder:
        os.environ[root.ENVIRONMENT] = str(folder / "library")
        try:
            yield folder
        finally:
            if before is None:
                del os.environ[root.ENVIRONMENT]
            else:
                os.environ[root.ENVIRONMENT] = before
