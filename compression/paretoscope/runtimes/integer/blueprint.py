"""A network as the integer kernels of a runtime compute it: 8-bit activations, integer weights, float steps elsewhere.

Activations are uint8 codes, `(code - zero) * scale`, of ranges seen on calibration images; batch normalisation is
folded into the weights; biases are int32 in units of (input scale * weight scale).
Scheme: Jacob et al., Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference,
2018.

The simulation keeps codes as floats that are whole numbers, `code - zero`. Sums of their products are exact in float32
up to 2**24, and a layer is a convolution of PyTorch and three cheap operations in place: times the ratio of scales,
rounded, clamped, in the order in which ONNX Runtime takes them. So codes agree one by one, and networks that amplify
every difference agree too.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from paretoscope.base.errors import ModelError
from paretoscope.base.lock import machine
from paretoscope.graph.folds import Fold, fold_layers, state_of
from paretoscope.graph.network_graph import GraphInput
from paretoscope.graph.operations import MOVES, Codes, Operation, Operations
from paretoscope.graph.torch_ops import operator
from paretoscope.graph.trace import Inputs, inputs_of
from paretoscope.model.tensors import CompressedTensor, Integers, integers_of
from paretoscope.runtimes.onnx_graph import Arrays, arrays, drawn, outputs_of, trace, verify

LEVELS = 255
# Below these, values are zeros for every purpose, but products of scales would leave the range of float32.
_LEAST_RANGE = 1e-12
_LEAST_SCALE = 1e-20
# A bias is an int32 in units of (input scale * weight scale). Above this it leaves no room for the sum it is added to,
# which is then too small beside it to matter.
_BIAS_LIMIT = 2.0**30
_BIAS_OF_DEAD_CHANNEL = 2.0**24
# Ranges of so many images were as good as those of twice as many, at half the time; no benchmark shows it.
CALIBRATION_IMAGES = 64


@dataclass(frozen=True, slots=True)
class CodeGrid:
    """The quantization grid of activations: a code, 0..255, means `(code - zero) * scale`."""

    scale: np.float32
    zero: int

    @classmethod
    def of(cls, low: float, high: float) -> "CodeGrid":
        """The grid that reaches from low to high and has zero on it."""
        low, high = min(low, 0.0), max(high, 0.0)
        scale = np.float32(max(high - low, _LEAST_RANGE) / LEVELS)
        return cls(scale, int(np.clip(np.rint(-low / scale), 0, LEVELS)))


@dataclass(frozen=True, eq=False, slots=True)
class IntegerLayer:
    """An integer layer with its batch normalisation folded in.

    codes: int8, of the weight; zero: int8 (n,), what is 0 in each of its n output channels. Channels with a negative
    factor hold the negated codes, `-1 - code` where there is a zero point; all codes of one that gives nothing but its
    bias are zero. scale: float32 (n,), of the weight. bias: int32 (n,), or None. unit: float32 (n,), of the bias and
    of the sums: the input's scale times the weight's.
    """

    codes: np.ndarray
    zero: np.ndarray
    scale: np.ndarray
    bias: np.ndarray | None
    unit: np.ndarray

    @classmethod
    def of(cls, weight: Integers, fold: Fold, input_scale: np.float32) -> "IntegerLayer":
        """weight: of at most 8 bits."""
        codes, negative = weight.codes, fold.factor < 0
        zero = (
            np.zeros(len(codes), np.int8) if weight.zero is None else np.array(np.broadcast_to(weight.zero, len(codes)))
        )
        scale, bias = weight.scale * np.abs(fold.factor), fold.bias
        if negative.any():
            codes, flipped = codes.copy(), ~weight.codes[negative]
            # A symmetric grid has no code -128, so negation stays within int8; ~code = -1 - code always does.
            codes[negative] = flipped if weight.zero is not None else flipped + 1
            zero[negative] = ~zero[negative] if weight.zero is not None else 0
        if bias is not None:
            dead = np.abs(bias) > _BIAS_LIMIT * float(input_scale) * scale
            if dead.any():
                codes = codes.copy()
                codes[dead] = zero[dead].reshape(-1, *[1] * (codes.ndim - 1))
                scale[dead] = np.abs(bias[dead]) / (_BIAS_OF_DEAD_CHANNEL * float(input_scale))
            bias = np.rint(bias / (input_scale * _positive(scale))).astype(np.int32)
        return cls(codes, zero, _positive(scale), bias, input_scale * _positive(scale))

    @property
    def steps(self) -> Tensor:
        """How many steps each weight is away from zero, float32."""
        steps = torch.from_numpy(self.codes).float()
        return steps.sub_(torch.from_numpy(self.zero).view(-1, *[1] * (steps.ndim - 1))) if self.zero.any() else steps


def _positive(scale: np.ndarray) -> npt.NDArray[np.float32]:
    positive: npt.NDArray[np.float32] = np.maximum(scale, _LEAST_SCALE).astype(np.float32)
    return positive


class Blueprint:
    """The structure of a module, traced and checked once, from which networks are made for its recipes."""

    @machine(exclusive=False)
    def __init__(self, module: nn.Module, inputs: Inputs, samples: Arrays | None = None) -> None:
        """module: in evaluation mode; inputs, samples: as for `export_fp32`, which it raises ModelError as."""
        state = state_of(module)
        self.inputs = inputs_of(inputs)
        model = trace(module, inputs)
        self.outputs = outputs_of(model)
        self.steps = Operations(model, state)
        self._shapes = {name: state[name].shape for name in self.steps.weights}
        batch = drawn(inputs, 2, samples)
        run = self._floats(fold_layers(self.steps, state), state)
        verify(lambda: tuple(each.numpy() for each in run(map(torch.from_numpy, batch))), module, batch)

    @machine(exclusive=False)
    def calibrate(
        self,
        module: nn.Module,
        weights: Mapping[str, CompressedTensor],
        images: Arrays,
        ranges: Mapping[str, tuple[float, float]] | None = None,
    ) -> "IntegerNetwork":
        """The integer network of a recipe.

        module: of this structure, with the decoded weights, which must stay as they are while the network is used.
        weights: its compressible tensors by state-dict name; layers of those of at most 8 bits run on integers, the
        others on floats. images: samples (n, ...), n >= 1, of the train split, an array for each input; ranges are
        those seen on the first CALIBRATION_IMAGES of them, but for those that are given by the name of their value.
        Raises ModelError for a module of another structure, other images, and activations that are not finite.
        """
        _expect_samples(images, self.inputs)
        state = state_of(module)
        if any(name not in state or state[name].shape != shape for name, shape in self._shapes.items()):
            raise ModelError(
                "a blueprint serves modules of one structure; this module has other weights. Make a blueprint of it."
            )
        folds = fold_layers(self.steps, state)
        integers = {name: found for name, each in weights.items() if (found := integers_of(each)) is not None}
        layers = [step for step in self.steps.steps if step.is_layer and step.weight in integers]
        codes = self.steps.codes(frozenset(step.output for step in layers))
        grids = self._grids(codes, self._floats(folds, state), images, ranges or {})
        integer = {
            step.output: IntegerLayer.of(integers[step.weight], folds[step.output], grids[step.sources[0]].scale)
            for step in layers
        }
        run = _Executor(self.steps, folds, state, codes, grids, integer)
        return IntegerNetwork(self, codes, grids, integer, state, run)

    def _grids(
        self, codes: Codes, run: "_Executor", images: Arrays, ranges: Mapping[str, tuple[float, float]]
    ) -> dict[str, CodeGrid]:
        """The grid of every coded value, from its range or its least and largest value over the images, in floats."""
        seen = {name: ranges[name] for name in codes.scaled if name in ranges}

        def watch(name: str, value: Tensor) -> None:
            if name in codes.scaled and name not in ranges:
                low, high = torch.aminmax(value)
                seen[name] = low.item(), high.item()

        if len(seen) < len(codes.scaled):
            # A copy: arrays of others may not be written to.
            run((torch.from_numpy(np.array(each[:CALIBRATION_IMAGES])) for each in arrays(images)), watch)
        grids = {}
        for name, (low, high) in seen.items():
            if not (np.isfinite(low) and np.isfinite(high)):
                raise ModelError(
                    f"activations must be finite to be quantized; {name} reaches from {low} to {high} on the "
                    "calibration images. Check the images, or use a recipe of float activations."
                )
            grids[name] = CodeGrid.of(low, high)
        for step in self.steps.steps:
            if step.output in codes.coded and step.output not in grids:
                grids[step.output] = grids[step.sources[0]]
        return grids

    def _floats(self, folds: Mapping[str, Fold], state: Mapping[str, Tensor]) -> "_Executor":
        return _Executor(self.steps, folds, state, self.steps.codes(frozenset()), {}, {})


@dataclass(frozen=True, eq=False, slots=True)
class IntegerNetwork:
    """A calibrated integer network: call it with samples, a tensor for each input, for the outputs of the network.

    codes: what is an integer. grids: of every coded value. layers: the integer layers by their output. state: the
    tensors of the module by name. The int8 ONNX file is written from the same.
    """

    blueprint: Blueprint
    codes: Codes
    grids: Mapping[str, CodeGrid]
    layers: Mapping[str, IntegerLayer]
    state: Mapping[str, Tensor]
    _run: "_Executor"

    def __call__(self, *samples: Tensor) -> Any:
        found = self._run(samples)
        return found[0] if len(found) == 1 else found

    def nudged(self, share: float) -> "IntegerNetwork":
        """The same network with the scales of its activations moved by a share, up and down in turn.

        What floats between integers differ by in another order of sums does no more to its outputs.
        """
        names = sorted(self.grids)
        factors = {name: 1 + (share if place % 2 else -share) for place, name in enumerate(names)}
        grids = {n: CodeGrid(np.float32(self.grids[n].scale * factors[n]), self.grids[n].zero) for n in names}
        sources = {step.output: step.sources[0] for step in self.blueprint.steps.steps if step.output in self.layers}
        layers = {
            name: replace(layer, unit=(layer.unit * factors[sources[name]]).astype(np.float32))
            for name, layer in self.layers.items()
        }
        run = self._run.with_grids(grids, layers)
        return IntegerNetwork(self.blueprint, self.codes, grids, layers, self.state, run)


def _expect_samples(images: Arrays, inputs: Sequence[GraphInput]) -> None:
    """Raises ModelError unless there is a sample of these inputs at least."""
    found, wanted = [each.shape for each in arrays(images)], [each.shape for each in inputs]
    if [shape[1:] for shape in found] != wanted or not all(shape[0] for shape in found):
        shapes = " and ".join(f"(n, {', '.join(map(str, shape))})" for shape in wanted)
        raise ModelError(
            f"calibration needs images of shape {shapes}; got {' and '.join(map(str, found))}. "
            "Pass some of the train split."
        )


def simulate(
    module: nn.Module,
    inputs: Inputs,
    weights: Mapping[str, CompressedTensor],
    calibration: Arrays,
    ranges: Mapping[str, tuple[float, float]] | None = None,
) -> IntegerNetwork:
    """The integer network of a decoded module; for many recipes of one structure, keep the `Blueprint`."""
    _expect_samples(calibration, inputs_of(inputs))
    return Blueprint(module, inputs, calibration).calibrate(module, weights, calibration, ranges)


Instruction = tuple[Callable[..., Tensor], tuple[str, ...], str, tuple[str, ...]]


class _Executor:
    """A list of calls, each with the names of the values it takes, gives, and is the last to take."""

    def __init__(
        self,
        steps: Operations,
        folds: Mapping[str, Fold],
        state: Mapping[str, Tensor],
        codes: Codes,
        grids: Mapping[str, CodeGrid],
        integer: Mapping[str, IntegerLayer],
    ) -> None:
        self._steps, self._folds, self._state = steps, folds, state
        self._codes, self._grids, self._integer = codes, grids, integer
        self._calls: list[tuple[Callable[..., Tensor], list[str], str]] = []
        self._there = set(steps.inputs)
        for name in steps.inputs:
            if name in codes.coded:
                self._encode(name)
        for step in steps.steps:
            self._add(step)
        for name in steps.outputs:
            self._floats(name)
        self._program = self._with_last_uses()

    def with_grids(self, grids: Mapping[str, CodeGrid], integer: Mapping[str, IntegerLayer]) -> "_Executor":
        """The same calls with other scales."""
        return _Executor(self._steps, self._folds, self._state, self._codes, grids, integer)

    def __call__(
        self, samples: Iterable[Tensor], watch: Callable[[str, Tensor], None] | None = None
    ) -> tuple[Tensor, ...]:
        given = dict(zip(self._steps.inputs, samples, strict=True))
        values = {name: _channels_last(each) for name, each in given.items()}
        with torch.inference_mode():
            for name, each in given.items():
                if watch is not None:
                    watch(name, each)
            for function, sources, output, last in self._program:
                value = function(*[values[name] for name in sources])
                if watch is not None:
                    watch(output, value)
                values[output] = value
                for name in last:
                    del values[name]
        return tuple(values[name] for name in self._steps.outputs)

    def _with_last_uses(self) -> list[Instruction]:
        used = set(self._steps.outputs)
        program: list[Instruction] = []
        for function, sources, output in reversed(self._calls):
            last = tuple(set(sources) - used)
            used.update(sources)
            program.append((function, tuple(sources), output, last))
        return program[::-1]

    def _call(self, function: Callable[..., Tensor], sources: Sequence[str], output: str) -> None:
        self._calls.append((function, list(sources), output))
        self._there.add(output)

    def _add(self, step: Operation) -> None:
        name, integer = step.output, step.output in self._codes.integer
        sources = [_coded(source) if integer else self._floats(source) for source in step.sources]
        gives_codes = self._codes.gives_codes(name)
        output = _coded(name) if gives_codes else name
        if step.is_layer:
            function = self._layer(step)
        elif integer and step.node.op_type in MOVES:
            function = self._with_constants(step)
        elif integer:
            function = self._mix(step)
        else:
            function = self._activated(self._with_constants(step), step)
        if not sources:
            function = _given(function())
        self._call(function, sources, output)
        if name in self._codes.coded and not gives_codes:
            self._encode(name)

    def _floats(self, name: str) -> str:
        """A value as floats; codes are decoded for the first step that asks."""
        if name not in self._there:
            scale = float(self._grids[name].scale)
            self._call(lambda codes: codes * scale, [_coded(name)], name)
        return name

    def _encode(self, name: str) -> None:
        grid = self._grids[name]
        self._call(lambda x: _saturated(x / float(grid.scale), grid), [name], _coded(name))

    def _with_constants(self, step: Operation) -> Callable[..., Tensor]:
        """The operator of a step as a function of its sources, the weights and constants being given."""
        function = operator(step.node)
        if list(step.sources) == list(step.node.input):
            return function
        taken = [name in step.sources for name in step.node.input]
        given = [self._tensor(name) if name and name not in step.sources else None for name in step.node.input]

        def call(*values: Tensor) -> Tensor:
            rest = iter(values)
            return function(*[next(rest) if take else tensor for take, tensor in zip(taken, given, strict=True)])

        return call

    def _tensor(self, name: str) -> Tensor:
        return self._state[name] if name in self._state else torch.from_numpy(np.array(self._steps.constants[name]))

    def _activated(self, function: Callable[..., Tensor], step: Operation) -> Callable[..., Tensor]:
        """The function with the activation of a step, in place."""
        if step.activation is None:
            return function
        if step.activation.op_type == "Relu":
            return lambda *values: function(*values).relu_()
        low, high = (float(self._steps.constants[name]) for name in step.activation.input[1:])
        return lambda *values: function(*values).clamp_(low, high)

    def _layer(self, step: Operation) -> Callable[..., Tensor]:
        if step.output in self._integer:
            return self._integer_layer(step)
        fold, function, weight = self._folds[step.output], operator(step.node), self._folds[step.output].weight
        if step.norm is not None:
            weight = weight * torch.from_numpy(fold.factor.astype(np.float32)).view(-1, *[1] * (weight.ndim - 1))
        weight = _channels_last(weight)
        bias = None if fold.bias is None else torch.from_numpy(fold.bias.astype(np.float32))
        return self._activated(lambda x: function(x, weight, bias), step)

    def _integer_layer(self, step: Operation) -> Callable[..., Tensor]:
        layer, function = self._integer[step.output], operator(step.node)
        weight = _channels_last(layer.steps)
        bias = None if layer.bias is None else torch.from_numpy(layer.bias).float()
        channels = (-1, *[1] * (layer.codes.ndim - 2))
        if not self._codes.gives_codes(step.output):
            unit = torch.from_numpy(layer.unit).view(channels)
            return self._activated(lambda x: function(x, weight, bias).mul_(unit), step)
        grid = self._grids[step.output]
        ratio = torch.from_numpy(layer.unit / grid.scale).view(channels)
        # Codes saturate at the ends of the observed range, which lies within the bounds of the activation.
        return lambda x: _saturated(function(x, weight, bias).mul_(ratio), grid)

    def _mix(self, step: Operation) -> Callable[..., Tensor]:
        """An addition or a mean of codes, to codes of another scale."""
        grid, given = self._grids[step.output], [self._grids[source] for source in step.sources]
        if step.node.op_type == "GlobalAveragePool":
            function, ratio = operator(step.node), float(given[0].scale / grid.scale)
            return lambda x: _saturated(function(x).mul_(ratio), grid)
        if len(given) == 2:
            return _addition(given[0], given[1], grid)
        scale, constant = float(given[0].scale), self._constant(step)
        return lambda a: _saturated((a * scale).add_(constant).div_(float(grid.scale)), grid)

    def _constant(self, step: Operation) -> Tensor:
        (name,) = (name for name in step.node.input if name not in step.sources)
        return self._tensor(name)


def _given(value: Tensor) -> Callable[..., Tensor]:
    """What gives a value that no sample changes."""
    return lambda: value


def _addition(first: CodeGrid, second: CodeGrid, grid: CodeGrid) -> Callable[[Tensor, Tensor], Tensor]:
    """The sum of two codes as a code of a third grid.

    The kernel of ONNX Runtime sums the codes themselves and one constant for all zero points, in float32. Ratios are
    often such that sums lie near the middle of two codes, so the order of its roundings is kept.
    """
    ratio, other = first.scale / grid.scale, second.scale / grid.scale
    zeros = np.float32(float(ratio) * first.zero + float(other * np.float32(second.zero)))
    shift = torch.tensor(np.float32(grid.zero) - zeros)

    def add(a: Tensor, b: Tensor) -> Tensor:
        total = shift.add(b + second.zero, alpha=float(other)).add_(a + first.zero, alpha=float(ratio))
        return total.round_().clamp_(0, LEVELS).sub_(grid.zero)

    return add


def _channels_last(weight: Tensor) -> Tensor:
    return weight.contiguous(memory_format=torch.channels_last) if weight.ndim == 4 else weight


def _coded(name: str) -> str:
    return f"{name}:codes"


def _saturated(x: Tensor, grid: CodeGrid) -> Tensor:
    """Rounds half to even and saturates, in place."""
    return x.round_().clamp_(-grid.zero, LEVELS - grid.zero)
