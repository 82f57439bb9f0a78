"""The artefact: the file whose length is the size."""

from collections.abc import Mapping

import numpy as np

from paretoscope import codec
from paretoscope.export.base import Format, Source, expect_figures, same_as_screen, versioned


def _write(source: Source) -> dict[str, bytes]:
    return {f"{source.stem}.psc": source.exported}


def _run(files: Mapping[str, bytes], source: Source) -> np.ndarray:
    (data,) = files.values()
    compressed = codec.read(data)
    expect_figures(data, source)
    return source.rebuilt(compressed)


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
)
