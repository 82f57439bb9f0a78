"""A bound on the error of a row of weights: never more than if all its weights were zero.

Rounding to the nearest value of a grid that has a zero is so, weight by weight. Error compensation (`compensate`) is
not: its first columns count on the others, and signs times a magnitude have no zero; nor are weights that move to
another group of a codebook. A row of weights w coded as q costs `(w - q) H (w - q)^T`, more than `w H w^T` where
`2 w H q < q H q`; the scale of least cost is then `w H q / q H q` times as large, or 0, where q points away from w.
"""

from dataclasses import replace
from typing import TypeVar

import numpy as np

from paretoscope.methods.compensate import DAMPING
from paretoscope.model.tensors import Codebook, Integers, Plain

T = TypeVar("T", bound=Integers | Codebook)

# Slack for rounding errors of sums: chosen by hand, no benchmark.
_SLACK = 1e-9


def bounded(weight: np.ndarray, tensor: T, hessian: np.ndarray | None) -> T:
    """The tensor with smaller scales, or entries, where it costs more than zeros do.

    weight: float32 (rows, ...). hessian: float64 (groups, columns, columns), damped here as error compensation does;
    None where every weight counts alike.
    """
    along, energy = _products(weight, tensor.decode(), hessian)
    if not (isinstance(tensor, Integers) and tensor.scale.ndim):
        along, energy = along.sum(keepdims=True), energy.sum(keepdims=True)
    worse = 2 * along < energy * (1 - _SLACK)
    if not worse.any():
        return tensor
    factor = np.divide(np.maximum(along, 0.0), energy, out=np.ones(len(energy)), where=worse)
    if isinstance(tensor, Integers):
        return replace(tensor, scale=_scaled(tensor.scale, factor, powers=tensor.bits == 1))
    entries = tensor.entries
    if isinstance(entries, Plain):
        return replace(tensor, entries=Plain((entries.values * factor).astype(np.float32)))
    return replace(tensor, entries=replace(entries, scale=_scaled(entries.scale, factor, powers=entries.bits == 1)))


def _products(weight: np.ndarray, decoded: np.ndarray, hessian: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """w H q and q H q of each row, q being the decoded weights: float64 (rows,) each."""
    groups = 1 if hessian is None else len(hessian)
    w, q = (each.reshape(groups, len(weight) // groups, -1).astype(np.float64) for each in (weight, decoded))
    if hessian is None:
        return (w[0] * q[0]).sum(axis=1), (q[0] * q[0]).sum(axis=1)
    diagonal = np.einsum("gii->gi", hessian)
    live = np.maximum(np.count_nonzero(diagonal, axis=1), 1)
    seen = q @ hessian + q * (DAMPING * diagonal.sum(axis=1) / live)[:, None, None]
    return (w * seen).sum(axis=2).reshape(-1), (q * seen).sum(axis=2).reshape(-1)


def _scaled(scale: np.ndarray, factor: np.ndarray, *, powers: bool) -> np.ndarray:
    """Scales times factors, float32. powers: whether scales that are powers of two stay so."""
    if powers and (np.frexp(scale[scale > 0])[0] == 0.5).all():
        factor = np.where(factor > 0, np.exp2(np.floor(np.log2(np.where(factor > 0, factor, 1)))), 0)
    return np.asarray(scale * factor.reshape(scale.shape), np.float32)
