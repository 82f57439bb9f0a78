"""Fewer blocks: those whose output has the shape of their input are left out, by name or by the harm that it does."""

import copy
import math
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from paretoscope.base.batch import Batch, call, head, length, tensors_in
from paretoscope.base.errors import ModelError, RecipeError
from paretoscope.base.lock import machine
from paretoscope.base.text import listed, nearest
from paretoscope.methods.catalogue import MethodEntry, Picture, Section, explained
from paretoscope.methods.registry import NetworkMethod, NetworkWork
from paretoscope.model import structure
from paretoscope.model.structure import blocks
from paretoscope.recipe.recipe import Recipe, Simplify

# Enough to tell blocks apart, and every block is measured again after each removal: chosen by hand, no benchmark.
HARM_IMAGES = 256


def harms(model: nn.Module, images: Batch) -> dict[str, float]:
    """Harm of dropping each block alone, by name: the mean KL divergence, in nats, of the softmax from the model's.

    images: float32 (n, C, H, W), n >= 1. Infinite where the outputs are no numbers any more.
    """
    module = copy.deepcopy(model).eval()
    return _harms(module, images, _log_softmax(module, images))


def _harms(module: nn.Module, images: Batch, reference: Tensor) -> dict[str, float]:
    result = {}
    for name in blocks(module):
        with structure.dropped(module, name):
            changed = _log_softmax(module, images)
        divergence = F.kl_div(changed, reference, reduction="batchmean", log_target=True).item()
        result[name] = math.inf if math.isnan(divergence) else divergence
    return result


def _log_softmax(module: nn.Module, images: Batch) -> Tensor:
    with torch.no_grad(), machine(exclusive=False):
        # Answers that are several, or whose classes are no second axis, are told apart by one distribution a sample.
        flat = torch.cat([each.flatten(1) for each in tensors_in(call(module, images))], dim=1)
        return flat.double().log_softmax(1)


def _drop(module: nn.Module, step: Simplify, images: Batch | None) -> tuple[tuple[str, ...], list[str]]:
    """Drop blocks in place, first those that are named; returns their names, in that order, and sentences."""
    if not step.drop and not step.blocks:
        return (), []
    known = (*blocks(module), *structure.several(module))
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
    dropped, report = list(step.drop), [f"{name} dropped." for name in step.drop]
    reference = _log_softmax(module, head(images, HARM_IMAGES)) if step.blocks and images is not None else None
    for name in step.drop:
        if name not in (*blocks(module), *structure.several(module)):
            raise RecipeError(f"drop must name each block once; {name} is gone with those before. Leave it out.")
        structure.drop(module, name)
    if step.blocks > (most := len(blocks(module))):
        raise RecipeError(
            f"blocks must be at most {most}, as many as there are to drop; got {step.blocks}. Pass fewer."
        )
    if not step.blocks:
        return tuple(dropped), report
    if images is None or reference is None or not length(images):
        raise ModelError("blocks are dropped by their harm on images; got none. Pass calibration images.")
    calibration = head(images, HARM_IMAGES)
    for _ in range(step.blocks):
        measured = _harms(module, calibration, reference)
        name = min(measured, key=measured.__getitem__)
        structure.drop(module, name)
        dropped.append(name)
        report.append(f"{name} dropped: of those left the least harm, a KL divergence of {measured[name]:.3g}.")
    return tuple(dropped), report


def _apply(work: NetworkWork) -> NetworkWork:
    dropped, sentences = _drop(work.module, work.step, work.images)
    return replace(work, structure=replace(work.structure, dropped=dropped), report=(*work.report, *sentences))


METHODS = (
    NetworkMethod("blocks", lambda step: bool(step.drop or step.blocks), _apply, place=10),
    MethodEntry(
        name="fewer-layers",
        title="Simplify: fewer layers",
        summary=(
            "A deep network often does almost as well with some of its blocks left out, because the shortcut around a "
            "block carries most of the signal. Besides, some layers are there for training only: a batch normalisation "
            "can be multiplied into the convolution before it, and two linear maps in a row are one. Those two change "
            "nothing but the last digits."
        ),
        formula=(
            r"\begin{gathered} x + F(x) \;\to\; x \\ \gamma\,\frac{W x - \mu}{\sqrt{\sigma^2 + \varepsilon}} + \beta "
            r"\;\to\; \frac{\gamma\,W}{\sqrt{\sigma^2 + \varepsilon}}\,x + "
            r"\Bigl(\beta - \frac{\gamma\,\mu}{\sqrt{\sigma^2 + \varepsilon}}\Bigr) "
            r"\\ W_2\,(W_1 x) \;\to\; (W_2 W_1)\,x \end{gathered}"
        ),
        settings=explained(drop="", blocks="", fold="", merge=""),
        reference=(
            "Veit, Wilber and Belongie, *Residual networks behave like ensembles of relatively shallow networks*, "
            "NeurIPS 2016, [arXiv:1605.06431](https://arxiv.org/abs/1605.06431). Folding: Jacob et al., "
            "[arXiv:1712.05877](https://arxiv.org/abs/1712.05877), section 3.2"
        ),
        section=Section.SIMPLIFY,
        place=10,
        example=Recipe(simplify=Simplify(fold=True)),
        used_by=lambda recipe: (
            recipe.simplify is not None
            and Simplify(
                drop=recipe.simplify.drop,
                blocks=recipe.simplify.blocks,
                fold=recipe.simplify.fold,
                merge=recipe.simplify.merge,
            )
            != Simplify()
        ),
        picture=Picture.SIZE,
    ),
)
