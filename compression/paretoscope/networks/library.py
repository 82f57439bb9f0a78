"""The user's networks: added under a name, kept by content digest, opened by that name.

What a name stands for (title, source, data, task, notes) is one small file; graph, preprocessing and weights lie by
their digest in `paretoscope.networks.kept`. Threads and processes may share a library: whoever adds or removes holds
its lock, and whoever reads sees what was there before or after.

Light to import: torch is loaded by the first network that is opened.
"""

import errno
import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paretoscope.base import library
from paretoscope.base.cache import private_folder
from paretoscope.base.errors import CompressionError, ModelError, NewerArtefactError
from paretoscope.base.files import locked, temporary_folder
from paretoscope.base.library import Index, check_name, unwritable
from paretoscope.data import library as samples
from paretoscope.networks import zoo
from paretoscope.networks.network import Network

if TYPE_CHECKING:
    from paretoscope.graph.importer import Imported

VERSION = 1
# Networks that are kept open: their graphs, without weights.
OPEN = 64
# What tells that the library is where nothing can be written.
_UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS, errno.EPERM, errno.ENOTDIR)


@dataclass(frozen=True, slots=True)
class Entry:
    """A network of the library. source: where it came from, as it was typed. origin: the name of what opened that.

    notes: what a person should know of how it was opened.
    """

    name: str
    network: Network
    source: str
    origin: str
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Damaged:
    """A name whose network cannot be opened, and why."""

    name: str
    problem: str


def add(
    name: str,
    imported: "Imported",
    *,
    source: str,
    origin: str,
    title: str | None = None,
    notes: Sequence[str] = (),
    data: str = "",
    train: str = "",
    task: str = "agreement",
    preprocess: str = "",
    replace: bool = False,
) -> Entry:
    """Keep a network under a name; one that fails leaves nothing behind.

    data, train: names of data of the library, "" for none. preprocess: how samples become
    what the network takes, as JSON. replace: whether it may take the place of another network of that name. Raises
    CompressionError for a name that cannot be or is taken, and where there is no room.
    """
    from paretoscope.networks import kept

    check_new_name(name, replace=replace)
    root = _folder()
    try:
        private_folder(root)
        with temporary_folder(root / "adding") as scratch:
            digest = kept.write(scratch, imported, preprocess)
            with _alone():
                check_new_name(name, replace=replace)
                before = _digest_of(name) if replace and name in _index() else None
                if not _whole(root / digest):
                    shutil.rmtree(root / digest, ignore_errors=True)
                    _move(scratch, root / digest)
                _index().put(
                    name,
                    {
                        "version": VERSION,
                        "digest": digest,
                        "title": title or name,
                        "source": source,
                        "origin": origin,
                        "notes": list(notes),
                        "data": data,
                        "train": train,
                        "task": task,
                    },
                )
                if before is not None:
                    _forget(before)
    except OSError as error:
        raise unwritable(error) from None
    return get(name)


def remove(name: str) -> None:
    """Forget a network, and remove it where no other name has the same; raises UnknownNameError."""
    if not _folder().is_dir():
        _index().get(name)
    try:
        with _alone():
            digest = _digest_of(name)
            _index().remove(name)
            if digest is not None:
                _forget(digest)
    except OSError as error:
        raise unwritable(error) from None


def names() -> tuple[str, ...]:
    """The names of all networks, sorted, without a look at them; those that the zoo has too are the zoo's."""
    return tuple(name for name in _index().names() if name not in zoo.models)


def get(name: str) -> Entry:
    """The network of that name; raises UnknownNameError, or ModelError where it is damaged.

    The object is the same until the name, its network or its data change.
    """
    found = _index().get(name)
    try:
        if found["version"] > VERSION:
            raise NewerArtefactError(
                f"a network in the library must be of version {VERSION} or earlier; {name} is of {found['version']}. "
                "Install a newer version of this program."
            )
        texts = tuple(str(found[key]) for key in ("digest", "title", "data", "train", "task"))
        source, origin, notes = str(found["source"]), str(found["origin"]), tuple(str(note) for note in found["notes"])
    except (KeyError, TypeError) as error:
        raise _damaged(name, f"{type(error).__name__}: {error}") from None
    if not _is_digest(texts[0]):
        raise _damaged(name, "its digest is none")
    network = _network(_folder() / texts[0], name, *texts[1:], _content(texts[2]), _content(texts[3]))
    return Entry(name, network, source, origin, notes)


