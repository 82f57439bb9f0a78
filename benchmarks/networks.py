"""Networks of others through every stage: what works, and what is refused with which reason.

    python -m benchmarks.networks [NAME ...] [--found FOLDER [--again STAGE ...]] [--write]

Weights and samples are drawn, so no figure here says how well a network can be compressed: a cell says that the stage
works (with a size, an error or a time where it has one), or the number of the reason under the table. "CRASH" is
anything else than a result or an error of ours. Each network runs in a process of its own. torchvision's and timm's
run at the input size that they are made for; the small ones are those of tests/helpers/own_networks.py. All of them
take hours: with --found, what a network gave is kept in that folder as soon as it ends, and is not measured again, but
for the stages that --again names.
"""

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from paretoscope.base.batch import parts, tensors_in
from paretoscope.base.errors import CompressionError

from benchmarks.measured import ROOT, Table, columns, keep, parser

TORCHVISION = (
    *("resnet18", "resnet50", "mobilenet_v3_small", "efficientnet_b0", "squeezenet1_1", "densenet121"),
    *("shufflenet_v2_x0_5", "convnext_tiny", "swin_t", "vit_b_16", "googlenet"),
)
TIMM = {"convnext_atto": 224, "levit_128s": 224, "mobilevit_xxs": 256, "deit_tiny_patch16_224": 224}
SMALL = ("lstm", "gru", "sensor", "text", "language", "unet", "bare", "two", "detector", "regression")
NAMES = (*TORCHVISION, *TIMM, *SMALL)
# Samples of each part; a stage of resnet50 over them takes seconds.
TRAIN, CALIBRATION, TEST = 16, 8, 16
# Seconds that a network may take over all stages.
PATIENCE_S = 3600
RUNTIMES = ("torch", "onnxruntime", "openvino")


def main() -> None:
    asked = parser(__doc__)
    asked.add_argument("names", nargs="*", default=NAMES, metavar="NAME", help=f"of {', '.join(NAMES)}")
    asked.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    asked.add_argument("--found", type=Path, metavar="FOLDER", help="keep and use what each network gave, as JSON")
    asked.add_argument("--again", nargs="*", default=[], metavar="STAGE", help="measure these anew, as in the table")
    options = asked.parse_args()
    if options.again and not options.found:
        raise SystemExit("--again needs --found: the folder with what is not measured again.")
    if unknown := set(options.names) - set(NAMES):
        raise SystemExit(f"networks must be of {', '.join(NAMES)}; got {', '.join(sorted(unknown))}.")
    if options.worker:
        work(options.names[0], options.again)
        return
    found = {name: kept(name, options.found, options.again) for name in options.names}
    reasons: dict[str, int] = {}
    table = table_of(found, reasons)
    notes = [f"{number}. {reason}" for reason, number in reasons.items()]
    print("\n".join(["", *notes]))
    earlier = "What --found had kept is of that day's commit or an earlier one. " if options.found else ""
    keep("networks", [table], options, "\n\n".join([f"{earlier}Reasons:", "\n".join(notes)]))


def table_of(found: dict[str, dict[str, Any]], reasons: dict[str, int]) -> Table:
    """A line a stage, a column a network. reasons: of all that did not work, with their numbers, in their order."""
    stages = list(dict.fromkeys(stage for cells in found.values() for stage in cells))
    table = Table(columns("stage", *found))
    for stage in stages:
        table.add(stage, *(cell_of(cells.get(stage), reasons) for cells in found.values()))
    return table


def cell_of(found: dict[str, Any] | None, reasons: dict[str, int]) -> str:
    """A result, or the number of the reason why there is none."""
    if found is None:
        return ""
    if "cell" in found:
        return str(found["cell"])
    number = reasons.setdefault(found["reason"], len(reasons) + 1)
    return f"{'CRASH ' if found['crash'] else ''}({number})"


def kept(name: str, folder: Path | None, again: Sequence[str] = ()) -> dict[str, dict[str, Any]]:
    """The stages of one network, from the folder if it has them, but for those that are measured again."""
    if folder is None:
        return watched(name)
    path = folder / f"{name}.json"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(watched(name), ensure_ascii=False, indent=1))
    elif again:
        anew = {stage: cell for stage, cell in watched(name, again).items() if stage in (*again, "end")}
        path.write_text(json.dumps({**json.loads(path.read_text()), **anew}, ensure_ascii=False, indent=1))
    found: dict[str, dict[str, Any]] = json.loads(path.read_text())
    return found


