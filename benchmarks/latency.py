"""Every runtime, on every model: the baseline, integer kernels, half the channels, 95 % zeros; sparse kernels on more.

    python -m benchmarks.latency [--models NAME ...] [--without RUNTIME ...] [--batch N] [--threads N] [--budget S]

Each row is timed twice in interleaved pairs: beside the same runtime's own baseline, and beside ONNX Runtime's fp32
baseline, across the runtimes. Bounds: lenet-300-100 at 95 % zeros and batch 1 is at least 2 times as fast in the sparse
runtime as in ONNX Runtime fp32; and the sparse runtime's interval against its dense sibling, ONNX Runtime fp32 with the
same weights, never lies wholly below 1, nor below the interval of ONNX Runtime against itself. Beside the first stands
what this machine's roofline allows at most.
"""

import sys
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass

from paretoscope.base.errors import CompressionError
from paretoscope.measure.interleaved import BUDGET_S, Call, Loader, PairedTiming, compare
from paretoscope.measure.latency import repeated
from paretoscope.measure.machine import measure_machine
from paretoscope.measure.roofline import estimate, layer_work
from paretoscope.measure.subject import Subject
from paretoscope.model.compressed import CompressedModel
from paretoscope.networks import zoo
from paretoscope.recipe.recipe import Recipe
from paretoscope.runtimes import Program, Runtime, runtimes
from paretoscope.runtimes.onnx_runtime import ONNX_RUNTIME
from paretoscope.runtimes.sparse.runtime import SPARSE
from paretoscope.service import subjects

from benchmarks.measured import INTERVAL, Cell, Table, columns, keep, parser

RECIPES = {
    "baseline": Recipe(),
    "int8": Recipe.of(bits=8, activations=8),
    "half the channels": Recipe.of(nodes=0.5),
    "95 % sparse": Recipe.of(sparsity=0.95),
    "2 of 4 weights": Recipe.of(pattern="2:4"),
    "1 of 4 weights": Recipe.of(pattern="1:4"),
    "15 shared values": Recipe.of(clusters=15),
}
# To a dense runtime these are what 95 % sparse is: the baseline.
OF_SPARSE_KERNELS = ("2 of 4 weights", "1 of 4 weights", "15 shared values")
WANTED_MODEL, WANTED_RECIPE, WANTED = "lenet-300-100", "95 % sparse", 2.0


@dataclass(frozen=True)
class Ratio:
    """How many times as fast, with the 95 % interval."""

    ratio: float
    low: float
    high: float

    @classmethod
    def of(cls, found: PairedTiming) -> "Ratio":
        return cls(found.speedup, found.speedup_low, found.speedup_high)

    def __str__(self) -> str:
        return INTERVAL.format(*self.cell)

    @property
    def cell(self) -> tuple[float, float, float]:
        """As a table has it."""
        return self.ratio, self.low, self.high


@dataclass(frozen=True)
class Row:
    """own, onnx: against the runtime's own baseline and against ONNX Runtime's, both fp32.

    sibling: of the sparse runtime, against ONNX Runtime fp32 with the same weights. noise_low: the least that ONNX
    Runtime's baseline is against itself, by its interval.
    """

    model: str
    recipe: str
    runtime: str
    number_format: str
    median_ms: float
    onnx_ms: float
    own: Ratio
    onnx: Ratio
    sibling: Ratio | None = None
    noise_low: float = 1.0


@dataclass(frozen=True)
class Setting:
    batch: int
    threads: int
    budget_s: float


def main() -> None:
    asked = parser(__doc__)
    asked.add_argument("--models", nargs="+", default=list(zoo.models_of("digits")))
    asked.add_argument("--without", nargs="+", default=[], help="runtimes to leave out", metavar="RUNTIME")
    asked.add_argument("--batch", type=int, default=1)
    asked.add_argument("--threads", type=int, default=1)
    asked.add_argument("--budget", type=float, default=BUDGET_S, help="seconds a comparison")
    options = asked.parse_args()
    setting = Setting(options.batch, options.threads, options.budget)
    chosen = [runtime for runtime in runtimes if runtime.name not in options.without]
    for runtime in chosen:
        if runtime.missing:
            print(f"{runtime.title} is left out: install {runtime.missing}", file=sys.stderr)
    chosen = [runtime for runtime in chosen if not runtime.missing]
    rows: list[Row] = []
    for name in options.models:
        print(f"\n{name}, batch {setting.batch}, {setting.threads} thread(s)\n")
        own = Table(
            columns(
                "recipe",
                "runtime",
                "format",
                ("ms", "{:.4g}"),
                ("to its own baseline", INTERVAL),
                ("to ONNX Runtime fp32", INTERVAL),
            )
        )
        for row in measured(subjects.load(name), chosen, setting):
            rows.append(row)
            own.add(row.recipe, row.runtime, row.number_format, row.median_ms, row.own.cell, row.onnx.cell)
    tables = []
    for make in (across, patterns):
        print()
        tables.append(make([row for row in rows if not repeats(row)]))
    keep("latency", tables, options)
    missed = siblings(rows) + wanted(rows, setting)
    sys.exit(missed > 0)


