import copy

import numpy as np
import pytest
import torch
from paretoscope.base.errors import ModelError
from paretoscope.methods import kmeans, quantize
from paretoscope.methods.compensate import Entries, EvenGrid, round_with_compensation
from paretoscope.methods.input_moments import hessians
from paretoscope.model.statistics import LayerStatistics
from paretoscope.model.weights import names
from paretoscope.recipe.recipe import Quantize
from torch import nn
from torch.nn import functional as F


def weights(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def moments(seed: int, columns: int, groups: int = 1, mixing: float = 1.0) -> np.ndarray:
    """Second moments of correlated inputs; uncorrelated ones at mixing 0."""
    random = np.random.default_rng(seed)
    mixed = np.eye(columns) + mixing * random.normal(size=(groups, columns, columns)) / np.sqrt(columns)
    x = random.normal(size=(groups, 4 * columns, columns)) @ mixed
    return x.transpose(0, 2, 1) @ x / x.shape[1]


def steps(weight: np.ndarray, bits: int) -> EvenGrid:
    top = 2 ** (bits - 1) - 1
    scale = np.abs(weight).reshape(len(weight), -1).max(axis=1) / np.float32(top)
    return EvenGrid(np.where(scale > 0, scale, np.float32(1)), -top, top)


def values(codes: np.ndarray, grid: EvenGrid | Entries) -> np.ndarray:
    rows = codes.reshape(len(codes), -1).astype(np.int64)
    if isinstance(grid, EvenGrid):
        zero = 0 if grid.zero is None else np.reshape(grid.zero, (-1, 1))
        decoded = ((rows - zero) * np.reshape(grid.scale, (-1, 1))).astype(np.float32)
    else:
        table = np.broadcast_to(grid.values, (len(rows), grid.values.shape[-1]))
        decoded = np.take_along_axis(np.pad(table, ((0, 0), (1, 0))), rows, axis=1)
    return decoded.reshape(codes.shape)


def layer_error(weight: np.ndarray, decoded: np.ndarray, hessian: np.ndarray) -> float:
    miss = (weight.astype(np.float64) - decoded).reshape(len(hessian), -1, hessian.shape[-1])
    return float(np.einsum("gri,gij,grj->", miss, hessian, miss))


def errors(weight: np.ndarray, hessian: np.ndarray, grid: EvenGrid) -> tuple[float, float]:
    """Errors of plain rounding, which uncorrelated inputs give, and of ours."""
    each = (round_with_compensation(weight, h, None, grid) for h in (np.eye(hessian.shape[-1])[None], hessian))
    plain, ours = (layer_error(weight, values(codes, grid), hessian) for codes in each)
    return plain, ours


def nearest(target: np.ndarray, row: int, grid: EvenGrid | Entries) -> int:
    if isinstance(grid, Entries):
        return 1 + int(np.argmin(np.abs(np.atleast_2d(grid.values)[row % len(np.atleast_2d(grid.values))] - target)))
    zero = 0 if grid.zero is None else grid.zero[row]
    return int(np.clip(np.rint(target / grid.scale[row]) + zero, grid.low, grid.high))


def brain_surgeon(weight, hessian, kept, grid, damping=0.01):
    """Optimal brain quantization as it is derived: after each column the inverse loses a row and a column."""
    rows = weight.reshape(len(weight), -1).astype(np.float64)
    codes = np.zeros(rows.shape, np.int64)
    kept = np.ones(rows.shape, bool) if kept is None else kept.reshape(rows.shape)
    size = len(rows) // len(hessian)
    for row in range(len(rows)):
        order = np.argsort(-np.diag(hessian[row // size]), kind="stable")
        h = hessian[row // size][np.ix_(order, order)]
        inverse = np.linalg.inv(h + damping * np.diag(h).mean() * np.eye(len(h)))
        left = rows[row, order]
        for column in order:
            zero = 0 if isinstance(grid, Entries) or grid.zero is None else grid.zero[row]
            codes[row, column] = nearest(left[0], row, grid) if kept[row, column] else zero
            value = values(codes, grid)[row, column]
            left -= (left[0] - value) / inverse[0, 0] * inverse[0]
            left = left[1:]
            inverse = (inverse - np.outer(inverse[0], inverse[0]) / inverse[0, 0])[1:, 1:]
    return codes.reshape(weight.shape)


ENTRIES = Entries(np.array([-1.7, -0.6, -0.2, 0.3, 0.9, 2.1], np.float32))
ROW_ENTRIES = Entries(np.sort(weights(9, 6, 4), axis=1))


@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("pruned", [False, True])
@pytest.mark.parametrize("kind", ["steps", "zero", "entries", "row entries"])
def test_the_slow_twin_gives_the_same_codes(kind: str, pruned: bool, groups: int) -> None:
    weight = weights(1, 6, 4, 5, 5)  # 100 columns: more than one block
    hessian = moments(2, 100, groups)
    kept = np.random.default_rng(3).random(weight.shape) < 0.6 if pruned else None
    grid = {
        "steps": steps(weight, 4),
        "zero": EvenGrid(np.full(6, 0.4, np.float32), -8, 7, np.array([-3, -2, 0, 1, 2, 5], np.int8)),
        "entries": ENTRIES,
        "row entries": ROW_ENTRIES,
    }[kind]
    codes = round_with_compensation(weight, hessian, kept, grid, sweeps=0)
    assert np.array_equal(codes, brain_surgeon(weight, hessian, kept, grid))


@pytest.mark.parametrize("grid", [steps(weights(1, 6, 40), 2), ENTRIES, ROW_ENTRIES], ids=["steps", "entries", "rows"])
def test_sweeps_end_where_no_single_change_helps(grid: EvenGrid | Entries) -> None:
    weight, hessian = weights(1, 6, 40), moments(2, 40)
    kept = np.random.default_rng(3).random(weight.shape) < 0.7
    damped = hessian + 0.01 * np.diag(hessian[0]).mean() * np.eye(40)
    errors = []
    for sweeps in (0, 1, 100):
        codes = round_with_compensation(weight, hessian, kept, grid, sweeps=sweeps)
        errors.append(layer_error(weight, values(codes, grid), damped))
    assert errors[0] > errors[1] > errors[2]
    choices = range(grid.low, grid.high + 1) if isinstance(grid, EvenGrid) else range(1, grid.values.shape[-1] + 1)
    for row, column in np.argwhere(kept):
        for choice in choices:
            other = codes.copy()
            other[row, column] = choice
            assert layer_error(weight, values(other, grid), damped) >= errors[2] * (1 - 1e-6)
    assert np.array_equal(codes[~kept], np.zeros_like(codes)[~kept])


@pytest.mark.parametrize("granularity", ["channel", "tensor"])
@pytest.mark.parametrize("calibration", ["range", "mse"])
def test_uncorrelated_inputs_give_plain_rounding(calibration: str, granularity: str) -> None:
    weight = weights(4, 8, 70)
    weight[weights(5, 8, 70) < -0.5] = 0
    plain = quantize.apply(weight, np.abs(weight).max(axis=1), Quantize(3, granularity, calibration))
    grid = EvenGrid(plain.scale, -3, 3)
    for kept in (None, weight != 0):
        for diagonal in (np.ones(70), np.geomspace(1e-9, 1e9, 70)):
            codes = round_with_compensation(weight, np.diag(diagonal)[None], kept, grid)
            assert codes.dtype == plain.codes.dtype
            assert np.array_equal(codes, plain.codes)


def test_ties_are_rounded_as_plain_rounding_does() -> None:
    weight = np.array([[0.5, 1.5, -0.5, -2.5, 0.3, 0.1]], np.float32) * np.float32(0.1)
    plain = quantize.apply(weight, np.array([0.7], np.float32), Quantize(4))
    codes = round_with_compensation(weight, np.eye(6)[None], None, EvenGrid(plain.scale, -7, 7))
    assert np.array_equal(codes, plain.codes)


def test_uncorrelated_inputs_give_the_nearest_entries() -> None:
    weight = weights(6, 8, 70)
    weight[weight < -0.5] = 0
    entries = kmeans.fit(LayerStatistics.of("w", weight), np.sum(weight < 0), np.sum(weight > 0), 9)
    weight[:, ::2] = np.resize((entries[1:] + entries[:-1]) / 2, 35)  # on, or next to, the middles
    for diagonal in (np.ones(70), np.geomspace(1e-9, 1e9, 70)):
        symbols = round_with_compensation(weight, np.diag(diagonal)[None], weight != 0, Entries(entries))
        assert symbols.dtype == np.uint8
        assert np.array_equal(symbols, kmeans.assign(weight, entries))


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_the_layer_error_is_less_than_that_of_plain_rounding(bits: int) -> None:
    ratios = []
    for seed in range(20):
        weight, hessian = weights(seed, 8, 40), moments(seed + 100, 40)
        grid = steps(weight, bits)
        plain = layer_error(
            weight, values(round_with_compensation(weight, np.eye(40)[None], None, grid), grid), hessian
        )
        ours = layer_error(weight, values(round_with_compensation(weight, hessian, None, grid), grid), hessian)
        ratios.append(ours / plain)
    assert np.mean(ratios) < 0.75
    assert max(ratios) < 1


def test_the_layer_error_of_nearly_uncorrelated_inputs_is_no_worse_in_the_mean() -> None:
    plain = ours = 0.0
    for seed in range(40):
        weight, hessian = weights(seed, 8, 24), moments(seed + 100, 24, mixing=0.05)
        grid = steps(weight, 3)
        each = errors(weight, hessian, grid)
        plain, ours = plain + each[0], ours + each[1]
    assert ours < plain


def test_what_pruning_takes_away_is_compensated() -> None:
    weight, hessian = weights(7, 16, 60), moments(8, 60)
    kept = np.abs(weight) > 0.5
    grid = steps(weight, 8)
    given = round_with_compensation(weight, hessian, kept, grid)
    too_late = round_with_compensation(weight * kept, hessian, kept, grid)
    assert not given[~kept].any()
    assert not too_late[~kept].any()
    late, early = (layer_error(weight, values(codes, grid), hessian) for codes in (too_late, given))
    assert early < 0.8 * late


def test_a_pruned_weight_takes_the_zero_point_or_symbol_zero() -> None:
    weight, hessian = weights(7, 3, 10), moments(8, 10)
    kept = np.zeros(weight.shape, bool)
    zero = np.array([-5, 0, 3], np.int8)
    codes = round_with_compensation(weight, hessian, kept, EvenGrid(np.ones(3, np.float32), -8, 7, zero))
    assert np.array_equal(codes, np.repeat(zero[:, None], 10, axis=1))
    assert not round_with_compensation(weight, hessian, kept, ENTRIES).any()
    assert round_with_compensation(weight, hessian, None, ENTRIES).all()


def test_inputs_that_are_always_zero_are_rounded_plainly() -> None:
    weight, hessian = weights(10, 5, 30), moments(11, 30)
    dead = np.arange(30) % 3 == 0
    hessian[:, dead] = 0
    hessian[:, :, dead] = 0
    grid = steps(weight, 4)
    plain = round_with_compensation(weight, np.eye(30)[None], None, grid)
    assert np.array_equal(round_with_compensation(weight, np.zeros((1, 30, 30)), None, grid, damping=0), plain)
    codes = round_with_compensation(weight, hessian, None, grid)
    assert np.array_equal(codes[:, dead], plain[:, dead])
    live = hessian[:, ~dead][:, :, ~dead]
    alone = round_with_compensation(np.ascontiguousarray(weight[:, ~dead]), live, None, grid)
    assert np.array_equal(codes[:, ~dead], alone)
    assert np.array_equal(round_with_compensation(weight, np.zeros((1, 30, 30)), None, grid), plain)


@pytest.mark.parametrize("damping", [0.0, 0.01])
@pytest.mark.parametrize("size", [1e-30, 1.0, 1e30])
def test_singular_moments_are_damped(size: float, damping: float) -> None:
    x = np.random.default_rng(12).normal(size=(3, 50)) * np.sqrt(size)  # rank 3 of 50
    hessian = (x.T @ x)[None]
    weight = weights(13, 8, 50)
    grid = steps(weight, 4)
    codes = round_with_compensation(weight, hessian, None, grid, damping)
    plain = round_with_compensation(weight, np.eye(50)[None], None, grid)
    assert np.abs(codes).max() <= 7
    ours, theirs = (layer_error(weight, values(each, grid), hessian) for each in (codes, plain))
    assert ours < 0.1 * theirs


def test_the_size_of_the_moments_does_not_matter() -> None:
    weight, hessian = weights(14, 8, 50), moments(15, 50)
    grid = steps(weight, 4)
    codes = round_with_compensation(weight, hessian, None, grid)
    assert np.array_equal(codes, round_with_compensation(weight, hessian * 2.0**-300, None, grid))


@pytest.mark.parametrize("bits, kind", [(2, np.int8), (8, np.int8), (9, np.int16), (16, np.int16)])
def test_codes_have_the_smallest_type(bits: int, kind: type) -> None:
    weight = weights(16, 4, 12)
    assert round_with_compensation(weight, moments(17, 12), None, steps(weight, bits)).dtype == kind


def test_asymmetric_codes_of_8_bits_fit_int8() -> None:
    grid = EvenGrid(np.full(4, 0.01, np.float32), -128, 127, np.full(4, -128, np.int8))
    codes = round_with_compensation(np.abs(weights(16, 4, 12)), moments(17, 12), None, grid)
    assert codes.dtype == np.int8
    assert codes.min() > -128


def test_256_entries_need_uint16() -> None:
    entries = Entries(np.linspace(-3, 3, 256).astype(np.float32))
    symbols = round_with_compensation(np.array([[-9.0, 9.0]], np.float32), np.eye(2)[None], None, entries)
    assert symbols.dtype == np.uint16
    assert symbols.tolist() == [[1, 256]]


def test_an_empty_codebook_gives_zeros() -> None:
    weight = np.zeros((3, 5), np.float32)
    symbols = round_with_compensation(weight, moments(1, 5), weight != 0, Entries(np.zeros(0, np.float32)))
    assert symbols.tolist() == [[0] * 5] * 3


def test_one_column_and_one_row() -> None:
    grid = EvenGrid(np.float32(0.5), -3, 3)
    assert round_with_compensation(np.array([[0.6], [-9.0]], np.float32), np.ones((1, 1, 1)), None, grid).tolist() == [
        [1],
        [-3],
    ]
    depthwise = round_with_compensation(weights(2, 5, 1, 1, 1), np.ones((5, 1, 1)), None, grid)
    assert depthwise.shape == (5, 1, 1, 1)


def test_inputs_are_not_changed() -> None:
    weight, hessian = weights(18, 6, 20), moments(19, 20)
    kept = weight > 0
    before = weight.copy(), hessian.copy(), kept.copy()
    first = round_with_compensation(weight, hessian, kept, steps(weight, 4))
    assert all(np.array_equal(a, b) for a, b in zip(before, (weight, hessian, kept), strict=True))
    assert np.array_equal(first, round_with_compensation(weight, hessian, kept, steps(weight, 4)))


@pytest.mark.parametrize("shape", [(1, 19, 19), (4, 20, 20), (1, 20, 19)])
def test_a_hessian_of_another_layer_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ModelError, match="groups dividing 6"):
        round_with_compensation(weights(18, 6, 20), np.ones(shape), None, steps(weights(18, 6, 20), 4))


def test_a_hessian_that_is_not_finite_is_refused() -> None:
    with pytest.raises(ModelError, match="finite"):
        round_with_compensation(weights(18, 6, 20), np.full((1, 20, 20), np.nan), None, steps(weights(18, 6, 20), 4))


def seen_by(weight: torch.Tensor, columns: torch.Tensor) -> np.ndarray:
    columns = columns.double().reshape(-1, weight[0].numel())
    return (columns.T @ columns / len(columns)).numpy()


def images(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


CONVOLUTIONS = [
    nn.Conv2d(4, 6, 3),
    nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(1, 2), dilation=(1, 2)),
    nn.Conv2d(4, 6, 3, groups=2, padding="same", dilation=2),
    nn.Conv2d(4, 6, (2, 4), padding="same"),
    nn.Conv2d(4, 8, 3, groups=4, padding=1, stride=2, bias=False),
    nn.Conv2d(4, 6, 1, padding="valid"),
    nn.Conv2d(4, 6, 3, padding=1, padding_mode="reflect"),
    nn.Conv1d(4, 6, 3, padding=1, dilation=2),
    nn.Conv3d(4, 4, (1, 2, 3), groups=2, padding=(0, 1, 2), stride=(1, 2, 1)),
]


@pytest.mark.filterwarnings("ignore:Using padding=.same. with even kernel")
@pytest.mark.parametrize("layer", CONVOLUTIONS, ids=str)
def test_the_moments_of_a_convolution_give_its_output_power(layer: nn.Module) -> None:
    """The mean of y^2 is w H w^T of each output channel, whatever the geometry: no unfolding is repeated here."""
    layer = copy.deepcopy(layer)
    layer.bias = None
    x = images(1, 40, 4, *((7, 6, 5)[: layer.weight.ndim - 2]))
    hessian = hessians(layer, x, ["weight"])["weight"]
    rows = layer.weight.detach().double().reshape(layer.groups, -1, layer.weight[0].numel()).numpy()
    assert hessian.dtype == np.float64
    assert hessian.shape == (layer.groups, rows.shape[2], rows.shape[2])
    power = np.einsum("gri,gij,grj->gr", rows, hessian, rows).reshape(-1)
    y = layer(x).detach().double().transpose(0, 1).flatten(1)
    assert np.allclose(power, y.square().mean(1).numpy(), rtol=1e-4, atol=1e-6)


def test_the_moments_of_a_convolution_are_those_of_its_unfolded_patches() -> None:
    layer = nn.Conv2d(3, 4, 3, stride=2, padding=1)
    x = images(2, 5, 3, 8, 9)
    patches = F.unfold(x, 3, stride=2, padding=1).transpose(1, 2)
    assert np.allclose(
        hessians(layer, x, ["weight"])["weight"][0], seen_by(layer.weight, patches), rtol=1e-4, atol=1e-6
    )


def test_few_patches_at_a_time_give_the_same_moments(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x = nn.Conv2d(4, 6, 3, groups=2), images(3, 21, 4, 8, 8)
    whole = hessians(layer, x, ["weight"])["weight"]
    monkeypatch.setattr("paretoscope.methods.input_moments.PATCH_FLOATS", 3000)
    monkeypatch.setattr("paretoscope.methods.input_moments.CHUNK", 4)
    assert np.allclose(hessians(layer, x, ["weight"])["weight"], whole, rtol=1e-4, atol=1e-6)


def test_the_moments_of_a_linear_layer() -> None:
    layer, x = nn.Linear(5, 3), images(4, 70, 6, 5)
    assert np.allclose(hessians(layer, x, ["weight"])["weight"][0], seen_by(layer.weight, x), rtol=1e-4, atol=1e-6)


class Attention(nn.Module):
    """Attention to the input itself, or to others."""

    def __init__(self, own: bool, **settings) -> None:
        super().__init__()
        self.own = own
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True, **settings)
        self.others = images(5, 1, 7, settings.get("kdim", 8)), images(6, 1, 7, settings.get("vdim", 8))

    def inputs(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (x, x, x) if self.own else (x, *(other.expand(len(x), -1, -1) for other in self.others))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.attention(*self.inputs(x), need_weights=False)[0]


@pytest.mark.parametrize("training", [False, True])
def test_the_moments_of_self_attention(training: bool) -> None:
    module, x = Attention(own=True).train(training), images(7, 40, 5, 8)
    found = hessians(module, x, names(module))
    assert set(found) == {"attention.in_proj_weight", "attention.out_proj.weight"}
    in_proj, out_proj = module.attention.in_proj_weight, module.attention.out_proj.weight
    assert np.allclose(found["attention.in_proj_weight"][0], seen_by(in_proj[:8], x), rtol=1e-4, atol=1e-6)
    q, k, v = F.linear(x, in_proj, module.attention.in_proj_bias).unflatten(2, (3, 2, 4)).permute(2, 0, 3, 1, 4)
    mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2).detach()
    assert np.allclose(found["attention.out_proj.weight"][0], seen_by(out_proj, mixed), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("settings", [{}, {"kdim": 6, "vdim": 4}], ids=["stacked", "separate"])
def test_the_moments_of_attention_to_others(settings: dict[str, int]) -> None:
    module, x = Attention(own=False, **settings), images(8, 40, 5, 8)
    found = hessians(module, x, names(module))
    wanted = [seen_by(torch.empty(1, y.shape[-1]), y) for y in module.inputs(x)]
    if settings:
        ours = [found[f"attention.{name}_proj_weight"][0] for name in "qkv"]
    else:
        ours = found["attention.in_proj_weight"]
        assert ours.shape == (3, 8, 8)
    assert all(np.allclose(a, b, rtol=1e-4, atol=1e-6) for a, b in zip(ours, wanted, strict=True))


def test_encoder_layers_do_not_slip_past() -> None:
    """In evaluation mode PyTorch would run the whole layer as one fused call."""
    module = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    found = hessians(module, images(9, 12, 5, 8), names(module))
    assert len(found) == 4
    assert all(np.trace(hessian[0]) > 0 for hessian in found.values())


def test_watching_does_not_change_what_is_computed() -> None:
    """Layers that come after attention see what they see without a watcher."""
    module, x = nn.Sequential(Attention(own=True), nn.Linear(8, 4)).eval(), images(10, 20, 5, 8)
    found = hessians(module, x, ["1.weight"])["1.weight"][0]
    with torch.no_grad():
        assert np.allclose(found, seen_by(module[1].weight, module[0](x)), rtol=1e-4, atol=1e-6)


def test_a_shared_weight_has_the_inputs_of_all_its_calls() -> None:
    module = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    module[2].weight = module[0].weight
    x = images(11, 30, 4)
    found = hessians(module, x, names(module))
    both = torch.cat([x, module[:2](x).detach()])
    for name in ("0.weight", "2.weight"):
        assert np.allclose(found[name][0], seen_by(module[0].weight, both), rtol=1e-4, atol=1e-6)


class Idle(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.used, self.idle, self.dropout = nn.Linear(4, 2), nn.Linear(4, 3), nn.Dropout(0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.used(self.dropout(x))


def test_the_module_runs_in_evaluation_mode_and_stays_as_it_was() -> None:
    module, x = Idle().train(), images(12, 30, 4)
    before = copy.deepcopy(module.state_dict())
    found = hessians(module, x, ["used.weight", "idle.weight"])
    assert module.training
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())
    assert np.allclose(found["used.weight"][0], seen_by(module.used.weight, x), rtol=1e-4, atol=1e-6)
    assert found["idle.weight"].shape == (1, 4, 4)
    assert not found["idle.weight"].any()


def test_unknown_names_and_no_images_are_refused() -> None:
    with pytest.raises(ModelError, match="nonsense"):
        hessians(Idle(), images(13, 2, 4), ["used.weight", "nonsense"])
    with pytest.raises(ModelError, match="got 0"):
        hessians(Idle(), images(13, 0, 4), ["used.weight"])
