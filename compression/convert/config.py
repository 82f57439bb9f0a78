"""The recipe as JSON and as YAML."""

import hashlib
from collections.abc import Mapping

import numpy as np

from compression import codec
from compression.convert.base import Format, Source, same_as_screen
from compression.errors import ModelError
from compression.recipe_file import read_recipe, to_yaml


def _write(source: Source) -> dict[str, bytes]:
    return {
        f"{source.stem}.json": f"{source.recipe.to_json(indent=2)}\n".encode(),
        f"{source.stem}.yaml": to_yaml(source.recipe).encode(),
    }


def _run(files: Mapping[str, bytes], source: Source) -> np.ndarray:
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
    reference="compression/recipe.py",
    extension=".json, .yaml",
    runtime="the pipeline",
    promise="the same artefact, byte for byte",
    write=_write,
    run=_run,
    judge=same_as_screen,
    whole=False,
)
