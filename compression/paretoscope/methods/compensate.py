"""Rounding with error compensation: each column of a layer's weights makes good the rounding errors of those before
(Frantar et al. 2022, GPTQ, after OBQ of Frantar and Alistarh 2022; masks as in Frantar and Alistarh 2023, SparseGPT).

A layer's squared output error is `tr((W - Q) H (W - Q)^T)`, H being the second moments of its inputs. With `H = R R^T`,
R upper triangular, the error of a row e = w - q is `|e R|^2`, whose term i holds the columns up to i only:

    (e R)_i = R_ii (w_i + sum_{j < i} e_j R_ji / R_ii - q_i)

so that, going from left to right, q_i is the allowed value nearest to w_i plus that sum. GPTQ's updates by the Cholesky
factor of the inverse of H, which is `R^-1`, come to the same codes; this form needs no inverse.

The last columns have no others left to make good their errors. Sweeps of coordinate descent follow, in which each
weight moves to the value that is best given all others of its row (Behdin et al. 2023, QuantEase).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from paretoscope.base.compiled import compiled
from paretoscope.base.errors import ModelError

# Columns whose errors are fed back one by one; those of earlier blocks come in one matrix product. Chosen by hand; no
# benchmark.
BLOCK = 64
# Sweeps mostly end by themselves before that: chosen by hand, no benchmark.
SWEEPS = 10
# Part of the mean second moment that is added to the diagonal: python -m benchmarks.constants.
DAMPING = 0.01


@dataclass(frozen=True, eq=False, slots=True)
class EvenGrid:
    """Evenly spaced values `(code - zero) * scale`, codes low..high.

    scale: float32, shape () or (rows,). zero: integers of that shape, or None for all 0.
    """

    scale: np.ndarray
    low: int
    high: int
    zero: np.ndarray | None = None


@dataclass(frozen=True, eq=False, slots=True)
class Entries:
    """The values of a codebook, float32 (k,), or (rows, k) for one codebook a row, ascending; k may be 0.

    Symbol j >= 1 is value j - 1; symbol 0 is zero, for weights that are not kept only.
    """

    values: np.ndarray


def round_with_compensation(
    weight: np.ndarray,
    hessian: np.ndarray,
    kept: np.ndarray | None,
    grid: EvenGrid | Entries,
    damping: float = DAMPING,
    sweeps: int = SWEEPS,
) -> np.ndarray:
    """Round a weight to a grid so that the layer's output changes little, rather than each weight.

    Columns are taken in the order of decreasing second moments: errors in the first have the most others to mend them.

    weight: float32 (rows, ...), first axis the output channel; where it is given as it was before pruning, what pruning
    takes away is compensated too. hessian: float64 (groups, columns, columns), see `input_moments.hessians`, the rows
    divided evenly among the groups. kept: bool of the weight's shape, False where a weight stays zero, or None.
    damping: part of the mean second moment that is added to the diagonal. sweeps: of coordinate descent, at most.
    Returns codes of the weight's shape: for EvenGrid int8 or int16, the zero point where not kept; for Entries symbols,
    uint8 or uint16. Inputs that are always zero get plain rounding. Raises ModelError for shapes that do not fit
    or a Hessian that is not finite.
    """
    rows = weight.reshape(len(weight), -1).astype(np.float64)
    groups = len(hessian)
    if hessian.shape[1:] != (rows.shape[1],) * 2 or len(rows) % groups:
        raise ModelError(
            f"a Hessian must be (groups, {rows.shape[1]}, {rows.shape[1]}) with groups dividing {len(rows)}; "
            f"got {hessian.shape}. Compute it for this layer."
        )
    if not np.isfinite(hessian).all():
        raise ModelError("a Hessian must be finite; this one is not. Check the weights and the calibration images.")
    mask = np.ones(rows.shape, bool) if kept is None else np.ascontiguousarray(kept).reshape(rows.shape)
    codes = np.empty(rows.shape, np.int32)
    allowed = _Allowed.of(grid, len(rows))
    size = len(rows) // groups
    for group in range(groups):
        part = slice(group * size, (group + 1) * size)
        codes[part] = _round(rows[part], hessian[group], mask[part], allowed.rows(part), damping, sweeps)
    return codes.reshape(weight.shape).astype(allowed.kind)


# Scale, zero, low, high and entries of some rows, as the compiled loops take them.
_Rows = tuple[np.ndarray, np.ndarray, int, int, np.ndarray]


@dataclass(frozen=True, eq=False, slots=True)
class _Allowed:
    """A grid row by row, as the compiled loops take it: entries (rows, k) where k > 0, else evenly spaced values."""

    scale: np.ndarray
    zero: np.ndarray
    low: int
    high: int
    entries: np.ndarray
    kind: type[np.signedinteger[Any] | np.unsignedinteger[Any]]

    @classmethod
    def of(cls, grid: EvenGrid | Entries, rows: int) -> "_Allowed":
        def each(values: Any, kind: type, *shape: int) -> np.ndarray:
            return np.array(np.broadcast_to(values, (rows, *shape)), kind, order="C")

        if isinstance(grid, EvenGrid):
            kind: type[np.signedinteger[Any] | np.unsignedinteger[Any]] = (
                np.int8 if grid.low >= -128 and grid.high <= 127 else np.int16
            )
            zero = each(0 if grid.zero is None else grid.zero, np.int32)
            return cls(each(grid.scale, np.float32), zero, grid.low, grid.high, np.empty((rows, 0), np.float32), kind)
        count = grid.values.shape[-1]
        kind = np.uint8 if count <= 255 else np.uint16
        # Without entries every code is 0, which is what steps from 0 to 0 give.
        return cls(each(1, np.float32), each(0, np.int32), 0, 0, each(grid.values, np.float32, count), kind)

    def rows(self, part: slice) -> _Rows:
        return self.scale[part], self.zero[part], self.low, self.high, self.entries[part]


def _round(
    weight: np.ndarray, hessian: np.ndarray, kept: np.ndarray, allowed: _Rows, damping: float, sweeps: int
) -> np.ndarray:
    order = np.argsort(-np.diagonal(hessian), kind="stable")
    weight, kept = weight[:, order], kept[:, order]
    hessian, feedback, _ = factorised(hessian[np.ix_(order, order)], damping)
    codes, errors = _compensated(weight, feedback, kept, allowed)
    _descend(weight, hessian, errors @ hessian, kept, *allowed, codes, errors, sweeps)
    result = np.empty_like(codes)
    result[:, order] = codes
    return result


def factorised(hessian: np.ndarray, damping: float = DAMPING) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """H after damping, its mean diagonal near 1; R over its diagonal; that diagonal squared; H = R R^T, R triangular.

    hessian: float64 (columns, columns), is overwritten. damping: part of the mean second moment of live inputs.
    """
    # The Cholesky factor of H in reversed order is R in reversed order.
    diagonal = np.einsum("ii->i", hessian)
    live = diagonal > 0
    if live.any():
        hessian /= diagonal[live].mean()
    diagonal += damping
    while True:
        try:
            factor = np.linalg.cholesky(hessian[::-1, ::-1])[::-1, ::-1]
            return hessian, factor / np.diagonal(factor), np.diagonal(factor) ** 2
        except np.linalg.LinAlgError:
            # Rounding can take a singular matrix below zero: more damping ends that.
            damping = max(10 * damping, 1e-8)
            diagonal += damping


def _compensated(
    weight: np.ndarray, feedback: np.ndarray, kept: np.ndarray, allowed: _Rows
) -> tuple[np.ndarray, np.ndarray]:
    codes = np.empty(weight.shape, np.int32)
    errors = np.empty(weight.shape)
    for start in range(0, weight.shape[1], BLOCK):
        block = slice(start, start + BLOCK)
        targets = weight[:, block] + errors[:, :start] @ feedback[:start, block]
        corner = np.ascontiguousarray(feedback[block, block])
        _round_block(start, weight, targets, corner, kept, *allowed, codes, errors)
    return codes, errors


@compiled()
def _round_block(
    start: int,
    weight: np.ndarray,
    targets: np.ndarray,
    feedback: np.ndarray,
    kept: np.ndarray,
    scale: np.ndarray,
    zero: np.ndarray,
    low: int,
    high: int,
    entries: np.ndarray,
    codes: np.ndarray,
    errors: np.ndarray,
) -> None:
    for row in range(len(weight)):
        for i in range(targets.shape[1]):
            column = start + i
            if not kept[row, column]:
                codes[row, column] = zero[row]
                errors[row, column] = weight[row, column]
                continue
            target = targets[row, i]
            for before in range(i):
                target += errors[row, start + before] * feedback[before, i]
            code, value = _nearest(target, scale[row], zero[row], low, high, entries[row])
            codes[row, column] = code
            errors[row, column] = weight[row, column] - value


@compiled()
def _descend(
    weight: np.ndarray,
    hessian: np.ndarray,
    slopes: np.ndarray,
    kept: np.ndarray,
    scale: np.ndarray,
    zero: np.ndarray,
    low: int,
    high: int,
    entries: np.ndarray,
    codes: np.ndarray,
    errors: np.ndarray,
    sweeps: int,
) -> None:
    """slopes: errors @ hessian; they, the codes and the errors are updated."""
    columns = weight.shape[1]
    for row in range(len(weight)):
        for _ in range(sweeps):
            moved = False
            for column in range(columns):
                if not kept[row, column]:
                    continue
                value = weight[row, column] - errors[row, column]
                target = value + slopes[row, column] / hessian[column, column]
                code, value = _nearest(target, scale[row], zero[row], low, high, entries[row])
                if code == codes[row, column]:
                    continue
                change = weight[row, column] - value - errors[row, column]
                codes[row, column] = code
                errors[row, column] += change
                for other in range(columns):
                    slopes[row, other] += change * hessian[column, other]
                moved = True
            if not moved:
                break


@compiled()
def _nearest(
    target: float, scale: np.float32, zero: int, low: int, high: int, entries: np.ndarray
) -> tuple[int, np.float64]:
    """Code and value of what is allowed and nearest; of two entries as near, the lower one."""
    if len(entries) == 0:
        # In float32, as plain rounding does it, so that both agree on what lies near a middle.
        step = np.rint(np.float32(target) / scale)
        code = int(min(max(step + zero, low), high))
        return code, np.float64(np.float32(code - zero) * scale)
    first, last = 0, len(entries) - 1
    while first < last:
        middle = (first + last) // 2
        if (np.float64(entries[middle]) + np.float64(entries[middle + 1])) / 2 < target:
            first = middle + 1
        else:
            last = middle
    return first + 1, np.float64(entries[first])
