import copy
from collections import OrderedDict

import numpy as np
import pytest
import torch
from paretoscope.base.errors import ModelError
from paretoscope.methods.recalibrate import METHODS, correct_bias, reestimate_batchnorm, restore_outputs
from paretoscope.methods.registry import OutputMethod
from paretoscope.networks import zoo
from paretoscope.recipe.recipe import Repair
from torch import nn


def images(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def coarse(module: nn.Module, step: float = 0.25) -> nn.Module:
    """The module with its larger weights rounded to a coarse grid, which moves the means of its outputs."""
    rounded = copy.deepcopy(module).eval()
    with torch.no_grad():
        for parameter in rounded.parameters():
            if parameter.ndim > 1:
                largest = parameter.abs().max()
                parameter.copy_(torch.floor(parameter / largest / step) * step * largest)
    return rounded


def patched(module: nn.Module, entries: dict[str, np.ndarray]) -> nn.Module:
    result = copy.deepcopy(module)
    state = result.state_dict()
    for name, value in entries.items():
        assert value.dtype == np.float32
        assert value.shape == tuple(state[name].shape)
        state[name].copy_(torch.from_numpy(value))
    return result.eval()


def means(module: nn.Module, x: torch.Tensor, *names: str) -> dict[str, np.ndarray]:
    """Mean output of each channel of some submodules, in evaluation mode."""
    found = {}

    def hook(name: str):
        def keep(_module: nn.Module, _inputs: tuple, y: torch.Tensor) -> None:
            y = y[0] if isinstance(y, tuple) else y
            axis = 1 if y.ndim == 4 else y.ndim - 1
            found[name] = y.detach().double().transpose(0, axis).flatten(1).mean(1).numpy()

        return keep

    module = copy.deepcopy(module).eval()
    for name in names:
        module.get_submodule(name).register_forward_hook(hook(name))
    with torch.no_grad():
        module(x)
    return found


def close(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> bool:
    return all(np.allclose(ours[name], theirs[name], rtol=1e-4, atol=1e-5) for name in theirs)


def net(seed: int = 0) -> nn.Module:
    """Every case: bias, a norm after a bias, a norm in its place, neither, and linear layers."""
    torch.manual_seed(seed)
    module = nn.Sequential(
        OrderedDict(
            biased=nn.Conv2d(2, 6, 3),
            relu1=nn.ReLU(),
            bare=nn.Conv2d(6, 8, 3, bias=False),
            norm=nn.BatchNorm2d(8),
            relu2=nn.ReLU(),
            both=nn.Conv2d(8, 8, 3, groups=8),
            norm2=nn.BatchNorm2d(8),
            relu3=nn.ReLU(),
            neither=nn.Conv2d(8, 6, 1, bias=False),
            pool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            drop=nn.Dropout(0.5),
            fc=nn.Linear(6, 5),
        )
    )
    for norm in (module.norm, module.norm2):
        nn.init.uniform_(norm.weight, -1.5, 1.5)
        nn.init.uniform_(norm.bias, -1, 1)
        nn.init.uniform_(norm.running_mean, -0.5, 0.5)
        nn.init.uniform_(norm.running_var, 0.2, 2)
    return module.eval()


CORRECTED = {"biased.bias", "norm.running_mean", "norm2.running_mean", "fc.bias"}


def test_the_mean_outputs_are_those_of_the_reference() -> None:
    module, x = net(), images(1, 60, 2, 9, 9)
    compressed = coarse(module)
    watched = "biased", "norm", "norm2", "fc"
    wanted = means(module, x, *watched)
    assert not close(means(compressed, x, *watched), wanted)
    entries = correct_bias(module, compressed, x)
    assert set(entries) == CORRECTED
    assert close(means(patched(compressed, entries), x, *watched), wanted)


def test_each_layer_is_corrected_after_those_before_it() -> None:
    """The slow way: one layer at a time, each time with a forward pass of its own."""
    torch.manual_seed(3)
    module = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8), nn.GELU(), nn.Linear(8, 4)).eval()
    x = images(4, 50, 6)
    compressed = coarse(module)
    entries = correct_bias(module, compressed, x)
    slow = copy.deepcopy(compressed)
    with torch.no_grad():
        for i in (0, 2, 4):
            slow[i].bias += (module[: i + 1](x).double().mean(0) - slow[: i + 1](x).double().mean(0)).float()
            assert np.allclose(entries[f"{i}.bias"], slow[i].bias.numpy(), atol=1e-5)


