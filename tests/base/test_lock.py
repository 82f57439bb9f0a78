import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from paretoscope.base import lock as exclusive
from paretoscope.base.lock import machine, released

ROOT = Path(__file__).parents[2]

# Adds up in a file without any other protection: updates get lost unless the lock keeps them apart.
COUNT = """
import sys
from pathlib import Path
from paretoscope.base.lock import machine
path = Path(sys.argv[1])
for _ in range(int(sys.argv[2])):
    with machine(exclusive=True):
        path.write_text(str(int(path.read_text()) + 1))
"""

# Says that it waits, then that it has the machine.
WAIT = """
import sys
from paretoscope.base.lock import machine
print("waits", flush=True)
with machine(exclusive=sys.argv[1] == "alone"):
    print("has it", flush=True)
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The lock of this test alone."""
    monkeypatch.setenv(exclusive.ENVIRONMENT, str(tmp_path / "machine"))
    monkeypatch.setattr(exclusive, "_troubles", {})
    return tmp_path / "machine"


def start(code: str, *arguments: object) -> subprocess.Popen:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def free(exclusively: bool = True) -> bool:
    """Whether another thread could have the machine at once."""
    try:
        os.close(exclusive._attempt(exclusively, 0.0))
    except TimeoutError:
        return False
    return True


