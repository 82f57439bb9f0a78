"""Architecture simplification: fewer blocks, fewer channels, fewer layers. The result is an ordinary `nn.Module`."""

import copy
import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from paretoscope.base.errors import ModelError, RecipeError
from paretoscope.base.lock import machine
from paretoscope.base.text import listed, nearest
from paretoscope.methods import fold, lowrank, recalibrate
from paretoscope.model import structure
from paretoscope.model.structure import Structure, blocks
from paretoscope.recipe.recipe import Simplify

# More tell blocks apart no better, and every block is measured again after each removal.
HARM_IMAGES = 256

__all__ = ["Simplified", "apply", "blocks", "harms"]


@dataclass(frozen=True, eq=False, slots=True)
class Simplified:
    """module: in evaluation mode, the caller's own. structure: how it differs from the architecture, widths apart.

    report: what was done and what was refused, a sentence each.
    """

    module: nn.Module
    structure: Structure
    report: tuple[str, ...]


@torch.inference_mode(False)
def apply(
    model: nn.Module,
    step: Simplify,
    input_shape: tuple[int, int, int],
    images: Tensor | None = None,
    *,
    reestimate: bool = False,
) -> Simplified:
    """Simplify a copy of a float32 model on the CPU, in the order that `Simplify` gives.

    images: float32 (n, *input_shape) of the train split, needed to drop blocks by harm; the first 256 are used.
    reestimate: take the statistics of batch normalisation anew, from the images, before it is folded and gone.
    Raises RecipeError for blocks that the model has not, or too many, and an importance that it has not; ModelError for
    a model that cannot be read in the way that the step needs.
    """
    module = copy.deepcopy(model).eval()
    before = _parameters(module)
    dropped, report = _drop(module, step, images)
    if step.nodes:
        from paretoscope.methods import channels  # torch-pruning takes time to import, and few recipes need it

        whole = _parameters(module)
        channels.remove(module, step.nodes, step.importance, input_shape)
        report.append(
            f"{100 * step.nodes:.4g} % of the nodes removed: {whole:,} parameters become {_parameters(module):,}."
        )
    if step.fold and reestimate and images is not None:
        entries = recalibrate.reestimate_batchnorm(module, images)
        module.load_state_dict({name: torch.from_numpy(value) for name, value in entries.items()}, strict=False)
        report += ["Batch normalisation re-estimated before it was folded."] * bool(entries)
    with machine(exclusive=False):
        folded, merged, factored = _rewrite(module, step, report)
    report.append(f"{_parameters(module):,} of {before:,} parameters are left.")
    return Simplified(module.eval(), Structure(dropped, folded, merged, factored), tuple(report))


_Pairs = tuple[tuple[str, str], ...]


def _rewrite(
    module: nn.Module, step: Simplify, report: list[str]
) -> tuple[_Pairs, _Pairs, tuple[tuple[str, int], ...]]:
    """Fold, merge and factor in place; returns what was folded, merged and factored, and adds sentences."""
    folded: _Pairs = ()
    merged: _Pairs = ()
    factored: tuple[tuple[str, int], ...] = ()
    if step.fold:
        folded = fold.fold(module)
        report.append(f"{len(folded)} batch normalisations folded." if folded else "No batch normalisation to fold.")
    if step.merge:
        merged, sentences = fold.merge(module)
        report += sentences or ["No consecutive linear maps to merge."]
    if step.energy < 1:
        factored, sentences = lowrank.factor(module, step.energy)
        report += sentences
    return folded, merged, factored


def harms(model: nn.Module, images: Tensor) -> dict[str, float]:
    """Harm of dropping each block alone, by name: the mean KL divergence, in nats, of the softmax from the model's.

    images: float32 (n, C, H, W), n >= 1. Infinite where the outputs are no numbers any more.
    """
    module = copy.deepcopy(model).eval()
    return _harms(module, images, _log_softmax(module, images))


def _harms(module: nn.Module, images: Tensor, reference: Tensor) -> dict[str, float]:
    result = {}
    for name in blocks(module):
        block = module.get_submodule(name)
        structure.drop(module, name)
        divergence = F.kl_div(_log_softmax(module, images), reference, reduction="batchmean", log_target=True).item()
        result[name] = math.inf if math.isnan(divergence) else divergence
        module.set_submodule(name, block)
    return result


def _log_softmax(module: nn.Module, images: Tensor) -> Tensor:
    with torch.no_grad(), machine(exclusive=False):
        return module(images).double().log_softmax(1)


def _drop(module: nn.Module, step: Simplify, images: Tensor | None) -> tuple[tuple[str, ...], list[str]]:
    """Drop blocks in place, first those that are named; returns their names, in that order, and sentences."""
    if not step.drop and not step.blocks:
        return (), []
    known = blocks(module)
    if not known:
        raise RecipeError(
            "only a network of residual blocks has blocks to drop; this one has none. Set drop and blocks to nothing."
        )
    unknown = [name for name in step.drop if name not in known]
    if unknown:
        raise RecipeError(
            f"drop must name blocks whose output has the shape of their input; got {listed(unknown)}."
            f"{nearest(unknown[0], known)} Name some of {listed(known, 12)}."
        )
    if step.blocks > len(known) - len(step.drop):
        raise RecipeError(
            f"blocks must be at most {len(known) - len(step.drop)}, as many as there are to drop; got {step.blocks}. "
            "Pass fewer."
        )
    if step.blocks and (images is None or not len(images)):
        raise ModelError("blocks are dropped by their harm on images; got none. Pass calibration images.")
    calibration = None if images is None else images[:HARM_IMAGES]
    reference = _log_softmax(module, calibration) if step.blocks else None
    for name in step.drop:
        structure.drop(module, name)
    report = [f"{name} dropped." for name in step.drop]
    dropped = list(step.drop)
    for _ in range(step.blocks):
        measured = _harms(module, calibration, reference)
        name = min(measured, key=measured.__getitem__)
        structure.drop(module, name)
        dropped.append(name)
        report.append(f"{name} dropped: of those left the least harm, a KL divergence of {measured[name]:.3g}.")
    return tuple(dropped), report


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
