"""Networks of torchvision by name."""

import inspect
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paretoscope.base.errors import ModelError
from paretoscope.base.text import nearest, shown
from paretoscope.networks.origins.origin import RANDOM, Opened, Options

if TYPE_CHECKING:
    from torch import nn

PREFIX = "torchvision:"
# What older files of DenseNets write with a dot, as torchvision renames it.
_OLDER = re.compile(r"(.*denselayer\d+\.(?:norm|relu|conv))\.([12]\.(?:weight|bias|running_mean|running_var))")


class Torchvision:
    name = "torchvision"
    title = "torchvision"
    summary = "Its networks by name, with your weights, or with the published ones where there is a network."
    reference = "torchvision.models, pytorch.org/vision"
    form = "torchvision:NAME"
    place = 40

    def takes(self, text: str) -> bool:
        return text.startswith(PREFIX)

    def open(self, text: str, options: Options) -> Opened:
        from paretoscope.base.torchvision_import import import_torchvision
        from paretoscope.networks.origins import modules

        models = import_torchvision().models
        name = text.removeprefix(PREFIX)
        if name not in (known := models.list_models()):
            raise ModelError(f"{PREFIX}NAME must be one of its models; got {shown(name)}.{nearest(name, known)}")
        published = models.get_model_weights(name).DEFAULT
        suggested = published.transforms()
        if options.weights == RANDOM:
            module, note = _built(name), modules.RANDOM_NOTE
        elif options.weights:
            path = Path(options.weights)
            state = {_OLDER.sub(r"\1\2", key): value for key, value in modules.state_of(path).items()}
            own = path.name == published.url.rpartition("/")[2]
            module = modules.with_state(lambda classes: _built(name, classes, published=own), state, path.name)
            note = f"The weights are those of {path.name}."
        else:
            modules.download(published.url, name)
            module, note = models.get_model(name, weights=published), f"The weights are {published}."
        shape = (3, suggested.crop_size[0], suggested.crop_size[0]) if hasattr(suggested, "crop_size") else None
        example = modules.floats(options.inputs, shape, text)
        return modules.opened(module, example, name, (note,), _preprocess(suggested))


def _built(name: str, classes: int | None = None, *, published: bool = False) -> "nn.Module":
    """A network with random weights. published: whether it is to take those that torchvision publishes, for which two
    networks scale their inputs.
    """
    from torchvision import models

    known = inspect.signature(inspect.unwrap(models.get_model_builder(name))).parameters
    settings: dict[str, Any] = {} if classes is None else {"num_classes": classes}
    names = {"googlenet", "inception_v3"}
    if name in names:
        settings |= {"init_weights": False, "transform_input": published}
    elif "init_weights" in known:
        settings["init_weights"] = False
    made: nn.Module = models.get_model(name, weights=None, **settings)
    return made


def _preprocess(transforms: Any) -> dict[str, Any] | None:
    """The transforms of published weights as data; None where they are not those of pictures for a classifier."""
    if not all(hasattr(transforms, each) for each in ("resize_size", "interpolation", "mean", "std")):
        return None
    return {
        "resize": transforms.resize_size[0],
        "interpolation": transforms.interpolation.value,
        "mean": list(transforms.mean),
        "std": list(transforms.std),
    }


ORIGINS = (Torchvision(),)
