"""Recalibration without training: the statistics of batch normalisation re-estimated (Hubara et al. 2020, Improving
post training neural quantization: layer-wise calibration and integer programming) and biases corrected (Nagel et al.
2019, Data-free quantization through weight equalization and bias correction; here from samples).

Both take one forward pass over all the images as one batch, in which each layer is corrected as it runs: what follows
sees the corrected outputs, and the statistics are those of all images, exactly. Memory is that of such a pass.

Asked for together they are one pass, not one after the other. Means alone leave the spread of the outputs to rounding
errors, which shrink it a little in each layer: after 50 layers at 4 bits next to nothing is left of it. Statistics that
were re-estimated before the means moved no longer fit what flows after that. So each normalisation gets the statistics
with which its outputs have the mean and the spread that they had in the reference.
"""

import copy
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from paretoscope.base.batch import Batch, call, length
from paretoscope.base.errors import ModelError
from paretoscope.base.lock import machine
from paretoscope.base.text import listed
from paretoscope.methods.calls import Extent, Function, LayerCalls, Normalisation
from paretoscope.methods.catalogue import MethodEntry, Picture, Section, explained
from paretoscope.methods.registry import OutputMethod, OutputWork
from paretoscope.model import weights
from paretoscope.model.kinds import LayerKind
from paretoscope.recipe.recipe import Quantize, Recipe, Repair

# Samples whose squares are summed in float64 at a time: chosen by hand, no benchmark.
CHUNK = 8


@machine(exclusive=False)
def correct_bias(reference: nn.Module, compressed: nn.Module, samples: Batch) -> dict[str, np.ndarray]:
    """Shift the outputs of every convolution, linear layer and attention projection back to the means that they had.

    reference, compressed: modules of one architecture, run in evaluation mode and not changed. samples:
    their inputs. A layer is corrected by its bias; where batch normalisation follows it directly, the
    normalised output is what is shifted back, by the running mean, so that it makes no difference whether the
    statistics were re-estimated before. A layer with neither is left alone, and so is a channel that the normalisation
    multiplies by zero. Layers are corrected in the order in which they run, each with those before it corrected.
    Returns the new state-dict entries: float32, biases and running means. Raises ModelError when the modules differ.
    """
    _check(samples)
    reference, compressed = copy.deepcopy(reference).eval(), copy.deepcopy(compressed).eval()
    means = _Means()
    with torch.no_grad(), means:
        call(reference, samples)
    correction = _Correction(means.layers)
    with torch.no_grad(), correction:
        call(compressed, samples)
    return _entries(compressed, correction.corrected)


@machine(exclusive=False)
def restore_outputs(reference: nn.Module, compressed: nn.Module, samples: Batch) -> dict[str, np.ndarray]:
    """Biases as of `correct_bias`, and statistics of batch normalisation by which its outputs have their old moments.

    reference, compressed, samples: as there. Every normalisation that keeps statistics is given new ones, whatever it
    follows: its variance is that of its inputs times (gamma / spread in the reference)^2. Where a channel is constant
    in either module the variance stays, and where gamma is zero the mean too. Returns the new state-dict entries:
    float32, biases, running means and running variances. Raises ModelError when the modules differ.
    """
    _check(samples)
    reference, compressed = copy.deepcopy(reference).eval(), copy.deepcopy(compressed).eval()
    moments = _Moments()
    with torch.no_grad(), moments:
        call(reference, samples)
    restoration = _Restoration(moments.layers, moments.norms)
    with torch.no_grad(), restoration:
        call(compressed, samples)
    return _entries(compressed, restoration.corrected)


@machine(exclusive=False)
def reestimate_batchnorm(module: nn.Module, samples: Batch) -> dict[str, np.ndarray]:
    """New running means and variances of every batch normalisation: those of its inputs over the samples.

    module: is run in evaluation mode, but each normalisation with its new statistics; not changed. samples: its
    inputs. The variance is the unbiased one, as in training: it stands for that of images to come. Returns the
    state-dict entries running_mean and running_var, float32; none for a module without batch normalisation.
    Raises ModelError for a normalisation that sees one value per channel only.
    """
    _check(samples)
    module = copy.deepcopy(module).eval()
    statistics = _Statistics()
    with torch.no_grad(), statistics:
        call(module, samples)
    return _entries(module, statistics.estimated)


