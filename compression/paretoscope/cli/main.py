"""The command line: everything the screen can do. Figures go to standard output, everything else to standard error."""

import dataclasses
import functools
import json
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from paretoscope.base import files
from paretoscope.base import lock as exclusive
from paretoscope.base.errors import ArtefactError, CompressionError, RecipeError, StoreError
from paretoscope.base.text import listed, printable
from paretoscope.recipe import effects
from paretoscope.recipe.presets import preset_for, presets, presets_of
from paretoscope.recipe.recipe import (
    CODERS,
    DEFAULTS,
    FULL_PRECISION,
    INTEGER_BITS,
    REST_FORMATS,
    SCHEDULES,
    Code,
    Recipe,
    Repair,
)
from paretoscope.service.presets import best_known, cautions, known

if TYPE_CHECKING:
    from paretoscope.measure.record import Record
    from paretoscope.measure.subject import Evaluation, Subject
    from paretoscope.model.compressed import CompressedModel

app = typer.Typer(
    help="See how small and how fast a neural network can get, and what that costs in accuracy.\n\n"
    "Start with: python -m paretoscope models, then: python -m paretoscope evaluate simple-cnn --sparsity 0.8 "
    "--clusters 16 --bits 8",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)

RECIPE_PANEL = "Recipe"
TRAINING_PANEL = "Training"
LATENCY_PANEL = "Latency"


@dataclass(frozen=True)
class RecipeOptions:
    """The recipe options of a command, as they were given; None where one was not."""

    recipe: Path | None
    preset: str | None
    settings: dict[str, Any]

    @property
    def given(self) -> dict[str, Any]:
        """The settings that were given, by name."""
        return {name: value for name, value in self.settings.items() if value is not None}

    @property
    def source(self) -> str | None:
        """The option that names where the whole recipe comes from, if one does."""
        return "--recipe" if self.recipe is not None else "--preset" if self.preset is not None else None

    def build(self, model: str | None = None, implied: Mapping[str, Any] | None = None) -> Recipe:
        """The recipe; options of the training may refine one that comes from a file or a preset.

        model: the name of the one that it is for, where that is known; RecipeError where the preset is for another.
        implied: settings that single options have where they do not say them, and that a file may count on. Raises
        RecipeError, also for an option that does nothing beside the others.
        """
        implied = dict(implied or {})
        given = self.given
        training = {name: given.pop(name) for name in TRAINING if name in given}
        sources = [self.recipe is not None, self.preset is not None, bool(given)]
        if sum(sources) > 1:
            raise RecipeError(
                "a recipe must come from one place: --recipe, --preset, or the single options; got more than one. "
                "Leave the others out."
            )
        if self.recipe is not None:
            from paretoscope.recipe.file import open_recipe

            base = open_recipe(self.recipe, implied)
        elif self.preset is not None:
            base = preset_for(self.preset, model).recipe
        else:
            if "drop" in given:
                given["drop"] = tuple(filter(None, given["drop"].split(",")))
            base = Recipe.of(**{**implied, **given})
        recipe = Recipe.of(**{**base.settings(), **training}) if training else base
        effects.check({**given, **training}, recipe, beside=implied, options=True)
        return recipe

    def refuse(self, names: Iterable[str], reason: str) -> None:
        """Raises RecipeError where one of these settings was given: what the command would overwrite."""
        if found := [name for name in self.given if name in names]:
            flags = listed(effects.option(name) for name in found)
            raise RecipeError(f"{reason}; got {flags}. Leave {'it' if len(found) == 1 else 'them'} out.")


def _option(help: str, *names: str, panel: str = RECIPE_PANEL, **more: Any) -> Any:
    return typer.Option(*names, help=help, rich_help_panel=panel, show_default=False, **more)


def _training(help: str, *names: str, **more: Any) -> Any:
    return _option(help, *names, panel=TRAINING_PANEL, **more)


