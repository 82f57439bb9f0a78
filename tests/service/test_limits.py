"""What a server gives its visitors: settings that are read and checked, and remedies that work."""

import math
from dataclasses import fields

import pytest
from paretoscope.base.errors import CompressionError
from paretoscope.service.limits import NONE, LimitError, Limits, paths


def test_defaults_hold_without_settings_and_nothing_is_limited_without_a_server() -> None:
    assert Limits.from_environment({"PARETOSCOPE_MAX_EPOCHS": " "}) == Limits()
    assert (Limits().epochs, Limits().minutes, Limits().queue, Limits().trainings) == (500, 120, 20, 3)
    assert all(getattr(NONE, each.name) == math.inf for each in fields(Limits))


@pytest.mark.parametrize("name", [each.name for each in fields(Limits)])
def test_every_limit_is_a_setting(name: str) -> None:
    field = next(each for each in fields(Limits) if each.name == name)
    variable, least = field.metadata["variable"], field.metadata["least"]
    assert getattr(Limits.from_environment({variable: "7"}), name) == 7
    assert getattr(Limits.from_environment({variable: "inf"}), name) == math.inf
    for wrong in ("many", "nan", "-3", str(least - 0.001)):
        with pytest.raises(LimitError, match=f"{variable} must be a number of at least {least:g}.*got '{wrong}'"):
            Limits.from_environment({variable: wrong})
    assert getattr(Limits.from_environment({variable: str(least)}), name) == least


def test_a_limit_is_told_with_its_value() -> None:
    Limits().check("epochs", "the epochs of a training", 500, "Train fewer.")
    told = "^the epochs of a training must be at most 500 on this server; got 501. Train fewer.$"
    with pytest.raises(CompressionError, match=told):
        Limits().check("epochs", "the epochs of a training", 501, "Train fewer.")


def test_paths_are_offered_on_the_own_machine_unless_said_otherwise() -> None:
    assert paths(True, {}) and not paths(False, {})
    assert not paths(True, {"PARETOSCOPE_PATHS": "No"}) and paths(False, {"PARETOSCOPE_PATHS": " yes "})
    with pytest.raises(LimitError, match="PARETOSCOPE_PATHS must be yes or no; got 'maybe'"):
        paths(True, {"PARETOSCOPE_PATHS": "maybe"})
