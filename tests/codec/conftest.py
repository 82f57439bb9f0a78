"""Small compressed models: of a little net by the pipeline, or put together by hand at the edges of the format."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from paretoscope.model.compressed import CompressedModel
from paretoscope.model.statistics import ModelStatistics
from paretoscope.model.tensors import Codebook, CompressedTensor, Integers, Plain
from paretoscope.model.trellis import NEXT
from paretoscope.recipe.recipe import Recipe
from torch import nn


@pytest.fixture(scope="session")
def little() -> ModelStatistics:
    """A net with a convolution, normalisation buffers (one int64) and a linear layer of 1,296 distinct weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        net = nn.Sequential(nn.Conv2d(2, 9, 3), nn.BatchNorm2d(9), nn.ReLU(), nn.Flatten(), nn.Linear(144, 9))
        net(torch.randn(8, 2, 6, 6))
    with torch.no_grad():
        net[1].bias[0] = -0.0
        net[4].weight[0] = 0.0
        net[4].weight[1, :3] = -0.0
    return ModelStatistics.of(net.eval(), "little")


@pytest.fixture(scope="session")
def assemble() -> Callable[..., CompressedModel]:
    """assemble(weights, rest={}, coder="ans"): a compressed model of these tensors, weights first."""

    def of(
        weights: dict[str, CompressedTensor], rest: dict[str, Plain] | None = None, coder: str = "ans"
    ) -> CompressedModel:
        rest = rest or {}
        return CompressedModel("made-up", "0" * 64, Recipe.of(coder=coder), weights, rest, (*weights, *rest))

    return of


