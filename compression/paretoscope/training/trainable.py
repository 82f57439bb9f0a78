"""Weights that train within what their compressed tensor can represent.

Each kind of compressed tensor has a trainable twin: `weight()` is the float tensor that the network computes with, as a
function of what the optimiser may change, and `compressed()` is a tensor of the same kind that decodes to exactly that.
Pruned weights stay zero. Rounding lets gradients through as if it were not there (straight-through estimator, Bengio,
Leonard and Courville 2013).
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

from paretoscope.methods.binarize import EXPONENTS
from paretoscope.model.tensors import Codebook, CompressedTensor, Integers, Plain
from paretoscope.training.rounding import rounded, through

# The growth of a scale or of a range moves this many times as fast as its parameter; chosen by hand, no benchmark.
PACE = 5.0
# The least scale: none can become zero or negative.
_LEAST_SCALE = 1e-12


def trainable(tensor: CompressedTensor, latent: np.ndarray, kept: np.ndarray | None) -> "Trainable":
    """The twin of a compressed tensor.

    latent: float32 of its shape, the weights before rounding, from which training starts. kept: bool of its shape,
    False where pruned; None for all kept.
    """
    if isinstance(tensor, Codebook):
        return Shared(tensor)
    if isinstance(tensor, Integers):
        if tensor.trellis:
            return Projected(tensor, latent, kept)
        return Signs(tensor, latent) if tensor.bits == 1 else Grid(tensor, latent, kept)
    return Free(latent, kept)


class Trainable(nn.Module, ABC):
    """A trainable twin: its parameters are what the optimiser changes, its buffers what the recipe has fixed."""

    @abstractmethod
    def weight(self) -> Tensor:
        """float32, of the tensor's shape, differentiable."""

    @abstractmethod
    def compressed(self) -> CompressedTensor:
        """A tensor that decodes to exactly `weight()`."""

    @abstractmethod
    def latent(self) -> np.ndarray:
        """The weights before rounding, float32, zero where pruned: what a later step of the recipe starts from."""


class Free(Trainable):
    """Float weights, some of them pruned."""

    kept: Tensor | None

    def __init__(self, latent: np.ndarray, kept: np.ndarray | None) -> None:
        super().__init__()
        self.register_buffer("kept", _mask(latent, kept))
        self.value = nn.Parameter(_masked(torch.tensor(latent), self.kept))

    def weight(self) -> Tensor:
        return _masked(self.value, self.kept)

    def compressed(self) -> Plain:
        return Plain(self.latent())

    def latent(self) -> np.ndarray:
        return self.weight().detach().numpy().copy()


class Grid(Trainable):
    """Integer codes times a scale; the scale is learned too (Esser et al., Learned Step Size Quantization, 2020).

    The trained parameter is `growth`: scale = start * exp(PACE * growth). Adam moves every parameter by about the
    learning rate, which is little for a logarithm, but many times the scale itself for a scale.
    """

    kept: Tensor | None
    zero: Tensor | None
    start: Tensor

    def __init__(self, tensor: Integers, latent: np.ndarray, kept: np.ndarray | None) -> None:
        super().__init__()
        self.bits = tensor.bits
        self._kind = tensor.codes.dtype
        self._zeros = tensor.zero
        self._shape = tensor.scale.shape
        top = 2 ** (tensor.bits - 1) - 1
        self.low, self.high = (-top if tensor.zero is None else -top - 1), top
        self.register_buffer("kept", _mask(latent, kept))
        self.register_buffer("zero", None if tensor.zero is None else _rows(tensor.zero, latent.ndim))
        self.value = nn.Parameter(_masked(torch.tensor(latent), self.kept))
        self.register_buffer("start", _least(_rows(tensor.scale, latent.ndim)))
        self.growth = nn.Parameter(torch.zeros_like(self.start))

    def weight(self) -> Tensor:
        scale = self._scale()
        return _masked((self._steps(scale) * scale), self.kept)

    def compressed(self) -> Integers:
        with torch.no_grad():
            scale = self._scale()
            codes = self._steps(scale)
            stored: np.ndarray = (codes if self.zero is None else codes + self.zero).numpy()
        if self.kept is not None:
            stored = np.where(self.kept.numpy(), stored, 0 if self.zero is None else self.zero.numpy())
        return Integers(stored.astype(self._kind), scale.numpy().reshape(self._shape).copy(), self.bits, self._zeros)

    def latent(self) -> np.ndarray:
        return _masked(self.value, self.kept).detach().numpy().copy()

    def _scale(self) -> Tensor:
        return self.start * (PACE * self.growth).exp()

    def _steps(self, scale: Tensor) -> Tensor:
        """Codes less the zero point; gradients go to the weights within the grid, and to the scale."""
        zero = 0 if self.zero is None else self.zero
        return rounded((self.value / scale + zero).clamp(self.low, self.high)) - zero