def measured(subject: Subject, chosen: list[Runtime], setting: Setting) -> Iterator[Row]:
    """A row for each recipe and runtime; those that cannot run are told on standard error."""
    images = subject.resized(None)
    baseline = subject.compress(Recipe())
    reference = loader(ONNX_RUNTIME, subject.program(baseline, ONNX_RUNTIME.name), images, setting)

    noise = subject.noise(ONNX_RUNTIME.name, setting.batch, setting.threads, budget_s=setting.budget_s)

    def against(candidate: Loader, other: Loader) -> PairedTiming:
        return compare(candidate, other, budget_s=setting.budget_s)

    for name, recipe in RECIPES.items():
        compressed = subject.compress(recipe)
        for runtime in chosen:
            if name in OF_SPARSE_KERNELS and runtime is not SPARSE:
                continue
            try:
                program = subject.program(compressed, runtime.name)
                candidate = loader(runtime, program, images, setting)
                own = loader(runtime, subject.program(baseline, runtime.name), images, setting)
                # What is compiled or chosen once is not to be charged to a budget.
                for side in (candidate, own):
                    with side():
                        pass
                across = against(candidate, reference)
                yield Row(
                    model=subject.name,
                    recipe=name,
                    runtime=runtime.name,
                    number_format=program.number_format,
                    median_ms=across.median_ms,
                    onnx_ms=across.baseline_median_ms,
                    own=Ratio.of(against(candidate, own)),
                    onnx=Ratio.of(across),
                    sibling=_sibling(subject, compressed, candidate, setting) if runtime is SPARSE else None,
                    noise_low=noise.low,
                )
            except CompressionError as error:
                print(f"{subject.name}, {name}, {runtime.title}: {error}", file=sys.stderr)


def _sibling(subject: Subject, compressed: CompressedModel, candidate: Loader, setting: Setting) -> Ratio:
    program = subject.program(compressed, ONNX_RUNTIME.name, number_format="fp32")
    dense = loader(ONNX_RUNTIME, program, subject.resized(None), setting)
    return Ratio.of(compare(candidate, dense, budget_s=setting.budget_s))


def loader(runtime: Runtime, program: Program, images, setting: Setting) -> Loader:
    """One side of a comparison: a program of any runtime on a batch of images, float32 (n, C, H, W)."""
    batch = repeated(images, setting.batch)

    @contextmanager
    def loaded() -> Iterator[Call]:
        with closing(runtime.prepare(program, setting.threads)) as session:
            yield session.bind(batch)

    return loaded


def repeats(row: Row) -> bool:
    """Whether a row is the baseline's again: of an integer recipe, in a runtime that takes its floats."""
    return RECIPES[row.recipe].integer and row.number_format == "fp32"


def across(rows: list[Row]) -> Table:
    """Every runtime against ONNX Runtime's fp32 baseline: a line a recipe and runtime, a column a model."""
    table = _by_model(rows, "recipe", "runtime")
    models = [column.title for column in table.columns[2:]]
    takes = {row.model: f"{1e3 * row.onnx_ms:.3g} us" for row in reversed(rows)}
    table.add("baseline", f"{ONNX_RUNTIME.title} fp32 takes", *(takes[model] for model in models))
    for (recipe, runtime, number_format), found in _lines(row for row in rows if row.recipe not in OF_SPARSE_KERNELS):
        # The baseline against itself is noise.
        if (recipe, runtime) != ("baseline", ONNX_RUNTIME.name):
            title = f"{runtimes.get(runtime).title} {number_format}"
            table.add(recipe, title, *(found[model].onnx.cell if model in found else None for model in models))
    return table


