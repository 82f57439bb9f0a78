"""The diagonal Fisher information of a model's parameters: what a small error of each costs in harm.

`KL(p || p') = 1/2 e^T F e` to second order for parameters off by e (Kullback 1959), with F the mean over samples x of
the sum over classes y of `p(y | x) g g^T`, g the gradient of `log p(y | x)`. Only the model's own predictions are
needed, no labels.

That is for a single output of classes, (n, classes), or of classes at each of some positions, (n, positions, classes),
over which it is a mean. For any other outputs harm is noise over signal, the mean over the outputs of
`mean((y - y')^2) / mean(y^2)`, which is `1/2 e^T F e` with F twice the mean of the squared gradients of each value over
the mean square of its output. Outputs that are no floats are left out.
"""

import copy
import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from paretoscope.base.batch import Batch, call, joined, length, parts, tensors_in
from paretoscope.base.lock import machine
from paretoscope.model import weights
from paretoscope.tasks.agreement import class_like

# Samples of a backward pass: chosen by hand, no benchmark.
CHUNK = 8
# Draws of random signs for each chunk of samples: python -m benchmarks.constants.
DRAWS = 4


def diagonal_fisher(module: nn.Module, samples: Batch, seed: int = 0) -> Mapping[str, np.ndarray]:
    """Diagonal Fisher information of every parameter, by state-dict name: float64 (rows,), means over its other axes.

    Rows are output channels, those of weights that are turned (`layouts`) too.
    module: is run in evaluation mode and not changed. samples: its inputs, one or more. Each draw adds up the weighted
    log probabilities of all samples and classes, or the values of all outputs, with random signs: the square of that
    sum's gradient has the diagonal as its mean (Hutchinson 1990), for one backward pass a chunk.
    """
    module = copy.deepcopy(module).eval()
    for parameter in module.parameters():
        parameter.requires_grad_(parameter.is_floating_point())
    names, parameters = zip(*((n, p) for n, p in module.named_parameters() if p.requires_grad), strict=True)
    turned = weights.turned(module)
    sums = [
        torch.zeros(len(_rows(p, turned.get(name))), dtype=torch.float64)
        for name, p in zip(names, parameters, strict=True)
    ]
    generator = torch.Generator().manual_seed(seed)
    powers: list[float] = []
    for chunk in zip(*(each.split(CHUNK) for each in parts(samples)), strict=True):
        with machine(exclusive=False):
            outputs = [each for each in tensors_in(call(module, joined(chunk))) if each.requires_grad]
            powers = powers or [float(each.detach().square().mean()) or 1.0 for each in outputs]
            weighted = _weighted(outputs, powers)
            for draw in range(DRAWS if weighted else 0):
                signs = [torch.randint(0, 2, each.shape, generator=generator) * 2 - 1 for each in weighted]
                total_of = torch.stack([(each * own).sum() for each, own in zip(weighted, signs, strict=True)]).sum()
                gradients = torch.autograd.grad(total_of, parameters, retain_graph=draw < DRAWS - 1, allow_unused=True)
                for name, total, gradient in zip(names, sums, gradients, strict=True):
                    if gradient is not None:
                        total += _rows(gradient, turned.get(name)).double().square().mean(dim=1)
    count = DRAWS * length(samples)
    return {name: (total / count).numpy() for name, total in zip(names, sums, strict=True)}


def _weighted(outputs: list[Tensor], powers: list[float]) -> list[Tensor]:
    """Values whose squared gradients, summed over each sample, are the information. powers: mean square of outputs."""
    if class_like(tuple(outputs)):
        log = outputs[0].log_softmax(dim=-1)
        positions = log[0].numel() // log.shape[-1]
        weighted = log * log.detach().exp().sqrt()
        return [weighted if positions == 1 else weighted / math.sqrt(positions)]
    return [
        each * math.sqrt(2 / (len(outputs) * each[0].numel() * power))
        for each, power in zip(outputs, powers, strict=True)
    ]


def _rows(values: Tensor, groups: int | None) -> Tensor:
    """(output channels, all else); groups: of a weight whose second axis has them."""
    if groups:
        values = values.unflatten(0, (groups, -1)).transpose(1, 2).flatten(0, 1)
    return values.reshape(len(values) if values.ndim else 1, -1)
