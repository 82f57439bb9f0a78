"""`paretoscope run`: the dashboard, by Streamlit, which takes the place of this process."""

import os
import sys
from typing import Annotated

import typer

from paretoscope.base.places import ROOT


def run(
    port: Annotated[
        int | None,
        typer.Option(
            min=1, max=65535, help="Port of this machine that it listens on. (default 8501)", show_default=False
        ),
    ] = None,
) -> None:
    """Serve the dashboard to this machine alone, until Ctrl+C; its address is printed."""
    os.execv(sys.executable, command(port))


def command(port: int | None) -> list[str]:
    """The command line that serves the dashboard.

    Streamlit reads .streamlit/config.toml beside app.py wherever it is started, so that an installed dashboard has our
    settings, and 127.0.0.1, too. -P keeps modules of the folder where it is started out of the way of ours.
    """
    server = [] if port is None else ["--server.port", str(port)]
    return [sys.executable, "-P", "-m", "streamlit", "run", str(ROOT / "app.py"), *server]