def patterns(rows: list[Row]) -> Table:
    """The sparse runtime against ONNX Runtime with the same weights."""
    title = "Sparse kernels against ONNX Runtime fp32 with the same weights, which does not see them"
    table = _by_model(rows, "recipe", title=title)
    models = [column.title for column in table.columns[1:]]
    beside = [row for row in rows if row.sibling is not None]
    for (recipe, *_), found in _lines(beside):
        cells: list[Cell] = [found[model].sibling.cell if model in found else None for model in models]
        table.add(recipe, *cells)
    return table


def _by_model(rows: list[Row], *first: str, title: str = "") -> Table:
    return Table(columns(*first, *((model, INTERVAL) for model in dict.fromkeys(row.model for row in rows))), title)


def _lines(rows: Iterable[Row]) -> Iterable[tuple[tuple[str, str, str], dict[str, Row]]]:
    """Rows of one recipe, runtime and number format, by model."""
    found: dict[tuple[str, str, str], dict[str, Row]] = {}
    for row in rows:
        found.setdefault((row.recipe, row.runtime, row.number_format), {})[row.model] = row
    return found.items()


def siblings(rows: list[Row]) -> int:
    """How many sparse programs are slower than their dense siblings; tells them all."""
    beside = [row for row in rows if row.sibling is not None]
    slower = [row for row in beside if row.sibling.high < min(row.noise_low, 1)]
    if beside:
        print("\nSparse runtime against ONNX Runtime fp32 with the same weights:")
        for row in beside:
            print(f"  {row.model}, {row.recipe}: {row.sibling}{'  SLOWER' if row in slower else ''}")
        print(f"never slower beyond noise: {'MISSED' if slower else 'holds'}")
    return len(slower)


def wanted(rows: list[Row], setting: Setting) -> int:
    """1 where the wanted speed-up was asked for and missed; tells it, with the limit of this machine."""
    found = [row for row in rows if (row.model, row.recipe, row.runtime) == (WANTED_MODEL, WANTED_RECIPE, SPARSE.name)]
    if not found or setting.batch != 1:
        return 0
    (row,) = found
    holds = row.onnx.ratio >= WANTED
    print(
        f"\n{WANTED_MODEL}, {WANTED_RECIPE}, batch 1: {row.onnx} times ONNX Runtime fp32, {WANTED:g} wanted: "
        f"{'holds' if holds else 'MISSED'}"
    )
    limit(row, setting)
    return not holds


def limit(row: Row, setting: Setting) -> None:
    """What the roofline of this machine says of the non-zeros alone."""
    subject = subjects.load(row.model)
    compressed = subject.compress(RECIPES[row.recipe])
    here = measure_machine(setting.threads)
    kept = {name: (tensor.decode() != 0).mean() for name, tensor in compressed.weights.items()}
    dense = layer_work(subject, compressed, setting.batch)
    sparse = [layer.sparse(float(kept[layer.name])) if layer.name in kept else layer for layer in dense]
    print("What this machine's roofline allows, microseconds:")
    print("| layer | non-zero | dense | non-zeros alone | bound by | their bytes |")
    print("| --- | --- | --- | --- | --- | --- |")
    sides = [estimate(work, here) for work in (dense, sparse)]
    for all_of_it, only, layer in zip(sides[0].layers, sides[1].layers, sparse, strict=True):
        share = f"{kept[layer.name]:.1%}" if layer.name in kept else "-"
        print(
            f"| {layer.name} | {share} | {1e6 * all_of_it.roof_s:.3g} | {1e6 * only.roof_s:.3g} | "
            f"{'compute' if only.compute_s > only.memory_s else 'memory'} | {layer.bytes:,} |"
        )
    roofs = [sum(layer.roof_s for layer in side.layers) for side in sides]
    print(
        f"In all {1e6 * roofs[0]:.3g} dense and {1e6 * roofs[1]:.3g} for the non-zeros, before a call's overhead of "
        f"{1e6 * here.call_s:.3g}; measured {1e3 * row.onnx_ms:.3g} in ONNX Runtime, {1e3 * row.median_ms:.3g} in the "
        f"sparse runtime. Without any overhead {1e-3 * row.onnx_ms / roofs[1]:.2g} times would be the limit."
    )


if __name__ == "__main__":
    main()
