"""Fewer nodes and blocks: what is left of the multiplications, and what that is worth in ONNX Runtime.

    python -m benchmarks.simplify [--model NAME] [--blocks]

Each recipe is timed against the baseline in interleaved pairs, fp32, batch 1, one thread. Bound: resnet-20 at half its
multiplications runs at least 1.4 times as fast.

--blocks: instead, what it is worth that channels stay a multiple of 8 (`channels.BLOCK`), on mobilenet-v2 unless
another is named.
"""

from unittest import mock

from paretoscope.measure.layers import count_macs
from paretoscope.measure.subject import Subject
from paretoscope.methods.structured import channels
from paretoscope.recipe.recipe import Recipe
from paretoscope.service import subjects

from benchmarks.measured import INTERVAL, PERCENT, Cell, Table, columns, keep, parser

RECIPES = (
    {"nodes": 0.1},
    {"nodes": 0.3},
    {"nodes": 0.5},
    {"blocks": 2},
    {"blocks": 3, "nodes": 0.2},
)


def main() -> None:
    asked = parser(__doc__)
    asked.add_argument("--model", help="resnet-20, or with --blocks mobilenet-v2")
    asked.add_argument("--blocks", action="store_true", help="channels in multiples of 1, 4 and 8")
    options = asked.parse_args()
    if options.blocks:
        keep("simplify-blocks", [blocks(options.model or "mobilenet-v2")], options)
        return
    subject = subjects.load(options.model or "resnet-20")
    table = Table(
        columns(
            "recipe",
            ("multiplications", "{:.0f} %"),
            ("accuracy", PERCENT),
            ("with batch norm re-estimated", PERCENT),
            ("speed-up, 95 % interval", INTERVAL),
        )
    )
    for settings in RECIPES:
        recipe = Recipe.of(**settings)
        accuracies = []
        for batchnorm in (False, True):
            *_, last = subject.evaluate(Recipe.of(**settings, batchnorm=batchnorm))
            accuracies.append(100 * last.record.figures.accuracy)
        macs, speed = cost(subject, recipe)
        table.add(recipe.describe(), macs, *accuracies, speed)
    keep("simplify", [table], options)


def cost(subject: Subject, recipe: Recipe) -> tuple[float, Cell]:
    """Per cent of the multiplications that are left, and the speed-up with its interval."""
    image = subject.data.test_images[:1]
    compressed = subject.compress(recipe)
    left, whole = (sum(count_macs(each, image).values()) for each in (subject.decoded(compressed), subject.model))
    latency = subject.time(compressed, "onnxruntime").latency
    return 100 * left / whole, (latency.speedup, latency.speedup_low, latency.speedup_high)


def blocks(model: str) -> Table:
    """One share of the channels is cut out, in multiples of 1, 4 and 8."""
    recipe = Recipe.of(nodes=0.2)
    heads = columns("channels in multiples of", ("multiplications", "{:.0f} %"), ("speed-up, 95 % interval", INTERVAL))
    table = Table(heads, f"{model}, {recipe.describe()}")
    for size in (1, 4, channels.BLOCK):
        with mock.patch.object(channels, "BLOCK", size):
            # What simplifying made is kept with the subject.
            table.add(size, *cost(subjects.load(model), recipe))
    return table


if __name__ == "__main__":
    main()