def test_a_norm_after_a_bare_convolution_takes_its_shift() -> None:
    """E[y] of the convolution is subtracted from the running mean, as the paper has it."""
    torch.manual_seed(5)
    module = nn.Sequential(nn.Conv2d(2, 4, 3, bias=False), nn.BatchNorm2d(4)).eval()
    compressed, x = coarse(module), images(6, 40, 2, 6, 6)
    shift = means(module, x, "0")["0"] - means(compressed, x, "0")["0"]
    entries = correct_bias(module, compressed, x)
    assert list(entries) == ["1.running_mean"]
    assert np.allclose(entries["1.running_mean"], module[1].running_mean.numpy() - shift, atol=1e-5)


def test_a_norm_that_follows_something_else_is_left_alone() -> None:
    torch.manual_seed(5)
    module = nn.Sequential(nn.Conv2d(2, 4, 3, bias=False), nn.MaxPool2d(2), nn.BatchNorm2d(4)).eval()
    assert correct_bias(module, coarse(module), images(6, 20, 2, 6, 6)) == {}


def test_only_the_first_of_two_norms_is_corrected() -> None:
    torch.manual_seed(5)
    module = nn.Sequential(nn.Conv2d(2, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.BatchNorm2d(4)).eval()
    assert list(correct_bias(module, coarse(module), images(6, 20, 2, 6, 6))) == ["1.running_mean"]


def test_channels_that_a_norm_multiplies_by_zero_are_left_alone() -> None:
    module, x = net(), images(1, 60, 2, 9, 9)
    with torch.no_grad():
        module.norm.weight[3] = 0
    entries = correct_bias(module, coarse(module), x)
    changed = entries["norm.running_mean"] != module.norm.running_mean.numpy()
    assert not changed[3]
    assert changed[:3].all()
    assert all(np.isfinite(value).all() for value in entries.values())


def test_an_uncompressed_module_keeps_its_values() -> None:
    module = net()
    state = module.state_dict()
    for name, value in correct_bias(module, module, images(7, 30, 2, 9, 9)).items():
        assert np.allclose(value, state[name].numpy(), atol=1e-7)


def test_a_layer_that_runs_twice_is_corrected_once() -> None:
    torch.manual_seed(8)
    layer = nn.Linear(5, 5)
    module = nn.Sequential(layer, nn.ReLU(), layer).eval()
    compressed, x = coarse(module), images(9, 40, 5)
    entries = correct_bias(module, compressed, x)
    assert set(entries) == {"0.bias", "2.bias"}
    assert np.array_equal(entries["0.bias"], entries["2.bias"])
    first = patched(compressed, entries)[0](x).detach().mean(0)
    assert torch.allclose(first, module[0](x).detach().mean(0), atol=1e-5)


class Attention(nn.Module):
    def __init__(self, **settings) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True, **settings)
        self.fc = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.attention(x, x, x, need_weights=False)[0])


@pytest.mark.parametrize("separate", [False, True])
def test_the_projections_of_attention(separate: bool) -> None:
    torch.manual_seed(10)
    module, x = Attention().eval(), images(11, 50, 7, 8) + 0.5
    if separate:
        attention = module.attention
        attention._qkv_same_embed_dim = False
        for name, part in zip("qkv", attention.in_proj_weight.detach().chunk(3), strict=True):
            setattr(attention, f"{name}_proj_weight", nn.Parameter(part.clone()))
        attention.in_proj_weight = None
    compressed = coarse(module)
    entries = correct_bias(module, compressed, x)
    assert set(entries) == {"attention.in_proj_bias", "attention.out_proj.bias", "fc.bias"}
    corrected = patched(compressed, entries)
    wanted, ours = (means(each, x, "attention", "fc") for each in (module, corrected))
    assert close(ours, wanted)

    def projected(each: nn.Module) -> torch.Tensor:
        a = each.attention
        parts = (a.q_proj_weight, a.k_proj_weight, a.v_proj_weight) if separate else (a.in_proj_weight,)
        return (x @ torch.cat(parts).T + a.in_proj_bias).mean((0, 1))

    assert torch.allclose(projected(corrected), projected(module), atol=1e-5)
    assert not torch.allclose(projected(compressed), projected(module), atol=1e-2)


