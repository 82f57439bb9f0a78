import copy
import math
import subprocess
import sys
from collections import OrderedDict
from functools import cache

import pytest
import torch
from paretoscope.base.errors import ModelError, RecipeError
from paretoscope.methods import blocks, fold, lowrank, simplify
from paretoscope.methods.registry import NetworkWork
from paretoscope.methods.structured import channels
from paretoscope.model import structure
from paretoscope.model.structure import Structure
from paretoscope.networks import zoo
from paretoscope.recipe.recipe import Simplify
from paretoscope.runtimes.onnx_graph import export_fp32
from torch import Tensor, nn

MODELS = zoo.models_of("digits")
RESIDUAL = tuple(name for name in MODELS if structure.blocks(zoo.build(name)))
# Float32 logits of the zoo are of the order of 10.
ROUNDING = 1e-4


@cache
def model(name: str) -> nn.Module:
    return zoo.load_model(name)


def shape(name: str) -> tuple[int, int, int]:
    return zoo.models.get(name).input_shape


@cache
def images(name: str, n: int = 16) -> Tensor:
    return zoo.load_data(zoo.models.get(name).dataset, shape(name)).calibration[:n]


def run(module: nn.Module, inputs: Tensor) -> Tensor:
    with torch.no_grad():
        return module(inputs)


def simplified(name: str, **settings) -> NetworkWork:
    return simplify.apply(model(name), Simplify(**settings), shape(name), images(name))


def distance(one: nn.Module, other: nn.Module, inputs: Tensor) -> float:
    return (run(one, inputs) - run(other, inputs)).abs().max().item()


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def toy(**layers: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    for layer in layers.values():
        if hasattr(layer, "reset_parameters"):
            layer.reset_parameters()
    return nn.Sequential(OrderedDict(layers)).eval()


def randomised(norm: nn.BatchNorm2d) -> nn.BatchNorm2d:
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
            if tensor is not None:
                tensor.copy_(torch.rand(len(tensor), generator=generator) + 0.5)
    return norm


# Everything, for every model.

SETTINGS = [
    {"nodes": 0.3},
    {"nodes": 0.3, "fold": True, "merge": True, "energy": 0.8},
    {"nodes": 0.97, "importance": "l1", "energy": 0.9},
    {"blocks": 2, "nodes": 0.5, "fold": True},
]


@pytest.mark.slow
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("name", MODELS)
def test_the_result_is_rebuilt_from_names_and_shapes_and_exported(name, settings):
    if name not in RESIDUAL:
        settings = {key: value for key, value in settings.items() if key != "blocks"}
    before = copy.deepcopy(model(name).state_dict())
    random = torch.get_rng_state()
    result = simplified(name, **settings)
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(before[key], tensor) for key, tensor in model(name).state_dict().items())
    assert not any(part.training for part in result.module.modules())
    assert parameters(result.module) < parameters(model(name))
    assert f"{parameters(result.module):,} of {parameters(model(name)):,} parameters" in result.report[-1]

    state = result.module.state_dict()
    described = Structure.from_dict(result.structure.to_dict())
    rebuilt = structure.build(name, described, {key: tuple(tensor.shape) for key, tensor in state.items()})
    rebuilt.load_state_dict(state)
    assert repr(rebuilt) == repr(result.module)
    assert torch.equal(run(rebuilt, images(name)), run(result.module, images(name)))

    assert export_fp32(result.module, shape(name)) == export_fp32(rebuilt, shape(name))


@pytest.mark.parametrize("name", ["lenet-5", "resnet-20", "vit-tiny"])
def test_same_input_same_output(name):
    settings = {"nodes": 0.4, "fold": True, "energy": 0.9, "blocks": int(name in RESIDUAL)}
    one, other = simplified(name, **settings), simplified(name, **settings)
    assert one.structure == other.structure and one.report == other.report
    assert one.module.state_dict().keys() == other.module.state_dict().keys()
    for key, tensor in one.module.state_dict().items():
        assert torch.equal(tensor, other.module.state_dict()[key])


@pytest.mark.parametrize("name", MODELS)
def test_a_step_that_does_nothing_gives_an_equal_copy(name):
    result = simplified(name)
    assert result.structure == Structure()
    assert result.module is not model(name)
    assert repr(result.module) == repr(model(name))
    assert torch.equal(run(result.module, images(name)), run(model(name), images(name)))


