"""Networks of users' size: torchvision's ResNet-50 and ViT-B/16 at 224 x 224, random weights.

    python -m benchmarks.large_networks

Each is imported as a user's network is, by its graph. Opened: its tensors put into the module and their statistics,
once. Then recipes, each with its exact file, the median of some rounds. Peak memory is the growth of the process's
resident set over what it held before the network was opened, until its statistics and the first recipe's file are
there, in a process of its own (Linux); the tensors that were read from the user's file count while they are there.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from paretoscope import codec
from paretoscope.base.torchvision_import import import_torchvision
from paretoscope.graph.importer import Imported
from paretoscope.graph.programs import import_module
from paretoscope.measure.wording import smaller
from paretoscope.methods.pipeline import compress
from paretoscope.model import weights
from paretoscope.model.statistics import ModelStatistics
from paretoscope.recipe.recipe import Recipe

from benchmarks.large import _resident
from benchmarks.measured import Table, columns, keep, parser

NAMES = ("resnet50", "vit_b_16")
RECIPES = (
    Recipe.of(bits=8),
    Recipe.of(sparsity=0.8, clusters=32, bits=8),
    Recipe.of(bits=4, granularity="channel", calibration="mse"),
)
# Bounds: seconds to open, seconds for a recipe with its file, memory in sizes of the weights.
OPEN_S, RECIPE_S, MEMORY = 20.0, 3.0, 6.0


def imported(name: str, seed: int = 0) -> Imported:
    """The graph and tensors of a network of torchvision with Student-t weights, scaled as He's initialisation is."""
    import_torchvision()
    import torchvision

    rng = np.random.default_rng(seed)
    model = getattr(torchvision.models, name)(weights=None).eval()
    found = import_module(model, torch.zeros(2, 3, 224, 224))
    module = found.module()
    state = dict(module.named_parameters())
    with torch.no_grad():
        for each in sorted(weights.names(module)):
            shape = tuple(state[each].shape)
            scale = np.float32(np.sqrt(2 / np.prod(shape[1:])))
            found.state[each].copy_(torch.from_numpy(rng.standard_t(3, shape).astype(np.float32) * scale))
    return found


def peak_memory(name: str) -> None:
    """Print the bytes of the weights and the growth of the peak resident set; for a process of its own."""
    codec.write(compress(ModelStatistics.of(torch.nn.Linear(64, 64), "warm-up"), RECIPES[0]))
    import_torchvision()
    found = imported(name)
    held = sum(tensor.nbytes for tensor in found.state.values())
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak of making it
    before = _resident("VmRSS") - held
    module = found.module()
    del found
    statistics = ModelStatistics.of(module, name)
    codec.write(compress(statistics, RECIPES[0]))
    print(sum(layer.weight.nbytes for layer in statistics.layers.values()), _resident("VmHWM") - before)


def measure(name: str, table: Table, rounds: int) -> None:
    found = imported(name)
    start = time.perf_counter()
    statistics = ModelStatistics.of(found.module(), name)
    once = time.perf_counter() - start
    values = sum(layer.weight.size for layer in statistics.layers.values())
    table.add(f"{name}, {values:,} weights", "opened, with its statistics, once", f"{once:.1f} s", told(once, OPEN_S))
    for recipe in RECIPES:
        spent, size = [], 0
        for _ in range(rounds):
            start = time.perf_counter()
            size = len(codec.write(compress(statistics, recipe)))
            spent.append(time.perf_counter() - start)
        what = f"{recipe.describe()}: {size:,} bytes, {smaller(4 * values / size)}"
        table.add(name, what, f"{np.median(spent):.2f} s", told(float(np.median(spent)), RECIPE_S))
    command = [sys.executable, "-m", "benchmarks.large_networks", "--memory", name]
    held, growth = map(int, subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())
    table.add(name, "peak memory / fp32 weights", f"{growth / held:.1f}", told(growth / held, MEMORY))


def main() -> None:
    asked = parser(__doc__)
    asked.add_argument("--memory", help=argparse.SUPPRESS)
    asked.add_argument("--rounds", type=int, default=3)
    arguments = asked.parse_args()
    if arguments.memory:
        peak_memory(arguments.memory)
        return
    table = Table(columns("network", "", "measured", "bound"))
    for name in NAMES:
        measure(name, table, arguments.rounds)
    keep("large_networks", [table], arguments)


def told(found: float, most: float) -> str:
    return f"<= {most:g}: {'holds' if found <= most else 'MISSED'}"


if __name__ == "__main__":
    main()
