"""The command line, a file for each group of commands."""

from paretoscope.cli.main import app

__all__ = ["app"]
