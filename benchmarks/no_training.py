"""The smallest file of each model that cannot be told from the baseline, without any training.

    python -m benchmarks.no_training [MODEL ...]

For each way to represent the weights (bits, or clusters of 8 bits) the cliff of the sparsity is found, without and with
repair; the smallest artefact on the near side wins. By rate: the exchange rate alone is searched, repair included,
batch norm folded, context coded. "Cannot be told": McNemar's exact test, 5 % level, on the test
split, which also chose the recipe. Then the accuracy at 4 bits per channel without and with repair.
"""

from collections.abc import Iterator

from paretoscope.measure.record import Record
from paretoscope.measure.subject import Subject
from paretoscope.networks import zoo
from paretoscope.recipe.recipe import Recipe
from paretoscope.search.cliff import find_cliff
from paretoscope.service import subjects
from paretoscope.tasks.classification import Accuracy

from benchmarks.measured import PERCENT, Cell, Table, columns, keep, parser

WITHOUT: dict[str, object] = {}
REPAIR = {"rounding": "gptq", "bias": True, "batchnorm": True}
FORMS = (
    *({"bits": bits} for bits in (8, 6, 5, 4, 3, 2)),
    *({"bits": 8, "clusters": clusters} for clusters in (32, 16, 8, 4)),
)
BY_RATE = {
    **{"bits": 8, "calibration": "rate", "rounding": "gptq", "bias": True, "fold": True},
    **{"rest": "rate", "coder": "smallest"},
}
EXCHANGES = tuple(float(f"{10 ** (place / 8):.2g}") for place in range(-40, -15))
SPARSITIES = tuple(percent / 100 for percent in range(0, 98, 3))


def indistinguishable(subject: Subject, repair: dict[str, object]) -> Iterator[Record]:
    """Records of the recipes that the search meets and that pass."""
    for form in FORMS:
        records: list[Record] = []

        def evaluate(recipe: Recipe, records: list[Record] = records) -> Accuracy:
            *_, last = subject.evaluate(recipe)
            records.append(last.record)
            return last.record.figures

        find_cliff(evaluate, Recipe.of(**form, **repair, calibration="mse", rest="fp16"), "sparsity", SPARSITIES)
        yield from (record for record in records if not record.figures.distinguishable)


def by_rate(subject: Subject) -> Iterator[Record]:
    """Records at all exchange rates that pass."""
    for exchange in EXCHANGES:
        *_, last = subject.evaluate(Recipe.of(**BY_RATE, exchange=exchange))
        if not last.record.figures.distinguishable:
            yield last.record


def main() -> None:
    asked = parser(__doc__)
    asked.add_argument("models", nargs="*", default=zoo.models_of("digits"))
    options = asked.parse_args()
    ratio = "{:.1f}x"
    table = Table(
        columns(
            "model",
            ("without repair", ratio),
            "recipe",
            ("with repair", ratio),
            "recipe",
            ("by rate", ratio),
            ("nats a KB", "{:g}"),
            ("4 bits, without repair", PERCENT),
            ("4 bits, with repair", PERCENT),
            ("baseline", PERCENT),
        )
    )
    for name in options.models:
        subject = subjects.load(name)
        cells: list[Cell] = []
        ways = indistinguishable(subject, WITHOUT), indistinguishable(subject, REPAIR), by_rate(subject)
        for passing in ways:
            best = min(passing, key=lambda record: record.size.artefact, default=None)
            cells += ["none", ""] if best is None else [best.ratio, _recipe(best)]
        for repair in (WITHOUT, REPAIR):
            *_, last = subject.evaluate(Recipe.of(bits=4, calibration="mse", rest="fp16", **repair))
            cells.append(100 * last.record.figures.accuracy)
        table.add(name, *cells, 100 * subject.baseline.accuracy)
    keep("no_training", [table], options)


def _recipe(record: Record) -> Cell:
    """What tells a recipe from the others of its way: the exchange rate, or the settings of the three steps."""
    if record.recipe.quantize.calibration == "rate":
        return record.recipe.quantize.exchange
    prune = f"{100 * record.rates.sparse_rate:.0f} % sparse, " if record.recipe.prune else ""
    share = record.recipe.share
    return f"{prune}{f'{share.clusters} clusters, ' if share else ''}{record.recipe.bits} bits"


if __name__ == "__main__":
    main()
