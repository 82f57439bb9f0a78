"""Small compressed models with a tensor of every kind."""

from dataclasses import replace
from typing import Any

import numpy as np
from paretoscope.model.packed import PackedModel
from paretoscope.model.powers import ZERO, from_steps
from paretoscope.model.tensors import Codebook, CompressedTensor, Integers, Plain
from paretoscope.model.trellis import NEXT
from paretoscope.recipe.recipe import Recipe


def path(indices: np.ndarray) -> np.ndarray:
    """The codes of indices k (rows, ...) of the trellis."""
    codes, states = np.zeros(indices.shape, np.int64), np.zeros(indices.shape[1:], np.int64)
    for row, k in enumerate(indices):
        codes[row] = 2 * k - np.sign(k) * (states >= 4)
        states = np.array(NEXT)[states, k & 1]
    return codes


def every_kind() -> tuple[dict[str, CompressedTensor], dict[str, CompressedTensor]]:
    """A tensor of every kind, small."""
    draw = np.random.default_rng(9)
    codes = draw.integers(-3, 4, (4, 30)).astype(np.int8)
    codes[:, 5:25] = 0
    scale, one, half = draw.random(4, np.float32), np.array(0.3, np.float32), np.array(0.5, np.float32)
    powers = from_steps(np.array([-32, -63, 5, ZERO]))
    wide = draw.integers(-300, 300, (2, 5)).astype(np.int16)
    weights = {
        "conv.weight": Integers(codes, scale, 3),
        "q3p": Integers(codes, powers, 3),
        "q1": Integers(np.sign(codes), one, 1),
        "d6": Integers(path(draw.integers(-9, 10, (6, 5, 3))).astype(np.int8), np.full(6, half), 6, trellis=True),
        "d12": Integers(path(draw.integers(-900, 901, (5, 4))).astype(np.int16), one, 12, trellis=True),
        "d12p": Integers(path(draw.integers(-2, 3, (4, 9))).astype(np.int16), powers, 12, trellis=True),
        "k2f": Codebook((np.abs(codes) % 3).astype(np.uint8), Plain(np.array([-1, 1], np.float32))),
        "k1q4": Codebook((codes != 0).astype(np.uint8), Integers(np.array([5], np.int8), one, 4)),
        "k3q8p": Codebook(np.abs(codes).astype(np.uint8), Integers(np.array([-9, 5, 70], np.int8), half, 8)),
        "q16": Integers(wide, one, 16),
        "a3": Integers(codes, scale, 3, np.array([-4, 3, 0, 1], np.int8)),
        "a11": Integers(wide, one, 11, np.array(-900, np.int16)),
        "w4": Plain(draw.normal(size=(3, 3)).astype(np.float32)),
        "empty": Integers(np.zeros((3, 0), np.int8), powers[:3], 8),
    }
    rest = {
        "conv.bias": Integers(draw.integers(-99, 99, 12).astype(np.int8), one, 8),
        "rq16p": Integers(draw.integers(-9999, 9999, 9).astype(np.int16), half, 16),
        "f4": Plain(draw.normal(size=4).astype(np.float32)),
        "f2": Plain(np.ones(3, np.float16)),
        "i8": Plain(np.array(12)),
        "b1": Plain(np.array([True, False])),
        "u2": Plain(np.array([1, 65535], np.uint16)),
    }
    return weights, rest


def packed(coder: str, **settings: Any) -> PackedModel:
    """A bare state dict of `every_kind`, with a tie."""
    weights, rest = every_kind()
    order = (*weights, "tie", *rest)[::-1]
    recipe = Recipe.of(coder=coder, **settings)
    return PackedModel("", "0" * 64, recipe, weights, rest, order, ties={"tie": "q3p"})


def parts(model: PackedModel, count: int) -> list[PackedModel]:
    """The tensors of a model dealt out to so many; whatever is tied to another has it at its side."""
    dealt = []
    for i in range(count):
        names = {*model.order[i::count]}
        names |= {model.ties[name] for name in names if name in model.ties}
        dealt.append(
            replace(
                model,
                weights={name: each for name, each in model.weights.items() if name in names},
                rest={name: each for name, each in model.rest.items() if name in names},
                order=tuple(name for name in model.order if name in names),
                ties={name: target for name, target in model.ties.items() if name in names},
            )
        )
    return dealt
