"""Our medians against what the runtimes say of themselves: ONNX Runtime's profile, OpenVINO's benchmark tool.

    python -m benchmarks.latency_check [--model NAME ...] [--seconds S]

Every model in fp32 and int8, batch 1, one thread. ONNX Runtime: a session that profiles itself is timed by us, and the
median of its "model_run" events is theirs. OpenVINO: rounds of our calls and of its `benchmark_app` on the same file,
in turn; its median latency, which it takes inside of the library, is theirs. A call from Python adds some microseconds
that neither counts: as many as a network that only flattens its images shows. Bound: within 10 %, for ours as it is or
less that call.
"""

import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
from paretoscope.base.libraries import onnxruntime
from paretoscope.base.lock import machine
from paretoscope.networks import zoo
from paretoscope.recipe.recipe import Recipe
from paretoscope.runtimes import Program
from paretoscope.runtimes import Runnable as Network
from paretoscope.runtimes.onnx_profile import events
from paretoscope.runtimes.onnx_runtime import ONNX_RUNTIME, bound_call, options_of
from paretoscope.runtimes.openvino import OPENVINO, SETTINGS, OpenVinoSession
from paretoscope.runtimes.profiles import WARM_UP_RUNS
from paretoscope.service import subjects
from torch import nn

from benchmarks.measured import Table, columns, keep, parser

BOUND = 0.10
ROUNDS = 5
MOST_CALLS = 5000
RECIPES = {"fp32": Recipe(), "int8": Recipe.of(bits=8, activations=8)}
Pair = tuple[float, float]


def main() -> None:
    asked = parser(__doc__)
    asked.add_argument("--model", nargs="+", default=zoo.models_of("digits"))
    asked.add_argument("--seconds", type=int, default=1, help="of measuring, a side and a round")
    options = asked.parse_args()
    checks: dict[str, Callable[[Program, np.ndarray, int], Pair]] = {ONNX_RUNTIME.name: onnx_runtime}
    if OPENVINO.missing:
        print(f"OpenVINO is left out: install {OPENVINO.missing}", file=sys.stderr)
    else:
        checks[OPENVINO.name] = openvino
    missed = 0
    us, ratios = "{:.1f}", "{:.3f}"
    table = Table(
        columns(
            "model",
            "format",
            "runtime",
            ("theirs, us", us),
            ("ours, us", us),
            ("ratio", ratios),
            ("less the call", ratios),
            "bound",
        )
    )
    for name in options.model:
        subject = subjects.load(name)
        images = subject.data.test_images[:1].numpy()
        for number_format, recipe in RECIPES.items():
            compressed = subject.compress(recipe)
            for runtime, check in checks.items():
                theirs, ours = check(subject.program(compressed, runtime), images, options.seconds)
                inside, outside = check(_nothing(runtime, images.shape[1:]), images, options.seconds)
                ratio, less = ours / theirs, (ours - max(0.0, outside - inside)) / theirs
                holds = min(abs(ratio - 1), abs(less - 1)) <= BOUND
                missed += not holds
                verdict = "holds" if holds else "MISSED"
                table.add(name, number_format, runtime, 1e6 * theirs, 1e6 * ours, ratio, less, verdict)
    keep("latency_check", [table], options)
    sys.exit(missed > 0)


def onnx_runtime(program: Program, images: np.ndarray, seconds: int) -> Pair:
    """Medians of the profile's events and of our timing of the same calls, in seconds."""
    taken: list[float] = []

    def use(session: onnxruntime.InferenceSession) -> None:
        taken.extend(_timed(bound_call(session, images), seconds))

    with machine(exclusive=True):
        noted = events(program.content, options_of(program, 1), use)
    return 1e-6 * median(event["dur"] for event in noted if event["name"] == "model_run"), median(taken)


def openvino(program: Program, images: np.ndarray, seconds: int) -> Pair:
    """Medians over rounds of the tool's median latency and of ours, in seconds."""
    theirs, ours = [], []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(program.content)
        for _ in range(ROUNDS):
            with machine(exclusive=True):
                theirs.append(_benchmark_app(path, images, seconds))
                call = OpenVinoSession(program, 1).bind(images)
                for _ in range(WARM_UP_RUNS):
                    call()
                ours.append(median(_timed(call, seconds)))
    return median(theirs), median(ours)


def _timed(call: Callable[[], object], seconds: int) -> list[float]:
    """Seconds of single calls, of no more than a profile can hold."""
    taken, end = [], time.perf_counter() + seconds
    while (start := time.perf_counter()) < end and len(taken) < MOST_CALLS:
        call()
        taken.append(time.perf_counter() - start)
    return taken


def _benchmark_app(path: Path, images: np.ndarray, seconds: int) -> float:
    np.save(path.with_name("images.npy"), images)
    shape = ",".join(map(str, images.shape))
    program = "from paretoscope.runtimes import libraries; libraries.silence_openvino()\n"
    program += "from openvino.tools.benchmark.main import main; main()"
    command = [sys.executable, "-c", program, "-m", str(path)]
    command += ["-d", "CPU", "-hint", "none", "-api", "sync", "-nstreams", "1", "-nthreads", "1", "-t", f"{seconds}"]
    command += ["-infer_precision", SETTINGS["INFERENCE_PRECISION_HINT"], "-shape", f"[{shape}]", "-inference_only"]
    # Its own choice for what looks like an image would be bytes.
    command += ["-ip", "f32"]
    command += ["-i", str(path.with_name("images.npy"))]
    done = subprocess.run(command, capture_output=True, text=True)
    found = re.search(r"Median:\s+([\d.]+)\s+(ms|us)", done.stdout)
    if done.returncode or found is None:
        sys.exit(f"benchmark_app failed: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return float(found[1]) * (1e-3 if found[2] == "ms" else 1e-6)


def _nothing(runtime: str, shape: tuple[int, int, int]) -> Program:
    """A network of one node, which computes nothing."""
    entry = ONNX_RUNTIME if runtime == ONNX_RUNTIME.name else OPENVINO
    return entry.build(Network(nn.Flatten().eval(), shape))


if __name__ == "__main__":
    main()
