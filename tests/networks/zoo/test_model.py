import pytest
from paretoscope.base.errors import ModelError, UnknownNameError
from paretoscope.networks import sources, zoo
from paretoscope.networks.zoo import models as registry
from safetensors.torch import save_file
from torch import nn

NAMES = ["lenet-300-100", "lenet-5", "simple-cnn", "resnet-20", "mobilenet-v2", "vit-tiny"]


def parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def test_the_registry_holds_the_six_models_in_order_and_then_those_on_other_data():
    assert zoo.models_of("digits") == tuple(NAMES)
    assert registry.names() == (*NAMES, *zoo.models_of("mnist"))
    assert zoo.models_of("imagenet") == ()
    assert zoo.DEFAULT_MODEL == "simple-cnn"


def test_teachers_answer_to_the_same_images():
    assert sources.alike("lenet-5") == ("lenet-300-100",)
    assert sources.alike("resnet-20") == ("simple-cnn", "mobilenet-v2", "vit-tiny")
    assert sources.alike("lenet-5-mnist") == ("lenet-300-100-mnist",)
    with pytest.raises(UnknownNameError):
        sources.alike("nobody")


def dense(inputs: int, outputs: int) -> int:
    return inputs * outputs + outputs


def conv(inputs: int, outputs: int, side: int) -> int:
    return inputs * outputs * side**2 + outputs


# A residual block: two 3x3 convolutions without bias, two normalisations; plus a projection where the shape changes.
def residual(inputs: int, outputs: int) -> int:
    projection = 0 if inputs == outputs else inputs * outputs + 2 * outputs
    return 9 * outputs * (inputs + outputs) + 4 * outputs + projection


CLOSED_FORMS = {
    "lenet-300-100": dense(784, 300) + dense(300, 100) + dense(100, 10),
    "lenet-5": conv(1, 20, 5) + conv(20, 50, 5) + dense(800, 500) + dense(500, 10),
    "simple-cnn": conv(3, 16, 3) + conv(16, 32, 3) + dense(2048, 128) + dense(128, 10),
    "resnet-20": 27 * 16
    + 2 * 16
    + 3 * residual(16, 16)
    + residual(16, 32)
    + 2 * residual(32, 32)
    + residual(32, 64)
    + 2 * residual(64, 64)
    + dense(64, 10),
    "vit-tiny": conv(3, 64, 8)
    + 64  # class token
    + 17 * 64  # positions
    + 4 * (dense(64, 3 * 64) + dense(64, 64) + dense(64, 128) + dense(128, 64) + 4 * 64)
    + 2 * 64
    + dense(64, 10),
}


@pytest.mark.parametrize("name", CLOSED_FORMS)
def test_the_number_of_parameters_is_that_of_the_architecture(name):
    assert parameters(zoo.build(name)) == CLOSED_FORMS[name]


def test_mobilenet_has_the_papers_layers_at_a_quarter_of_the_width():
    model = zoo.build("mobilenet-v2")
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    # The stem, 17 blocks of three of which the first has no expansion, the head.
    assert len(convolutions) == 1 + 17 * 3 - 1 + 1
    assert convolutions[0].out_channels == 8
    assert model.classifier[1].in_features == 1280
    assert sum(m.stride == (2, 2) for m in convolutions) == 4


def test_resnet_20_has_twenty_layers_on_its_main_path():
    model = zoo.build("resnet-20")
    main = [n for n, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear) and "shortcut" not in n]
    assert len(main) == 20


def test_an_unknown_model_is_told_the_known_ones():
    for function in (zoo.build, zoo.load_model):
        with pytest.raises(UnknownNameError, match=r"'resnet-21'.*lenet-300-100, lenet-5.*vit-tiny"):
            function("resnet-21")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder in place of the shipped weights."""
    monkeypatch.setattr("paretoscope.networks.zoo.model.WEIGHTS_FOLDER", tmp_path)
    return tmp_path


REMEDY = "python -m paretoscope train lenet-5"


def test_missing_weights_are_refused_with_the_remedy(folder):
    with pytest.raises(ModelError, match=REMEDY):
        zoo.load_model("lenet-5")


def truncated(weights: bytes) -> bytes:
    return weights[:-1]


def without_header(weights: bytes) -> bytes:
    return b"\xff" * 8 + weights[8:]


def empty(_: bytes) -> bytes:
    return b""


@pytest.mark.parametrize("damage", [truncated, without_header, empty])
def test_damaged_weights_are_refused_with_the_remedy(folder, damage):
    path = folder / "lenet-5.safetensors"
    save_file(zoo.build("lenet-5").state_dict(), path)
    zoo.load_model("lenet-5")
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ModelError, match=REMEDY):
        zoo.load_model("lenet-5")


def test_another_models_weights_are_refused(folder):
    save_file(zoo.build("lenet-300-100").state_dict(), folder / "lenet-5.safetensors")
    with pytest.raises(ModelError, match=REMEDY):
        zoo.load_model("lenet-5")
