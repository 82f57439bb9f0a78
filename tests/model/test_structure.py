import json

import pytest
import torch
from paretoscope.base.errors import ArtefactError, UnknownNameError
from paretoscope.model import structure
from paretoscope.model.structure import Structure
from paretoscope.networks import zoo
from torch import nn

MODELS = zoo.models_of("digits")

WHOLE = Structure(
    dropped=("stage1.1",),
    folded=(("conv", "bn"), ("stage2.0.shortcut.0", "stage2.0.shortcut.1")),
    merged=(("a", "b"),),
    factored=(("fc", 3),),
)


def shapes_of(module: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}


def shapes_with(name: str, change: Structure | None = None, **widths: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """The shapes of a model of the zoo, changed, and some of them replaced ("__" stands for ".")."""
    with torch.device("meta"):
        module = zoo.build(name)
        structure.restructure(module, change or Structure())
    return shapes_of(module) | {key.replace("__", "."): shape for key, shape in widths.items()}


def test_round_trip_as_json():
    assert Structure.from_dict(json.loads(json.dumps(WHOLE.to_dict()))) == WHOLE
    assert Structure().to_dict() == {}
    assert Structure.from_dict({}) == Structure()
    assert list(Structure(dropped=("x",)).to_dict()) == ["dropped"]


DEEP: list = []
for _ in range(100_000):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        "dropped",
        {"code": ["import os"]},
        {1: ["x"]},
        {"dropped": "stage1.1"},
        {"dropped": []},
        {"dropped": {}},
        {"dropped": [1]},
        {"dropped": [["x"]]},
        {"dropped": [None]},
        {"dropped": DEEP},
        {"folded": [["a"]]},
        {"folded": [["a", "b", "c"]]},
        {"folded": [["a", 1]]},
        {"folded": ["ab"]},
        {"merged": [[1, 2]]},
        {"factored": [["fc", "3"]]},
        {"factored": [["fc", 0]]},
        {"factored": [["fc", -1]]},
        {"factored": [["fc", True]]},
        {"factored": [["fc", 2.0]]},
        {"factored": [[["fc"], 2]]},
    ],
    ids=lambda data: repr(data)[:30] if data != {"dropped": DEEP} else "deep",
)
def test_hostile_descriptions_are_refused(data):
    with pytest.raises(ArtefactError, match="damaged"):
        Structure.from_dict(data)


@pytest.mark.parametrize("name", MODELS)
def test_an_unchanged_architecture_is_built_whole(name):
    model = zoo.load_model(name)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    built = structure.build(name, Structure(), shapes_of(model))
    assert torch.equal(torch.get_rng_state(), before)
    assert repr(built) == repr(model)
    assert not any(part.training for part in built.modules())
    assert all(not tensor.is_meta and not tensor.any() for tensor in built.state_dict().values())
    assert {n: t.dtype for n, t in built.state_dict().items()} == {n: t.dtype for n, t in model.state_dict().items()}
    built.load_state_dict(model.state_dict())
    images = torch.randn(3, *zoo.models.get(name).input_shape, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.equal(built(images), model(images))


def test_widths_and_structure_are_those_asked_for():
    change = Structure(dropped=("stage1.1",), folded=(("conv", "bn"),), factored=(("fc", 3),))
    narrow = {"stage1__0__conv1__weight": (5, 16, 3, 3), "stage1__0__conv2__weight": (16, 5, 3, 3)}
    narrow |= {f"stage1__0__bn1__{name}": (5,) for name in ("weight", "bias", "running_mean", "running_var")}
    shapes = shapes_with("resnet-20", change, **narrow)
    built = structure.build("resnet-20", change, shapes)
    assert shapes_of(built) == shapes
    assert isinstance(built.stage1[1], nn.Identity) and isinstance(built.bn, nn.Identity)
    assert built.conv.bias.shape == (16,)
    assert built.stage1[0].conv1.out_channels == built.stage1[0].bn1.num_features == 5
    assert [layer.out_features for layer in built.fc] == [3, 10]
    assert built.fc[0].bias is None and built.fc[1].bias is not None


def test_an_unknown_architecture_is_refused():
    with pytest.raises(UnknownNameError):
        structure.build("resnet-2000", Structure(), {})


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("resnet-20", Structure(dropped=("stage2.0",))),  # its shapes change
        ("resnet-20", Structure(dropped=("fc",))),
        ("resnet-20", Structure(dropped=("",))),
        ("resnet-20", Structure(dropped=("__class__",))),
        ("resnet-20", Structure(dropped=("stage1.0", "stage1.0"))),
        ("lenet-5", Structure(dropped=("conv1",))),
        ("resnet-20", Structure(folded=(("conv", "conv"),))),
        ("resnet-20", Structure(folded=(("fc", "bn"),))),
        ("resnet-20", Structure(folded=(("conv", "nowhere"),))),
        ("resnet-20", Structure(folded=(("conv", "bn"), ("conv", "bn")))),
        ("lenet-5", Structure(merged=(("conv2", "fc1"),))),
        ("lenet-5", Structure(merged=(("fc1", "relu1"),))),
        ("lenet-5", Structure(merged=(("", "fc1"),))),
        ("lenet-5", Structure(factored=(("fc2", 11),))),  # it has 10 outputs
        ("lenet-5", Structure(factored=(("conv1", 1),))),  # 5x5
        ("lenet-5", Structure(factored=(("fc1", 9), ("fc1", 9)))),
        ("lenet-5", Structure(factored=(("fc1", 9), ("fc1.0", 9)))),
        ("vit-tiny", Structure(factored=(("encoder.layers.encoder_layer_0.self_attention.out_proj", 2),))),
    ],
)
def test_names_that_do_not_fit_are_refused(name, change):
    with pytest.raises(ArtefactError, match="damaged"):
        structure.restructure(zoo.build(name), change)
    with pytest.raises(ArtefactError, match="damaged"):
        structure.build(name, change, shapes_with(name))


