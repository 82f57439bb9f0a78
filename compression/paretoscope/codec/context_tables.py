"""The numbers that a context coder and its decoder share. Integer arithmetic throughout, so the same on any machine."""

import numpy as np

# Log-odds are in 1/256, probabilities in 1/65536; the clamp keeps both ends above 1/65536.
CLAMP = 2815
_ONE = 1 << 60
# e ** (1 / 256) in units of 2 ** -60, rounded.
_ROOT = 1157433911791679357

# A slot is one adaptive probability: 22 bits of it above a 10-bit count, which sets how fast it moves.
COUNT_BITS = 10
MAX_COUNT = 1000
# A new tensor has statistics of its own: what was learned before it weighs no more than this many bits.
KEPT_COUNT = 20

LEVELS = 96
RATIOS = 23
CONTEXTS = LEVELS * RATIOS
# Nodes of the binary tree of a code: 0 zero, 1..15 bit length, 16 sign, from 17 the bits after the leading one.
MAX_LENGTH = 16
SIGN = 16
MANTISSA = 17
MODELLED = 3
NODES = 128

# Nodes of the tree of a side value, whose bit lengths go up to 63.
VALUE_LENGTH = 63
VALUE_SIGN = 64
VALUE_MANTISSA = 65
VALUE_MODELLED = 2
VALUE_NODES = 256
VALUE_CONTEXTS = 256

# The neighbours and means that a linear prediction weighs, and the largest weight, in 1/64.
FEATURES = 8
MAX_COEFFICIENT = 127
MAX_STRIDE = 255

# |prediction| / expected magnitude, in 1/16, at which the ratio of a context steps up.
RATIO_STEPS = (1, 3, 5, 7, 10, 14, 20, 28, 40, 56, 80)


def _squash() -> np.ndarray:
    powers = [_ONE]
    for _ in range(CLAMP):
        powers.append(powers[-1] * _ROOT >> 60)
    positive = [65536 * power // (_ONE + power) for power in powers]
    return np.array([65536 - p for p in positive[:0:-1]] + positive, np.uint16)


# SQUASH[x + CLAMP] is the probability at log-odds x; STRETCH[p >> 10] the log-odds of a 22-bit probability p. All of
# these tables have narrow types, for the fastest cache to hold.
SQUASH = _squash()
STRETCH = np.minimum(np.searchsorted(SQUASH, 16 * np.arange(4096) + 8) - CLAMP, CLAMP).astype(np.int16)
# The step of a slot after so many bits, in 1/65536.
RATE = (655360 // (10 * np.arange(MAX_COUNT + 1) + 16)).astype(np.uint16)


def level_of(magnitude: int) -> int:
    """The level of a magnitude in 1/256: exact to 3, then four to the octave."""
    if magnitude < 4:
        return magnitude
    length = magnitude.bit_length()
    return min(4 * (length - 2) + (magnitude >> (length - 3) & 3), LEVELS - 1)


# Bit lengths and levels of small magnitudes, as tables because every code asks for several.
LENGTH = np.array([value.bit_length() for value in range(4096)], np.int8)
LEVEL = np.array([level_of(magnitude) for magnitude in range(4096)], np.int8)


def level_centre(level: int) -> int:
    """The magnitude, in 1/256, in the middle of a level."""
    if level < 4:
        return level
    shift = level // 4 - 1
    return ((4 + level % 4) << shift) + ((1 << shift) >> 1)


def _prior(level: int) -> list[int]:
    """Probabilities, 22 bits, of the nodes when magnitudes are geometric with the mean of this level."""
    mean = max(level_centre(level), 1)
    powers = [(mean << 16) // (mean + 256)]
    for _ in range(MAX_LENGTH):
        powers.append(powers[-1] * powers[-1] >> 16)
    nodes = [1 << 15] * NODES
    nodes[0] = powers[0]
    nodes[1:MAX_LENGTH] = powers[: MAX_LENGTH - 1]
    for length in range(2, MAX_LENGTH):
        for depth in range(min(MODELLED, length - 1)):
            power = powers[length - 2 - depth]
            first = MANTISSA + 7 * (length - 2) + (1 << depth) - 1
            nodes[first : first + (1 << depth)] = [(power << 16) // (65536 + power)] * (1 << depth)
    return [min(max(node, 16), 65520) << 6 for node in nodes]


# Slots as they start: uint32 (LEVELS, NODES). The prior is worth two bits seen.
PRIORS = np.array([_prior(level) for level in range(LEVELS)], np.uint32) << COUNT_BITS | 2
