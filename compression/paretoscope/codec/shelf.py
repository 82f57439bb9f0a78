"""Where trained compressed models are kept: a recipe that trains takes minutes, so its artefact is made once.

Those that we trained ship in assets/recovered; the user's own, and the checkpoints of trainings that were interrupted,
lie in the user's cache folder, which nobody else may read. A file that cannot be opened stays there, and is told of.
"""

import os
import re
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from paretoscope import codec
from paretoscope.base import cache, files
from paretoscope.base.errors import CompressionError
from paretoscope.base.places import ASSETS
from paretoscope.base.recent import Recent
from paretoscope.model.compressed import CompressedModel
from paretoscope.recipe.recipe import Recipe

SHIPPED = ASSETS / "recovered"
# A checkpoint that could not be gone on from.
ASIDE = ".unreadable"
_NAME = re.compile(r"[0-9a-f]{24}-[0-9a-f]{12}\.psc")

_lock = threading.Lock()
# What each of the user's files is of, or why it cannot be opened, by its path, size and time.
_headers: Recent[tuple[Path, int, int], tuple[str, str] | CompressionError] = Recent(4096)


def find(source: str, recipe: Recipe) -> CompressedModel | None:
    """The model that training by this recipe gave, of the baseline with this digest; None where there is none."""
    named = (folder / _name(source, recipe) for folder in (folder_of_own(), SHIPPED))
    for path in named:
        if (found := _open(path, source, recipe)) is not None:
            return found
    # A recipe has another digest, and its file another name, since a setting of it was given a new form.
    wanted = source, recipe.digest
    others = [path for path, about in _own() if about == wanted]
    return next((found for path in others if (found := _open(path, source, recipe)) is not None), None)


def has(source: str, recipe: Recipe) -> bool:
    """Whether there is a file under the name of such a model; `find` says whether it can be opened."""
    return any((folder / _name(source, recipe)).is_file() for folder in (folder_of_own(), SHIPPED))


def _open(path: Path, source: str, recipe: Recipe) -> CompressedModel | None:
    try:
        found = codec.read(path.read_bytes())
    except (OSError, CompressionError):
        return None  # not there, or `left_out` tells of it
    return found if (found.source, found.recipe, found.description) == (source, recipe, None) else None


def left_out() -> tuple[str, ...]:
    """What a person should know of models and checkpoints that are there and cannot be used, a sentence each."""
    models = [error for _, error in _own() if isinstance(error, CompressionError)]
    checkpoints = list(folder_of_own().glob(f"*{ASIDE}"))
    told = []
    if models:
        several = len(models) > 1
        told.append(
            f"{len(models)} trained model{'s' * several} in {folder_of_own()} cannot be opened and "
            f"{'are' if several else 'is'} left there: {_first_sentence(models[0])}"
        )
    if checkpoints:
        several = len(checkpoints) > 1
        told.append(
            f"{len(checkpoints)} interrupted training{'s' * several} in {folder_of_own()} could not go on and began "
            f"anew; {'their' if several else 'its'} checkpoint{'s are' if several else ' is'} kept as *{ASIDE}."
        )
    return tuple(told)


def _first_sentence(error: CompressionError) -> str:
    return f"{str(error).split('. ')[0].rstrip('.')}."


def _own() -> Iterator[tuple[Path, tuple[str, str] | CompressionError]]:
    """The user's own files with the source and the digest of the recipe that each has, or why it cannot be opened."""
    try:
        entries = [entry for entry in os.scandir(folder_of_own()) if _NAME.fullmatch(entry.name)]
    except OSError:
        return
    for entry in sorted(entries, key=lambda entry: entry.name):
        with suppress(OSError):
            found, path = entry.stat(), Path(entry.path)
            key = path, found.st_size, found.st_mtime_ns
            with _lock:
                about = _headers.get(key)
            if about is None:
                about = _about(path)
                with _lock:
                    _headers[key] = about
            yield path, about


def _about(path: Path) -> tuple[str, str] | CompressionError:
    try:
        source, recipe = codec.read_origin(path.read_bytes())
        return source, recipe.digest
    except CompressionError as error:
        return error


def put(compressed: CompressedModel, folder: Path | None = None) -> Path:
    """Keep a trained model and return where; raises CompressionError when the folder cannot be written.

    folder: another than the user's own, for files that are to be read by all.
    """
    path = (folder or folder_of_own()) / _name(compressed.source, compressed.recipe)
    _make(path.parent)
    files.write_atomically(path, codec.write(compressed), private=folder is None)
    return path


def folder_of_own() -> Path:
    """The user's."""
    return cache.recovered()


def checkpoint_path(source: str, recipe: Recipe) -> Path:
    """Where a training keeps what it needs to go on."""
    return folder_of_own() / f"{_name(source, recipe).removesuffix('.psc')}.checkpoint"


def keep_checkpoint(source: str, recipe: Recipe, data: bytes) -> None:
    """Replace the checkpoint of a training; raises CompressionError when the folder cannot be written."""
    path = checkpoint_path(source, recipe)
    _make(path.parent)
    files.write_atomically(path, data, private=True)


def checkpoint(source: str, recipe: Recipe) -> bytes | None:
    """The last checkpoint of a training, or None."""
    try:
        return checkpoint_path(source, recipe).read_bytes()
    except OSError:
        return None


def drop_checkpoint(source: str, recipe: Recipe) -> None:
    """Forget it, if there is one, and what was set aside of the same training."""
    path = checkpoint_path(source, recipe)
    for each in (path, _aside(path)):
        each.unlink(missing_ok=True)


def set_checkpoint_aside(source: str, recipe: Recipe) -> None:
    """Keep one that cannot be gone on from under another name; `left_out` tells of it."""
    path = checkpoint_path(source, recipe)
    with suppress(OSError):
        path.replace(_aside(path))


def _aside(path: Path) -> Path:
    return path.with_name(f"{path.name}{ASIDE}")


def _name(source: str, recipe: Recipe) -> str:
    return f"{recipe.digest[:24]}-{source[:12]}.psc"


def _make(folder: Path) -> None:
    try:
        if folder == folder_of_own():
            cache.private_folder(folder)
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CompressionError(
            f"trained models are kept in {folder}, which must be a folder that can be made; {error.strerror or error}. "
            f"Free it, or set {cache.ENVIRONMENT} to a file in another folder."
        ) from None
