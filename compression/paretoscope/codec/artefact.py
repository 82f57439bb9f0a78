"""The artefact: one file that holds everything needed to rebuild a compressed model. No code, no pickles.

FORMAT.md specifies it. Coding does not run beside a timing.
"""

from collections.abc import Iterator

from paretoscope.base.errors import ModelError
from paretoscope.base.lock import machine
from paretoscope.codec.container import Figures, check_values, framed, sections
from paretoscope.codec.header import Header
from paretoscope.codec.payload import Payload, read_streams, write_streams
from paretoscope.model.compressed import CompressedModel
from paretoscope.recipe.recipe import Recipe

__all__ = [
    "Payload",
    "read",
    "read_figures",
    "read_origin",
    "streams_length",
    "write",
    "write_checked",
    "write_streams",
]


@machine(exclusive=False)
def write(model: CompressedModel, figures: Figures | None = None) -> bytes:
    """The file's bytes; the same model and figures give the same bytes. Its length is the model's size.

    figures: what was measured of it; the length does not depend on them. Raises ModelError for what cannot be held.
    """
    header = Header.of(model)
    streams = write_streams(model, model.recipe.code.coder).finish()
    return framed(header.pack(), figures, streams, header.values)


@machine(exclusive=False)
def write_checked(model: CompressedModel, figures: Figures | None = None) -> bytes:
    """`write`, and proof: the file is read back, and all names, types and bits are compared. Raises ModelError."""
    data = write(model, figures)
    back = read(data)
    differing = next(_differing(model, back), None)
    if differing is not None:
        raise ModelError(
            f"what is written must read back bit for bit; {differing[:100]!r} does not. Nothing was written: keep the "
            "weights and report this."
        )
    return data


def _differing(model: CompressedModel, back: CompressedModel) -> Iterator[str]:
    """What a model that was read back has in another way than the one that was written."""
    if model.order != back.order:
        yield "the order of the tensors"
    for what in ("dtypes", "metadata"):
        if getattr(model, what, None) != getattr(back, what, None):
            yield what
    for name in model.order:
        ours, found = model.decode(name), back.decode(name)
        if (ours.dtype, ours.shape) != (found.dtype, found.shape) or ours.tobytes() != found.tobytes():
            yield name


def read(data: bytes, limit: int | None = None) -> CompressedModel:
    """Rebuild the compressed model, bit for bit; raises ArtefactError when `data` is not an artefact or is damaged.

    limit: how many values a model may declare, 2**30 if not given. Nothing is allocated for a file that declares more,
    nor for one that declares more than 2**16 + 4096 for each byte of its streams.
    """
    found = sections(data)
    header = Header.unpack(found.header)
    check_values(header.values, found, limit)
    with machine(exclusive=False):
        return header.model(read_streams(header, found.streams))


def read_origin(data: bytes) -> tuple[str, Recipe]:
    """Digest of the model that an artefact was made of, and what is known of its recipe; raises ArtefactError.

    Only the container and the header are read: codes may still be damaged.
    """
    header = Header.unpack(sections(data).header)
    return header.source, header.recipe


def read_figures(data: bytes) -> Figures | None:
    """What was measured of the model in an artefact, None if nothing was; raises ArtefactError."""
    return sections(data).figures


def streams_length(data: bytes) -> int:
    """Bytes of an artefact that are streams; the rest is header and framing."""
    return len(sections(data).streams)
