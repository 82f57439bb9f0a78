"""The layers of a model: what each one is, and its shares of the model's computation, size and time."""

import copy
import dataclasses
import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from paretoscope import codec
from paretoscope.base.batch import Batch, call, parts, tensors_in
from paretoscope.base.errors import ModelError
from paretoscope.base.lock import machine
from paretoscope.base.threads import torch_threads
from paretoscope.data.data import Part
from paretoscope.measure.replay import Replay
from paretoscope.measure.sensitivity import coded_bytes
from paretoscope.measure.subject import Subject
from paretoscope.model import weights as weights_of
from paretoscope.model.compressed import CompressedModel
from paretoscope.model.kinds import LayerKind
from paretoscope.recipe.recipe import Recipe
from paretoscope.runtimes.onnx_graph import export_any, inputs_as_known
from paretoscope.runtimes.onnx_profile import onnx_profile
from paretoscope.runtimes.profiles import OTHER, WARM_UP_RUNS, typical
from paretoscope.runtimes.sessions import session_options

# Profiled runs; chosen by hand, no benchmark.
RUNS = 30
# Names of the runtimes that take the times.
ONNX_RUNTIME, PYTORCH = "onnxruntime", "torch"


@dataclass(frozen=True, slots=True)
class LayerRow:
    """One compressible weight, or everything else ("other").

    name: of the weight in the state dict. shape: of the weight, output channels first. parameters: its entries; other
    parameters count for "other". macs: multiplications with it for one sample; the products within attention count for
    "other". bytes: in the artefact, coded on its own. size_share: of the artefact's bytes. time_share: of the fp32 time
    for one sample, in ONNX Runtime, or in PyTorch where the network has no ONNX graph. timed_in: the runtime's name.
    """

    name: str
    kind: LayerKind
    shape: tuple[int, ...]
    parameters: int
    macs: int
    bytes: int
    size_share: float
    time_share: float
    timed_in: str = ONNX_RUNTIME

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "LayerRow":
        """What `to_dict` wrote; KeyError, TypeError or ValueError when it is not that."""
        return cls(**{**data, "kind": LayerKind(data["kind"]), "shape": tuple(data["shape"])})


def layer_table(subject: Subject, compressed: CompressedModel | None = None) -> list[LayerRow]:
    """The compressible layers in the order of the state dict, and last a row for the rest.

    compressed: the model in question; without one, the baseline, coded without loss. Sizes are measured on its artefact
    and times on its decoded module, in fp32: about 40 samples are run. Raises ModelError.
    """
    if compressed is None:
        compressed = subject.compress(Recipe())
    module = subject.decoded(compressed)
    sample = next(iter(subject.data.samples(Part.TEST, 1)))
    parameters = {name: tensor.numel() for name, tensor in module.named_parameters()}
    weights = {name: module.get_parameter(name) for name in compressed.weights}
    macs = count_macs(module, sample)
    bytes_of = {name: coded_bytes(compressed, name) for name in weights}
    artefact = len(codec.write(compressed))
    times, timed_in = _times(module, tuple(weights), sample)
    spent = math.fsum(times.values())

    def row(name: str, kind: LayerKind, shape: tuple[int, ...], count: int, coded: int) -> LayerRow:
        time = times[name] / spent
        return LayerRow(name, kind, shape, count, macs.get(name, 0), coded, coded / artefact, time, timed_in)

    kinds = layer_kinds(module)
    rows = [row(name, kinds[name], tuple(w.shape), w.numel(), bytes_of[name]) for name, w in weights.items()]
    left = sum(parameters.values()) - sum(weight.numel() for weight in weights.values())
    return [*rows, row(OTHER, LayerKind.OTHER, (), left, artefact - sum(bytes_of.values()))]


def layer_kinds(module: nn.Module) -> dict[str, LayerKind]:
    """What each layer is, by the name of its weight."""
    return {name: weight.kind for name, weight in weights_of.find(module).items()}


def count_macs(module: nn.Module, sample: Batch) -> dict[str, int]:
    """Multiply-accumulate operations of one forward pass over a batch, of one sample here, by the name of the weight.

    Counted by watching the calls, so that attention, which computes with the weights of modules it never calls, counts
    too. The products of queries, keys and values belong to no weight; they are "other", where there are any. Rows that
    are looked up in a table are not multiplied.
    """
    # A view of a weight shares its memory.
    names = {tensor.untyped_storage().data_ptr(): name for name, tensor in module.named_parameters()}
    # A watched attention module computes by the calls that are counted here, not by one kernel of its own.
    with machine(exclusive=False), torch.no_grad(), _MacCounter(names) as counter:
        call(module, sample)
    return dict(counter.macs)