def test_attention_without_biases_is_left_alone() -> None:
    torch.manual_seed(10)
    module = Attention(bias=False).eval()
    assert set(correct_bias(module, coarse(module), images(11, 50, 7, 8))) == {"fc.bias"}


@pytest.mark.parametrize("other", [nn.Sequential(nn.Linear(6, 6)), nn.Sequential(*[nn.Linear(6, 6)] * 3)])
def test_bias_correction_refuses_another_architecture(other: nn.Module) -> None:
    module, x = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6)), images(12, 9, 6)
    for pair in ((module, other), (other, module)):
        with pytest.raises(ModelError, match="same architecture"):
            correct_bias(*pair, x)


def test_bias_correction_refuses_another_width() -> None:
    with pytest.raises(ModelError, match="same architecture"):
        correct_bias(nn.Linear(6, 5), nn.Linear(6, 4), images(12, 9, 6))


def test_norms_get_the_statistics_of_all_images() -> None:
    """The slow way: one norm at a time, from the inputs that it has when those before it are done."""
    module, x = net(), images(13, 50, 2, 9, 9) * 2 + 1
    entries = reestimate_batchnorm(module, x)
    assert set(entries) == {f"{norm}.running_{kind}" for norm in ("norm", "norm2") for kind in ("mean", "var")}
    slow = copy.deepcopy(module)
    for name, end in (("norm", 3), ("norm2", 6)):
        with torch.no_grad():
            inputs = slow[:end](x).double().transpose(0, 1).flatten(1)
        norm = slow.get_submodule(name)
        norm.running_mean.copy_(inputs.mean(1))
        norm.running_var.copy_(inputs.var(1, correction=1))
        assert np.allclose(entries[f"{name}.running_mean"], norm.running_mean.numpy(), rtol=1e-4, atol=1e-5)
        assert np.allclose(entries[f"{name}.running_var"], norm.running_var.numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("norm, shape", [(nn.BatchNorm1d, ()), (nn.BatchNorm1d, (7,)), (nn.BatchNorm3d, (2, 3, 4))])
def test_norms_of_every_dimension(norm: type[nn.Module], shape: tuple[int, ...]) -> None:
    x = images(14, 30, 4, *shape) * 3 + 2
    module = norm(4)
    entries = reestimate_batchnorm(module, x)
    assert int(module.num_batches_tracked) == 0
    flat = x.double().transpose(0, 1).flatten(1)
    assert np.allclose(entries["running_mean"], flat.mean(1), rtol=1e-5)
    assert np.allclose(entries["running_var"], flat.var(1), rtol=1e-5)
    y = patched(module, entries)(x).transpose(0, 1).flatten(1)
    assert torch.allclose(y.mean(1), torch.zeros(4), atol=1e-5)


def test_what_shrank_is_normalised_again() -> None:
    """Pruning shrinks the outputs of a convolution; with new statistics the norm's outputs have the size they had."""
    torch.manual_seed(15)
    module = nn.Sequential(nn.Conv2d(2, 4, 3, bias=False), nn.BatchNorm2d(4, affine=False)).eval()
    x = images(16, 60, 2, 6, 6)
    module = patched(module, reestimate_batchnorm(module, x))
    shrunk = copy.deepcopy(module)
    with torch.no_grad():
        shrunk[0].weight *= 0.3
        shrunk[1].eps = module[1].eps = 0
        repaired = patched(shrunk, reestimate_batchnorm(shrunk, x))
        assert torch.allclose(repaired(x), module(x), atol=1e-4)


def test_a_channel_that_is_always_zero_stays_finite() -> None:
    module = nn.Sequential(nn.Conv2d(2, 4, 3, bias=False), nn.BatchNorm2d(4)).eval()
    with torch.no_grad():
        module[0].weight[2] = 0
    entries = reestimate_batchnorm(module, images(17, 10, 2, 6, 6))
    assert entries["1.running_var"][2] == 0
    assert torch.isfinite(patched(module, entries)(images(18, 10, 2, 6, 6))).all()


def test_one_norm_used_twice_has_the_mean_statistics_of_both() -> None:
    norm = nn.BatchNorm1d(3)
    module, x = nn.Sequential(norm, nn.ReLU(), norm).eval(), images(22, 40, 3)
    entries = reestimate_batchnorm(module, x)
    assert set(entries) == {f"{i}.running_{kind}" for i in (0, 2) for kind in ("mean", "var")}
    second = ((x - x.mean(0)) / (x.var(0) + norm.eps).sqrt()).relu()
    assert np.allclose(entries["0.running_mean"], (x.mean(0) + second.mean(0)) / 2, atol=1e-5)
    assert np.allclose(entries["2.running_var"], (x.var(0) + second.var(0)) / 2, atol=1e-5)


def test_norms_without_statistics_and_modules_without_norms_give_nothing() -> None:
    x = images(19, 20, 4)
    assert reestimate_batchnorm(nn.BatchNorm1d(4, track_running_stats=False), x) == {}
    assert reestimate_batchnorm(nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4)), x) == {}


