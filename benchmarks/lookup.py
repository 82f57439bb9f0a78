"""Shared weights through look-ups against the same kernels with float values: is a byte a weight worth an indirection?

    python -m benchmarks.lookup [--budget S]

Kernels of the sparse runtime, float32 sums, one thread: "rows" is compressed sparse rows; "blocks" multiplies 16
outputs at a time and is pruned in such blocks. Values are float32, or uint8 indices into a codebook: of 16 entries,
which fit a vector register (with AVX-512, a permutation looks up 16 at once), or of 256, which lie in a cache. Layers:
one of 4096 x 4096 at 90 % zeros, bound by the bytes that it reads, and the first of lenet-300-100 at 95 %. Ratios are
of interleaved pairs, float / look-up: above 1 look-ups are faster.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import llvmlite.binding
import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic
from paretoscope.measure.interleaved import BUDGET_S, Call, PairedTiming, compare
from paretoscope.runtimes.sparse import kernels

from benchmarks import measured

HEIGHT = 16
CODEBOOKS = (16, 256)
LAYERS = {"4096 x 4096": (4096, 4096, 0.9), "300 x 784": (300, 784, 0.95)}
PERMUTES = bool(llvmlite.binding.get_host_cpu_features().get("avx512f"))

_FLOATS, _CODES = ir.VectorType(ir.FloatType(), HEIGHT), ir.VectorType(ir.IntType(8), HEIGHT)
_PLACES = ir.VectorType(ir.IntType(32), HEIGHT)


@dataclass(frozen=True)
class Layer:
    """values: float32 of the kept weights, in rows or in blocks. codes, codebook: uint8 and float32, the same weights.

    columns: uint32, of each value or block. pointers: int64, the first of each row or group of rows.
    """

    values: np.ndarray
    codes: np.ndarray
    codebook: np.ndarray
    columns: np.ndarray
    pointers: np.ndarray
    weight: np.ndarray

    @property
    def bytes(self) -> tuple[int, int]:
        """Read for one sample, with floats and with codes."""
        shared = self.columns.nbytes + self.pointers.nbytes
        return shared + self.values.nbytes, shared + self.codes.nbytes + self.codebook.nbytes


def layer(rows: int, columns: int, zeros: float, entries: int, blocks: bool, seed: int = 0) -> Layer:
    """A random layer whose weights are `entries` different values; rows are filled up to whole blocks."""
    rng = np.random.default_rng(seed)
    height = HEIGHT if blocks else 1
    groups = -(-rows // height)
    group, column = np.nonzero(rng.random((groups, columns)) >= zeros)
    codebook = rng.standard_normal(entries).astype(np.float32)
    codes = rng.integers(0, entries, (len(group), height), np.uint8)
    weight = np.zeros((groups, height, columns), np.float32)
    weight[group, :, column] = codebook[codes]
    pointers = np.searchsorted(group, np.arange(groups + 1)).astype(np.int64)
    values = codebook[codes].ravel()
    return Layer(values, codes.ravel(), codebook, column.astype(np.uint32), pointers, weight.reshape(-1, columns))


@intrinsic(prefer_literal=True)
def _sum_of_columns(typingctx, out, x, weights, codebook, indices, start, end, height, entries):
    """out[r] = sum of w[k * height + r] * x[indices[k]], k = start .. end - 1, r < height; arrays are addresses.

    height: a literal, 1 or 16. entries: a literal, 0 where w are the float weights; otherwise w are codebook[weights].
    The loop and its independent sums are those of the sparse runtime.
    """
    lanes, count = height.literal_value, entries.literal_value

    def generate(context, builder, signature, arguments):
        out, x, weights, codebook, indices, start, end, *_ = arguments
        out, x, codebook = (kernels._pointer(builder, each, kernels._F32) for each in (out, x, codebook))
        indices = kernels._pointer(builder, indices, kernels._I32)
        weights = kernels._pointer(builder, weights, ir.IntType(8) if count else kernels._F32)
        in_a_register = lanes == HEIGHT == count and PERMUTES
        table = kernels._load(builder, codebook, kernels._I64(0), HEIGHT) if in_a_register else None

        def looked_up(first):
            place = builder.gep(weights, [first])
            if lanes == 1:
                return builder.load(builder.gep(codebook, [builder.zext(builder.load(place), kernels._I64)]))
            codes = builder.load(builder.bitcast(place, _CODES.as_pointer()), align=1)
            if in_a_register:
                permute = ir.FunctionType(_FLOATS, [_FLOATS, _PLACES])
                called = cgutils.get_or_insert_function(builder.module, permute, "llvm.x86.avx512.permvar.sf.512")
                return builder.call(called, [table, builder.zext(codes, _PLACES)])
            gathered = ir.Constant(_FLOATS, ir.Undefined)
            for lane in map(kernels._I32, range(HEIGHT)):
                at = builder.zext(builder.extract_element(codes, lane), kernels._I64)
                gathered = builder.insert_element(gathered, builder.load(builder.gep(codebook, [at])), lane)
            return gathered

        def terms(k):
            at = builder.zext(builder.load(builder.gep(indices, [k])), kernels._I64)
            column = kernels._spread(builder, builder.load(builder.gep(x, [at])), lanes)
            first = builder.mul(k, kernels._I64(lanes))
            return [(looked_up(first) if count else kernels._load(builder, weights, first, lanes), column)]

        zero = ir.Constant(_FLOATS, None) if lanes > 1 else ir.Constant(kernels._F32, 0.0)
        (total,) = kernels._both(builder, start, end, [zero], 8, terms)
        kernels._store(builder, total, out, 0)
        return context.get_dummy_value()

    return types.void(out, x, weights, codebook, indices, start, end, height, entries), generate


def kernel(height: int, entries: int) -> Callable[..., None]:
    """Multiply by a layer: (x, weights, codebook, columns, pointers, out)."""

    @njit(error_model="numpy", nogil=True)
    def multiply(x, weights, codebook, columns, pointers, out):
        inputs, values, table, indices = x.ctypes.data, weights.ctypes.data, codebook.ctypes.data, columns.ctypes.data
        for group in range(len(pointers) - 1):
            to = out.ctypes.data + 4 * height * group
            _sum_of_columns(to, inputs, values, table, indices, pointers[group], pointers[group + 1], height, entries)

    return multiply


def main() -> None:
    asked = measured.parser(__doc__)
    asked.add_argument("--budget", type=float, default=BUDGET_S, help="seconds a comparison")
    options = asked.parse_args()
    size, us = "{:,}", "{:.4g}"
    table = measured.Table(
        measured.columns(
            "layer",
            "form",
            "entries",
            ("float bytes", size),
            ("look-up bytes", size),
            ("float us", us),
            ("look-up us", us),
            ("float / look-up, 95 %", measured.INTERVAL),
        )
    )
    for name, (rows, columns, zeros) in LAYERS.items():
        for blocks in (False, True):
            for entries in CODEBOOKS:
                one = layer(rows, columns, zeros, entries, blocks)
                found = measure(one, blocks, options.budget)
                table.add(
                    f"{name}, {zeros:.0%} zeros",
                    f"blocks of {HEIGHT}" if blocks else "rows",
                    entries,
                    *one.bytes,
                    1e3 * found.baseline_median_ms,
                    1e3 * found.median_ms,
                    (found.speedup, found.speedup_low, found.speedup_high),
                )
    measured.keep("lookup", [table], options)


def measure(one: Layer, blocks: bool, budget_s: float) -> PairedTiming:
    """Look-ups against floats, after both were found to give the same sums as a dense product."""
    x = np.random.default_rng(1).standard_normal(one.weight.shape[1]).astype(np.float32)
    height = HEIGHT if blocks else 1
    look_up, multiply = kernel(height, len(one.codebook)), kernel(height, 0)
    sums = [np.empty(len(one.weight), np.float32) for _ in range(2)]
    sides: list[Call] = [
        lambda: look_up(x, one.codes, one.codebook, one.columns, one.pointers, sums[0]),
        lambda: multiply(x, one.values, one.codebook, one.columns, one.pointers, sums[1]),
    ]
    expected = one.weight.astype(np.float64) @ x
    for side, found in zip(sides, sums, strict=True):
        side()
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)
    return compare(*(_loader(side) for side in sides), budget_s=budget_s)


def _loader(call: Call) -> Callable[[], object]:
    @contextmanager
    def loaded() -> Iterator[Call]:
        yield call

    return loaded


if __name__ == "__main__":
    main()
