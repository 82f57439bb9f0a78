"""Kernels that skip zeros, and the loop that runs a list of them: compiled once, one call for many layers.

The weights of a sparse layer are stored in one of several ways. "Rows": for every output channel the non-zero weights,
each with the offset of the plane of inputs that it multiplies; an output is a sum of shifted planes, vectors of
positions at a time. That is a convolution over planes that were written out once (Elsen et al., Fast Sparse ConvNets,
2019, generalised from 1x1), or a linear layer over a batch. "Blocks": for every group of output neurons the inputs that
any of them reads, each with one weight a neuron; a vector of neurons at a time. Groups of one are compressed sparse
rows (CSR). Linear layers have two more: "fours", for N of every four weights, where each neuron of a vector has its own
choice among four inputs; and "look-ups", for shared weights: a byte a weight instead of four, where AVX-512 can look up
a vector at once.

Why one long file: numba keeps what it compiled until the file of a function changes, and looks at no other file. So the
kernels stand beside the loops that are built into them.

Every operation is a row of integers; values, weights and scratch lie in flat arrays and are named by their position.
"""

from collections.abc import Callable, Sequence
from typing import Concatenate, ParamSpec, cast

import llvmlite.binding
import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.base import BaseContext
from numba.core.typing import Signature
from numba.extending import intrinsic

from paretoscope.base.compiled import compiled

# float32 lanes of a vector register.
LANES: int = 16 if llvmlite.binding.get_host_cpu_features().get("avx512f") else 8
# Vectors of positions that are summed at once: as many registers as the narrowest of our machines has to spare; chosen
# by hand, no benchmark.
WIDEST = 8
# Groups of output neurons. Wider ones read fewer indices and multiply more zeros; the best is measured for each layer.
HEIGHTS = (1, 4, 8, 16, 32, 64)
# In place of a height: groups of LANES neurons whose weights are few different values, looked up in a register.
LOOK_UPS = -1
# In place of a height: neurons that choose among four inputs. So many vectors of them share these inputs.
FOURS, CHOOSING = -4, 4
# Floats beyond the end of a value that kernels may read or write: a whole chunk of vectors, or of a group of neurons.
SLACK = WIDEST * 16

CONV, LINEAR, BATCHED, ADD, MAX_POOL, MEAN_POOL, CLAMP = range(7)
FIELDS = 24

Floats = npt.NDArray[np.float32]
Offsets = npt.NDArray[np.uint32]
Integers = npt.NDArray[np.int64]
# The factors of the product that a loop adds at an index, for each of its vectors.
Terms = Callable[[ir.Value], Sequence[tuple[ir.Value, ir.Value]]]
# A signature, and what writes the instructions of a call into a builder.
Intrinsic = tuple[Signature, Callable[[BaseContext, ir.IRBuilder, Signature, Sequence[ir.Value]], ir.Value]]
P = ParamSpec("P")

_I32, _I64, _F32 = ir.IntType(32), ir.IntType(64), ir.FloatType()


def _intrinsic(define: Callable[Concatenate[BaseContext, P], Intrinsic]) -> Callable[P, None]:
    """A function of compiled code that `define` gives for the types of its arguments, literals being types too."""
    return cast(Callable[P, None], intrinsic(prefer_literal=True)(define))