def test_one_value_of_a_channel_has_no_variance() -> None:
    with pytest.raises(ModelError, match="more samples"):
        reestimate_batchnorm(nn.BatchNorm1d(4), images(19, 1, 4))


def test_no_images_are_refused() -> None:
    module = net()
    with pytest.raises(ModelError, match="got 0"):
        correct_bias(module, module, images(20, 0, 2, 9, 9))
    with pytest.raises(ModelError, match="got 0"):
        reestimate_batchnorm(module, images(20, 0, 2, 9, 9))


@pytest.mark.parametrize("training", [False, True])
def test_modules_run_in_evaluation_mode_and_stay_as_they_were(training: bool) -> None:
    module = net()
    compressed, x = coarse(module), images(21, 30, 2, 9, 9)
    wanted = correct_bias(module, compressed, x), reestimate_batchnorm(compressed, x)
    for each in (module, compressed):
        each.train(training)
    before = [copy.deepcopy(each.state_dict()) for each in (module, compressed)]
    ours = correct_bias(module, compressed, x), reestimate_batchnorm(compressed, x)
    for a, b in zip(wanted, ours, strict=True):
        assert all(np.array_equal(a[name], b[name]) for name in a)
    for state, each in zip(before, (module, compressed), strict=True):
        assert each.training == training
        assert all(torch.equal(state[name], value) for name, value in each.state_dict().items())


def spreads(module: nn.Module, x: torch.Tensor, *ends: int) -> list[np.ndarray]:
    """Mean and standard deviation of each channel after some layers of a sequence."""
    with torch.no_grad():
        flat = [module[:end](x).double().transpose(0, 1).flatten(1) for end in ends]
    return [torch.stack([each.mean(1), each.std(1)]).numpy() for each in flat]


def test_both_together_restore_mean_and_spread() -> None:
    """Neither of the two alone, nor one after the other, does it."""
    module, x = net(), images(1, 60, 2, 9, 9) * 2 + 0.5
    compressed = coarse(module, step=0.4)
    wanted = spreads(module, x, 4, 7)
    entries = restore_outputs(module, compressed, x)
    norms = {f"{norm}.running_{kind}" for norm in ("norm", "norm2") for kind in ("mean", "var")}
    assert set(entries) == norms | {"biased.bias", "fc.bias"}
    for got, own in zip(spreads(patched(compressed, entries), x, 4, 7), wanted, strict=True):
        assert np.allclose(got, own, rtol=1e-3, atol=1e-4)
    again = patched(compressed, reestimate_batchnorm(compressed, x))
    for other in (
        patched(compressed, correct_bias(module, compressed, x)),
        again,
        patched(again, correct_bias(module, again, x)),
    ):
        got = spreads(other, x, 4, 7)
        assert not all(np.allclose(a, b, rtol=1e-2, atol=1e-2) for a, b in zip(got, wanted, strict=True))


