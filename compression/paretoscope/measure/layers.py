"""The layers of a model: what each one is, and its shares of the model's computation, size and time."""

import copy
import dataclasses
import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from paretoscope import codec
from paretoscope.base.lock import machine
from paretoscope.data.data import Part
from paretoscope.measure.sensitivity import coded_bytes
from paretoscope.measure.subject import Subject
from paretoscope.model import weights as weights_of
from paretoscope.model.compressed import CompressedModel
from paretoscope.model.kinds import LayerKind
from paretoscope.recipe.recipe import Recipe
from paretoscope.runtimes.onnx_graph import export_fp32
from paretoscope.runtimes.onnx_profile import onnx_profile
from paretoscope.runtimes.profiles import OTHER
from paretoscope.runtimes.sessions import session_options

# Profiled runs; chosen by hand, no benchmark.
RUNS = 30


@dataclass(frozen=True, slots=True)
class LayerRow:
    """One compressible weight, or everything else ("other").

    name: of the weight in the state dict. shape: of the weight, output channels first. parameters: its entries; other
    parameters count for "other". macs: multiplications with it for one image; the products within attention count for
    "other". bytes: in the artefact, coded on its own. size_share: of the artefact's bytes. time_share: of ONNX
    Runtime's fp32 time for one image.
    """

    name: str
    kind: LayerKind
    shape: tuple[int, ...]
    parameters: int
    macs: int
    bytes: int
    size_share: float
    time_share: float

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return dataclasses.asdict(self)


def layer_table(subject: Subject, compressed: CompressedModel | None = None) -> list[LayerRow]:
    """The compressible layers in the order of the state dict, and last a row for the rest.

    compressed: the model in question; without one, the baseline, coded without loss. Sizes are measured on its artefact
    and times on its decoded module, in the fp32 session: about 40 images are run. Raises ModelError.
    """
    if compressed is None:
        compressed = subject.compress(Recipe())
    module = subject.decoded(compressed)
    image = next(iter(subject.data.samples(Part.TEST, 1)))
    parameters = {name: tensor.numel() for name, tensor in module.named_parameters()}
    weights = {name: module.get_parameter(name) for name in compressed.weights}
    macs = count_macs(module, image)
    bytes_of = {name: coded_bytes(compressed, name) for name in weights}
    artefact = len(codec.write(compressed))
    times = layer_times(module, tuple(weights), image)
    spent = math.fsum(times.values())

    def row(name: str, kind: LayerKind, shape: tuple[int, ...], count: int, coded: int) -> LayerRow:
        return LayerRow(name, kind, shape, count, macs.get(name, 0), coded, coded / artefact, times[name] / spent)

    kinds = layer_kinds(module)
    rows = [row(name, kinds[name], tuple(w.shape), w.numel(), bytes_of[name]) for name, w in weights.items()]
    left = sum(parameters.values()) - sum(weight.numel() for weight in weights.values())
    return [*rows, row(OTHER, LayerKind.OTHER, (), left, artefact - sum(bytes_of.values()))]


def layer_kinds(module: nn.Module) -> dict[str, LayerKind]:
    """What each layer is, by the name of its weight."""
    return {name: weight.kind for name, weight in weights_of.find(module).items()}


def count_macs(module: nn.Module, image: Tensor) -> dict[str, int]:
    """Multiply-accumulate operations of one forward pass over image (1, C, H, W), by the name of the weight.

    Counted by watching the calls, so that attention, which computes with the weights of modules it never calls, counts
    too. The products of queries, keys and values belong to no weight; they are "other", where there are any.
    """
    names = {id(tensor): name for name, tensor in module.named_parameters()}
    # A watched attention module computes by the calls that are counted here, not by one kernel of its own.
    with machine(exclusive=False), torch.no_grad(), _MacCounter(names) as counter:
        module(image)
    return dict(counter.macs)


class _MacCounter(TorchFunctionMode):
    def __init__(self, names: dict[int, str]) -> None:
        super().__init__()
        self.macs: defaultdict[str, int] = defaultdict(int)
        self._names = names

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if func in (F.conv1d, F.conv2d, F.conv3d, F.linear):
            weight = kwargs["weight"] if "weight" in kwargs else args[1]
            # Every output is a sum of as many products as the weight has for one output channel.
            self._add(weight, result.numel() * weight[0].numel())
        elif func is F.multi_head_attention_forward:
            self._count_attention(*args, **kwargs)
        return result

    def _add(self, weight: Tensor, count: int) -> None:
        name = self._names.get(id(weight))
        if name is not None:
            self.macs[name] += count

    def _count_attention(
        self, query: Tensor, key: Tensor, value: Tensor, embed_dim_to_check: int, *args: Any, **kwargs: Any
    ) -> None:
        """Count an attention over (tokens, n, features), Vaswani et al. 2017, section 3.2.

        args: num_heads, in_proj_weight, ..., as `multi_head_attention_forward` takes them.
        """
        in_proj, out_proj = args[1], args[7]
        queries, keys = math.prod(query.shape[:-1]), math.prod(key.shape[:-1])
        if in_proj is not None:
            third = in_proj.numel() // 3
            self._add(in_proj, third * (queries + 2 * keys))
        else:
            for name, tokens in (("q_proj_weight", queries), ("k_proj_weight", keys), ("v_proj_weight", keys)):
                self._add(kwargs[name], tokens * kwargs[name].numel())
        self._add(out_proj, queries * out_proj.numel())
        self.macs[OTHER] += 2 * queries * key.shape[0] * embed_dim_to_check


def layer_times(module: nn.Module, weights: Sequence[str], image: Tensor, runs: int = RUNS) -> dict[str, float]:
    """Microseconds that ONNX Runtime spends on each weight's layer and on the rest ("other") for one image.

    Its own profile of the fp32 session on one thread, `onnx_profile`.
    Raises ModelError for what cannot be exported.
    """
    data = export_fp32(copy.deepcopy(module).eval(), tuple(image.shape[1:]))
    found = onnx_profile(data, image.numpy(), session_options(1), runs)
    times = dict.fromkeys((*weights, OTHER), 0.0)
    for name, time in found.items():
        times[name if name in times else OTHER] += time
    return times