def _accumulate(
    builder: ir.IRBuilder,
    ends: tuple[ir.Value, ir.Value],
    initial: Sequence[ir.Value],
    unroll: int,
    terms: Terms,
) -> list[ir.Value]:
    """A loop k = start, start + unroll, ... < end adds the products terms(k) .. terms(k + unroll - 1) to `initial`.

    Independent sums, `unroll` for each vector, hide the latency of a multiply-add; they are added up at the end.
    """
    start, end = ends
    before = builder.block
    body, after = builder.append_basic_block("multiply"), builder.append_basic_block("sum")
    zero = ir.Constant(initial[0].type, None) if isinstance(initial[0].type, ir.VectorType) else ir.Constant(_F32, 0.0)
    starts = [list(initial), *([zero] * len(initial) for _ in range(unroll - 1))]
    builder.cbranch(builder.icmp_signed("<", start, end), body, after)

    builder.position_at_end(body)
    k = builder.phi(_I64)
    sums = [[builder.phi(value.type) for value in each] for each in starts]
    added = [
        [
            builder.fadd(builder.fmul(a, b, flags=("contract",)), old, flags=("contract",))
            for (a, b), old in zip(terms(builder.add(k, _I64(step))), sums[step], strict=True)
        ]
        for step in range(unroll)
    ]
    following = builder.add(k, _I64(unroll))
    builder.cbranch(builder.icmp_signed("<", following, end), body, after)
    k.add_incoming(start, before)
    k.add_incoming(following, body)
    for olds, froms, news in zip(sums, starts, added, strict=True):
        for old, first, new in zip(olds, froms, news, strict=True):
            old.add_incoming(first, before)
            old.add_incoming(new, body)

    builder.position_at_end(after)
    totals: list[list[ir.Value]] = []
    for froms, news in zip(starts, added, strict=True):
        totals.append([])
        for first, new in zip(froms, news, strict=True):
            total = builder.phi(new.type)
            total.add_incoming(first, before)
            total.add_incoming(new, body)
            totals[-1].append(total)
    while len(totals) > 1:
        pairs = zip(totals[::2], totals[1::2], strict=True)
        totals = [[builder.fadd(a, b) for a, b in zip(*pair, strict=True)] for pair in pairs]
    return totals[0]


def _both(
    builder: ir.IRBuilder, start: ir.Value, end: ir.Value, initial: Sequence[ir.Value], unroll: int, terms: Terms
) -> Sequence[ir.Value]:
    """The loop over whole steps, and one over what is left."""
    whole = builder.add(start, builder.and_(builder.sub(end, start), _I64(-unroll)))
    sums = _accumulate(builder, (start, whole), initial, unroll, terms) if unroll > 1 else initial
    return _accumulate(builder, (whole if unroll > 1 else start, end), sums, 1, terms)


def _pointer(builder: ir.IRBuilder, address: ir.Value, kind: ir.Type) -> ir.Value:
    return builder.inttoptr(address, kind.as_pointer())


def _load(builder: ir.IRBuilder, floats: ir.Value, at: ir.Value, lanes: int) -> ir.Value:
    place = builder.gep(floats, [at])
    if lanes == 1:
        return builder.load(place)
    return builder.load(builder.bitcast(place, ir.VectorType(_F32, lanes).as_pointer()), align=4)


def _store(builder: ir.IRBuilder, value: ir.Value, floats: ir.Value, at: int) -> None:
    place = builder.gep(floats, [_I64(at)])
    builder.store(value, builder.bitcast(place, value.type.as_pointer()), align=4)


def _spread(builder: ir.IRBuilder, value: ir.Value, lanes: int) -> ir.Value:
    if lanes == 1:
        return value
    empty = ir.Constant(ir.VectorType(_F32, lanes), ir.Undefined)
    first = builder.insert_element(empty, value, _I32(0))
    return builder.shuffle_vector(first, empty, ir.Constant(ir.VectorType(_I32, lanes), [0] * lanes))


@_intrinsic
def _sum_of_planes(
    typingctx: BaseContext,
    out: types.Type,
    x: types.Type,
    values: types.Type,
    offsets: types.Type,
    start: types.Type,
    end: types.Type,
    bias: types.Type,
    low: types.Type,
    high: types.Type,
    width: types.Type,
) -> Intrinsic:
    """out[p] = clamp(bias + sum of values[k] * x[offsets[k] + p]), k = start .. end - 1, p < width vectors.

    out, x, values, offsets: addresses; width: a literal.
    """
    vectors = width.literal_value
    unroll = {1: 4, 2: 4, 3: 4, 4: 2, 5: 2, 6: 2, 7: 2}.get(vectors, 1)

    def generate(
        context: BaseContext, builder: ir.IRBuilder, signature: Signature, arguments: Sequence[ir.Value]
    ) -> ir.Value:
        out, x, values, offsets, start, end, bias, low, high, _ = arguments
        out, x, values = (_pointer(builder, each, _F32) for each in (out, x, values))
        offsets = _pointer(builder, offsets, _I32)

        def terms(k: ir.Value) -> list[tuple[ir.Value, ir.Value]]:
            weight = _spread(builder, builder.load(builder.gep(values, [k])), LANES)
            at = builder.zext(builder.load(builder.gep(offsets, [k])), _I64)
            return [(weight, _load(builder, x, builder.add(at, _I64(v * LANES)), LANES)) for v in range(vectors)]

        sums = _both(builder, start, end, [_spread(builder, bias, LANES)] * vectors, unroll, terms)
        low, high = _spread(builder, low, LANES), _spread(builder, high, LANES)
        for v, value in enumerate(sums):
            # Comparisons with NaN are false, so that NaN stays.
            value = builder.select(builder.fcmp_ordered("<", value, low), low, value)
            value = builder.select(builder.fcmp_ordered(">", value, high), high, value)
            _store(builder, value, out, v * LANES)
        return context.get_dummy_value()

    return types.void(out, x, values, offsets, start, end, bias, low, high, width), generate


