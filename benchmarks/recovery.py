"""The smallest file of each model on digits that cannot be told from the baseline, after minutes of training.

    python -m benchmarks.recovery [--models NAME ...] [--minutes M] [--threads N] [--untrained] [--ship]

Recipes are by rate, batch norm folded, taught by the baseline, their pruning and their steps coming gradually. Short
trainings find the exchange rate at which the validation accuracy leaves the baseline's; full ones look from there for
the highest rate at which they cannot be told from the baseline. Each takes at most so many minutes.

The verdict on a file is that of McNemar's exact test at the 5 % level, on the test split. "Smallest" is the smallest
file of a full training that cannot be told from the baseline: this test has chosen, as it has in the column without
training (benchmarks.no_training). "By validation" is what would be chosen without it: the smallest file that gets no
fewer images of the validation part right than the baseline. The baseline was trained on those images, and the weights
begin as its own, so that this may choose too small a file. Trainings are kept: run it again to go on. --ship puts the
smallest file of each model into assets/recovered, and prints its recipe for a preset.
"""

import argparse
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass

import torch

from benchmarks import no_training
from compression import zoo
from compression.measure.record import Record
from compression.measure.subject import Subject
from compression.recipe import Recipe
from compression.recover import shelf
from compression.recover.progress import duration
from compression.recover.shrink import required_accuracy
from compression.recover.train import Recovery
from compression.workbench import Workbench

DATASET = "digits"
FORM = {"bits": 8, "calibration": "rate", "rest": "rate", "coder": "smallest"}
TRAINING = {"distill": 0.7, "ramp": 0.5, "schedule": "cosine"}
EXCHANGES = tuple(float(f"{2e-4 * 2 ** (place / 2):.2g}") for place in range(20))
# Tried for the two LeNets, guessed for the others.
SPARSITIES = {"lenet-300-100": 0.97, "lenet-5": 0.97, "simple-cnn": 0.95, "resnet-20": 0.9}
OTHER_SPARSITY = 0.8
# Epochs of a full training: on two cores, about half of five minutes, so that a slower machine has time too.
EPOCHS = {
    "lenet-300-100": 300,
    "lenet-5": 200,
    "simple-cnn": 300,
    "resnet-20": 50,
    "mobilenet-v2": 100,
    "vit-tiny": 200,
}
OTHER_EPOCHS = 50
FIVE_MINUTES = 5.0
# Of the full ones.
SHORT = 0.1
# Points of validation accuracy that a short training may miss: a full one wins some back.
SHORT_POINTS = 4.0
# Its batch norm folded, this one does not survive the pace of the others.
PACES = {"resnet-20": 1e-3}
PACE = 4e-3


@dataclass(frozen=True, slots=True)
class Trained:
    """A full training: what is measured of it on the test split, and how it went."""

    record: Record
    recovery: Recovery


def recipe(name: str, exchange: float, epochs: int) -> Recipe:
    fold = any(kind == "BatchNorm2d" for kind in _kinds(name))
    sparsity = SPARSITIES.get(name, OTHER_SPARSITY)
    own = {"sparsity": sparsity, "exchange": exchange, "fold": fold, "learning_rate": PACES.get(name, PACE)}
    return Recipe.of(**FORM, **TRAINING, **own, epochs=epochs)


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


def last_that(holds: Callable[[int], bool], count: int) -> int:
    """By halving, the last place of a ladder of so many at which something still holds, or the first one."""
    low, high = 0, count
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def accuracy_of(recovery: Recovery) -> float:
    """On the validation part, of the epoch that was kept."""
    return recovery.epochs[recovery.best].validation_accuracy


def trainings(bench: Workbench, name: str, minutes: float) -> list[Trained]:
    """All full trainings of a model that the search asks for."""
    epochs = max(2, round(EPOCHS.get(name, OTHER_EPOCHS) * minutes / FIVE_MINUTES))
    few = max(2, round(SHORT * epochs))
    nearly = required_accuracy(bench.subject(name), Recipe(), SHORT_POINTS)
    made: list[Trained] = []

    def train(place: int, epochs: int) -> Recovery:
        asked = recipe(name, EXCHANGES[place], epochs)
        if (known := bench.recovery(name, asked)) is not None:
            return known  # also where the minutes ended it: it must not get as many again
        job = bench.recover(name, asked, minutes)
        job.wait()
        if job.error:
            raise SystemExit(f"{name}, {asked.describe()}: {job.error}")
        return job.result

    def holds(place: int) -> bool:
        recovery = train(place, epochs)
        made.append(Trained(bench.find(name, recovery.recipe).record, recovery))
        print(f"    {_row(made[-1])}", flush=True)
        return not made[-1].record.figures.distinguishable

    last = last_that(lambda place: accuracy_of(train(place, few)) >= nearly, len(EXCHANGES))
    print(f"  {name}: short trainings nearly hold to {EXCHANGES[last]:g} nats a KB", flush=True)
    climb(holds, last, len(EXCHANGES))
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=zoo.models_of(DATASET), metavar="NAME")
    parser.add_argument("--minutes", type=float, default=FIVE_MINUTES, help="of each training, at most")
    parser.add_argument("--threads", type=int, default=2, help="of each training")
    parser.add_argument("--untrained", action="store_true", help="search without training too: benchmarks.no_training")
    parser.add_argument("--ship", action="store_true")
    arguments = parser.parse_args()
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
            rows.append(
                f"| {name} | {_untrained(subject) if arguments.untrained else ''} | {_cells(passing)} "
                f"| {_cells(chosen)} | {subject.baseline.accuracy:.2%} |"
            )
    print("| model | no training | smallest | recipe, verdict | by validation | recipe, verdict | baseline |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    print("\n".join(rows))


def _untrained(subject: Subject) -> str:
    best = min(no_training.by_rate(subject), key=lambda record: record.size.artefact, default=None)
    return "none" if best is None else f"{best.ratio:.1f}x"


def smallest(trained: list[Trained]) -> Trained | None:
    return min(trained, key=lambda each: each.record.size.artefact, default=None)


def _cells(trained: list[Trained]) -> str:
    best = smallest(trained)
    return "none | " if best is None else f"{best.record.ratio:.1f}x | {_row(best)}"


def _row(trained: Trained) -> str:
    record, step = trained.record, trained.record.recipe
    figures = record.figures
    return (
        f"{100 * (step.prune.sparsity if step.prune else 0):g} % sparse, {step.quantize.exchange:g} nats a KB, "
        f"{len(trained.recovery.epochs) - 1} epochs in {duration(trained.recovery.epochs[-1].seconds)}: "
        f"{record.size.artefact:,} B, {record.ratio:.1f}x, "
        f"validation {accuracy_of(trained.recovery):.2%}, test {figures.accuracy:.2%}, "
        f"p = {figures.p_value:.3f}, {'worse' if figures.distinguishable else 'indistinguishable'}"
    )


def _kinds(name: str) -> set[str]:
    return {type(module).__name__ for module in zoo.build(name).modules()}


if __name__ == "__main__":
    main()
