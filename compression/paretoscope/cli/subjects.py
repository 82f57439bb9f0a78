"""What a command is about: a model of that name with the recipe of its options, or an artefact with its own."""

from pathlib import Path
from typing import TYPE_CHECKING

from paretoscope.base import files
from paretoscope.base.errors import ArtefactError, CompressionError
from paretoscope.cli.options import RecipeOptions
from paretoscope.cli.shared import tell
from paretoscope.recipe.recipe import Recipe
from paretoscope.service.presets import cautions

if TYPE_CHECKING:
    from paretoscope.measure.subject import Subject
    from paretoscope.model.compressed import CompressedModel


def recipe_for(model: str, options: RecipeOptions) -> Recipe:
    """The recipe for a model; one that was measured to be no better than guessing there is told."""
    recipe = options.build(model)
    tell(cautions(model, recipe))
    return recipe


def compressed_subject(model: str, options: RecipeOptions) -> "tuple[Subject, CompressedModel, bytes]":
    """A subject, the compressed model that a command is about, and its artefact without figures."""
    from paretoscope import codec
    from paretoscope.service import subjects

    if is_name(model):
        subject = subjects.load(model)
        compressed = subject.compress(recipe_for(model, options))
        return subject, compressed, codec.write(compressed)
    compressed, artefact = _network_file(model, options)
    return subjects.load(compressed.architecture), compressed, artefact


def recipe_of(model: str, options: RecipeOptions) -> tuple[str, Recipe]:
    """The name of a model and a recipe; those of an artefact, where the recipe gives that very file here."""
    from paretoscope.service import subjects

    if is_name(model):
        return model, recipe_for(model, options)
    compressed, artefact = _network_file(model, options)
    name, recipe = compressed.architecture, compressed.recipe
    if not makes(subjects.load(name), recipe, artefact):
        raise ArtefactError(
            f"an artefact must be what its recipe makes of {name} in this version; {model} is not. "
            f"Compress the model again, or time the recipe."
        )
    return name, recipe


def makes(subject: "Subject", recipe: Recipe, artefact: bytes) -> bool:
    """Whether a recipe gives this very file here."""
    from paretoscope import codec

    try:
        return codec.write(subject.compress(recipe)) == artefact
    except CompressionError:
        return False


def is_name(model: str) -> bool:
    """Whether this names a model and no file; what is neither is taken for a misspelt name."""
    from paretoscope.networks import sources

    return model in sources.names() or not model or not (Path(model).exists() or Path(model).suffix)


def _network_file(model: str, options: RecipeOptions) -> "tuple[CompressedModel, bytes]":
    """What is in an artefact of a network, and its bytes without figures."""
    from paretoscope import codec
    from paretoscope.export.measured import without_figures
    from paretoscope.networks import sources

    if options.source is not None or options.given:
        raise ArtefactError("an artefact has its own recipe; got recipe options beside it. Leave them out.")
    artefact = files.read(model)
    compressed = codec.read(artefact)
    if not compressed.architecture:
        raise ArtefactError(
            f"a network must be named in the file to be run; {model} was packed from weights alone. "
            "Unpack it, and load the weights into their network."
        )
    if compressed.architecture not in sources.names() and compressed.graph is not None:
        raise ArtefactError(
            f"a file is measured beside the network that it was made from; {compressed.architecture} is not here. Add "
            f"that one, or take the file itself as a network: paretoscope add {compressed.architecture} {model}."
        )
    return compressed, without_figures(artefact)