@pytest.mark.slow
def test_torch_pruning_is_imported_by_those_who_need_it_only():
    code = "import sys, paretoscope.methods.simplify; sys.exit('torch_pruning' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", MODELS)
def test_nothing_is_printed(name, capfd):
    simplified(name, nodes=0.2)
    assert capfd.readouterr() == ("", "")


def test_gradients_need_not_be_on():
    with torch.inference_mode():
        inside = simplified("vit-tiny", nodes=0.3).module
    assert distance(inside, simplified("vit-tiny", nodes=0.3).module, images("vit-tiny")) == 0


# Folding.


@pytest.mark.parametrize("name", MODELS)
def test_folding_changes_nothing_but_rounding(name):
    result = simplified(name, fold=True)
    norms = sum(isinstance(part, nn.BatchNorm2d) for part in model(name).modules())
    assert len(result.structure.folded) == norms
    assert not any(isinstance(part, nn.BatchNorm2d) for part in result.module.modules())
    assert distance(result.module, model(name), images(name)) < ROUNDING


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("scaled", [True, False])
def test_folding_by_hand(bias, scaled):
    norm = nn.BatchNorm2d(4, affine=scaled, eps=0.1)
    module = toy(conv=nn.Conv2d(2, 4, 3, stride=2, padding=1, bias=bias), norm=norm, flatten=nn.Flatten())
    randomised(norm)
    inputs = torch.randn(5, 2, 6, 6, generator=torch.Generator().manual_seed(2))
    before = run(module, inputs)
    assert fold.fold(module) == (("conv", "norm"),)
    assert isinstance(module.norm, nn.Identity)
    assert torch.allclose(run(module, inputs), before, atol=1e-5)


