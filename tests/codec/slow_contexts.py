"""A decoder of context streams in plain Python: no compiled code, for readers without it and to test the fast one.

Written from the specification rather than from the fast decoder. Everything is an integer.
"""

import numpy as np

CLAMP = 2815
RATIO_STEPS = (1, 3, 5, 7, 10, 14, 20, 28, 40, 56, 80)
TRELLIS = ((0, 2), (2, 0), (4, 6), (6, 4), (5, 7), (7, 5), (1, 3), (3, 1))
FULL = (1 << 48) - 1


def _squash_table():
    one, power, table = 1 << 60, 1 << 60, []
    for _ in range(CLAMP + 1):
        table.append(65536 * power // (one + power))
        power = power * 1157433911791679357 >> 60
    return [65536 - p for p in table[:0:-1]] + table


SQUASH = _squash_table()
STRETCH = [min(int(x), 2 * CLAMP) - CLAMP for x in np.searchsorted(SQUASH, [16 * i + 8 for i in range(4096)])]


def _level(magnitude):
    if magnitude < 4:
        return magnitude
    length = magnitude.bit_length()
    return min(4 * (length - 2) + (magnitude >> (length - 3) & 3), 95)


def _prior(level, node):
    """Probability, 22 bits, of a node under the geometric distribution with the mean of a level."""
    shift = level // 4 - 1
    mean = max(level if level < 4 else (4 + level % 4 << shift) + (1 << shift >> 1), 1)
    powers = [(mean << 16) // (mean + 256)]
    for _ in range(16):
        powers.append(powers[-1] * powers[-1] >> 16)
    if node < 16:
        chance = powers[max(node - 1, 0)]
    elif node < 17 or node >= 17 + 7 * 14:
        chance = 1 << 15
    else:
        length, inner = 2 + (node - 17) // 7, (node - 17) % 7
        depth = (inner + 1).bit_length() - 1
        if depth >= length - 1:
            chance = 1 << 15
        else:
            chance = (powers[length - 2 - depth] << 16) // (65536 + powers[length - 2 - depth])
    return min(max(chance, 16), 65520) << 6


class SlowDecoder:
    """take, take_values and close as the fast decoder has them; ValueError for what cannot be."""

    def __init__(self, data, effort):
        self.data, self.position = data, 6
        self.low, self.high = 0, FULL
        self.number = int.from_bytes(data[:6].ljust(6, b"\0"), "big")
        self.inputs = {"context": 3, "smallest": 6}[effort]
        self.slots, self.weights = {}, {}
        self.value_slots, self.value_weights = {}, {}
        self.level, self.strides, self.coefficients = 0, [0, 0], [[0] * 8, [0] * 8]

    def _bit(self, probability):
        middle = self.low + (self.high - self.low >> 16) * probability
        bit = int(self.number <= middle)
        if bit:
            self.high = middle
        else:
            self.low = middle + 1
        while self.low >> 40 == self.high >> 40:
            byte = self.data[self.position] if self.position < len(self.data) else 0
            self.position += 1
            self.low = self.low << 8 & FULL
            self.high = self.high << 8 & FULL | 255
            self.number = self.number << 8 & FULL | byte
        return bit

    def _mixed(self, slots, weights, keys, rows, start):
        """One bit. keys: of the slots. rows: of the mixers' weights. start: probability of a slot not yet used."""
        states = [slots.setdefault(key, [start(key), 2 if weights is self.weights else 0]) for key in keys]
        inputs = [STRETCH[chance >> 10] for chance, _ in states]
        mixers = [weights.setdefault(row, [65536 // len(keys)] * len(keys)) for row in rows]
        dots = [sum(w * x for w, x in zip(mixer, inputs, strict=True)) >> 16 for mixer in mixers]
        dots = [min(max(dot, -CLAMP), CLAMP) for dot in dots]
        bit = self._bit(SQUASH[sum(dots) // len(dots) + CLAMP])
        for mixer, dot in zip(mixers, dots, strict=True):
            error = (bit << 16) - SQUASH[dot + CLAMP]
            mixer[:] = [w + (x * error + 65536 >> 17) for w, x in zip(mixer, inputs, strict=True)]
        for state in states:
            chance, count = state
            state[0] = chance + (((bit << 22) - chance) * (655360 // (10 * count + 16)) >> 16)
            state[1] = min(count + 1, 1000)
        return bit

    def _decided(self, node, contexts, group):
        keys = [(i, context, node) for i, context in enumerate(contexts)]
        rows = [(node, 0)] if len(contexts) == 3 else [(node, 0), (node, 1 + group)]
        return self._mixed(self.slots, self.weights, keys, rows, lambda key: _prior(key[1] % 96, key[2]))

    def _magnitude(self, contexts, group):
        length = 1
        while length < 16 and self._decided(length, contexts, group):
            length += 1
        if length == 16:
            return 1 << 15
        size = 1
        for depth in range(length - 1):
            node = 17 + 7 * (length - 2) + size - 1
            size = 2 * size + (self._decided(node, contexts, group) if depth < 3 else self._bit(1 << 15))
        return size

    def _value_bit(self, node, contexts):
        keys = [(i, context, node) for i, context in enumerate(contexts)]
        return self._mixed(self.value_slots, self.value_weights, keys, [node], lambda key: 1 << 21)

    def _numbers(self, kinds):
        values, last, before = [], 0, 0
        for kind in kinds:
            contexts = kind, last, 16 * min(last, 15) + min(before, 15)
            length = 0
            while length < 63 and self._value_bit(length, contexts):
                length += 1
            size = min(length, 1)
            for depth in range(length - 1):
                node = 65 + 3 * (length - 2) + size - 1
                size = 2 * size + (self._value_bit(node, contexts) if depth < 2 else self._bit(1 << 15))
            values.append(-size if size and self._value_bit(64, contexts) else size)
            last, before = length, last
        return values

    def take_values(self, count):
        if count == 0:
            return np.zeros(0, np.int64)
        _age(self.value_slots, 6)
        as_differences = self._numbers([0])[0]
        values = self._numbers([1] * count)
        for i in range(1, count if as_differences else 0):
            values[i] += values[i - 1]
        if as_differences and max(map(abs, values)) >= 1 << 61:
            raise ValueError("differences sum to too much")
        return np.array(values, np.int64)

    def _setting(self, kernel):
        level, stride, predicts = self._numbers([2, 3, 4])
        self.level += level
        self.strides[kernel] += stride
        coefficients = [0] * 8
        if predicts:
            steps = self._numbers(range(5, 13))
            coefficients = [a + b for a, b in zip(self.coefficients[kernel], steps, strict=True)]
        if not (0 <= self.level < 96 and 0 <= self.strides[kernel] < 256 and max(map(abs, coefficients)) < 128):
            raise ValueError("a setting is out of range")
        if any(coefficients):
            self.coefficients[kernel] = coefficients
        return self.strides[kernel], coefficients

    def take(self, shape, trellis=False):
        codes = np.zeros(shape, np.int32)
        if codes.size == 0:
            return codes
        rows, columns, taps = shape
        stride, coefficients = self._setting(taps > 1)
        _age(self.slots, 20)
        shift = self.level // 4 - 1
        mean = self.level if self.level < 4 else (4 + self.level % 4 << shift) + (1 << shift >> 1)
        width, predicting, unit = columns * taps, any(coefficients), 128 if trellis else 256
        line, signed, states = [0] * width, [0] * width, [0] * width
        column, tap, overall, factor = [mean] * columns, [mean] * taps, mean, 4096
        for row in range(rows):
            if self.position > len(self.data) + 6:
                raise ValueError("the stream ends early")
            seen = expected_seen = row_mean = within = 0
            recent = overall
            tap_factor = [min((m + 1 << 12) // (overall + 1), 1 << 24) for m in tap]
            for place in range(width):
                c, t = divmod(place, taps)
                within = 0 if t == 0 else within
                inside = t if taps > 1 else place
                back = taps if taps > 1 else 2
                features = [
                    line[place - 1] if inside >= 1 else 0,
                    line[place - stride] if stride and inside >= stride else 0,
                    line[place - stride - 1] if stride and inside > stride else 0,
                    line[place - stride + 1] if stride > 1 and inside >= stride else 0,
                    line[place - back] if place >= back else 0,
                    line[place],
                    signed[place],
                    row_mean,
                ]
                prediction = sum(a * b for a, b in zip(coefficients, features, strict=True)) >> 6
                if place % 8 == 0:
                    start = 8 * (overall + 1)
                    factor = min((seen + start << 12) // (expected_seen + start), 1 << 24)
                expected = min(column[c] * factor >> 12, 1 << 24)
                if taps > 1:
                    expected = min(expected * tap_factor[t] >> 12, 1 << 24)
                left, other, far, up = (abs(features[i]) for i in (0, 1, 4, 5))
                near = 3 * left + 2 * other + far + 2 * up >> 3
                ratio = sum(16 * abs(prediction) >= step * (expected + 1) for step in RATIO_STEPS)
                odd = int(trellis and states[place] >= 4)
                half = 2208 * odd
                contexts = [half, half + 96 * ratio + _level(expected), half + _level(near)]
                if self.inputs > 3:
                    around = (4 * expected + within) // (t + 4) if taps > 1 else expected + recent >> 1
                    small = [min(m >> 8, 3) for m in (left, other if stride else far, up)]
                    contexts += [
                        half + 96 * ratio + _level(around),
                        half + small[0] + 4 * small[1] + 16 * small[2],
                        half + 96 * ratio + _level(2 * expected + near + recent >> 2),
                    ]
                group = _level(expected) >> 2
                number = 0
                if self._decided(0, contexts, group):
                    direction = 1 if prediction >= 0 else -1
                    digits = [0 if v == 0 else 1 if v * direction > 0 else 2 for v in features]
                    strength = abs(prediction) * 2 // (expected + 1)
                    sign_contexts = [
                        96 * min(abs(prediction) * 8 // (expected + 1), 22),
                        digits[0] + 3 * digits[1] + 9 * digits[5] + 27 * digits[4],
                        96 * min(strength, 22) + _level(expected),
                    ]
                    agrees = self._decided(16, sign_contexts, group)
                    if not agrees and ratio:
                        for i in (1, 3, 5)[: self.inputs // 2]:
                            contexts[i] += 96 * 11
                    number = self._magnitude(contexts, group) * (direction if agrees else -direction)
                code = number
                if trellis:
                    code = 2 * number - odd * ((number > 0) - (number < 0))
                    states[place] = TRELLIS[states[place]][number & 1]
                if abs(code) > 1 << 15:
                    raise ValueError("a code is too large")
                codes[row, c, t] = code

                value = code * unit
                surprise = min(abs(value - prediction), 1 << 24)
                if max(seen, expected_seen) > 1 << 31:
                    seen, expected_seen = seen >> 1, expected_seen >> 1
                seen, expected_seen, within = seen + surprise, expected_seen + column[c], within + surprise
                column[c] = _average(column[c], surprise, row * taps + t, 50)
                overall = _average(overall, surprise, row * width + place, 1000)
                tap[t] = _average(tap[t], surprise, row * columns + c, 1000)
                if predicting:
                    row_mean = _average(row_mean, value, place, 1000)
                    signed[place] = _average(signed[place], value, row + 8, 200)
                recent += surprise - recent >> 4
                line[place] = value
        return codes

    def close(self):
        head = self.position - 6
        for size in range(7):
            rest = 48 - 8 * size
            number = -(-self.low >> rest) << rest
            if number <= self.high:
                break
        if self.data[head:] != (number >> rest).to_bytes(size, "big"):
            raise ValueError("bytes are missing or left over")


def _age(slots, count):
    for state in slots.values():
        state[1] = min(state[1], count)


def _average(mean, value, count, limit):
    return mean + ((value - mean) * (65536 // (min(count, limit) + 8)) >> 16)
