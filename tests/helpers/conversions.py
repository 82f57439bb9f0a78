"""Conversions of models of the zoo, each made once in a process."""

from functools import cache

import pytest
from paretoscope.export import Conversion, Original, Verification, convert, formats, verify
from paretoscope.recipe.recipe import Recipe
from paretoscope.service import subjects

INT8 = Recipe.of(bits=8, activations=8, rest="fp16")
RATE = {
    "bits": 8, "calibration": "rate", "exchange": 1e-4, "weighting": "magnitude", "rest": "rate", "coder": "context",
    "activations": 8,
}  # fmt: skip
QUICKEST = "lenet-300-100"


def original(model: str, recipe: Recipe = INT8) -> Original:
    return _original(model, recipe)


def converted(model: str, format: str, recipe: Recipe = INT8) -> Conversion:
    return _converted(model, format, recipe)


def verified(model: str, format: str, recipe: Recipe = INT8) -> Verification:
    """The check of a conversion as it was made."""
    return _verified(model, format, recipe)


# A cache tells a call with the default recipe from one that names it, and libraries write other bytes each time.
@cache
def _original(model: str, recipe: Recipe) -> Original:
    subject = subjects.load(model)
    return Original(subject, subject.compress(recipe))


@cache
def _converted(model: str, format: str, recipe: Recipe) -> Conversion:
    each = original(model, recipe)
    return convert(each.compressed, format, each.subject, original=each)


@cache
def _verified(model: str, format: str, recipe: Recipe) -> Verification:
    each = original(model, recipe)
    return verify(converted(model, format, recipe), each.subject, each.compressed, original=each)


def checked(conversion: Conversion, recipe: Recipe = INT8):
    each = original(QUICKEST, recipe)
    return verify(conversion, each.subject, each.compressed, original=each)


def needs(format: str) -> None:
    if problem := formats.get(format).missing():
        pytest.skip(problem)
