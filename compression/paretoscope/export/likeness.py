"""How alike an integer export must be to the integer network: kernels round elsewhere, and some networks amplify that.

Codes are rounded values, so a difference in the last place of a float moves a few of them by a whole step. Most
networks damp such steps; deep ones with normalisation, and those whose weights are drawn, make as much of them as of
all roundings together. What a network makes of them is measured on itself: the same integers with every scale of an
activation moved by two of its last places. Where that alone is beyond the promise, twice as much is allowed.

An answer that flips between two classes is an error only if they were further apart than both may move.
"""

import numpy as np

from paretoscope.export.base import Judge, Original, answers, distance
from paretoscope.runtimes.onnx_graph import Arrays, arrays

# Of two runs that round elsewhere, each is as far from a third as that from them. Chosen by hand.
_NUDGES = 2.0
# Outputs that were forgiven anything must follow the samples: they may be off by so much of what these differ by.
# An output that is the same for every sample, and those of other samples, are off by 1 and more. Chosen by hand.
_DEVIATION = 0.5


def alike(flips: float, mean: float) -> Judge:
    """Asks that of the predictions at most the share `flips` differ from the integer network's, and that logits are
    off by at most `mean` of its largest one on average; near ties and networks that amplify roundings as above."""

    def judge(logits: Arrays, original: Original) -> str | None:
        expected = original.screen
        if distance(logits, expected) == np.inf:
            return "logits must be finite and of every image; these are not"
        share, off, allowed = flipped(logits, expected), mean_off(logits, expected), mean
        if share <= flips and off <= mean:
            return None
        rule = (
            f"at most {_percent(flips)} of the predictions may differ from the integer network's and logits by "
            f"{_percent(mean)} of the largest on average"
        )
        if off > mean:
            allowed = max(mean, _NUDGES * mean_off(original.nudged, expected))
            rule += f" ({_percent(allowed)} as this network amplifies roundings)" if allowed > mean else ""
        # Both classes may move by what is allowed.
        share = flipped(logits, expected, 2 * allowed)
        found = f"{rule}; here {_percent(share)} differ by more than that, and logits by {_percent(off)}"
        if share > flips or off > allowed:
            return found
        follows = deviation_off(logits, expected)
        if follows > _DEVIATION:
            return f"{found}, which is {_percent(follows)} of what samples differ by; {_percent(_DEVIATION)} may be"
        return None

    return judge


def mean_off(outputs: Arrays, expected: Arrays) -> float:
    """Mean absolute difference as a share of the largest expected value; the worst of several outputs."""
    pairs = zip(arrays(outputs), arrays(expected), strict=True)
    return max(float(np.abs(one - other).mean() / max(np.abs(other).max(), 1e-12)) for one, other in pairs)


def deviation_off(outputs: Arrays, expected: Arrays) -> float:
    """Mean absolute difference as a share of what samples differ from their mean by; the worst of several outputs."""
    pairs = zip(arrays(outputs), arrays(expected), strict=True)
    return max(
        float(np.abs(one - other).mean() / max(np.abs(other - other.mean(0)).mean(), 1e-12)) for one, other in pairs
    )


def flipped(outputs: Arrays, expected: Arrays, tie: float = 0.0) -> float:
    """The share of samples whose top answer is another one.

    tie: of the largest expected value; answers that were no further apart than that do not count.
    """
    found, wanted = answers(outputs), answers(expected)
    differ = found != wanted
    if tie and differ.any():
        first, rows = arrays(expected)[0], np.flatnonzero(differ)
        margins = first[rows, wanted[rows]] - first[rows, found[rows]]
        differ[rows] = margins > tie * np.abs(first).max()
    return float(differ.mean())


def _percent(share: float) -> str:
    return f"{100 * share:.3g}%"
