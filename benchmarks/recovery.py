"""The smallest file of each model on digits that cannot be told from the baseline, after minutes of training.

    python -m benchmarks.recovery [--models NAME ...] [--minutes M] [--threads N] [--untrained] [--ship]

Recipes are by rate, taught by the baseline, their pruning and their steps coming gradually; where it was found to help,
nodes or blocks are cut out first. From an exchange rate found by trial, the search goes to the highest one of a ladder
at which the file cannot be told from the baseline. Each training takes at most so many minutes.

The verdict on a file is that of McNemar's exact test at the 5 % level, on the test split. "Smallest" is the smallest
file of a training that cannot be told from the baseline: this test has chosen, as it has in the column without
training (benchmarks.no_training). "By validation" is what would be chosen without it: the smallest file that gets no
fewer images of the validation part right than the baseline. The baseline was trained on those images, and the weights
begin as its own, so that this may choose too small a file. Trainings are kept: run it again to go on. --ship puts the
smallest file of each model into assets/recovered, and prints its recipe for a preset.
"""

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import torch
from paretoscope.codec import shelf
from paretoscope.measure.record import Record
from paretoscope.measure.subject import Subject
from paretoscope.networks import zoo
from paretoscope.recipe.recipe import Recipe
from paretoscope.service.study import StudyKind
from paretoscope.service.workbench import Workbench
from paretoscope.training.epochs import Recovery
from paretoscope.training.progress import duration
from paretoscope.training.shrink import required_accuracy

from benchmarks import no_training
from benchmarks.measured import PERCENT, Cell, Table, columns, keep, parser

DATASET = "digits"
FORM = {"bits": 8, "calibration": "rate", "rest": "rate", "coder": "smallest"}
TRAINING = {"distill": 0.7, "ramp": 0.5, "schedule": "cosine", "learning_rate": 4e-3}
EXCHANGES = tuple(float(f"{2e-4 * 2 ** (place / 2):.2g}") for place in range(24))
# Found by trial; exchange, one of the above, is where the search begins. A smaller network also gets more epochs out
# of the same minutes.
SETTINGS: dict[str, dict[str, Any]] = {
    "lenet-300-100": {"sparsity": 0.97, "exchange": 0.026, "epochs": 300},
    "lenet-5": {"nodes": 0.5, "sparsity": 0.93, "exchange": 0.1, "epochs": 200},
    "simple-cnn": {"nodes": 0.7, "sparsity": 0.8, "exchange": 0.1, "epochs": 300},
    # Its batch norm folded, it would have to be trained at a quarter of the pace.
    "resnet-20": {"nodes": 0.7, "sparsity": 0.6, "exchange": 0.0091, "epochs": 100, "fold": False},
    # With 30 % or more of its nodes cut out it was worse.
    "mobilenet-v2": {"blocks": 5, "sparsity": 0.8, "exchange": 0.072, "epochs": 120},
    "vit-tiny": {"nodes": 0.6, "sparsity": 0.8, "exchange": 0.1, "epochs": 350},
}
OTHER_SETTINGS = {"sparsity": 0.8, "exchange": 1.6e-3, "epochs": 50}
FIVE_MINUTES = 5.0


@dataclass(frozen=True, slots=True)
class Trained:
    """A training: what is measured of it on the test split, and how it went."""

    record: Record
    recovery: Recovery


def recipe(name: str, minutes: float) -> Recipe:
    """Where the search begins; fewer epochs where there are fewer minutes."""
    own = {"fold": any(kind == "BatchNorm2d" for kind in _kinds(name))} | SETTINGS.get(name, OTHER_SETTINGS)
    epochs = max(2, round(own["epochs"] * minutes / FIVE_MINUTES))
    return Recipe.of(**FORM, **TRAINING, **own | {"epochs": epochs})


def climb(holds: Callable[[int], bool], first: int, count: int) -> None:
    """Ask about places of a ladder of so many: from the first one on, in steps that double, up until one fails or down
    until one holds; then, by halving, about those between.
    """
    low, high, place, step = -1, count, first, 1
    while high - low > 1:
        low, high = (place, high) if holds(place) else (low, place)
        if high < count and low >= 0:
            place = (low + high) // 2
        else:
            place = min(low + step, count - 1) if high == count else max(high - step, 0)
            step *= 2


def accuracy_of(recovery: Recovery) -> float:
    """On the validation part, of the epoch that was kept."""
    return recovery.epochs[recovery.best].validation_accuracy


