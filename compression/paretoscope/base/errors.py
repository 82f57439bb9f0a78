"""What the library raises when a caller can do something about it.

Every message states the rule, the value that broke it and the remedy, in words that a page or a terminal can
show as they are.
"""


class CompressionError(Exception):
    """Base of all errors that this library raises on purpose."""


class RecipeError(CompressionError):
    """A recipe, or one of its fields, breaks a rule."""


class ModelError(CompressionError):
    """A model cannot be compressed, built or run as asked."""


class UnknownNameError(CompressionError):
    """A registry has no entry of that name."""


class ArtefactError(CompressionError):
    """A file is not an artefact, or is a damaged one."""


class NewerArtefactError(ArtefactError):
    """A file is whole, and written by a later version of this program than this one can read."""


class StoreError(CompressionError):
    """The record store cannot be read or written."""


class RuntimeUnavailableError(CompressionError):
    """A runtime is not installed, or cannot run this model."""


class DataError(CompressionError):
    """Data cannot be read, or do not fit a network."""
