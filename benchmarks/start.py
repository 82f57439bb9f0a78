"""What the command line takes before it has said anything, beside an import of torch.

    python -m benchmarks.start [--rounds N]

CPU seconds of each command, median over rounds; a round runs all of them in turn, each in a process of its own, so
that a busy machine slows all alike. The first round is not counted: it compiles what is compiled once. Bounds: half a
second for a name that is no model's, twice an import of torch for an evaluation without timing.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

TORCH = "import torch"
COMMANDS = {
    TORCH: ["-c", TORCH],
    **{
        command: ["-m", "paretoscope", *command.split()]
        for command in (
            "--help",
            "recipe --preset tiny",
            "evaluate no-such-model",
            "presets simple-cnn",
            "evaluate simple-cnn --runtime none",
        )
    },
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    found: dict[str, list[float]] = {command: [] for command in COMMANDS}
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"PARETOSCOPE_STORE": str(Path(folder) / "records.sqlite")}
        # As it is for everyone: modules are compiled once, not by every start.
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        for turn in range(rounds + 1):
            for command, arguments in COMMANDS.items():
                seconds = cpu_seconds(arguments, environment)
                if turn:
                    found[command].append(seconds)
    torch = statistics.median(found[TORCH])
    print(f"{'command':<40}{'CPU s':>8}{'of torch':>10}   (lowest to highest), {rounds} rounds")
    for command, seconds in found.items():
        middle = statistics.median(seconds)
        print(f"{command:<40}{middle:>8.2f}{middle / torch:>10.2f}   ({min(seconds):.2f} to {max(seconds):.2f})")


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