RecipeFile = Annotated[Path | None, _option("Read the recipe from a JSON or YAML file.", "--recipe", metavar="FILE")]
PresetName = Annotated[str | None, _option(f"Use a preset: {', '.join(presets.names())}.", metavar="NAME")]
TRAINING: dict[str, Any] = {
    "epochs": Annotated[int | None, _training("Train for so many passes over the train split, at most. (default 0)")],
    "learning_rate": Annotated[float | None, _training("Of Adam, at its peak. (default 0.001)")],
    "schedule": Annotated[
        str | None, _training("Let the learning rate fall to zero, or stay.", metavar="|".join(SCHEDULES))
    ],
    "minibatch": Annotated[int | None, _training("Images a step of the optimiser. (default 50)")],
    "ramp": Annotated[
        float | None,
        _training("Share of the epochs over which sparsity rises and bits fall, in [0, 1). (default 0: one shot)"),
    ],
    "distill": Annotated[
        float | None,
        _training("Weight of the teacher's answers in the loss, 0..1; the labels have the rest. (default 0)"),
    ],
    "temperature": Annotated[float | None, _training("With --distill: softens those answers. (default 4)")],
    "teacher": Annotated[
        str | None,
        _training("With --distill: another model of the same dataset. (default: the baseline)", metavar="MODEL"),
    ],
    "average": Annotated[
        float | None,
        _training(
            "Keep running means of the weights over steps, with this decay in [0, 1), e.g. 0.99. (default 0: off)"
        ),
    ],
    "patience": Annotated[int | None, _training("End after so many epochs without a better one. (default 0: never)")],
    "augment": Annotated[
        bool | None, _training("Train on varied images, or on those of the data.", "--augment/--no-augment")
    ],
    "seed": Annotated[int | None, _training("Of the validation part and of all draws. (default 0)")],
    "stopped": Annotated[
        int | None, _training("The epoch after which a training was ended, to repeat it. (default 0: it was not)")
    ],
}
SETTINGS: dict[str, Any] = {
    "sparsity": Annotated[float | None, _option("Fraction of the weights to remove, in [0, 1). (default 0)")],
    "scope": Annotated[
        str | None, _option("Rank weights of all layers together (global) or of each (layer).", metavar="global|layer")
    ],
    "threshold": Annotated[float | None, _option("Remove every weight of a smaller magnitude instead.")],
    "pattern": Annotated[str | None, _option("Keep N of every M weights instead, e.g. 2:4.", metavar="N:M")],
    "clusters": Annotated[int | None, _option("Different non-zero values a layer may keep, 2..256. (default: any)")],
    "start": Annotated[
        str | None, _option("Start of k-means.", metavar="optimal|linear|density|k-means++|best (default optimal)")
    ],
    "population": Annotated[int | None, _option("Drop shared values that fewer weights use.")],
    "rarest": Annotated[int | None, _option("Drop so many of the rarest shared values.")],
    "moved": Annotated[str | None, _option("Where the weights of a dropped value go.", metavar="zero|nearest")],
    "bits": Annotated[int | None, _option("Bits of a weight: 32 (off), 16..2, or 1 (binary). (default 32)")],
    "granularity": Annotated[
        str | None, _option("One scale per output channel or per tensor.", metavar="channel|tensor")
    ],
    "calibration": Annotated[
        str | None,
        _option(
            "Scale from the largest weight, from a clipping, or by rate and harm.",
            metavar="range|mse|percentile|kl|rate",
        ),
    ],
    "exchange": Annotated[
        float | None, _option("With --calibration rate: harm, in nats, that saving a kilobyte may cost. (default 1e-5)")
    ],
    "weighting": Annotated[
        str | None, _option("With --calibration rate: what harm is weighted by.", metavar="fisher|magnitude")
    ],
    "percentile": Annotated[float | None, _option("Of the magnitudes, with --calibration percentile.")],
    "symmetric": Annotated[
        bool | None, _option("A grid around zero, or one with a zero point.", "--symmetric/--asymmetric")
    ],
    "power_of_two": Annotated[bool | None, _option("With 1 bit: magnitudes are powers of two.", "--power-of-two")],
    "ternary": Annotated[float | None, _option("With 1 bit: zero below this share of the mean magnitude, e.g. 0.7.")],
    "activations": Annotated[
        int | None, _option("8: layers of at most 8 bits run on integers; 32: on floats. (default 32)")
    ],
    "keep_ends": Annotated[bool | None, _option("Keep the first and the last layer at 8 bits.", "--keep-ends")],
    "nodes": Annotated[float | None, _option("Fraction of the channels and neurons to cut out, in [0, 1).")],
    "importance": Annotated[str | None, _option("What ranks channels.", metavar="l1|l2|bn")],
    "drop": Annotated[str | None, _option("Blocks to remove, by name, separated by commas.", metavar="NAMES")],
    "blocks": Annotated[int | None, _option("How many blocks of least harm to remove.")],
    "fold": Annotated[bool | None, _option("Fold batch normalisation into the convolutions.", "--fold")],
    "merge": Annotated[bool | None, _option("Merge linear maps that follow each other.", "--merge")],
    "energy": Annotated[float | None, _option("Low-rank layers that keep this share of the energy, in (0, 1].")],
    "rounding": Annotated[str | None, _option("Plain, or with error compensation.", metavar="nearest|gptq")],
    "bias": Annotated[bool | None, _option("Shift each layer's output back to its mean.", "--bias")],
    "batchnorm": Annotated[bool | None, _option("Re-estimate batch normalisation.", "--batchnorm")],
    "coder": Annotated[str | None, _option("Entropy coder of the file.", metavar="|".join(CODERS))],
    "rest": Annotated[str | None, _option("Format of biases and normalisation.", metavar="|".join(REST_FORMATS))],
    "overrides": Annotated[
        str | None, _option('Other settings for some layers: \'[{"layers": "conv1*", "bits": 8}]\'.', metavar="JSON")
    ],
    **TRAINING,
}


