import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from compression import exclusive
from compression.exclusive import machine, released

ROOT = Path(__file__).parents[1]

# Adds up in a file without any other protection: updates get lost unless the lock keeps them apart.
COUNT = """
import sys
from pathlib import Path
from compression.exclusive import machine
path = Path(sys.argv[1])
for _ in range(int(sys.argv[2])):
    with machine(exclusive=True):
        path.write_text(str(int(path.read_text()) + 1))
"""

# Says that it waits, then that it has the machine.
WAIT = """
import sys
from compression.exclusive import machine
print("waits", flush=True)
with machine(exclusive=sys.argv[1] == "alone"):
    print("has it", flush=True)
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The lock of this test alone: the machine's own may be in use."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


def start(code: str, *arguments: object) -> subprocess.Popen:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def free(exclusively: bool = True) -> bool:
    """Whether another thread could have the machine at once."""
    answers = []
    thread = threading.Thread(target=lambda: answers.append(exclusive._locked(exclusively)))
    before, exclusive.PATIENCE_S = exclusive.PATIENCE_S, 0.0
    try:
        thread.start()
        thread.join()
    finally:
        exclusive.PATIENCE_S = before
    if answers[0] is not None:
        exclusive.os.close(answers[0])
    return answers[0] is not None


def test_processes_exclude_each_other(folder):
    path = folder / "count"
    path.write_text("0")
    processes = [start(COUNT, path, 200) for _ in range(2)]
    assert [process.wait(120) for process in processes] == [0, 0]
    assert path.read_text() == "400"


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


def test_without_a_lock_the_work_is_done_all_the_same(monkeypatch, folder):
    done = []
    monkeypatch.setattr(tempfile, "tempdir", str(folder / "missing"))
    with machine(exclusive=True), released(), machine(exclusive=False):
        done.append("no folder")
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setattr(exclusive, "fcntl", None)
    with machine(exclusive=True), released(), machine(exclusive=False):
        done.append("no flock")
    assert done == ["no folder", "no flock"]
    assert not any(folder.iterdir())


def test_it_goes_without_when_another_holds_the_machine_for_too_long(monkeypatch):
    process = start("import sys, time\n" + WAIT + "    sys.stdin.read()\n", "alone")
    assert [process.stdout.readline(), process.stdout.readline()] == ["waits\n", "has it\n"]
    monkeypatch.setattr(exclusive, "PATIENCE_S", 0.0)
    with machine(exclusive=True):
        assert exclusive._held.file is None
    process.kill()
    process.wait(60)


def test_a_link_to_elsewhere_is_not_followed(folder):
    target = folder / "elsewhere"
    (folder / "paretoscope-machine.lock").symlink_to(target)
    with machine(exclusive=True):
        assert exclusive._held.file is None
    assert not target.exists()
