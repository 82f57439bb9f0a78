"""`paretoscope report`: what is known of a configuration, as a file for people who were not there."""

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from paretoscope.cli.options import RecipeOptions, with_recipe
from paretoscope.cli.shared import LATENCY_PANEL, Model, file_path, reporting, tell
from paretoscope.cli.subjects import recipe_for
from paretoscope.recipe.file import open_recipe
from paretoscope.recipe.presets import preset_for, presets
from paretoscope.recipe.recipe import Recipe

BUDGET_PANEL = "What you can afford"


@reporting
@with_recipe
def report(
    options: RecipeOptions,
    model: Model,
    out: Annotated[Path, typer.Option("--out", "-o", parser=file_path, help="Where to write it.", metavar="FILE")],
    beside: Annotated[
        list[str] | None,
        typer.Option(help="A preset or a recipe file to compare with; may be given again.", metavar="NAME|FILE"),
    ] = None,
    most_kb: Annotated[
        float | None, typer.Option(help="At most so many kilobytes.", rich_help_panel=BUDGET_PANEL)
    ] = None,
    most_ms: Annotated[
        float | None, typer.Option(help="At most so many milliseconds a batch.", rich_help_panel=BUDGET_PANEL)
    ] = None,
    most_lost: Annotated[
        float | None, typer.Option(help="At most so many points lost.", rich_help_panel=BUDGET_PANEL)
    ] = None,
    runtime: Annotated[
        str, typer.Option(help="Whose times are told. (default onnxruntime)", rich_help_panel=LATENCY_PANEL)
    ] = "onnxruntime",
    batch: Annotated[int, typer.Option(min=1, help="Samples in a batch.", rich_help_panel=LATENCY_PANEL)] = 1,
    threads: Annotated[int, typer.Option(min=1, help="Threads.", rich_help_panel=LATENCY_PANEL)] = 1,
) -> None:
    """Write a report of a recipe as one HTML file that needs nothing else.

    The recipe and those beside it are measured where they are not yet; times are told where they are known.
    """
    from paretoscope import reports
    from paretoscope.base import files
    from paretoscope.base.progress import SILENT
    from paretoscope.runtimes import runtimes
    from paretoscope.search.budget import KILOBYTE, Budget
    from paretoscope.service.knowledge import Knowledge
    from paretoscope.service.pins import Pin
    from paretoscope.service.studies import STUDIES
    from paretoscope.service.study import StudyKind
    from paretoscope.service.timing import Timing

    recipe = recipe_for(model, options)
    pins = [Pin(model, recipe), *(Pin(model, _named(model, each), each[:40]) for each in beside or ())]
    budget = Budget(None if most_kb is None else most_kb * KILOBYTE, most_ms, most_lost)
    runtimes.get(runtime)
    files.check_writable(out)
    bench = Knowledge(STUDIES)
    bench.subject(model)
    for pin in pins:
        if bench.find(model, pin.recipe) is None:
            bench.run(StudyKind.EVALUATE, SILENT, model, pin.recipe)
    text = reports.write(
        bench,
        model,
        recipe,
        Timing(runtime, batch, threads),
        made=datetime.now().astimezone(),
        budget=budget,
        pins=pins if len(pins) > 1 else (),
    )
    files.write_atomically(out, text.encode())
    bench.close()
    print(f"{out}: {len(text.encode()):,} bytes")
    tell(bench.store_notes(model))


def _named(model: str, text: str) -> Recipe:
    """The recipe of a preset, or of a file."""
    return preset_for(text, model).recipe if text in presets else open_recipe(Path(text))
