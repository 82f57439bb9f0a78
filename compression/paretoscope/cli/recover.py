"""`paretoscope recover`: a training with a bar on standard error, and what it came to."""

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from paretoscope.base.errors import CompressionError, RecipeError
from paretoscope.codec import shelf
from paretoscope.measure.record import Record
from paretoscope.measure.subject import Evaluation
from paretoscope.model.compressed import CompressedModel
from paretoscope.recipe.recipe import Recipe
from paretoscope.service.jobs import Job, State
from paretoscope.service.study import StudyKind
from paretoscope.service.workbench import Workbench
from paretoscope.tasks import Words
from paretoscope.tasks.plain import figure
from paretoscope.training.epochs import Epoch, Recovery, best_of
from paretoscope.training.interrupted import interrupted
from paretoscope.training.progress import duration, seconds_left
from paretoscope.training.worth import Worth, weigh

# Seconds between two looks at the training.
_LOOK_S = 0.1


@dataclass(frozen=True, eq=False, slots=True)
class RecoveryReport:
    """A training and its result; before, after: the recipe without and with it, on the test split."""

    recovery: Recovery
    compressed: CompressedModel
    before: Record
    after: Record
    worth: Worth

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "before": self.before.to_dict(),
            "after": self.after.to_dict(),
            "worth": self.worth.to_dict(),
            "best": self.recovery.best,
            "epochs": [asdict(epoch) for epoch in self.recovery.epochs],
        }

    def text(self, summary: str) -> str:
        """For a person. summary: of the record afterwards."""
        last = self.recovery.epochs[-1].number
        kept = f"epoch {self.recovery.best} of {last}" if self.recovery.best else "the start: no epoch was better"
        rows = [
            ("baseline", self.after.baseline.value, self.after.baseline.size_bytes),
            ("before", self.before.figures.value, self.before.size.artefact),
            ("after", self.after.figures.value, self.after.size.artefact),
        ]
        return "\n".join(
            [
                f"{self.worth.headline}. {self.worth.caveat}".strip(),
                f"Kept, by the validation part: {kept}",
                *(f"{name:<11}{figure(self.worth.words, value):>8}{size:>12,} bytes" for name, value, size in rows),
                "",
                summary,
            ]
        )


def recover(model: str, recipe: Recipe, *, minutes: float | None = None, again: bool = False) -> RecoveryReport:
    """Train, or go on with what was interrupted; Ctrl-C keeps the best epoch so far.

    Raises CompressionError, also where it was ended before there was anything to keep.
    """
    step = recipe.recover
    if step is None:
        raise RecipeError("recover must be told how long; the recipe has no epochs. Pass --epochs, e.g. 20.")
    if minutes is not None and not 0 < minutes < float("inf"):
        raise CompressionError(f"--minutes must be above 0; got {minutes:g}. Leave it out for no limit.")
    bench = Workbench(again=again)
    try:
        subject = bench.subject(model)
        source = subject.statistics.digest
        if again:
            shelf.drop_checkpoint(source, recipe)
        done = next((each.done for each in interrupted(source) if each.recipe == recipe), None)
        if done is not None:
            _tell(f"Going on after epoch {done}, where this training was interrupted.")
        before = _evaluation(bench.evaluate(model, recipe.untrained))
        shown = _shown(step.epochs, subject.task.words, done)
        recovery = _train(bench, model, recipe, minutes, shown)
        after = bench.find(model, recovery.recipe) or _evaluation(bench.evaluate(model, recovery.recipe))
        if bench.store_error:
            _tell(f"Not kept in the history: {bench.store_error}")
        for note in bench.store_notes(model):
            _tell(note)
        worth = weigh(subject.task, before, after, subject.labels, recovery)
        return RecoveryReport(recovery, bench.compressed(model, recovery.recipe), before.record, after.record, worth)
    finally:
        bench.close()


def _train(
    bench: Workbench,
    model: str,
    recipe: Recipe,
    minutes: float | None,
    shown: AbstractContextManager[Callable[[Job], None]],
) -> Recovery:
    job = bench.ask(StudyKind.RECOVER, model, recipe, minutes)
    try:
        with shown as show:
            while not job.wait(_LOOK_S):
                show(job)
            show(job)
    except KeyboardInterrupt:
        _tell("Ending; the best epoch so far is kept.")
        job.cancel()
        job.wait()
    if job.state is not State.DONE and job.error:
        raise CompressionError(job.error)
    kept = job.result if job.state is State.DONE else bench.known(StudyKind.RECOVER, model, recipe)
    if not isinstance(kept, Recovery):
        raise CompressionError(
            "a training must reach the end of an epoch to be kept; it was ended before. Let it run longer."
        )
    return kept


def _evaluation(job: Job) -> Evaluation:
    job.wait()
    if not isinstance(job.result, Evaluation) or job.state is not State.DONE:
        raise CompressionError(job.error or "an evaluation must not be cancelled; it was. Start it again.")
    return job.result


@contextmanager
def _shown(total: int, words: Words, done: int | None) -> Iterator[Callable[[Job], None]]:
    """What shows a job: a bar on a terminal, elsewhere a line an epoch.

    total: epochs. words: of the task. done: the epoch that the training goes on after, None where it begins.
    """
    console = Console(stderr=True)
    told = 0 if done is None else done + 1

    def lines(job: Job) -> None:
        nonlocal told
        epochs = job.partial or ()
        for place in range(told, len(epochs)):
            _tell(_line(epochs[: place + 1], total, words))
        told = max(told, len(epochs))

    if not console.is_terminal:
        yield lines
        return
    columns = TextColumn("{task.description}"), BarColumn()
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("Training", total=total)

        def bar(job: Job) -> None:
            if epochs := job.partial:
                progress.update(task, completed=epochs[-1].number, description=_line(epochs, total, words))

        yield bar


def _line(epochs: tuple[Epoch, ...], total: int, words: Words) -> str:
    last, best, left = epochs[-1], best_of(epochs), seconds_left(epochs, total)
    parts = [
        f"epoch {last.number}/{total}",
        *([] if last.loss is None else [f"loss {last.loss:.4f}"]),
        f"validation {figure(words, last.validation_accuracy)}",
        *(
            []
            if best is None or best.number in (0, last.number)
            else [f"best {figure(words, best.validation_accuracy)}"]
        ),
        f"{last.size:,} bytes",
        *([] if left is None or not left else [f"{duration(left)} left"]),
    ]
    return ", ".join(parts)


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
