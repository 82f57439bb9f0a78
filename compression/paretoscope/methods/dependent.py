"""Rate-distortion optimised quantization: step sizes by an exchange rate between bits and harm, and codes on a trellis.

Harm is the mean KL divergence of the outputs from the baseline's, to second order `1/2 sum F e^2`, with F the diagonal
Fisher information of the weights and e their errors (Kullback 1959). At high rates a step D gives a squared error of
`c D^2`, and halving D costs one bit: saving a bit costs `ln 2 c F D^2`. With that equal to one exchange rate for every
weight of every layer, no bit would save more harm elsewhere (equal slopes: Shoham and Gersho 1988):

    D = sqrt(exchange / (ln 2 c F))

one step an output channel, F being its mean. With second moments of the inputs, errors are made good by the columns
after them (`compensate`), and F is what such an error costs then, `R_ii^2` in place of `H_ii`. Where harm is weighted
by magnitude there are no samples, and these moments are assumed (`moments`).

Codes are the path of the trellis (`paretoscope.model.trellis`) that is best for bits and harm together (Viterbi
algorithm; dependent quantization, Schwarz et al. 2019; for neural networks Haase et al. 2020). Bits are those of a
Laplacian source. Paths run down the output channels of one column, so that column after column can make good what was
lost.

Steps are widened where the largest weight needs more than the largest code; of 2 to 4 bits no wider than is best for
the squared error, or most other weights would be zero. Codes of 2 bits are -1, 0 and 1, and no path of the trellis
leads through them: they are rounded one by one.

Zeroed weights take their energy from a layer, and a network feels that more than noise of the same size: each channel's
scale is set so that codes and weights correlate as weights with themselves, or as near to that as the squared error
stays at most that of zeros.
"""

import math
from dataclasses import replace

import numpy as np

from paretoscope.base.errors import RecipeError
from paretoscope.methods import moments
from paretoscope.methods import quantize as plain
from paretoscope.methods.catalogue import MethodEntry, Section, explained
from paretoscope.methods.compensate import BLOCK, EvenGrid, factorised, round_with_compensation
from paretoscope.methods.moments import Assumed
from paretoscope.methods.paths import NOT_ZERO, code_block, laplace_bits
from paretoscope.methods.registry import Sampled, Stage, WeightMethod, Work
from paretoscope.model import powers
from paretoscope.model.tensors import LARGEST, Integers
from paretoscope.model.trellis import NEXT
from paretoscope.recipe.recipe import Quantize, Recipe
from paretoscope.recipe.steps.quantize import Calibration, Granularity, Weighting

# By magnitudes alone, errors as large as the weights of a layer are taken to cost twice so many nats. The value that
# explains measured harm lies between 0.05 and 0.12 on our models: python -m benchmarks.constants.
NATS = 0.1
# The least sensitivity of a channel, as a part of the mean: channels that hardly matter on calibration samples may
# matter on others. python -m benchmarks.constants.
LEAST_SENSITIVITY = 0.01
# Up to so many bits the largest weights are clipped, to steps so many times those of least error for evenly spaced
# codes: each state of the trellis leaves out every other code. python -m benchmarks.constants.
FEW_BITS, ROOM = 4, 1.25
# Squared error of the trellis' codes in squared steps, at high rates: 1.15 dB less than that of every other integer.
# python -m benchmarks.constants.
DISTORTION = 4 / 12 * 10**-0.115
# Bits count less than the exchange rate says when codes are chosen, and not at all where errors are made good: errors
# toward zero, which save bits, are harm in one direction and add up. python -m benchmarks.constants.
BITS = 0.2

KILOBYTE = 8000  # bits
_NEXT = np.array(NEXT)
# Second moments of the inputs: measured, float64 (groups, columns, columns), assumed, or not known.
Moments = np.ndarray | Assumed | None
_TOP = 2**15 - 1


def magnitude_sensitivity(values: np.ndarray) -> np.ndarray:
    """Sensitivity without data: equal relative errors are taken to be equal harm in every tensor; float64 (rows,)."""
    energy = float(np.square(values, dtype=np.float64).sum())
    return np.full(len(values), NATS / energy if energy else 0.0)


