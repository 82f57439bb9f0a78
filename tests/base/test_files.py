import os
import re
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest
from paretoscope.base import files
from paretoscope.base.errors import CompressionError


def test_a_file_is_written_and_read(tmp_path):
    path = tmp_path / "a file.psc"
    files.write_atomically(path, b"first")
    assert files.read(path) == b"first"
    files.write_atomically(str(path), b"")
    assert files.read(str(path)) == b""
    assert list(tmp_path.iterdir()) == [path]


def test_a_place_is_checked_without_a_trace(tmp_path):
    path = tmp_path / "file"
    files.check_writable(path)
    assert list(tmp_path.iterdir()) == []
    path.write_bytes(b"old")
    files.check_writable(str(path))
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]
    for bad, told in (
        (tmp_path, "is a folder"),
        (tmp_path / "no" / "x", "No such file"),
        (path / "x", "Not a directory"),
    ):
        with pytest.raises(CompressionError, match=told) as raised:
            files.check_writable(bad)
        assert str(raised.value).startswith(str(bad)) and str(raised.value).endswith("Choose another place.")


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
def test_the_umask_says_who_may_read_a_file_and_nobody_else_a_private_one(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        files.write_atomically(tmp_path / "file", b"data")
        files.write_atomically(tmp_path / "private", b"data", private=True)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == mode
    assert stat.S_IMODE((tmp_path / "private").stat().st_mode) == 0o600


@pytest.mark.parametrize("failing", ["fsync", "replace"])
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
        "from paretoscope.base import files\n"
        "from paretoscope.base.errors import CompressionError\n"
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
        "from paretoscope.base import files\n"
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


HOLD = """
import sys, time
from pathlib import Path
from paretoscope.base import files
folder = files.lasting_folder()
(folder.path / "inside").mkdir()
(folder.path / "inside" / "file").write_bytes(b"data")
beside = files.lasting_folder(Path(sys.argv[1]) / "made")
files.os.fsync = lambda handle: (print("ready", flush=True), time.sleep(600))
files.write_atomically(Path(sys.argv[1]) / "file", b"data")
"""


def age(folder: Path) -> None:
    long_ago = time.time() - files.YOUNG_S - 1
    for path in folder.iterdir():
        os.utime(path, (long_ago, long_ago), follow_symlinks=False)


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path, monkeypatch):
    """kill -9 of one of two processes, each in the middle of a file with two folders: the other's stay."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    killed, living = (subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2))
    try:
        assert [process.stdout.readline() for process in (killed, living)] == ["ready\n"] * 2
        assert len(list(tmp_path.iterdir())) == 6
        killed.send_signal(signal.SIGKILL)
        killed.wait(10)
        files._tidied.clear()
        files.tidy(tmp_path)
        # They are young: one that is just being made has no lock yet.
        assert len(list(tmp_path.iterdir())) == 6
        age(tmp_path)
        files.write_atomically(tmp_path / "file", b"once a process")
        assert len(list(tmp_path.iterdir())) == 7
        files._tidied.clear()
        files.write_atomically(tmp_path / "file", b"the next")
        assert len(list(tmp_path.iterdir())) == 4
        assert (tmp_path / "file").read_bytes() == b"the next"
    finally:
        for process in (killed, living):
            process.kill()
            process.wait(10)
    age(tmp_path)
    files._tidied.clear()
    files.tidy(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_nothing_but_our_own_is_removed(tmp_path, monkeypatch):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "file").write_bytes(b"data")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / f"{files.MARK}link").symlink_to(elsewhere)
    (folder / f"{files.MARK}dangling").symlink_to(tmp_path / "nowhere")
    os.mkfifo(folder / f"{files.MARK}pipe")
    (folder / "paretoscope-abcdefgh").mkdir()
    (folder / ".file.abcdefgh").write_bytes(b"data")
    inner = folder / f"{files.MARK}folder"
    inner.mkdir()
    (inner / "link").symlink_to(elsewhere)
    age(folder)
    before = {path.name for path in folder.iterdir()}
    monkeypatch.setattr(os, "getuid", lambda: os.geteuid() + 1)
    files.tidy(folder)
    assert {path.name for path in folder.iterdir()} == before
    monkeypatch.undo()
    files._tidied.clear()
    files.tidy(folder)
    assert {path.name for path in folder.iterdir()} == before - {inner.name}
    assert (elsewhere / "file").read_bytes() == b"data"


def test_a_temporary_folder_is_gone_afterwards(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with files.temporary_folder() as folder:
        (folder / "file").write_bytes(b"data")
        assert folder.parent == tmp_path and stat.S_IMODE(folder.stat().st_mode) == 0o700
    with pytest.raises(KeyError), files.temporary_folder(tmp_path / "made") as folder:
        raise KeyError
    assert list(tmp_path.iterdir()) == []


def test_every_temporary_file_of_the_product_is_one_that_is_removed():
    """Others know no owner: whoever needs one takes it from `paretoscope.base.files`."""
    root = Path(files.__file__).parents[1]
    found = {path.name for path in root.rglob("*.py") if re.search(r"tempfile\.(mk|Temp|Named)", path.read_text())}
    # A file without a name needs no removing.
    assert found == {"processes.py"}
    assert "tempfile.TemporaryFile()" in (root / "export" / "processes.py").read_text()