class Fork(nn.Module):
    """A convolution whose output is used twice, and one that is called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2)
        self.twice, self.after = nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        x = x + self.norm(x)
        return (self.after(self.twice(x)) + self.twice(x)).flatten(1)


def test_only_what_alone_takes_the_output_is_folded():
    assert fold.fold(Fork().eval()) == ()
    norm = nn.BatchNorm2d(4, track_running_stats=False)
    assert fold.fold(toy(conv=nn.Conv2d(2, 4, 3), norm=norm)) == ()
    assert fold.fold(toy(norm=nn.BatchNorm2d(2), conv=nn.Conv2d(2, 4, 3), relu=nn.ReLU(), last=nn.BatchNorm2d(4))) == ()


class Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.flatten, self.fc = (
            nn.Conv2d(1, 2, 1),
            nn.BatchNorm2d(2),
            nn.Flatten(),
            nn.Linear(8, 3),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.flatten(self.norm(self.conv(x)) if x.sum() > 0 else self.conv(x)))


def test_what_cannot_be_traced_is_refused():
    with pytest.raises(ModelError, match=r"torch\.fx"):
        simplify.apply(Branching(), Simplify(fold=True), (1, 2, 2))


# Merging.


@pytest.mark.parametrize("biases", [(True, True), (True, False), (False, True), (False, False)])
def test_linear_layers_are_merged(biases):
    module = toy(
        flatten=nn.Flatten(),
        one=nn.Linear(12, 9, biases[0]),
        dropout=nn.Dropout(0.5),
        two=nn.Linear(9, 7, biases[1]),
        identity=nn.Identity(),
        three=nn.Linear(7, 5),
        relu=nn.ReLU(),
        four=nn.Linear(5, 3),
    )
    result = simplify.apply(module, Simplify(merge=True), (3, 2, 2))
    assert result.structure.merged == (("one", "two"), ("one", "three"))
    assert result.module.one.weight.shape == (5, 12)
    assert isinstance(result.module.two, nn.Identity) and isinstance(result.module.three, nn.Identity)
    inputs = torch.randn(6, 3, 2, 2, generator=torch.Generator().manual_seed(3))
    assert distance(result.module, module, inputs) < 1e-6
    again = copy.deepcopy(module)
    structure.restructure(again, result.structure)
    assert repr(again.eval()) == repr(result.module)


def test_a_convolution_and_a_pointwise_one_are_merged():
    module = toy(one=nn.Conv2d(3, 8, 3, stride=2, padding=1, dilation=2), two=nn.Conv2d(8, 4, 1), flatten=nn.Flatten())
    result = simplify.apply(module, Simplify(merge=True), (3, 9, 9))
    assert result.structure.merged == (("one", "two"),)
    assert distance(result.module, module, torch.randn(4, 3, 9, 9, generator=torch.Generator().manual_seed(4))) < 1e-6


@pytest.mark.parametrize(
    "layers",
    [
        {"one": nn.Conv2d(3, 4, 1), "two": nn.Conv2d(4, 4, 3)},  # the bias would show at the border
        {"one": nn.Conv2d(3, 6, 1), "two": nn.Conv2d(6, 6, 1, groups=2)},
        {"one": nn.Conv2d(3, 6, 3, groups=3), "two": nn.Conv2d(6, 6, 1)},
        {"one": nn.Conv2d(3, 4, 1), "two": nn.Conv2d(4, 4, 1, padding=1)},
        {"one": nn.Conv2d(3, 4, 1), "relu": nn.ReLU(), "two": nn.Conv2d(4, 4, 1)},
        {"one": nn.Conv2d(3, 4, 1), "flatten": nn.Flatten(), "two": nn.Linear(4, 4)},
    ],
    ids=lambda layers: " ".join(type(layer).__name__ for layer in layers.values()),
)
def test_other_pairs_are_not_merged(layers):
    result = simplify.apply(toy(**layers), Simplify(merge=True), (3, 1, 1))
    assert result.structure == Structure()
    assert result.report[0] == "No consecutive linear maps to merge."


def test_a_merge_that_adds_weights_is_refused():
    module = toy(flatten=nn.Flatten(), one=nn.Linear(12, 2), two=nn.Linear(2, 12))
    result = simplify.apply(module, Simplify(merge=True), (3, 2, 2))
    assert result.structure.merged == ()
    assert result.report[0] == "one and two not merged: 144 weights would replace 48."


# Low rank.


@pytest.mark.parametrize(
    ("values", "energy", "rank"),
    [
        ([3, 2, 1], 0.5, 1),  # 9 of 14
        ([3, 2, 1], 0.64, 1),
        ([3, 2, 1], 0.65, 2),
        ([3, 2, 1], 0.99, 3),
        ([1, 1, 1, 1], 0.5, 2),
        ([1, 1e-3, 1e-9], 1 - 1e-12, 2),
        ([5, 0, 0], 0.999999, 1),
        ([0, 0], 0.5, 1),
    ],
)
def test_rank_at_an_energy(values, energy, rank):
    assert lowrank.rank_at(torch.tensor(values, dtype=torch.float64), energy) == rank


@pytest.mark.parametrize("bias", [True, False])
def test_layers_of_low_rank_are_factored_without_loss(bias):
    module = toy(
        conv=nn.Conv2d(16, 12, 1, stride=2, bias=bias), relu=nn.ReLU(), flatten=nn.Flatten(), fc=nn.Linear(48, 20, bias)
    )
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        low = torch.randn(12, 3, generator=generator) @ torch.randn(3, 16, generator=generator)
        module.conv.weight.copy_(low[:, :, None, None])
        module.fc.weight.copy_(torch.randn(20, 2, generator=generator) @ torch.randn(2, 48, generator=generator))
    result = simplify.apply(module, Simplify(energy=1 - 1e-12), (16, 4, 4))
    assert result.structure.factored == (("conv", 3), ("fc", 2))
    inputs = torch.randn(4, 16, 4, 4, generator=generator)
    assert distance(result.module, module, inputs) < 1e-4 * run(module, inputs).abs().max()
    assert parameters(result.module) < parameters(module)


@pytest.mark.parametrize("energy", [0.5, 0.9])
def test_the_energy_is_kept(energy):
    module = model("lenet-300-100")
    result = simplified("lenet-300-100", energy=energy)
    for name, rank in result.structure.factored:
        weight = module.get_submodule(name).weight.detach().double()
        first, second = (layer.weight.detach().double() for layer in result.module.get_submodule(name))
        kept = 1 - ((weight - second @ first).square().sum() / weight.square().sum()).item()
        assert len(first) == rank and kept >= energy - 1e-6
        less = torch.linalg.svdvals(weight)[: rank - 1].square().sum() / weight.square().sum()
        assert less < energy


def test_a_factorisation_that_does_not_save_is_refused():
    result = simplified("lenet-5", energy=0.9999999)
    assert result.structure == Structure()
    (refused,) = result.report[:-1]
    assert refused.startswith("Kept whole") and "fc1 (" in refused and "fc2 (" in refused


def test_attention_is_not_factored():
    names = [name for name, _ in simplified("vit-tiny", energy=0.3).structure.factored]
    assert names and not any("attention" in name for name in names)


# Blocks.


@pytest.mark.parametrize("name", RESIDUAL)
def test_harms_are_those_of_dropping_each_block_alone(name):
    measured = blocks.harms(model(name), images(name))
    assert tuple(measured) == structure.blocks(model(name))
    reference = run(model(name), images(name)).double().softmax(1)
    block = structure.blocks(model(name))[1]
    without = run(simplified(name, drop=(block,)).module, images(name)).double().softmax(1)
    divergence = (reference * (reference / without).log()).sum(1).mean().item()
    assert measured[block] == pytest.approx(divergence, rel=1e-6)
    assert min(measured.values()) >= 0


def test_harm_of_outputs_that_are_no_numbers_is_infinite():
    broken = copy.deepcopy(model("resnet-20"))
    with torch.no_grad():
        broken.fc.weight.fill_(math.nan)
    assert set(blocks.harms(broken, images("resnet-20")).values()) == {math.inf}


@pytest.mark.parametrize(
    ("name", "last"),
    [("resnet-20", ("bn2",)), ("mobilenet-v2", ("conv.3",)), ("vit-tiny", ("self_attention.out_proj", "mlp.3"))],
)
def test_a_block_whose_branch_is_zero_is_dropped_first_and_changes_nothing(name, last):
    changed = copy.deepcopy(model(name))
    block = structure.blocks(changed)[-2]
    with torch.no_grad():
        for layer in last:
            part = changed.get_submodule(f"{block}.{layer}")
            part.weight.zero_()
            part.bias.zero_()
    result = simplify.apply(changed, Simplify(blocks=1), shape(name), images(name))
    assert result.structure.dropped == (block,)
    assert torch.equal(run(result.module, images(name)), run(changed, images(name)))
    assert blocks.harms(changed, images(name))[block] == 0


def test_blocks_are_dropped_by_name_and_then_greedily():
    result = simplified("vit-tiny", drop=("encoder.layers.encoder_layer_3",), blocks=2)
    left = copy.deepcopy(model("vit-tiny"))
    reference = run(left, images("vit-tiny")).double().log_softmax(1)
    expected = ["encoder.layers.encoder_layer_3"]
    structure.drop(left, expected[0])
    for _ in range(2):
        harm = {}
        for name in structure.blocks(left):
            without = copy.deepcopy(left)
            structure.drop(without, name)
            logits = run(without, images("vit-tiny")).double().log_softmax(1)
            harm[name] = (reference.exp() * (reference - logits)).sum(1).mean().item()
        expected.append(min(harm, key=harm.get))
        structure.drop(left, expected[-1])
    assert list(result.structure.dropped) == expected
    assert torch.equal(run(result.module, images("vit-tiny")), run(left, images("vit-tiny")))


def test_all_blocks_can_be_dropped():
    assert structure.blocks(simplified("vit-tiny", blocks=4).module) == ()


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("lenet-5", {"blocks": 1}, "has none"),
        ("simple-cnn", {"drop": ("conv1",)}, "has none"),
        ("resnet-20", {"drop": ("stage2.0",)}, r"stage2\.0\. Did you mean .*\? Name some of stage1\.0, "),
        ("resnet-20", {"blocks": 8}, "at most 7"),
        ("resnet-20", {"drop": ("stage1.0", "stage1.1"), "blocks": 6}, "at most 5"),
        ("lenet-5", {"nodes": 0.3, "importance": "bn"}, "'bn'"),
        ("vit-tiny", {"nodes": 0.3, "importance": "bn"}, "'bn'"),
    ],
)
def test_what_a_model_has_not_is_refused(name, settings, message):
    with pytest.raises(RecipeError, match=message):
        simplified(name, **settings)


def test_harm_needs_images():
    with pytest.raises(ModelError, match="calibration images"):
        simplify.apply(model("resnet-20"), Simplify(blocks=1), shape("resnet-20"))


# Channels.


def widths(module: nn.Module) -> dict[str, int]:
    kinds = (nn.Conv2d, nn.Linear)
    return {name: part.weight.shape[0] for name, part in module.named_modules() if isinstance(part, kinds)}


@pytest.mark.parametrize(
    ("whole", "fraction", "heads", "left"),
    [
        (64, 0.5, 1, 32),
        (64, 0.3, 1, 48),  # of 44.8
        (16, 0.3, 1, 8),  # of 11.2
        (16, 0.25, 1, 16),  # of 12, as near to 8
        (16, 0.01, 1, 16),
        (16, 0.8, 1, 4),  # of 3.2: less than half a block
        (8, 0.99, 1, 1),
        (1, 0.99, 1, 1),
        (7, 0.5, 1, 4),
        (50, 0.3, 1, 36),  # of 35, in blocks of 2
        (500, 0.3, 1, 352),  # of 350, in blocks of 4
        (64, 0.3, 3, 48),
        (60, 0.5, 3, 36),  # of 30, in blocks of 12, as near to 24
        (64, 0.99, 4, 4),
        (12, 0.7, 6, 6),
    ],
)
def test_widths(whole, fraction, heads, left):
    assert channels.width(whole, fraction, heads) == left


@pytest.mark.slow
@pytest.mark.parametrize("fraction", [0.3, 0.999])
@pytest.mark.parametrize("name", MODELS)
def test_every_layer_but_the_last_has_its_width(name, fraction):
    before, after = widths(model(name)), widths(simplified(name, nodes=fraction).module)
    *inner, last = before
    for layer in inner:
        heads = 4 if name == "vit-tiny" and "mlp.0" not in layer else 1
        assert after[layer] == channels.width(before[layer], fraction, heads), layer
    assert after[last] == before[last] == 10


@pytest.mark.parametrize("importance", ["l1", "l2", "bn"])
@pytest.mark.parametrize("name", ["resnet-20", "mobilenet-v2"])
def test_importances_of_networks_with_batch_normalisation(name, importance):
    result = simplified(name, nodes=0.25, importance=importance)
    assert run(result.module, images(name)).isfinite().all()


@pytest.mark.parametrize("name", ["lenet-300-100", "lenet-5", "simple-cnn"])
def test_channels_of_zeros_go_first_and_change_nothing(name):
    changed = copy.deepcopy(model(name))
    layers = [part for part in changed.modules() if isinstance(part, (nn.Conv2d, nn.Linear))][:-1]
    with torch.no_grad():
        for layer in layers:
            gone = torch.randperm(len(layer.weight), generator=torch.Generator().manual_seed(6))
            gone = gone[: len(layer.weight) - channels.width(len(layer.weight), 0.3)]
            layer.weight[gone] = 0
            layer.bias[gone] = 0
    result = simplify.apply(changed, Simplify(nodes=0.3), shape(name))
    assert distance(result.module, changed, images(name)) < ROUNDING


@pytest.mark.parametrize(("name", "importance"), [("resnet-20", "l2"), ("resnet-20", "bn"), ("mobilenet-v2", "l1")])
def test_channels_of_zeros_go_first_through_residuals_and_depthwise_convolutions(name, importance):
    changed = copy.deepcopy(model(name))
    with torch.no_grad():
        for part in changed.modules():
            # The first ones of every width: the same channels on either side of every sum.
            if isinstance(part, nn.BatchNorm2d):
                gone = part.num_features - channels.width(part.num_features, 0.5)
                part.weight[:gone] = 0
                part.bias[:gone] = 0
    result = simplify.apply(changed, Simplify(nodes=0.5, importance=importance), shape(name))
    assert parameters(result.module) < 0.4 * parameters(changed)
    assert distance(result.module, changed, images(name)) < ROUNDING


def test_zeroed_neurons_of_a_transformer_change_nothing():
    changed = copy.deepcopy(model("vit-tiny"))
    with torch.no_grad():
        for block in changed.encoder.layers:
            block.mlp[0].weight[::16] = 0
            block.mlp[0].bias[::16] = 0
    # 8 of 128 neurons, and of 64 channels none.
    result = simplify.apply(changed, Simplify(nodes=0.06), shape("vit-tiny"))
    assert result.module.encoder.layers[0].mlp[0].out_features == 120
    assert result.module.hidden_dim == 64
    assert distance(result.module, changed, images("vit-tiny")) < ROUNDING


class Attention(nn.Module):
    """Tokens of 6 numbers, embedded in 16, 4 heads of 4, without normalisation."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(6, 16)
        self.attention = nn.MultiheadAttention(16, 4, batch_first=True)
        self.head = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x.flatten(1, 2))
        x, _ = self.attention(x, x, x, need_weights=False)
        return self.head(x.mean(1))


