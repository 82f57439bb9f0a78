"""Fewer blocks: those whose output has the shape of their input are left out, by name or by the harm that it does."""

import copy
import math
from dataclasses import replace

import torch
from torch import nn

from paretoscope.base.batch import Batch, call, head, length, parts
from paretoscope.base.errors import ModelError, RecipeError
from paretoscope.base.lock import machine
from paretoscope.base.text import listed, nearest
from paretoscope.methods.catalogue import MethodEntry, Picture, Section, explained
from paretoscope.methods.registry import NetworkMethod, NetworkWork
from paretoscope.model import structure
from paretoscope.model.structure import blocks
from paretoscope.recipe.recipe import Recipe, Simplify
from paretoscope.tasks.agreement import Agreement, class_like

# Enough to tell blocks apart, and every block is measured again after each removal: chosen by hand, no benchmark.
HARM_IMAGES = 256
# Harm by outputs alone: recipes do not know the network's task.
ANY_OUTPUTS = Agreement(())


def harms(model: nn.Module, images: Batch) -> dict[str, float]:
    """Harm of dropping each block alone, by name: mean divergence from the model's outputs, as agreement has it.

    images: samples, n >= 1. Infinite where the outputs are no numbers any more.
    """
    module = copy.deepcopy(model).eval()
    return _harms(module, images, _outputs(module, images))


def _harms(module: nn.Module, images: Batch, reference: Batch) -> dict[str, float]:
    result = {}
    for name in blocks(module):
        with structure.dropped(module, name):
            result[name] = _harm(reference, _outputs(module, images))
    return result


def _harm(reference: Batch, changed: Batch) -> float:
    if not all(bool(each.isfinite().all()) for each in (*parts(reference), *parts(changed))):
        return math.inf
    return float(ANY_OUTPUTS.knowing(reference).divergence(reference, changed).mean())


def _outputs(module: nn.Module, images: Batch) -> Batch:
    with torch.no_grad(), machine(exclusive=False):
        return ANY_OUTPUTS.comparable(call(module, images))


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
    reference = _outputs(module, head(images, HARM_IMAGES)) if step.blocks and images is not None else None
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
        kind = "a KL divergence" if class_like(parts(reference)) else "noise over signal"
        report.append(f"{name} dropped: of those left the least harm, {kind} of {measured[name]:.3g}.")
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
