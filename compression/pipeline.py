"""From a model and a recipe to a compressed model: the steps in their canonical order, prune -> share -> quantize."""

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from compression.errors import ModelError
from compression.methods import binarize, prune, quantize, share
from compression.methods.prune import Cut
from compression.recipe import Recipe
from compression.statistics import LayerStatistics, ModelStatistics
from compression.tensors import Codebook, CompressedTensor, Integers, Plain

# Measured: below about this much work, handing layers to threads costs more than it saves.
WEIGHTS_FOR_THREADS = 1_000_000


@dataclass(frozen=True, eq=False)
class CompressedModel:
    """Architecture + compressed tensors; decodes to an ordinary `nn.Module`.

    architecture: the name it is rebuilt by. source: digest of the model that was compressed. weights: the compressible
    tensors by name. rest: every other entry of the state dict. order: all names, in the order of the state dict.
    """

    architecture: str
    source: str
    recipe: Recipe
    weights: Mapping[str, CompressedTensor]
    rest: Mapping[str, Plain]
    order: tuple[str, ...]

    def decode(self, name: str) -> np.ndarray:
        """One tensor of the state dict, exactly as it is evaluated."""
        return self._tensor(name).decode()

    def state_dict(self) -> dict[str, torch.Tensor]:
        """The full decoded state dict; the tensors are the caller's own."""
        return {name: torch.tensor(self.decode(name)) for name in self.order}

    def load_into(self, model: nn.Module) -> nn.Module:
        """Put the decoded tensors into `model`, in place, and return it in evaluation mode.

        Raises ModelError when the model's state dict has other names or shapes.
        """
        self.copy_into(model.state_dict())
        return model.eval()

    def copy_into(self, target: Mapping[str, torch.Tensor]) -> None:
        """Put the decoded tensors into the state dict of a model, in place; raises ModelError like `load_into`."""
        shapes = {name: tuple(tensor.shape) for name, tensor in target.items()}
        ours = {name: self._tensor(name).shape for name in self.order}
        if shapes != ours:
            differing = sorted(name for name in shapes.keys() | ours.keys() if shapes.get(name) != ours.get(name))
            raise ModelError(
                f"a compressed {self.architecture} needs a model of the same state dict; these entries differ: "
                f"{', '.join(differing[:5])}. Build the architecture that it names."
            )
        # Copied entry by entry: load_state_dict takes several times as long, and a slider waits for this.
        with torch.no_grad():
            for name, tensor in target.items():
                tensor.copy_(torch.from_numpy(np.asarray(self.decode(name))))

    def _tensor(self, name: str) -> CompressedTensor:
        return self.weights[name] if name in self.weights else self.rest[name]


def compress(statistics: ModelStatistics, recipe: Recipe) -> CompressedModel:
    """Compress a model, given its statistics. The model itself is not touched; same input, same output."""
    cuts = prune.cuts(statistics, recipe.prune) if recipe.prune else {}

    def step(layer: LayerStatistics) -> CompressedTensor:
        return compress_layer(layer, recipe, cuts.get(layer.name))

    layers = statistics.layers.values()
    if len(statistics.magnitudes) < WEIGHTS_FOR_THREADS:
        tensors = list(map(step, layers))
    else:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            tensors = list(pool.map(step, layers))
    weights = dict(zip(statistics.layers, tensors, strict=True))
    rest = {name: _rest(array, recipe.code.rest) for name, array in statistics.rest.items()}
    return CompressedModel(statistics.architecture, statistics.digest, recipe, weights, rest, statistics.order)


def compress_layer(layer: LayerStatistics, recipe: Recipe, cut: Cut | None) -> CompressedTensor:
    """Run a recipe's steps on one layer; `cut` is where it is pruned, None for not at all."""
    weight = prune.apply(layer.weight, cut) if cut else layer.weight
    if recipe.share:
        return _shared(layer, weight, recipe)
    if recipe.quantize is None:
        return Plain(weight)
    if recipe.quantize.bits == 1:
        return binarize.apply(weight, weight != 0 if cut else None, layer.channel_max, recipe.quantize)
    return quantize.apply(weight, layer.channel_max, recipe.quantize)


def _shared(layer: LayerStatistics, weight: np.ndarray, recipe: Recipe) -> Codebook:
    negatives, positives = np.count_nonzero(weight < 0), np.count_nonzero(weight > 0)
    entries = share.fit(layer, negatives, positives, recipe.share.clusters)
    symbols = share.assign(weight, entries)
    if recipe.quantize is None:
        return _merged(symbols, Plain(entries))
    if len(entries) == 0:
        kind = np.int8 if recipe.quantize.bits <= 8 else np.int16
        return Codebook(symbols, Integers(np.zeros(0, kind), np.float32(1).reshape(()), recipe.quantize.bits))
    # Only the least squared error asks how often each entry is used.
    weighted = recipe.quantize.calibration == "mse"
    counts = np.bincount(symbols.reshape(-1), minlength=len(entries) + 1)[1:] if weighted else np.ones(len(entries))
    to_grid = binarize.grid if recipe.quantize.bits == 1 else quantize.grid
    return _merged(symbols, to_grid(entries, counts, recipe.quantize))


def _merged(symbols: np.ndarray, entries: Plain | Integers) -> Codebook:
    """The codebook without what rounding made equal or zero: zero has its own symbol, and every entry one."""
    codes = entries.codes if isinstance(entries, Integers) else entries.values
    kept = np.unique(codes[codes != 0])
    if len(kept) == len(codes):
        return Codebook(symbols, entries)
    table = np.zeros(len(codes) + 1, np.uint8 if len(kept) <= 255 else np.uint16)
    table[1:] = np.where(codes == 0, 0, np.searchsorted(kept, codes) + 1)
    merged = Integers(kept, entries.scale, entries.bits) if isinstance(entries, Integers) else Plain(kept)
    return Codebook(table[symbols], merged)


def _rest(array: np.ndarray, form: str) -> Plain:
    if form == "fp16" and array.dtype == np.float32:
        with np.errstate(over="ignore"):
            half = array.astype(np.float16)
        if np.array_equal(np.isfinite(half), np.isfinite(array)):
            return Plain(half)
    return Plain(array)