HUGE = 10**12


@pytest.mark.parametrize(
    ("name", "widths"),
    [
        ("lenet-5", {"fc1__weight": (500, 799)}),  # the flattened maps have 800 features
        ("lenet-5", {"fc1__weight": (499, 800)}),
        ("lenet-5", {"fc1__bias": (499,)}),
        ("lenet-5", {"fc1__weight": (500, 800, 1)}),
        ("lenet-5", {"fc1__weight": (500,)}),
        ("lenet-5", {"fc1__weight": (0, 800)}),
        ("lenet-5", {"fc1__weight": (-1, 800)}),
        ("lenet-5", {"fc1__weight": (500.0, 800)}),
        ("lenet-5", {"fc1__weight": (True, 800)}),
        ("lenet-5", {"fc1__weight": (HUGE, 800), "fc1__bias": (HUGE,), "fc2__weight": (10, HUGE)}),
        ("lenet-5", {"fc2__weight": (9, 500), "fc2__bias": (9,)}),  # one class fewer
        ("lenet-5", {"conv2__weight": (50, 20, 3, 3)}),
        ("lenet-5", {"fc3__weight": (10, 500)}),
        ("resnet-20", {"bn__num_batches_tracked": (1,)}),
        ("resnet-20", {"bn__running_mean": (15,)}),
        ("mobilenet-v2", {"features__1__conv__0__0__weight": (7, 1, 3, 3)}),
        ("mobilenet-v2", {"features__1__conv__0__0__weight": (8, 2, 3, 3)}),
        ("vit-tiny", {"class_token": (1, 1, 63)}),
        ("vit-tiny", {"encoder__pos_embedding": (1, 1, 64)}),
        ("vit-tiny", {"encoder__ln__weight": (63,)}),
        ("vit-tiny", {"encoder__layers__encoder_layer_0__self_attention__in_proj_weight": (189, 64)}),
    ],
)
def test_shapes_that_do_not_fit_are_refused(name, widths):
    with pytest.raises(ArtefactError, match="damaged"):
        structure.build(name, Structure(), shapes_with(name, **widths))


def test_missing_tensors_and_wrong_ranks_are_refused():
    shapes = shapes_with("lenet-5")
    del shapes["fc2.bias"]
    with pytest.raises(ArtefactError, match=r"fc2\.bias"):
        structure.build("lenet-5", Structure(), shapes)
    shapes = shapes_with("lenet-5", Structure(factored=(("fc1", 9),)))
    with pytest.raises(ArtefactError):
        structure.build("lenet-5", Structure(factored=(("fc1", 10),)), shapes)


def test_heads_must_divide_the_width():
    shapes = {
        name: tuple({64: 62, 192: 186}.get(size, size) for size in shape) if "mlp.0.bias" not in name else shape
        for name, shape in shapes_with("vit-tiny").items()
    }
    with pytest.raises(ArtefactError, match="divi"):
        structure.build("vit-tiny", Structure(), shapes)


def test_residual_blocks_that_keep_their_shape_can_be_dropped():
    assert structure.blocks(zoo.build("resnet-20")) == (
        *(f"stage1.{i}" for i in range(3)),
        *(f"stage{stage}.{i}" for stage in (2, 3) for i in (1, 2)),
    )
    assert structure.blocks(zoo.build("vit-tiny")) == tuple(f"encoder.layers.encoder_layer_{i}" for i in range(4))
    mobile = zoo.build("mobilenet-v2")
    assert len(structure.blocks(mobile)) == 12
    assert not {"features.0", "features.4", "features.7", "features.17", "features.18"} & set(structure.blocks(mobile))
    assert structure.blocks(zoo.build("lenet-5")) == ()
