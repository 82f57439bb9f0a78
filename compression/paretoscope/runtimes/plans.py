"""What a runtime that skips zeros does with each layer, and why."""

from collections.abc import Sequence
from dataclasses import dataclass

# The form of a layer whose zeros are multiplied like other weights.
DENSE = "dense"


@dataclass(frozen=True, slots=True)
class LayerPlan:
    """How a layer runs.

    weight: its state-dict name. density: non-zero weights / weights. form: "dense", or how its non-zero weights are
    stored ("rows", "blocks of 8"), by the name that is kept in stored plans. multiplied: weights that are multiplied.
    break_even: the density below which zeros without a pattern pay. dense_us, sparse_us: microseconds of dense kernels
    and of the best sparse ones, by the measured lines; None where no sparse kernel can run it.
    """

    weight: str
    density: float
    form: str
    multiplied: int
    break_even: float
    dense_us: float
    sparse_us: float | None

    @property
    def is_sparse(self) -> bool:
        """Whether its zeros are skipped."""
        return self.form != DENSE


def sparse_layers(plan: Sequence[LayerPlan]) -> tuple[int, int]:
    """How many layers of a plan skip their zeros, of how many."""
    return sum(layer.is_sparse for layer in plan), len(plan)
