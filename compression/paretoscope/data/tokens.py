"""Texts as numbers of tokens: the bytes of UTF-8, or those of a tokenizer.json that the user put into the library."""

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paretoscope.base import cache, files, library
from paretoscope.base.errors import DataError

if TYPE_CHECKING:
    import numpy as np

# Most bytes of a tokenizer.json; chosen by hand; no benchmark.
MOST_BYTES = 64 << 20


def add_tokenizer(path: str | Path) -> str:
    """Put a tokenizer.json into the library; its SHA-256, which preprocessing names it by. Raises CompressionError."""
    content = files.read(path)
    if len(content) > MOST_BYTES:
        raise DataError(f"a tokenizer must have at most {MOST_BYTES >> 20} MB; {path} has {len(content) >> 20}.")
    _read(content, str(path))
    digest = hashlib.sha256(content).hexdigest()
    try:
        cache.private_folder(_folder())
    except OSError as error:
        raise library.unwritable(error) from None
    files.write_atomically(_folder() / f"{digest}.json", content, private=True)
    return digest


@lru_cache(maxsize=4)
def tokenizer(digest: str) -> Any:
    """The tokenizer of that digest; raises DataError where it is not there."""
    path = _folder() / f"{digest}.json"
    if not path.is_file():
        raise DataError(
            f"the tokenizer of this preprocessing must be in the library; {digest[:12]} is not. Add its tokenizer.json."
        )
    content = files.read(path)
    if hashlib.sha256(content).hexdigest() != digest:
        raise DataError(f"a tokenizer in the library must be whole; {path} is damaged. Add its tokenizer.json again.")
    return _read(content, str(path))


def numbered(texts: Sequence[str], length: int, padding: int, digest: str) -> "np.ndarray":
    """Tokens of texts, int64 (n, length): cut off where they are too long, padded at the end where too short.

    digest: of the tokenizer, "" for bytes.
    """
    import numpy as np

    if digest:
        # Special tokens count, and what is cut off is cut before them, as the tokenizer does it.
        made = tokenizer(digest)
        made.enable_truncation(length)
        made.no_padding()
        lists = [each.ids for each in made.encode_batch(list(texts))]
    else:
        lists = [list(each.encode()[:length]) for each in texts]
    found = np.full((len(lists), length), padding, np.int64)
    for row, each in zip(found, lists, strict=True):
        row[: len(each)] = each[:length]
    return found


def _read(content: bytes, path: str) -> Any:
    try:
        from tokenizers import Tokenizer
    except ImportError:
        raise DataError(
            "a tokenizer.json needs the package tokenizers; it is not installed. Install it: pip install tokenizers."
        ) from None
    try:
        return Tokenizer.from_str(content.decode())
    except Exception as error:  # tokenizers raises plain exceptions
        raise DataError(f"a tokenizer must be a tokenizer.json; {path}: {error}. Save it again.") from None


def _folder() -> Path:
    return library.folder() / "tokenizers"
