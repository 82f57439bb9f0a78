"""The diagonal Fisher information of a model's parameters: what a small error of each costs in KL divergence.

`KL(p || p') = 1/2 e^T F e` to second order for parameters off by e (Kullback 1959), with F the mean over samples x of
the sum over classes y of `p(y | x) g g^T`, g the gradient of `log p(y | x)`. Only the model's own predictions are
needed, no labels.
"""

import copy
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from paretoscope.base.lock import machine
from paretoscope.model import layouts

# Images of a backward pass: chosen by hand, no benchmark.
CHUNK = 8
# Draws of random signs for each chunk of images: python -m benchmarks.constants.
DRAWS = 4


def diagonal_fisher(module: nn.Module, images: Tensor, seed: int = 0) -> Mapping[str, np.ndarray]:
    """Diagonal Fisher information of every parameter, by state-dict name: float64 (rows,), means over its other axes.

    Rows are output channels, those of transposed convolutions too.
    module: a classifier that gives logits; is run in evaluation mode and not changed. images: float32 (n, ...), its
    inputs, n > 0. Each draw adds up the weighted log probabilities of all images and classes with random signs: the
    square of that sum's gradient has the diagonal as its mean (Hutchinson 1990), for one backward pass a chunk.
    """
    module = copy.deepcopy(module).eval().requires_grad_(True)
    names, parameters = zip(*module.named_parameters(), strict=True)
    turned = layouts.transposed(module)
    sums = [
        torch.zeros(len(_rows(p, turned.get(name))), dtype=torch.float64)
        for name, p in zip(names, parameters, strict=True)
    ]
    generator = torch.Generator().manual_seed(seed)
    for chunk in images.split(CHUNK):
        with machine(exclusive=False):
            log = module(chunk).log_softmax(dim=1)
            weighted = log * log.detach().exp().sqrt()
            for draw in range(DRAWS):
                signs = torch.randint(0, 2, log.shape, generator=generator) * 2 - 1
                gradients = torch.autograd.grad(
                    (weighted * signs).sum(), parameters, retain_graph=draw < DRAWS - 1, allow_unused=True
                )
                for name, total, gradient in zip(names, sums, gradients, strict=True):
                    if gradient is not None:
                        total += _rows(gradient, turned.get(name)).double().square().mean(dim=1)
    return {name: (total / (DRAWS * len(images))).numpy() for name, total in zip(names, sums, strict=True)}


def _rows(values: Tensor, groups: int | None) -> Tensor:
    """(output channels, all else); groups: of a transposed convolution, whose second axis has them."""
    if groups:
        values = values.unflatten(0, (groups, -1)).transpose(1, 2).flatten(0, 1)
    return values.reshape(len(values) if values.ndim else 1, -1)
