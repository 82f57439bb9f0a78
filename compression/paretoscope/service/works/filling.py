"""What the plots need around a recipe: timings, the presets, the three sweeps."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

from paretoscope.base.progress import Progress, Within
from paretoscope.codec import shelf
from paretoscope.recipe.presets import presets_of
from paretoscope.recipe.recipe import Recipe
from paretoscope.service.knowledge import Knowledge
from paretoscope.service.presets import movable
from paretoscope.service.sweeps import ANCHORS, swept
from paretoscope.service.timing import Timing
from paretoscope.service.timing_key import TimingKey
from paretoscope.service.works.evaluating import evaluate
from paretoscope.service.works.timing import time


def fill(bench: Knowledge, progress: Progress, model: str, recipe: Recipe, timing: Timing) -> None:
    """Time and evaluate what is missing: what the plots need first, the presets, the times of their graphs, the sweeps.

    A sweep's points mostly have a graph of these, so that each is within or beyond a limit of time as soon as it comes.
    """
    presets = {preset.recipe for preset in presets_of(model)}
    # Those with training first: they were tuned for this model.
    unknown = sorted(unevaluated(bench, model, recipe), key=lambda each: each.recover is None)
    within = Within(progress)
    done, total = 0, len(untimed(bench, model, recipe, timing)) + len(unknown)

    def timed(recipes: Sequence[Recipe]) -> None:
        nonlocal done, total
        total = max(total, done + len(recipes))
        for each in recipes:
            progress.report(done, total)
            time(bench, within, model, each, timing)
            done += 1

    def evaluated(recipes: Iterable[Recipe]) -> None:
        nonlocal done
        for each in recipes:
            progress.report(done, total)
            evaluate(bench, within, model, each)
            done += 1

    timed(_due(bench, model, _first(recipe, timing), timing))
    evaluated(each for each in unknown if each in presets)
    timed(untimed(bench, model, recipe, timing))
    evaluated(each for each in unknown if each not in presets)


def missing(bench: Knowledge, model: str, recipe: Recipe, timing: Timing) -> bool:
    """Whether `fill` would have anything to do."""
    return bool(untimed(bench, model, recipe, timing)) or next(unevaluated(bench, model, recipe), None) is not None


def unevaluated(bench: Knowledge, model: str, recipe: Recipe) -> Iterator[Recipe]:
    """What the plots show around a recipe that was not evaluated and can be.

    A preset with training can where its model is on the shelf; reading it takes a while, so that is looked up last.
    """
    source = bench.subject(model).statistics.digest
    trained, seen = [], set()
    for each in chain((preset.recipe for preset in presets_of(model)), swept(movable(model, recipe))):
        if each in seen or bench.recorded(model, each):
            continue
        seen.add(each)
        if each.recover is None:
            yield each
        else:
            trained.append(each)
    yield from (each for each in trained if shelf.find(source, each) is not None)


def untimed(bench: Knowledge, model: str, recipe: Recipe, timing: Timing) -> list[Recipe]:
    """One recipe for each graph and number format that is to be timed, the current recipe's own first.

    Where the time depends on the graph alone, those of the presets and of what the sweeps vary are among them: what is
    not timed is within no limit of milliseconds.
    """
    wanted = _first(recipe, timing)
    if not timing.chosen.sees_zeros:
        presets = (preset.recipe for preset in presets_of(model))
        wanted += [each for each in presets if each.recover is None or bench.recorded(model, each)]
        wanted += swept(movable(model, recipe))
    return _due(bench, model, wanted, timing)


def _first(recipe: Recipe, timing: Timing) -> list[Recipe]:
    """The current recipe, both number formats, and where the time depends on the zeros what it is predicted from."""
    anchors = [Recipe.of(sparsity=sparsity) for sparsity in ANCHORS] if timing.chosen.sees_zeros else []
    return [recipe, Recipe(), Recipe.of(bits=8, activations=8), *anchors]


def _due(bench: Knowledge, model: str, recipes: Sequence[Recipe], timing: Timing) -> list[Recipe]:
    """The first recipe of each timing that is to be taken."""
    found: dict[TimingKey, Recipe] = {}
    for each in recipes:
        found.setdefault(bench.timing_key(model, each, timing), each)
    return [each for each in found.values() if bench.due(model, each, timing)]