@pytest.fixture(scope="session")
def edge_cases() -> dict[str, CompressedTensor]:
    """One tensor for every corner of the family."""
    random = np.random.default_rng(5)

    def signed(top: int, shape: tuple[int, ...], kind: type) -> np.ndarray:
        return random.integers(-top, top, shape, endpoint=True).astype(kind)

    def scale(*shape: int) -> np.ndarray:
        return random.uniform(0.001, 1, shape).astype(np.float32)

    def indices(entries: int, shape: tuple[int, ...]) -> np.ndarray:
        return random.integers(0, entries, shape, np.uint8, endpoint=True)

    def affine(bits: int, shape: tuple[int, ...], *zeros: int) -> Integers:
        kind = np.int8 if bits <= 8 else np.int16
        low, high = -(2 ** (bits - 1)), 2 ** (bits - 1)
        return Integers(
            random.integers(low, high, shape).astype(kind),
            scale(*zeros),
            bits,
            np.asarray(random.integers(low, high, zeros), kind),
        )

    def paths(bits: int, shape: tuple[int, ...]) -> np.ndarray:
        """Codes of the trellis, over all that so many bits hold."""
        top = 2 ** (bits - 1) - 1
        codes, states = np.zeros(shape, np.int8 if bits <= 8 else np.int16), np.zeros(shape[1:], np.int64)
        for row in range(shape[0]):
            odd = states >= 4
            k = random.integers(-(top // 2), top // 2, shape[1:], endpoint=True)
            k = np.where(odd & (random.random(shape[1:]) < 0.2), (top + 1) // 2, k)
            codes[row] = 2 * k - np.sign(k) * odd
            states = np.array(NEXT)[states, k & 1]
        return codes

    whole = np.arange(257).reshape(1, 257)
    return {
        "plain": Plain(np.array([[0.0, -0.0, 1e-45], [3.4e38, -1.5, 2.0]], np.float32)),
        "plain zeros": Plain(np.zeros((4, 5), np.float32)),
        "plain minus zeros": Plain(np.full((2, 600), -0.0, np.float32)),
        "plain of one value": Plain(np.full((3, 3), 0.25, np.float32)),
        **{f"q{bits}c": Integers(signed(2 ** (bits - 1) - 1, (6, 7), np.int8), scale(6), bits) for bits in range(2, 9)},
        "q1t": Integers(np.where(signed(9, (5, 4), np.int8) < 0, np.int8(-1), np.int8(1)), scale(), 1),
        "q1 with zeros": Integers(signed(1, (5, 4), np.int8), scale(5), 1),
        "q8 at its ends": Integers(np.array([[-127, 127, 0, 1]], np.int8), scale(1), 8),
        "q8 all zero": Integers(np.zeros((3, 700), np.int8), scale(3), 8),
        "q8 with long runs": Integers(np.eye(4, 900, 255, np.int8), scale(), 8),
        "q16c": Integers(signed(32767, (4, 300), np.int16), scale(4), 16),
        "q16 at its ends": Integers(np.array([[-32767, 32767, 0, -1]], np.int16), scale(), 16),
        "q16 all zero": Integers(np.zeros((2, 3), np.int16), scale(2), 16),
        **{
            f"q{bits}c": Integers(signed(2 ** (bits - 1) - 1, (3, 40), np.int16), scale(3), bits)
            for bits in (9, 12, 15)
        },
        **{f"a{bits}c": affine(bits, (6, 7, 2), 6) for bits in range(2, 17)},
        **{f"d{bits}c": Integers(paths(bits, (9, 5, 3)), scale(9), bits, trellis=True) for bits in range(2, 17)},
        "d4t of no axis": Integers(paths(4, (1,)).reshape(()), scale(), 4, trellis=True),
        "d7c of one axis": Integers(paths(7, (40,)), scale(40), 7, trellis=True),
        "d8 all zero": Integers(np.zeros((3, 700), np.int8), scale(3), 8, trellis=True),
        "d8 of one row": Integers(np.array([[0, 4, 0, -126]], np.int8), scale(1), 8, trellis=True),
        "d12 that is narrow": Integers(np.array([[510, -2], [0, 2]], np.int16), scale(), 12, trellis=True),
        "d12 that is wide": Integers(np.array([[512, -2], [0, 2]], np.int16), scale(), 12, trellis=True),
        "d8 empty": Integers(np.zeros((3, 0), np.int8), scale(3), 8, trellis=True),
        "d8 of no rows": Integers(np.zeros((0, 3), np.int8), scale(0), 8, trellis=True),
        "a4t": affine(4, (6, 50)),
        "a12t": affine(12, (6, 50)),
        "a8 at its ends": Integers(
            np.array([[-128, 127, 0, 1]] * 3, np.int8), scale(3), 8, np.array([-128, 127, 0], np.int8)
        ),
        "a16 at its ends": Integers(
            np.array([[-32768, 32767, 0, 1]] * 3, np.int16), scale(3), 16, np.array([-32768, 32767, -1], np.int16)
        ),
        "a8 mostly zero": Integers(
            np.where(np.eye(4, 900, 255) > 0, 5, np.array([[-128], [3], [0], [127]])).astype(np.int8),
            scale(4),
            8,
            np.array([-128, 3, 0, 127], np.int8),
        ),
        "a8 of one axis": affine(8, (30,), 30),
        "a8 empty": Integers(np.zeros((3, 0), np.int8), scale(3), 8, np.array([1, 2, 3], np.int8)),
        "k0f": Codebook(np.zeros((3, 4), np.uint8), Plain(np.zeros(0, np.float32))),
        "k0q4": Codebook(np.zeros((3, 4), np.uint8), Integers(np.zeros(0, np.int8), scale(), 4)),
        "k1f": Codebook(indices(1, (3, 4)), Plain(scale(1))),
        "k1f without zeros": Codebook(np.ones((2, 2), np.uint8), Plain(scale(1))),
        "k255f": Codebook(whole[:, :256].astype(np.uint8), Plain(np.sort(scale(255)))),
        "k256f": Codebook(whole.astype(np.uint16), Plain(np.sort(scale(256)))),
        "k16q8": Codebook(indices(16, (8, 50)), Integers(signed(127, (16,), np.int8), scale(), 8)),
        "k256q16": Codebook(whole.astype(np.uint16), Integers(signed(32767, (256,), np.int16), scale(), 16)),
        "k2q1": Codebook(indices(2, (4, 4)), Integers(np.array([-1, 1], np.int8), scale(), 1)),
        "empty axis": Integers(np.zeros((3, 0), np.int8), scale(3), 8),
        "four axes": Integers(signed(3, (2, 3, 2, 2), np.int8), scale(2), 3),
    }
