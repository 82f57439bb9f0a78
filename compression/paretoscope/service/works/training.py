"""Trainings: kept as they go, gone on with where they were, and smaller and smaller students."""

import math
from contextlib import suppress
from typing import Any

from paretoscope.base.errors import CompressionError
from paretoscope.base.progress import Cancelled, Progress, Within
from paretoscope.codec import shelf
from paretoscope.recipe.recipe import Recipe
from paretoscope.service.knowledge import Knowledge
from paretoscope.service.study import StudyKind
from paretoscope.service.works.evaluating import evaluate
from paretoscope.training import shrink as shrinking
from paretoscope.training.epochs import Recovery, best_of
from paretoscope.training.progress import seconds_left
from paretoscope.training.shrink import ShrinkStep, required_accuracy, students
from paretoscope.training.train import Trainer


def recover(bench: Knowledge, progress: Progress, model: str, recipe: Recipe, minutes: float | None = None) -> Recovery:
    """Train by a recipe, from the last checkpoint where there is one; partial results are its epochs so far.

    minutes: a budget of training in all, without pauses. What it ends, and what is cancelled, keeps the best so far;
    the recipe of the result tells after which epoch.
    """
    known = bench.known(StudyKind.RECOVER, model, recipe)
    if isinstance(known, Recovery) and known.recipe == recipe and _on_shelf(bench, model, recipe):
        evaluate(bench, Within(progress), model, recipe)
        return known
    trainer = Trainer(bench.subject(model), recipe)
    source = trainer.subject.statistics.digest
    if (kept := shelf.checkpoint(source, recipe)) is not None:
        try:
            trainer.restore(kept)
        except CompressionError:
            shelf.set_checkpoint_aside(source, recipe)
    last = trainer.step.stopped or trainer.step.epochs
    before = trainer.epochs[-1].seconds if trainer.epochs else 0.0
    budget = min(math.inf if minutes is None else 60 * minutes, before + 60 * bench.limits.minutes)
    try:
        for epoch in trainer.run(progress):
            shelf.keep_checkpoint(source, recipe, trainer.checkpoint())
            left = seconds_left(trainer.epochs, last)
            progress.report(
                epoch.number,
                last,
                label=f"epoch {epoch.number} of {last}",
                partial=tuple(trainer.epochs),
                left=None if left is None else min(left, max(0.0, budget - epoch.seconds)),
            )
            if epoch.number and epoch.seconds > budget:
                break
    except Cancelled:
        if trainer.epochs and trainer.epochs[-1].number:
            with suppress(CompressionError):  # nothing to keep yet
                _keep(bench, model, recipe, trainer)
        raise
    return _keep(bench, model, recipe, trainer)


def _on_shelf(bench: Knowledge, model: str, recipe: Recipe) -> bool:
    """Whether the model of a trained recipe is still there."""
    return shelf.find(bench.subject(model).statistics.digest, recipe) is not None


def _keep(bench: Knowledge, model: str, recipe: Recipe, trainer: Trainer) -> Recovery:
    found = trainer.result()
    shelf.put(found.compressed)
    *_, evaluation = trainer.subject.evaluate_compressed(found.compressed)
    bench.keep_evaluation(evaluation)
    kept = Recovery(found.compressed.recipe, found.best, found.epochs)
    for each in {recipe, kept.recipe}:
        bench.keep(StudyKind.RECOVER, (model, each), kept)
    if trainer.ended:
        shelf.drop_checkpoint(trainer.subject.statistics.digest, recipe)
    return kept


def shrink(
    bench: Knowledge, progress: Progress, model: str, recipe: Recipe, axis: str, points: float, epochs: int
) -> tuple[ShrinkStep, ...]:
    """Train smaller and smaller students of a recipe, until one misses the required accuracy.

    axis: "width" or "depth". points: that the validation accuracy may fall below the baseline's, of 100. epochs: of
    each student. Partial results are the steps so far; each that has ended is kept as `recover` keeps it.
    """
    subject = bench.subject(model)
    steps: tuple[ShrinkStep, ...] = ()
    required = required_accuracy(subject, recipe, points)
    recipes = list(students(subject, recipe, axis, epochs))

    def train(student: Recipe) -> Recovery:
        return recover(bench, _Student(progress, student, steps, len(recipes)), model, student)

    for step in shrinking.shrink(recipes, train, required, progress):
        steps = (*steps, step)
        progress.report(len(steps), len(recipes), partial=steps)
    return steps


class _Student:
    """The Progress of one student's training within that of all. steps: those before."""

    def __init__(self, whole: Progress, student: Recipe, steps: tuple[ShrinkStep, ...], count: int) -> None:
        self._whole = whole
        self._student = student
        self._steps = steps
        self._count = count

    def report(
        self,
        done: float | None = None,
        total: float = 1.0,
        *,
        label: str | None = None,
        partial: Any = None,
        left: float | None = None,
    ) -> None:
        """As `Progress.report`; partial: the epochs so far."""
        if partial is None:
            return self._whole.report()
        best = best_of(partial)
        assert best is not None and done is not None, "partial results come after an epoch, and tell which"
        running = ShrinkStep(self._student, best.number, partial, None)
        return self._whole.report(
            len(self._steps) + done / total,
            self._count,
            label=f"student {len(self._steps) + 1}, {label}",
            partial=(*self._steps, running),
        )
