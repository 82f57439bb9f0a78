"""`paretoscope evaluate`, `compress`: what a recipe makes of a model, measured or written."""

import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from paretoscope.base import lock as exclusive
from paretoscope.base.errors import CompressionError, ModelError, StoreError
from paretoscope.cli.options import RecipeOptions, with_recipe
from paretoscope.cli.shared import LATENCY_PANEL, Json, Model, ModelOrFile, file_path, reporting, tell
from paretoscope.cli.subjects import compressed_subject, is_name, makes, recipe_for
from paretoscope.cli.summary import summary

if TYPE_CHECKING:
    from paretoscope.measure.record import Record
    from paretoscope.measure.subject import Evaluation, Subject
    from paretoscope.model.compressed import CompressedModel


@reporting
@with_recipe
def evaluate(
    options: RecipeOptions,
    model: ModelOrFile,
    as_json: Json = False,
    samples: Annotated[
        int | None,
        typer.Option(help="Measure on so many samples only; 0: as many as take about 3 s. (default all)"),
    ] = None,
    runtime: Annotated[
        str,
        typer.Option(
            help="Name of the runtime that is timed, e.g. onnxruntime, torch or sparse; none: without a timing. "
            "(default onnxruntime)",
            metavar="NAME|none",
            rich_help_panel=LATENCY_PANEL,
            show_default=False,
        ),
    ] = "onnxruntime",
    batch: Annotated[
        int | None, typer.Option(min=1, help="Samples in a batch. (default 1)", rich_help_panel=LATENCY_PANEL)
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads. (default 1)", rich_help_panel=LATENCY_PANEL)
    ] = None,
) -> None:
    """Measure accuracy, size and latency of a recipe, or of an artefact.

    With --samples the figures are those of a sample, always the same; they are marked, and no part of the history.

    Results join the dashboard's history; those of an artefact do where this version makes the same file of its recipe.
    """
    from paretoscope.networks import sources

    if is_name(model):
        # First: to tell a misspelt name takes no time, to import what runs models takes seconds.
        sources.find(model)
    timed = [name for name, value in (("--batch", batch), ("--threads", threads)) if value is not None]
    if runtime != "none":
        from paretoscope.measure.latency import check_batch
        from paretoscope.runtimes import runtimes

        runtimes.get(runtime)
        check_batch(1 if batch is None else batch)
    elif timed:
        raise CompressionError(
            f"{' and '.join(timed)} have an effect only where a runtime is timed; got --runtime none. Leave them out, "
            "or name a runtime."
        )
    subject, compressed, artefact = compressed_subject(model, options)
    *_, evaluation = subject.evaluate_compressed(
        compressed, artefact, subject.judged.quick if samples == 0 else samples
    )
    n, whole = evaluation.record.figures.n, len(subject.judged)
    own = is_name(model) or (compressed.description is None and makes(subject, compressed.recipe, artefact))
    kept = own and n == whole
    record = _timed(subject, compressed, evaluation, runtime, batch or 1, threads or 1, kept)
    print(record.to_json(indent=2) if as_json else summary(record))
    tell([*compressed.notes, *filter(None, [exclusive.trouble()])])
    if n < whole:
        tell([f"These figures are of a sample, {n:,} of {whole:,} samples, and not kept in the history."])
    elif not kept:
        tell(["These figures are not kept in the history: this version does not make this file of its recipe."])


@reporting
@with_recipe
def compress(
    options: RecipeOptions,
    model: Model,
    out: Annotated[Path, typer.Option(parser=file_path, help="Where to write the artefact.", metavar="FILE")],
) -> None:
    """Compress a model by a recipe and write the artefact."""
    from paretoscope import api
    from paretoscope.measure.wording import share_touched, smaller, untouched
    from paretoscope.service import subjects

    recipe = recipe_for(model, options)
    subject = subjects.load(model)
    compressed = subject.compress(recipe)
    size = api.save(compressed, out)
    ratio = subject.baseline.size_bytes / size
    touched = subject.touched(compressed)
    told = f"{smaller(ratio)} than fp32 ({recipe.describe()}); {share_touched(touched)} of the parameters"
    print(f"{out}: {size:,} bytes, {told}")
    tell([*compressed.notes, *filter(None, [untouched(touched, recipe)])])


def _timed(
    subject: "Subject",
    compressed: "CompressedModel",
    evaluation: "Evaluation",
    runtime: str,
    batch: int,
    threads: int,
    kept: bool,
) -> "Record":
    """The record with its timing; both join the history where they are to be kept."""
    from paretoscope.runtimes import runtimes
    from paretoscope.service.store import Store
    from paretoscope.service.timing_key import TimingKey

    record, timing = evaluation.record, None
    if runtime != "none":
        try:
            timing = subject.time(compressed, runtime, batch, threads)
        except ModelError as error:
            # What is measured of a network of the user is told, whether or not a runtime can run it.
            if subject.network.graph is None:
                raise
            tell([f"Not timed: {error}"])
    if kept:
        store = Store()
        with suppress(StoreError):  # both wait, and are tried together
            store.put(evaluation)
        try:
            if timing is not None:
                chosen = runtimes.get(runtime)
                key = TimingKey.of(record.digests.model, compressed.recipe, chosen, batch=batch, threads=threads)
                store.put_latency(key, timing.latency, timing.samples)
            store.close()
        except StoreError as error:
            print(f"Not kept in the history: {error}", file=sys.stderr)
    return replace(record, latency=timing.latency if timing else None)
