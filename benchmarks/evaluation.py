"""Evaluation of networks of users: the first figure, a sample's, the exact one; ONNX Runtime against PyTorch.

    python -m benchmarks.evaluation [MODEL ...]

Networks of torchvision with random weights, imported as a user's, on 64 drawn samples of 3 x 224 x 224. Seconds of a
recipe of 8 bits after the network was opened, compression and its file included; the sample is that of a slider's move,
at most about 3 s by the baseline's speed. Both engines run the first chunk; the exact figure is taken by the one that
the table names, and the session that ONNX Runtime needs counts for it.
"""

import time

import torch
from paretoscope.base.torchvision_import import import_torchvision
from paretoscope.graph.programs import import_module
from paretoscope.measure.engine import Speeds, engine_for
from paretoscope.measure.subject import Subject
from paretoscope.networks.imported import network_of
from paretoscope.recipe.recipe import Recipe
from paretoscope.service import subjects

from benchmarks.measured import Table, columns, keep, parser

NAMES = ("resnet18", "mobilenet_v3_small")
RECIPE = Recipe.of(bits=8)


def opened(name: str) -> Subject:
    """A network of torchvision with drawn samples."""
    import_torchvision()
    import torchvision

    torch.manual_seed(0)
    found = import_module(getattr(torchvision.models, name)(weights=None).eval(), torch.zeros(2, 3, 224, 224))
    return subjects.open_subject(network_of(name, found.graph, lambda: found.state))


def row(name: str) -> tuple[str, ...]:
    """Seconds and engines of a network."""
    subject = opened(name)
    judged, times = subject.judged, []
    began = time.perf_counter()
    for evaluation in subject.evaluate(RECIPE, samples=judged.quick):
        times.append((evaluation.record.figures.n, time.perf_counter() - began))
    began = time.perf_counter()
    *_, exact = subject.evaluate(RECIPE)
    whole = time.perf_counter() - began
    speeds = Speeds()
    engine_for(subject.model, subject.network.inputs, next(judged.chunks()), speeds)
    ratio = "refused" if speeds.refused else f"{speeds.torch_s / speeds.onnx_s:.2f}"
    first, sample = (f"{seconds:.1f} ({n})" for n, seconds in (times[0], times[-1]))
    return name, first, sample, f"{whole:.1f} ({len(judged)})", exact.record.engine, ratio


def main() -> None:
    """Measure, print and keep."""
    options = parser(__doc__)
    options.add_argument("models", nargs="*", default=NAMES, metavar="MODEL")
    arguments = options.parse_args()
    table = Table(columns("network", "first, s", "sample, s", "exact, s", "engine", "ONNX Runtime, times as fast"))
    for name in arguments.models:
        table.add(*row(name))
    keep("evaluation", [table], arguments)


if __name__ == "__main__":
    main()