@_intrinsic
def _sum_of_columns(
    typingctx: BaseContext,
    out: types.Type,
    x: types.Type,
    values: types.Type,
    indices: types.Type,
    start: types.Type,
    end: types.Type,
    height: types.Type,
) -> Intrinsic:
    """out[r] = sum of values[k * height + r] * x[indices[k]], k = start .. end - 1, r < height; all addresses."""
    rows = height.literal_value
    lanes = min(LANES, rows)
    vectors = rows // lanes
    unroll = {1: 8, 2: 4}.get(vectors, 2) if rows > 1 else 8

    def generate(
        context: BaseContext, builder: ir.IRBuilder, signature: Signature, arguments: Sequence[ir.Value]
    ) -> ir.Value:
        out, x, values, indices, start, end, _ = arguments
        out, x, values = (_pointer(builder, each, _F32) for each in (out, x, values))
        indices = _pointer(builder, indices, _I32)

        def terms(k: ir.Value) -> list[tuple[ir.Value, ir.Value]]:
            at = builder.zext(builder.load(builder.gep(indices, [k])), _I64)
            column = _spread(builder, builder.load(builder.gep(x, [at])), lanes)
            first = builder.mul(k, _I64(rows))
            return [
                (_load(builder, values, builder.add(first, _I64(v * lanes)), lanes), column) for v in range(vectors)
            ]

        zero = ir.Constant(ir.VectorType(_F32, lanes), None) if lanes > 1 else ir.Constant(_F32, 0.0)
        for v, value in enumerate(_both(builder, start, end, [zero] * vectors, unroll, terms)):
            _store(builder, value, out, v * lanes)
        return context.get_dummy_value()

    return types.void(out, x, values, indices, start, end, height), generate


@_intrinsic
def _sum_of_look_ups(
    typingctx: BaseContext,
    out: types.Type,
    x: types.Type,
    values: types.Type,
    indices: types.Type,
    start: types.Type,
    end: types.Type,
) -> Intrinsic:
    """out[r] = sum of table[codes[k * 16 + r]] * x[indices[k]], k = start .. end - 1, r < 16; all addresses.

    values: the table, 16 floats, and the codes, a byte each.
    """

    def generate(
        context: BaseContext, builder: ir.IRBuilder, signature: Signature, arguments: Sequence[ir.Value]
    ) -> ir.Value:
        out, x, values, indices, start, end = arguments
        codes = _pointer(builder, builder.add(values, _I64(64)), ir.IntType(8))
        out, x, values = (_pointer(builder, each, _F32) for each in (out, x, values))
        indices = _pointer(builder, indices, _I32)
        floats, places = ir.VectorType(_F32, 16), ir.VectorType(_I32, 16)
        permute = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(floats, [floats, places]), "llvm.x86.avx512.permvar.sf.512"
        )
        table = _load(builder, values, _I64(0), 16)

        def terms(k: ir.Value) -> list[tuple[ir.Value, ir.Value]]:
            at = builder.zext(builder.load(builder.gep(indices, [k])), _I64)
            place = builder.gep(codes, [builder.mul(k, _I64(16))])
            found = builder.load(builder.bitcast(place, ir.VectorType(ir.IntType(8), 16).as_pointer()), align=1)
            looked_up = builder.call(permute, [table, builder.zext(found, places)])
            return [(looked_up, _spread(builder, builder.load(builder.gep(x, [at])), 16))]

        (total,) = _both(builder, start, end, [ir.Constant(floats, None)], 8, terms)
        _store(builder, total, out, 0)
        return context.get_dummy_value()

    return types.void(out, x, values, indices, start, end), generate


