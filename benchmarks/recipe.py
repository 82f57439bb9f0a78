"""A new recipe, end to end without latency, against the bare forward pass over the test split.

    python -m benchmarks.recipe [--rounds N]

Each round draws a recipe that was not seen before and times, one after the other in random order: the baseline over
the whole test split (same chunks, no figures), and compression + exact size + ladder + rates + full evaluation. Bound:
at most 1.3 times the forward pass where that takes over 100 ms, at most 150 ms above it otherwise.
"""

import random
import statistics
import time

from paretoscope.data.data import CHUNK
from paretoscope.measure.subject import Subject
from paretoscope.networks import zoo
from paretoscope.recipe.recipe import Recipe
from paretoscope.service import subjects

from benchmarks.measured import Table, columns, keep, parser


def new_recipe(draw: random.Random) -> Recipe:
    """A recipe with all three sliders moved; sparsity has enough digits never to repeat."""
    return Recipe.of(
        sparsity=round(draw.uniform(0.3, 0.95), 6),
        scope=draw.choice(("global", "layer")),
        clusters=draw.choice((None, 4, 16, 32, 64, 256)),
        bits=draw.choice((32, 8, 6, 4, 2, 1)),
        calibration=draw.choice(("range", "mse")),
    )


def forward(subject: Subject) -> None:
    for _ in subject.task.answer(subject.model, subject.data.test_images.split(CHUNK)):
        pass


def whole(subject: Subject, recipe: Recipe) -> None:
    for _ in subject.evaluate(recipe):
        pass


def timed(call, *arguments) -> float:
    start = time.perf_counter()
    call(*arguments)
    return 1e3 * (time.perf_counter() - start)


def main() -> None:
    asked = parser(__doc__)
    asked.add_argument("--rounds", type=int, default=15)
    options = asked.parse_args()
    draw = random.Random(0)
    ms = "{:.1f} ms"
    table = Table(
        columns("model", ("forward pass", ms), ("new recipe", ms), ("above", ms), ("ratio", "{:.2f}"), "bound")
    )
    for name in zoo.models_of("digits"):
        subject = subjects.load(name)
        for _ in range(2):
            forward(subject)
            whole(subject, new_recipe(draw))
        bare, recipes = [], []
        for _ in range(options.rounds):
            recipe = new_recipe(draw)
            sides = [(bare, (forward, subject)), (recipes, (whole, subject, recipe))]
            draw.shuffle(sides)
            for samples, call in sides:
                samples.append(timed(*call))
        base = statistics.median(bare)
        above = statistics.median(b - a for a, b in zip(bare, recipes, strict=True))
        ratio = statistics.median(b / a for a, b in zip(bare, recipes, strict=True))
        holds = ratio <= 1.3 if base > 100 else above <= 150
        bound = ("ratio <= 1.3" if base > 100 else "above <= 150 ms") + (": holds" if holds else ": MISSED")
        table.add(name, base, statistics.median(recipes), above, ratio, bound)
    keep("recipe", [table], options)


if __name__ == "__main__":
    main()