def entries() -> tuple[Entry | Damaged, ...]:
    """All networks by their names; one that cannot be opened says why."""
    found: list[Entry | Damaged] = []
    for name in _index().names():
        if name in zoo.models:
            found.append(Damaged(name, f"the zoo has a model {name} now. Remove yours and add it by another name."))
            continue
        try:
            found.append(get(name))
        except CompressionError as error:
            found.append(Damaged(name, str(error)))
    return tuple(found)


def check_new_name(name: str, *, replace: bool = False) -> str:
    """The name, if a network can be added under it: before long work, not after it. Raises CompressionError."""
    check_name("network", name)
    if name in zoo.models:
        raise CompressionError(f"a network's name must be its own; {name} is a model of the zoo. Choose another name.")
    if not replace and name in _index():
        raise CompressionError(
            f"a network's name must be free; {name} is in the library already. Choose another name, remove that "
            f"network first, or replace it (--replace)."
        )
    return name


# One object for what is the same, because caches of results have the network as their key.
@lru_cache(maxsize=OPEN)
def _network(
    folder: Path, name: str, title: str, data: str, train: str, task: str, data_digest: str, train_digest: str
) -> Network:
    from paretoscope.networks import kept
    from paretoscope.networks.imported import network_of

    found = kept.read(folder)
    # What is trained is another network on other data; what is measured has the digest of its data beside this one.
    digest = hashlib.sha256(json.dumps([folder.name, train_digest or data_digest, task]).encode())
    return network_of(
        name,
        found.graph,
        found.state,
        title=title,
        data=data,
        task=task,
        outputs=found.outputs,
        train=train,
        preprocess=found.preprocess,
        digest=digest.hexdigest(),
    )


def _content(data: str) -> str:
    """The digest of data; "" where there are none of that name: whoever opens them is told."""
    try:
        return data and samples.find(data).samples.digest
    except CompressionError:
        return ""


def _whole(folder: Path) -> bool:
    from paretoscope.networks import kept

    try:
        kept.read(folder).state()
    except CompressionError:
        return False
    return True


def _move(scratch: Path, kept: Path) -> None:
    """Put what was written into its place, in one step."""
    whole = scratch / "whole"
    whole.mkdir(mode=0o700)
    for each in [each for each in scratch.iterdir() if each != whole]:
        each.rename(whole / each.name)
    whole.rename(kept)


def _forget(digest: str) -> None:
    """Remove a network that no name stands for."""
    if digest not in {_digest_of(other) for other in _index().names()}:
        shutil.rmtree(_folder() / digest, ignore_errors=True)


def _digest_of(name: str) -> str | None:
    """The digest that a name stands for; None where its file is damaged. Raises UnknownNameError."""
    index = _index()
    if name not in index:
        index.get(name)
    try:
        found: Any = index.get(name).get("digest")
    except CompressionError:
        return None
    return found if _is_digest(found) else None


def _is_digest(text: Any) -> bool:
    return isinstance(text, str) and len(text) == 64 and set(text) <= set("0123456789abcdef")


@contextmanager
def _alone() -> Iterator[None]:
    """Context in which no other thread or process changes the library. Raises OSError."""
    with locked(_folder() / "lock"):
        yield


def _index() -> Index:
    return Index("network", _folder() / "names")


def _folder() -> Path:
    return library.folder() / "networks"


def _damaged(name: str, reason: str) -> ModelError:
    return ModelError(f"a network in the library must be whole; {name}: {reason}. Remove it and add it again.")
