"""Every model in every format: bytes, and what each file says in its own runtime.

    python -m benchmarks.conversions [--preset NAME ...]

A line is a format, a column a model. A cell: kilobytes on disk, everything counted, and of the 797 test images, how
many are predicted otherwise than by the network on the screen, whose accuracy is the first line. Failed: not offered,
because the check failed.
"""

from paretoscope.export import Format, Original, Verification, formats, produce
from paretoscope.networks import zoo
from paretoscope.recipe.presets import presets
from paretoscope.recipe.recipe import Recipe
from paretoscope.service import subjects

from benchmarks.measured import Cell, Table, columns, keep, parser


def main() -> None:
    asked = parser(__doc__)
    asked.add_argument(
        "--preset",
        nargs="+",
        default=["int8", "deep-compression"],
        choices=[preset.name for preset in presets if preset.model is None],
    )
    options = asked.parse_args()
    available = [each for each in formats if each.available()]
    models = zoo.models_of("digits")
    tables = []
    for preset in map(presets.get, options.preset):
        found = [column(model, preset.recipe, available) for model in models]
        tables.append(Table(columns("format", *((model, "{:,.1f} ({:.0f})") for model in models)), preset.title))
        titles = ["accuracy", *(each.title for each in available)]
        for title, *cells in zip(titles, *found, strict=True):
            tables[-1].add(title, *cells)
        print()
    note = " ".join(f"Left out: {problem}." for each in formats if (problem := each.missing()))
    print(note)
    keep("conversions", tables, options, note)


def column(model: str, recipe: Recipe, available: list[Format]) -> list[Cell]:
    """The cells of one model: its accuracy, then each format."""
    subject = subjects.load(model)
    compressed = subject.compress(recipe)
    original = Original(subject, compressed)
    cells = [cell(produce(compressed, each.name, subject, original=original).verification) for each in available]
    return [f"{100 * original.record.figures.accuracy:.2f} %", *cells]


def cell(found: Verification) -> Cell:
    """Kilobytes and predictions that differ; "-" where a format does not take the model."""
    if not found.n:
        return "failed" if found.size else "-"
    figures = found.size / 1000, found.differing
    return figures if found.passed else f"failed ({figures[0]:,.1f} KB, {found.differing} differ)"


if __name__ == "__main__":
    main()
