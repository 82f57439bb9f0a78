"""A bounded mapping: what was used last stays, whatever was set first."""

import pytest
from paretoscope.base.errors import CompressionError
from paretoscope.base.recent import Recent


def test_what_was_not_used_for_the_longest_time_goes_first() -> None:
    kept: Recent[str, int] = Recent(3)
    for number, key in enumerate("abc"):
        kept[key] = number
    assert kept.get("a") == 0  # used: b is the oldest now
    kept["d"] = 3
    assert list(kept) == ["c", "a", "d"] and "b" not in kept and kept.get("b") is None
    kept["c"] = 9  # set anew, it is the latest
    kept["e"] = 4
    assert kept.items() == [("d", 3), ("c", 9), ("e", 4)]


def test_looking_at_all_uses_none() -> None:
    kept: Recent[str, int] = Recent(2)
    kept["a"], kept["b"] = 1, 2
    assert kept.values() == [1, 2] and "a" in kept and len(kept) == 2
    kept["c"] = 3
    assert list(kept) == ["b", "c"]


def test_weights_are_bounded_by_their_sum_and_the_last_stays() -> None:
    kept: Recent[str, str] = Recent(5, len)
    kept["a"], kept["b"], kept["c"] = "12", "123", "1"
    assert list(kept) == ["b", "c"]
    kept["d"] = "1234567"
    assert list(kept) == ["d"]
    kept["d"], kept["e"] = "1", "1234"
    assert list(kept) == ["d", "e"]


def test_forgetting() -> None:
    kept: Recent[str, int] = Recent(2, lambda value: value)
    kept["a"] = kept["b"] = 1
    kept.pop("a")
    kept.pop("never there")
    kept["c"] = 1
    assert list(kept) == ["b", "c"]
    kept.clear()
    assert len(kept) == 0
    kept["d"], kept["e"] = 1, 1
    assert list(kept) == ["d", "e"]
    with pytest.raises(KeyError):
        kept["f"]


@pytest.mark.parametrize("most", [0, -1, float("nan")])
def test_no_room_is_refused(most: float) -> None:
    with pytest.raises(CompressionError, match="room for at least 1"):
        Recent(most)
