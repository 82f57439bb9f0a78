"""`paretoscope layers`, `sensitivity`: a model layer by layer."""

import json
from typing import Annotated

import typer

from paretoscope.cli.options import RecipeOptions, with_recipe
from paretoscope.cli.shared import Json, Model, reporting, tell
from paretoscope.cli.subjects import recipe_for


@reporting
@with_recipe
def layers(options: RecipeOptions, model: Model, as_json: Json = False) -> None:
    """List a model's layers with their shares of size and of measured time; with a recipe, those of the result."""
    from paretoscope.measure.layers import layer_table
    from paretoscope.measure.wording import share_touched, untouched
    from paretoscope.service import subjects

    recipe = recipe_for(model, options)
    subject = subjects.load(model)
    compressed = subject.compress(recipe)
    rows = layer_table(subject, compressed)
    touched = subject.touched(compressed)
    tell([*compressed.notes, *filter(None, [untouched(touched, recipe)])])
    if as_json:
        print(json.dumps([row.to_dict() for row in rows], indent=2))
        return
    print(f"{'layer':<52}{'kind':<22}{'shape':<18}{'parameters':>11}{'MACs':>12}{'bytes':>11}{'size':>8}{'time':>8}")
    for row in rows:
        shape = "x".join(map(str, row.shape))
        print(
            f"{row.name:<52}{row.kind:<22}{shape:<18}{row.parameters:>11,}{row.macs:>12,}{row.bytes:>11,}"
            f"{row.size_share:>8.1%}{row.time_share:>8.1%}"
        )
    if not recipe.lossless:
        print(f"{share_touched(touched)} of the parameters")


@reporting
def sensitivity(
    model: Model,
    layer: Annotated[list[str] | None, typer.Option(help="Only this layer; may be given more than once.")] = None,
    as_json: Json = False,
) -> None:
    """Measure the accuracy when one layer alone is pruned, shared or quantized, over the whole range."""
    from rich.console import Console
    from rich.progress import Progress

    from paretoscope.base.progress import Calling
    from paretoscope.measure.sensitivity import measure_sensitivity
    from paretoscope.service import subjects
    from paretoscope.tasks.plain import figure

    subject, console = subjects.load(model), Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(f"Measuring the layers of {model}", total=1.0)
        shown = Calling(lambda share, label, partial: bar.update(task, completed=share))
        found = measure_sensitivity(subject, layer, progress=shown)
    if as_json:
        print(json.dumps(found.to_dict(), indent=2))
        return
    words = subject.task.words
    print(f"baseline {figure(words, found.correct / found.n)}; {words.name} with one layer alone at each value")
    for setting in next(iter(found.curves.values()), {}):
        values = [point.value for point in next(iter(found.curves.values()))[setting]]
        print(f"\n{setting:<52}" + "".join(f"{value:>9g}" for value in values))
        for name, curve in found.curves.items():
            print(f"{name:<52}" + "".join(f"{figure(words, point.correct / point.n):>9}" for point in curve[setting]))
