"""Networks of timm by name."""

from pathlib import Path
from typing import Any

from paretoscope.base.errors import ModelError
from paretoscope.base.text import nearest, reason, shown
from paretoscope.networks.origins.origin import RANDOM, Opened, Options, package

PREFIX = "timm:"


class Timm:
    name = "timm"
    title = "timm"
    summary = "PyTorch Image Models by name, with your weights, or with the published ones where there is a network."
    reference = "Wightman, PyTorch Image Models, github.com/huggingface/pytorch-image-models"
    form = "timm:NAME"
    place = 50

    def takes(self, text: str) -> bool:
        return text.startswith(PREFIX)

    def open(self, text: str, options: Options) -> Opened:
        from paretoscope.base.torchvision_import import import_torchvision
        from paretoscope.networks.origins import modules

        modules.quiet_hub()
        import_torchvision()
        timm = package("timm", f"{PREFIX}NAME", "timm==1.0.31")
        name = text.removeprefix(PREFIX)
        if not timm.is_model(name):
            known = timm.list_models()
            raise ModelError(f"{PREFIX}NAME must be one of its models; got {shown(name)}.{nearest(name, known)}")
        if options.weights == RANDOM:
            module, note = timm.create_model(name), modules.RANDOM_NOTE
        elif options.weights:
            path = Path(options.weights)
            module = modules.with_state(
                lambda classes: timm.create_model(name, **({} if classes is None else {"num_classes": classes})),
                modules.state_of(path),
                path.name,
            )
            note = f"The weights are those of {path.name}."
        else:
            if not timm.models.is_model_pretrained(name):
                raise modules.without_weights(name, "there are no published ones")
            try:
                module = timm.create_model(name, pretrained=True)
            except Exception as error:  # of the hub, its connection or its cache; they have no common base
                raise modules.without_weights(name, reason(error, 200)) from None
            note = f"The weights are {module.pretrained_cfg.get('tag') or 'the published ones'} of timm."
        config = timm.data.resolve_data_config({}, model=module)
        example = modules.floats(options.inputs, tuple(config["input_size"]), text)
        return modules.opened(module, example, name, (note,), _preprocess(config))


def _preprocess(config: dict[str, Any]) -> dict[str, Any]:
    """timm's settings of an evaluation as data."""
    found: dict[str, Any] = {
        "interpolation": config["interpolation"],
        "mean": list(config["mean"]),
        "std": list(config["std"]),
    }
    if config.get("crop_mode") == "squash":
        return found | {"resize": list(config["input_size"][1:])}
    return found | {"share": config["crop_pct"]}


ORIGINS = (Timm(),)