def test_attention_keeps_its_scores_when_features_of_zeros_go():
    torch.manual_seed(7)
    module = Attention().eval()
    # Outer channels and inner features that do nothing: other ones in each, two in every head.
    outer = torch.tensor([0, 1, 2, 3, 4, 9, 10, 15])
    query, value = torch.tensor([0, 1, 6, 7, 8, 10, 13, 14]), torch.tensor([2, 3, 4, 6, 9, 11, 12, 13])
    attention = module.attention
    with torch.no_grad():
        attention.in_proj_bias.normal_()
        attention.out_proj.bias.normal_()
        for tensor in (module.embed.weight, module.embed.bias, attention.out_proj.weight, attention.out_proj.bias):
            tensor[outer] = 0
        for rows in (query, value + 32):
            attention.in_proj_weight[rows] = 0
            attention.in_proj_bias[rows] = 0
    result = simplify.apply(module, Simplify(nodes=0.5), (1, 5, 6))
    assert result.module.attention.embed_dim == 8 and result.module.attention.head_dim == 2
    inputs = torch.randn(4, 1, 5, 6)
    assert distance(result.module, module, inputs) < 1e-5
    # The keys of the features that stayed are those that belong to the queries that stayed.
    assert run(module, inputs).std(0).min() > 0


def test_layer_normalisation_keeps_its_scale_when_channels_of_zeros_go():
    module = toy(
        flatten=nn.Flatten(), fc=nn.Linear(6, 8, bias=False), norm=nn.LayerNorm(8, eps=1e-9), head=nn.Linear(8, 3)
    )
    with torch.no_grad():
        # Pairs of opposite channels have the mean zero, with the others or without.
        module.fc.weight[1::2] = -module.fc.weight[::2]
        module.fc.weight[[2, 3, 6, 7]] = 0
        module.norm.weight.uniform_(0.5, 2, generator=torch.Generator().manual_seed(8))
    result = simplify.apply(module, Simplify(nodes=0.51), (1, 2, 3))
    assert result.module.norm.normalized_shape == (4,)
    assert distance(result.module, module, torch.randn(5, 1, 2, 3, generator=torch.Generator().manual_seed(9))) < 1e-5


