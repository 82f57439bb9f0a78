"""The verdict: one plain sentence on a recipe's latency, why it is so, and what would be faster; of measurements only.

Of a timing whose interval is too wide it says that nothing is known yet. A difference counts when the 95 % interval of
its ratio, widened by what the machine makes of the baseline against itself, does not contain 1. What is advised was
timed too, and its interval does not meet that of the current recipe.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from paretoscope.measure.latency import Noise
from paretoscope.measure.record import Latency, Record
from paretoscope.measure.wording import NOT_ALONE, UNDECIDED_WHY, speed, speed_between
from paretoscope.recipe.recipe import FULL_PRECISION, Recipe
from paretoscope.runtimes import Runtime, runtimes
from paretoscope.tasks import Words

# Fewer zeros than these are no reason to expect anything. Chosen by hand; no benchmark.
FEW_ZEROS = 0.05

# Alternatives whose names must read otherwise before "instead would save".
PHRASES = {"half the channels": "removing half the channels"}


class Tone(StrEnum):
    """What a timing comes to."""

    FASTER = "faster"
    SAME = "same"
    SLOWER = "slower"


@dataclass(frozen=True, slots=True)
class Alternative:
    """Another recipe, timed in the same runtime and setting. name: what it does, e.g. "half the channels".

    record: of that recipe, if it was evaluated: what it does to the task's headline figure.
    """

    name: str
    recipe: Recipe
    latency: Latency
    record: Record | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the measurements say.

    headline: the finding. reason: why. advice: what measured clearly faster, "" where nothing did; recipe or runtime
    (a name) is what it takes, and button the text of the button that does so. caveat: why not to trust the timing, or
    "".
    """

    tone: Tone
    headline: str
    reason: str
    advice: str = ""
    recipe: Recipe | None = None
    runtime: str | None = None
    button: str = ""
    caveat: str = ""

    @property
    def text(self) -> str:
        """Headline and reason as one sentence."""
        return f"{self.headline}: {self.reason}."


def judge(
    recipe: Recipe,
    latency: Latency,
    words: Words,
    *,
    record: Record | None = None,
    noise: Noise | None = None,
    others: Sequence[Latency] = (),
    alternatives: Sequence[Alternative] = (),
    skipping: tuple[int, int] | None = None,
) -> Verdict:
    """The verdict on a recipe by its latency in one runtime.

    words: of the task. record: of the recipe. noise: of the machine, in the same setting. others: the recipe in other
    runtimes and number formats, same batch, threads and size. skipping: in how many of how many layers the runtime
    skips zeros.
    """
    case = _Case(recipe, latency, words, record, _spread(noise), skipping)
    tone, headline, reason = case.finding()
    caveat = case.caveat(noise)
    best = case.best(others, alternatives)
    if isinstance(best, Alternative):
        return Verdict(tone, headline, reason, case.instead(best), best.recipe, None, f"Try {best.name}", caveat)
    if best is not None:
        button = f"Switch to {runtimes.get(best.runtime).title}"
        return Verdict(tone, headline, reason, case.elsewhere(best), None, best.runtime, button, caveat)
    return Verdict(tone, headline, reason, caveat=caveat)


