"""Where trained compressed models are kept: a recipe that trains takes minutes, so its artefact is made once.

Those that we trained ship in assets/recovered; the user's own, and the checkpoints of trainings that were interrupted,
lie in the user's cache folder.
"""

from pathlib import Path

from compression import cache, codec, files
from compression.errors import CompressionError
from compression.pipeline import CompressedModel
from compression.recipe import Recipe

SHIPPED = Path(__file__).parents[2] / "assets" / "recovered"


def find(source: str, recipe: Recipe) -> CompressedModel | None:
    """The model that training by this recipe gave, of the baseline with this digest; None where there is none."""
    for folder in (folder_of_own(), SHIPPED):
        try:
            found = codec.read((folder / _name(source, recipe)).read_bytes())
        except (OSError, CompressionError):
            continue  # not there, or of an earlier version: to be trained anew
        if (found.source, found.recipe) == (source, recipe):
            return found
    return None


def put(compressed: CompressedModel, folder: Path | None = None) -> Path:
    """Keep a trained model and return where; raises CompressionError when the folder cannot be written."""
    path = (folder or folder_of_own()) / _name(compressed.source, compressed.recipe)
    _make(path.parent)
    files.write_atomically(path, codec.write(compressed))
    return path


def folder_of_own() -> Path:
    """The user's."""
    return cache.folder() / "recovered"


def checkpoint_path(source: str, recipe: Recipe) -> Path:
    """Where a training keeps what it needs to go on."""
    return folder_of_own() / f"{_name(source, recipe).removesuffix('.psc')}.checkpoint"


def keep_checkpoint(source: str, recipe: Recipe, data: bytes) -> None:
    """Replace the checkpoint of a training; raises CompressionError when the folder cannot be written."""
    path = checkpoint_path(source, recipe)
    _make(path.parent)
    files.write_atomically(path, data)


def checkpoint(source: str, recipe: Recipe) -> bytes | None:
    """The last checkpoint of a training, or None."""
    try:
        return checkpoint_path(source, recipe).read_bytes()
    except OSError:
        return None


def drop_checkpoint(source: str, recipe: Recipe) -> None:
    """Forget it, if there is one."""
    checkpoint_path(source, recipe).unlink(missing_ok=True)


def _name(source: str, recipe: Recipe) -> str:
    return f"{recipe.digest[:24]}-{source[:12]}.psc"


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CompressionError(
            f"trained models are kept in {folder}, which must be a folder that can be made; {error.strerror or error}. "
            f"Free it, or set {cache.ENVIRONMENT} to a file in another folder."
        ) from None