def until(holds, seconds: float = 20.0) -> None:
    """Wait for what must come about sooner or later."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it never came about"
        time.sleep(0.005)


def holder(kind: str) -> subprocess.Popen:
    """A process that has the machine, alone or together, until it is told to end."""
    process = start(WAIT + "    sys.stdin.read()\n", kind)
    assert [process.stdout.readline(), process.stdout.readline()] == ["waits\n", "has it\n"]
    return process


@pytest.mark.slow
def test_processes_exclude_each_other(tmp_path):
    path = tmp_path / "count"
    path.write_text("0")
    processes = [start(COUNT, path, 200) for _ in range(2)]
    assert [process.wait(120) for process in processes] == [0, 0]
    assert path.read_text() == "400"


@pytest.mark.slow
@pytest.mark.parametrize("held, wanted, together", [(True, "together", False), (False, "together", True)])
def test_evaluations_wait_for_a_timing_but_not_for_each_other(held, wanted, together):
    with machine(exclusive=held):
        process = start(WAIT, wanted)
        assert process.stdout.readline() == "waits\n"
        if together:
            assert process.stdout.readline() == "has it\n"
        else:
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.5)
    assert process.wait(60) == 0


def test_a_process_that_is_killed_holds_nothing():
    process = start("import sys, time\n" + WAIT + "    time.sleep(600)\n", "alone")
    assert [process.stdout.readline(), process.stdout.readline()] == ["waits\n", "has it\n"]
    assert not free()
    process.kill()
    process.wait(60)
    assert free()


def test_contexts_nest_within_a_thread_and_keep_what_the_outermost_asked_for():
    with machine(exclusive=True):
        assert not free(exclusively=False)
        with machine(exclusive=False):
            assert not free(exclusively=False)
        with machine(exclusive=True):
            assert not free(exclusively=False)
        assert not free(exclusively=False)
    assert free()
    with machine(exclusive=False):
        assert free(exclusively=False) and not free()
        with machine(exclusive=True):
            assert not free(exclusively=False)
        assert free(exclusively=False) and not free()
    assert free()


def test_what_is_released_can_be_taken_by_work_on_top():
    with machine(exclusive=True):
        with released():
            assert free()
            with machine(exclusive=False):
                assert free(exclusively=False) and not free()
            assert free()
        assert not free(exclusively=False)
    assert free()


def test_releasing_what_is_not_held_does_nothing():
    with released():
        assert free()
    assert free()


def test_the_machine_is_given_back_after_an_error():
    for context in (lambda: machine(exclusive=True), lambda: machine(exclusive=False)):
        with pytest.raises(ZeroDivisionError), context():
            raise ZeroDivisionError
        assert free()
    with machine(exclusive=True):
        with pytest.raises(ZeroDivisionError), released():
            raise ZeroDivisionError
        assert not free()


def test_evaluations_without_a_gap_cannot_keep_a_timing_out():
    order, may_end = [], threading.Event()

    def evaluate(name: str) -> None:
        with machine(exclusive=False):
            order.append(name)
            may_end.wait(60)

    def time_it() -> None:
        with machine(exclusive=True):
            order.append("timing")

    first = threading.Thread(target=evaluate, args=("first",))
    first.start()
    until(lambda: order == ["first"])
    timing = threading.Thread(target=time_it)
    timing.start()
    # Only the first evaluation has the machine, yet another one is not let in any more.
    until(lambda: not free(exclusively=False))
    second = threading.Thread(target=evaluate, args=("second",))
    second.start()
    may_end.set()
    for thread in (first, timing, second):
        thread.join(60)
    assert order == ["first", "timing", "second"]


def test_the_lock_lies_in_a_folder_that_belongs_to_the_user_alone(folder, tmp_path, monkeypatch):
    folder.mkdir(mode=0o755)
    with machine(exclusive=True):
        assert exclusive.alone()
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {each.name: each.stat().st_mode & 0o777 for each in folder.iterdir()} == {"gate": 0o600, "lock": 0o600}
    monkeypatch.delenv(exclusive.ENVIRONMENT)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert exclusive.folder() == tmp_path / "paretoscope" / "machine"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert exclusive.folder() == tmp_path / ".cache" / "paretoscope" / "machine"


@pytest.mark.parametrize("name", ["gate", "lock"])
@pytest.mark.parametrize("kind", ["pipe", "link", "folder", "socket"])
def test_a_foreign_thing_at_its_name_holds_nobody_up(name, kind, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(exclusive, "PATIENCE_S", 600.0)
    folder.mkdir()
    path, elsewhere = folder / name, tmp_path / "elsewhere"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "link":
        path.symlink_to(elsewhere)
    elif kind == "folder":
        path.mkdir()
    else:
        os.mknod(path, 0o140600)
    for exclusively in (True, False):
        with machine(exclusively):
            assert not exclusive.alone()
    assert str(path) in exclusive.trouble() and "Move that file away" in exclusive.trouble()
    assert not elsewhere.exists()

    # The remedies work, and are noticed.
    path.rmdir() if kind == "folder" else path.unlink()
    with machine(exclusive=True):
        assert exclusive.alone()
    with machine(exclusive=False):
        assert exclusive.trouble() is None


def test_the_folder_of_another_user_is_not_used(folder, monkeypatch):
    folder.mkdir()
    monkeypatch.setattr(exclusive.os, "geteuid", lambda: os.getuid() + 1)
    with machine(exclusive=True):
        assert not exclusive.alone()
    assert "is not a folder of this user" in exclusive.trouble()
    assert not any(folder.iterdir())


def test_without_a_lock_the_work_is_done_all_the_same(monkeypatch, folder, tmp_path):
    done = []
    (tmp_path / "file").touch()
    monkeypatch.setenv(exclusive.ENVIRONMENT, str(tmp_path / "file" / "machine"))
    with machine(exclusive=True), released(), machine(exclusive=False):
        done.append("no folder")
    monkeypatch.setenv(exclusive.ENVIRONMENT, str(folder))
    monkeypatch.setattr(exclusive, "fcntl", None)
    with machine(exclusive=True), released(), machine(exclusive=False):
        done.append("no flock")
    assert done == ["no folder", "no flock"]
    assert not folder.exists()


def test_a_folder_that_is_cleared_while_in_use_is_made_again(folder):
    with machine(exclusive=False):
        for each in folder.iterdir():
            each.unlink()
        folder.rmdir()
    with machine(exclusive=True):
        assert exclusive.alone() and not free(exclusively=False)


@pytest.mark.parametrize("kind, exclusively", [("alone", False), ("alone", True), ("together", True)])
def test_of_a_suspended_process_one_waits_once_and_tells(kind, exclusively, monkeypatch):
    process = holder(kind)
    process.send_signal(signal.SIGSTOP)
    monkeypatch.setattr(exclusive, "PATIENCE_S", 0.05)
    with machine(exclusively):
        assert exclusive._held.file is None and not exclusive.alone()
    assert "has held the lock of this machine" in exclusive.trouble()

    # Whoever comes next does not wait again: with such patience the test would never end.
    monkeypatch.setattr(exclusive, "PATIENCE_S", 3600.0)
    for _ in range(20):
        with machine(exclusively):
            assert exclusive._held.file is None
    assert exclusive.trouble() is not None

    # Each try would have had it: as soon as it is to be had, all is as before.
    process.kill()
    process.wait(60)
    with machine(exclusively):
        assert exclusive._held.file is not None
        assert exclusive.trouble() is None


def test_after_a_respite_one_waits_again(monkeypatch):
    process = holder("alone")
    monkeypatch.setattr(exclusive, "PATIENCE_S", 0.05)
    monkeypatch.setattr(exclusive, "RESPITE_S", 0.0)
    with machine(exclusive=True):
        assert not exclusive.alone()
    monkeypatch.setattr(exclusive, "PATIENCE_S", 3600.0)
    threading.Timer(0.1, process.kill).start()
    with machine(exclusive=True):
        assert exclusive.alone()
    process.wait(60)


@pytest.mark.parametrize("exclusively, told", [(True, "to pause"), (False, "a timing")])
def test_a_wait_tells_what_it_is_for(exclusively, told, monkeypatch):
    monkeypatch.setattr(exclusive, "TOLD_AFTER_S", 0.0)

    def work() -> None:
        with machine(exclusively):
            pass

    with machine(exclusive=True):
        thread = threading.Thread(target=work)
        thread.start()
        until(lambda: exclusive.awaited(thread.ident) is not None)
        assert told in exclusive.awaited(thread.ident)
        assert exclusive.awaited(threading.get_ident()) is None
    thread.join(60)
    assert exclusive.awaited(thread.ident) is None and exclusive._waits == {}


def test_who_has_the_machine_alone_knows_it():
    assert not exclusive.alone()
    with machine(exclusive=True):
        assert exclusive.alone()
        with released():
            assert not exclusive.alone()
        with machine(exclusive=False):
            assert exclusive.alone()
    with machine(exclusive=False):
        assert not exclusive.alone()