@_intrinsic
def _sum_of_fours(
    typingctx: BaseContext,
    out: types.Type,
    x: types.Type,
    values: types.Type,
    choices: types.Type,
    start: types.Type,
    end: types.Type,
) -> Intrinsic:
    """out[v, r] = sum of values[k, v, r] * x[base + choice], k = start .. end - 1, v < CHOOSING, r < LANES; addresses.

    choices[k] are CHOOSING + 1 words: the base, and for each vector its neurons' choices, r's in bits r and 16 + r.
    """

    def generate(
        context: BaseContext, builder: ir.IRBuilder, signature: Signature, arguments: Sequence[ir.Value]
    ) -> ir.Value:
        out, x, values, choices, start, end = arguments
        out, x, values = (_pointer(builder, each, _F32) for each in (out, x, values))
        choices = _pointer(builder, choices, _I32)
        bits, mask = ir.IntType(LANES), ir.VectorType(ir.IntType(1), LANES)

        def terms(k: ir.Value) -> list[tuple[ir.Value, ir.Value]]:
            at = builder.mul(k, _I64(CHOOSING + 1))
            base = builder.zext(builder.load(builder.gep(choices, [at])), _I64)
            inputs = [
                _spread(builder, builder.load(builder.gep(x, [builder.add(base, _I64(i))])), LANES) for i in range(4)
            ]
            found = []
            for v in range(CHOOSING):
                word = builder.load(builder.gep(choices, [builder.add(at, _I64(1 + v))]))
                low = builder.bitcast(builder.trunc(word, bits), mask)
                high = builder.bitcast(builder.trunc(builder.lshr(word, _I32(16)), bits), mask)
                chosen = builder.select(
                    high, builder.select(low, inputs[3], inputs[2]), builder.select(low, inputs[1], inputs[0])
                )
                first = builder.add(builder.mul(k, _I64(CHOOSING * LANES)), _I64(v * LANES))
                found.append((_load(builder, values, first, LANES), chosen))
            return found

        zero = ir.Constant(ir.VectorType(_F32, LANES), None)
        for v, total in enumerate(_both(builder, start, end, [zero] * CHOOSING, 2, terms)):
            _store(builder, total, out, v * LANES)
        return context.get_dummy_value()

    return types.void(out, x, values, choices, start, end), generate


@_intrinsic
def _copy(
    typingctx: BaseContext,
    target: types.Type,
    source: types.Type,
    count: types.Type,
    step: types.Type,
    larger: types.Type,
) -> Intrinsic:
    """target[i] = source[i * step] for i < count; addresses, a positive count, and a literal step of 1 or 2.

    larger: a literal; 1 leaves what is in the target where it is the larger, NaN being larger than all.
    Whole vectors, the last one masked: lines are short, and a call of memcpy for each takes longer than the copy.
    """
    stride, only_larger = step.literal_value, larger.literal_value

    def generate(
        context: BaseContext, builder: ir.IRBuilder, signature: Signature, arguments: Sequence[ir.Value]
    ) -> ir.Value:
        target, source, count, _, _ = arguments
        target, source = _pointer(builder, target, _F32), _pointer(builder, source, _F32)
        vector = ir.VectorType(_F32, LANES)
        lanes = ir.Constant(ir.VectorType(_I64, LANES), list(range(LANES)))
        mask = ir.VectorType(ir.IntType(1), LANES)
        store = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(ir.VoidType(), [vector, vector.as_pointer(), _I32, mask]),
            f"llvm.masked.store.v{LANES}f32.p0",
        )
        before, body, after = builder.block, builder.append_basic_block("copy"), builder.append_basic_block("copied")
        builder.branch(body)
        builder.position_at_end(body)
        i = builder.phi(_I64)
        value = _load(builder, source, builder.mul(i, _I64(stride)), LANES)
        if stride == 2:
            rest = _load(builder, source, builder.add(builder.mul(i, _I64(2)), _I64(LANES)), LANES)
            even = ir.Constant(ir.VectorType(_I32, LANES), list(range(0, 2 * LANES, 2)))
            value = builder.shuffle_vector(value, rest, even)
        left = builder.sub(count, i)
        spread = ir.Constant(ir.VectorType(_I64, LANES), ir.Undefined)
        spread = builder.shuffle_vector(
            builder.insert_element(spread, left, _I32(0)), spread, ir.Constant(ir.VectorType(_I32, LANES), [0] * LANES)
        )
        place = builder.bitcast(builder.gep(target, [i]), vector.as_pointer())
        if only_larger:
            old = builder.load(place, align=4)
            taken = builder.or_(builder.fcmp_ordered(">", value, old), builder.fcmp_unordered("uno", value, value))
            value = builder.select(taken, value, old)
        builder.call(store, [value, place, _I32(4), builder.icmp_signed("<", lanes, spread)])
        following = builder.add(i, _I64(LANES))
        i.add_incoming(_I64(0), before)
        i.add_incoming(following, body)
        builder.cbranch(builder.icmp_signed("<", following, count), body, after)
        builder.position_at_end(after)
        return context.get_dummy_value()

    return types.void(target, source, count, step, larger), generate


