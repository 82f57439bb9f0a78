from dataclasses import dataclass

import pytest
from paretoscope.base.errors import CompressionError, UnknownNameError
from paretoscope.base.registry import Registry


@dataclass(frozen=True)
class Fruit:
    name: str
    weight: int = 0


def test_entries_come_in_the_order_of_their_addition():
    fruits = Registry[Fruit]("fruit")
    pear = fruits.add(Fruit("pear"))
    apple = fruits.add(Fruit("apple"))
    assert list(fruits) == [pear, apple]
    assert fruits.names() == ("pear", "apple")
    assert len(fruits) == 2
    assert fruits.get("apple") is apple
    assert "pear" in fruits
    assert "plum" not in fruits


def test_a_name_can_be_registered_once():
    fruits = Registry[Fruit]("fruit")
    first = fruits.add(Fruit("pear", 1))
    with pytest.raises(CompressionError, match="'pear' is registered already"):
        fruits.add(Fruit("pear", 2))
    assert list(fruits) == [first]


@pytest.mark.parametrize("name", ["plum", "", None, ["pear"]])
def test_an_unknown_name_is_told_the_known_ones(name):
    fruits = Registry[Fruit]("fruit")
    fruits.add(Fruit("pear"))
    fruits.add(Fruit("apple"))
    with pytest.raises(UnknownNameError, match="Choose one of: pear, apple") as raised:
        fruits.get(name)
    assert repr(name) in str(raised.value)


def test_the_first_entries_may_not_share_a_name_either():
    twice = Registry[Fruit]("fruit", lambda: [Fruit("pear"), Fruit("pear", 2)])
    with pytest.raises(CompressionError, match="'pear' is registered already"):
        twice.names()
    with pytest.raises(CompressionError):  # it is asked again, and says so again
        twice.get("pear")
