"""A task's figures in plain text: for the command line and for files, where the screen's signs would not fit."""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from paretoscope.tasks.task import Flip
from paretoscope.tasks.words import FlipWord, Words


@runtime_checkable
class Counted(Protocol):
    """Figures, a model's or the baseline's, of a task whose answers are right or wrong. correct: how many are right."""

    @property
    def correct(self) -> int: ...


def figure(words: Words, value: float, digits: int = 2) -> str:
    """The headline figure, e.g. "98.87%"."""
    return f"{words.factor * value:.{digits}f}{'' if words.unit == '%' else ' '}{words.unit}".rstrip()


def counted(figures: object, n: int) -> str:
    """What the headline figure of n samples was counted from, e.g. "788 of 797"; n alone where nothing is counted."""
    return f"{figures.correct} of {n}" if isinstance(figures, Counted) else str(n)


def flip(words: Words, kind: Flip) -> FlipWord:
    """What a kind of flip is called; KeyError for `Flip.SAME`."""
    return {Flip.BROKEN: words.flips.broken, Flip.MENDED: words.flips.mended, Flip.CHANGED: words.flips.changed}[kind]


def flips(words: Words, counts: Mapping[Flip, int]) -> str:
    """How many samples are of each kind, e.g. "3 broken, 1 mended": those two, the third, or all."""
    told = [Flip.CHANGED] * bool(counts.get(Flip.CHANGED))
    if not told or counts.get(Flip.BROKEN) or counts.get(Flip.MENDED):
        told = [Flip.BROKEN, Flip.MENDED, *told]
    return ", ".join(f"{counts.get(kind, 0):,} {flip(words, kind).told}" for kind in told)


def judged_by(words: Words) -> str:
    """The paired test in a word, e.g. "McNemar" for "McNemar's exact test"."""
    return words.test.partition("'s ")[0]


def sentence(text: str) -> str:
    """A text as the beginning of a sentence."""
    return f"{text[:1].upper()}{text[1:]}"
