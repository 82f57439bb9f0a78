"""The recipe as JSON and as YAML."""

import hashlib
from collections.abc import Mapping

import numpy as np

from paretoscope import codec
from paretoscope.base.errors import ModelError
from paretoscope.export.base import Format, Source, same_as_screen
from paretoscope.export.recipes import recipe_files
from paretoscope.recipe.file import read_recipe


def _write(source: Source) -> dict[str, bytes]:
    as_json, as_yaml = recipe_files(source.compressed)
    return {f"{source.stem}.json": as_json, f"{source.stem}.yaml": as_yaml}


def _run(files: Mapping[str, bytes], source: Source) -> np.ndarray:
    if source.compressed.description is not None:
        raise ModelError(
            "a recipe alone must give the artefact again; this one has settings that this version does not know. "
            "Export the artefact, which keeps them"
        )
    recipes = [read_recipe(data, name) for name, data in files.items()]
    if len(recipes) != 2 or any(recipe != source.recipe for recipe in recipes):
        raise ModelError("both files must hold the recipe; one holds another")
    made = codec.write(source.subject.compress(recipes[0]))
    if made != source.artefact:
        digests = [hashlib.sha256(data).hexdigest()[:12] for data in (made, source.artefact)]
        raise ModelError(f"the recipe must give the artefact again; it gives {digests[0]} for {digests[1]}")
    return source.rebuilt(codec.read(made))


CONFIG = Format(
    name="config",
    title="Recipe",
    summary="The recipe alone, as JSON and YAML: with the model's weights it gives the artefact again.",
    reference="compression/paretoscope/recipe/recipe.py",
    extension=".json, .yaml",
    runtime="the pipeline",
    promise="the same artefact, byte for byte",
    write=_write,
    run=_run,
    judge=same_as_screen,
    whole=False,
)