def watched(name: str, again: Sequence[str] = ()) -> dict[str, dict[str, Any]]:
    """The stages of one network, all or those that are named, run in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.networks", "--worker", name]
    command += ["--found", "unused", "--again", *again] if again else []
    started = time.perf_counter()
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S)
        output, ended = (
            done.stdout,
            "" if done.returncode == 0 else f"ended with {done.returncode}: {done.stderr[-300:]}",
        )
    except subprocess.TimeoutExpired as late:
        output, ended = (late.stdout or b"").decode(), f"no end after {PATIENCE_S} s"
    stages = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    cells = {each.pop("stage"): each for each in stages}
    if ended:
        cells["end"] = {"crash": True, "reason": ended}
    print(f"{name}: {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
    return cells


def work(name: str, again: Sequence[str] = ()) -> None:
    """All stages of one network, or those that are named and the one that opens it, a line of JSON each."""
    tried = Tried(name)
    stages = tried.stages()
    if unknown := set(again) - set(stages):
        raise SystemExit(f"stages must be of {', '.join(stages)}; got {', '.join(sorted(unknown))}.")
    for stage, run in stages.items():
        if again and stage not in (*again, "from .pt2"):
            continue
        started = time.perf_counter()
        try:
            told: dict[str, Any] = {"cell": run() or "yes"}
        except CompressionError as error:
            told = {"crash": False, "reason": str(error)}
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            said = (str(error).splitlines() or [""])[0]
            place = f"{Path(where.filename).name}, line {where.lineno}"
            told = {"crash": True, "reason": f"{type(error).__name__}: {said} ({place})"}
        print(json.dumps({"stage": stage, **told, "s": round(time.perf_counter() - started, 2)}), flush=True)


class Tried:
    """One network on its way through the stages; a later stage uses what an earlier one made."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.folder = Path(tempfile.mkdtemp(prefix="networks-"))
        self.module, self.drawn = made(name)

    def stages(self) -> dict[str, Callable[[], str | None]]:
        from paretoscope.export import formats
        from paretoscope.recipe.recipe import Quantize, Recipe, Recover, Repair, Simplify

        eight = Recipe(quantize=Quantize(8))
        integers = Recipe(quantize=Quantize(8, activations=8))
        return {
            "from .pt2": self.from_program,
            "from .onnx": self.from_onnx,
            "outputs equal": self.equal,
            "share touched": partial(self.touched, eight),
            "8 bits, error": partial(self.error, eight),
            "4 bits by rate, error": partial(self.error, Recipe(quantize=Quantize(4, calibration="rate"))),
            "integers, error": partial(self.error, integers),
            "written, read, built": partial(self.rebuilt, eight),
            "layers": self.layers,
            **{f"latency, {runtime}": partial(self.latency, eight, runtime) for runtime in RUNTIMES},
            "sensitivity": self.sensitivity,
            "suggest": self.suggest,
            "allot": self.allot,
            "nodes": partial(self.smaller, Recipe(simplify=Simplify(nodes=0.25))),
            "blocks": partial(self.smaller, Recipe(simplify=Simplify(blocks=1))),
            "fold": partial(self.error, Recipe(simplify=Simplify(fold=True))),
            "repair": partial(self.error, replace(eight, repair=Repair("gptq", bias=True))),
            "one epoch": partial(self.epoch, replace(eight, recover=Recover(epochs=1, distill=1.0))),
            **{
                f"to {each.name}": partial(self.export, integers if each.name.endswith("int8") else eight, each.name)
                for each in formats
                if each.available()
            },
        }

    @cached_property
    def subject(self) -> Any:
        from paretoscope.data.arrays import ArrayData
        from paretoscope.measure.subject import Subject
        from paretoscope.networks.imported import network_of
        from paretoscope.tasks import tasks

        train, calibration, test = (self.drawn(n, seed) for seed, n in enumerate((TRAIN, CALIBRATION, TEST)))
        network = network_of(self.name, self.imported.graph, lambda: self.imported.state)
        return Subject.of(network, ArrayData.of(train, test, calibration), tasks.get("agreement")(()))

    @property
    def imported(self) -> Any:
        if not hasattr(self, "_imported"):
            raise CompressionError("a stage needs the network, which could not be opened.")
        return self._imported

    def from_program(self) -> str:
        import torch
        from paretoscope.graph.doors import read_program

        inputs = parts(self.drawn(2, 9))
        batch = torch.export.Dim("batch", min=1, max=1024)
        program = torch.export.export(self.module, inputs, dynamic_shapes=tuple({0: batch} for _ in inputs))
        path = self.folder / "network.pt2"
        torch.export.save(program, path)
        started = time.perf_counter()
        self._imported = read_program(path)
        return f"{time.perf_counter() - started:.1f} s"

    def from_onnx(self) -> str:
        import torch
        from paretoscope.graph.doors import read_onnx

        inputs = parts(self.drawn(2, 9))
        path = self.folder / "network.onnx"
        batch = torch.export.Dim("batch", min=1, max=1024)
        shapes = tuple({0: batch} for _ in inputs)
        with contextlib.redirect_stdout(sys.stderr):
            torch.onnx.export(self.module, inputs, path, dynamo=True, dynamic_shapes=shapes, verbose=False)
        started = time.perf_counter()
        found = read_onnx(path)
        seconds = time.perf_counter() - started
        return f"{seconds:.1f} s, {self.apart(found.module()):.0e}"

    def equal(self) -> str:
        apart = self.apart(self.imported.module())
        return "bit for bit" if apart == 0 else f"{apart:.0e}"

    def apart(self, module: Any) -> float:
        """The largest relative difference of another module's outputs."""
        import torch
        from paretoscope.base.batch import call

        batch = self.drawn(3, 5)
        with torch.no_grad():
            return largest(flat(call(self.module, batch)), flat(call(module, batch)))

    def touched(self, recipe: Any) -> str:
        *_, evaluation = self.subject.evaluate(recipe)
        return f"{100 * evaluation.record.touched.share:.1f} %"

    def error(self, recipe: Any) -> str:
        *_, evaluation = self.subject.evaluate(recipe)
        return f"{100 * (1 - evaluation.record.figures.value):.2g} %, {evaluation.record.size.artefact / 1000:,.0f} KB"

    def rebuilt(self, recipe: Any) -> str:
        import torch
        from paretoscope import codec
        from paretoscope.base.batch import call

        compressed = self.subject.compress(recipe)
        written = codec.write(compressed)
        batch = self.drawn(2, 5)
        with torch.no_grad():
            one = flat(call(self.subject.decoded(compressed), batch))
            other = flat(call(codec.read(written).build(), batch))
        if largest(one, other):
            raise AssertionError("the network that was built anew gives other outputs")
        return "bit for bit"

    def layers(self) -> str:
        from paretoscope.measure.layers import layer_table

        return f"{len(layer_table(self.subject))}"

    def latency(self, recipe: Any, runtime: str) -> str:
        timing = self.subject.time(self.subject.compress(recipe), runtime, budget_s=2.0)
        return f"{timing.latency.baseline_median_ms:.3g} ms"

    @cached_property
    def curves(self) -> Any:
        from paretoscope.measure.sensitivity import measure_sensitivity

        layers = list(self.subject.statistics.layers)
        # A few layers, for time: the first, one in the middle, the last.
        some = list(dict.fromkeys([layers[0], layers[len(layers) // 2], layers[-1]]))
        return measure_sensitivity(self.subject, some, grids={"bits": (4, 8)})

    def sensitivity(self) -> str:
        return f"{len(self.curves.curves)} layers"

    def suggest(self) -> str:
        from paretoscope.search.suggest import Target, suggest

        found = suggest(self.curves, self.subject.statistics, Target(drop=1.0), factor=self.subject.task.words.factor)
        return f"{len(found.recipe.overrides)} overrides"

    def allot(self) -> str:
        from paretoscope.recipe.recipe import Quantize, Recipe
        from paretoscope.search.allot import allot

        wanted = self.subject.statistics.size_bytes // 8
        found = allot(self.subject, Recipe(quantize=Quantize(8, calibration="rate")), size=wanted)
        return f"{found.recipe.quantize.exchange:.2g} nats a KB"

    def smaller(self, recipe: Any) -> str:
        compressed = self.subject.compress(recipe)
        *_, evaluation = self.subject.evaluate_compressed(compressed)
        share = evaluation.record.rates.architecture_simplification
        if share >= 1:
            raise CompressionError(" ".join(compressed.notes) or "nothing was removed.")
        return f"{100 * share:.0f} % left"

    def epoch(self, recipe: Any) -> str:
        from paretoscope.training.train import Trainer

        trainer = Trainer(self.subject, recipe)
        for _ in trainer.run():
            pass
        return f"loss {trainer.epochs[-1].loss:.2g}"

    def export(self, recipe: Any, format: str) -> str:
        from paretoscope.export import produce

        checked = produce(self.subject.compress(recipe), format, self.subject)
        if not checked.verification.passed:
            raise CompressionError(checked.verification.problem or "the check failed.")
        return f"{checked.verification.size / 1000:,.0f} KB"


def made(name: str) -> tuple[Any, Callable[[int, int], Any]]:
    """A network with drawn weights, and how n samples for it are drawn from a seed."""
    import torch

    torch.manual_seed(0)
    if name in SMALL:
        from tests.helpers import own_networks

        return own_networks.module(name), partial(seeded, own_networks.MAKERS[name][1])
    from paretoscope.base.torchvision_import import import_torchvision

    import_torchvision()
    size = TIMM.get(name, 224)
    if name in TIMM:
        import timm

        module = timm.create_model(name)
    else:
        import torchvision

        settings = {"aux_logits": False, "init_weights": False} if name == "googlenet" else {}
        module = getattr(torchvision.models, name)(**settings)
        # A last layer of zeros, as vit_b_16 begins with, would say nothing but zeros.
        for weight in module.parameters():
            if weight.ndim > 1 and not weight.any():
                torch.nn.init.normal_(weight, std=0.02)
    return module.eval(), partial(seeded, lambda n: torch.randn(n, 3, size, size))


def seeded(draw: Callable[[int], Any], n: int, seed: int) -> Any:
    """Samples that the seed alone decides."""
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return draw(n)


def flat(outputs: Any) -> Any:
    """All outputs of a batch, a row a sample."""
    import torch

    return torch.cat([each.flatten(1).double() for each in tensors_in(outputs)], dim=1)


def largest(one: Any, other: Any) -> float:
    """The largest difference, as a share of the largest value."""
    return float((one - other).abs().max() / one.abs().max())


if __name__ == "__main__":
    main()