def test_the_outputs_of_a_deep_network_keep_their_spread() -> None:
    """Layer after layer a signal that is rounded shrinks a little; corrected means alone do not hold that up."""
    torch.manual_seed(0)
    layers = [(nn.Conv2d(12, 12, 3, padding=1, bias=False), nn.BatchNorm2d(12), nn.ReLU()) for _ in range(16)]
    module = nn.Sequential(*(each for layer in layers for each in layer)).eval()
    x = images(2, 40, 12, 6, 6)
    module = patched(module, reestimate_batchnorm(module, x))
    compressed = copy.deepcopy(module)
    with torch.no_grad():
        for layer in compressed[::3]:
            layer.weight *= 0.9
    (_, before), (_, shrunk), (_, after) = (
        spreads(each, x, 47)[0]
        for each in (
            module,
            patched(compressed, correct_bias(module, compressed, x)),
            patched(compressed, restore_outputs(module, compressed, x)),
        )
    )
    assert (shrunk < 0.5 * before).all()
    assert np.allclose(after, before, rtol=1e-2)


def test_restored_channels_that_are_constant_stay_finite() -> None:
    module, x = net(), images(1, 60, 2, 9, 9)
    with torch.no_grad():
        module.norm.weight[3] = 0
        module.bare.weight[1] = 0
    compressed = coarse(module)
    with torch.no_grad():
        compressed.bare.weight[2] = 0
    entries = restore_outputs(module, compressed, x)
    assert all(np.isfinite(value).all() for value in entries.values())
    for kept in (1, 2, 3):
        assert entries["norm.running_var"][kept] == module.norm.running_var[kept]
    assert entries["norm.running_mean"][3] == module.norm.running_mean[3]
    assert torch.isfinite(patched(compressed, entries)(x)).all()


def test_restoring_an_uncompressed_module_keeps_its_values() -> None:
    module = net()
    state = module.state_dict()
    for name, value in restore_outputs(module, module, images(7, 30, 2, 9, 9)).items():
        assert np.allclose(value, state[name].numpy(), rtol=1e-5, atol=1e-6)


def test_restoring_refuses_another_architecture() -> None:
    x = images(12, 9, 4)
    norms = nn.BatchNorm1d(4), nn.Sequential(nn.BatchNorm1d(4), nn.BatchNorm1d(4))
    for pair in (norms, norms[::-1]):
        with pytest.raises(ModelError, match="same architecture"):
            restore_outputs(*pair, x)


@pytest.mark.parametrize("bias, batchnorm", [(False, False), (True, False), (False, True), (True, True)])
def test_one_method_on_outputs_serves_each_choice(bias: bool, batchnorm: bool) -> None:
    step = Repair("gptq", bias=bias, batchnorm=batchnorm)
    taken = [each.name for each in METHODS if isinstance(each, OutputMethod) and each.takes(step)]
    wanted = {(True, False): "bias", (False, True): "batchnorm", (True, True): "outputs"}.get((bias, batchnorm))
    assert taken == ([wanted] if wanted else [])


@pytest.mark.parametrize("name", ["resnet-20", "mobilenet-v2", "vit-tiny"])
def test_deep_models_of_the_zoo(name: str) -> None:
    """The mean logits are back exactly; of norms in a row, every one was seen."""
    module = zoo.load_model(name)
    entry = zoo.models.get(name)
    x = zoo.load_data(entry.dataset, entry.input_shape).calibration[:24]
    compressed = coarse(module, step=1 / 16)
    norms = sum(isinstance(each, nn.BatchNorm2d) for each in module.modules())
    statistics = reestimate_batchnorm(compressed, x)
    assert len(statistics) == 2 * norms
    compressed = patched(compressed, statistics)
    corrected = patched(compressed, correct_bias(module, compressed, x))
    with torch.no_grad():
        wanted, before, after = (each(x).mean(0) for each in (module, compressed, corrected))
    assert torch.allclose(after, wanted, atol=1e-3)
    assert not torch.allclose(before, wanted, atol=1e-2)