@compiled(error_model="numpy")
def _rows(
    work: Floats,
    weights: Floats,
    offsets: Offsets,
    pointers: Integers,
    x_at: int,
    out_at: int,
    stride: int,
    positions: int,
    rows: int,
    ptr_at: int,
    val_at: int,
    off_at: int,
    bias_at: int,
) -> None:
    """The kernel of rows. out[r * stride + p] for r < rows and p < positions, or up to a vector more.

    weights[bias_at:]: the biases, then the least and the largest output. The last, incomplete chunk of positions comes
    first, so that what it writes beyond its row is overwritten by the next row's.
    """
    work_address, values = work.ctypes.data, weights.ctypes.data + 4 * val_at
    indices = offsets.ctypes.data + 4 * off_at
    low, high = weights[bias_at + rows], weights[bias_at + rows + 1]
    vectors = (positions + LANES - 1) // LANES
    width = vectors % WIDEST
    first = vectors - width
    while first >= 0:
        if width > 0:
            x = work_address + 4 * (x_at + first * LANES)
            for row in range(rows):
                start, end = pointers[ptr_at + row], pointers[ptr_at + row + 1]
                out = work_address + 4 * (out_at + row * stride + first * LANES)
                bias = weights[bias_at + row]
                if width == 8:
                    _sum_of_planes(out, x, values, indices, start, end, bias, low, high, 8)
                elif width == 7:
                    _sum_of_planes(out, x, values, indices, start, end, bias, low, high, 7)
                elif width == 6:
                    _sum_of_planes(out, x, values, indices, start, end, bias, low, high, 6)
                elif width == 5:
                    _sum_of_planes(out, x, values, indices, start, end, bias, low, high, 5)
                elif width == 4:
                    _sum_of_planes(out, x, values, indices, start, end, bias, low, high, 4)
                elif width == 3:
                    _sum_of_planes(out, x, values, indices, start, end, bias, low, high, 3)
                elif width == 2:
                    _sum_of_planes(out, x, values, indices, start, end, bias, low, high, 2)
                else:
                    _sum_of_planes(out, x, values, indices, start, end, bias, low, high, 1)
        width = WIDEST
        first -= WIDEST


