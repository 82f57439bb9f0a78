"""Ours against NNCodec 2.1.3 (ISO/IEC 15938-17) at equal harm, and the speed of the context coder.

    python -m benchmarks.coding [MODEL ...] [--python PATH] [--figure FILE.svg]

Harm is the mean KL divergence of the softmax outputs from the baseline's over the test split; both sides are bytes on
disk, everything included. NNCodec runs in an environment of its own, made on the first run in the user's cache folder
(--python names another one's interpreter), with dependent quantization and optimised parameters; the best of four ways
is taken at each harm: with and without its QP optimisation, on the network as it is and with batch norm folded.
Ours: batch normalisation folded, with calibration data (Fisher, GPTQ, biases corrected) and without (magnitudes).
At each harm bytes are interpolated between measured points, both in logarithms. Bounds: 0.85 with data, 1.0 without.

Speed: one thread, all codes of the zoo through the coder alone at three qualities, and 11.7 M random heavy-tailed
weights. Bounds for "context": 3 M weights a second to encode, 5 M to decode; "smallest" may take ten times as long.
"""

import copy
import json
import os
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from paretoscope.codec.contexts import ContextDecoder, ContextEncoder
from paretoscope.data.data import CHUNK
from paretoscope.measure.subject import Subject
from paretoscope.methods import dependent
from paretoscope.model.tensors import Integers
from paretoscope.networks import zoo
from paretoscope.recipe.recipe import Recipe
from paretoscope.service import subjects

from benchmarks.measured import Table, columns, keep, parser

PACKAGES = ("nncodec==2.1.3", "numpy<2")
WORKER = Path(__file__).with_name("nncodec_worker.py")
QPS = tuple(range(-40, -13, 2))
EXCHANGES = tuple(float(f"{10 ** (place / 4):.2g}") for place in range(-26, -2))
HARMS = (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1)
LOST = (0, 0.25, 0.5)
WITH_DATA = {"rounding": "gptq", "bias": True}
WITHOUT = {"weighting": "magnitude"}
BOUNDS = {"with data": 0.85, "without": 1.0}
ENCODE, DECODE = 3e6, 5e6


@dataclass(frozen=True, slots=True)
class Point:
    """One measured file: its bytes, its harm in nats and the accuracy of what it decodes to."""

    bytes: int
    harm: float
    accuracy: float


# Curves stand under the model, then the way.
Curves = dict[str, dict[str, list[list[Point]]]]


def ours(subject: Subject, settings: Mapping[str, object], coder: str) -> list[Point]:
    points = []
    for exchange in EXCHANGES:
        recipe = Recipe.of(
            bits=12, calibration="rate", exchange=exchange, rest="rate", fold=True, coder=coder, **settings
        )
        *_, last = subject.evaluate(recipe)
        record = last.record
        points.append(Point(record.size.artefact, record.figures.harm, record.figures.accuracy))
    return points


def theirs(subject: Subject, python: Path) -> list[list[Point]]:
    """A curve for each of the four ways."""
    folded = subject.decoded(subject.compress(Recipe.of(fold=True)))
    curves = []
    for module in (subject.model, folded):
        state = {n: t.numpy() for n, t in module.state_dict().items() if t.is_floating_point()}
        for optimised in (False, True):
            settings = [{"qp": qp, "use_dq": True, "param_opt": True, "opt_qp": optimised} for qp in QPS]
            with tempfile.TemporaryDirectory() as folder:
                source, asked = Path(folder, "in.npz"), Path(folder, "settings.json")
                np.savez(source, **state)
                asked.write_text(json.dumps(settings))
                command = [str(python), str(WORKER), str(source), str(Path(folder, "out")), str(asked)]
                rows = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
                curves.append(
                    [
                        _measured(subject, module, np.load(Path(folder, f"out{place}.npz")), row["bytes"])
                        for place, row in enumerate(rows)
                    ]
                )
    return curves


