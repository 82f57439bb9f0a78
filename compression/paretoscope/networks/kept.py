"""Networks on disk: a folder for each, `network.json` beside `weights.safetensors`, named by its digest.

`network.json` holds the graph, the shapes of the outputs, the preprocessing and the SHA-256 of the weights; its own
SHA-256 is the digest, so that a folder is whole where both are right.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from paretoscope.base.errors import ModelError, NewerArtefactError
from paretoscope.graph.importer import Imported
from paretoscope.graph.network_graph import NetworkGraph
from paretoscope.networks.imported import outputs_of

VERSION = 1
DESCRIPTION, WEIGHTS = "network.json", "weights.safetensors"


@dataclass(frozen=True, eq=False, slots=True)
class Kept:
    """A network in a folder. outputs: of one sample. preprocess: JSON, or "". weights: their file's SHA-256."""

    folder: Path
    graph: NetworkGraph
    outputs: tuple[tuple[int, ...], ...]
    preprocess: str
    weights: str

    def state(self) -> dict[str, Tensor]:
        """The tensors by name, ties included; raises ModelError where the file is damaged."""
        path = self.folder / WEIGHTS
        try:
            with path.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
            if found != self.weights:
                raise _damaged(path, f"its SHA-256 is {found[:12]}, not {self.weights[:12]}")
            state = load_file(path)
        except (OSError, SafetensorError) as error:
            raise _damaged(path, str(error)) from None
        return state | {name: state[other] for name, other in self.graph.ties.items()}


def write(folder: Path, imported: Imported, preprocess: str = "") -> str:
    """Write a network into an empty folder; returns its digest. Raises OSError where there is no room."""
    path = folder / WEIGHTS
    save_file(_storable(imported), path)
    with path.open("rb+") as file:
        os.fsync(file.fileno())
        weights = hashlib.file_digest(file, "sha256").hexdigest()
    description = {
        "version": VERSION,
        "graph": json.loads(imported.graph.to_json()),
        "outputs": [list(shape) for shape in outputs_of(imported.graph)],
        "preprocess": json.loads(preprocess) if preprocess else None,
        "weights": weights,
    }
    data = json.dumps(description, separators=(",", ":")).encode()
    with (folder / DESCRIPTION).open("wb") as file:
        file.write(data)
        os.fsync(file.fileno())
    return hashlib.sha256(data).hexdigest()


def read(folder: Path) -> Kept:
    """The network of a folder that is named by its digest, without its weights; raises ModelError where it is damaged,
    NewerArtefactError where a later version wrote it.
    """
    path = folder / DESCRIPTION
    try:
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() != folder.name:
            raise _damaged(path, "its SHA-256 is not its folder's name")
        found: Mapping[str, Any] = json.loads(data)
        if found["version"] > VERSION:
            raise NewerArtefactError(
                f"a network in the library must be of version {VERSION} or earlier; {path} is of {found['version']}. "
                "Install a newer version of this program."
            )
        return Kept(
            folder,
            NetworkGraph.from_json(json.dumps(found["graph"])),
            tuple(tuple(shape) for shape in found["outputs"]),
            "" if found["preprocess"] is None else json.dumps(found["preprocess"]),
            str(found["weights"]),
        )
    except OSError as error:
        raise _damaged(path, error.strerror or str(error)) from None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _damaged(path, f"{type(error).__name__}: {error}") from None


def _storable(imported: Imported) -> dict[str, Tensor]:
    """Each tensor once and in memory of its own, as safetensors wants them."""
    found: dict[str, Tensor] = {}
    for name, tensor in imported.state.items():
        if name not in imported.graph.ties:
            whole = tensor.is_contiguous() and tensor.untyped_storage().nbytes() == tensor.nbytes
            found[name] = tensor.detach() if whole else tensor.detach().contiguous().clone()
    return found


def _damaged(path: Path, reason: str) -> ModelError:
    return ModelError(f"a network in the library must be whole; {path}: {reason}. Remove it and add it again.")
