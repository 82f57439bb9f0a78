"""Back from a file: an exported recipe, artefact or bundle gives the model and the recipe that it was made with.

Files come from anywhere. Nothing of them is run, unpickled or written to disk.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum

from paretoscope import codec
from paretoscope.base.errors import ArtefactError
from paretoscope.export.bundle import hold_recipe_of, open_bundle
from paretoscope.export.zips import unzip
from paretoscope.model.compressed import CompressedModel
from paretoscope.networks import sources
from paretoscope.recipe.file import read_recipe
from paretoscope.recipe.recipe import Recipe

LARGEST = 1 << 26
RECIPES = (".json", ".yaml", ".yml")


class RestoredKind(StrEnum):
    """What an exported file is."""

    RECIPE = "recipe"
    ARTEFACT = "artefact"
    BUNDLE = "bundle"


@dataclass(frozen=True, slots=True)
class Restored:
    """What a file was exported from. model, compressed: None for a recipe, which names no model."""

    kind: RestoredKind
    recipe: Recipe
    model: str | None = None
    compressed: CompressedModel | None = None


def restore(data: bytes, name: str, digest_of: Callable[[str], str]) -> Restored:
    """What a file of that name was exported from.

    digest_of: of the weights that we have of a model. Raises CompressionError for everything that is not such a file,
    and for an artefact of other weights.
    """
    if len(data) > LARGEST:
        raise ArtefactError(
            f"a file must have at most {LARGEST:,} bytes; {name} has {len(data):,}. "
            "Pass an exported recipe, artefact or bundle."
        )
    if data.startswith(b"PK"):
        if name.lower().endswith(".bundle.zip") or not _are_recipes(members := unzip(data)):
            return _bundle(data, digest_of)
        recipes = {read_recipe(text, member) for member, text in members.items()}
        if len(recipes) > 1:
            raise ArtefactError("the recipes of a zip must be one and the same; they differ. Pass one of them.")
        return Restored(RestoredKind.RECIPE, recipes.pop())
    if name.lower().endswith(RECIPES):
        return Restored(RestoredKind.RECIPE, read_recipe(data, name))
    return _artefact(data, digest_of)[0]


def _are_recipes(members: dict[str, bytes]) -> bool:
    return bool(members) and all(name.lower().endswith(RECIPES) for name in members)


def _artefact(data: bytes, digest_of: Callable[[str], str]) -> tuple[Restored, CompressedModel]:
    compressed = codec.read(data)
    if compressed.architecture not in sources.names():
        way = (
            f"Add the network of the file: paretoscope add {compressed.architecture} FILE.psc"
            if compressed.graph is not None
            else f"The models are {', '.join(sources.names())}."
        )
        raise ArtefactError(
            f"an artefact must be of a model that is here; this one is of {compressed.architecture!r}. {way}"
        )
    ours = digest_of(compressed.architecture)
    if compressed.source != ours:
        raise ArtefactError(
            f"an artefact must come from the weights of {compressed.architecture} in this version; its source is "
            f"{compressed.source[:12]}, theirs {ours[:12]}. Compress the model again."
        )
    found = Restored(RestoredKind.ARTEFACT, compressed.recipe, compressed.architecture, compressed)
    return found, compressed


def _bundle(data: bytes, digest_of: Callable[[str], str]) -> Restored:
    members = open_bundle(data)
    found, compressed = _artefact(members["model.psc"], digest_of)
    if not hold_recipe_of(members, compressed):
        raise ArtefactError("a bundle must hold the recipe of its artefact; it holds another. Export it again.")
    return replace(found, kind=RestoredKind.BUNDLE)
