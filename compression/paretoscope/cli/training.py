"""`paretoscope train`, `recover`: training from scratch, and of a compressed model."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from paretoscope.base import files
from paretoscope.base.errors import CompressionError
from paretoscope.cli.options import RecipeOptions, with_recipe
from paretoscope.cli.shared import Json, Model, file_path, reporting, tell
from paretoscope.cli.summary import summary

# A seed of PyTorch has 64 bits, the first for negative numbers.
LARGEST_SEED = 2**63 - 1


@reporting
def train(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Name of a model; the command models lists them.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Train all models whose data are on this machine.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of the first weights and of the order of the samples.")] = 0,
    out: Annotated[
        Path | None,
        typer.Option(parser=file_path, help="Write here instead of over the weights that ship.", metavar="FILE"),
    ] = None,
) -> None:
    """Train a model from scratch and write its weights."""
    from rich.console import Console
    from rich.progress import Progress

    from paretoscope.networks import zoo
    from paretoscope.networks.zoo import train as training
    from paretoscope.service import subjects

    if every == (name is not None):
        raise CompressionError("train must be told what: one NAME or --all; got neither or both. Name one of them.")
    if every and out is not None:
        raise CompressionError(
            "--out must name the file of one model; got it with --all. Train one model, or drop --out."
        )
    if not 0 <= seed <= LARGEST_SEED:
        raise CompressionError(f"--seed must be a whole number from 0 to {LARGEST_SEED}; got {seed}. Pass e.g. 0.")
    if out is not None:
        files.check_writable(out)
    here = tuple(entry.name for entry in zoo.models if zoo.datasets.get(entry.dataset).here())
    names = here if name is None else (zoo.models.get(name).name,)
    with Progress(console=Console(stderr=True)) as progress:
        for each in names:
            task = progress.add_task(each, total=zoo.models.get(each).training.epochs)

            def show(epoch: int, epochs: int, figures: dict[str, float], task: Any = task, each: str = each) -> None:
                text = ", ".join(f"{key} {value:.4f}" for key, value in figures.items())
                progress.update(task, completed=epoch, total=epochs, description=f"{each}: {text}")

            result = training.train(each, seed=seed, progress=show)
            path = training.save(result, each, out)
            figure = subjects.task_of(each).words.name
            print(
                f"{each}: test {figure} {result.test_accuracy:.4f}, train {figure} {result.train_accuracy:.4f}, "
                f"{result.epochs} epochs, {result.seconds:.0f} s, seed {result.seed}, written to {path}"
            )


@reporting
@with_recipe
def recover(
    options: RecipeOptions,
    model: Model,
    minutes: Annotated[
        float | None, typer.Option(help="End after so many minutes, with the best epoch so far.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(parser=file_path, help="Write the trained artefact here too.", metavar="FILE")
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Train anew what was trained before.")] = False,
    as_json: Json = False,
) -> None:
    """Train a compressed model to win back accuracy, within what its recipe can represent.

    Ctrl-C ends the training and keeps the best epoch so far. The same command goes on with a training that was
    interrupted. The result joins the dashboard's history; evaluate, compress and export find it by its recipe.
    """
    from paretoscope import codec
    from paretoscope.cli.recover import recover as train

    recipe = options.build(model)
    if out is not None:
        # Now and not after the training, which takes minutes.
        files.check_writable(out)
    report = train(model, recipe, minutes=minutes, again=again)
    if out is not None:
        files.write_atomically(out, codec.write(report.compressed))
    print(json.dumps(report.to_dict(), indent=2) if as_json else report.text(summary(report.after)))
    tell(report.compressed.notes)
