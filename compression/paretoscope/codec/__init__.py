"""The artefact and its entropy coding."""

from paretoscope.codec.artefact import (
    read,
    read_figures,
    read_origin,
    streams_length,
    write,
    write_checked,
    write_streams,
)
from paretoscope.codec.container import Figures

__all__ = [
    "Figures",
    "read",
    "read_figures",
    "read_origin",
    "streams_length",
    "write",
    "write_checked",
    "write_streams",
]
