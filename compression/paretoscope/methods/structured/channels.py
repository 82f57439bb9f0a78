"""Channels and neurons removed together with all that depends on them: Fang et al., DepGraph, 2023 (torch-pruning).

Every group of channels that must go together (through residual sums, normalisation, depthwise convolutions, flattening
and attention) loses the same fraction, but for rounding to widths that kernels like. For l1 and l2 a channel counts as
the norm of the weights that make it, as batch normalisation scales them, times the norm of the weights that use it: it
is zero where either is.

Import this module where it is needed only; torch-pruning costs time.
"""

import math
import threading
from collections.abc import Iterator

import torch
import torch_pruning as tp
from torch import Tensor, nn
from torch_pruning.dependency import Group
from torch_pruning.pruner import function

from paretoscope.base.errors import ModelError, RecipeError
from paretoscope.base.lock import machine
from paretoscope.methods import fold
from paretoscope.methods.structured.width import width
from paretoscope.model import structure
from paretoscope.recipe.steps.simplify import Importance

MAKES = (
    function.prune_conv_out_channels,
    function.prune_linear_out_channels,
    function.prune_depthwise_conv_out_channels,
)
USES = (function.prune_conv_in_channels, function.prune_linear_in_channels)

# The library's pruners are shared by all graphs, and keep what they work on in themselves.
_one_at_a_time = threading.Lock()


def remove(module: nn.Module, fraction: float, importance: str, input_shape: tuple[int, ...]) -> None:
    """Remove that fraction of the channels of every group, see `width`, in place; outputs of the network stay.

    Raises RecipeError where the importance "bn" meets a group
    without batch normalisation, ModelError where nothing can be removed.
    """
    with _one_at_a_time, machine(exclusive=False):
        _remove(module, fraction, importance, torch.zeros(1, *input_shape))
    structure.fit(module)


def _remove(module: nn.Module, fraction: float, importance: str, images: Tensor) -> None:
    # The graph is read off autograd's.
    with torch.inference_mode(False), torch.enable_grad():
        module.requires_grad_(True)
        pruners = {nn.MultiheadAttention: _AttentionPruner(), nn.LayerNorm: _LayerNormPruner()}
        graph = tp.DependencyGraph().build_dependency(module, [images], customized_pruners=pruners, verbose=False)
        groups = list(_groups(graph, module, images))
    if not groups:
        raise ModelError("channels to remove must be between two layers; this network has none. Set nodes to 0.")
    scales = {
        module.get_submodule(conv): fold.affine(module.get_submodule(norm))[0]
        for conv, norm in fold.convolutions_with_norms(module)
    }
    with torch.no_grad():
        # All are scored before the first is cut: a cut changes the weights of the next group.
        chosen = [(group, _least(group, fraction, importance, scales)) for group in groups]
        for group, channels in chosen:
            if channels:
                group.prune(channels)


def _groups(graph: tp.DependencyGraph, module: nn.Module, images: Tensor) -> Iterator[Group]:
    """The groups of coupled channels that do not reach the outputs of the network."""
    kept = _output_layers(module, images)
    for group in graph.get_all_groups(ignored_layers=kept, root_module_types=[nn.Conv2d, nn.Linear]):
        if not any(isinstance(dep.target.module, tp.ops._OutputOp) for dep, _ in group):
            yield group


def _output_layers(module: nn.Module, images: Tensor) -> list[nn.Module]:
    outputs: list[tuple[nn.Module, object]] = []
    handles = [
        part.register_forward_hook(lambda layer, _, output: outputs.append((layer, output)))
        for part in module.modules()
        if isinstance(part, (nn.Linear, nn.Conv2d))
    ]
    try:
        with torch.no_grad():
            logits = module(images)
    finally:
        for handle in handles:
            handle.remove()
    return [layer for layer, output in outputs if output is logits]


def _least(group: Group, fraction: float, importance: str, scales: dict[nn.Module, Tensor]) -> list[int]:
    scores = scores_of(group, importance, scales)
    heads = math.lcm(*(dep.layer.num_heads for dep, _ in group if isinstance(dep.layer, nn.MultiheadAttention)))
    count = len(scores) - width(len(scores), fraction, heads)
    return sorted(torch.argsort(scores, stable=True)[:count].tolist())


