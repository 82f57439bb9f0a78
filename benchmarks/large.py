"""A large model: torchvision's resnet18 (11.7 M weights), random heavy-tailed values.

    python -m benchmarks.large

Sparsity 0.8, 32 clusters, 8 bits and the exact encoded size, after the one-time statistics; against the same pruning
with torch.nn.utils.prune and the same clustering, layer by layer, with scikit-learn's KMeans. Peak memory is the growth
of the process's resident set over what it held before the model was made, in a process of its own (Linux).
"""

import argparse
import math
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from paretoscope import codec
from paretoscope.base.torchvision_import import import_torchvision
from paretoscope.measure.wording import smaller
from paretoscope.methods.pipeline import compress
from paretoscope.model import weights
from paretoscope.model.statistics import ModelStatistics
from paretoscope.recipe.recipe import Recipe

from benchmarks.measured import Table, columns, keep, parser

RECIPE = Recipe.of(sparsity=0.8, clusters=32, bits=8)


def heavy_tailed_resnet18(seed: int = 0) -> torch.nn.Module:
    """Student-t weights with 3 degrees of freedom, scaled per layer as He's initialisation is."""
    import_torchvision()
    from torchvision.models import resnet18

    rng = np.random.default_rng(seed)
    model = resnet18(weights=None).eval()
    state = model.state_dict()
    for name in sorted(weights.names(model)):
        shape = tuple(state[name].shape)
        scale = math.sqrt(2 / math.prod(shape[1:]))
        state[name].copy_(torch.from_numpy((scale * rng.standard_t(3, shape)).astype(np.float32)))
    return model


def ours(statistics: ModelStatistics) -> int:
    return len(codec.write(compress(statistics, RECIPE)))


def theirs(model: torch.nn.Module) -> float:
    """Seconds for global magnitude pruning and k-means of the survivors with the field's usual tools."""
    from sklearn.cluster import KMeans
    from torch.nn.utils import prune

    start = time.perf_counter()
    layers = [m for m in model.modules() if isinstance(m, (torch.nn.Conv2d, torch.nn.Linear))]
    prune.global_unstructured([(m, "weight") for m in layers], prune.L1Unstructured, amount=RECIPE.prune.sparsity)
    for layer in layers:
        weight = layer.weight.detach().numpy()
        kept = weight[weight != 0].reshape(-1, 1)
        fit = KMeans(min(RECIPE.share.clusters, len(kept)), n_init=1, random_state=0).fit(kept)
        weight[weight != 0] = fit.cluster_centers_[fit.labels_, 0]
    return time.perf_counter() - start


def peak_memory() -> None:
    """Print weights in bytes, and growth of the peak resident set in bytes; for a process of its own."""
    ours(ModelStatistics.of(torch.nn.Sequential(torch.nn.Linear(64, 64)), "warm-up"))
    import_torchvision()
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak of the imports
    before = _resident("VmRSS")
    model = heavy_tailed_resnet18()
    statistics = ModelStatistics.of(model, "resnet18")
    ours(statistics)
    print(sum(layer.weight.nbytes for layer in statistics.layers.values()), _resident("VmHWM") - before)


def _resident(field: str) -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return 1024 * int(line.split()[1])


def main() -> None:
    asked = parser(__doc__)
    asked.add_argument("--memory", action="store_true", help=argparse.SUPPRESS)
    asked.add_argument("--rounds", type=int, default=7)
    arguments = asked.parse_args()
    if arguments.memory:
        peak_memory()
        return
    model = heavy_tailed_resnet18()
    start = time.perf_counter()
    statistics = ModelStatistics.of(model, "resnet18")
    once = time.perf_counter() - start
    size = ours(statistics)
    seconds = []
    for _ in range(arguments.rounds):
        start = time.perf_counter()
        ours(statistics)
        seconds.append(time.perf_counter() - start)
    other = theirs(model)
    command = [sys.executable, "-m", "benchmarks.large", "--memory"]
    weights, growth = map(int, subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())
    ours_s = float(np.median(seconds))
    ratio, times = other / ours_s, growth / weights
    title = f"resnet18, {weights // 4:,} weights, {RECIPE.describe()}: {size:,} bytes, {smaller(weights / size)}"
    table = Table(columns("", "measured", "bound"), title)
    table.add("statistics, once", f"{once:.2f} s", "")
    table.add("ours, with the exact size", f"{ours_s:.2f} s", f"<= 1 s: {'holds' if ours_s <= 1 else 'MISSED'}")
    table.add("`torch.nn.utils.prune` and scikit-learn's KMeans, without a size", f"{other:.1f} s", "")
    table.add("they / ours", f"{ratio:.0f}", f">= 50: {'holds' if ratio >= 50 else 'MISSED'}")
    table.add("peak memory / fp32 weights", f"{times:.1f}", f"<= 6: {'holds' if times <= 6 else 'MISSED'}")
    keep("large", [table], arguments)


if __name__ == "__main__":
    main()
