"""What an origin of networks is: it turns a file, a name or the user's code into a graph and tensors."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol

from paretoscope.base.errors import ModelError

if TYPE_CHECKING:
    from paretoscope.base.batch import Batch
    from paretoscope.graph.importer import Imported

# What --weights is where random ones are wanted.
RANDOM = "random"


@dataclass(frozen=True, slots=True)
class Options:
    """What may be said beside a source.

    weights: a file of weights, or RANDOM; "" for those that the source has. inputs: shapes of one sample, by the name
    of the input ("" for the only one). code: whether code of the user may be run, which a page never allows.
    """

    weights: str = ""
    inputs: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    code: bool = False


@dataclass(frozen=True, eq=False, slots=True)
class Opened:
    """What an origin makes of a source.

    title: what a person calls it; "" where nothing says so but the file's name, and the network's own name will do.
    original: runs what was opened, as those who made it would, to be compared with; it gives nested tensors. None where
    nothing else can run it. preprocess: suggested settings of the preprocessing, as data; None for none.
    """

    imported: "Imported"
    title: str
    original: "Callable[[Batch], Any] | None"
    notes: tuple[str, ...] = ()
    preprocess: Mapping[str, Any] | None = None


class Origin(Protocol):
    """form: how its sources are written, e.g. "FILE.onnx". place: in lists; who comes first is asked first."""

    name: str
    title: str
    summary: str
    reference: str
    form: str
    place: int

    def takes(self, text: str) -> bool:
        """Whether a source is meant for it, by how it is written alone."""
        ...

    def open(self, text: str, options: Options) -> Opened:
        """The network; raises ModelError or another CompressionError with a remedy."""
        ...


def suffixed(text: str, *suffixes: str) -> bool:
    """Whether a source is a path with one of these endings."""
    return Path(text).suffix.lower() in suffixes


def existing(text: str) -> Path:
    """The path of a file that is there; raises ModelError."""
    path = Path(text)
    if not path.is_file():
        raise ModelError(f"a source must be a file that can be read; there is none at {text}. Check the path.")
    return path


def refuse_options(options: Options, *, weights: str = "", inputs: str = "") -> None:
    """Raises ModelError where an option was given that has no effect; each text says why, "" where it has one."""
    if weights and options.weights:
        raise ModelError(f"--weights has no effect here: {weights}. Leave it out.")
    if inputs and options.inputs:
        raise ModelError(f"--input has no effect here: {inputs}. Leave it out.")


def package(name: str, what: str, pinned: str = "") -> ModuleType:
    """A package that is no part of the installation, imported; raises ModelError that tells how to install it.

    what: what needs it, e.g. "a Keras file". pinned: as for pip; None for the name.
    """
    try:
        return import_module(name)
    except ImportError as error:
        missing = getattr(error, "name", None) or name
        raise ModelError(
            f"{what} needs the package {name}, which is not installed ({missing} is missing). "
            f"Install it: pip install {pinned or name}"
        ) from None