@compiled(error_model="numpy")
def _spread_out(work: Floats, src: int, dst: int, op: Integers) -> None:
    """Write the planes of an image as `_conv` reads them, one for each channel, phase of the stride and kernel column.

    plane[i, j] = image[channel, i * stride + phase - pad_h, j * stride + column * dilation - pad_w]; what lies outside
    of the image is zero from the start.
    """
    height, width, stride, pad_h, pad_w = op[4], op[5], op[6], op[7], op[8]
    plane_h, phases, columns, dilation, out_w = op[9], op[10], op[11], op[12], op[16]
    base = work.ctypes.data
    for channel in range(op[3]):
        for phase in range(phases):
            top = max(0, (pad_h - phase + stride - 1) // stride)
            bottom = min(plane_h, (height + pad_h - phase + stride - 1) // stride)
            for column in range(columns):
                shift = column * dilation - pad_w
                left = max(0, (stride - 1 - shift) // stride)
                count = min(out_w, (width - shift + stride - 1) // stride) - left
                plane = dst + ((channel * phases + phase) * columns + column) * plane_h * out_w
                if count <= 0:
                    continue
                for i in range(top, bottom):
                    target = plane + i * out_w + left
                    source = src + (channel * height + i * stride + phase - pad_h) * width + left * stride + shift
                    if stride == 1:
                        _copy(base + 4 * target, base + 4 * source, count, 1, 0)
                    elif stride == 2:
                        _copy(base + 4 * target, base + 4 * source, count, 2, 0)
                    else:
                        for j in range(count):
                            work[target + j] = work[source + j * stride]


@compiled(error_model="numpy")
def _conv(op: Integers, n: int, work: Floats, weights: Floats, offsets: Offsets, pointers: Integers) -> None:
    """op: code, src, dst, C, H, W, stride, pad_h, pad_w, plane_h, phases, kernel_w, dilation_w, planes, O, OH, OW, ptr,
    val, off, bias. planes: scratch for one image, or -1 where the image itself can be read.
    """
    floats, rows, positions = op[3] * op[4] * op[5], op[14], op[15] * op[16]
    for image in range(n):
        at, out = op[1] + image * floats, op[2] + image * rows * positions
        if op[13] >= 0:
            _spread_out(work, at, op[13], op)
            at = op[13]
        _rows(work, weights, offsets, pointers, at, out, positions, positions, rows, op[17], op[18], op[19], op[20])


if LANES == 16:

    @compiled(error_model="numpy")
    def _look_ups(out: int, x: int, values: int, indices: int, start: int, end: int) -> None:
        _sum_of_look_ups(out, x, values, indices, start, end)

else:

    @compiled(error_model="numpy")
    def _look_ups(out: int, x: int, values: int, indices: int, start: int, end: int) -> None:
        """Never called: no layer is packed for it."""


@compiled(error_model="numpy")
def _linear(op: Integers, n: int, work: Floats, weights: Floats, offsets: Offsets, pointers: Integers) -> None:
    """op: code, src, dst, rows an image, I, O, height, groups, ptr, val, off, bias: the kernel of blocks, by sample."""
    inputs, outputs, height, groups, bias = op[4], op[5], op[6], op[7], op[11]
    base, values, indices = work.ctypes.data, weights.ctypes.data + 4 * op[9], offsets.ctypes.data + 4 * op[10]
    low, high = weights[bias + outputs], weights[bias + outputs + 1]
    for sample in range(n * op[3]):
        x, y = base + 4 * (op[1] + sample * inputs), op[2] + sample * outputs
        for group in range(groups):
            start, end = pointers[op[8] + group], pointers[op[8] + group + 1]
            if height == FOURS:
                _sum_of_fours(base + 4 * (y + group * CHOOSING * LANES), x, values, indices, start, end)
                continue
            if height == LOOK_UPS:
                _look_ups(base + 4 * (y + group * LANES), x, values, indices, start, end)
                continue
            out = base + 4 * (y + group * height)
            if height == 1:
                _sum_of_columns(out, x, values, indices, start, end, 1)
            elif height == 4:
                _sum_of_columns(out, x, values, indices, start, end, 4)
            elif height == 8:
                _sum_of_columns(out, x, values, indices, start, end, 8)
            elif height == 16:
                _sum_of_columns(out, x, values, indices, start, end, 16)
            elif height == 32:
                _sum_of_columns(out, x, values, indices, start, end, 32)
            else:
                _sum_of_columns(out, x, values, indices, start, end, 64)
        for output in range(outputs):
            value = work[y + output] + weights[bias + output]
            value = low if value < low else value
            work[y + output] = high if value > high else value


@compiled(error_model="numpy")
def _transpose(work: Floats, src: int, src_stride: int, dst: int, dst_stride: int, rows: int, columns: int) -> None:
    """work[dst + j * dst_stride + i] = work[src + i * src_stride + j]; unsigned, so that no index is checked."""
    source, target, a, b = np.uint64(src), np.uint64(dst), np.uint64(src_stride), np.uint64(dst_stride)
    for j in range(np.uint64(columns)):
        for i in range(np.uint64(rows)):
            work[target + j * b + i] = work[source + i * a + j]


@compiled(error_model="numpy")
def _batched(op: Integers, n: int, work: Floats, weights: Floats, offsets: Offsets, pointers: Integers) -> None:
    """op: code, src, dst, rows an image, I, O, x, y, stride, ptr, val, off, bias: rows, for a linear layer.

    x, y: scratch for the transposes, of rows of `stride` samples.
    """
    samples, inputs, outputs, stride = n * op[3], op[4], op[5], op[8]
    _transpose(work, op[1], inputs, op[6], stride, samples, inputs)
    _rows(work, weights, offsets, pointers, op[6], op[7], stride, samples, outputs, op[9], op[10], op[11], op[12])
    _transpose(work, op[7], stride, op[2], outputs, outputs, samples)


@compiled(error_model="numpy")
def _add(op: Integers, n: int, work: Floats, weights: Floats) -> None:
    """op: code, a, b, dst, floats an image, bounds."""
    low, high = weights[op[5]], weights[op[5] + 1]
    count = n * op[4]
    a, b, out = work[op[1] : op[1] + count], work[op[2] : op[2] + count], work[op[3] : op[3] + count]
    for i in range(count):
        value = a[i] + b[i]
        value = low if value < low else value
        out[i] = high if value > high else value


@compiled(error_model="numpy")
def _clamp(op: Integers, n: int, work: Floats, weights: Floats) -> None:
    """op: code, src, dst, floats an image, bounds."""
    low, high = weights[op[4]], weights[op[4] + 1]
    count = n * op[3]
    x, out = work[op[1] : op[1] + count], work[op[2] : op[2] + count]
    for i in range(count):
        value = low if x[i] < low else x[i]
        out[i] = high if value > high else value


@compiled(error_model="numpy")
def _max_pool(op: Integers, n: int, work: Floats) -> None:
    """op: code, src, dst, C, H, W, OH, OW, kernel_h, kernel_w, stride_h, stride_w; no padding."""
    height, width, out_h, out_w, stride = op[4], op[5], op[6], op[7], op[11]
    base = work.ctypes.data
    for plane in range(n * op[3]):
        for i in range(out_h):
            out = op[2] + (plane * out_h + i) * out_w
            for a in range(op[8]):
                for b in range(op[9]):
                    line = op[1] + (plane * height + i * op[10] + a) * width + b
                    first = a == 0 and b == 0
                    if stride == 1 and first:
                        _copy(base + 4 * out, base + 4 * line, out_w, 1, 0)
                    elif stride == 1:
                        _copy(base + 4 * out, base + 4 * line, out_w, 1, 1)
                    elif stride == 2 and first:
                        _copy(base + 4 * out, base + 4 * line, out_w, 2, 0)
                    elif stride == 2:
                        _copy(base + 4 * out, base + 4 * line, out_w, 2, 1)
                    else:
                        for j in range(out_w):
                            value = work[line + j * stride]
                            if first or value > work[out + j] or value != value:
                                work[out + j] = value


@compiled(error_model="numpy", fastmath={"reassoc"})
def _mean_pool(op: Integers, n: int, work: Floats) -> None:
    """op: code, src, dst, C, positions."""
    positions = op[4]
    for plane in range(n * op[3]):
        at = op[1] + plane * positions
        values = work[at : at + positions]
        total = values[0] - values[0]
        for i in range(positions):
            total += values[i]
        work[op[2] + plane] = total / positions


@compiled(error_model="numpy")
def run(ops: Integers, n: int, work: Floats, weights: Floats, offsets: Offsets, pointers: Integers) -> None:
    """Run operations for n images. ops: int64 (operations, FIELDS), as the functions above describe them.

    work, weights: float32; offsets: uint32; pointers: int64. Positions of values and scratch are those in `work`.
    """
    for i in range(len(ops)):
        op = ops[i]
        code = op[0]
        if code == CONV:
            _conv(op, n, work, weights, offsets, pointers)
        elif code == LINEAR:
            _linear(op, n, work, weights, offsets, pointers)
        elif code == BATCHED:
            _batched(op, n, work, weights, offsets, pointers)
        elif code == ADD:
            _add(op, n, work, weights)
        elif code == MAX_POOL:
            _max_pool(op, n, work)
        elif code == MEAN_POOL:
            _mean_pool(op, n, work)
        else:
            _clamp(op, n, work, weights)