class Signs(Trainable):
    """Binary or ternary weights: signs times a magnitude that is learned; zeros stay where they are."""

    kept: Tensor

    def __init__(self, tensor: Integers, latent: np.ndarray) -> None:
        super().__init__()
        signs = torch.tensor(tensor.codes, dtype=torch.float32)
        self.register_buffer("kept", signs != 0)
        self._kind = tensor.codes.dtype
        # Every weight starts with the sign of its code: one of the other sign would flip at the first step.
        self.value = nn.Parameter(torch.tensor(latent).abs() * signs)
        self.alpha = nn.Parameter(_rows(tensor.scale, latent.ndim))
        self._shape = tensor.scale.shape
        self.power_of_two = bool(np.isin(np.frexp(tensor.scale[tensor.scale > 0])[0], 0.5).all())

    def weight(self) -> Tensor:
        signs = torch.where(self.value < 0, -1.0, 1.0) + (self.value - self.value.detach())
        return signs * self._alpha() * self.kept

    def compressed(self) -> Integers:
        codes = np.where(self.value.detach().numpy() < 0, -1, 1) * self.kept.numpy()
        return Integers(codes.astype(self._kind), self._alpha().detach().numpy().reshape(self._shape).copy(), 1)

    def latent(self) -> np.ndarray:
        return (self.value * self.kept).detach().numpy().copy()

    def _alpha(self) -> Tensor:
        alpha = _least(self.alpha)
        if not self.power_of_two:
            return alpha
        return through(alpha, torch.exp2(alpha.detach().log2().round().clamp(*EXPONENTS)))


class Shared(Trainable):
    """A codebook: all weights of a group move together, by the sum of their gradients (Han et al. 2015, equation 3)."""

    indices: Tensor

    def __init__(self, tensor: Codebook) -> None:
        super().__init__()
        self.register_buffer("indices", torch.tensor(tensor.indices.astype(np.int64)))
        self._grid = tensor.entries if isinstance(tensor.entries, Integers) else None
        self.entries = nn.Parameter(torch.tensor(tensor.entries.decode(), dtype=torch.float32))

    def weight(self) -> Tensor:
        return _lookup(torch.cat([self.entries.new_zeros(1), self._rounded_entries()]), self.indices)

    def compressed(self) -> Codebook:
        values = self._rounded_entries().detach().numpy()
        if self._grid is not None and len(values):
            values = np.rint(values / np.float64(self._grid.scale)).astype(self._grid.codes.dtype)
        # Groups of equal values are stored as one, and a group at zero as symbol 0.
        found = np.unique(values[values != 0])
        table = np.zeros(len(values) + 1, np.uint8 if len(found) <= 255 else np.uint16)
        table[1:] = np.where(values == 0, 0, np.searchsorted(found, values) + 1)
        entries = Plain(found) if self._grid is None else Integers(found, self._grid.scale, self._grid.bits)
        return Codebook(table[self.indices.numpy()], entries)

    def latent(self) -> np.ndarray:
        return self.weight().detach().numpy().copy()

    def _load_from_state_dict(self, state: dict[str, Tensor], prefix: str, *others: Any) -> None:
        # Groups that met, or came to zero, are not in the compressed tensor, but are still trained: their number is
        # that of the state dict.
        self.entries = nn.Parameter(torch.empty_like(state[f"{prefix}entries"]))
        super()._load_from_state_dict(state, prefix, *others)

    def _rounded_entries(self) -> Tensor:
        if self._grid is None or not len(self.entries):
            return self.entries
        scale = float(self._grid.scale)
        top = 1 if self._grid.bits == 1 else 2 ** (self._grid.bits - 1) - 1
        steps = rounded((self.entries / scale).clamp(-top, top))
        return (steps * float(np.float32(scale))).to(torch.float32)


