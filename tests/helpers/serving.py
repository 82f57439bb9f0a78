"""Dashboards as processes of their own."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@contextmanager
def reserved_port() -> Iterator[int]:
    """A port of 127.0.0.1 that the system gives to nobody else meanwhile, but that a server can listen on.

    The socket is bound for as long as the context lasts. As it does not listen, another may be bound beside it by who
    knows the port and says SO_REUSEADDR, as servers do.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", 0))
        yield probe.getsockname()[1]


def serve(port: int, folder: Path, **environment: str) -> Iterator[str]:
    """The address of this checkout's dashboard on this port, until it is asked to go on; its store is in the folder.

    environment: variables beside this process's own.
    """
    command = [sys.executable, "-m", "streamlit", "run", "app.py", "--server.port", str(port)]
    command += ["--server.fileWatcherType", "none", "--server.address", "127.0.0.1"]
    yield from serve_by(command, port, folder, cwd=ROOT, environment={**os.environ, **environment})


def serve_by(
    command: list[str],
    port: int,
    folder: Path,
    *,
    cwd: Path,
    environment: Mapping[str, str],
    end: signal.Signals = signal.SIGTERM,
) -> Iterator[str]:
    """The address of the dashboard that this command starts, until it is asked to go on; its store is in the folder.

    end: what the process is sent then. After SIGTERM it ends once the jobs that run have noticed, which may take long.
    """
    environment = {**environment, "PARETOSCOPE_STORE": str(folder / "records.sqlite")}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=cwd, env=environment, stdout=log, stderr=subprocess.STDOUT)
    try:
        _await(f"http://127.0.0.1:{port}/_stcore/health", process, folder / "log")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.send_signal(end)
        process.wait(120)


def _await(address: str, process: subprocess.Popen, log: Path, seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(address, timeout=1):
                return
        except OSError:
            time.sleep(0.2)
    pytest.fail(f"the dashboard did not start within {seconds:.0f} s:\n{log.read_text()}")
