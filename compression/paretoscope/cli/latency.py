"""`paretoscope latency`: timings and what explains them."""

import json
import sys
from typing import Annotated

import typer

from paretoscope.base import lock as exclusive
from paretoscope.base.errors import CompressionError
from paretoscope.cli.options import RecipeOptions, with_recipe
from paretoscope.cli.shared import LATENCY_PANEL, Json, ModelOrFile, reporting, tell
from paretoscope.cli.subjects import recipe_of


@reporting
@with_recipe
def latency(
    options: RecipeOptions,
    model: ModelOrFile,
    runtime: Annotated[
        list[str] | None,
        typer.Option(
            help="Name of a runtime, or all; may be given more than once. The verdict is on the first. "
            "(default onnxruntime)",
            metavar="NAME|all",
            rich_help_panel=LATENCY_PANEL,
        ),
    ] = None,
    batch: Annotated[
        list[int] | None,
        typer.Option(
            help="Samples in a batch; may be given more than once. (default 1)", rich_help_panel=LATENCY_PANEL
        ),
    ] = None,
    threads: Annotated[
        list[int] | None,
        typer.Option(help="Threads; may be given more than once. (default 1)", rich_help_panel=LATENCY_PANEL),
    ] = None,
    size: Annotated[
        int | None,
        typer.Option(help="Height and width of the images. (default: the model's)", rich_help_panel=LATENCY_PANEL),
    ] = None,
    budget: Annotated[
        float | None,
        typer.Option(help="Most seconds that a timing may take. (default 1.5)", rich_help_panel=LATENCY_PANEL),
    ] = None,
    width: Annotated[
        float | None,
        typer.Option(
            help="A timing ends when the interval of the speed-up is narrower than this share of it. (default 0.02)",
            rich_help_panel=LATENCY_PANEL,
        ),
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Measure anew what is stored.", rich_help_panel=LATENCY_PANEL)
    ] = False,
    as_json: Json = False,
) -> None:
    """Measure the latency of a recipe, or of an artefact, against the baseline, and all that explains it.

    What was measured before is taken from the dashboard's history and said to be stored; results join it.
    """
    from paretoscope.base.progress import Calling
    from paretoscope.measure.latency import BUDGET_S, WIDTH
    from paretoscope.service.latency_study import ask, study
    from paretoscope.service.workbench import Workbench

    budget_s, widest = BUDGET_S if budget is None else budget, WIDTH if width is None else width
    if not (budget_s > 0 and widest >= 0):
        raise CompressionError(
            f"--budget must be above 0 and --width at least 0; got {budget} and {width}. "
            "Leave them out for the defaults."
        )
    name, recipe = recipe_of(model, options)
    bench = Workbench(again=again, budget_s=budget_s, width=widest)
    try:
        question = ask(bench, name, recipe, runtime or ["onnxruntime"], batch or [1], threads or [1], size)
        shown = Calling(lambda share, label, partial: print(label, file=sys.stderr))
        report = study(bench, question, shown)
        notes = bench.compressed(name, recipe).notes
    finally:
        bench.close()
    print(json.dumps(report.to_dict(), indent=2) if as_json else report.text())
    tell(notes)
    if bench.store_error:
        print(f"Not kept in the history: {bench.store_error}", file=sys.stderr)
    tell([*bench.store_notes(name), *filter(None, [exclusive.trouble()])])
