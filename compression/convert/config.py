"""The recipe as JSON and as YAML."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import yaml

from compression import codec
from compression.convert.base import Format, Source, same_as_screen
from compression.errors import ModelError, RecipeError
from compression.pipeline import CompressedModel
from compression.recipe import Recipe

LARGEST = 1 << 20


class _Loader(yaml.SafeLoader):
    """Plain data without aliases: a few lines of those stand for any amount of memory."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases are not taken")
        return super().compose_node(parent, index)


def to_yaml(recipe: Recipe) -> str:
    """The fields of the JSON form, in the order in which steps run."""
    return yaml.safe_dump(recipe.to_dict(), sort_keys=False)


def recipe_files(compressed: CompressedModel) -> tuple[bytes, bytes]:
    """The recipe as JSON and as YAML, with what a file said of it that this version does not know."""
    fields = dict(compressed.told)
    return (
        f"{json.dumps(fields, sort_keys=True, indent=2)}\n".encode(),
        yaml.safe_dump(fields, sort_keys=False).encode(),
    )


def read_recipe(data: bytes, name: str) -> Recipe:
    """A recipe from a file, YAML where its name ends in .yaml or .yml, else JSON; raises RecipeError."""
    return Recipe.from_dict(read_fields(data, name))


def read_fields(data: bytes, name: str) -> object:
    """The plain data of such a file, whatever they are; raises RecipeError."""
    if len(data) > LARGEST:
        raise RecipeError(f"a recipe must have at most {LARGEST:,} bytes; got {len(data):,}. Pass a recipe's file.")
    if not name.lower().endswith((".yaml", ".yml")):
        try:
            return json.loads(data)
        except (ValueError, RecursionError) as error:
            raise RecipeError(f"a recipe must be JSON text; {error}. Export one to see the form.") from None
    try:
        return yaml.load(data, _Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise RecipeError(f"a recipe must be YAML text; {reason}. Export one to see the form.") from None


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
    reference="compression/recipe.py",
    extension=".json, .yaml",
    runtime="the pipeline",
    promise="the same artefact, byte for byte",
    write=_write,
    run=_run,
    judge=same_as_screen,
    whole=False,
)
