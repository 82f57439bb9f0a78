"""`paretoscope allot`, `suggest`: recipes that are found for a wanted size, harm or loss."""

import dataclasses
import sys
from pathlib import Path
from typing import Annotated

import typer

from paretoscope.base import files
from paretoscope.base.errors import RecipeError
from paretoscope.cli.options import RecipeOptions, with_recipe
from paretoscope.cli.shared import Model, file_path, reporting, tell
from paretoscope.cli.summary import summary
from paretoscope.recipe.recipe import DEFAULTS, INTEGER_BITS, Code, Recipe, Repair


@reporting
@with_recipe
def allot(
    options: RecipeOptions,
    model: Model,
    size: Annotated[int | None, typer.Option(help="Most bytes of the artefact.")] = None,
    harm: Annotated[
        float | None,
        typer.Option(
            help="Wanted mean KL divergence from the baseline's outputs on the train split, at most, in nats."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(parser=file_path, help="Write the recipe here too.", metavar="FILE")
    ] = None,
) -> None:
    """Find the exchange rate (lambda) of bytes and harm that meets a size or a harm, and measure what it gives."""
    from paretoscope.search import allot as search
    from paretoscope.service import subjects

    options.refuse(("exchange",), "allot looks for the exchange rate itself")
    base = options.build(model, implied={"bits": search.MOST_BITS, "calibration": "rate"})
    if base.recover is not None:
        raise RecipeError("allot looks for a recipe without training; got epochs. Train the one that it finds.")
    step = base.quantize
    if step is not None and step.bits > 1 and base.share is None and step.calibration != "rate":
        if step.calibration != "range":
            raise RecipeError(
                f"allot quantizes by rate; got calibration {step.calibration}. Leave it out, or set it to rate."
            )
        tell(["Scales follow from the exchange rate and not from the largest weights, as the recipe has it."])
    if out is not None:
        files.check_writable(out)
    subject = subjects.load(model)
    found = search.allot(subject, base, size=size, harm=harm)
    compressed = subject.compress(found.recipe)
    *_, evaluation = subject.evaluate_compressed(compressed)
    if out is not None:
        files.write_atomically(out, found.recipe.to_json(indent=2).encode())
    if not found.reached:
        print("The wish is out of reach; this is the nearest.", file=sys.stderr)
    print(summary(evaluation.record))
    tell(compressed.notes)


@reporting
@with_recipe
def suggest(
    options: RecipeOptions,
    model: Model,
    size: Annotated[int | None, typer.Option(help="Most bytes of the artefact.")] = None,
    loss: Annotated[float | None, typer.Option(help="Most accuracy that may be lost, in percentage points.")] = None,
    out: Annotated[
        Path | None, typer.Option(parser=file_path, help="Write the recipe here too.", metavar="FILE")
    ] = None,
) -> None:
    """Find settings for each layer, as it can bear, that meet a size or a loss of accuracy, and measure them."""
    from paretoscope import codec
    from paretoscope.measure.sensitivity import measure_sensitivity
    from paretoscope.search import suggest as search
    from paretoscope.service import subjects

    kept = {each.name for step in (Repair, Code) for each in dataclasses.fields(step)}
    rule = "suggest chooses all steps but repair and code itself"
    options.refuse(DEFAULTS.keys() - kept, rule)
    target = search.Target(bytes=size, drop=loss)
    # Its layers will have bits of their own, which is what repair works on.
    base = options.build(model, implied={"bits": INTEGER_BITS})
    if options.source is None:
        base = Recipe(repair=base.repair, code=base.code)
    if base != Recipe(repair=base.repair, code=base.code):
        raise RecipeError(f"{rule}; got {base.describe()}. Leave the other steps out.")
    if out is not None:
        files.check_writable(out)
    subject = subjects.load(model)
    factor = subject.task.words.factor
    curves = measure_sensitivity(subject)

    def lost(recipe: Recipe) -> float:
        *_, last = subject.evaluate(recipe)
        return factor * (subject.baseline.value - last.record.figures.value)

    def measure(recipe: Recipe) -> int:
        return len(codec.write(subject.compress(recipe)))

    made = search.find(curves, subject.statistics, target, base, measure, lost, factor=factor)
    compressed = subject.compress(made.recipe)
    *_, evaluation = subject.evaluate_compressed(compressed)
    if out is not None:
        files.write_atomically(out, made.recipe.to_json(indent=2).encode())
    if not made.reached:
        print("The wish is out of reach; this is the nearest.", file=sys.stderr)
    print(summary(evaluation.record))
    tell(compressed.notes)
