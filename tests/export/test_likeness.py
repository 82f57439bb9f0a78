"""How alike an integer export must be: near ties are no errors, a wrong export is one, also of a restless network."""

from types import SimpleNamespace

import numpy as np
import pytest
from paretoscope.export.likeness import alike, deviation_off, flipped, mean_off

DRAW = np.random.default_rng(0)
# Ten classes of 40 samples, far apart; and the same where the two best are nearly tied.
CLEAR = (DRAW.normal(size=(40, 10)) + 8 * np.eye(10)[np.arange(40) % 10]).astype(np.float32)
TIED = CLEAR.copy()
TIED[np.arange(40), (np.arange(40) + 1) % 10] = CLEAR.max(1) - 0.001
JUDGE = alike(flips=0.01, mean=0.01)


def original(screen: np.ndarray, nudged: np.ndarray | None = None) -> SimpleNamespace:
    return SimpleNamespace(screen=screen, nudged=screen if nudged is None else nudged)


def noise(scale: float) -> np.ndarray:
    return (np.random.default_rng(1).normal(size=CLEAR.shape) * scale).astype(np.float32)


def test_answers_that_were_nearly_tied_may_flip() -> None:
    found = TIED + noise(0.01)
    assert flipped(found, TIED) > 0.2 and mean_off(found, TIED) < 0.01
    assert JUDGE(found, original(TIED)) is None
    assert flipped(found, TIED, 2 * 0.01) == 0


def test_an_answer_that_was_no_tie_may_not_flip() -> None:
    """A wrong row among many right ones moves the mean by little."""
    found = CLEAR.copy()
    found[0, [0, 1]] = found[0, [1, 0]]
    assert mean_off(found, CLEAR) < 0.01
    assert "2.5% differ" in JUDGE(found, original(CLEAR))


def test_a_network_that_amplifies_roundings_is_allowed_what_these_do() -> None:
    nudged, found = TIED + noise(0.3), TIED - noise(0.3)
    assert mean_off(found, TIED) > 0.015
    assert JUDGE(found, original(TIED, nudged)) is None
    said = JUDGE(found, original(TIED))
    assert "by 1% of the largest on average; here" in said and "amplifies" not in said
    assert f"logits by {100 * mean_off(found, TIED):.3g}%" in said


@pytest.mark.parametrize("restless", [False, True])
def test_a_wrong_export_is_refused(restless: bool) -> None:
    """Also of a network of nearly tied answers that makes much of roundings."""
    given = original(TIED, TIED + noise(0.5) if restless else None)
    wrong = {
        "the same for all": np.repeat(TIED.mean(0, keepdims=True), 40, 0),
        "of other samples": TIED[::-1],
        "of other classes": TIED[:, ::-1],
        "zeros": np.zeros_like(TIED),
        "twice as large": TIED * 2,
        "not numbers": np.full_like(TIED, np.nan),
    }
    for name, found in wrong.items():
        assert JUDGE(found, given) is not None, name


def test_outputs_that_hardly_differ_between_samples_must_follow_them() -> None:
    """All logits share a large part, of which 1 % is more than what samples differ by."""
    screen = (100 + np.arange(10) + 0.1 * DRAW.normal(size=(40, 10))).astype(np.float32)
    screen[:, 8] = screen[:, 9] + 0.05 * DRAW.normal(size=40)
    found = np.repeat(screen.mean(0, keepdims=True), 40, 0)
    assert mean_off(found, screen) < 0.01 and deviation_off(found, screen) == pytest.approx(1, rel=1e-3)
    assert "of what samples differ by" in JUDGE(found, original(screen))
    assert JUDGE(screen + noise(0.02), original(screen)) is None


def test_the_message_has_digits_enough_to_tell_both_apart() -> None:
    found = CLEAR + np.float32(0.00104) * np.abs(CLEAR).max()
    said = alike(flips=0.005, mean=0.001)(found, original(CLEAR))
    assert "0.5%" in said and "by 0.1% of the largest" in said and said.endswith("logits by 0.104%")
