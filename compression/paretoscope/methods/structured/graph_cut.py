"""Channels, neurons and heads of an imported network removed together with all that depends on them.

`graph.widths` tells what goes together and gives the graph without it; here units are scored and tensors are cut. A
unit counts as the norm of the weights that make it, as batch normalisation scales them, times the norm of the weights
that use it (Li et al., 2017).
"""

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from paretoscope.base.errors import ModelError, RecipeError
from paretoscope.base.lock import machine
from paretoscope.base.text import listed
from paretoscope.graph import layers as layer_kinds
from paretoscope.graph.edits import pruned
from paretoscope.graph.graph_module import GraphModule
from paretoscope.graph.narrowed import narrowed
from paretoscope.graph.shapes import shapes_of
from paretoscope.graph.widths import Group, Widths
from paretoscope.methods import fold
from paretoscope.methods.structured.width import width
from paretoscope.recipe.steps.simplify import Importance


@machine(exclusive=False)
def remove(module: GraphModule, fraction: float, importance: str) -> list[str]:
    """Remove that fraction of the units of every group, in place; inputs and outputs stay. Returns sentences.

    Raises RecipeError where the importance "bn" meets a group without batch normalisation, ModelError where nothing
    can be removed.
    """
    widths = Widths.of(module.graph)
    state = module.state_dict()
    scales = _scales(module)
    gone = []
    for group in widths.groups():
        scores = scores_of(widths, group, state, importance, scales)
        if scores is None:
            continue
        each = min(np.isin(widths.roots[widths.axes[key]], group.units).sum() for key in group.axes) // len(scores)
        count = len(scores) - width(len(scores), fraction, each=max(1, int(each)))
        gone.append(group.units[np.argsort(scores, kind="stable")[:count]])
    removed = np.concatenate([np.zeros(0, np.int64), *gone])
    if not len(gone):
        raise ModelError("channels to remove must be between two layers; this network has none. Set nodes to 0.")
    cut(module, widths, removed)
    whole = [path for path, (kind, _) in module.graph.layers.items() if kind in ("LSTM", "GRU", "RNN")]
    return [f"Recurrent layers keep their width: {listed(whole)}."] * bool(whole)


def cut(module: GraphModule, widths: Widths, gone: np.ndarray) -> None:
    """Take these units out of a module of that graph, in place; raises ModelError where what is left does not fit."""
    graph = narrowed(widths, gone)
    shapes = shapes_of(graph)
    if any(0 in shape for shape in _all(shapes)):
        raise ModelError("some of every value must stay; this cut would leave none. Remove fewer nodes.")
    state = module.state_dict(keep_vars=True)
    new: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if name in graph.ties:
            continue
        changed = tensor.detach()
        for axis in range(tensor.ndim):
            if (name, axis) in widths.axes:
                stays = torch.from_numpy(widths.stays(name, axis, gone))
                changed = changed.index_select(axis, stays) if len(stays) < changed.shape[axis] else changed
        path, _, leaf = name.rpartition(".")
        kind, settings = module.graph.layers.get(path, ("", {}))
        if kind == "LayerNorm" and leaf == "weight" and len(changed) < len(tensor):
            # What goes is small: the sum of squares hardly changes, its divisor does.
            changed = changed * math.sqrt(len(tensor) / len(changed))
        new[name] = changed.contiguous()
    for path, (kind, settings) in graph.layers.items():
        if settings != module.graph.layers[path][1]:
            with torch.device("meta"):
                layer = layer_kinds.make(kind, settings, path).eval()
            old = module.get_submodule(path)
            for child, part in old._modules.items():
                layer.add_module(child, part)
            module.set_submodule(path, layer)
    for name, tensor in new.items():
        path, _, leaf = name.rpartition(".")
        owner = module.get_submodule(path)
        if leaf in owner._parameters:
            owner._parameters[leaf] = nn.Parameter(tensor, requires_grad=tensor.is_floating_point())
        else:
            owner._buffers[leaf] = tensor
    for name, other in graph.ties.items():
        path, _, leaf = name.rpartition(".")
        module.get_submodule(path)._parameters[leaf] = module.get_parameter(other)
    module.become(pruned(graph))


def _all(shapes: Mapping[str, object]) -> list[tuple[int, ...]]:
    found: list[tuple[int, ...]] = []
    todo = list(shapes.values())
    while todo:
        each = todo.pop()
        if isinstance(each, tuple):
            found.append(each)
        elif isinstance(each, list):
            todo += each
    return found


def _scales(module: GraphModule) -> dict[str, np.ndarray]:
    """What batch normalisation multiplies the outputs of a layer with, by the name of its weight."""
    return {
        f"{layer}.weight": fold.affine(module.get_submodule(norm))[0].abs().numpy()
        for layer, norm in fold.convolutions_with_norms(module)
    }


def scores_of(
    widths: Widths, group: Group, state: Mapping[str, Tensor], importance: str, scales: Mapping[str, np.ndarray]
) -> np.ndarray | None:
    """Importance of each unit, float64 (units,); None for a group that nothing makes or nothing uses.

    Raises RecipeError like `remove`.
    """
    power = 1 if importance == Importance.L1 else 2
    made, used, scaled = np.zeros((3, len(group.units)))
    makes = uses = normalised = False
    for name, axis in group.axes:
        tensor = state[name]
        roots = widths.roots[widths.axes[name, axis]]
        inside = np.isin(roots, group.units)
        places = np.searchsorted(group.units, roots[inside])
        if (layer := widths.graph.layers.get(name.rpartition(".")[0])) and layer[0].startswith("BatchNorm"):
            if name.endswith(".weight"):
                normalised = True
                np.add.at(scaled, places, tensor.double().abs().numpy()[inside])
            continue
        role = widths.roles.get((name, axis))
        if role is None and (layer is not None or tensor.ndim < 2):
            continue
        norms = _norms(tensor, axis, power)
        if role if role is not None else axis == tensor.ndim - 1:
            makes = True
            scale = scales.get(name)
            np.add.at(made, places, (norms if scale is None else norms * scale**power)[inside])
        else:
            uses = True
            np.add.at(used, places, norms[inside])
    if importance == Importance.BN:
        if normalised:
            return scaled
        raise RecipeError(
            "importance 'bn' needs a batch normalisation with scales in every group of channels; the group of "
            f"{group.axes[0][0].rpartition('.')[0] or group.axes[0][0]} has none. Choose 'l2' or 'l1'."
        )
    return made * used if makes and uses else None


def _norms(tensor: Tensor, axis: int, power: int) -> np.ndarray:
    """Sums of the powers along all other axes, float64; one copy of the tensor at a time, large ones take gigabytes."""
    values = tensor.to(torch.float64, copy=True)
    values = values.square_() if power == 2 else values.abs_()
    return values.transpose(0, axis).flatten(1).sum(1).numpy()
