"""Every model in every format: bytes, and what each file says in its own runtime.

    python -m benchmarks.conversions [--preset NAME ...]

A line is a format, a column a model with the accuracy of the network on the screen. A cell: kilobytes on disk,
everything counted; of the 797 test images, how many are predicted otherwise than by that network; and the largest
difference of a logit. Failed: not offered, because the check failed.
"""

import argparse

from paretoscope.export import Format, Original, Verification, formats, produce
from paretoscope.networks import zoo
from paretoscope.recipe.presets import presets
from paretoscope.recipe.recipe import Recipe
from paretoscope.service import subjects


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--preset",
        nargs="+",
        default=["int8", "deep-compression"],
        choices=[preset.name for preset in presets if preset.model is None],
    )
    chosen = parser.parse_args().preset
    available = [each for each in formats if each.available()]
    for preset in map(presets.get, chosen):
        columns = [column(model, preset.recipe, available) for model in zoo.models_of("digits")]
        print(f"\n{preset.title}\n")
        print(f"| format | {' | '.join(head for head, _ in columns)} |")
        print("| --- " * (1 + len(columns)) + "|")
        for index, each in enumerate(available):
            print(f"| {each.title} | {' | '.join(cells[index] for _, cells in columns)} |")
    for each in formats:
        if problem := each.missing():
            print(f"\nLeft out: {problem}")


def column(model: str, recipe: Recipe, available: list[Format]) -> tuple[str, list[str]]:
    """The head and the cells of one model."""
    subject = subjects.load(model)
    compressed = subject.compress(recipe)
    original = Original(subject, compressed)
    cells = [cell(produce(compressed, each.name, subject, original=original).verification) for each in available]
    return f"{model}, {original.record.figures.accuracy:.2%}", cells


def cell(found: Verification) -> str:
    """Size, predictions that differ, and the largest difference."""
    if not found.n:
        return "failed" if found.size else "–"
    figures = f"{found.size / 1000:,.1f} KB, {found.differing}, {found.largest:.2g}"
    return figures if found.passed else f"failed ({figures})"


if __name__ == "__main__":
    main()