# Functions by the names that PyTorch gives them.
_RECURRENT = ("lstm", "gru", "rnn_tanh", "rnn_relu")
_WITH_SUM = ("addmm", "baddbmm")
_PRODUCTS = ("matmul", "__matmul__", "mm", "bmm", *_WITH_SUM)


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
        elif func in (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d):
            weight = kwargs["weight"] if "weight" in kwargs else args[1]
            # Every input goes into as many products as the weight has for one input channel.
            self._add(weight, args[0].numel() * weight[0].numel())
        elif func is F.multi_head_attention_forward:
            self._count_attention(*args, **kwargs)
        else:
            self._count_products(getattr(func, "__name__", ""), args, result)
        return result

    def _count_products(self, name: str, args: tuple[Any, ...], result: Any) -> None:
        if name in _RECURRENT:
            steps = args[0].numel() // args[0].shape[-1]
            for weight in (each for each in tensors_in(args[2:]) if each.ndim > 1):
                self._add(weight, steps * weight.numel())
        elif name in _PRODUCTS and isinstance(args[0], Tensor):
            one, other = args[1:3] if name in _WITH_SUM else args[:2]
            self._add_either((one, other), result.numel() * one.shape[-1])
        elif name == "scaled_dot_product_attention":
            query, key = args[:2]
            self.macs[OTHER] += query.numel() * key.shape[-2] + result.numel() * key.shape[-2]
        elif name == "einsum" and isinstance(args[0], str):
            operands = list(tensors_in(args[1:]))
            labels = args[0].replace(" ", "").partition("->")[0].split(",")
            sizes = {
                label: size
                for text, each in zip(labels, operands, strict=True)
                for label, size in zip(text, each.shape, strict=False)
            }
            self._add_either(operands, math.prod(sizes.values()))

    def _add(self, weight: Tensor, count: int) -> None:
        self._add_either((weight,), count)

    def _add_either(self, operands: Sequence[Tensor], count: int) -> None:
        """Count for the operand that is a weight, for "other" where none is."""
        names = (self._names.get(each.untyped_storage().data_ptr()) for each in operands)
        self.macs[next((name for name in names if name is not None), OTHER)] += count

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


def _times(module: nn.Module, weights: Sequence[str], sample: Batch) -> tuple[dict[str, float], str]:
    """Microseconds of each weight's layer and of the rest, and the name of the runtime that took them."""
    if isinstance(sample, Tensor) and sample.dtype == torch.float32:
        with suppress(ModelError):
            return layer_times(module, weights, sample), ONNX_RUNTIME
    return call_times(module, weights, sample), PYTORCH


@machine(exclusive=False)
def call_times(module: nn.Module, weights: Sequence[str], sample: Batch, runs: int = RUNS) -> dict[str, float]:
    """Microseconds that PyTorch spends on each weight's layer and on the rest ("other") for a batch, on one thread.

    A clock around each call of a forward pass: the interquartile mean of each over the runs. A call with several
    weights is split by their sizes; what Python spends between the calls is not in it.
    """
    module = copy.deepcopy(module).eval()
    replay = Replay.record(module, sample)
    wanted = set(weights)
    named = module.named_parameters(remove_duplicate=False)
    names = {id(tensor): name for name, tensor in reversed(list(named)) if name in wanted}
    sizes = {name: module.get_parameter(name).numel() for name in weights}
    with torch_threads(1):
        passes = [replay.seconds(sample) for _ in range(WARM_UP_RUNS + runs)][WARM_UP_RUNS:]
    times = dict.fromkeys((*weights, OTHER), 0.0)
    for reads, seconds in zip(replay.reads, zip(*passes, strict=True), strict=True):
        own = list(dict.fromkeys(names[each] for each in reads if each in names))
        whole = sum(sizes[name] for name in own)
        for name in own or [OTHER]:
            times[name] += 1e6 * typical(seconds) * (sizes[name] / whole if own else 1.0)
    return times


def layer_times(module: nn.Module, weights: Sequence[str], image: Batch, runs: int = RUNS) -> dict[str, float]:
    """Microseconds that ONNX Runtime spends on each weight's layer and on the rest ("other") for one sample.

    Its own profile of the fp32 session on one thread, `onnx_profile`.
    Raises ModelError for what cannot be exported.
    """
    arrays = tuple(each.numpy() for each in parts(image))
    data, _ = export_any(copy.deepcopy(module).eval(), inputs_as_known(module, arrays))
    found = onnx_profile(data, arrays, session_options(1), runs)
    times = dict.fromkeys((*weights, OTHER), 0.0)
    for name, time in found.items():
        times[name if name in times else OTHER] += time
    return times