class Projected(Trainable):
    """Weights whose codes only a compression of the whole tensor finds, such as paths of a trellis.

    Training moves the weights; `project` puts them back on what can be represented. In between the network computes
    with the last projection plus what the weights have moved since.
    """

    kept: Tensor | None
    moved: Tensor

    def __init__(self, tensor: Integers, latent: np.ndarray, kept: np.ndarray | None) -> None:
        super().__init__()
        self.register_buffer("kept", _mask(latent, kept))
        self.value = nn.Parameter(_masked(torch.tensor(latent), self.kept))
        self.register_buffer("moved", torch.zeros_like(self.value))
        self.project(tensor)

    def project(self, tensor: Integers) -> None:
        """Take over what the weights were compressed to."""
        self._tensor = tensor
        with torch.no_grad():
            self.moved = torch.from_numpy(tensor.decode()) - self.value

    def weight(self) -> Tensor:
        return _masked(self.value + self.moved, self.kept)

    def bits(self) -> Tensor:
        """Estimated bits of all codes, shape (), differentiable: each row is taken for a Laplacian source.

        A Laplacian source of mean magnitude m has log2(2 e m / step) bits a weight at high rates, and a quantizer of
        the trellis steps by two scales; log2(1 + e m / scale) is about that, and 0 for a row of zeros.
        """
        rows = self.weight().flatten(1)
        scale = torch.from_numpy(np.asarray(self._tensor.scale, np.float32)).reshape(-1)
        return rows.shape[1] * torch.log2(1 + math.e * rows.abs().mean(dim=1) / _least(scale)).sum()

    def compressed(self) -> Integers:
        """The last projection: `weight()` only until the next step of the optimiser."""
        return self._tensor

    def latent(self) -> np.ndarray:
        return _masked(self.value, self.kept).detach().numpy().copy()


class _LookupContext(FunctionCtx):
    """The notes of `_Lookup` between its two passes. entries: of the table. saved_tensors: the indices."""

    entries: int
    saved_tensors: tuple[Tensor]


class _Lookup(torch.autograd.Function):
    """table[indices]; the gradient of an entry is the sum of those of its members."""

    @staticmethod
    def forward(ctx: _LookupContext, table: Tensor, indices: Tensor) -> Tensor:
        ctx.save_for_backward(indices)
        ctx.entries = len(table)
        return table[indices]

    @staticmethod
    def backward(ctx: _LookupContext, gradient: Tensor) -> tuple[Tensor, None]:
        (indices,) = ctx.saved_tensors
        sums = torch.bincount(indices.reshape(-1), gradient.reshape(-1).double(), minlength=ctx.entries)
        return sums.to(gradient.dtype), None


# PyTorch leaves `apply` without annotations.
_lookup: Callable[[Tensor, Tensor], Tensor] = _Lookup.apply


def _mask(latent: np.ndarray, kept: np.ndarray | None) -> Tensor | None:
    return None if kept is None or kept.all() else torch.tensor(kept)


def _masked(value: Tensor, kept: Tensor | None) -> Tensor:
    return value if kept is None else torch.where(kept, value, torch.zeros((), dtype=value.dtype))


def _rows(values: np.ndarray, axes: int) -> Tensor:
    """A scale or zero point, () or (rows,), so that it broadcasts against a weight of so many axes."""
    tensor = torch.tensor(np.asarray(values, np.float32))
    return tensor if tensor.ndim == 0 else tensor.reshape(-1, *[1] * (axes - 1))


def _least(scale: Tensor) -> Tensor:
    return scale.clamp(min=_LEAST_SCALE)
