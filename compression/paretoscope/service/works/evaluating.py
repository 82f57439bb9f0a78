"""Evaluations, and the studies that are made of them."""

from paretoscope.base.progress import Progress, Within
from paretoscope.data.data import Part
from paretoscope.graph.outline import Outline, outline
from paretoscope.graph.programs import import_module
from paretoscope.measure import layer_bytes as bytes_of
from paretoscope.measure.layer_bytes import LayerBytes
from paretoscope.measure.layers import LayerRow, layer_table
from paretoscope.measure.sensitivity import Sensitivity, measure_sensitivity
from paretoscope.measure.stage import Shot, shot
from paretoscope.measure.subject import Evaluation, Subject
from paretoscope.recipe.recipe import Recipe
from paretoscope.search import allot as rates
from paretoscope.search.allot import Allotment
from paretoscope.search.cliff import Cliff, find_cliff
from paretoscope.search.suggest import Suggestion, Target, find
from paretoscope.search.waterfall import Waterfall, attribute
from paretoscope.service.knowledge import Knowledge
from paretoscope.service.study import StudyKind


def evaluate(bench: Knowledge, progress: Progress, model: str, recipe: Recipe) -> Evaluation:
    """The exact evaluation of a recipe; running estimates are its partial results."""
    known = bench.find(model, recipe)
    if known is not None:
        return known
    return _exact(bench, progress, bench.subject(model), recipe, shown=0)


def show(bench: Knowledge, progress: Progress, model: str, recipe: Recipe) -> Evaluation:
    """The exact evaluation for somebody who waits: of a large network the figure of a few samples, always the same,
    comes first, as a partial result, and stands until more samples are measured."""
    known = bench.find(model, recipe)
    if known is not None:
        return known
    subject, shown = bench.subject(model), 0
    judged = subject.judged
    if judged.quick < len(judged):
        shown = judged.quick
        for evaluation in subject.evaluate(recipe, shown):
            progress.report(evaluation.record.figures.n, len(judged), partial=evaluation)
    return _exact(bench, progress, subject, recipe, shown)


def _exact(bench: Knowledge, progress: Progress, subject: Subject, recipe: Recipe, shown: int) -> Evaluation:
    """Evaluate and keep. shown: samples of the figure that is shown already."""
    n = len(subject.judged)
    for evaluation in subject.evaluate(recipe):
        got = evaluation.record.figures.n
        progress.report(max(got, shown), n, partial=evaluation if got > shown else None)
    bench.keep_evaluation(evaluation)
    return evaluation


def layers(bench: Knowledge, progress: Progress, model: str) -> list[LayerRow]:
    """The table of a model's layers, with their shares of size and time."""
    return layer_table(bench.subject(model))


def layer_bytes(bench: Knowledge, progress: Progress, model: str, recipe: Recipe) -> LayerBytes:
    """The bytes of each layer in a recipe's file."""
    return bytes_of.layer_bytes(bench.compressed(model, recipe))


def stage(bench: Knowledge, progress: Progress, model: str, recipe: Recipe) -> Shot:
    """What a recipe gives, with some of its weights, for a demonstration."""
    evaluation = bench.find(model, recipe) or show(bench, progress, model, recipe)
    return shot(bench.compressed(model, recipe), evaluation.record)


def graph(bench: Knowledge, progress: Progress, model: str) -> Outline:
    """What a model computes in which order, as it is drawn."""
    subject = bench.subject(model)
    known = subject.network.graph
    if known is None:
        known = import_module(subject.model, next(iter(subject.data.samples(Part.TEST, 2)))).graph
    return outline(known, subject.statistics.layers)


def sensitivity(bench: Knowledge, progress: Progress, model: str) -> Sensitivity:
    """The curves of a model; partial results hold the layers that are complete."""
    return measure_sensitivity(bench.subject(model), progress=progress)


def waterfall(bench: Knowledge, progress: Progress, model: str, recipe: Recipe) -> Waterfall:
    """What each step of a recipe contributes, by all subsets of its steps."""

    def measure(each: Recipe) -> tuple[int, float]:
        record = evaluate(bench, Within(progress), model, each).record
        return record.size.artefact, record.figures.value

    return attribute(recipe, measure, bench.subject(model).baseline.size_bytes, progress=progress)


def cliff(bench: Knowledge, progress: Progress, model: str, recipe: Recipe, setting: str) -> Cliff:
    """The last value of a slider that cannot be told from the baseline."""
    within = Within(progress)
    return find_cliff(
        lambda each: evaluate(bench, within, model, each).record.figures, recipe, setting, progress=progress
    )


def suggest(bench: Knowledge, progress: Progress, model: str, target: Target, base: Recipe) -> Suggestion:
    """From the model's sensitivity, which is measured where it is not known, to a recipe for a target."""
    subject, within = bench.subject(model), Within(progress)
    curves = bench.run(StudyKind.SENSITIVITY, within, model)

    def lost(recipe: Recipe) -> float:
        figures = evaluate(bench, within, model, recipe).record.figures
        return subject.task.words.factor * (subject.baseline.value - figures.value)

    return find(
        curves,
        subject.statistics,
        target,
        base,
        lambda recipe: len(bench.artefact(model, recipe)),
        lost,
        progress=progress,
        factor=subject.task.words.factor,
    )


def allot(
    bench: Knowledge, progress: Progress, model: str, recipe: Recipe, size: int | None, harm: float | None
) -> Allotment:
    """The exchange rate of a wanted size, in bytes, or a wanted harm, in nats."""
    return rates.allot(bench.subject(model), recipe, size=size, harm=harm, progress=progress)
