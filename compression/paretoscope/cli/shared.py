"""What the commands share: their errors and notes, and arguments that several of them take."""

import functools
import sys
from collections.abc import Callable, Iterable
from typing import Annotated, Any

import typer

from paretoscope.base.errors import CompressionError
from paretoscope.base.text import printable

LATENCY_PANEL = "Latency"

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Model = Annotated[str, typer.Argument(metavar="MODEL", help="Name of a model; see: python -m paretoscope models.")]
ModelOrFile = Annotated[str, typer.Argument(metavar="MODEL|FILE", help="Name of a model, or an artefact.")]


def reporting(command: Callable[..., None]) -> Callable[..., None]:
    """Show the library's own errors as one line, with exit status 1."""

    @functools.wraps(command)
    def wrapped(*arguments: Any, **values: Any) -> None:
        try:
            command(*arguments, **values)
        except CompressionError as error:
            typer.secho(f"Error: {printable(str(error))}", fg="red", err=True)
            raise typer.Exit(1) from None

    return wrapped


def tell(notes: Iterable[str]) -> None:
    """Notes for a person, on standard error."""
    for note in notes:
        print(f"Note: {printable(note)}", file=sys.stderr)