def exchange_steps(sensitivity: np.ndarray, exchange: float) -> np.ndarray:
    """Steps at an exchange rate, in nats a kilobyte (8,000 bits), for sensitivities F > 0, in nats a squared unit."""
    return np.sqrt(exchange / KILOBYTE / (math.log(2) * DISTORTION * sensitivity))


def quantize(
    weight: np.ndarray,
    kept: np.ndarray | None,
    sensitivity: np.ndarray,
    hessian: Moments,
    *,
    exchange: float,
    bits: int,
    per_channel: bool,
) -> Integers:
    """Quantize one weight by rate and harm.

    weight: float32 (rows, ...), rows being output channels; with a Hessian as it was before pruning. kept: bool of its
    shape, False where it stays zero; None for all kept. sensitivity: float64 (rows,), mean diagonal Fisher information
    of a row's weights. hessian: float64 (groups, columns, columns), see `input_moments.hessians`, or, of 3 bits or
    more, as it is assumed to be, or None. exchange: nats a kilobyte. bits: 2..16, of a code; steps are widened where
    the largest weight needs more. per_channel: a scale for each row, rather than one. Returns integers on the trellis
    (of 2 bits: without one), scales powers of 2**(1/32). In the moments of the inputs no row is farther from its
    weights than zeros are.
    """
    rows = weight.reshape(len(weight), -1).astype(np.float64)
    mask = np.ones(rows.shape, bool) if kept is None else np.ascontiguousarray(kept).reshape(rows.shape)
    top = 2 ** (bits - 1) - 1
    layer = _Layer.of(rows.shape, sensitivity, hessian, per_channel)
    of_rows = np.abs(rows, where=mask, out=np.zeros(rows.shape)).max(axis=1, initial=0.0)
    largest = of_rows if per_channel else np.full(len(rows), of_rows.max(initial=0.0))
    # Where nothing is sensitive, some finite step. It must not be a small one: what earlier columns leave to be made
    # good would still be coded.
    steps = exchange_steps(np.maximum(layer.sensitivity, 1e-300), exchange)
    steps = np.minimum(steps, np.maximum(1000 * largest, 1e-30))
    # On the scale's grid from the start: a change of it afterwards would move large codes by more than they are off.
    reference = np.where(mask, rows, 0.0)
    if top > 1:
        steps = powers.nearest(steps)
        enough = largest / top
        if bits <= FEW_BITS:
            enough = np.minimum(enough, ROOM * _scales_of_least_error(reference, per_channel, bits))
        steps = np.where(steps < enough, powers.at_least(np.maximum(enough, 1e-300)), steps)
        steps = steps.astype(np.float64)
        if hessian is None:
            # Paths would take small rows through codes that are far from their weights, for the sake of other rows.
            mask = mask & (of_rows >= steps / 2)[:, None]
        codes = layer.codes(rows, mask, steps, top)
    else:
        assert not isinstance(hessian, Assumed)  # moments are assumed for 3 bits or more only
        steps = powers.nearest(np.maximum(steps, _scales_of_least_error(reference, per_channel, bits))).astype(
            np.float64
        )
        codes = _ternary(rows.astype(np.float32), mask, hessian, steps)
    gain, most = layer.gain(reference, codes * steps[:, None], per_channel)
    longest = np.abs(codes).max(axis=1, initial=1) if per_channel else np.abs(codes).max(initial=1)
    # Codes times the scale are finite.
    limit = powers.at_most(np.minimum(steps * np.where(most > 0, most, 1.0), LARGEST / longest))
    scale = np.where(most > 0, np.minimum(powers.nearest(steps * np.where(most > 0, gain, 1.0)), limit), np.float32(0))
    live = np.asarray(codes.any(axis=1))
    # A row of zeros decodes to zeros by any scale: the one above it takes the fewest bits to tell.
    scale = scale[np.maximum.accumulate(np.where(live, np.arange(len(live)), live.argmax() if len(live) else 0))]
    kind = np.int8 if bits <= 8 else np.int16
    return Integers(
        codes.reshape(weight.shape).astype(kind), scale if per_channel else scale[0].reshape(()), bits, trellis=top > 1
    )


