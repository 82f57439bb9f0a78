"""What the commands share: their errors and notes, and arguments that several of them take."""

import functools
import sys
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from pathlib import Path
from typing import Annotated, Any

import typer

from paretoscope.base.errors import CompressionError
from paretoscope.base.text import printable

LATENCY_PANEL = "Latency"

# How the library's messages name this program.
PROGRAM = "python -m paretoscope"
_started: ContextVar[str] = ContextVar("started", default=PROGRAM)

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Model = Annotated[str, typer.Argument(metavar="MODEL", help="Name of a model; the command models lists them.")]
ModelOrFile = Annotated[
    str, typer.Argument(metavar="MODEL|FILE", help="Name of a model, or a file that is an artefact.")
]


def start(context: typer.Context) -> None:
    """Remember how the program was started: what it says of itself can be typed again."""
    _started.set(context.find_root().info_name or PROGRAM)


def named(text: str) -> str:
    """A message of the library with the name that the program was started by."""
    return text.replace(PROGRAM, _started.get())


def reporting(command: Callable[..., None]) -> Callable[..., None]:
    """Show the library's own errors as one line, with exit status 1."""

    @functools.wraps(command)
    def wrapped(*arguments: Any, **values: Any) -> None:
        try:
            command(*arguments, **values)
        except CompressionError as error:
            typer.secho(f"Error: {printable(named(str(error)))}", fg="red", err=True)
            raise typer.Exit(1) from None

    return wrapped


def file_path(text: str) -> Path:
    """A path of the command line; a usage error where it is empty, which Path would take for the present folder."""
    if not text:
        raise typer.BadParameter("a path must not be empty; got ''. Name a file, e.g. model.psc.")
    return Path(text)


def tell(notes: Iterable[str]) -> None:
    """Notes for a person, on standard error."""
    for note in notes:
        print(f"Note: {printable(named(note))}", file=sys.stderr)
