"""Random samples for networks that nobody gave data for: they are good for sizes, times and marked harm."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from paretoscope.base.batch import InputLike, head, joined
from paretoscope.base.errors import DataError
from paretoscope.data.arrays import ArrayData

if TYPE_CHECKING:
    import torch

    from paretoscope.base.batch import Batch

# Samples to measure on, and as many to train on and calibrate with; chosen by hand; no benchmark.
SAMPLES = 64
# Numbers below which whole numbers are drawn where nobody says how many tokens there are: bytes; by hand.
TOKENS = 256
# Most bytes of a part: a network of large inputs gets fewer samples; chosen by hand; no benchmark.
MOST_BYTES = 64 << 20


def drawn(
    inputs: Sequence[InputLike], n: int = SAMPLES, seed: int = 0, *, below: "int | Sequence[int]" = TOKENS
) -> ArrayData:
    """n samples of each part for a network of these inputs, unlabelled and marked as drawn; equal for an equal seed.

    Floats are normal with mean 0 and variance 1; switches are fair; whole numbers are uniform from 0 to `below` (one
    number, or one for each input; where it is 0, they are ones, as a mask that hides nothing). There are fewer than n
    where n would take more than 64 MiB a part. Raises DataError.
    """
    import torch

    bounds = [below] * len(inputs) if isinstance(below, int) else list(below)
    if n < 1 or len(bounds) != len(inputs) or min(bounds, default=0) < 0:
        raise DataError(
            f"samples are drawn with n of at least 1 and bounds of at least 0, one for each input; got "
            f"n {n}, bounds {bounds}. Leave them out."
        )
    size = sum(each.numel() * each.element_size() for each in (_draw(one, 1, 2, None) for one in inputs))
    n = max(1, min(n, MOST_BYTES // max(1, size)))
    generator = torch.Generator().manual_seed(seed)

    def batch() -> "Batch":
        pairs = zip(inputs, bounds, strict=True)
        return joined(tuple(_draw(each, n, bound, generator) for each, bound in pairs))

    train, test = batch(), batch()
    return replace(ArrayData.of(train, test, head(train, n)), drawn=True)


def _draw(each: InputLike, n: int, below: int, generator: "torch.Generator | None") -> "torch.Tensor":
    """n samples of an input; without a generator, only their shape and type."""
    import torch

    dtype, shape = getattr(torch, each.dtype), (n, *each.shape)
    if generator is None:
        return torch.empty(shape, dtype=dtype, device="meta")
    if dtype.is_floating_point:
        return torch.randn(shape, generator=generator).to(dtype)
    if not below:
        return torch.ones(shape, dtype=dtype)
    top = 2 if dtype is torch.bool else min(below, torch.iinfo(dtype).max + 1)
    return torch.randint(0, top, shape, generator=generator).to(dtype)