def _measured(subject: Subject, module: torch.nn.Module, decoded: Mapping[str, np.ndarray], size: int) -> Point:
    module = copy.deepcopy(module)
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if name in decoded:
                tensor.copy_(torch.from_numpy(np.ascontiguousarray(decoded[name])).reshape(tensor.shape))
    found = subject.task.outputs(module, subject.data.test_images.split(CHUNK))
    harm = max(0.0, float(subject.task.divergence(subject.judged.reference(0, subject.data.test_images), found).mean()))
    return Point(size, harm, float((found.argmax(1).numpy() == subject.labels).mean()))


def bytes_at(harm: float, curves: Sequence[Sequence[Point]]) -> float:
    """The fewest bytes at which one of the curves reaches a harm; not a number where none was measured around it."""
    found = []
    for curve in curves:
        front, least = [], np.inf
        for point in sorted(curve, key=lambda point: point.bytes):
            if point.harm < least:
                front.append(point)
                least = point.harm
        x, y = np.log([max(p.harm, 1e-12) for p in front][::-1]), np.log([p.bytes for p in front][::-1])
        if len(front) > 1 and x[0] <= np.log(harm) <= x[-1]:
            found.append(float(np.exp(np.interp(np.log(harm), x, y))))
    return min(found, default=np.nan)


def environment() -> Path:
    """The interpreter of an environment that has NNCodec."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "paretoscope" / "nncodec"
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *PACKAGES], check=True)
    return python


def compare(names: Sequence[str], python: Path) -> tuple[Table, Curves]:
    """Bytes at equal harm over NNCodec's, printed as they come; and the curves."""
    ways = {
        "with data": (WITH_DATA, "context"),
        "with data, smallest": (WITH_DATA, "smallest"),
        "without": (WITHOUT, "context"),
        "without, smallest": (WITHOUT, "smallest"),
    }
    print()
    harms = [(f"{harm:g} nats", "{:.2f}") for harm in HARMS]
    table = Table(columns("model", "bytes / NNCodec's, at a harm of", *harms, "bound"))
    curves: Curves = {}
    for name in names:
        subject = subjects.load(name)
        curves[name] = {"NNCodec": theirs(subject, python)}
        reference = [bytes_at(harm, curves[name]["NNCodec"]) for harm in HARMS]
        table.add(name, "NNCodec, KB", *(f"{size / 1000:.0f}" for size in reference), "")
        for way, (settings, coder) in ways.items():
            curves[name][way] = [ours(subject, settings, coder)]
            ratios = np.array([bytes_at(harm, curves[name][way]) for harm in HARMS]) / reference
            bound = BOUNDS[way.split(",")[0]]
            verdict = "holds" if np.nanmax(ratios) <= bound else "MISSED"
            table.add(
                "", way, *(None if np.isnan(ratio) else ratio for ratio in ratios.tolist()), f"<= {bound}: {verdict}"
            )
    return table, curves


def accuracies(curves: Curves) -> Table:
    """What harm means in accuracy: the smallest file of each way that loses at most so much."""
    print()
    table = Table(columns("model", "fewest bytes at points lost of", *((f"{points:g}", "{:,}") for points in LOST)))
    for name, ways in curves.items():
        baseline = subjects.load(name).baseline.accuracy
        for way, lines in ways.items():
            least = [baseline - lost / 100 - 1e-9 for lost in LOST]
            points = [point for line in lines for point in line]
            sizes = [min((p.bytes for p in points if p.accuracy >= enough), default=None) for enough in least]
            table.add(name, way, *sizes)
    return table


