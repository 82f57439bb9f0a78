"""Convert, and check what was converted in its own runtime over the whole test split."""

import time
from dataclasses import dataclass
from typing import Any

import torch

from paretoscope.base.batch import joined
from paretoscope.base.errors import CompressionError
from paretoscope.base.progress import SILENT, Cancelled, Progress
from paretoscope.export.base import Conversion, Original, Verification, answers, distance, formats
from paretoscope.measure.subject import Subject
from paretoscope.model.compressed import CompressedModel
from paretoscope.runtimes.onnx_graph import Arrays, arrays
from paretoscope.tasks.plain import Counted


@dataclass(frozen=True, eq=False, slots=True)
class Checked:
    """A conversion with its check. conversion: the files, or None where the check failed or none could be made."""

    conversion: Conversion | None
    verification: Verification


def convert(
    compressed: CompressedModel,
    format: str,
    subject: Subject,
    progress: Progress = SILENT,
    original: Original | None = None,
) -> Conversion:
    """The files of a compressed model in a format.

    original: of the same model, where several formats are made of it. Raises UnknownNameError, ModelError for what is
    not installed or cannot be expressed, RecipeError where the recipe has no such files.
    """
    chosen = formats.get(format)
    chosen.expect_possible(compressed.recipe)
    original = original or Original(subject, compressed, progress)
    original.begin(0.0, 0.4)
    original.report(0.0)
    return Conversion(chosen.name, chosen.write(original))


def verify(
    conversion: Conversion,
    subject: Subject,
    compressed: CompressedModel,
    progress: Progress = SILENT,
    original: Original | None = None,
) -> Verification:
    """Load a conversion in its own runtime, run the test split, and compare with the network on the screen.

    Never raises for files that are wrong: `problem` of the result says what is. progress: told of the done share of
    the images; what it raises ends the work.
    """
    chosen = formats.get(conversion.format)
    original = original or Original(subject, compressed, progress)
    original.begin(0.4, 0.6)
    expected = original.screen
    original.begin(0.6, 1.0)
    start = time.perf_counter()
    logits: Arrays | None = None
    problem: str | None = None
    try:
        logits = chosen.run(conversion.files, original)
        shapes, found = ([each.shape for each in arrays(outputs)] for outputs in (expected, logits))
        if found != shapes:
            problem = f"it must give logits of shape {_told(shapes)}; it gives {_told(found)}"
    except Cancelled:
        raise
    except CompressionError as error:
        problem = str(error)
    except Exception as error:  # each runtime has errors of its own, without a common base
        problem = f"{chosen.runtime} cannot run it: {type(error).__name__}: {' '.join(str(error).split())[:300]}"
    seconds = time.perf_counter() - start
    if logits is None or problem:
        reason = f"{chosen.name} failed its check: {problem}".rstrip(".")
        return _failed(chosen.name, f"{reason}.", conversion.size, seconds)
    outputs = joined(tuple(map(torch.from_numpy, arrays(logits))))
    return Verification(
        format=chosen.name,
        runtime=chosen.runtime,
        n=original.n,
        differing=int((answers(logits) != answers(expected)).sum()),
        largest=distance(logits, expected),
        correct=round(float(subject.task.correct(outputs, _truth(subject, original)).sum())),
        size=conversion.size,
        seconds=seconds,
        problem=f"{chosen.name} failed its check: {problem}." if (problem := chosen.judge(logits, original)) else None,
    )


def _truth(subject: Subject, original: Original) -> Any:
    """What answers are compared with: labels, or what the baseline says where the task is to agree with it."""
    if isinstance(subject.baseline, Counted):
        return torch.from_numpy(subject.labels)
    return joined(tuple(map(torch.from_numpy, arrays(original.logits(subject.model)))))


def _told(shapes: list[tuple[int, ...]]) -> str:
    return " and ".join(map(str, shapes))


def produce(
    compressed: CompressedModel,
    format: str,
    subject: Subject,
    progress: Progress = SILENT,
    original: Original | None = None,
) -> Checked:
    """Convert and verify. What fails is told by the verification, and has no files; raises UnknownNameError only."""
    formats.get(format)
    try:
        original = original or Original(subject, compressed, progress)
        conversion = convert(compressed, format, subject, original=original)
    except CompressionError as error:
        return Checked(None, _failed(format, str(error)))
    verification = verify(conversion, subject, compressed, original=original)
    return Checked(conversion if verification.passed else None, verification)


def _failed(format: str, problem: str, size: int = 0, seconds: float = 0.0) -> Verification:
    return Verification(format, formats.get(format).runtime, 0, 0, float("inf"), 0, size, seconds, problem)