def trainings(bench: Workbench, name: str, minutes: float) -> list[Trained]:
    """All trainings of a model that the search asks for."""
    first = recipe(name, minutes)
    made: list[Trained] = []

    def train(asked: Recipe) -> Recovery:
        if (known := bench.known(StudyKind.RECOVER, name, asked)) is not None:
            return known  # also where the minutes ended it: it must not get as many again
        job = bench.ask(StudyKind.RECOVER, name, asked, minutes)
        job.wait()
        if job.error:
            raise SystemExit(f"{name}, {asked.describe()}: {job.error}")
        return job.result

    def holds(place: int) -> bool:
        recovery = train(Recipe.of(**first.settings() | {"exchange": EXCHANGES[place]}))
        made.append(Trained(bench.find(name, recovery.recipe).record, recovery))
        print(f"  {name}: {_row(made[-1])}", flush=True)
        return not made[-1].record.figures.distinguishable

    climb(holds, EXCHANGES.index(first.quantize.exchange), len(EXCHANGES))
    return made


def main() -> None:
    asked = parser(__doc__)
    asked.add_argument("--models", nargs="+", default=zoo.models_of(DATASET), metavar="NAME")
    asked.add_argument("--minutes", type=float, default=FIVE_MINUTES, help="of each training, at most")
    asked.add_argument("--threads", type=int, default=2, help="of each training")
    asked.add_argument("--untrained", action="store_true", help="search without training too: benchmarks.no_training")
    asked.add_argument("--ship", action="store_true")
    arguments = asked.parse_args()
    torch.set_num_threads(arguments.threads)
    rows = []
    with closing(Workbench()) as bench:
        for name in arguments.models:
            subject = bench.subject(name)
            made = trainings(bench, name, arguments.minutes)
            required = required_accuracy(subject, Recipe(), 0)
            chosen = [each for each in made if accuracy_of(each.recovery) >= required]
            passing = [each for each in made if not each.record.figures.distinguishable]
            if arguments.ship and passing:
                best = smallest(passing).recovery.recipe
                shelf.put(shelf.find(subject.statistics.digest, best), folder=shelf.SHIPPED)
                print(f"Shipped for {name}: {best.to_json()}", flush=True)
            before = _untrained(subject) if arguments.untrained else None
            rows.append((name, before, passing, chosen, 100 * subject.baseline.accuracy))
    tables = [_table("The smallest file that the test split does not tell from the baseline"), _table("By validation")]
    for place, table in enumerate(tables, 2):
        print()
        for row in rows:
            table.add(row[0], row[1], *_cells(row[place]), row[-1])
    keep("recovery", tables, arguments)


def _table(title: str) -> Table:
    ratio = "{:.1f}x"
    named = columns(
        "model",
        ("no training", ratio),
        ("trained", ratio),
        ("bytes", "{:,}"),
        "recipe",
        ("test accuracy", PERCENT),
        ("p", "{:.3f}"),
        ("minutes", "{:.1f}"),
        ("baseline", PERCENT),
    )
    return Table(named, title)


def _untrained(subject: Subject) -> Cell:
    best = min(no_training.by_rate(subject), key=lambda record: record.size.artefact, default=None)
    return "none" if best is None else best.ratio


def smallest(trained: list[Trained]) -> Trained | None:
    return min(trained, key=lambda each: each.record.size.artefact, default=None)


def _cells(trained: list[Trained]) -> list[Cell]:
    """Ratio, bytes, recipe, test accuracy, p and minutes of the smallest file."""
    best = smallest(trained)
    if best is None:
        return ["none", None, None, None, None, None]
    record = best.record
    return [
        record.ratio,
        record.size.artefact,
        _recipe(best),
        100 * record.figures.accuracy,
        record.figures.p_value,
        best.recovery.epochs[-1].seconds / 60,
    ]


def _recipe(trained: Trained) -> str:
    step = trained.record.recipe
    simpler = step.simplify.describe() if step.simplify else []
    return (
        f"{', '.join([*simpler, ''])}{100 * (step.prune.sparsity if step.prune else 0):g} % sparse, "
        f"{step.quantize.exchange:g} nats a KB, {len(trained.recovery.epochs) - 1} epochs"
    )


def _row(trained: Trained) -> str:
    record = trained.record
    figures = record.figures
    return (
        f"{_recipe(trained)} in {duration(trained.recovery.epochs[-1].seconds)}: "
        f"{record.size.artefact:,} B, {record.ratio:.1f}x, "
        f"validation {accuracy_of(trained.recovery):.2%}, test {figures.accuracy:.2%}, "
        f"p = {figures.p_value:.3f}, {'worse' if figures.distinguishable else 'indistinguishable'}"
    )


def _kinds(name: str) -> set[str]:
    return {type(module).__name__ for module in zoo.build(name).modules()}


if __name__ == "__main__":
    main()