@dataclass(frozen=True, eq=False, slots=True)
class _Output:
    """The mean output of a layer, float64 (channels,), or that of the normalisation that directly follows it."""

    mean: Tensor
    normalised: bool


class _Outputs(LayerCalls):
    """Takes the mean output of each layer as it runs."""

    def __init__(self) -> None:
        super().__init__()
        self.last: Tensor | None = None

    def see(self, mean: Tensor, bias: Tensor | None) -> Tensor | None:
        """Take note of a layer's mean output and bias, (channels,) each; returns the bias to use."""
        raise NotImplementedError

    def linear(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return self._layer(F.linear(x, weight, bias), bias, -1)

    def convolve(
        self, function: Function, x: Tensor, weight: Tensor, bias: Tensor | None = None, *geometry: Extent
    ) -> Tensor:
        return self._layer(function(x, weight, bias, *geometry), bias, 1)

    transpose = convolve

    def project(self, inputs: tuple[Tensor, ...], weights: tuple[Tensor, ...], bias: Tensor | None) -> Tensor | None:
        parts = weights if len(weights) == 3 else weights[0].chunk(3)
        # The mean output of a linear map is its output for the mean input.
        mean = torch.cat([part.double() @ _mean(x, -1) for x, part in zip(inputs, parts, strict=True)])
        return self.see(mean if bias is None else mean + bias, bias)

    def _layer(self, y: Tensor, bias: Tensor | None, axis: int) -> Tensor:
        new = self.see(_mean(y, axis), bias)
        if new is not None and bias is not None and new is not bias:
            y = y + _along(new - bias, y, axis)
        self.last = y
        return y


class _Means(_Outputs):
    """Takes the mean outputs of the reference, in the order of execution."""

    def __init__(self) -> None:
        super().__init__()
        self.layers: list[_Output] = []

    def see(self, mean: Tensor, bias: Tensor | None) -> Tensor | None:
        self.layers.append(_Output(mean, normalised=False))
        return bias

    def normalise(self, norm: Normalisation) -> Tensor:
        y = norm.run()
        if norm.x is self.last and norm.mean is not None:
            self.layers[-1] = _Output(_mean(y, 1), normalised=True)
        return y


class _Moments(_Means):
    """Takes the means and variances of the normalised outputs of the reference, too."""

    def __init__(self) -> None:
        super().__init__()
        self.norms: list[tuple[Tensor, Tensor]] = []

    def normalise(self, norm: Normalisation) -> Tensor:
        y = super().normalise(norm)
        if norm.mean is not None and norm.var is not None:
            mean = _mean(y, 1)
            self.norms.append((mean, _variance(y, mean)))
        return y


class _Correction(_Outputs):
    """Corrects the biases and running means of the compressed module, so that the mean outputs stay."""

    def __init__(self, layers: list[_Output]) -> None:
        super().__init__()
        self._layers = iter(layers)
        self._wanted: Tensor | None = None
        self._corrected: dict[int, tuple[Tensor, Tensor]] = {}

    @property
    def corrected(self) -> list[tuple[Tensor, Tensor]]:
        """Pairs of a tensor and its corrected value."""
        if next(self._layers, None) is not None:
            raise _unlike()
        return list(self._corrected.values())

    def see(self, mean: Tensor, bias: Tensor | None) -> Tensor | None:
        layer = next(self._layers, None)
        if layer is None or layer.mean.shape != mean.shape:
            raise _unlike()
        self._wanted = layer.mean if layer.normalised else None
        if layer.normalised or bias is None:
            return bias
        return self._change(bias, layer.mean - mean)

    def normalise(self, norm: Normalisation) -> Tensor:
        y, mean, var = norm.run(), norm.mean, norm.var
        if norm.x is not self.last or self._wanted is None or mean is None or var is None:
            return y
        gain = (var.double() + norm.eps).rsqrt() * (1 if norm.weight is None else norm.weight)
        shift = torch.where(gain == 0, 0, (_mean(y, 1) - self._wanted) / gain)
        return norm._replace(mean=self._change(mean, shift)).run()

    def _change(self, old: Tensor, shift: Tensor) -> Tensor:
        return self._set(old, old + shift)

    def _set(self, old: Tensor, new: Tensor) -> Tensor:
        # A layer that runs again keeps its first correction: its mean then stands for all.
        return self._corrected.setdefault(id(old), (old, new.to(old.dtype)))[1]


class _Restoration(_Correction):
    """Corrects biases, and sets the statistics of each normalisation by the moments of its outputs in the reference."""

    def __init__(self, layers: list[_Output], norms: list[tuple[Tensor, Tensor]]) -> None:
        super().__init__(layers)
        self._norms = iter(norms)

    @property
    def corrected(self) -> list[tuple[Tensor, Tensor]]:
        """Pairs of a tensor and its corrected value."""
        if next(self._norms, None) is not None:
            raise _unlike()
        return super().corrected

    def normalise(self, norm: Normalisation) -> Tensor:
        mean, var = norm.mean, norm.var
        if mean is None or var is None:
            return norm.run()
        found = next(self._norms, None)
        if found is None or found[0].shape != mean.shape:
            raise _unlike()
        wanted, spread = found
        seen = _mean(norm.x, 1)
        own = _variance(norm.x, seen)
        weight = torch.ones_like(wanted) if norm.weight is None else norm.weight.double()
        fitted = (own * weight.square() / spread - norm.eps).clamp(min=0)
        usable = (own > 0) & (spread > 0) & (weight != 0) & fitted.isfinite()
        var = self._set(var, torch.where(usable, fitted, var.double()))
        gain = (var.double() + norm.eps).rsqrt() * weight
        beta = 0 if norm.bias is None else norm.bias.double()
        mean = self._set(mean, torch.where(gain == 0, mean.double(), seen - (wanted - beta) / gain))
        return norm._replace(mean=mean, var=var).run()


class _Statistics(LayerCalls):
    """Lets each batch normalisation use the statistics of what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self._found: dict[int, tuple[Tensor, list[Tensor]]] = {}

    @property
    def estimated(self) -> list[tuple[Tensor, Tensor]]:
        """Pairs of a statistic and its estimate: the mean over the calls of a norm that runs several times."""
        return [(old, torch.stack(found).mean(0)) for old, found in self._found.values()]

    def normalise(self, norm: Normalisation) -> Tensor:
        x, mean, var = norm.x, norm.mean, norm.var
        if mean is None or var is None:  # keeps no statistics, and takes those of its batch anyway
            return norm.run()
        if x.numel() == x.shape[1]:
            raise ModelError("batch statistics need two values of each channel; got one. Pass more samples.")
        axes = [axis for axis in range(x.ndim) if axis != 1]
        new_var, new_mean = torch.var_mean(x.double(), axes)
        new_mean, new_var = new_mean.to(mean.dtype), new_var.to(var.dtype)
        for old, new in ((mean, new_mean), (var, new_var)):
            self._found.setdefault(id(old), (old, []))[1].append(new)
        return norm._replace(mean=new_mean, var=new_var, training=False).run()


def _check(samples: Batch) -> None:
    if length(samples) == 0:
        raise ModelError("calibration needs at least one sample; got 0. Pass samples of the train split.")


def _unlike() -> ModelError:
    return ModelError(
        "bias correction needs a reference of the same architecture; its layers differ from the compressed module's. "
        "Pass the module as it was before its weights were compressed."
    )


def _entries(module: nn.Module, changed: list[tuple[Tensor, Tensor]]) -> dict[str, np.ndarray]:
    """The changed tensors by every name that the module's state dict has for them."""
    new = {id(old): value for old, value in changed}
    state = module.state_dict(keep_vars=True)
    return {name: new[id(tensor)].numpy() for name, tensor in state.items() if id(tensor) in new}


def _mean(y: Tensor, axis: int) -> Tensor:
    """Mean of each channel along `axis`, over all other axes: float64 (channels,)."""
    return y.mean([i for i in range(y.ndim) if i != axis % y.ndim], dtype=torch.float64)


def _variance(y: Tensor, mean: Tensor) -> Tensor:
    """Variance of each channel of axis 1 around its mean: float64 (channels,)."""
    axes = [axis for axis in range(y.ndim) if axis != 1]
    total = torch.zeros_like(mean)
    for part in y.split(CHUNK):  # in float64 all samples together would take twice the memory of the pass
        total += (part.double() - _along(mean, part, 1)).square().sum(axes)
    return total / (y.numel() // y.shape[1])


def _along(shift: Tensor, y: Tensor, axis: int) -> Tensor:
    shape = [1] * y.ndim
    shape[axis] = -1
    return shift.reshape(shape)


def _without_normalisation(work: OutputWork, changed: Iterable[str]) -> tuple[str, ...]:
    nothing = not any(changed) and not work.structure.folded
    return ("There is no batch normalisation to re-estimate.",) * nothing


# Their outputs pass through more than a sum before they are seen, or their sum has no bias of its own.
_WITHOUT_BIAS = (LayerKind.RECURRENT, LayerKind.PRODUCT, LayerKind.EMBEDDING)


def _not_shifted(work: OutputWork, changed: Iterable[str]) -> tuple[str, ...]:
    names = [name for name, weight in weights.find(work.compressed).items() if weight.kind in _WITHOUT_BIAS]
    told = "No bias makes good a shift of the outputs of recurrent layers, embeddings and bare products:"
    return (f"{told} {listed(names)}.",) * bool(names)


_NORMALISED = "running_mean", "running_var"


def _means_alone(work: OutputWork, changed: Iterable[str]) -> tuple[str, ...]:
    normalised = any(name.endswith(_NORMALISED) for name in changed)
    told = (
        "Corrected biases move means alone: at few bits the outputs of a deep network lose their spread. Re-estimate "
        "batch norm too, and both are restored."
    )
    return (*_not_shifted(work, changed), *(told,) * normalised)


def _both_notes(work: OutputWork, changed: Iterable[str]) -> tuple[str, ...]:
    statistics = [name for name in changed if name.endswith(_NORMALISED)]
    return (*_without_normalisation(work, statistics), *_not_shifted(work, changed))


def _reestimate(work: OutputWork) -> dict[str, np.ndarray]:
    return reestimate_batchnorm(work.compressed, work.samples)


def _correct(work: OutputWork) -> dict[str, np.ndarray]:
    return correct_bias(work.reference, work.compressed, work.samples)


def _restore(work: OutputWork) -> dict[str, np.ndarray]:
    return restore_outputs(work.reference, work.compressed, work.samples)


METHODS = (
    OutputMethod("batchnorm", lambda step: step.batchnorm and not step.bias, _reestimate, notes=_without_normalisation),
    OutputMethod("bias", lambda step: step.bias and not step.batchnorm, _correct, notes=_means_alone),
    OutputMethod("outputs", lambda step: step.bias and step.batchnorm, _restore, notes=_both_notes),
    MethodEntry(
        name="repair",
        title="Repair without training",
        summary=(
            "Rounding shifts what each layer puts out, and much of that shift can be undone with a few hundred samples "
            "of the training split, in seconds and without a single training step: later weights make good the errors "
            "of earlier ones, biases are moved back to where the outputs were, and batch normalisation is given the "
            "averages of the network as it now is."
        ),
        formula=(
            r"\begin{gathered} \min_{\hat W} \lVert W X - \hat W X \rVert^2, \quad H = 2 X X^{\top} \\ "
            r"w_{>j} \leftarrow w_{>j} - \frac{w_j - \hat w_j}{[H^{-1}]_{jj}}\,[H^{-1}]_{j,>j} \\ "
            r"b \leftarrow b + \mathbb{E}\,[W x] - \mathbb{E}\,[\hat W \hat x] \\ "
            r"\mu, \sigma^2 \leftarrow \text{mean and variance of } \hat W \hat x \end{gathered}"
        ),
        settings=explained(rounding="", bias="", batchnorm=""),
        reference=(
            "Frantar et al., *GPTQ*, ICLR 2023, [arXiv:2210.17323](https://arxiv.org/abs/2210.17323). Nagel et al., "
            "*Data-free quantization through weight equalization and bias correction*, ICCV 2019, "
            "[arXiv:1906.04721](https://arxiv.org/abs/1906.04721). Sun et al., *Hybrid 8-bit floating point training "
            "and inference*, NeurIPS 2019, for batch normalisation"
        ),
        section=Section.REPAIR,
        example=Recipe(quantize=Quantize(4), repair=Repair("gptq", bias=True, batchnorm=True)),
        used_by=lambda recipe: recipe.repair is not None,
        picture=Picture.NONE,
    ),
)
