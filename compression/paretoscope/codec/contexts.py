"""Context mixing for the integer codes of weights: adaptive, one stream for a whole model, exact on any machine.

Every code is a few binary decisions. Each decision's probability is a mixture, in the log-odds domain, of adaptive
probabilities that are selected by different contexts, and drives a binary range coder (Mahoney, "Adaptive weighing of
context models for lossless data compression", 2005). The contexts are magnitudes expected from what is already coded:
row, column and kernel position, which weights share, and neighbours. Where codes are smooth (kernels, the first layer
of a perceptron on images), a linear prediction whose coefficients are sent shifts and signs these expectations.
CONTEXTS in FORMAT.md specifies the stream.
"""

import numpy as np

from paretoscope.base.errors import ArtefactError, ModelError
from paretoscope.codec import context_kernels as kernels
from paretoscope.codec.context_fit import ScanSetting, fitted
from paretoscope.codec.context_tables import (
    COUNT_BITS,
    FEATURES,
    KEPT_COUNT,
    LEVELS,
    MAX_COEFFICIENT,
    MAX_STRIDE,
    NODES,
    PRIORS,
    RATIOS,
    SIGN,
    VALUE_CONTEXTS,
    VALUE_NODES,
    level_centre,
)

# How many contexts are mixed.
EFFORTS = {"context": 3, "smallest": 6}
LARGEST_CODE = 1 << 15
LARGEST_VALUE = (1 << 63) - 1
LARGEST_SUM = (1 << 61) - 1

_EVEN_ODDS = 1 << (21 + COUNT_BITS)
_KEPT_VALUE_COUNT = 6
# Kinds of side values: whether differences follow, the values, then the numbers ahead of a tensor.
_FORM, _VALUES, _LEVEL, _COEFFICIENT = 0, 1, 2, 5


