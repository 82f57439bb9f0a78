import os
import stat
import subprocess
import sys
import threading

import pytest

from compression import files
from compression.errors import CompressionError


def test_a_file_is_written_and_read(tmp_path):
    path = tmp_path / "a file.psc"
    files.write_atomically(path, b"first")
    assert files.read(path) == b"first"
    files.write_atomically(str(path), b"")
    assert files.read(str(path)) == b""
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("failing", ["fsync", "replace", "chmod"])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, failing):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, failing, fail)
    with pytest.raises(CompressionError, match="No space left on device") as raised:
        files.write_atomically(path, b"new")
    assert str(path) in str(raised.value)
    monkeypatch.undo()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_disk_that_fills_up_leaves_the_old_file(tmp_path):
    """A real limit and a real ENOSPC-like refusal, met while writing: nothing is patched in the process that writes."""
    path = tmp_path / "file"
    path.write_bytes(b"old")
    script = (
        "import resource, signal, sys\n"
        "from compression import files\n"
        "from compression.errors import CompressionError\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "try:\n"
        "    files.write_atomically(sys.argv[1], bytes(200_000))\n"
        "except CompressionError as error:\n"
        "    sys.exit(str(error))\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True)
    assert done.returncode == 1 and "File too large" in done.stderr
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("step", ["write", "fsync", "replace"])
def test_a_crash_at_any_step_leaves_the_old_file_whole(tmp_path, step):
    """The process dies, and nothing is cleaned up: what is left beside the old file is not called by its name."""
    path = tmp_path / "file"
    path.write_bytes(b"old")
    script = (
        "import os, sys\n"
        "from compression import files\n"
        "step, path = sys.argv[1:]\n"
        "def die(*_):\n"
        "    os._exit(9)\n"
        "setattr(os, step, die) if step != 'write' else setattr(os, 'fdopen', die)\n"
        "files.write_atomically(path, b'new')\n"
    )
    assert subprocess.run([sys.executable, "-c", script, step, str(path)]).returncode == 9
    assert path.read_bytes() == b"old"
    assert all(other == path or other.name.startswith(".file.") for other in tmp_path.iterdir())


def test_the_folder_is_flushed_after_the_file_and_its_rename(tmp_path, monkeypatch):
    steps, fsync, replace = [], os.fsync, os.replace

    def watched_fsync(handle: int) -> None:
        steps.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file")
        fsync(handle)

    def watched_replace(*paths: str) -> None:
        steps.append("rename")
        replace(*paths)

    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(os, "replace", watched_replace)
    files.write_atomically(tmp_path / "file", b"data")
    assert steps == ["file", "rename", "folder"]


def test_a_folder_that_cannot_be_flushed_does_no_harm(tmp_path, monkeypatch):
    fsync = os.fsync

    def files_only(handle: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(22, "Invalid argument")
        fsync(handle)

    monkeypatch.setattr(os, "fsync", files_only)
    files.write_atomically(tmp_path / "file", b"data")
    assert (tmp_path / "file").read_bytes() == b"data"


def test_an_interrupt_leaves_nothing_and_goes_on_up(tmp_path, monkeypatch):
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        files.write_atomically(tmp_path / "file", b"new")
    assert list(tmp_path.iterdir()) == []


def test_readers_see_a_whole_file(tmp_path):
    path, done, seen = tmp_path / "file", threading.Event(), set()
    versions = [bytes([i]) * 200_000 for i in range(3)]
    files.write_atomically(path, versions[0])

    def watch() -> None:
        while not done.is_set():
            seen.add(path.read_bytes())

    watcher = threading.Thread(target=watch)
    watcher.start()
    for version in versions * 3:
        files.write_atomically(path, version)
    done.set()
    watcher.join(300)
    assert seen and seen <= set(versions)


@pytest.mark.parametrize("name", ["no folder/file", ".", "x" * 300])
def test_a_place_that_cannot_be_written_is_refused(tmp_path, name):
    with pytest.raises(CompressionError, match="Choose another place"):
        files.write_atomically(tmp_path / name, b"data")
    assert list(tmp_path.iterdir()) == []


def test_a_path_under_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_bytes(b"kept")
    with pytest.raises(CompressionError):
        files.write_atomically(tmp_path / "file" / "more", b"data")
    assert (tmp_path / "file").read_bytes() == b"kept"


def test_what_is_no_regular_file_is_not_replaced(tmp_path):
    """`--out /dev/null` as root must not turn the device into a file."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        files.write_atomically(path, b"data")
    except CompressionError:
        pass
    finally:
        os.close(reader)
    assert stat.S_ISFIFO(path.stat().st_mode)


@pytest.mark.parametrize("name", ["missing", "missing/file", ".", "x" * 300])
def test_a_file_that_cannot_be_read_is_refused(tmp_path, name):
    with pytest.raises(CompressionError, match="must be a readable file") as raised:
        files.read(tmp_path / name)
    assert str(tmp_path / name) in str(raised.value)
