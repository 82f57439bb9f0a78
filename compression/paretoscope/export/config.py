"""The recipe as JSON and as YAML."""

import hashlib
from collections.abc import Mapping

from paretoscope import codec
from paretoscope.base.errors import ModelError
from paretoscope.export.base import Format, Original, same_as_screen
from paretoscope.export.recipes import recipe_files
from paretoscope.recipe.file import read_recipe
from paretoscope.runtimes.onnx_graph import Arrays


def _write(original: Original) -> dict[str, bytes]:
    as_json, as_yaml = recipe_files(original.compressed)
    return {f"{original.stem}.json": as_json, f"{original.stem}.yaml": as_yaml}


def _run(files: Mapping[str, bytes], original: Original) -> Arrays:
    if original.compressed.description is not None:
        raise ModelError(
            "a recipe alone must give the artefact again; this one has settings that this version does not know. "
            "Export the artefact, which keeps them"
        )
    recipes = [read_recipe(data, name) for name, data in files.items()]
    if len(recipes) != 2 or any(recipe != original.recipe for recipe in recipes):
        raise ModelError("both files must hold the recipe; one holds another")
    made = codec.write(original.subject.compress(recipes[0]))
    if made != original.artefact:
        digests = [hashlib.sha256(data).hexdigest()[:12] for data in (made, original.artefact)]
        raise ModelError(f"the recipe must give the artefact again; it gives {digests[0]} for {digests[1]}")
    return original.rebuilt(codec.read(made))


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
    place=30,
)
FORMATS = (CONFIG,)
