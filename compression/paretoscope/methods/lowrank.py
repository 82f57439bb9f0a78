"""Low rank: a linear map becomes two thinner ones, by its singular value decomposition (Denton et al. 2014)."""

from dataclasses import replace

import torch
from torch import Tensor, nn

from paretoscope.base.lock import machine
from paretoscope.methods import fold
from paretoscope.methods.catalogue import MethodEntry, Picture, Section, explained
from paretoscope.methods.registry import NetworkMethod, NetworkWork
from paretoscope.model import structure
from paretoscope.recipe.recipe import Recipe, Simplify


def factor(module: nn.Module, energy: float) -> tuple[tuple[tuple[str, int], ...], list[str]]:
    """Factor the linear layers and 1x1 convolutions of `module`, in place, wherever that saves parameters.

    energy: fraction of the squared singular values to keep, in (0, 1). Returns (name, rank) of the layers that were
    factored, and a sentence for those that were and one for those that were not.
    """
    factored, done, whole = [], [], []
    for name in [name for name, part in module.named_modules() if structure.factorable(part)]:
        layer = fold.linear_map(module.get_submodule(name))
        weight = layer.weight.detach().double().flatten(1)
        outputs, inputs = weight.shape
        left, values, right = torch.linalg.svd(weight, full_matrices=False)
        rank = rank_at(values, energy)
        if rank * (inputs + outputs) >= inputs * outputs:
            whole.append(f"{name} ({rank})")
            continue
        # Half of each singular value to either side, so that both have weights of one scale.
        root = values[:rank].sqrt()
        first, second = (fold.linear_map(part) for part in structure.factor(module, name, rank))
        with torch.no_grad():
            first.weight.copy_((root[:, None] * right[:rank]).reshape(first.weight.shape))
            second.weight.copy_((left[:, :rank] * root).reshape(second.weight.shape))
            if layer.bias is not None and second.bias is not None:
                second.bias.copy_(layer.bias)
        factored.append((name, rank))
        done.append(f"{name} ({rank} of {min(inputs, outputs)})")
    report = [f"Factored to the rank that keeps {100 * energy:.6g} % of the energy: {', '.join(done)}."] * bool(done)
    report += [f"Kept whole, because two layers of that rank are no smaller: {', '.join(whole)}."] * bool(whole)
    return tuple(factored), report


def rank_at(values: Tensor, energy: float) -> int:
    """The least rank, at least 1, at which singular values (descending) keep that fraction of their squares' sum."""
    squares = values.double().square()
    # Summed from the smallest up: what is lost must not drown in the rounding of what is kept.
    lost = squares.flip(0).cumsum(0)
    droppable = int((lost <= (1 - energy) * lost[-1]).sum())
    return max(1, len(values) - droppable)


def _apply(work: NetworkWork) -> NetworkWork:
    with machine(exclusive=False):
        factored, sentences = factor(work.module, work.step.energy)
    return replace(work, structure=replace(work.structure, factored=factored), report=(*work.report, *sentences))


METHODS = (
    NetworkMethod("low-rank", lambda step: step.energy < 1, _apply, place=50),
    MethodEntry(
        name="low-rank",
        title="Low-rank layers",
        summary=(
            "A large matrix that mostly repeats a few patterns is nearly the product of two thin ones. A layer is "
            "replaced by such a pair where that takes fewer weights; how thin they may be is decided by how much of "
            "the matrix they must keep."
        ),
        formula=(
            r"\begin{gathered} W = U \Sigma V^{\top} \approx \bigl(U_r \Sigma_r^{1/2}\bigr)\bigl(\Sigma_r^{1/2} "
            r"V_r^{\top}\bigr) \\ r = \min \Bigl\{ r : \textstyle\sum_{i \le r} \sigma_i^2 \ge e \sum_i \sigma_i^2 "
            r"\Bigr\}, \quad r\,(m + n) < m\,n \end{gathered}"
        ),
        settings=explained(energy="e"),
        reference=(
            "Denton et al., *Exploiting linear structure within convolutional networks for efficient evaluation*, "
            "NeurIPS 2014, [arXiv:1404.0736](https://arxiv.org/abs/1404.0736)"
        ),
        section=Section.SIMPLIFY,
        place=20,
        example=Recipe(simplify=Simplify(energy=0.9)),
        used_by=lambda recipe: recipe.simplify is not None and recipe.simplify.energy < 1,
        picture=Picture.SIZE,
    ),
)
