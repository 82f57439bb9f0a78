"""The compiled part of the context coder: a binary range coder, logistic mixing and the scan over a tensor.

It stays one file, although a long one: Numba keeps what it compiled until the file of the outermost function changes,
so a change in another file of kernels would go unnoticed.

One function serves both directions, so that encoder and decoder cannot differ: `coder[DECODING]` says which it is.
"""

import zlib
from collections.abc import Callable
from typing import Any, cast

import numpy as np

from paretoscope.base.compiled import compiled
from paretoscope.codec import context_tables
from paretoscope.codec.context_tables import (
    CLAMP,
    CONTEXTS,
    COUNT_BITS,
    FEATURES,
    LENGTH,
    LEVEL,
    LEVELS,
    MANTISSA,
    MAX_COUNT,
    MAX_LENGTH,
    MODELLED,
    NODES,
    RATE,
    RATIO_STEPS,
    RATIOS,
    SIGN,
    SQUASH,
    STRETCH,
    VALUE_CONTEXTS,
    VALUE_LENGTH,
    VALUE_MANTISSA,
    VALUE_MODELLED,
    VALUE_SIGN,
)
from paretoscope.model.trellis import NEXT

# NumPy's type, annotated as the integer that it is to Numba: compiled code has one type of 64 bits for both.
int64 = cast(Callable[[Any], int], np.int64)

# Compiled code holds these tables, and Numba keeps it until this very file changes: whoever changes a table writes its
# new checksum here. It is a change of the format, too.
TABLES = 0x12C51741


def tables_checksum() -> int:
    """CRC-32 of all numbers that the kernels take from other modules."""
    numbers = [value for name, value in sorted(vars(context_tables).items()) if name.isupper()]
    return zlib.crc32(b"".join(np.asarray(value, "<i8").tobytes() for value in (*numbers, NEXT)))


if tables_checksum() != TABLES:
    raise ImportError(
        f"tables of the context coder must have the checksum 0x{TABLES:08X} of context_kernels.py; they have "
        f"0x{tables_checksum():08X}. Write the new one there, so that the kernels are compiled again."
    )

# The coder's registers: the interval, the number that a decoder is in, the next byte, and the direction.
LOW, HIGH, NUMBER, POSITION, DECODING = range(5)
WIDTH = 48
_FULL = (1 << WIDTH) - 1
# No code takes as many bytes as this.
_SPARE = 512

OK, OFF_TRELLIS, TOO_LARGE, TOO_SHORT = range(4)

# Rows of slots that each mixed context has; the second half is for the odd quantizer of a trellis.
SET = 2 * CONTEXTS
MOST_RATIO = RATIOS - 1
# Where the class of magnitudes stands behind the contexts.
CLASS = 6
MEAN_STEPS = 1000
COLUMN_STEPS = 50
SIGNED_STEPS = 200
START_STEPS = 8
_LARGEST = 1 << 24

