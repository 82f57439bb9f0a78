"""Layers that are one linear map: batch normalisation folded into its convolution, consecutive linear maps merged.

Both leave the function of the network as it was, but for rounding; they are exact in evaluation mode only.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn

from paretoscope.base.errors import ModelError
from paretoscope.base.lock import machine
from paretoscope.base.tracing import traced
from paretoscope.graph.edits import neighbours
from paretoscope.graph.graph_module import GraphModule
from paretoscope.methods import recalibrate
from paretoscope.methods.registry import NetworkMethod, NetworkWork
from paretoscope.model import structure

Pair = tuple[str, str]
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def fold(module: nn.Module) -> tuple[Pair, ...]:
    """Fold every batch normalisation that follows a convolution directly, in place; returns their names.

    With s = gamma / sqrt(variance + eps), the weights become s w and the bias s (b - mean) + beta.
    """
    pairs = convolutions_with_norms(module)
    for conv, norm in pairs:
        scale, shift = affine(module.get_submodule(norm))
        before = linear_map(module.get_submodule(conv)).bias
        bias = torch.zeros_like(shift) if before is None else before.detach().double()
        layer = structure.fold(module, conv, norm)
        assert layer.bias is not None  # a folded convolution has one
        with torch.no_grad():
            layer.weight.copy_(scaled(layer, scale))
            layer.bias.copy_(bias * scale + shift)
    return pairs


def scaled(layer: structure.LinearMap, scale: Tensor) -> Tensor:
    """The weight of a layer, float64, each output channel times its scale."""
    weight = layer.weight.double()
    if not isinstance(layer, nn.modules.conv._ConvTransposeNd):
        return weight * scale.reshape(-1, *[1] * (weight.ndim - 1))
    # (inputs, outputs / groups, ...), the inputs of a group one after the other.
    groups = scale.reshape(layer.groups, 1, -1, *[1] * (weight.ndim - 2))
    return (weight.reshape(layer.groups, -1, *weight.shape[1:]) * groups).reshape(weight.shape)


def _normalises(first: nn.Module, second: nn.Module) -> bool:
    """Whether the channels that a batch normalisation scales are the output channels of a layer of that kind."""
    known: dict[type[nn.Module], int] = {nn.Linear: 1, nn.Conv1d: 1, nn.Conv2d: 2, nn.Conv3d: 3}
    known |= {nn.ConvTranspose1d: 1, nn.ConvTranspose2d: 2, nn.ConvTranspose3d: 3}
    norms: dict[type[nn.Module], int] = {nn.BatchNorm1d: 1, nn.BatchNorm2d: 2, nn.BatchNorm3d: 3}
    return type(first) in known and known[type(first)] == norms.get(type(second))


def convolutions_with_norms(module: nn.Module) -> tuple[Pair, ...]:
    """Pairs of a linear map and the batch normalisation that alone takes its output; raises ModelError."""
    norms = [part for part in module.modules() if isinstance(part, NORMS)]
    if not norms:
        return ()
    parts = dict(module.named_modules())
    return tuple(
        (first, second)
        for first, second in _neighbours(module)
        if _normalises(parts[first], parts[second]) and parts[second].track_running_stats
    )


def linear_map(part: nn.Module) -> structure.LinearMap:
    """A part that is known to be a linear layer or a convolution."""
    assert isinstance(part, structure.LinearMap)
    return part


def affine(norm: nn.Module) -> tuple[Tensor, Tensor]:
    """What batch normalisation with statistics does in evaluation mode, scale * x + shift; float64 (channels,) each."""
    assert isinstance(norm, NORMS) and norm.running_mean is not None and norm.running_var is not None
    scale = (norm.running_var.double() + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * norm.weight.detach().double()
    shift = -norm.running_mean.double() * scale
    return scale, shift if norm.bias is None else shift + norm.bias.detach().double()


def merge(module: nn.Module) -> tuple[tuple[Pair, ...], list[str]]:
    """Merge linear maps that follow each other with nothing but identities between, in place, unless that adds weights.

    Two linear layers, or a convolution and a 1x1 convolution: W = W2 W1, b = W2 b1 + b2. Returns the pairs in the order
    in which they were merged, each at the place of its first, and a sentence for each pair.
    """
    merged: list[Pair] = []
    refused: dict[Pair, str] = {}
    while pair := next((p for p in _neighbours(module) if p not in refused and _linear_maps(module, *p)), None):
        one, other = (linear_map(module.get_submodule(name)) for name in pair)
        first, second = (part.weight.detach().double().flatten(1) for part in (one, other))
        before, after = first.numel() + second.numel(), second.shape[0] * first.shape[1]
        if after > before:
            refused[pair] = f"{pair[0]} and {pair[1]} not merged: {after:,} weights would replace {before:,}."
            continue
        bias = torch.zeros(len(second), dtype=torch.float64)
        if one.bias is not None:
            bias = bias + second @ one.bias.detach().double()
        if other.bias is not None:
            bias = bias + other.bias.detach().double()
        whole = linear_map(structure.merge(module, *pair))
        with torch.no_grad():
            whole.weight.copy_((second @ first).reshape(whole.weight.shape))
            if whole.bias is not None:
                whole.bias.copy_(bias)
        merged.append(pair)
    return tuple(merged), [f"{one} and {other} merged." for one, other in merged] + list(refused.values())


def _linear_maps(module: nn.Module, first: str, second: str) -> bool:
    one, other = module.get_submodule(first), module.get_submodule(second)
    if type(one) is nn.Linear and type(other) is nn.Linear:
        return one.out_features == other.in_features
    pointwise = dict(kernel_size=(1, 1), stride=(1, 1), padding=(0, 0), groups=1)
    return (
        type(one) is nn.Conv2d
        and type(other) is nn.Conv2d
        and one.groups == 1
        and one.padding_mode == "zeros"
        and all(getattr(other, name) == value for name, value in pointwise.items())
    )


def _neighbours(module: nn.Module) -> Iterator[Pair]:
    """Pairs of layers of which the second, and it alone, takes the output of the first; each is called once."""
    if isinstance(module, GraphModule):
        yield from neighbours(module.graph)
        return
    nothing = (nn.Identity, nn.Dropout, nn.Flatten)
    parts = dict(module.named_modules())
    try:
        graph = traced(module)
    except Exception as error:  # whatever the forward pass does with a proxy in place of a tensor
        raise ModelError(
            f"a forward pass must be one that torch.fx can trace, to find what follows each layer; it says: {error}. "
            "Leave fold, merge and nodes out."
        ) from None
    calls = Counter(node.target for node in graph.nodes if node.op == "call_module")
    for node in graph.nodes:
        if node.op != "call_module" or isinstance(parts[node.target], nothing):
            continue
        follower = node
        while len(follower.users) == 1:
            follower = next(iter(follower.users))
            if follower.op != "call_module" or not isinstance(parts[follower.target], nothing):
                break
        if follower is not node and follower.op == "call_module" and calls[node.target] == calls[follower.target] == 1:
            yield node.target, follower.target


def _fold(work: NetworkWork) -> NetworkWork:
    report = list(work.report)
    if work.reestimate and work.images is not None:
        entries = recalibrate.reestimate_batchnorm(work.module, work.images)
        work.module.load_state_dict({name: torch.from_numpy(value) for name, value in entries.items()}, strict=False)
        report += ["Batch normalisation re-estimated before it was folded."] * bool(entries)
    with machine(exclusive=False):
        folded = fold(work.module)
    report.append(f"{len(folded)} batch normalisations folded." if folded else "No batch normalisation to fold.")
    return replace(work, structure=replace(work.structure, folded=folded), report=tuple(report))


def _merge(work: NetworkWork) -> NetworkWork:
    with machine(exclusive=False):
        merged, sentences = merge(work.module)
    report = (*work.report, *(sentences or ["No consecutive linear maps to merge."]))
    return replace(work, structure=replace(work.structure, merged=merged), report=report)


METHODS = (
    NetworkMethod("fold", lambda step: step.fold, _fold, place=30),
    NetworkMethod("merge", lambda step: step.merge, _merge, place=40),
)
