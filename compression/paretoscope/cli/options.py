"""The recipe's options of a command: one for each setting of the schema, with its flag, help and default.

What was called otherwise before is taken too, without being shown.
"""

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from paretoscope.base.errors import RecipeError
from paretoscope.base.text import listed
from paretoscope.cli.shared import file_path
from paretoscope.recipe import effects
from paretoscope.recipe.presets import preset_for, presets
from paretoscope.recipe.recipe import SETTINGS, Recipe
from paretoscope.recipe.schema import Setting
from paretoscope.recipe.values import Names

RECIPE_PANEL = "Recipe"
TRAINING_PANEL = "Training"
# Between the name of a setting and the place of an older flag of it; no setting has it in its name.
_OLDER = "__"


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
        given = {name: _value(name, value) for name, value in self.given.items()}
        training = {name: given.pop(name) for name in list(given) if SETTINGS[name].step == "recover"}
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
            base = Recipe.of(**{**implied, **given})
        recipe = Recipe.of(**{**base.settings(), **training}) if training else base
        effects.check({**given, **training}, recipe, beside=implied, options=True)
        return recipe

    def refuse(self, names: Iterable[str], reason: str) -> None:
        """Raises RecipeError where one of these settings was given: what the command would overwrite."""
        if found := [name for name in self.given if name in names]:
            flags = listed(effects.option(name) for name in found)
            raise RecipeError(f"{reason}; got {flags}. Leave {'it' if len(found) == 1 else 'them'} out.")


def _value(name: str, value: Any) -> Any:
    """What an option holds; names come as one text."""
    kind = SETTINGS[name].kind
    return kind.read(name, value, SETTINGS[name].sample) if isinstance(kind, Names) else value


def help_of(setting: Setting) -> str:
    """The help of a setting's option: what it does, its range where the option does not show it, and its default."""
    kind = setting.kind
    shown = kind.type is bool or kind.metavar is not None
    told = setting.default if isinstance(setting.default, str) and setting.default else kind.word(setting.default)
    default = "none" if told in ("", "()") else f"{setting.default:g}" if isinstance(setting.default, float) else told
    return f"{setting.help} ({'' if shown else f'{kind.values}; '}default {default})"


def _option(setting: Setting, flag: str, **more: Any) -> Any:
    panel = TRAINING_PANEL if setting.step == "recover" else RECIPE_PANEL
    metavar = setting.kind.metavar
    option = typer.Option(
        flag, help=help_of(setting), rich_help_panel=panel, show_default=False, metavar=metavar, **more
    )
    return Annotated[setting.kind.type | None, option]


def options_of(settings: Mapping[str, Setting]) -> dict[str, Any]:
    """The annotated type of each option, by the name of its parameter: the settings', then those of older flags."""
    own = {name: _option(each, each.option) for name, each in settings.items()}
    older = {
        f"{name}{_OLDER}{place}": _option(each, flag, hidden=True)
        for name, each in settings.items()
        for place, flag in enumerate(each.aliases)
    }
    return own | older


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of options, each from its flag or from an older one; raises RecipeError where both were given."""
    result: dict[str, Any] = {}
    for parameter, value in values.items():
        name, _, place = parameter.partition(_OLDER)
        if place and value is not None and result[name] is not None:
            flags = f"{SETTINGS[name].flag} and {SETTINGS[name].aliases[int(place)]}"
            raise RecipeError(f"{name} must be given once; got {flags}. Leave the second out, it is an older name.")
        if not place or value is not None:
            result[name] = value
    return result


def with_recipe(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the recipe options; its parameter `options` gets them as RecipeOptions."""
    source = functools.partial(typer.Option, rich_help_panel=RECIPE_PANEL, show_default=False)
    file = source("--recipe", help="Read the recipe from a JSON or YAML file.", metavar="FILE", parser=file_path)
    preset = source("--preset", help=f"Use a preset: {', '.join(presets.names())}.", metavar="NAME")
    kinds = {"recipe": Annotated[Path | None, file], "preset": Annotated[str | None, preset], **options_of(SETTINGS)}

    @functools.wraps(command)
    def wrapped(**values: Any) -> None:
        found = {name: values.pop(name) for name in kinds}
        recipe, preset = found.pop("recipe"), found.pop("preset")
        command(options=RecipeOptions(recipe, preset, _given(found)), **values)

    signature = inspect.signature(command)
    own = [parameter for parameter in signature.parameters.values() if parameter.name != "options"]
    added = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=kind)
        for name, kind in kinds.items()
    ]
    own = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own]
    wrapped.__signature__ = signature.replace(parameters=own + added)  # type: ignore[attr-defined]
    wrapped.__annotations__ = {parameter.name: parameter.annotation for parameter in own + added}
    return wrapped
