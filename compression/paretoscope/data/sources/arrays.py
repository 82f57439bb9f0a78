"""Arrays of NumPy and safetensors: one for each input of a network, and one of labels."""

import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, ClassVar

from paretoscope.base.errors import DataError
from paretoscope.base.text import listed, nearest
from paretoscope.data.origin import Options
from paretoscope.data.writer import CHUNK_BYTES, Writer

if TYPE_CHECKING:
    import numpy as np

# Names that an array of labels has where no option names it.
LABELS = ("y", "labels")
SHAPE_LIMIT = 1 << 48


class Arrays:
    name = "arrays"
    title = "Arrays (.npz, .npy, .safetensors)"
    summary = "Arrays whose first axis counts samples: x and y, or one for each input and y or labels."
    reference = "NumPy's format of files, NEP 1; Hugging Face, safetensors"
    code = False
    place = 1
    options: ClassVar[Mapping[str, str]] = {
        "target": "the array of the labels",
        "drop": "arrays to leave out",
        "classes": "a file of class names",
    }

    def takes(self, text: str) -> bool:
        return text.lower().endswith((".npz", ".npy", ".safetensors"))

    def convert(self, text: str, into: Writer, options: Options) -> None:
        path = Path(text)
        if path.suffix.lower() == ".safetensors":
            _safetensors(path, into, options)
        elif path.suffix.lower() == ".npy":
            with path.open("rb") as file:
                _stream(file, "x", path.name, into)
        else:
            _npz(path, into, options)


ORIGIN = Arrays()


def _npz(path: Path, into: Writer, options: Options) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = [each.removesuffix(".npy") for each in archive.namelist()]
            chosen, target = _chosen(names, options)
            for name in chosen:
                with archive.open(f"{name}.npy") as member:
                    _stream(member, name, f"{path.name}/{name}", into)
            if target is not None:
                import numpy as np

                with archive.open(f"{target}.npy") as member:
                    shape, dtype, chunks = _read(member, f"{path.name}/{target}")
                    values = np.concatenate([np.empty((0, *shape[1:]), dtype), *chunks])
                into.named_labels(values, options.classes)
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError, KeyError) as error:
        raise DataError(
            f"an .npz must be whole and hold arrays alone; {path} does not ({error}). Write it again with numpy.savez."
        ) from None


def _stream(file: IO[bytes], name: str, told: str, into: Writer) -> None:
    shape, dtype, chunks = _read(file, told)
    into.array(name, dtype, shape[1:], chunks)


def _read(file: IO[bytes], told: str) -> "tuple[tuple[int, ...], np.dtype[np.generic], Iterator[np.ndarray]]":
    """Shape, type and chunks of an array in NumPy's format. Objects, which are pickles, are refused unread."""
    from numpy.lib import format as npy

    try:
        version = npy.read_magic(file)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, fortran, dtype = read(file)
    except ValueError as error:
        raise DataError(f"{told} must be an array in NumPy's format; {_line(error)}. Write it again.") from None
    if dtype.hasobject or dtype.kind not in "fiubU":
        raise DataError(
            f"{told} must hold numbers or texts; it holds {dtype}, and objects are never unpickled. Save its "
            "numbers alone."
        )
    if not shape or dtype.itemsize * _product(shape) > SHAPE_LIMIT or _product(shape[1:]) == 0:
        raise DataError(f"{told} must have samples along its first axis; its shape is {shape}. Reshape it.")
    if fortran and len(shape) > 1:
        raise DataError(f"{told} must be in C order; it is in Fortran order. Save numpy.ascontiguousarray of it.")
    return shape, dtype, _chunks(file, shape, dtype, told)


def _chunks(
    file: IO[bytes], shape: tuple[int, ...], dtype: "np.dtype[np.generic]", told: str
) -> "Iterator[np.ndarray]":
    import numpy as np

    row = dtype.itemsize * _product(shape[1:])
    rows = max(1, CHUNK_BYTES // max(1, row))
    for start in range(0, shape[0], rows):
        n = min(rows, shape[0] - start)
        # Read as far as the file goes: what a header claims is allocated by nobody.
        read = file.read(n * row) if n * row <= 2 * CHUNK_BYTES else b"".join(_pieces(file, n * row))
        if len(read) != n * row:
            raise DataError(f"{told} must be whole; it ends {n * row - len(read):,} bytes early. Write it again.")
        yield np.frombuffer(read, dtype).reshape(n, *shape[1:])


def _pieces(file: IO[bytes], size: int) -> Iterator[bytes]:
    while size > 0 and (read := file.read(min(size, CHUNK_BYTES))):
        yield read
        size -= len(read)


def _safetensors(path: Path, into: Writer, options: Options) -> None:
    import numpy as np
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            chosen, target = _chosen(list(file.keys()), options)
            for name in chosen:
                part = file.get_slice(name)
                shape = tuple(part.get_shape())
                if not shape or _product(shape[1:]) == 0:
                    raise DataError(f"{name} must have samples along its first axis; its shape is {shape}. Reshape it.")
                first = np.asarray(part[: min(1, shape[0])])
                rows = max(1, CHUNK_BYTES // max(1, first.itemsize * _product(shape[1:])))
                starts = range(0, shape[0], rows)
                chunks = (np.asarray(part[start : min(start + rows, shape[0])]) for start in starts)
                into.array(name, first.dtype, shape[1:], chunks)
            if target is not None:
                into.named_labels(file.get_tensor(target), options.classes)
    except (SafetensorError, TypeError, AttributeError) as error:
        raise DataError(
            f"a .safetensors must be whole and of types that NumPy has; {path} is not ({_line(error)}). Write it again."
        ) from None


def _chosen(names: list[str], options: Options) -> tuple[list[str], str | None]:
    """The arrays to take, and the one of the labels."""
    dropped = options.several("drop")
    wanted = [*dropped, *([options.target] if options.target else [])]
    if unknown := [name for name in wanted if name not in names]:
        raise DataError(
            f"an array must be in the file; {listed(unknown)} is not among {listed(sorted(names), 20)}."
            + (nearest(unknown[0], names) or " Choose one of them.")
        )
    left = sorted(name for name in names if name not in dropped)
    found = [name for name in LABELS if name in left]
    if options.target is None and len(found) > 1:
        raise DataError("labels must be one array; there are y and labels. Name one by #target=, and drop the other.")
    target = options.target or (found[0] if found and len(left) > 1 else None)
    return [name for name in left if name != target], target


def _product(shape: tuple[int, ...]) -> int:
    whole = 1
    for each in shape:
        whole *= each
    return whole


def _line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
