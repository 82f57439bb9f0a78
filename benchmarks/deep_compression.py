"""Deep Compression's table on MNIST: prune, fine-tune, share, fine-tune, quantize, code.

    python -m benchmarks.deep_compression [--only ROW ...] [--seeds 0 1 2] [--threads 1] [--ship]

Beside the figures of Han, Mao and Dally, Deep Compression, 2015, tables 1 to 3. A size is the length of the artefact in
bytes: codes, codebooks, biases, header, everything. Every stage is one of the very artefact (its size ladder), but for
the pruned net, which is trained by itself. Training knows the train split alone, of which a part is kept back to choose
the epoch; the test split is looked at once, at the end. The recipes are presets, chosen after trials whose test
errors were seen, though. What is trained is kept in the user's cache folder, epoch by epoch: a run that is stopped goes
on where it was, and one that is done is not repeated. --ship puts the artefact of each row's first seed into
assets/recovered.
"""

import statistics
import sys
from dataclasses import dataclass, replace

import torch
from paretoscope.codec import shelf
from paretoscope.measure.record import Record
from paretoscope.recipe.presets import presets
from paretoscope.recipe.recipe import Recipe
from paretoscope.service.study import StudyKind
from paretoscope.service.workbench import Workbench
from paretoscope.training.epochs import Recovery

from benchmarks.measured import PERCENT, Cell, Table, columns, keep, parser

# Ratio, test error of the network as it is, and compressed.
PAPER = {"lenet-300-100-mnist": (40, 0.0164, 0.0158), "lenet-5-mnist": (39, 0.0080, 0.0074)}


@dataclass(frozen=True, slots=True)
class Row:
    """A preset, and what it must reach: a compression ratio at a test error, the baseline's where None.

    pruned: whether the stage before sharing is trained by itself too, with the same sparsity.
    """

    preset: str
    ratio: float
    error: float | None
    pruned: bool = False

    @property
    def model(self) -> str:
        return presets.get(self.preset).model

    @property
    def recipe(self) -> Recipe:
        return presets.get(self.preset).recipe


ROWS = {
    "lenet-300-100": Row("lenet-300-100-trained", ratio=45, error=None, pruned=True),
    "lenet-300-100 shared": Row("lenet-300-100-shared", ratio=45, error=None),
    "lenet-300-100 stretch": Row("lenet-300-100-smallest", ratio=100, error=0.02),
    "lenet-5": Row("lenet-5-trained", ratio=80, error=None, pruned=True),
    "lenet-5 shared": Row("lenet-5-shared", ratio=80, error=None),
    "lenet-5 stretch": Row("lenet-5-smallest", ratio=300, error=0.01),
}


@dataclass(frozen=True, slots=True)
class Result:
    """record: on the test split. seconds: of training."""

    record: Record
    recovery: Recovery

    @property
    def error(self) -> float:
        return 1 - self.record.figures.accuracy

    @property
    def seconds(self) -> float:
        return self.recovery.epochs[-1].seconds


def trained(bench: Workbench, model: str, recipe: Recipe, label: str) -> Result:
    """Train by a recipe, or take what was trained before."""
    job = bench.ask(StudyKind.RECOVER, model, recipe)
    while not job.wait(10):
        print(f"{label}: {job.progress:.0%}", file=sys.stderr, flush=True)
    if job.error is not None:
        raise SystemExit(f"{label}: {job.error}")
    recovery = job.result
    return Result(bench.find(model, recovery.recipe).record, recovery)


def seeded(recipe: Recipe, seed: int) -> Recipe:
    return replace(recipe, recover=replace(recipe.recover, seed=seed))


def pruned_only(recipe: Recipe) -> Recipe:
    """The first stage alone."""
    return replace(recipe, share=None, quantize=None, code=replace(recipe.code, rest="fp32"))


def report(bench: Workbench, name: str, row: Row, seeds: list[int], stages: Table) -> list[Cell]:
    """Train the row with every seed and add its stages; gives its line of the summary."""
    baseline = bench.subject(row.model).baseline
    results = [trained(bench, row.model, seeded(row.recipe, seed), f"{name}, seed {seed}") for seed in seeds]
    ratio, before, after = PAPER[row.model]
    allowed = 1 - baseline.accuracy if row.error is None else row.error
    minutes = _span([result.seconds / 60 for result in results], "{:.1f}")
    title = presets.get(row.preset).title
    stages.add(row.model, title, "baseline", f"{baseline.size_bytes:,}", "1x", percent(1 - baseline.accuracy))
    if row.pruned:
        pruned = [(seed, pruned_only(seeded(row.recipe, seed))) for seed in seeds]
        first = [trained(bench, row.model, recipe, f"{name}, pruned only, seed {seed}") for seed, recipe in pruned]
        stages.add(
            row.model, title, *_stage("P", baseline.size_bytes, [result.record.size.sparse for result in first], first)
        )
    for stage, rung in (("P+Q", "packed"), ("P+Q+H", "huffman"), ("file", "artefact")):
        stages.add(
            row.model,
            title,
            *_stage(stage, baseline.size_bytes, [getattr(r.record.size, rung) for r in results], results),
        )
    ratios, errors = [result.record.ratio for result in results], [result.error for result in results]
    # Errors are counts over 10,000: equal ones must not differ by a rounding of their mean.
    holds = statistics.mean(ratios) >= row.ratio and round(statistics.mean(errors) - allowed, 9) <= 0
    verdict = f"{row.ratio:g}x at no more than {percent(allowed)}: {'reached' if holds else 'MISSED'}"
    paper = f"{ratio}x, {percent(after)} (fp32 {percent(before)})"
    found = stages.rows[-1][-2:]
    return [row.model, title, len(seeds), paper, *found, percent(1 - baseline.accuracy), verdict, minutes]


def _stage(name: str, whole: int, sizes: list[int], results: list[Result]) -> list[Cell]:
    errors = [100 * result.error for result in results]
    ratios = [whole / size for size in sizes]
    return [name, _span(sizes, "{:,.0f}"), _span(ratios, "{:.1f}", "x"), _span(errors, "{:.2f}", " %")]


def percent(share: float) -> str:
    return PERCENT.format(100 * share)


def _span(values: list[float], form: str, unit: str = "") -> str:
    """The mean, and the lowest and the highest where there are several."""
    mean = form.format(statistics.mean(values)) + unit
    return mean if len(values) == 1 else f"{mean} ({form.format(min(values))} to {form.format(max(values))})"


def main() -> None:
    asked = parser(__doc__)
    asked.add_argument("--only", nargs="+", choices=ROWS, default=list(ROWS))
    asked.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    asked.add_argument("--threads", type=int, default=1)
    asked.add_argument("--ship", action="store_true")
    options = asked.parse_args()
    torch.set_num_threads(options.threads)
    bench = Workbench()
    stages = Table(columns("net", "preset", "stage", "bytes", "ratio", "test error"))
    heads = "net", "preset", "seeds", "paper", "file", "test error", "our baseline", "wanted", "minutes of training"
    summary, lines = Table(columns(*heads)), []
    for name in options.only:
        lines.append(report(bench, name, ROWS[name], options.seeds, stages))
        if options.ship:
            source = bench.subject(ROWS[name].model).statistics.digest
            recipe = seeded(ROWS[name].recipe, options.seeds[0])
            print(f"Shipped: {shelf.put(shelf.find(source, recipe), folder=shelf.SHIPPED).name}")
    print()
    for line in lines:
        summary.add(*line)
    keep("deep_compression", [summary, stages], options)


if __name__ == "__main__":
    main()
