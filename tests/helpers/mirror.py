"""A small set in MNIST's format, and a mirror of it on this machine: `import mirror; mirror.write(folder)`."""

import gzip
import hashlib
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np

TRAIN, TEST = 300, 40


def scans(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Images, uint8 (n, 28, 28), and labels, uint8 (n,); their noise cannot be packed."""
    draw = np.random.default_rng(seed)
    return draw.integers(0, 256, (n, 28, 28), np.uint8), draw.integers(0, 10, n).astype(np.uint8)


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def files() -> dict[str, bytes]:
    """Contents by name, in the order of torchvision's downloads."""
    return {
        f"{part}-{kind}-ubyte": idx(array)
        for part, n, seed in (("train", TRAIN, 0), ("t10k", TEST, 1))
        for kind, array in zip(("images-idx3", "labels-idx1"), scans(n, seed), strict=True)
    }


def write(folder: Path) -> None:
    for name, content in files().items():
        (folder / name).write_bytes(content)


class Mirror:
    """The files, packed, over HTTP.

    asked: paths of all requests. gates: by name, an event that must be set before the second half of a file is sent.
    fault: by name, what happens instead of the second half: "short", "reset", "silent" (until `close`), or instead of
    all: "other" (other content), "missing" (404), "dropped" (no answer).
    """

    def __init__(self) -> None:
        self.packed = {f"{name}.gz": gzip.compress(content, mtime=0) for name, content in files().items()}
        self.resources = [(name, hashlib.md5(content).hexdigest()) for name, content in self.packed.items()]
        self.total = sum(map(len, self.packed.values()))
        self.asked: list[str] = []
        self.gates: dict[str, threading.Event] = {}
        self.faults: dict[str, str] = {}
        self._closing = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self._server.server_port}/"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._closing.set()
        for gate in self.gates.values():
            gate.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _handler(mirror) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *args) -> None:
                pass

            def do_HEAD(self) -> None:
                mirror.asked.append(self.path)
                self.send_error(403)

            def do_GET(self) -> None:
                mirror.asked.append(self.path)
                # Torchvision looks at the headers of each file and hangs up before it asks again.
                with suppress(ConnectionError):
                    mirror._serve(self, self.path.lstrip("/"))

        return Handler

    def _serve(self, handler: BaseHTTPRequestHandler, name: str) -> None:
        fault, content = self.faults.get(name), self.packed[name]
        if fault == "dropped":
            return
        if fault == "missing":
            handler.send_error(404)
            return
        if fault == "other":
            content = bytes(len(content))
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        half = len(content) // 2
        handler.wfile.write(content[:half])
        if fault == "silent":
            self._closing.wait()
        elif fault == "reset":
            handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            handler.connection.close()
        elif fault != "short":
            if name in self.gates:
                self.gates[name].wait()
            handler.wfile.write(content[half:])


@contextmanager
def serving(monkeypatch) -> Iterator[Mirror]:
    """A mirror that torchvision's MNIST is downloaded from."""
    from paretoscope.base.torchvision_import import import_torchvision
    from paretoscope.data import mnist

    import_torchvision()
    from torchvision.datasets import MNIST

    mirror = Mirror()
    monkeypatch.setattr(MNIST, "mirrors", [mirror.address])
    monkeypatch.setattr(MNIST, "resources", mirror.resources)
    monkeypatch.setattr(mnist, "PACKED_BYTES", mirror.total)
    try:
        yield mirror
    finally:
        mirror.close()
