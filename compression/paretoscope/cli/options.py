"""The recipe options of the command line, and the recipe that they make."""

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from paretoscope.base.errors import RecipeError
from paretoscope.base.text import listed
from paretoscope.recipe import effects
from paretoscope.recipe.presets import preset_for, presets
from paretoscope.recipe.recipe import CODERS, REST_FORMATS, SCHEDULES, Recipe

RECIPE_PANEL = "Recipe"
TRAINING_PANEL = "Training"


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


def with_recipe(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the recipe options; its parameter `options` gets them as RecipeOptions."""
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
