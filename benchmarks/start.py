"""What the command line takes before it has said anything, beside an import of torch.

    python -m benchmarks.start [--rounds N]

CPU seconds of each command, median over rounds; a round runs all of them in turn, each in a process of its own, so
that a busy machine slows all alike. The first round is not counted: it compiles what is compiled once. Ratios are of
the commands in one round, to an import of torch there. Bounds: half a second for a name that is no model's, twice an
import of torch for an evaluation without timing.
"""

import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.measured import Table, columns, keep, parser

TORCH, UNKNOWN, EVALUATION = "import torch", "evaluate no-such-model", "evaluate simple-cnn --runtime none"
MOST_S, MOST_OF_TORCH = 0.5, 2.0
COMMANDS = {
    TORCH: ["-c", TORCH],
    **{
        command: ["-m", "paretoscope", *command.split()]
        for command in (
            "--help",
            "recipe --preset tiny",
            UNKNOWN,
            "presets simple-cnn",
            EVALUATION,
        )
    },
}


def main() -> None:
    asked = parser(__doc__)
    asked.add_argument("--rounds", type=int, default=9)
    options = asked.parse_args()
    found: dict[str, list[float]] = {command: [] for command in COMMANDS}
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"PARETOSCOPE_STORE": str(Path(folder) / "records.sqlite")}
        # As it is for everyone: modules are compiled once, not by every start.
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        for turn in range(options.rounds + 1):
            for command, arguments in COMMANDS.items():
                seconds = cpu_seconds(arguments, environment)
                if turn:
                    found[command].append(seconds)
    seconds = "{:.2f} s ({:.2f} to {:.2f})"
    table = Table(
        columns("command", ("CPU time, lowest to highest", seconds), ("ratio to import torch", "{:.2f}"), "bound")
    )
    for command, taken in found.items():
        middle = statistics.median(taken)
        ratio = statistics.median(each / torch for each, torch in zip(taken, found[TORCH], strict=True))
        bound = {
            UNKNOWN: f"<= {MOST_S:g} s: {'holds' if middle <= MOST_S else 'MISSED'}",
            EVALUATION: f"<= {MOST_OF_TORCH:g} times: {'holds' if ratio <= MOST_OF_TORCH else 'MISSED'}",
        }
        table.add(f"`{command}`", (middle, min(taken), max(taken)), ratio, bound.get(command, ""))
    keep("start", [table], options)


def cpu_seconds(arguments: list[str], environment: dict[str, str]) -> float:
    """User and system seconds of one Python process with these arguments, and of those that it started."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if "Traceback" in done.stderr:
        raise SystemExit(done.stderr)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()
