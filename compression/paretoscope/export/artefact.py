"""The artefact: the file whose length is the size."""

from collections.abc import Mapping

from paretoscope import codec
from paretoscope.export.base import Format, Original, expect_figures, same_as_screen, versioned
from paretoscope.runtimes.onnx_graph import Arrays


def _write(original: Original) -> dict[str, bytes]:
    return {f"{original.stem}.psc": original.exported}


def _run(files: Mapping[str, bytes], original: Original) -> Arrays:
    (data,) = files.values()
    compressed = codec.read(data)
    expect_figures(data, original)
    return original.rebuilt(compressed)


ARTEFACT = Format(
    name="artefact",
    title="Artefact",
    summary="The smallest file: entropy-coded integer codes, with all that is needed to build the network again.",
    reference="compression/paretoscope/codec/FORMAT.md",
    extension=".psc",
    runtime=versioned("Paretoscope's reader and PyTorch", "torch"),
    promise="bit for bit",
    write=_write,
    run=_run,
    judge=same_as_screen,
    place=10,
)
FORMATS = (ARTEFACT,)