@pytest.mark.parametrize(("importance", "gone"), [("l1", 0), ("l2", 1), ("bn", 2)])
def test_importance_by_hand(importance, gone):
    norm = nn.BatchNorm2d(3, eps=0)
    module = toy(
        conv=nn.Conv2d(1, 3, (1, 2), bias=False), norm=norm, flatten=nn.Flatten(), fc=nn.Linear(3, 2, bias=False)
    )
    with torch.no_grad():
        module.conv.weight.copy_(torch.tensor([[0.0, 4.0], [2.5, 2.5], [9.0, 9.0]]).reshape(3, 1, 1, 2))
        module.fc.weight.fill_(1)
        norm.weight.copy_(torch.tensor([1.0, -1.0, 0.9]))
        norm.running_var.fill_(1)
    result = simplify.apply(module, Simplify(nodes=0.34, importance=importance), (1, 1, 2))
    kept = [channel for channel in range(3) if channel != gone]
    assert torch.equal(result.module.conv.weight, module.conv.weight[kept])


def test_of_equal_channels_the_first_go():
    module = toy(flatten=nn.Flatten(), one=nn.Linear(2, 6), two=nn.Linear(6, 2))
    with torch.no_grad():
        module.one.weight.fill_(1)
        module.one.bias.copy_(torch.arange(6.0))
        module.two.weight.fill_(1)
    result = simplify.apply(module, Simplify(nodes=0.5), (1, 1, 2))
    assert result.module.one.bias.tolist() == [2, 3, 4, 5]


def test_the_output_layer_is_found_wherever_it_is():
    module = nn.Sequential(OrderedDict(head=nn.Linear(4, 6), body=nn.Linear(8, 4)))
    module.forward = lambda x: module.head(module.body(x.flatten(1)))
    channels.remove(module, 0.51, "l2", (2, 2, 2))
    assert module.head.weight.shape == (6, 2) and module.body.weight.shape == (2, 8)


def test_a_single_layer_has_nothing_to_remove():
    with pytest.raises(ModelError, match="between two layers"):
        simplify.apply(toy(flatten=nn.Flatten(), fc=nn.Linear(4, 3)), Simplify(nodes=0.5), (1, 2, 2))
