"""Small data of every source, made on the spot: for the conformance suite and the tests beside it."""

import gzip
import io
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas
from PIL import Image
from safetensors.numpy import save_file

N, CLASSES = 24, 3


@dataclass(frozen=True)
class Example:
    """text: names the data, without options. options: behind its #. fields: what is read, by name; n: how many."""

    text: str
    options: str = ""
    fields: tuple[str, ...] = ("x",)
    n: int = N
    train: int = 0
    labelled: bool = True

    @property
    def whole(self) -> str:
        return f"{self.text}#{self.options}" if self.options else self.text


@dataclass(frozen=True)
class Input:
    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"


def labels(n: int = N) -> np.ndarray:
    return np.arange(n) % CLASSES


def values(n: int = N, *shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(n, *shape)).astype(np.float32)


def picture(seed: int, width: int = 20, height: int = 14, mode: str = "RGB") -> Image.Image:
    """Smooth colours with some noise; another for another seed."""
    draw = np.random.default_rng(seed)
    small = Image.fromarray(draw.integers(0, 256, (4, 5, 3), np.uint8)).resize((width, height))
    noisy = np.asarray(small).astype(int) + draw.integers(-8, 9, (height, width, 3))
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).convert(mode)


def encoded(image: Image.Image, form: str = "PNG") -> bytes:
    file = io.BytesIO()
    image.save(file, form)
    return file.getvalue()


def image_files(n: int = N) -> dict[str, bytes]:
    """By path, a folder a class."""
    names = ("bird", "cat", "dog")
    return {
        f"{names[number % CLASSES]}/{number:03}.{'jpg' if number % 2 else 'png'}": encoded(
            picture(number), "JPEG" if number % 2 else "PNG"
        )
        for number in range(n)
    }


def spread(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def zipped(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def idx(array: np.ndarray, code: int = 8, kind: str = ">u1") -> bytes:
    sizes = struct.pack(f">{array.ndim}I", *array.shape)
    return struct.pack(">HBB", 0, code, array.ndim) + sizes + array.astype(kind).tobytes()


def pixels(n: int = N) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (n, 6, 5), np.uint8)


def npz(folder: Path) -> Example:
    path = folder / "data.npz"
    np.savez_compressed(path, x=values(N, 4, 3), y=labels())
    return Example(str(path))


def several_inputs(folder: Path) -> Example:
    path = folder / "two.npz"
    np.savez(path, left=values(N, 8), right=pixels(), labels=labels())
    return Example(str(path), fields=("left", "right"))


def safetensors(folder: Path) -> Example:
    path = folder / "data.safetensors"
    save_file({"x": values(N, 5), "answer": labels()}, path)
    return Example(str(path), "target=answer")


def npy(folder: Path) -> Example:
    path = folder / "data.npy"
    np.save(path, values(N, 4))
    return Example(str(path), labelled=False)


def image_folder(folder: Path) -> Example:
    return Example(str(spread(folder / "pictures", image_files())), fields=("images",))


def plain_image_folder(folder: Path) -> Example:
    files = {name.replace("/", "-"): content for name, content in image_files().items()}
    return Example(str(spread(folder / "plain", files)), fields=("images",), labelled=False)


def split_image_folder(folder: Path) -> Example:
    files = {f"{'train' if place < 15 else 'val'}/{n}": c for place, (n, c) in enumerate(image_files().items())}
    return Example(str(spread(folder / "split", files)), fields=("images",), train=15)


def image_zip(folder: Path) -> Example:
    files = {f"set/{name}": content for name, content in image_files().items()}
    return Example(str(zipped(folder / "pictures.zip", files)), fields=("images",))


def frame() -> pandas.DataFrame:
    columns = values(N, 3)
    return pandas.DataFrame(
        {"a": columns[:, 0], "b": columns[:, 1], "c": np.arange(N), "kind": np.array(["u", "v", "w"])[labels()]}
    )


def csv(folder: Path) -> Example:
    path = folder / "table.csv"
    frame().to_csv(path, index=False)
    return Example(str(path), "target=kind")


def parquet(folder: Path) -> Example:
    path = folder / "table.parquet"
    frame().to_parquet(path)
    return Example(str(path), "target=kind&drop=c")


def texts_in_csv(folder: Path) -> Example:
    path = folder / "texts.csv"
    pandas.DataFrame({"said": [f"line, {n}" for n in range(N)], "kind": labels()}).to_csv(path, index=False)
    return Example(str(path), "text=said&target=kind", fields=("text",))


def idx_file(folder: Path) -> Example:
    (folder / "train-images-idx3-ubyte").write_bytes(idx(pixels()))
    (folder / "train-labels-idx1-ubyte").write_bytes(idx(labels()))
    return Example(str(folder / "train-images-idx3-ubyte"), fields=("images",))


def idx_folder(folder: Path) -> Example:
    raw = folder / "raw"
    raw.mkdir()
    for part, first, last in (("train", 0, 16), ("t10k", 16, N)):
        (raw / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(pixels()[first:last]), mtime=0))
        (raw / f"{part}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(labels()[first:last]), mtime=0))
    return Example(str(raw), fields=("images",), train=16)


def text_file(folder: Path) -> Example:
    path = folder / "lines.txt"
    lines = [f"{'abc'[place % CLASSES]}\tsample {place}: grüße" for place in range(N)]
    path.write_text("\n\n".join(lines), "utf-8")
    return Example(str(path), "label=first", fields=("text",))


def digits(folder: Path) -> Example:
    return Example("digits", fields=("images",), n=1797, train=1000)


def function(folder: Path) -> Example:
    (folder / "own_data_module.py").write_text(
        f"import torch\ndef made():\n    return torch.arange({N} * 3.).reshape({N}, 3), torch.arange({N}) % {CLASSES}\n"
    )
    return Example("own_data_module:made")


# By source, what it must read.
EXAMPLES: dict[str, tuple[Callable[[Path], Example], ...]] = {
    "arrays": (npz, several_inputs, safetensors, npy),
    "code": (function,),
    "idx": (idx_file, idx_folder),
    "images": (image_folder, plain_image_folder, split_image_folder, image_zip),
    "named": (digits,),
    "table": (csv, parquet, texts_in_csv),
    "text": (text_file,),
}
