"""Published sets: from a folder, or downloaded, from a mirror on this machine."""

import gzip
import hashlib
import io
import tarfile
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from data_sources import idx
from paretoscope.base.errors import DataError
from paretoscope.data import library
from paretoscope.data.data import Part
from paretoscope.data.prepared import prepare
from paretoscope.data.sources import named
from paretoscope.networks.network import Input

EACH = 4


@pytest.fixture(autouse=True)
def data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PARETOSCOPE_LIBRARY", str(tmp_path / "library"))
    monkeypatch.setenv("PARETOSCOPE_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


class Web:
    """Files by address, in the place of urllib; asked: what was fetched."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.files: dict[str, bytes] = {}
        self.asked: list[str] = []
        monkeypatch.setattr(urllib.request, "urlopen", self._open)

    def _open(self, url: str, timeout: float | None = None) -> io.BytesIO:
        self.asked.append(url)
        if url not in self.files:
            raise urllib.error.URLError("no network")
        return io.BytesIO(self.files[url])


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Web:
    return Web(monkeypatch)


def records(seed: int) -> bytes:
    """Four images of one colour each: the class, and red, green and blue of 10 times the class, and one and two more."""
    rows = [bytes([c, *[10 * c + seed] * 1024, *[10 * c + 1] * 1024, *[10 * c + 2] * 1024]) for c in range(EACH)]
    return b"".join(rows)


def cifar() -> dict[str, bytes]:
    return {name: records(place) for place, name in enumerate((*named.CIFAR_TRAIN, named.CIFAR_TEST))}


def tar(files: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(f"{named.CIFAR_FOLDER}/{name}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return packed.getvalue()


def served(web: Web, monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    remote = replace(named.CIFAR_FILE, md5=hashlib.md5(content).hexdigest(), size=len(content))
    monkeypatch.setattr(named, "CIFAR_FILE", remote)
    web.files[remote.url] = content


def test_cifar_from_the_users_folder(data_folder: Path, web: Web) -> None:
    folder = data_folder / named.CIFAR_FOLDER
    folder.mkdir(parents=True)
    for name, content in cifar().items():
        (folder / name).write_bytes(content)
    samples = library.add("c", "cifar10").samples
    assert len(samples) == 6 * EACH and samples.train == 5 * EACH and samples.classes[3] == "cat"
    image = samples.read(np.array([21]))["images"][0]
    assert samples.labels[21] == 1 and image.shape == (3, 32, 32)
    assert [set(plane.ravel().tolist()) for plane in image] == [{15}, {11}, {12}]
    data = prepare(samples, [Input("x", (3, 32, 32))], outputs=[(10,)])
    assert (data.length(Part.TRAIN), data.length(Part.TEST)) == (5 * EACH, EACH) and not web.asked


def test_cifar_is_downloaded_once_and_checked(data_folder: Path, web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    served(web, monkeypatch, tar(cifar()))
    assert len(library.add("c", "cifar10").samples) == 6 * EACH
    library.add("d", "cifar10")
    assert len(web.asked) == 1 and [each.name for each in data_folder.iterdir()] == [named.CIFAR_FILE.name]


@pytest.mark.parametrize("fault", ["other", "short", "long", "none"])
def test_a_download_that_fails_leaves_nothing(
    data_folder: Path, web: Web, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    whole = tar(cifar())
    served(web, monkeypatch, whole)
    faults = {"other": bytes(len(whole)), "short": whole[:-9], "long": whole * 3}
    if fault in faults:
        web.files[named.CIFAR_FILE.url] = faults[fault]
    else:
        web.files.clear()
    with pytest.raises(DataError, match="put it there yourself"):
        library.add("c", "cifar10")
    assert not data_folder.exists() or list(data_folder.iterdir()) == []


@pytest.mark.parametrize(
    "files",
    [
        {},
        cifar() | {named.CIFAR_TEST: records(0)[:-1]},
        cifar() | {named.CIFAR_TEST: b""},
        cifar() | {named.CIFAR_TEST: bytes([10]) + records(0)[1:]},
    ],
)
def test_an_archive_of_something_else_is_refused(
    web: Web, monkeypatch: pytest.MonkeyPatch, files: dict[str, bytes]
) -> None:
    served(web, monkeypatch, tar(files))
    with pytest.raises(DataError, match="Remove"):
        library.add("c", "cifar10")
    assert library.names() == ()


def fashion() -> dict[str, bytes]:
    draw = np.random.default_rng(0)
    made = {}
    for part, n in (("train", 12), ("t10k", 6)):
        made[f"{part}-images-idx3-ubyte.gz"] = gzip.compress(idx(draw.integers(0, 256, (n, 28, 28), np.uint8)))
        made[f"{part}-labels-idx1-ubyte.gz"] = gzip.compress(idx(np.arange(n) % 10))
    return made


def test_fashion_is_downloaded_file_by_file(data_folder: Path, web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    files = fashion()
    remotes = tuple(
        replace(each, md5=hashlib.md5(files[each.name]).hexdigest(), size=len(files[each.name]))
        for each in named.FASHION_FILES
    )
    monkeypatch.setattr(named, "FASHION_FILES", remotes)
    web.files = {each.url: files[each.name] for each in remotes}
    samples = library.add("f", "fashion-mnist").samples
    assert len(samples) == 18 and samples.train == 12 and samples.classes[9] == "Ankle boot" and len(web.asked) == 4
    other = data_folder.parent / "other"
    (other / "FashionMNIST" / "raw").mkdir(parents=True)
    for name, content in files.items():
        (other / "FashionMNIST" / "raw" / name.removesuffix(".gz")).write_bytes(gzip.decompress(content))
    assert library.add("g", f"fashion-mnist#folder={other}").samples.digest == samples.digest and len(web.asked) == 4


def test_checksums_are_those_that_torchvision_has() -> None:
    from paretoscope.base.torchvision_import import import_torchvision

    import_torchvision()
    from torchvision.datasets import FashionMNIST

    assert [(each.name, each.md5) for each in named.FASHION_FILES] == FashionMNIST.resources


def test_mnist_from_a_named_folder_that_lacks_it_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="train-images-idx3-ubyte is not"):
        library.add("m", f"mnist#folder={tmp_path}")
