"""Networks of transformers from a local folder: its configuration and its safetensors."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paretoscope.base.errors import ModelError
from paretoscope.base.text import reason, shown
from paretoscope.networks.origins.origin import RANDOM, Opened, Options, package, refuse_options

if TYPE_CHECKING:
    from torch import Tensor, nn

    from paretoscope.base.batch import Batch

PREFIX = "transformers:"
REQUIREMENT = "transformers==5.24.0"
# Tokens of a text where nobody says how many; chosen by hand; no benchmark.
LENGTH = 128
IMAGES, TEXTS = "ForImageClassification", "ForSequenceClassification"
# Pillow's numbers of ways to resize.
_RESAMPLING = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}


class Transformers:
    name = "transformers"
    title = "transformers"
    summary = "A folder of config.json and safetensors: classifiers of images and of texts. No code is run."
    reference = "Wolf and others, Transformers, 2020, huggingface.co/docs/transformers"
    form = "transformers:FOLDER"
    place = 70

    def takes(self, text: str) -> bool:
        return text.startswith(PREFIX)

    def open(self, text: str, options: Options) -> Opened:
        from paretoscope.base.torchvision_import import import_torchvision
        from paretoscope.networks.origins import modules

        folder = Path(text.removeprefix(PREFIX))
        config = _json(folder / "config.json")
        (kind,) = config.get("architectures") or [""]
        if not isinstance(kind, str) or not kind.endswith((IMAGES, TEXTS)):
            raise ModelError(
                f"{folder} must hold a classifier of images or texts (...{IMAGES}, ...{TEXTS}); it holds "
                f"{shown(kind)}. Export other networks by torch.export, and add that file."
            )
        modules.quiet_hub()
        import_torchvision()
        library = package("transformers", f"{PREFIX}FOLDER", REQUIREMENT)
        if options.weights != RANDOM:
            refuse_options(options, weights="the weights are those of the folder; random is the only other choice")
        made = (
            library.AutoModelForImageClassification
            if kind.endswith(IMAGES)
            else (library.AutoModelForSequenceClassification)
        )
        safe = {"local_files_only": True, "trust_remote_code": False}
        try:
            if options.weights == RANDOM:
                settings = library.AutoConfig.from_pretrained(folder, **safe)
                model, note = made.from_config(settings, trust_remote_code=False), modules.RANDOM_NOTE
            else:
                model, note = (
                    made.from_pretrained(folder, use_safetensors=True, **safe),
                    "The weights are its own.",
                )
        except Exception as error:  # of configurations, files and shapes; they have no common base
            raise ModelError(
                f"{folder} must be a whole folder of transformers; {reason(error, 300)}. Save it again."
            ) from None
        if kind.endswith(IMAGES):
            example, preprocess = _pictures(model, folder, options)
        else:
            example, preprocess = _texts(model, folder, options)
        return modules.opened(
            _answers(model, kind.endswith(IMAGES)), example, folder.resolve().name, (note,), preprocess
        )


def _answers(model: Any, images: bool) -> "nn.Module":
    """The logits alone. Texts are padded with one token, which is not attended to."""
    from torch import nn

    class Answers(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model
            self.padding = None if images else model.config.pad_token_id

        def forward(self, inputs: "Tensor") -> Any:
            if images:
                return self.model(pixel_values=inputs).logits
            mask = None if self.padding is None else (inputs != self.padding).long()
            return self.model(input_ids=inputs, attention_mask=mask).logits

    return Answers().eval()


def _pictures(model: Any, folder: Path, options: Options) -> "tuple[Batch, dict[str, Any] | None]":
    from paretoscope.networks.origins import modules

    side = getattr(model.config, "image_size", None)
    sides = (side, side) if isinstance(side, int) else None if side is None else tuple(side)
    channels = getattr(model.config, "num_channels", 3)
    shape = None if sides is None else (channels, *sides)
    example = modules.floats(options.inputs, shape, f"{PREFIX}{folder}")
    path = folder / "preprocessor_config.json"
    return example, _preprocess(_json(path)) if path.is_file() else None


def _preprocess(found: dict[str, Any]) -> dict[str, Any]:
    """The settings of an image processor as data."""
    size = found.get("size") or {}
    settings: dict[str, Any] = {"scale": found.get("rescale_factor", 1 / 255) if found.get("do_rescale", True) else 1.0}
    if found.get("do_resize", True) and isinstance(size, dict):
        if "shortest_edge" in size:
            settings["resize"] = size["shortest_edge"]
        elif "height" in size:
            settings["resize"] = [size["height"], size["width"]]
    settings["interpolation"] = _RESAMPLING.get(found.get("resample", 2), "bilinear")
    if found.get("do_normalize", True) and "image_mean" in found:
        settings |= {"mean": found["image_mean"], "std": found["image_std"]}
    return settings


def _texts(model: Any, folder: Path, options: Options) -> "tuple[Batch, dict[str, Any]]":
    import torch

    from paretoscope.data.tokens import add_tokenizer

    (length,) = next(iter(options.inputs.values()), None) or (
        min(LENGTH, getattr(model.config, "max_position_embeddings", LENGTH)),
    )
    settings: dict[str, Any] = {"padding": model.config.pad_token_id or 0}
    if (folder / "tokenizer.json").is_file():
        settings["tokenizer"] = add_tokenizer(folder / "tokenizer.json")
    return torch.ones(2, length, dtype=torch.int64), settings


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(
            f"{path} must be a file of JSON; {error}. Give a folder that transformers has saved."
        ) from None
    if not isinstance(found, dict):
        raise ModelError(f"{path} must hold settings by name; it holds {shown(found)}. Save the network again.")
    return found


ORIGINS = (Transformers(),)