def round_values(values: np.ndarray, sensitivity: float, exchange: float) -> Integers:
    """Biases and the like, float32 of any shape, as integers with one step for all: by the same exchange rate.

    sensitivity: mean Fisher information of a value. The step is a root mean square at most, and codes fit 16 bits.
    """
    largest = float(np.abs(values).max())
    if not largest:
        return on_grid(values, np.ones((), np.float32))
    # Plain rounding: a squared error of a twelfth of a squared step.
    step = float(exchange_steps(np.array(max(sensitivity, 1e-300)), exchange)) * math.sqrt(12 * DISTORTION)
    step = min(step, float(np.sqrt(np.square(values, dtype=np.float64).mean())))
    return on_grid(values, powers.nearest(np.array(step)))


def on_grid(values: np.ndarray, scale: np.ndarray) -> Integers:
    """Finite values as 16-bit integers times a scale of shape (), or a greater one where the largest value needs it."""
    largest = float(np.abs(values).max(initial=0.0))
    if largest > _TOP * float(scale):
        scale = powers.at_least(np.array(largest / _TOP))
    top = min(_TOP, math.floor(LARGEST / float(scale)))
    codes = np.rint(values / np.float64(scale)).clip(-top, top)
    return Integers(codes.astype(np.int16), scale, 16)


def _scales_of_least_error(rows: np.ndarray, per_channel: bool, bits: int) -> np.ndarray:
    """The scales of least squared error for integer codes of so many bits: float64 (rows,)."""
    rows = rows.astype(np.float32)
    step = Quantize(bits, "channel" if per_channel else "tensor", "mse")
    largest = np.abs(rows).max(axis=1, initial=0.0)
    scales = plain.scales(rows, largest, step)[0] if rows.size else largest
    return np.broadcast_to(scales, (len(rows),)).astype(np.float64)


def _ternary(rows: np.ndarray, mask: np.ndarray, hessian: np.ndarray | None, steps: np.ndarray) -> np.ndarray:
    if hessian is not None:
        return round_with_compensation(rows, hessian, mask, EvenGrid(steps.astype(np.float32), -1, 1)).astype(np.int32)
    return np.where(mask, np.rint(rows / steps[:, None]), 0).clip(-1, 1).astype(np.int32)


