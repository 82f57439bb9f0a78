"""The recipe of a compressed model as files."""

import json

from paretoscope.model.compressed import CompressedModel
from paretoscope.recipe.file import dump


def recipe_files(compressed: CompressedModel) -> tuple[bytes, bytes]:
    """The recipe as JSON and as YAML, with what a file said of it that this version does not know."""
    fields = dict(compressed.told)
    return (
        f"{json.dumps(fields, sort_keys=True, indent=2)}\n".encode(),
        dump(fields).encode(),
    )
