"""The recipe as JSON and as YAML."""

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import yaml

from compression import codec
from compression.convert.base import Format, Source, same_as_screen
from compression.errors import ModelError, RecipeError
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


def read_recipe(data: bytes, name: str) -> Recipe:
    """A recipe from a file, YAML where its name ends in .yaml or .yml, else JSON; raises RecipeError."""
    if len(data) > LARGEST:
        raise RecipeError(f"a recipe must have at most {LARGEST:,} bytes; got {len(data):,}. Pass a recipe's file.")
    if not name.lower().endswith((".yaml", ".yml")):
        return Recipe.from_json(data)
    try:
        fields = yaml.load(data, _Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise RecipeError(f"a recipe must be YAML text; {reason}. Export one to see the form.") from None
    return Recipe.from_dict(fields)


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
