"""Fewer nodes and blocks: what is left of the multiplications, and what that is worth in ONNX Runtime.

    python -m benchmarks.simplify [--model NAME]

Each recipe is timed against the baseline in interleaved pairs, fp32, batch 1, one thread. Bound: resnet-20 at half its
multiplications runs at least 1.4 times as fast.
"""

from paretoscope.measure.layers import count_macs
from paretoscope.recipe.recipe import Recipe
from paretoscope.service import subjects

from benchmarks.measured import INTERVAL, PERCENT, Table, columns, keep, parser

RECIPES = (
    {"nodes": 0.1},
    {"nodes": 0.3},
    {"nodes": 0.5},
    {"blocks": 2},
    {"blocks": 3, "nodes": 0.2},
)


def main() -> None:
    asked = parser(__doc__)
    asked.add_argument("--model", default="resnet-20")
    options = asked.parse_args()
    subject = subjects.load(options.model)
    image = subject.data.test_images[:1]
    whole = sum(count_macs(subject.model, image).values())
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
        compressed = subject.compress(recipe)
        macs = sum(count_macs(subject.decoded(compressed), image).values()) / whole
        accuracies = []
        for batchnorm in (False, True):
            *_, last = subject.evaluate(Recipe.of(**settings, batchnorm=batchnorm))
            accuracies.append(100 * last.record.figures.accuracy)
        latency = subject.time(compressed, "onnxruntime").latency
        speed = latency.speedup, latency.speedup_low, latency.speedup_high
        table.add(recipe.describe(), 100 * macs, *accuracies, speed)
    keep("simplify", [table], options)


if __name__ == "__main__":
    main()
