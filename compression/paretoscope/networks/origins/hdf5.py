"""HDF5 files of anybody, looked through in a process of its own before anything here reads them.

The HDF5 library follows what a file says of its own parts: some damaged ones keep it busy for ever, within one call
that nothing can interrupt. A process can be ended. What it has read whole, the library reads again as well.
"""

import io
import json
import os
import signal
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

from paretoscope.base.errors import ModelError
from paretoscope.base.text import reason, shown
from paretoscope.networks.origins.origin import package

# Most bytes of a configuration and of all weights; chosen by hand.
MOST_CONFIG, MOST_BYTES = 1 << 26, 1 << 33
# Processor seconds that the look may take, beside one for so many bytes, and how many times as long others may hold it
# up; whole files take a tenth of that. Chosen by hand, no benchmark.
LOOK_S, BYTES_A_S, HELD_UP = 3.0, 32 << 20, 6
# The attribute of an `.h5` file that holds the configuration of its network.
CONFIG = "model_config"


def looked_through(path: Path, member: str = "") -> str | None:
    """The configuration in an HDF5 file, None without one, once all that it holds was read.

    member: its name within a zip archive; "" where the path is that of the file itself. Raises ModelError for links out
    of the file, data elsewhere, arrays that are larger than what is stored, and what cannot be read, or is never done.
    """
    package("h5py", "a file of Keras")
    seconds = LOOK_S + path.stat().st_size / BYTES_A_S
    command = [sys.executable, "-m", __name__, str(path.resolve()), member, str(int(seconds))]
    # What can be imported here can be there.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    try:
        done = subprocess.run(command, capture_output=True, timeout=HELD_UP * seconds, env=environment, check=False)
        found = json.loads(done.stdout) if done.returncode == 0 else {}
        why = "reading it comes to no end" if done.returncode == -_signal() else "the HDF5 library fails on it"
    except subprocess.TimeoutExpired:
        found, why = {}, "reading it comes to no end"
    if "refused" in found:
        raise ModelError(f"{path.name} must {found['refused']}")
    if "config" not in found:
        raise ModelError(f"{path.name} must be a whole file of Keras; {found.get('damaged', why)}. Save it again.")
    config: str | None = found["config"]
    return config


def _signal() -> int:
    """What ends a process that has used up its seconds; 0 where nothing does."""
    return getattr(signal, "SIGXCPU", 0)


def look(file: Any) -> str | None:
    """Read all of an open HDF5 file; its configuration. Raises ModelError that says what it must do instead."""
    h5py = package("h5py", "a file of Keras")
    total, groups = 0, [file]
    while groups:
        group = groups.pop()
        _read_attributes(group)
        for name in group:
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise ModelError(f"hold its weights itself; {shown(name)} is a link")
            each = group[name]
            if isinstance(each, h5py.Group):
                groups.append(each)
                continue
            if each.is_virtual or each.external:
                raise ModelError(f"hold its weights itself; {shown(name)} lies in another file")
            if each.nbytes > max(1 << 20, 1000 * each.id.get_storage_size()):
                raise ModelError(f"hold what it declares; {shown(name)} declares {each.nbytes:,} bytes")
            total += each.nbytes
            if total > MOST_BYTES:
                raise ModelError(f"have at most {MOST_BYTES >> 30} GiB of weights; it has {total:,} bytes")
            _read_attributes(each)
            each[()]
    config = file.attrs.get(CONFIG)
    if config is not None and len(config) > MOST_CONFIG:
        raise ModelError(f"have a configuration of at most {MOST_CONFIG >> 20} MB; it has {len(config):,} bytes")
    return config.decode() if isinstance(config, bytes) else config


def _read_attributes(each: Any) -> None:
    for name in each.attrs:
        each.attrs[name]


def _bounded(seconds: int) -> None:
    """End this process after so many seconds of a processor, where the system can do that."""
    try:
        import resource
    except ImportError:  # not on Windows, where the parent's patience ends it
        return
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))


def main() -> None:
    """Look through the file that the command line names; what comes of it is printed as JSON."""
    path, member, seconds = sys.argv[1:]
    _bounded(int(seconds))
    h5py = package("h5py", "a file of Keras")
    try:
        if member:
            with zipfile.ZipFile(path) as archive:
                source: Any = io.BytesIO(archive.read(member))
        else:
            source = path
        with h5py.File(source, "r") as file:
            told = {"config": look(file)}
    except ModelError as error:
        told = {"refused": f"{error}. Export the network by torch.export or ONNX where it runs, and add that file."}
    except Exception as error:  # of damaged archives and HDF5 files; they have no common base
        told = {"damaged": reason(error, 200)}
    print(json.dumps(told))


if __name__ == "__main__":
    main()