class _Model:
    """The adaptive states, which persist from one tensor to the next.

    slots: uint32 (inputs * SET, NODES), of each set the second half for the odd quantizer of a trellis. weights: int64
    (rows, inputs), in 1/65536, of the mixers: a row for each node, then one for each class of magnitudes and node.
    """

    def __init__(self, effort: str) -> None:
        if effort not in EFFORTS:
            raise ModelError(f"effort must be one of {', '.join(EFFORTS)}; got {effort!r}.")
        self.inputs = EFFORTS[effort]
        slots = np.empty((self.inputs, 2 * RATIOS, LEVELS, NODES), np.uint32)
        slots[:] = PRIORS
        self.slots = slots.reshape(-1, NODES)
        self.weights = np.full((NODES * (1 + LEVELS // 4), self.inputs), 65536 // self.inputs)
        self.weights[SIGN] = 65536 // 3
        self.value_slots = np.full((3 * VALUE_CONTEXTS, VALUE_NODES), _EVEN_ODDS, np.uint32)
        self.value_weights = np.full((VALUE_NODES, 3), 65536 // 3)
        # Settings of the last tensor; strides and coefficients of the last without and the last with kernels.
        self.level = 0
        self.strides = [0, 0]
        self.coefficients = [np.zeros(FEATURES, np.int64), np.zeros(FEATURES, np.int64)]

    def scan(
        self, codes: np.ndarray, trellis: bool, setting: ScanSetting, coder: np.ndarray, data: np.ndarray
    ) -> tuple[np.ndarray, int]:
        """Code one tensor; what came before it weighs less from here on."""
        kernels.age(self.slots.reshape(-1), KEPT_COUNT)
        mean = level_centre(setting.level)
        arguments = setting.stride, setting.coefficients, self.slots, self.weights, coder, data
        scan = kernels.scan_three if self.inputs == 3 else kernels.scan_six
        return scan(codes, trellis, mean, *arguments)

    def numbers(self, values: np.ndarray, kinds: np.ndarray, coder: np.ndarray, data: np.ndarray) -> np.ndarray:
        """Code side values of these kinds."""
        return kernels.scan_values(values, kinds, self.value_slots, self.value_weights, coder, data)

    def age_values(self) -> None:
        """What came before the side values that follow weighs less."""
        kernels.age(self.value_slots.reshape(-1), _KEPT_VALUE_COUNT)

    def differences(self, setting: ScanSetting, kernel: bool) -> list[np.ndarray]:
        """A setting as numbers, in one or two groups: differences to the last tensor's."""
        predicts = bool(setting.coefficients.any())
        groups = [np.array([setting.level - self.level, setting.stride - self.strides[kernel], predicts], np.int64)]
        if predicts:
            groups.append(setting.coefficients - self.coefficients[kernel])
        self._remember(setting, kernel)
        return groups

    def setting(self, kernel: bool, level: int, stride: int, coefficients: list[int] | None) -> ScanSetting:
        """The setting of these differences; raises ArtefactError when it is out of range."""
        level += self.level
        stride += self.strides[kernel]
        if coefficients is None:
            found = [0] * FEATURES
        else:
            found = [last + step for last, step in zip(self.coefficients[kernel].tolist(), coefficients, strict=True)]
        in_range = 0 <= level < LEVELS and 0 <= stride <= MAX_STRIDE
        if not in_range or max(map(abs, found)) > MAX_COEFFICIENT:
            raise ArtefactError(
                f"a tensor's level, stride and coefficients must be within {LEVELS - 1}, {MAX_STRIDE} and "
                f"{MAX_COEFFICIENT}; these are not. Copy the file again."
            )
        setting = ScanSetting(level, stride, np.array(found, np.int64))
        self._remember(setting, kernel)
        return setting

    def _remember(self, setting: ScanSetting, kernel: bool) -> None:
        self.level = setting.level
        self.strides[kernel] = setting.stride
        if setting.coefficients.any():
            self.coefficients[kernel] = setting.coefficients


class ContextEncoder:
    """Codes tensors and side values, one after the other, into one stream.

    effort: "context" mixes three contexts, "smallest" six.
    """

    def __init__(self, effort: str) -> None:
        self._model = _Model(effort)
        self._coder = np.array([0, (1 << kernels.WIDTH) - 1, 0, 0, 0], np.int64)
        self._data = np.empty(1 << 12, np.uint8)

    def add(self, codes: np.ndarray, trellis: bool = False) -> float:
        """Code a tensor, integers (rows, columns, taps) of magnitudes to 2**15; returns the bits that it took.

        trellis: the codes of each (column, tap) are a path of the trellis; raises ModelError when they are not.
        """
        before = self._bits()
        if codes.size == 0:
            return 0.0
        if np.abs(codes, dtype=np.int32).max() > LARGEST_CODE:
            raise ModelError(
                f"codes must be in -{LARGEST_CODE}..{LARGEST_CODE}; got {int(codes.min())}..{int(codes.max())}. "
                "Use a larger step."
            )
        codes = np.ascontiguousarray(codes, np.int32)
        setting = fitted(codes, 128 if trellis else 256)
        groups = self._model.differences(setting, codes.shape[2] > 1)
        for first, numbers in zip((_LEVEL, _COEFFICIENT), groups, strict=False):
            self._numbers(numbers, first + np.arange(len(numbers)))
        self._data, status = self._model.scan(codes, trellis, setting, self._coder, self._data)
        if status != kernels.OK:
            raise ModelError("trellis codes must follow a path from state 0. Quantize the tensor with the trellis.")
        return self._bits() - before

    def add_values(self, values: np.ndarray) -> float:
        """Code side information, integers (n,) of at most 63 bits; returns the bits that it took."""
        before = self._bits()
        if len(values) == 0:
            return 0.0
        values = np.asarray(values, np.int64)
        if values.min() < -LARGEST_VALUE:
            raise ModelError(f"values must have at most 63 bits; got {int(values.min())}.")
        small = values.min() >= -LARGEST_SUM and values.max() <= LARGEST_SUM
        differences = np.diff(values, prepend=0) if small else values
        as_differences = small and _lengths(differences) < _lengths(values)
        self._model.age_values()
        self._numbers(np.array([as_differences]), np.array([_FORM]))
        self._numbers(differences if as_differences else values, np.full(len(values), _VALUES))
        return self._bits() - before

    def finish(self) -> bytes:
        """The stream. Nothing can be added after it."""
        head = self._data[: self._coder[kernels.POSITION]].tobytes()
        return head + _tail(self._coder)

    def _numbers(self, values: np.ndarray, kinds: np.ndarray) -> None:
        self._data = self._model.numbers(values.astype(np.int64), kinds, self._coder, self._data)

    def _bits(self) -> float:
        width = self._coder[kernels.HIGH] - self._coder[kernels.LOW] + 1
        return 8.0 * float(self._coder[kernels.POSITION]) + kernels.WIDTH - float(np.log2(width))


class ContextDecoder:
    """Takes back what a ContextEncoder of the same effort was given, in the same order.

    Any bytes decode to something or raise ArtefactError; memory is that of the arrays asked for.
    """

    def __init__(self, data: bytes, effort: str) -> None:
        self._model = _Model(effort)
        self._data = np.frombuffer(data, np.uint8).copy()
        ahead = kernels.WIDTH // 8
        number = int.from_bytes(data[:ahead].ljust(ahead, b"\0"), "big")
        self._coder = np.array([0, (1 << kernels.WIDTH) - 1, number, ahead, 1], np.int64)

    def take(self, shape: tuple[int, int, int], trellis: bool = False) -> np.ndarray:
        """The next tensor: int32 of this shape (rows, columns, taps)."""
        codes = np.zeros(shape, np.int32)
        if codes.size == 0:
            return codes
        level, stride, predicts = self._numbers(_LEVEL + np.arange(3)).tolist()
        coefficients = self._numbers(_COEFFICIENT + np.arange(FEATURES)).tolist() if predicts else None
        setting = self._model.setting(shape[2] > 1, level, stride, coefficients)
        _, status = self._model.scan(codes, trellis, setting, self._coder, self._data)
        if status == kernels.TOO_LARGE:
            raise ArtefactError(f"codes must be in -{LARGEST_CODE}..{LARGEST_CODE}; the stream holds a larger one.")
        if status != kernels.OK:
            raise ArtefactError("a stream must hold all codes of its tensors; it ends early. Copy the file again.")
        return codes

    def take_values(self, count: int) -> np.ndarray:
        """The next side values: int64 (count,)."""
        if count == 0:
            return np.zeros(0, np.int64)
        self._model.age_values()
        as_differences = self._numbers(np.array([_FORM]))[0]
        values = self._numbers(np.full(count, _VALUES))
        if not as_differences:
            return values
        sums = np.cumsum(values)
        # Sums of floats cannot wrap around; where they stay small, those of integers did not.
        if np.abs(np.cumsum(values.astype(np.float64))).max() > 2.0**62 or np.abs(sums).max() > LARGEST_SUM:
            raise ArtefactError("differences must sum to at most 61 bits; these do not. Copy the file again.")
        return sums

    def close(self) -> None:
        """Raises ArtefactError unless the stream ends here, as an encoder would have ended it."""
        head = int(self._coder[kernels.POSITION]) - kernels.WIDTH // 8
        if self._data[head:].tobytes() != _tail(self._coder):
            raise ArtefactError("a stream must end with its last code; bytes are missing or left over. Copy it again.")

    def _numbers(self, kinds: np.ndarray) -> np.ndarray:
        values = np.zeros(len(kinds), np.int64)
        self._model.numbers(values, kinds, self._coder, self._data)
        return values


def _lengths(values: np.ndarray) -> float:
    return float(np.log2(1.0 + np.abs(values.astype(np.float64))).sum())


def _tail(coder: np.ndarray) -> bytes:
    """The fewest bytes, zeros implied after them, that lie in the coder's interval."""
    low, high = int(coder[kernels.LOW]), int(coder[kernels.HIGH])
    for size in range(kernels.WIDTH // 8 + 1):
        rest = kernels.WIDTH - 8 * size
        number = -(-low >> rest) << rest
        if number <= high:
            return (number >> rest).to_bytes(size, "big")
    raise AssertionError("an interval holds its own lower end")
