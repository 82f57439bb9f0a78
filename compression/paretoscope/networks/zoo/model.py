"""The models: how each is built, trained and described, and the weights that we ship for it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from paretoscope.base.errors import ModelError
from paretoscope.base.places import ASSETS
from paretoscope.base.registry import Registry
from paretoscope.data.dataset import InputShape

if TYPE_CHECKING:
    from torch import nn

WEIGHTS_FOLDER = ASSETS / "models"
DEFAULT_MODEL = "simple-cnn"


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """Settings of AdamW with one cosine cycle: a warm-up over `warm_up` of all steps to `learning_rate`, then to zero.

    label_smoothing: probability mass spread over all classes. rotation: largest angle of the augmentation, in degrees.
    scaling, shift: largest relative change of size, and largest shift as a part of the image's side. The values of the
    zoo are chosen by hand; no benchmark.
    """

    epochs: int
    learning_rate: float
    batch: int = 50
    weight_decay: float = 0.02
    label_smoothing: float = 0.1
    warm_up: float = 0.2
    rotation: float = 10.0
    scaling: float = 0.1
    shift: float = 0.08


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """What the screen and the engine know of a model.

    input_shape: (C, H, W). dataset: a name in `datasets`. build: makes the module with random weights.
    """

    name: str
    title: str
    summary: str
    reference: str
    input_shape: InputShape
    dataset: str
    build: "Callable[[], nn.Module]"
    training: TrainingSettings


models: Registry[ModelEntry] = Registry("model")


@lru_cache(maxsize=64)  # more than the zoo has architectures
def _builder(module: str, function: str) -> "Callable[[], nn.Module]":
    """A builder that imports its module, and torch, when it is called; one object for each function."""

    def build() -> "nn.Module":
        made: nn.Module = getattr(import_module(f"paretoscope.networks.zoo.{module}"), function)()
        return made

    return build


def models_of(dataset: str) -> tuple[str, ...]:
    """Names of the models that are measured on a dataset, in their order."""
    return tuple(entry.name for entry in models if entry.dataset == dataset)


def build(name: str) -> "nn.Module":
    """The model with random weights (from torch's global generator), in eval mode; raises UnknownNameError."""
    return models.get(name).build().eval()


def load_model(name: str) -> "nn.Module":
    """The model with the weights that we trained, in eval mode.

    Raises UnknownNameError, or ModelError when the weights are missing, damaged or another model's.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    model = build(name)
    path = weights_path(name)
    remedy = f"Restore the file, or write it again with: python -m paretoscope train {name}"
    if not path.is_file():
        raise ModelError(f"the weights of {name} must be at {path}; there is no such file. {remedy}")
    try:
        model.load_state_dict(load_file(path), strict=True)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise ModelError(f"{path} must hold the weights of {name}; it does not ({error}). {remedy}") from None
    return model


def weights_path(name: str) -> Path:
    """Where the weights of that model are kept."""
    return WEIGHTS_FOLDER / f"{name}.safetensors"


models.add(
    ModelEntry(
        name="lenet-300-100",
        title="LeNet-300-100",
        summary="Three fully connected layers, 267 k parameters.",
        reference="LeCun, Bottou, Bengio and Haffner, Gradient-based learning applied to document recognition, 1998",
        input_shape=(1, 28, 28),
        dataset="digits",
        build=_builder("lenet", "lenet_300_100"),
        training=TrainingSettings(epochs=150, learning_rate=2e-3),
    )
)
models.add(
    ModelEntry(
        name="lenet-5",
        title="LeNet-5",
        summary="Two convolutions and two fully connected layers, as in Caffe, 431 k parameters.",
        reference="LeCun, Bottou, Bengio and Haffner, Gradient-based learning applied to document recognition, 1998",
        input_shape=(1, 28, 28),
        dataset="digits",
        build=_builder("lenet", "lenet_5"),
        training=TrainingSettings(epochs=60, learning_rate=2e-3),
    )
)
models.add(
    ModelEntry(
        name="simple-cnn",
        title="Simple CNN",
        summary="Two 3x3 convolutions and two fully connected layers, 269 k parameters.",
        reference="A textbook net in the manner of LeNet, for colour images",
        input_shape=(3, 32, 32),
        dataset="digits",
        build=_builder("simple_cnn", "simple_cnn"),
        training=TrainingSettings(epochs=60, learning_rate=2e-3),
    )
)
models.add(
    ModelEntry(
        name="resnet-20",
        title="ResNet-20",
        summary="Twenty layers with shortcuts and batch normalisation, 272 k parameters.",
        reference="He, Zhang, Ren and Sun, Deep Residual Learning for Image Recognition, 2015",
        input_shape=(3, 32, 32),
        dataset="digits",
        build=_builder("resnet", "resnet_20"),
        training=TrainingSettings(epochs=30, learning_rate=5e-3),
    )
)
models.add(
    ModelEntry(
        name="mobilenet-v2",
        title="MobileNetV2 x0.25",
        summary="Depthwise separable convolutions at a quarter of the width, 251 k parameters.",
        reference="Sandler et al., MobileNetV2: Inverted Residuals and Linear Bottlenecks, 2018",
        input_shape=(3, 32, 32),
        dataset="digits",
        build=_builder("mobilenet", "mobilenet_v2"),
        training=TrainingSettings(epochs=60, learning_rate=5e-3),
    )
)
models.add(
    ModelEntry(
        name="vit-tiny",
        title="ViT-Tiny",
        summary="Four layers of self-attention over sixteen patches, 148 k parameters.",
        reference="Dosovitskiy et al., An Image is Worth 16x16 Words, 2020",
        input_shape=(3, 32, 32),
        dataset="digits",
        build=_builder("vit", "vit_tiny"),
        training=TrainingSettings(epochs=150, learning_rate=1e-3),
    )
)

# An epoch has 60,000 samples, that of the digits 1,000: so fewer epochs, larger batches and gentler augmentation.
_MANY_SAMPLES = partial(TrainingSettings, batch=128, label_smoothing=0.0, rotation=7.5, scaling=0.08, shift=0.05)
models.add(
    ModelEntry(
        name="lenet-300-100-mnist",
        title="LeNet-300-100 (MNIST)",
        summary="Three fully connected layers, 267 k parameters, on MNIST.",
        reference="Han, Mao and Dally, Deep Compression, 2015, table 1",
        input_shape=(1, 28, 28),
        dataset="mnist",
        build=_builder("lenet", "lenet_300_100"),
        training=_MANY_SAMPLES(epochs=30, learning_rate=2e-3),
    )
)
models.add(
    ModelEntry(
        name="lenet-5-mnist",
        title="LeNet-5 (MNIST)",
        summary="Two convolutions and two fully connected layers, 431 k parameters, on MNIST.",
        reference="Han, Mao and Dally, Deep Compression, 2015, table 1",
        input_shape=(1, 28, 28),
        dataset="mnist",
        build=_builder("lenet", "lenet_5"),
        training=_MANY_SAMPLES(epochs=15, learning_rate=2e-3),
    )
)