@dataclass(frozen=True, slots=True)
class _Case:
    """What is judged. spread: the factor by which the baseline differs from itself, at least 1."""

    recipe: Recipe
    latency: Latency
    words: Words
    record: Record | None
    spread: float
    skipping: tuple[int, int] | None

    @property
    def runtime(self) -> Runtime:
        return runtimes.get(self.latency.runtime)

    @property
    def zeros(self) -> float:
        """The share of zero weights; of the recipe's wish before it was measured."""
        if self.record is not None:
            return self.record.rates.sparse_rate
        return self.recipe.prune.sparsity if self.recipe.prune else 0.0

    @property
    def sees_zeros(self) -> bool:
        return self.runtime.sees_zeros and self.zeros >= FEW_ZEROS

    @property
    def same_program(self) -> bool:
        """Whether what was run computes just what the baseline computes, so that no ratio but 1 can be true."""
        if self.recipe.graph_key or self.latency.number_format != "fp32":
            return False
        return not self.sees_zeros or (self.skipping is not None and self.skipping[0] == 0)

    @property
    def tone(self) -> Tone:
        """What the interval says, widened."""
        if self.latency.speedup_low / self.spread > 1:
            return Tone.FASTER
        return Tone.SLOWER if self.latency.speedup_high * self.spread < 1 else Tone.SAME

    def finding(self) -> tuple[Tone, str, str]:
        """Tone, headline and reason."""
        latency, tone = self.latency, self.tone
        if not latency.decided:
            return Tone.SAME, f"Not known yet {speed(latency).interval}", "the machine was busy while this was timed"
        if self.same_program:
            return Tone.SAME, "Not faster", self.full_price()
        if tone is Tone.FASTER:
            return tone, str(speed(latency)), self.differences()
        if tone is Tone.SLOWER:
            reason = f"{self.differences()}, and that costs more than it saves in {self.runtime.title}"
            return tone, str(speed(latency)), reason
        told = f"it measured {speed(latency)}"
        if self.spread > 1:
            told += f", where the baseline differs from itself by a factor of {_ratio(self.spread)}"
        return tone, "Within the noise of this machine", f"{self.differences()}, but {told}"

    def caveat(self, noise: Noise | None) -> str:
        """Why not to trust the timing, or ""."""
        if not self.latency.decided:
            return UNDECIDED_WHY
        if self.latency.alone is False:
            return f"This was {NOT_ALONE}."
        if noise is not None and not noise.contains_one:
            return (
                f"The baseline against itself comes to {speed_between(noise.speedup, noise.low, noise.high)}, which "
                "does not contain 1: something disturbed the machine. Measure again."
            )
        if self.same_program and self.tone is not Tone.SAME:
            return (
                f"It measured {speed(self.latency)}, though both compute the same: so much is noise here, or where the "
                "weights lie in memory."
            )
        return ""

    def differences(self) -> str:
        """What is different from the baseline."""
        parts = []
        if self.recipe.simplify is not None:
            left = self.record.rates.architecture_simplification if self.record is not None else 1.0
            parts.append(f"{_percent(left)} of the parameters are left" if left < 1 else "a simpler graph")
        if self.latency.number_format == "int8":
            parts.append("integer kernels")
        if self.sees_zeros and self.skipping is None:
            parts.append(f"{_percent(self.zeros)} zeros are skipped where that pays")
        elif self.sees_zeros and self.skipping is not None and self.skipping[0]:
            parts.append(f"zeros are skipped in {self.skipping[0]} of {self.skipping[1]} layers")
        return " and ".join(parts) or "another graph"

    def full_price(self) -> str:
        """Why a recipe of the baseline's graph and number format takes the baseline's time."""
        recipe, title = self.recipe, self.runtime.title
        if self.sees_zeros and self.skipping is not None:
            return f"at {_percent(self.zeros)} zeros each of the {self.skipping[1]} layers is faster dense"
        if self.zeros >= FEW_ZEROS:
            return f"{_percent(self.zeros)} zeros, but {title} multiplies zeros at full price"
        if recipe.integer:
            return f"integers are asked for, but {title} computes in fp32"
        if recipe.bits < FULL_PRECISION:
            return f"weights of {recipe.bits} bit{'s' * (recipe.bits > 1)}, but {title} computes with them in fp32"
        if recipe.share is not None:
            return f"{recipe.share.clusters} shared values, but {title} multiplies by every weight all the same"
        return "the recipe changes neither the graph nor the number format"

    def best(self, others: Sequence[Latency], alternatives: Sequence[Alternative]) -> Latency | Alternative | None:
        """What beats the current recipe most; a runtime in which its zeros pay already goes first."""
        latency, spread = self.latency, self.spread
        if not latency.decided:
            return None
        others = [other for other in others if other.decided]
        alternatives = [other for other in alternatives if other.latency.decided]
        fastest, _ = self.milliseconds(latency)
        faster: list[tuple[float, Latency | Alternative]] = [
            (other.median_ms / latency.median_ms, other)
            for other in others
            if other.runtime != latency.runtime and self.milliseconds(other)[1] < fastest
        ]
        paying: list[tuple[float, Latency | Alternative]] = [
            (ratio, other)
            for ratio, other in faster
            if isinstance(other, Latency)
            and runtimes.get(other.runtime).sees_zeros
            and self.zeros >= FEW_ZEROS
            and other.speedup_low / spread > 1
        ]
        # Both were timed beside the same baseline: the ratio of their speed-ups is steadier than milliseconds are.
        instead: list[tuple[float, Latency | Alternative]] = [
            (latency.speedup / other.latency.speedup, other)
            for other in alternatives
            if other.recipe != self.recipe and other.latency.speedup_low / spread > latency.speedup_high * spread
        ]
        candidates = paying or [*faster, *instead]
        return min(candidates, key=lambda pair: pair[0])[1] if candidates else None

    def milliseconds(self, latency: Latency) -> tuple[float, float]:
        """The interval of a latency that follows from the ratio's, widened."""
        fast = latency.baseline_median_ms / (latency.speedup_high * self.spread)
        slow = latency.baseline_median_ms / (latency.speedup_low / self.spread)
        return min(fast, latency.median_ms), max(slow, latency.median_ms)

    def instead(self, best: Alternative) -> str:
        """Advice to take another recipe."""
        words, what = self.words, PHRASES.get(best.name, best.name)
        saved = _percent(1 - self.latency.speedup / best.latency.speedup)
        advice = f"{what[0].upper()}{what[1:]} instead would save {saved} of the time"
        if best.record is None:
            return f"{advice}; the {words.name} is measured when you try it."
        theirs, own = best.record.figures, self.record.figures if self.record is not None else None
        change = ""
        if own is not None and own.n == theirs.n:
            change = f" ({words.factor * (theirs.value - own.value):+.1f} {words.change_unit})"
        return f"{advice}, at {words.factor * theirs.value:.1f} {words.unit} {words.name}{change}."

    def elsewhere(self, best: Latency) -> str:
        """Advice to take another runtime."""
        runtime, mine = runtimes.get(best.runtime), self.latency.median_ms
        skips = runtime.sees_zeros and self.zeros >= FEW_ZEROS
        why = f", because the {_percent(self.zeros)} zeros are skipped there" if skips else ""
        return (
            f"With {runtime.title} the same recipe takes {_ms(best.median_ms)} instead of {_ms(mine)}{why}, each timed "
            f"beside the baseline in its own runtime: that saves {_percent(1 - best.median_ms / mine)} of the time."
        )


def _spread(noise: Noise | None) -> float:
    return 1.0 if noise is None else max(1.0, noise.high, 1 / noise.low)


def _ratio(ratio: float) -> str:
    """Two significant digits, and as many as it takes to differ from 1: 1.9, 1.04, 12, 0.93."""
    for digits in range(2, 7):
        text = f"{ratio:.{digits}g}" if ratio < 10**digits else f"{ratio:.0f}"
        if ratio == 1 or float(text) != 1:
            return text
    return f"{ratio:.6g}"


def _percent(fraction: float) -> str:
    """Whole percents; with a decimal below 2 % and where rounding would make everything of it."""
    percent = 100 * fraction
    decimals = 1 if 0 < percent < 2 or 99.5 <= percent < 100 else 0
    return f"{percent:.{decimals}f} %"


def _ms(milliseconds: float) -> str:
    return f"{milliseconds:.0f} ms" if milliseconds >= 100 else f"{milliseconds:.{3 if milliseconds >= 1 else 2}g} ms"
