"""The report of a configuration: how long it takes, and how large it is, the more there is to tell.

    python -m benchmarks.report [--records N ...] [--write]

A report of lenet-300-100 with three pins beside the chosen configuration, a question and all that was tried: records of
synthetic figures, as `benchmarks.live` fills a store with. It is made twice, as by two clicks.
"""

import tempfile
import time
from datetime import datetime
from pathlib import Path

from paretoscope import reports
from paretoscope.recipe.recipe import Recipe
from paretoscope.search.budget import Budget
from paretoscope.service.pins import Pin
from paretoscope.service.store import Store
from paretoscope.service.timing import Timing
from paretoscope.service.workbench import Workbench

from benchmarks.live import MODEL, Plan
from benchmarks.measured import Table, columns, keep, parser

MOST_S, MOST_BYTES = 3.0, 2_000_000
MADE = datetime.fromisoformat("2026-01-01T00:00:00+00:00")
QUESTION = Budget(size=50_000, lost=0.5)
PINS = [Pin(MODEL, Recipe.of(bits=bits, sparsity=sparsity)) for bits, sparsity in ((8, 0.0), (6, 0.5), (5, 0.8))]


def main() -> None:
    asked = parser(__doc__)
    asked.add_argument("--records", nargs="+", type=int, default=[0, 1_000, 20_000], help="of the rows")
    options = asked.parse_args()
    seconds = "{:.2f} s"
    table = Table(
        columns(
            ("records", "{:,.0f}"), ("first report", seconds), ("again", seconds), ("size", "{:,.0f} bytes"), "bound"
        )
    )
    plan = Plan()
    for records in options.records:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "records.sqlite"
            plan.fill(path, records)
            table.add(records, *_reported(path))
    keep("report", [table], options)


def _reported(path: Path) -> tuple[float, float, int, str]:
    bench = Workbench(Store(path))
    try:
        for pin in PINS:
            bench.evaluate(pin.model, pin.recipe).wait()
        took = []
        for _ in range(2):
            began = time.perf_counter()
            written = reports.write(bench, MODEL, PINS[0].recipe, Timing(), made=MADE, budget=QUESTION, pins=PINS)
            took.append(time.perf_counter() - began)
    finally:
        bench.close()
    size = len(written.encode())
    held = "holds" if max(took) <= MOST_S and size <= MOST_BYTES else "MISSED"
    return *took, size, f"<= {MOST_S:g} s, <= {MOST_BYTES:,} bytes: {held}"


if __name__ == "__main__":
    main()