_STEPS: np.ndarray = np.array(RATIO_STEPS)
_RECIPROCAL: np.ndarray = (65536 // (np.arange(MEAN_STEPS + 1) + START_STEPS)).astype(np.int16)
_NEXT = np.array(NEXT)


@compiled(error_model="numpy", inline="always")
def _coded(bit: int, probability: int, coder: np.ndarray, data: np.ndarray) -> int:
    """Code one bit that is 1 with `probability` / 65536; returns it."""
    low, high = coder[LOW], coder[HIGH]
    middle = low + ((high - low) >> 16) * probability
    if coder[DECODING]:
        bit = 1 if coder[NUMBER] <= middle else 0
    if bit:
        high = middle
    else:
        low = middle + 1
    while (low ^ high) >> (WIDTH - 8) == 0:
        position = coder[POSITION]
        if coder[DECODING]:
            byte = int64(data[position]) if position < len(data) else 0
            coder[NUMBER] = ((coder[NUMBER] << 8) & _FULL) | byte
        else:
            data[position] = high >> (WIDTH - 8)
        coder[POSITION] = position + 1
        low = (low << 8) & _FULL
        high = ((high << 8) & _FULL) | 255
    coder[LOW], coder[HIGH] = low, high
    return bit


@compiled(error_model="numpy", inline="always")
def _moved(slot: int, bit: int) -> int:
    """A slot after a bit: a step of 1/n at first, of 1/MAX_COUNT in the end."""
    chance = slot >> COUNT_BITS
    count = slot & ((1 << COUNT_BITS) - 1)
    chance += (((bit << 22) - chance) * int64(RATE[count])) >> 16
    return (chance << COUNT_BITS) | min(count + 1, MAX_COUNT)


@compiled(error_model="numpy", inline="always")
def _trained(weight: int, stretched: int, error: int) -> int:
    # A step is below 2 ** 11: no stream is long enough to overflow 64 bits.
    return weight + ((stretched * error + (1 << 16)) >> 17)


@compiled(error_model="numpy", inline="always")
def _mixed(
    bit: int,
    node: int,
    contexts: np.ndarray,
    inputs: int,
    slots: np.ndarray,
    weights: np.ndarray,
    coder: np.ndarray,
    data: np.ndarray,
) -> int:
    """Code one bit by the slots of `inputs` contexts, mixed in the log-odds domain; then let all of them learn."""
    if inputs == 3:
        return _mixed_of_three(bit, node, contexts[0], contexts[1], contexts[2], slots, weights, coder, data)
    # Two mixers, by the node alone and by the class of magnitudes too, learn apart; the mean of both is used.
    by_class = node + NODES * contexts[CLASS]
    dot, class_dot = 0, 0
    for i in range(inputs):
        stretched = STRETCH[slots[contexts[i], node] >> (COUNT_BITS + 10)]
        dot += weights[node, i] * stretched
        class_dot += weights[by_class, i] * stretched
    dot = min(max(dot >> 16, -CLAMP), CLAMP)
    class_dot = min(max(class_dot >> 16, -CLAMP), CLAMP)
    bit = _coded(bit, int64(SQUASH[((dot + class_dot) >> 1) + CLAMP]), coder, data)
    error = (bit << 16) - int64(SQUASH[dot + CLAMP])
    class_error = (bit << 16) - int64(SQUASH[class_dot + CLAMP])
    for i in range(inputs):
        slot = int64(slots[contexts[i], node])
        stretched = STRETCH[slot >> (COUNT_BITS + 10)]
        weights[node, i] = _trained(weights[node, i], stretched, error)
        weights[by_class, i] = _trained(weights[by_class, i], stretched, class_error)
        slots[contexts[i], node] = _moved(slot, bit)
    return bit


@compiled(error_model="numpy", inline="always")
def _mixed_of_three(
    bit: int,
    node: int,
    a: int,
    b: int,
    c: int,
    slots: np.ndarray,
    weights: np.ndarray,
    coder: np.ndarray,
    data: np.ndarray,
) -> int:
    """`_mixed` for three contexts, without its loops: most of the time is spent here."""
    slot_a, slot_b, slot_c = int64(slots[a, node]), int64(slots[b, node]), int64(slots[c, node])
    stretched_a = int64(STRETCH[slot_a >> (COUNT_BITS + 10)])
    stretched_b = int64(STRETCH[slot_b >> (COUNT_BITS + 10)])
    stretched_c = int64(STRETCH[slot_c >> (COUNT_BITS + 10)])
    weight_a, weight_b, weight_c = weights[node, 0], weights[node, 1], weights[node, 2]
    dot = (weight_a * stretched_a + weight_b * stretched_b + weight_c * stretched_c) >> 16
    probability = int64(SQUASH[min(max(dot, -CLAMP), CLAMP) + CLAMP])
    bit = _coded(bit, probability, coder, data)
    error = (bit << 16) - probability
    weights[node, 0] = _trained(weight_a, stretched_a, error)
    weights[node, 1] = _trained(weight_b, stretched_b, error)
    weights[node, 2] = _trained(weight_c, stretched_c, error)
    slots[a, node], slots[b, node], slots[c, node] = _moved(slot_a, bit), _moved(slot_b, bit), _moved(slot_c, bit)
    return bit


@compiled(error_model="numpy", inline="always")
def _length(value: int) -> int:
    if value < len(LENGTH):
        return int64(LENGTH[value])
    length = 12
    while value >> length:
        length += 1
    return length


@compiled(error_model="numpy", inline="always")
def _level(value: int) -> int:
    """Four levels to the octave of a magnitude in 1/256."""
    if value < len(LEVEL):
        return int64(LEVEL[value])
    length = _length(value)
    return min(4 * (length - 2) + ((value >> (length - 3)) & 3), LEVELS - 1)


@compiled(error_model="numpy")
def _ratio(prediction: int, expected: int) -> int:
    if prediction == 0:
        return 0
    step = 0
    while step < len(_STEPS) and 16 * abs(prediction) >= _STEPS[step] * (expected + 1):
        step += 1
    return step


@compiled(error_model="numpy")
def _sign_digit(value: int, direction: int) -> int:
    if value == 0:
        return 0
    return 1 if (value > 0) == (direction > 0) else 2


@compiled(error_model="numpy")
def _magnitude(
    size: int,
    contexts: np.ndarray,
    inputs: int,
    slots: np.ndarray,
    weights: np.ndarray,
    coder: np.ndarray,
    data: np.ndarray,
) -> int:
    """Code a magnitude of at least 1: its bit length in unary, then the bits after the leading one."""
    wanted = _length(size)
    length = 1
    while length < MAX_LENGTH and _mixed(wanted > length, length, contexts, inputs, slots, weights, coder, data):
        length += 1
    if length == MAX_LENGTH:
        return 1 << (MAX_LENGTH - 1)
    result = 1
    for depth in range(length - 1):
        bit = (size >> (length - 2 - depth)) & 1
        if depth < MODELLED:
            node = MANTISSA + 7 * (length - 2) + result - 1
            bit = _mixed(bit, node, contexts, inputs, slots, weights, coder, data)
        else:
            bit = _coded(bit, 1 << 15, coder, data)
        result = 2 * result + bit
    return result


@compiled(error_model="numpy")
def neighbours(
    features: np.ndarray,
    line: np.ndarray,
    signed_means: np.ndarray,
    row_mean: int,
    place: int,
    tap: int,
    taps: int,
    stride: int,
) -> None:
    """Fill the eight features of a linear prediction, in 1/256: the codes around a place and two signed means.

    line: this row as far as it is coded, from `place` on still the row above.
    """
    first = place - tap if taps > 1 else 0
    before = place - first
    features[0] = line[place - 1] if before >= 1 else 0
    features[1] = line[place - stride] if stride and before >= stride else 0
    features[2] = line[place - stride - 1] if stride and before > stride else 0
    features[3] = line[place - stride + 1] if stride > 1 and before >= stride else 0
    back = taps if taps > 1 else 2
    features[4] = line[place - back] if place >= back else 0
    features[5] = line[place]
    features[6] = signed_means[place]
    features[7] = row_mean


@compiled(error_model="numpy")
def average(mean: int, value: int, count: int, limit: int) -> int:
    """A running mean: 1/n steps at first, then at least 1/limit."""
    step: int = ((value - mean) * _RECIPROCAL[min(count, limit)]) >> 16
    return mean + step


@compiled()
def products(codes: np.ndarray, stride: int, every: int, unit: int) -> np.ndarray:
    """Sums of products of the features and, last, the code itself, over every so many rows: float64 (9, 9)."""
    rows, columns, taps = codes.shape
    width = columns * taps
    line, signed_means = np.zeros(width, np.int64), np.zeros(width, np.int64)
    features = np.zeros(FEATURES + 1, np.int64)
    sums = np.zeros((FEATURES + 1, FEATURES + 1))
    for r in range(rows):
        row_mean = int64(0)
        sampled = r % every == 0
        for place in range(width):
            value = int64(codes[r, place // taps, place % taps]) * unit
            if sampled:
                neighbours(features, line, signed_means, row_mean, place, place % taps, taps, stride)
                features[FEATURES] = value
                row_mean = average(row_mean, value, place, MEAN_STEPS)
                for i in range(FEATURES + 1):
                    factor = float(features[i])
                    for j in range(i + 1):
                        sums[i, j] += factor * features[j]
            signed_means[place] = average(signed_means[place], value, r + START_STEPS, SIGNED_STEPS)
            line[place] = value
    for i in range(FEATURES + 1):
        for j in range(i):
            sums[j, i] = sums[i, j]
    return sums


@compiled(error_model="numpy", inline="always")
def _scan(
    codes: np.ndarray,
    trellis: bool,
    mean: int,
    stride: int,
    coefficients: np.ndarray,
    inputs: int,
    slots: np.ndarray,
    weights: np.ndarray,
    coder: np.ndarray,
    data: np.ndarray,
) -> tuple[np.ndarray, int]:
    """Code a tensor, int32 (rows, columns, taps), row by row; when decoding, `codes` is filled.

    Returns the buffer, which an encoder may have had to replace by a longer one, and whether all went well.
    """
    rows, columns, taps = codes.shape
    width = columns * taps
    contexts = np.zeros(8, np.int64)
    features = np.zeros(FEATURES, np.int64)
    line, signed_means, states = np.zeros(width, np.int64), np.zeros(width, np.int64), np.zeros(width, np.int64)
    column_means = np.full(columns, mean)
    tap_means, tap_factors = np.full(taps, mean), np.zeros(taps, np.int64)
    factor = int64(1 << 12)
    overall = recent = int64(mean)
    predicting = np.any(coefficients)
    unit = 128 if trellis else 256
    for r in range(rows):
        seen = expected_seen = row_mean = int64(0)
        recent = overall
        for t in range(taps):
            tap_factors[t] = min(((tap_means[t] + 1) << 12) // (overall + 1), _LARGEST)
        if coder[DECODING] and coder[POSITION] > len(data) + WIDTH // 8:
            return data, TOO_SHORT
        for c in range(columns):
            within = int64(0)
            for t in range(taps):
                if not coder[DECODING] and coder[POSITION] + _SPARE > len(data):
                    longer = np.empty(2 * len(data), np.uint8)
                    longer[: coder[POSITION]] = data[: coder[POSITION]]
                    data = longer
                place = c * taps + t
                neighbours(features, line, signed_means, row_mean, place, t, taps, stride)
                prediction = int64(0)
                if predicting:
                    for i in range(FEATURES):
                        prediction += coefficients[i] * features[i]
                    prediction >>= 6

                # Divisions are slow, so the row's factor is renewed at every eighth place only.
                if place % 8 == 0:
                    start = 8 * (overall + 1)
                    factor = min(((seen + start) << 12) // (expected_seen + start), _LARGEST)
                expected = min((column_means[c] * factor) >> 12, _LARGEST)
                if taps > 1:
                    expected = min((expected * tap_factors[t]) >> 12, _LARGEST)
                near = (3 * abs(features[0]) + 2 * abs(features[1]) + abs(features[4]) + 2 * abs(features[5])) >> 3
                ratio = _ratio(prediction, expected)
                state = states[place]
                odd = 1 if trellis and state >= 4 else 0
                base = CONTEXTS * odd
                contexts[0] = base
                contexts[1] = base + SET + LEVELS * ratio + _level(expected)
                contexts[2] = base + 2 * SET + _level(near)
                if inputs > 3:
                    contexts[CLASS] = 1 + (_level(expected) >> 2)
                    around = (4 * expected + within) // (t + 4) if taps > 1 else (expected + recent) >> 1
                    contexts[3] = base + 3 * SET + LEVELS * ratio + _level(around)
                    other = features[1] if stride else features[4]
                    contexts[4] = (
                        base
                        + 4 * SET
                        + min(abs(features[0]) >> 8, 3)
                        + 4 * min(abs(other) >> 8, 3)
                        + 16 * min(abs(features[5]) >> 8, 3)
                    )
                    contexts[5] = base + 5 * SET + LEVELS * ratio + _level((2 * expected + near + recent) >> 2)

                code = int64(codes[r, c, t])
                number = code
                if trellis and not coder[DECODING]:
                    number = (code + np.sign(code)) >> 1 if odd else code >> 1
                    if 2 * number - odd * np.sign(number) != code:
                        return data, OFF_TRELLIS
                if _mixed(number != 0, 0, contexts, inputs, slots, weights, coder, data):
                    direction = 1 if prediction >= 0 else -1
                    likely, close = contexts[1], contexts[2]
                    contexts[0] = LEVELS * min(8 * abs(prediction) // (expected + 1), MOST_RATIO)
                    contexts[1] = (
                        SET
                        + _sign_digit(features[0], direction)
                        + 3 * _sign_digit(features[1], direction)
                        + 9 * _sign_digit(features[5], direction)
                        + 27 * _sign_digit(features[4], direction)
                    )
                    contexts[2] = (
                        2 * SET + LEVELS * min(2 * abs(prediction) // (expected + 1), MOST_RATIO) + _level(expected)
                    )
                    agrees = _mixed(number * direction > 0, SIGN, contexts, 3, slots, weights, coder, data)
                    contexts[0], contexts[1], contexts[2] = base, likely, close
                    if not agrees and ratio:
                        contexts[1] += LEVELS * (MOST_RATIO // 2)
                        contexts[3] += LEVELS * (MOST_RATIO // 2)
                        contexts[5] += LEVELS * (MOST_RATIO // 2)
                    size = _magnitude(abs(number), contexts, inputs, slots, weights, coder, data)
                    number = size * direction if agrees else -size * direction
                else:
                    number = int64(0)
                if trellis:
                    code = 2 * number - odd * np.sign(number)
                    states[place] = _NEXT[state, number & 1]
                else:
                    code = number
                if abs(code) > 1 << 15:
                    return data, TOO_LARGE
                codes[r, c, t] = code

                value = code * unit
                surprise = min(abs(value - prediction), _LARGEST)
                if seen > 1 << 31 or expected_seen > 1 << 31:
                    seen >>= 1
                    expected_seen >>= 1
                seen += surprise
                expected_seen += column_means[c]
                within += surprise
                column_means[c] = average(column_means[c], surprise, r * taps + t, COLUMN_STEPS)
                overall = average(overall, surprise, r * width + place, MEAN_STEPS)
                if taps > 1:
                    tap_means[t] = average(tap_means[t], surprise, r * columns + c, MEAN_STEPS)
                if predicting:
                    row_mean = average(row_mean, value, place, MEAN_STEPS)
                    signed_means[place] = average(signed_means[place], value, r + START_STEPS, SIGNED_STEPS)
                recent += (surprise - recent) >> 4
                line[place] = value
    return data, OK


@compiled(error_model="numpy")
def scan_three(
    codes: np.ndarray,
    trellis: bool,
    mean: int,
    stride: int,
    coefficients: np.ndarray,
    slots: np.ndarray,
    weights: np.ndarray,
    coder: np.ndarray,
    data: np.ndarray,
) -> tuple[np.ndarray, int]:
    """`_scan` mixing three contexts. Compiled for a known number of them it runs two to three times as fast."""
    return _scan(codes, trellis, mean, stride, coefficients, 3, slots, weights, coder, data)


@compiled(error_model="numpy")
def scan_six(
    codes: np.ndarray,
    trellis: bool,
    mean: int,
    stride: int,
    coefficients: np.ndarray,
    slots: np.ndarray,
    weights: np.ndarray,
    coder: np.ndarray,
    data: np.ndarray,
) -> tuple[np.ndarray, int]:
    """`_scan` mixing six contexts by two mixers."""
    return _scan(codes, trellis, mean, stride, coefficients, 6, slots, weights, coder, data)


@compiled(error_model="numpy")
def scan_values(
    values: np.ndarray, kinds: np.ndarray, slots: np.ndarray, weights: np.ndarray, coder: np.ndarray, data: np.ndarray
) -> np.ndarray:
    """Code integers of at most 63 bits, int64 (n,); when decoding, `values` is filled. Returns the buffer.

    kinds: int64 (n,), which statistics each belongs to.
    """
    contexts = np.zeros(8, np.int64)
    last = before = 0
    for position in range(len(values)):
        if not coder[DECODING] and coder[POSITION] + _SPARE > len(data):
            longer = np.empty(2 * len(data), np.uint8)
            longer[: coder[POSITION]] = data[: coder[POSITION]]
            data = longer
        contexts[0], contexts[1] = kinds[position], VALUE_CONTEXTS + last
        contexts[2] = 2 * VALUE_CONTEXTS + 16 * min(last, 15) + min(before, 15)
        value = values[position]
        wanted = _length(abs(value))
        length = 0
        while length < VALUE_LENGTH and _mixed(wanted > length, length, contexts, 3, slots, weights, coder, data):
            length += 1
        size = min(length, 1)
        for depth in range(length - 1):
            bit = (abs(value) >> (length - 2 - depth)) & 1
            if depth < VALUE_MODELLED:
                node = VALUE_MANTISSA + 3 * (length - 2) + size - 1
                bit = _mixed(bit, node, contexts, 3, slots, weights, coder, data)
            else:
                bit = _coded(bit, 1 << 15, coder, data)
            size = 2 * size + bit
        negative = size > 0 and _mixed(value < 0, VALUE_SIGN, contexts, 3, slots, weights, coder, data)
        values[position] = -size if negative else size
        last, before = length, last
    return data


@compiled(error_model="numpy")
def age(slots: np.ndarray, count: int) -> None:
    """Let no slot, flat, count more than this, so that it moves faster again."""
    mask = np.uint32((1 << COUNT_BITS) - 1)
    for i in range(len(slots)):
        if slots[i] & mask > count:
            slots[i] = (slots[i] & ~mask) | np.uint32(count)
