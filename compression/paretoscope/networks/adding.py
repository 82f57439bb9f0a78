"""From a source to a network of the library: opened, compared with what was opened, kept."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from paretoscope.base.errors import ModelError
from paretoscope.networks.origins import Opened, Options, find_origin

if TYPE_CHECKING:
    from torch import Tensor

    from paretoscope.base.batch import Batch
    from paretoscope.graph.importer import Imported

# Samples that are compared, two numbers of them, so that a batch that was frozen is found.
SAMPLES = (3, 2)
# Largest difference to the original, as a part of its largest output: other orders of summation differ by less, another
# padding or activation by far more. Chosen by hand, no benchmark.
TOLERANCE = 1e-3


@dataclass(frozen=True, eq=False, slots=True)
class Found:
    """What a source gave. origin: the name of what opened it. difference: the largest to the original's outputs on
    drawn inputs, as a part of the largest output; None where nothing else could run it.
    """

    opened: Opened
    origin: str
    difference: float | None

    @property
    def notes(self) -> tuple[str, ...]:
        """What the origin told, and how close the imported network is to the original."""
        if self.difference is None:
            return self.opened.notes
        told = f"Its outputs differ by at most {self.difference:.1e} of the largest from those of what was opened."
        return *self.opened.notes, told


def open_source(text: str, options: Options = Options()) -> Found:  # noqa: B008 (immutable)
    """The network of a source; raises ModelError where it cannot be opened, or answers otherwise than the original."""
    origin = find_origin(text)
    try:
        opened = origin.open(text, options)
        difference = None if opened.original is None else _compared(opened.imported, opened.original)
    except MemoryError:
        raise ModelError(
            f"a network must fit into this machine's memory; {text} does not. Take a smaller one."
        ) from None
    return Found(opened, origin.name, difference)


def _compared(imported: "Imported", original: "Callable[[Batch], Any]") -> float:
    """The largest difference of outputs on drawn inputs, as a part of the largest; raises ModelError beyond
    TOLERANCE.
    """
    import torch

    from paretoscope.base.batch import call, tensors_in
    from paretoscope.networks.drawn import drawn

    module, worst = imported.module(), 0.0
    for n in SAMPLES:
        batch = drawn(imported.graph, n, seed=n).test
        with torch.inference_mode():
            own, theirs = (list(tensors_in(run(batch))) for run in (lambda b: call(module, b), original))
        if [each.shape for each in own] != [each.shape for each in theirs]:
            shapes = " and ".join(str([tuple(each.shape) for each in found]) for found in (own, theirs))
            raise ModelError(f"an imported network must have the original's outputs; their shapes are {shapes}.")
        for one, other in zip(own, theirs, strict=True):
            worst = max(worst, _difference(one, other))
    if worst > TOLERANCE:
        raise ModelError(
            f"an imported network must answer as the original; on drawn inputs they differ by {worst:.2g} of the "
            "largest output. Export it in evaluation mode; if it draws random numbers, it cannot be compressed here."
        )
    return worst


def _difference(one: "Tensor", other: "Tensor") -> float:
    import torch

    one, other = one.double(), other.double()
    if not torch.equal(one.isfinite(), other.isfinite()):
        return float("inf")
    finite = other.isfinite()
    one, other = one[finite], other[finite]
    if not other.numel():
        return 0.0
    return float((one - other).abs().max() / other.abs().max().clamp(min=1e-12))
