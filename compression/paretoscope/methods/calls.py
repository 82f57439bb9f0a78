"""The calls of a network that methods watch or change while it runs: layers, products, attention, normalisation."""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

_CONVOLUTIONS = (F.conv1d, F.conv2d, F.conv3d)
_TRANSPOSED = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)
_PRODUCTS = (torch.matmul, torch.mm, torch.bmm, torch.addmm, torch.baddbmm, Tensor.matmul, Tensor.__matmul__)
Function = Callable[..., Tensor]
# An argument of a convolution: one number for all axes of the kernel, or one an axis; a padding may have a name.
Extent = int | str | tuple[int, ...]

_ATTENTION = inspect.signature(F.multi_head_attention_forward)


class Normalisation(NamedTuple):
    """The arguments of `F.batch_norm`, in their order and with their defaults there."""

    x: Tensor
    mean: Tensor | None
    var: Tensor | None
    weight: Tensor | None = None
    bias: Tensor | None = None
    training: bool = False
    momentum: float = 0.1
    eps: float = 1e-5

    def run(self) -> Tensor:
        """What the call gives."""
        return F.batch_norm(*self)


class LayerCalls(TorchFunctionMode):
    """Sees each convolution, linear map, product, attention and batch normalisation that runs while it is entered.

    Functional calls are watched, not modules: attention applies its projections without calling any module. A subclass
    overrides what it needs; each method returns the output of its call, `project` the bias to use.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.linear:
            return self.linear(*args, **kwargs)
        if func in _CONVOLUTIONS:
            return self.convolve(func, *args, **kwargs)
        if func in _TRANSPOSED:
            return self.transpose(func, *args, **kwargs)
        if func is F.batch_norm:
            return self.normalise(Normalisation(*args, **kwargs))
        if func is F.multi_head_attention_forward:
            return self._attend(_ATTENTION.bind(*args, **kwargs).arguments)
        if func in _PRODUCTS:
            return self.multiply(func, *args, **kwargs)
        if func is torch.einsum:
            return self.contract(*args, **kwargs)
        return func(*args, **kwargs)

    def linear(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return F.linear(x, weight, bias)

    def convolve(
        self, function: Function, x: Tensor, weight: Tensor, bias: Tensor | None = None, *geometry: Extent
    ) -> Tensor:
        """geometry: stride, padding, dilation and groups, as far as they are given."""
        return function(x, weight, bias, *geometry)

    def transpose(
        self, function: Function, x: Tensor, weight: Tensor, bias: Tensor | None = None, *geometry: Extent
    ) -> Tensor:
        """A transposed convolution; geometry: stride, padding, output padding, groups and dilation."""
        return function(x, weight, bias, *geometry)

    def multiply(self, function: Function, *args: Tensor, **kwargs: Any) -> Tensor:
        """A matrix product; args: what is added, where something is, and the two factors."""
        return function(*args, **kwargs)

    def contract(self, equation: str, *tensors: Tensor) -> Tensor:
        return torch.einsum(equation, *tensors)

    def normalise(self, norm: Normalisation) -> Tensor:
        return norm.run()

    def project(self, inputs: tuple[Tensor, ...], weights: tuple[Tensor, ...], bias: Tensor | None) -> Tensor | None:
        """The projections of queries, keys and values: `weights` are three, or one that stacks their rows."""
        return bias

    def _attend(self, call: dict[str, Any]) -> tuple[Tensor, Tensor | None]:
        inputs = call["query"], call["key"], call["value"]
        weights: tuple[Tensor, ...]
        if call.get("use_separate_proj_weight"):
            weights = call["q_proj_weight"], call["k_proj_weight"], call["v_proj_weight"]
        else:
            weights = (call["in_proj_weight"],)
        bias = self.project(inputs, weights, call["in_proj_bias"])
        out_weight, out_bias = call["out_proj_weight"], call["out_proj_bias"]
        # With the identity for its output projection, attention returns what that projection is fed with.
        identity = torch.eye(out_weight.shape[1], dtype=out_weight.dtype)
        mixed, attention = F.multi_head_attention_forward(
            **{**call, "in_proj_bias": bias, "out_proj_weight": identity, "out_proj_bias": None}
        )
        return self.linear(mixed, out_weight, out_bias), attention