def with_recipe(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the recipe options; its parameter `options` gets them as RecipeOptions."""
    import inspect

    kinds = {"recipe": RecipeFile, "preset": PresetName, **SETTINGS}

    @functools.wraps(command)
    def wrapped(**values: Any) -> None:
        settings = {name: values.pop(name) for name in kinds}
        command(options=RecipeOptions(settings.pop("recipe"), settings.pop("preset"), settings), **values)

    signature = inspect.signature(command)
    own = [parameter for parameter in signature.parameters.values() if parameter.name != "options"]
    added = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=kind)
        for name, kind in kinds.items()
    ]
    own = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own]
    wrapped.__signature__ = signature.replace(parameters=own + added)
    wrapped.__annotations__ = {parameter.name: parameter.annotation for parameter in own + added}
    return wrapped


def reporting(command: Callable[..., None]) -> Callable[..., None]:
    """Show the library's own errors as one line, with exit status 1."""

    @functools.wraps(command)
    def wrapped(*arguments: Any, **values: Any) -> None:
        try:
            command(*arguments, **values)
        except CompressionError as error:
            typer.secho(f"Error: {printable(str(error))}", fg="red", err=True)
            raise typer.Exit(1) from None

    return wrapped


Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Model = Annotated[str, typer.Argument(metavar="MODEL", help="Name of a model; see: python -m paretoscope models.")]


@app.command()
@reporting
def models(as_json: Json = False) -> None:
    """List the models, with their accuracy measured now on the test split, where their data are on this machine."""
    from paretoscope.measure.subject import Subject
    from paretoscope.networks import zoo

    rows = []
    for entry in zoo.models:
        if not zoo.datasets.get(entry.dataset).here():
            print(f"Not listed: {entry.name}, whose data ({entry.dataset}) are not here yet.", file=sys.stderr)
            continue
        subject = Subject.load(entry.name)
        rows.append(
            {
                "name": entry.name,
                "title": entry.title,
                "summary": entry.summary,
                "reference": entry.reference,
                "input_shape": list(entry.input_shape),
                "dataset": entry.dataset,
                "parameters": sum(parameter.numel() for parameter in subject.model.parameters()),
                "size_bytes": subject.baseline.size_bytes,
                "n": len(subject.labels),
                "correct": subject.baseline.correct,
                "accuracy": subject.baseline.accuracy,
                "f1": subject.baseline.f1,
            }
        )
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    print(f"{'model':<20}{'accuracy':>10}{'correct':>11}{'parameters':>12}{'fp32 bytes':>12}  summary")
    for row in rows:
        print(
            f"{row['name']:<20}{row['accuracy']:>10.2%}{row['correct']:>7}/{row['n']:<6}{row['parameters']:>12,}"
            f"{row['size_bytes']:>12,}  {row['summary']}"
        )


@app.command("presets")
@reporting
def list_presets(model: Model, as_json: Json = False) -> None:
    """List the presets of a model with what was measured of each; the dashboard opens on the one that is marked."""
    from paretoscope.networks import zoo

    name, rows = zoo.models.get(model).name, []
    opens = best_known(name)
    for preset in presets_of(name):
        figures = known(name, preset.recipe)
        rows.append(
            {
                "name": preset.name,
                "title": preset.title,
                "summary": preset.summary,
                "opens": preset is opens,
                "correct": figures and figures.correct,
                "n": figures and figures.n,
                "size": figures and figures.size,
                "chance": figures and figures.chance,
            }
        )
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    print(f"  {'preset':<24}{'accuracy':>9}{'bytes':>12}  summary")
    for row in rows:
        measured = f"{row['correct'] / row['n']:>9.2%}{row['size']:>12,}" if row["n"] else f"{'not measured':>21}"
        summary = f"{'No better than guessing here. ' if row['chance'] else ''}{row['summary']}"
        print(f"{'*' if row['opens'] else ' '} {row['name']:<24}{measured}  {summary}")


@app.command()
@reporting
def train(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Name of a model.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Train all models whose data are on this machine.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of the start and of the order of samples.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Write here instead of over the shipped weights.")] = None,
) -> None:
    """Train a model from scratch and write its weights."""
    from rich.console import Console
    from rich.progress import Progress

    from paretoscope.networks import zoo
    from paretoscope.networks.zoo import train as training

    if every == (name is not None):
        raise CompressionError("train must be told what: one NAME or --all; got neither or both. Name one of them.")
    if every and out is not None:
        raise CompressionError(
            "--out must name the file of one model; got it with --all. Train one model, or drop --out."
        )
    here = tuple(entry.name for entry in zoo.models if zoo.datasets.get(entry.dataset).here())
    names = here if every else (zoo.models.get(name).name,)
    with Progress(console=Console(stderr=True)) as progress:
        for each in names:
            task = progress.add_task(each, total=zoo.models.get(each).training.epochs)

            def show(epoch: int, epochs: int, figures: dict[str, float], task: Any = task, each: str = each) -> None:
                text = ", ".join(f"{key} {value:.4f}" for key, value in figures.items())
                progress.update(task, completed=epoch, total=epochs, description=f"{each}: {text}")

            result = training.train(each, seed=seed, progress=show)
            path = training.save(result, each, out)
            print(
                f"{each}: test accuracy {result.test_accuracy:.4f}, train accuracy {result.train_accuracy:.4f}, "
                f"{result.epochs} epochs, {result.seconds:.0f} s, seed {result.seed}, written to {path}"
            )


@app.command()
@reporting
@with_recipe
def recipe(options: RecipeOptions) -> None:
    """Print a recipe's JSON, checked and in its canonical form."""
    print(options.build().to_json(indent=2))


@app.command()
@reporting
@with_recipe
def evaluate(
    options: RecipeOptions,
    model: Annotated[str, typer.Argument(metavar="MODEL|FILE", help="Name of a model, or an artefact.")],
    as_json: Json = False,
    runtime: Annotated[
        str, typer.Option(help="Runtime that is timed: onnxruntime, torch or none.", rich_help_panel=LATENCY_PANEL)
    ] = "onnxruntime",
    batch: Annotated[
        int | None, typer.Option(min=1, help="Samples a batch. (default 1)", rich_help_panel=LATENCY_PANEL)
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads. (default 1)", rich_help_panel=LATENCY_PANEL)
    ] = None,
) -> None:
    """Measure accuracy, size and latency of a recipe, or of an artefact; results join the dashboard's history.

    Those of an artefact do where this version makes the same file of its recipe.
    """
    from paretoscope import runtimes

    timed = [name for name, value in (("--batch", batch), ("--threads", threads)) if value is not None]
    if runtime != "none":
        runtimes.runtimes.get(runtime)
    elif timed:
        raise CompressionError(
            f"{' and '.join(timed)} have an effect only where a runtime is timed; got --runtime none. Leave them out, "
            "or name a runtime."
        )
    subject, compressed, artefact = _subject(model, options)
    *_, evaluation = subject.evaluate_compressed(compressed, artefact)
    kept = _is_name(model) or (compressed.description is None and _makes(subject, compressed.recipe, artefact))
    record = _timed(subject, compressed, evaluation, runtime, batch or 1, threads or 1, kept)
    print(record.to_json(indent=2) if as_json else _summary(record))
    _tell([*compressed.notes, *filter(None, [exclusive.trouble()])])
    if not kept:
        _tell(["These figures are not kept in the history: this version does not make this file of its recipe."])


def _tell(notes: Iterable[str]) -> None:
    for note in notes:
        print(f"Note: {printable(note)}", file=sys.stderr)


@app.command()
@reporting
@with_recipe
def compress(
    options: RecipeOptions,
    model: Model,
    out: Annotated[Path, typer.Option(help="Where to write the artefact.", metavar="FILE")],
) -> None:
    """Compress a model and write the artefact."""
    from paretoscope import codec
    from paretoscope.measure.subject import Subject
    from paretoscope.measure.wording import smaller

    recipe = _recipe(model, options)
    subject = Subject.load(model)
    compressed = subject.compress(recipe)
    data = codec.write_checked(compressed)
    files.write_atomically(out, data)
    ratio = subject.baseline.size_bytes / len(data)
    print(f"{out}: {len(data):,} bytes, {smaller(ratio)} than fp32 ({recipe.describe()})")
    _tell(compressed.notes)


@app.command()
@reporting
@with_recipe
def layers(options: RecipeOptions, model: Model, as_json: Json = False) -> None:
    """List a model's layers with their shares of size and of measured time; with a recipe, those of the result."""
    from paretoscope.measure.layers import layer_table
    from paretoscope.measure.subject import Subject

    recipe = _recipe(model, options)
    subject = Subject.load(model)
    compressed = subject.compress(recipe)
    rows = layer_table(subject, compressed)
    _tell(compressed.notes)
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


@app.command()
@reporting
@with_recipe
def latency(
    options: RecipeOptions,
    model: Annotated[str, typer.Argument(metavar="MODEL|FILE", help="Name of a model, or an artefact.")],
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
        typer.Option(help="Images a batch; may be given more than once. (default 1)", rich_help_panel=LATENCY_PANEL),
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
        typer.Option(help="Seconds that a timing may take. (default 1.5)", rich_help_panel=LATENCY_PANEL),
    ] = None,
    width: Annotated[
        float | None,
        typer.Option(
            help="Share of the ratio that its interval is to be narrower than, which ends a timing. (default 0.02)",
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
    from paretoscope.service.latency_study import ask, study
    from paretoscope.service.workbench import Workbench

    effort = {name: value for name, value in (("budget_s", budget), ("width", width)) if value is not None}
    if not (effort.get("budget_s", 1) > 0 and effort.get("width", 0) >= 0):
        raise CompressionError(
            f"--budget must be above 0 and --width at least 0; got {budget} and {width}. "
            "Leave them out for the defaults."
        )
    name, recipe = _recipe_of(model, options)
    bench = Workbench(again=again, **effort)
    try:
        question = ask(bench, name, recipe, runtime or ["onnxruntime"], batch or [1], threads or [1], size)
        shown = Calling(lambda share, label, partial: print(label, file=sys.stderr))
        report = study(bench, question, shown)
        notes = bench.compressed(name, recipe).notes
    finally:
        bench.close()
    print(json.dumps(report.to_dict(), indent=2) if as_json else report.text())
    _tell(notes)
    if bench.store_error:
        print(f"Not kept in the history: {bench.store_error}", file=sys.stderr)
    _tell([*bench.store_notes(name), *filter(None, [exclusive.trouble()])])


@app.command()
@reporting
@with_recipe
def recover(
    options: RecipeOptions,
    model: Model,
    minutes: Annotated[
        float | None, typer.Option(help="End after so many minutes, with the best epoch so far.", metavar="M")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write the trained artefact here too.", metavar="FILE")] = None,
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
    report = train(model, recipe, minutes=minutes, again=again)
    if out is not None:
        files.write_atomically(out, codec.write(report.compressed))
    print(json.dumps(report.to_dict(), indent=2) if as_json else report.text(_summary(report.after)))
    _tell(report.compressed.notes)


@app.command()
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
    from paretoscope.measure.subject import Subject

    subject, console = Subject.load(model), Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(f"Measuring the layers of {model}", total=1.0)
        shown = Calling(lambda share, label, partial: bar.update(task, completed=share))
        found = measure_sensitivity(subject, layer, progress=shown)
    if as_json:
        print(json.dumps(found.to_dict(), indent=2))
        return
    print(f"baseline {found.correct / found.n:.2%}; accuracy with one layer alone at each value")
    for setting in next(iter(found.curves.values()), {}):
        values = [point.value for point in next(iter(found.curves.values()))[setting]]
        print(f"\n{setting:<52}" + "".join(f"{value:>9g}" for value in values))
        for name, curve in found.curves.items():
            print(f"{name:<52}" + "".join(f"{point.correct / point.n:>9.2%}" for point in curve[setting]))


@app.command()
@reporting
@with_recipe
def allot(
    options: RecipeOptions,
    model: Model,
    size: Annotated[int | None, typer.Option(help="Wanted bytes of the artefact, at most.")] = None,
    harm: Annotated[
        float | None, typer.Option(help="Wanted mean KL divergence over the train split, at most, in nats.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write the recipe here too.", metavar="FILE")] = None,
) -> None:
    """Find the exchange rate of bits and harm that meets a wanted size or harm, and measure what it gives."""
    from paretoscope.measure.subject import Subject
    from paretoscope.search import allot as search

    options.refuse(("exchange",), "allot looks for the exchange rate itself")
    base = options.build(model, implied={"bits": search.MOST_BITS, "calibration": "rate"})
    if base.recover is not None:
        raise RecipeError("allot looks for a recipe without training; got epochs. Train the one that it finds.")
    by_grid = base.share is None and base.bits not in (1, FULL_PRECISION) and base.quantize.calibration != "rate"
    if by_grid and base.quantize.calibration != "range":
        raise RecipeError(
            f"allot quantizes by rate; got calibration {base.quantize.calibration}. Leave it out, or set it to rate."
        )
    if by_grid:
        _tell(["Scales follow from the exchange rate and not from the largest weights, as the recipe has it."])
    subject = Subject.load(model)
    found = search.allot(subject, base, size=size, harm=harm)
    compressed = subject.compress(found.recipe)
    *_, evaluation = subject.evaluate_compressed(compressed)
    if out is not None:
        files.write_atomically(out, found.recipe.to_json(indent=2).encode())
    if not found.reached:
        print("The wish is out of reach; this is the nearest.", file=sys.stderr)
    print(_summary(evaluation.record))
    _tell(compressed.notes)


@app.command()
@reporting
@with_recipe
def suggest(
    options: RecipeOptions,
    model: Model,
    size: Annotated[int | None, typer.Option(help="Wanted bytes of the artefact, at most.")] = None,
    loss: Annotated[float | None, typer.Option(help="Wanted loss of accuracy, at most, in points.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write the recipe here too.", metavar="FILE")] = None,
) -> None:
    """Find a recipe that treats each layer as it can bear, for a wanted size or loss, and measure it."""
    from paretoscope import codec
    from paretoscope.measure.sensitivity import measure_sensitivity
    from paretoscope.measure.subject import Subject
    from paretoscope.search import suggest as search

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
    subject = Subject.load(model)
    curves = measure_sensitivity(subject)

    def lost(recipe: Recipe) -> float:
        *_, last = subject.evaluate(recipe)
        return 100 * (subject.baseline.accuracy - last.record.figures.accuracy)

    def measure(recipe: Recipe) -> int:
        return len(codec.write(subject.compress(recipe)))

    made = search.find(curves, subject.statistics, target, base, measure, lost)
    compressed = subject.compress(made.recipe)
    *_, evaluation = subject.evaluate_compressed(compressed)
    if out is not None:
        files.write_atomically(out, made.recipe.to_json(indent=2).encode())
    if not made.reached:
        print("The wish is out of reach; this is the nearest.", file=sys.stderr)
    print(_summary(evaluation.record))
    _tell(compressed.notes)


@app.command()
@reporting
def decompress(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An artefact.")],
    out: Annotated[Path, typer.Option(help="Where to write the full state dict.", metavar="WEIGHTS.safetensors")],
) -> None:
    """Decode an artefact to a full state dict, bit for bit what was evaluated."""
    from paretoscope import codec
    from paretoscope.export.weights import decoded

    compressed = codec.read(files.read(file))
    data = decoded(compressed)
    files.write_atomically(out, data)
    origin = compressed.architecture or "a state dict without a network"
    print(f"{out}: {len(data):,} bytes, {len(compressed.order)} tensors of {origin}")
    _tell(compressed.notes)


@app.command()
@reporting
@with_recipe
def export(
    options: RecipeOptions,
    model: Annotated[str, typer.Argument(metavar="MODEL|FILE", help="Name of a model, or an artefact.")],
    format: Annotated[
        list[str], typer.Option(help="Name of a format, or all; may be given more than once.", metavar="FORMAT")
    ],
    out: Annotated[Path, typer.Option(help="The file, or a new folder where there are several files.", metavar="PATH")],
    as_json: Json = False,
) -> None:
    """Convert a compressed model for other tools: each file is run in its own runtime before it is written.

    Formats: artefact, bundle, config, safetensors, safetensors-codes, onnx, onnx-int8, torch-export, openvino,
    openvino-int8, tflite. Where one fails its check, nothing is written and the exit status is 1.
    """
    from paretoscope.export import Source, formats, output, produce

    asked = list(dict.fromkeys(format))
    names = [name for name in formats.names() if name in asked or "all" in asked]
    for name in asked:
        if name != "all":
            formats.get(name)
    subject, compressed, _ = _subject(model, options)
    _tell(compressed.notes)
    if "all" in asked:
        reasons = {name: formats.get(name).missing() or formats.get(name).refusal(compressed.recipe) for name in names}
        _tell(f"Left out: {reason}" for name, reason in reasons.items() if reason and name not in asked)
        names = [name for name in names if name in asked or not reasons[name]]
    source = Source(subject, compressed)
    checked = [produce(compressed, name, subject, source=source) for name in names]
    if failed := [each.verification for each in checked if not each.verification.passed]:
        raise CompressionError("; ".join(each.problem for each in failed))
    contents = {name: data for each in checked for name, data in each.conversion.files.items()}
    paths = dict(zip(contents, output.write(out, contents), strict=True))
    rows = [
        {
            "files": {str(paths[name]): len(data) for name, data in each.conversion.files.items()},
            **each.verification.to_dict(),
        }
        for each in checked
    ]
    _tell(compressed.notes)
    if as_json:
        print(json.dumps(rows if "all" in asked or len(rows) > 1 else rows[0], indent=2))
        return
    print(f"{compressed.architecture}: {compressed.recipe.describe()}; fp32 {subject.baseline.size_bytes:,} bytes")
    print(f"{'format':<19}{'bytes':>11}{'differ':>8}{'of':>6}{'largest':>10}{'accuracy':>10}{'seconds':>9}  runtime")
    for row in rows:
        print(
            f"{row['format']:<19}{row['size']:>11,}{row['differing']:>8}{row['n']:>6}{row['largest']:>10.2g}"
            f"{row['accuracy']:>10.2%}{row['seconds']:>9.2f}  {row['runtime']}"
        )
    print(f"written: {', '.join(str(path) for path in paths.values())}")


@app.command()
@reporting
@with_recipe
def pack(
    options: RecipeOptions,
    file: Annotated[
        Path,
        typer.Argument(
            metavar="WEIGHTS", help="Any state dict: .safetensors, .pt, .pth, or the .index.json of shards."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Where to write the artefact.", metavar="FILE")],
    size: Annotated[
        int | None,
        typer.Option(help="Wanted bytes, at most: lossless where that fits, else the exchange rate that meets it."),
    ] = None,
) -> None:
    """Compress the weights of any network, without its architecture or data; what was written is read back."""
    from paretoscope import codec
    from paretoscope.codec.checkpoints import load_checkpoint
    from paretoscope.measure.wording import smaller
    from paretoscope.methods import pack
    from paretoscope.search.allot import pack_for_size

    implied = {"weighting": "magnitude"} if options.settings["calibration"] == "rate" else {}
    if size is not None:
        options.refuse(("exchange",), "with --size the exchange rate is looked for")
        options.refuse(("clusters",), "--size needs integer codes, whose steps follow from a rate")
        grids = ("percentile", "power_of_two", "ternary", *["symmetric"] * (options.settings["symmetric"] is False))
        options.refuse(grids, "with --size weights are quantized by rate, on a grid around zero")
        if options.settings["calibration"] not in (None, "rate") or options.settings["bits"] in (1, FULL_PRECISION):
            raise RecipeError(
                "with --size weights are quantized by rate, with 2 to 16 bits at most; got another --calibration or "
                "--bits. Leave them out, or leave out --size."
            )
        if options.source is None:
            implied = {"bits": 12, "calibration": "rate", "weighting": "magnitude", "rest": "rate", "coder": "smallest"}
    recipe = options.build(implied=implied)
    if recipe.recover is not None:
        raise RecipeError("weights alone cannot be trained; got epochs. Leave them out, or train a model of the zoo.")
    checkpoint = load_checkpoint(file)

    def packed(recipe: Recipe) -> pack.PackedModel:
        return pack.pack(checkpoint.state, recipe, checkpoint.metadata)

    if size is not None:
        given = options.given.keys() - {"rest", "coder"}
        plain: tuple[Recipe, ...] = ()
        exact = not given & {"bits", "granularity", "calibration", "weighting"} and options.given.get("rest") != "rate"
        if exact and not (options.source and recipe.quantize):
            rest = options.given.get("rest", recipe.code.rest if options.source else "fp32")
            # Floats are coded by their frequencies whatever the coder: which file is smaller is a matter of bytes.
            coders = (recipe.code.coder,) if options.source or "coder" in options.given else ("ans", "smallest")
            plain = tuple(dataclasses.replace(recipe, quantize=None, code=Code(coder, rest)) for coder in coders)
        recipe = pack_for_size(recipe, plain, size, lambda each: len(codec.write(packed(each))))
    model = packed(recipe)
    data = codec.write_checked(model)
    files.write_atomically(out, data)
    size_bytes = checkpoint.size_bytes
    than = f"{smaller(size_bytes / len(data))} than {size_bytes:,} bytes of tensors" if size_bytes else "no values"
    touched = pack.share_touched(model, checkpoint.state)
    print(f"{out}: {len(data):,} bytes, {than} ({recipe.describe()}); touched {touched:.1%} of the values")
    _tell([*checkpoint.notes, *model.notes])


@app.command()
@reporting
def unpack(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An artefact.")],
    out: Annotated[Path, typer.Option(help="Where to write the state dict.", metavar="WEIGHTS.safetensors")],
) -> None:
    """Decode an artefact to a state dict of the names, shapes and types that it was packed from."""
    from paretoscope import codec
    from paretoscope.methods import pack

    compressed = codec.read(files.read(file))
    state = compressed.state_dict()
    data = pack.save_weights(state, compressed.metadata if isinstance(compressed, pack.PackedModel) else None)
    files.write_atomically(out, data)
    print(f"{out}: {len(data):,} bytes, {len(state)} tensors")
    _tell(compressed.notes)


@app.command()
@reporting
def inspect(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An artefact.")],
    as_json: Json = False,
) -> None:
    """Print what is inside an artefact: recipe, figures, each tensor's codes and bits, and where all bytes go."""
    from paretoscope.codec.report import report, text

    found = report(files.read(file))
    print(json.dumps(found.to_dict(), indent=2) if as_json else text(found))


def _recipe(model: str, options: RecipeOptions) -> Recipe:
    """The recipe for a model; one that was measured to be no better than guessing there is told."""
    recipe = options.build(model)
    _tell(cautions(model, recipe))
    return recipe


def _subject(model: str, options: RecipeOptions) -> "tuple[Subject, CompressedModel, bytes]":
    from paretoscope import codec
    from paretoscope.measure.subject import Subject

    if _is_name(model):
        subject = Subject.load(model)
        compressed = subject.compress(_recipe(model, options))
        return subject, compressed, codec.write(compressed)
    compressed, artefact = _network_file(model, options)
    return Subject.load(compressed.architecture), compressed, artefact


def _recipe_of(model: str, options: RecipeOptions) -> tuple[str, Recipe]:
    """The name of a model and a recipe; those of an artefact, where the recipe gives that very file here."""
    from paretoscope.measure.subject import Subject

    if _is_name(model):
        return model, _recipe(model, options)
    compressed, artefact = _network_file(model, options)
    name, recipe = compressed.architecture, compressed.recipe
    if not _makes(Subject.load(name), recipe, artefact):
        raise ArtefactError(
            f"an artefact must be what its recipe makes of {name} in this version; {model} is not. "
            f"Compress the model again, or time the recipe."
        )
    return name, recipe


def _makes(subject: "Subject", recipe: Recipe, artefact: bytes) -> bool:
    """Whether a recipe gives this very file here."""
    from paretoscope import codec

    try:
        return codec.write(subject.compress(recipe)) == artefact
    except CompressionError:
        return False


def _is_name(model: str) -> bool:
    from paretoscope.networks import zoo

    return model in zoo.models.names() or not (Path(model).exists() or Path(model).suffix)


def _network_file(model: str, options: RecipeOptions) -> "tuple[CompressedModel, bytes]":
    """What is in an artefact of a network, and its bytes without figures."""
    from paretoscope import codec
    from paretoscope.export.measured import without_figures

    if options.source is not None or options.given:
        raise ArtefactError("an artefact has its own recipe; got recipe options beside it. Leave them out.")
    artefact = files.read(model)
    compressed = codec.read(artefact)
    if not compressed.architecture:
        raise ArtefactError(
            f"a network must be named in the file to be run; {model} was packed from weights alone. "
            "Unpack it, and load the weights into their network."
        )
    return compressed, without_figures(artefact)


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
    from dataclasses import replace

    from paretoscope.runtimes import runtimes
    from paretoscope.service.store import Store, TimingKey

    record, timing = evaluation.record, None
    if runtime != "none":
        timing = subject.time(compressed, runtime, batch, threads)
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


def _summary(record: "Record") -> str:
    from paretoscope.measure.paired import paired_ms
    from paretoscope.measure.wording import NOT_ALONE, UNDECIDED_WHY, smaller, speed

    figures, size, rates = record.figures, record.size, record.rates
    change = 100 * (figures.accuracy - record.baseline.accuracy)
    verdict = f"{'' if figures.distinguishable else 'in'}distinguishable from the baseline"
    lines = [
        f"{record.model} on {record.dataset}: {record.recipe.describe()}",
        f"accuracy   {figures.accuracy:.2%} [{figures.accuracy_low:.2%}, {figures.accuracy_high:.2%}], "
        f"{figures.correct} of {figures.n}",
        f"           {change:+.2f} points, {verdict} (McNemar p = {figures.p_value:.3g}); macro F1 {figures.f1:.4f}",
        f"           harm {figures.harm:.3g} nats (mean KL divergence from the baseline's outputs)",
        f"size       {size.artefact:,} bytes, {smaller(record.ratio)} than fp32, {record.baseline.size_bytes:,} bytes",
        f"           dense {size.dense:,} > sparse {size.sparse:,} > packed {size.packed:,} > huffman {size.huffman:,} "
        f"> ans {size.ans:,}",
        f"rates      {rates.sparse_rate:.1%} zero, {rates.shared_rate:.1%} shared, "
        f"{rates.architecture_simplification:.1%} of the parameters kept",
    ]
    if (latency := record.latency) is not None:
        lines += [
            f"latency    {paired_ms(latency, latency.baseline_median_ms):.3f} ms beside "
            f"{latency.baseline_median_ms:.3f} ms of the baseline, {speed(latency)}",
            f"           {latency.runtime} {latency.number_format}, batch {latency.batch}, {latency.threads} thread(s)",
            *([] if latency.decided else [f"           {UNDECIDED_WHY}"]),
            *([f"           {NOT_ALONE}"] if latency.alone is False else []),
        ]
    return "\n".join(lines)
