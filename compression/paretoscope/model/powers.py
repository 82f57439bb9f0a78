"""Scales that are powers of the 32nd root of two, as whole numbers: steps 2.2 % apart, a byte or less each in a file.

The scale 2**(i / 32) is the float32 of exponent floor(i / 32) and one of 32 mantissas, each the nearest float32 to
2**(j / 32); nothing is computed when one is read, so that it is the same float on any machine.
"""

import numpy as np

# Bits of the mantissas of the float32 nearest to 2**(j / 32), j = 0..31.
MANTISSAS = np.array(
    [
        *(0x000000, 0x02CD87, 0x05AAC3, 0x08980F, 0x0B95C2, 0x0EA43A, 0x11C3D3, 0x14F4F0),
        *(0x1837F0, 0x1B8D3A, 0x1EF532, 0x227043, 0x25FED7, 0x29A15B, 0x2D583F, 0x3123F6),
        *(0x3504F3, 0x38FBAF, 0x3D08A4, 0x412C4D, 0x45672A, 0x49B9BE, 0x4E248C, 0x52A81E),
        *(0x5744FD, 0x5BFBB8, 0x60CCDF, 0x65B907, 0x6AC0C7, 0x6FE4BA, 0x75257D, 0x7A83B3),
    ],
    np.uint32,
)
FINENESS = len(MANTISSAS)
# The least and the greatest step, of normal float32; ZERO stands for the scale 0.
LEAST, GREATEST = -126 * FINENESS, 128 * FINENESS - 1
ZERO = LEAST - FINENESS


def nearest(scale: np.ndarray) -> np.ndarray:
    """The nearest of these powers, by ratio, to positive finite floats: float32 of the same shape."""
    return _scales(_nearest_steps(scale))


def at_least(scale: np.ndarray) -> np.ndarray:
    """The least of these powers that is not below positive finite floats; the greatest where there is none."""
    steps = _nearest_steps(scale)
    return _scales(np.minimum(steps + (_scales(steps) < scale), GREATEST))


def at_most(scale: np.ndarray) -> np.ndarray:
    """The greatest of these powers that is not above positive floats; the least where there is none."""
    steps = _nearest_steps(scale)
    return _scales(np.maximum(steps - (_scales(steps) > scale), LEAST))


def to_steps(scale: np.ndarray) -> np.ndarray | None:
    """The i of each 2**(i / 32), int16 of the shape of `scale` (float32); None where a scale is no such power."""
    bits = np.ascontiguousarray(scale, np.float32).view(np.uint32)
    place = np.searchsorted(MANTISSAS, bits & np.uint32(0x7FFFFF)).clip(max=FINENESS - 1)
    steps = FINENESS * ((bits >> np.uint32(23)).astype(np.int64) - 127) + place
    held = (MANTISSAS[place] == bits & np.uint32(0x7FFFFF)) & _allowed(steps)
    return steps.astype(np.int16).reshape(np.shape(scale)) if held.all() else None


def from_steps(steps: np.ndarray) -> np.ndarray | None:
    """The float32 scales of `to_steps`, of any integer type; None where a step is out of range."""
    return _scales(steps.astype(np.int64)) if _allowed(steps).all() else None


def _nearest_steps(scale: np.ndarray) -> np.ndarray:
    steps: np.ndarray = np.rint(np.log2(scale) * FINENESS).clip(LEAST, GREATEST).astype(np.int64)
    return steps


def _scales(steps: np.ndarray) -> np.ndarray:
    units = (steps - ZERO).astype(np.uint32)
    bits: np.ndarray = units // np.uint32(FINENESS) << np.uint32(23) | MANTISSAS[units % np.uint32(FINENESS)]
    return bits.view(np.float32)


def _allowed(steps: np.ndarray) -> np.ndarray:
    allowed: np.ndarray = (steps == ZERO) | ((steps >= LEAST) & (steps <= GREATEST))
    return allowed
