"""The artefact and its entropy coding."""

from compression.codec.artefact import read, streams_length, write, write_streams

__all__ = ["read", "streams_length", "write", "write_streams"]
