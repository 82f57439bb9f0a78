"""Peak memory of a session, measured in a process of its own: `python -m paretoscope.service.memory`.

What is measured is what one session adds to a process that has run another before, so that neither the library nor
what it keeps for itself counts: the highest resident set while it is loaded and run, less the resident set before.
The kernel tells both and takes the peak back (proc(5): VmHWM, VmRSS, clear_refs); where it does not, the growth of the
process's peak (getrusage(2)) is all there is, which is less by whatever building the program had needed.
"""

import copy
import ctypes
import gc
import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from paretoscope.base.errors import CompressionError
from paretoscope.base.lock import machine
from paretoscope.base.places import SOURCES
from paretoscope.measure.latency import repeated
from paretoscope.recipe.recipe import Recipe
from paretoscope.runtimes import Program, Runtime, runtimes
from paretoscope.runtimes.onnx_graph import Arrays
from paretoscope.service import subjects

# Runs whose peak is taken, and seconds that a process may take for them. Chosen by hand; no benchmark.
RUNS = 3
PATIENCE_S = 600.0
_PROC = Path("/proc/self")


def session_memory(
    model: str,
    recipe: Recipe,
    runtime: str,
    batch: int = 1,
    threads: int = 1,
    size: int | None = None,
    number_format: str | None = None,
) -> int:
    """Peak bytes of a session of a model under a recipe, with its program, weights and activations.

    The arguments are those of `Subject.time`. Takes a few seconds; raises CompressionError with what went wrong.
    """
    asked = {
        "model": model,
        "recipe": recipe.to_dict(),
        "runtime": runtime,
        "batch": batch,
        "threads": threads,
        "size": size,
        "number_format": number_format,
    }
    path = os.pathsep.join(filter(None, (str(SOURCES), os.environ.get("PYTHONPATH"))))
    try:
        done = subprocess.run(
            [sys.executable, "-m", "paretoscope.service.memory"],
            input=json.dumps(asked),
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            env={**os.environ, "PYTHONPATH": path},
        )
        answer = json.loads(done.stdout.splitlines()[-1])
    except subprocess.TimeoutExpired:
        raise CompressionError(
            f"the memory of a session must be measured within {PATIENCE_S:.0f} s; it took longer. Choose a smaller "
            "batch, or another runtime."
        ) from None
    except (IndexError, ValueError):
        # Killed for want of memory, most likely: nothing was answered.
        last = (done.stderr.strip() or f"exit status {done.returncode}").splitlines()[-1]
        raise CompressionError(
            f"the process that measures memory must answer; it ended with: {last}. Choose a smaller batch."
        ) from None
    if "error" in answer:
        raise CompressionError(answer["error"])
    return int(answer["bytes"])


def measured(runtime: Runtime, program: Program, samples: Arrays, threads: int) -> int:
    """Peak bytes of a session of a program in this process, on a batch of samples; a first session is run before."""
    _use(runtime, program, samples, threads)
    _settle()
    peak = _peak_since()
    # A file is read and let go; any other content is what the session holds, so a copy of its own counts.
    if not isinstance(program.content, bytes):
        program = replace(program, content=copy.deepcopy(program.content))
    _use(runtime, program, samples, threads)
    return peak()


def _use(runtime: Runtime, program: Program, samples: Arrays, threads: int) -> None:
    with closing(runtime.prepare(program, threads)) as session:
        call = session.bind(samples)
        for _ in range(RUNS):
            call()


def _settle() -> None:
    """Give back what is free, so that the session must ask for its own."""
    gc.collect()
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _peak_since() -> Callable[[], int]:
    """A function that tells by how many bytes memory has grown since now, at its highest."""
    try:
        (_PROC / "clear_refs").write_text("5")
        before = _status("VmRSS")
        return lambda: max(0, _status("VmHWM") - before)
    except (OSError, KeyError):
        try:
            import resource
        except ImportError:
            raise CompressionError(
                f"memory is measured where the system tells a process its peak; {sys.platform} does not. "
                "Use Linux or macOS."
            ) from None

        unit = 1 if sys.platform == "darwin" else 1024

        def largest() -> int:
            return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

        before = largest()
        return lambda: largest() - before


def _status(name: str) -> int:
    lines = (_PROC / "status").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    return 1024 * int(fields[name].split()[0])


def _answer(asked: dict[str, Any]) -> dict[str, int | str]:
    try:
        subject = subjects.load(asked["model"])
        compressed = subject.compress(Recipe.from_dict(asked["recipe"]))
        kind = {"size": asked["size"], "number_format": asked["number_format"]}
        program = subject.program(compressed, asked["runtime"], **kind)
        samples = repeated(subject.resized(asked["size"]), asked["batch"])
        del subject, compressed
        with machine(exclusive=False):
            return {"bytes": measured(runtimes.get(asked["runtime"]), program, samples, asked["threads"])}
    except CompressionError as error:
        return {"error": str(error)}


if __name__ == "__main__":
    print(json.dumps(_answer(json.load(sys.stdin))))