class _Layer:
    """What errors of a layer's weights cost, those that later columns make good being left out.

    sensitivity: float64 (rows,), mean diagonal Fisher information, in nats a squared unit.
    """

    def __init__(
        self, sensitivity: np.ndarray, order: np.ndarray, hessian: Moments, feedback: Moments, pivots: np.ndarray
    ) -> None:
        self.sensitivity = sensitivity
        self._order = order  # of the columns
        self._hessian = hessian  # (groups, columns, columns), in that order, or as assumed, or None
        self._feedback = feedback
        self._pivots = pivots  # (groups, columns), mean 1 a group

    @classmethod
    def of(cls, shape: tuple[int, int], sensitivity: np.ndarray, hessian: Moments, per_channel: bool) -> "_Layer":
        floor = LEAST_SENSITIVITY * sensitivity.mean() if len(sensitivity) else 0.0
        sensitivity = np.maximum(sensitivity, floor)
        columns = shape[1]
        made: tuple[Moments, Moments] = None, None
        if hessian is None or not columns:
            order, pivots = np.arange(columns), np.ones((1, columns))
        elif isinstance(hessian, Assumed):
            order, made, share = np.arange(columns), (hessian, hessian), hessian.pivots.mean()
            sensitivity, pivots = sensitivity * share, hessian.pivots[None] / share
        else:
            diagonal = np.einsum("gii->gi", hessian)
            order = np.argsort(-diagonal.sum(axis=0), kind="stable")
            parts = [factorised(group[np.ix_(order, order)]) for group in hessian]
            made = np.stack([part[0] for part in parts]), np.stack([part[1] for part in parts])
            pivots = np.stack([part[2] for part in parts])
            # The mean Fisher information of a row counts inputs that are always zero; pivots are of the live ones.
            live = np.maximum(np.count_nonzero(diagonal, axis=1), 1)
            share = pivots.mean(axis=1) * columns / live
            sensitivity = sensitivity * np.repeat(share, shape[0] // len(hessian))
            pivots = pivots / pivots.mean(axis=1, keepdims=True)
        if not per_channel:
            sensitivity = np.full(len(sensitivity), sensitivity.mean() if len(sensitivity) else 0.0)
        return cls(sensitivity, order, *made, pivots)

    def codes(self, rows: np.ndarray, mask: np.ndarray, steps: np.ndarray, top: int) -> np.ndarray:
        """Codes of the trellis, int32 of the shape of rows. mask: False where a code is 0; steps: float64 (rows,)."""
        count, columns = rows.shape
        weight = np.ascontiguousarray(rows[:, self._order])
        kept = np.ascontiguousarray(mask[:, self._order]).astype(np.int8)
        codes, errors = np.zeros(rows.shape, np.int32), np.zeros(rows.shape)
        groups = len(self._pivots)
        size = count // groups
        # The price of a bit, where a squared error of a squared step costs 1.
        price = BITS * 2 * math.log(2) * DISTORTION if self._feedback is None else 0.0
        laplace = laplace_bits(weight, kept > 0, steps)
        feedback = self._feedback
        assumed = feedback if isinstance(feedback, Assumed) else None
        parts = [slice(start, min(start + BLOCK, columns)) for start in range(0, columns, BLOCK)]
        total = np.zeros(count)  # of errors so far
        if assumed:
            # What is only assumed of the inputs does not take a large weight away for the sake of others.
            kept[(kept > 0) & (np.abs(weight) >= 2 * steps[:, None])] = NOT_ZERO
        for block in assumed.blocks(BLOCK) if assumed else parts:
            start, width = block.start, block.stop - block.start
            targets = weight[:, block].copy()
            corner = np.zeros((groups, width, width))
            if assumed:
                targets += assumed.made_good(errors, total, block)
                corner[:] = assumed.corner(block)
            elif feedback is not None and not isinstance(feedback, Assumed):
                for group in range(groups):
                    part = slice(group * size, (group + 1) * size)
                    targets[part] += errors[part, :start] @ feedback[group, :start, block]
                corner[:] = feedback[:, block, block]
            pivots = np.ascontiguousarray(self._pivots[:, block])
            code_block(start, weight, targets, corner, pivots, kept, steps, laplace, top, price, _NEXT, codes, errors)
            total += errors[:, block].sum(axis=1)
        result = np.empty_like(codes)
        result[:, self._order] = codes
        return result

    def gain(self, weight: np.ndarray, decoded: np.ndarray, per_channel: bool) -> tuple[np.ndarray, np.ndarray]:
        """Factors of the rows' scales: by which w H q becomes w H w, and the largest one allowed; float64 (rows,) each.

        Beyond the second, 2 w H q / q H q, the squared error w H w - 2 w H q + q H q is more than that of zeros.
        """
        wanted, found, energy = np.empty((3, len(weight)))
        groups = len(self._pivots)
        size = len(weight) // groups
        for group in range(groups):
            part = slice(group * size, (group + 1) * size)
            w, q = weight[part][:, self._order], decoded[part][:, self._order]
            seen, own = self._seen(w, group), self._seen(q, group)
            wanted[part], found[part] = (seen * w).sum(axis=1), (seen * q).sum(axis=1)
            energy[part] = (own * q).sum(axis=1)
        if not per_channel:
            wanted[:], found[:], energy[:] = wanted.sum(), found.sum(), energy.sum()
        most = np.divide(2 * np.maximum(found, 0.0), energy, out=np.ones(len(weight)), where=energy > 0)
        return np.divide(wanted, found, out=most.copy(), where=found > 0), most

    def _seen(self, rows: np.ndarray, group: int) -> np.ndarray:
        """The rows of a group times its second moments."""
        if self._hessian is None:
            return rows
        return self._hessian.times(rows) if isinstance(self._hessian, Assumed) else rows @ self._hessian[group]


def sensitivity(values: np.ndarray, step: Quantize, fisher: np.ndarray | None) -> np.ndarray:
    """What errors of each row of values are taken to cost; raises RecipeError where it needs samples and has none."""
    if step.weighting == Weighting.MAGNITUDE:
        return magnitude_sensitivity(values)
    if fisher is None:
        raise RecipeError(
            'weighting "fisher" needs calibration samples; there are none here. Choose weighting "magnitude".'
        )
    return fisher


def _takes(work: Work) -> bool:
    step = work.plan.quantize
    return step is not None and step.bits > 1 and step.calibration == Calibration.RATE and work.tensor is None


def _by_rate(work: Work) -> Work:
    step = plain.per_row(work.weight, work.quantize)
    hessian: Moments = work.hessian
    # Codes of 2 bits are rounded one by one, and make nothing good.
    if hessian is None and step.weighting == Weighting.MAGNITUDE and step.bits > 2:
        hessian = moments.assumed(work.weight.shape)
    weight = work.layer.weight if hessian is not None else work.weight
    tensor = quantize(
        weight,
        work.kept,
        sensitivity(weight, step, work.fisher),
        hessian,
        exchange=step.exchange,
        bits=step.bits,
        per_channel=step.granularity == Granularity.CHANNEL,
    )
    return replace(work, tensor=tensor, settled=True)


def _samples(recipe: Recipe) -> tuple[Sampled, ...]:
    return (Sampled.FISHER,) * recipe.by_fisher


def _keeping(recipe: Recipe) -> str:
    by_rate = recipe.quantize is not None and recipe.quantize.calibration == Calibration.RATE
    return "a lower exchange rate" if by_rate else ""


METHODS = (
    WeightMethod("rate", Stage.QUANTIZE, _takes, _by_rate, keeping=_keeping, samples=_samples),
    MethodEntry(
        name="rate",
        title="Quantization by rate and harm",
        summary=(
            "An error harms much in one place and hardly in another. How much is measured on samples (Fisher "
            "information), or guessed from magnitudes; errors are then made good for inputs that share a mean, which "
            "the sum of a channel's errors would move. One exchange rate between bytes and harm sets all steps. Codes "
            "follow a trellis: each says which may come next, and at equal bits they lie closer to the weights. Of "
            "2 bits no such path is left, and codes are rounded one by one."
        ),
        formula=(
            r"\begin{gathered} D_{\mathrm{KL}} \approx \tfrac{1}{2} \sum_i F_i (w_i - \hat w_i)^2, \quad "
            r"F = \mathbb{E}_x \sum_y p_y \Bigl(\frac{\partial \log p_y}{\partial w}\Bigr)^2 \\ "
            r"-\frac{\partial D}{\partial R} = \lambda \;\text{ everywhere:}\quad "
            r"s = \sqrt{\frac{\lambda}{\ln 2\; c\, F}} \\ "
            r"\text{by magnitude:}\quad H = (1 - m)\, I \otimes S + m\, \mathbf{1}\mathbf{1}^{\top}, \quad "
            r"S_{ab} = r^{|a - b|} \end{gathered}"
        ),
        settings=explained(calibration="", exchange=r"\lambda", weighting="F"),
        reference=(
            "Marcellin and Fischer, *Trellis coded quantization of memoryless and Gauss-Markov sources*, IEEE "
            "Transactions on Communications 1990. Haase et al., *Dependent scalar quantization for neural network "
            "compression*, ICIP 2020. Shoham and Gersho, *Efficient bit allocation for an arbitrary set of "
            "quantizers*, IEEE Transactions on Acoustics, Speech and Signal Processing 1988. Hassibi and Stork, "
            "*Second order derivatives for network pruning: Optimal Brain Surgeon*, NIPS 1992"
        ),
        section=Section.QUANTIZE,
        place=30,
        example=Recipe(quantize=Quantize(8, calibration="rate", exchange=1e-3, weighting="magnitude")),
        used_by=lambda recipe: (
            (step := recipe.quantize) is not None and step.bits in range(2, 17) and step.calibration == Calibration.RATE
        ),
    ),
)