def speed() -> Table:
    """Codes a second of the coder alone, on one thread."""
    torch.set_num_threads(1)
    by_rate = {"bits": 12, "calibration": "rate", "rounding": "gptq", "fold": True}
    qualities = {
        "zoo, by rate, 1e-5": Recipe.of(**by_rate, exchange=1e-5),
        "zoo, by rate, 1e-7": Recipe.of(**by_rate, exchange=1e-7),
        "zoo, 8 bits": Recipe.of(bits=8),
    }
    opened = [subjects.load(name) for name in zoo.models_of("digits")]
    sets = {
        label: [tensor for subject in opened for tensor in subject.compress(recipe).weights.values()]
        for label, recipe in qualities.items()
    }
    random = np.random.default_rng(0).standard_t(4, (2048, 5700)).astype(np.float32)
    harm = np.ones(len(random))
    sets["11.7 M, random"] = [dependent.quantize(random, None, harm, None, exchange=2e3, bits=12, per_channel=True)]
    rate = "{:.2f}"
    table = Table(
        columns(
            "codes",
            "coder",
            ("bits a weight", rate),
            ("encode, million weights a second", rate),
            ("decode", rate),
            "bound",
        )
    )
    for label, tensors in sets.items():
        for effort in ("context", "smallest"):
            table.add(label, effort, *_coded(effort, tensors))
    return table


def _coded(effort: str, tensors: Sequence[Integers]) -> tuple[float, float, float, str]:
    """Bits a weight, million weights a second to encode and to decode, and whether the bound holds."""
    codes = [(tensor.codes.reshape(*tensor.shape[:2], -1), tensor.trellis) for tensor in tensors]
    count = sum(array.size for array, _ in codes)
    times = []
    for _ in range(3):
        start = time.perf_counter()
        encoder = ContextEncoder(effort)
        for array, trellis in codes:
            encoder.add(array, trellis=trellis)
        data = encoder.finish()
        encoded = time.perf_counter()
        decoder = ContextDecoder(data, effort)
        again = [decoder.take(array.shape, trellis=trellis) for array, trellis in codes]
        decoder.close()
        times.append((encoded - start, time.perf_counter() - encoded))
    assert all(np.array_equal(array, other) for (array, _), other in zip(codes, again, strict=True))
    encode, decode = (count / min(each) for each in zip(*times, strict=True))
    slack = 10 if effort == "smallest" else 1
    verdict = "holds" if encode >= ENCODE / slack and decode >= DECODE / slack else "MISSED"
    return 8 * len(data) / count, encode / 1e6, decode / 1e6, verdict


def draw(curves: Curves, path: Path) -> None:
    """Harm against bytes for each model, logarithmic, as one picture."""
    import matplotlib.pyplot as plt

    styles = {
        "NNCodec": ("#666666", "--", "NNCodec 2.1.3"),
        "with data": ("#0072B2", "-", "Paretoscope, with data"),
        "without": ("#D55E00", "-", "Paretoscope, without data"),
    }
    figure, axes = plt.subplots(2, -(-len(curves) // 2), figsize=(11, 6.2), constrained_layout=True)
    for axis, (name, ways) in zip(axes.flat, curves.items(), strict=False):
        for way, (colour, line, label) in styles.items():
            harms = np.geomspace(2e-4, 0.2, 60)
            sizes = [bytes_at(harm, ways[way]) / 1000 for harm in harms]
            axis.plot(sizes, harms, color=colour, linestyle=line, label=label, linewidth=1.8)
        axis.set(xscale="log", yscale="log", title=name, xlabel="file (KB)", ylabel="harm (nats)")
        axis.grid(alpha=0.3, which="both")
        axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axis.xaxis.set_minor_formatter(lambda value, _: "")
    axes.flat[0].legend(fontsize=8)
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    asked = parser(__doc__)
    asked.add_argument("models", nargs="*", default=zoo.models_of("digits"))
    asked.add_argument("--python", type=Path, help="interpreter of an environment with nncodec 2.1.3")
    asked.add_argument("--figure", type=Path, help="draw the curves to this file")
    options = asked.parse_args()
    keep("coding-speed", [speed()], options)
    table, curves = compare(options.models, options.python or environment())
    keep("coding", [table, accuracies(curves)], options)
    if options.figure:
        draw(curves, options.figure)


if __name__ == "__main__":
    sys.exit(main())