def scores_of(group: Group, importance: str, scales: dict[nn.Module, Tensor]) -> Tensor:
    """Importance of each channel of a group, float64 (channels,).

    scales: what batch normalisation multiplies the outputs of a convolution with.
    """
    power = 1 if importance == Importance.L1 else 2
    made: Tensor
    used: Tensor
    scaled: Tensor
    made, used, scaled = torch.zeros(3, len(group[0].idxs), dtype=torch.float64)
    normalised = False
    for item in group.items:
        layer, action = item.dep.layer, item.dep.pruning_fn
        channels, roots = torch.tensor(item.idxs), torch.tensor(item.root_idxs)
        if isinstance(layer, nn.BatchNorm2d):
            if layer.weight is not None:
                normalised = True
                scaled.index_add_(0, roots, layer.weight[channels].double().abs())
        elif isinstance(layer, nn.MultiheadAttention):
            made.index_add_(0, roots, _norms(layer.out_proj.weight, power)[channels])
            used.index_add_(0, roots, _norms(layer.in_proj_weight.T, power)[channels])
        elif action in MAKES or action in USES:
            weight = layer.weight.double()
            if layer in scales:
                weight = weight * scales[layer][:, None, None, None]
            if action in MAKES:
                made.index_add_(0, roots, _norms(weight, power)[channels])
            else:
                used.index_add_(0, roots, _norms(weight.transpose(0, 1), power)[channels])
    if importance != Importance.BN:
        return made * used
    if not normalised:
        raise RecipeError(
            "importance 'bn' needs a batch normalisation with scales in every group of channels; the group of "
            f"{group[0].dep.target.name.split(' ')[0]} has none. Choose 'l2' or 'l1'."
        )
    return scaled


def _norms(weight: Tensor, power: int) -> Tensor:
    """Sums of powers of the magnitudes over all axes but the first, float64."""
    return weight.double().abs().pow(power).flatten(1).sum(1)


class _AttentionPruner(function.MultiheadAttentionPruner):  # type: ignore[misc]  # no annotations there
    """Attention whose outer features are given; the inner ones, of which every head loses as many, are its own choice.

    Queries and keys lose the features of least |q| |k|, values those of least |v| |o|. PyTorch divides scores by the
    square root of the width of a head: queries are multiplied so that fewer zeros give the same scores.
    """

    def prune_out_channels(self, layer: nn.MultiheadAttention, idxs: list[int]) -> nn.Module:
        removed = set(idxs)
        outer = [channel for channel in range(layer.embed_dim) if channel not in removed]
        width = len(outer) // layer.num_heads
        query, key, value = layer.in_proj_weight.chunk(3)
        query_bias, key_bias, value_bias = (
            [torch.zeros(layer.embed_dim)] * 3 if layer.in_proj_bias is None else layer.in_proj_bias.chunk(3)
        )
        output = layer.out_proj.weight
        asking = _kept(_size(query, query_bias) * _size(key, key_bias), layer.num_heads, width)
        telling = _kept(_size(value, value_bias) * _norms(output.T, 2), layer.num_heads, width)
        factor = math.sqrt(width / layer.head_dim)
        layer.in_proj_weight = nn.Parameter(
            torch.cat([query[asking] * factor, key[asking], value[telling]])[:, outer].contiguous()
        )
        if layer.in_proj_bias is not None:
            layer.in_proj_bias = nn.Parameter(
                torch.cat([query_bias[asking] * factor, key_bias[asking], value_bias[telling]])
            )
        layer.out_proj.weight = nn.Parameter(output[outer][:, telling].contiguous())
        if layer.out_proj.bias is not None:
            layer.out_proj.bias = nn.Parameter(layer.out_proj.bias[outer])
        structure.fit(layer)
        return layer

    prune_in_channels = prune_out_channels


class _LayerNormPruner(function.LayernormPruner):  # type: ignore[misc]  # no annotations there
    """Layer normalisation divides by the root mean square of its inputs, which fewer inputs raise.

    The channels that go are the small ones: the sum of squares hardly changes, its divisor does.
    """

    def prune_out_channels(self, layer: nn.LayerNorm, idxs: list[int]) -> nn.Module:
        before = layer.normalized_shape[-1]
        super().prune_out_channels(layer, idxs)
        if layer.weight is not None:
            layer.weight = nn.Parameter(layer.weight * math.sqrt(before / layer.normalized_shape[-1]))
        return layer

    prune_in_channels = prune_out_channels


def _size(weight: Tensor, bias: Tensor) -> Tensor:
    return _norms(torch.cat([weight, bias[:, None]], dim=1), 2)


def _kept(scores: Tensor, heads: int, width: int) -> list[int]:
    """The `width` features of largest score of every head, in their order."""
    order = torch.argsort(scores.reshape(heads, -1), dim=1, descending=True, stable=True)[:, :width]
    within = order.sort(dim=1).values
    return (within + torch.arange(heads)[:, None] * (len(scores) // heads)).flatten().tolist()
