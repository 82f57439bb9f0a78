"""The simplify step: the methods on networks, one after the other. The result is an ordinary `nn.Module`."""

import copy
from dataclasses import replace

import torch
from torch import nn

from paretoscope.base.batch import Batch
from paretoscope.methods.registry import NetworkWork, in_order, network_methods
from paretoscope.recipe.recipe import Simplify


@torch.inference_mode(False)
def apply(
    model: nn.Module,
    step: Simplify,
    input_shape: tuple[int, ...],
    images: Batch | None = None,
    *,
    reestimate: bool = False,
) -> NetworkWork:
    """Simplify a copy of a float32 model on the CPU, in the order that `Simplify` gives.

    input_shape: of one sample of the first input, e.g. (C, H, W). images: samples of the train split, needed to drop
    blocks by harm; the first 256 are used. reestimate: take the statistics of batch normalisation anew, from the
    images, before it is folded and gone. Raises RecipeError for blocks that the model has not, or too many, and an
    importance that it has not; ModelError for a model that cannot be read in the way that the step needs.
    """
    work = NetworkWork(copy.deepcopy(model).eval(), step, input_shape, images, reestimate)
    before = work.parameters
    for method in in_order(network_methods):
        if method.takes(step):
            work = method.apply(work)
    work.module.eval()
    return replace(work, report=(*work.report, f"{work.parameters:,} of {before:,} parameters are left."))
