"""Torchvision's own download, from a mirror on this machine."""

import errno
import os
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from mirror import TEST, TRAIN, Mirror, files, serving, write
from paretoscope.base.errors import ModelError
from paretoscope.data import dataset, mnist
from paretoscope.data.dataset import Download
from paretoscope.networks import zoo

# Generous: nothing waits this long unless the test has failed.
SECONDS = 300
SHAPE = (1, 28, 28)
TRAIN_IMAGES, TEST_IMAGES = "train-images-idx3-ubyte.gz", "t10k-images-idx3-ubyte.gz"


@pytest.fixture
def raw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the files belong; not there yet."""
    monkeypatch.setenv(mnist.ENVIRONMENT, str(tmp_path / "data"))
    return tmp_path / "data" / "MNIST" / "raw"


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch, raw: Path) -> Iterator[Mirror]:
    with serving(monkeypatch) as mirror:
        yield mirror


def load() -> zoo.ImageData:
    """Past the cache, which the folder is no key of."""
    return zoo.datasets.get("mnist").loader(SHAPE)


def until(holds: Callable[[Download | None], bool]) -> Download:
    """What is told of the download once that holds."""
    deadline = time.monotonic() + SECONDS
    while not holds(seen := zoo.datasets.get("mnist").download()):
        assert time.monotonic() < deadline
        time.sleep(0.002)
    return seen


def test_it_is_downloaded_once_and_read_offline_afterwards(
    mirror: Mirror, raw: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = load()
    assert (len(data.train_labels), len(data.test_labels)) == (TRAIN, TEST)
    assert {path.name: path.read_bytes() for path in raw.iterdir()} == files()
    assert {path.lstrip("/") for path in mirror.asked} == {"", *mirror.packed}
    assert f"Downloading MNIST, {mirror.total / 1e6:.1f} MB, into {raw}" in capsys.readouterr().err
    mirror.asked.clear()
    assert load().digest == data.digest and not mirror.asked
    assert "Downloading" not in capsys.readouterr().err


def test_its_progress_is_told_while_it_lasts(mirror: Mirror, raw: Path) -> None:
    mirror.gates = {name: threading.Event() for name in (TRAIN_IMAGES, TEST_IMAGES)}
    sizes = {name: len(content) for name, content in mirror.packed.items()}
    assert mnist.download() is None
    with ThreadPoolExecutor(1) as pool:
        loading = pool.submit(load)
        try:
            first = until(lambda seen: seen is not None and seen.done > 0)
            assert first.done <= sizes[TRAIN_IMAGES] // 2
            assert (first.total, first.folder) == (mirror.total, raw)
            assert first.share == first.done / mirror.total
            mirror.gates[TRAIN_IMAGES].set()
            second = until(lambda seen: seen is not None and seen.done > first.done + sizes[TRAIN_IMAGES] // 2)
            assert second.done < mirror.total and not loading.done()
        finally:
            for gate in mirror.gates.values():
                gate.set()
        assert len(loading.result(SECONDS).test_labels) == TEST
    assert mnist.download() is None


def test_a_share_is_never_more_than_all(tmp_path: Path) -> None:
    # A mirror may pack the files in another way.
    assert Download(30, 40, tmp_path).share == 0.75
    assert Download(50, 40, tmp_path).share == 1.0


@pytest.mark.parametrize("name", [TRAIN_IMAGES, TEST_IMAGES])
@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("short", "File not found or corrupted"),
        ("reset", "reset by peer"),
        ("silent", "timed out"),
        ("other", "File not found or corrupted"),
        ("missing", "404"),
        ("dropped", "closed connection without response"),
    ],
)
def test_a_download_that_fails_says_why_and_the_next_try_works(
    mirror: Mirror, raw: Path, monkeypatch: pytest.MonkeyPatch, name: str, fault: str, reason: str
) -> None:
    monkeypatch.setattr(mnist, "PATIENCE_S", 0.3)
    mirror.faults[name] = fault
    with pytest.raises(
        ModelError, match=rf"must be downloaded whole.*{reason}.*try again.*{mnist.ENVIRONMENT}"
    ) as told:
        load()
    assert str(raw) in str(told.value) and "\n" not in str(told.value)
    assert not any(raw.iterdir()) and not mnist.here()
    assert mnist.download() is None and socket.getdefaulttimeout() is None
    mirror.faults.clear()
    assert len(load().train_labels) == TRAIN


def test_a_second_mirror_helps_where_the_first_has_another_file(
    mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision.datasets import MNIST

    other = Mirror()
    other.faults[TRAIN_IMAGES] = "other"
    monkeypatch.setattr(MNIST, "mirrors", [other.address, mirror.address])
    try:
        assert len(load().train_labels) == TRAIN
    finally:
        other.close()
    assert f"/{TRAIN_IMAGES}" in mirror.asked and f"/{TEST_IMAGES}" in other.asked


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_half_a_file_is_never_taken_for_a_whole_one(
    mirror: Mirror, raw: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    """Unpacking stops half-way: the disk is full, or the user has had enough."""
    from torchvision.datasets import utils

    def unpack(archive: str, folder: str, *args) -> None:
        Path(archive.removesuffix(".gz")).write_bytes(b"half")
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(utils, "extract_archive", unpack)
        with pytest.raises(KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else ModelError) as told:
            load()
    assert isinstance(error, KeyboardInterrupt) or "No space left on device" in str(told.value)
    assert not any(raw.iterdir()) and mnist.download() is None
    assert len(load().train_labels) == TRAIN


def test_a_folder_that_cannot_be_written_is_told(mirror: Mirror, tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file")
    with pytest.raises(ModelError, match=f"must be downloaded whole.*{mnist.ENVIRONMENT} to another folder"):
        load()


def test_without_a_server_the_message_says_so_and_files_that_are_put_there_are_read(mirror: Mirror, raw: Path) -> None:
    mirror.close()
    with pytest.raises(ModelError, match="there must be a network to download it; neither is so") as told:
        load()
    assert str(raw) in str(told.value) and not raw.exists()
    raw.mkdir(parents=True)
    write(raw)
    assert len(load().train_labels) == TRAIN


def test_packed_files_of_the_user_are_unpacked_without_a_network(mirror: Mirror, raw: Path) -> None:
    raw.mkdir(parents=True)
    for name, content in mirror.packed.items():
        (raw / name).write_bytes(content)
    assert len(load().train_labels) == TRAIN and not mirror.asked
    assert {path.name for path in raw.iterdir()} == {*files(), *mirror.packed}


def test_only_what_is_missing_is_put_there(mirror: Mirror, raw: Path) -> None:
    raw.mkdir(parents=True)
    write(raw)
    shutil.move(raw / "t10k-images-idx3-ubyte", raw / "kept")
    (raw / "train-labels-idx1-ubyte").write_bytes(own := bytes.fromhex("00000801 0000012c") + bytes(TRAIN))
    assert not load().train_labels.any()
    assert (raw / "train-labels-idx1-ubyte").read_bytes() == own
    assert (raw / "t10k-images-idx3-ubyte").read_bytes() == (raw / "kept").read_bytes()


def test_what_a_killed_download_left_is_removed_and_one_at_work_is_not(mirror: Mirror, raw: Path) -> None:
    for name in ("download-old", "download-new"):
        (raw / name).mkdir(parents=True)
    hours_ago = time.time() - mnist.LEFT_S - 1
    os.utime(raw / "download-old", (hours_ago, hours_ago))
    load()
    assert {path.name for path in raw.iterdir()} == {*files(), "download-new"}


def test_callers_at_once_share_one_download_and_others_do_not_wait(mirror: Mirror) -> None:
    mirror.gates[TRAIN_IMAGES] = threading.Event()
    dataset._load_data.cache_clear()
    try:
        with ThreadPoolExecutor(2) as pool:
            loading = [pool.submit(zoo.load_data, "mnist", SHAPE) for _ in range(2)]
            try:
                until(lambda seen: seen is not None and seen.done > 0)
                assert len(zoo.load_data("digits", SHAPE).test_labels) == 797
                assert not any(each.done() for each in loading)
            finally:
                mirror.gates[TRAIN_IMAGES].set()
            first, second = (each.result(SECONDS) for each in loading)
        assert first is second and torch.equal(first.test_images, load().test_images)
        assert mirror.asked.count("/") == 1
    finally:
        dataset._load_data.cache_clear()
