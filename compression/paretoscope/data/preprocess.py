"""How raw samples become what a network takes: data, not code, with presets.

Images are decoded, brought to RGB or gray, resized (torchvision's way with Pillow: the same pixels), cropped in their
middle to the network's height and width, and then fed as (pixel * scale - mean) / std with pixels from 0 to 255.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paretoscope.base import files
from paretoscope.base.batch import InputLike
from paretoscope.base.errors import DataError
from paretoscope.base.registry import Registry
from paretoscope.base.text import listed, nearest, reason, shown
from paretoscope.data.tokens import add_tokenizer

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

# Most height or width of an image, and most bytes of a file of preprocessing; chosen by hand; no benchmark.
LARGEST, MOST_BYTES = 8192, 4 << 20
_DIGEST = re.compile("[0-9a-f]{64}")


class Interpolation(StrEnum):
    NEAREST = "nearest"
    BILINEAR = "bilinear"
    BICUBIC = "bicubic"
    LANCZOS = "lanczos"


class Order(StrEnum):
    """Order of an image's channels."""

    RGB = "rgb"
    BGR = "bgr"


class Layout(StrEnum):
    """Axes of an image: channels first, or last."""

    NCHW = "nchw"
    NHWC = "nhwc"


@dataclass(frozen=True, slots=True)
class Preprocess:
    """From raw samples to a network's input.

    resize: length of the shorter side in pixels, or (height, width) whatever the proportions; None for the network's
    size divided by `share`. share: part of the resized shorter side that the crop keeps, in (0, 1]. interpolation: of
    resizing. scale, mean, std: (pixel * scale - mean) / std, one number or one a channel. order, layout: None for
    channels first, or last where the input's shape says so. channels: 1 or 3, None for the input's.
    padding: number that fills texts which are too short. tokenizer: SHA-256 of a tokenizer.json in the library, "" for
    bytes as tokens. standardise: whether columns of a table are fed as (x - mean) / std of the train part;
    column_mean, column_std: those numbers where they are given, one a column.
    """

    resize: int | tuple[int, int] | None = None
    share: float = 1.0
    interpolation: Interpolation = Interpolation.BILINEAR
    scale: float = 1 / 255
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    order: Order = Order.RGB
    channels: int | None = None
    layout: Layout | None = None
    padding: int = 0
    tokenizer: str = ""
    standardise: bool = False
    column_mean: tuple[float, ...] = ()
    column_std: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        sides = self.resize if isinstance(self.resize, tuple) else () if self.resize is None else (self.resize,)
        _expect(
            all(_whole(each) and 1 <= each <= LARGEST for each in sides) and len(sides) in (0, 1, 2),
            f"resize must be a side, or a height and a width, from 1 to {LARGEST} pixels",
            self.resize,
        )
        _expect(_number(self.share) and 0 < self.share <= 1, "share must be in (0, 1]", self.share)
        _expect(_number(self.scale) and self.scale != 0, "scale must be a number that is not 0", self.scale)
        _expect(len(self.mean) in (1, 3) and all(map(_number, self.mean)), "mean must be 1 or 3 numbers", self.mean)
        positive = all(_number(each) and each > 0 for each in self.std)
        _expect(len(self.std) in (1, 3) and positive, "std must be 1 or 3 numbers above 0", self.std)
        _expect(self.channels in (None, 1, 3), "channels must be 1 or 3", self.channels)
        _expect(_whole(self.padding) and 0 <= self.padding < 2**31, "padding must be a token's number", self.padding)
        _expect(
            self.tokenizer == "" or _DIGEST.fullmatch(self.tokenizer) is not None,
            "tokenizer must be the SHA-256 of one in the library",
            self.tokenizer,
        )
        _expect(isinstance(self.standardise, bool), "standardise must be true or false", self.standardise)
        _expect(
            all(map(_number, self.column_mean)) and all(_number(each) and each > 0 for each in self.column_std),
            "column_mean must be numbers, and column_std numbers above 0",
            self.column_std,
        )
        _expect(
            len(self.column_mean) == len(self.column_std),
            "column_mean and column_std must have a number for each column",
            (len(self.column_mean), len(self.column_std)),
        )

    def to_json(self) -> dict[str, Any]:
        """What differs from the defaults, which `from_json` reads."""
        found = {}
        for name, value in asdict(self).items():
            if value != getattr(Preprocess(), name):
                found[name] = list(value) if isinstance(value, tuple) else value
        return found

    @classmethod
    def from_json(cls, found: object) -> "Preprocess":
        """Checked: names, types and ranges. Raises DataError."""
        if not isinstance(found, Mapping):
            raise DataError(f"preprocessing must be an object of settings; got {shown(found)}. Write e.g. {_EXAMPLE}.")
        known = {each.name: each for each in fields(cls)}
        values: dict[str, Any] = {}
        for name, value in found.items():
            if name not in known:
                raise DataError(
                    f"preprocessing must have known settings; got {shown(name)}. Choose among: {listed(known, 20)}."
                    + nearest(name, known)
                )
            values[name] = _read(name, value)
        return cls(**values)

    @classmethod
    def from_file(cls, path: str | Path, *, beside: bool = False) -> "Preprocess":
        """From a file of JSON, which may name a preset to start from: {"preset": "imagenet", "order": "bgr"}.

        A tokenizer may be named by the path of its tokenizer.json from there: it goes into the library. beside: whether
        it must lie in the folder of the file itself, as of files that somebody sent.
        """
        content = files.read(path)
        if len(content) > MOST_BYTES:
            raise DataError(f"a file of preprocessing must have at most {MOST_BYTES >> 20} MB; {path} has more.")
        try:
            found = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise DataError(f"preprocessing must be JSON; {path}: {reason(error)}. Write e.g. {_EXAMPLE}.") from None
        if not isinstance(found, dict):
            return cls.from_json(found)
        base = presets.get(found.pop("preset")).preprocess.to_json() if "preset" in found else {}
        if isinstance(named := found.get("tokenizer"), str) and not _DIGEST.fullmatch(named):
            if beside and (named in ("", ".", "..") or set(named) & set("/\\")):
                raise DataError(
                    f"a tokenizer must be given beside the settings; they name {shown(named)}. Give both files, and "
                    "name it without a folder."
                )
            found["tokenizer"] = add_tokenizer(Path(path).parent / named)
        return cls.from_json(base | found)


_EXAMPLE = '{"resize": 256, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}'


def _expect(good: bool, rule: str, value: object) -> None:
    if not good:
        raise DataError(f"in preprocessing, {rule}; got {shown(value)}. Correct it or leave it out.")


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _read(name: str, value: object) -> Any:
    """A setting's value from JSON; what it may be beyond its type is checked by the class."""
    kinds: dict[str, type[StrEnum]] = {"interpolation": Interpolation, "order": Order, "layout": Layout}
    if name in kinds:
        choices = [each.value for each in kinds[name]]
        if name == "layout" and value is None:
            return None
        _expect(value in choices, f"{name} must be one of {', '.join(choices)}", value)
        return kinds[name](str(value))
    if name in ("mean", "std", "column_mean", "column_std"):
        values: list[Any] = value if isinstance(value, list) else [value]
        _expect(all(map(_number, values)), f"{name} must be numbers", value)
        return tuple(float(each) for each in values)
    if name == "resize" and isinstance(value, list):
        _expect(len(value) == 2, "resize must be a side, or a height and a width", value)
        return tuple(value)
    if name == "tokenizer":
        _expect(isinstance(value, str), "tokenizer must be a text", value)
    return value


@dataclass(frozen=True, slots=True)
class PreprocessPreset:
    """Preprocessing by name. channels: of the inputs that it fits."""

    name: str
    title: str
    summary: str
    reference: str
    preprocess: Preprocess
    channels: tuple[int, ...] = (1, 3)


presets: Registry[PreprocessPreset] = Registry("preset of preprocessing")
presets.add(
    PreprocessPreset(
        "imagenet",
        "ImageNet",
        "Shorter side 256 for a crop of 224, in proportion for other sizes; mean and standard deviation of ImageNet.",
        "torchvision's reference transforms for classification",
        Preprocess(share=0.875, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
        channels=(3,),
    )
)
presets.add(
    PreprocessPreset(
        "symmetric",
        "-1 to 1",
        "Pixels from -1 to 1, nothing cut away.",
        "Keras' preprocess_input in the mode of TensorFlow, which scales alone",
        Preprocess(mean=(0.5,), std=(0.5,)),
    )
)
presets.add(
    PreprocessPreset(
        "efficientnet-lite",
        "EfficientNet-Lite",
        "(pixel - 127) / 128, bicubic, with a border of 12.5 % cut away.",
        "Tan and others, EfficientNet-Lite, TensorFlow TPU models, 2020",
        Preprocess(share=0.875, interpolation=Interpolation.BICUBIC, scale=1.0, mean=(127.0,), std=(128.0,)),
    )
)
presets.add(
    PreprocessPreset("plain", "0 to 1", "Pixels from 0 to 1, nothing cut away.", "torchvision's ToTensor", Preprocess())
)
presets.add(
    PreprocessPreset(
        "mnist",
        "MNIST",
        "Pixels from 0 to 1, then mean 0.1307 and standard deviation 0.3081 of MNIST.",
        "PyTorch's MNIST example",
        Preprocess(mean=(0.1307,), std=(0.3081,)),
        channels=(1,),
    )
)


def named_or_file(text: str) -> Preprocess:
    """A preset's preprocessing by its name, or that of a file; raises UnknownNameError or DataError."""
    if text in presets:
        return presets.get(text).preprocess
    if Path(text).is_file():
        return Preprocess.from_file(text)
    return presets.get(text).preprocess


def fitting(input: InputLike) -> tuple[PreprocessPreset, ...]:
    """The presets that fit an input: those of images of its channels; none for what takes no image."""
    if not is_picture(input):
        return ()
    channels, _, _, _ = picture(input, Preprocess())
    return tuple(preset for preset in presets if channels in preset.channels)


def is_picture(input: InputLike) -> bool:
    """Whether an input may take images: three axes with 1 or 3 channels first or last, or two without any."""
    shape = input.shape
    return len(shape) == 2 or (len(shape) == 3 and (shape[0] in (1, 3) or shape[2] in (1, 3)))


def picture(input: InputLike, preprocess: Preprocess) -> tuple[int, int, int, Layout]:
    """Channels, height, width and layout of the images that an input takes; raises DataError where it takes none."""
    shape = input.shape
    if not is_picture(input):
        raise DataError(
            f"images need an input of (channels, height, width) or (height, width, channels) with 1 or 3 channels; "
            f"{input.name} has {shape}. Give arrays of that shape instead."
        )
    if len(shape) == 2:
        found = 1, shape[0], shape[1], Layout.NCHW
    else:
        layout = preprocess.layout or (Layout.NCHW if shape[0] in (1, 3) else Layout.NHWC)
        channels, height, width = shape if layout is Layout.NCHW else (shape[2], shape[0], shape[1])
        found = channels, height, width, layout
    channels = found[0]
    if channels not in (1, 3) or preprocess.channels not in (None, channels):
        raise DataError(
            f"preprocessing must give the channels that {input.name} has, {channels}; it says layout "
            f"{found[3]} and channels {preprocess.channels}. Leave both out."
        )
    for name, values in (("mean", preprocess.mean), ("std", preprocess.std)):
        if len(values) not in (1, channels):
            raise DataError(f"{name} must have a number for each channel, {channels}; it has {len(values)}. Give one.")
    return found


def fitted(image: "Image", channels: int, height: int, width: int, preprocess: Preprocess) -> "np.ndarray":
    """An image at an input's size: uint8 (height, width, channels), in RGB. Raises DataError.

    As torchvision's Resize and CenterCrop do it on Pillow images.
    """
    import numpy as np
    from PIL import Image as Pillow

    wanted = "L" if channels == 1 else "RGB"
    try:
        image = _eight_bits(image)
        # Transparent pixels of a palette are named in the mode.
        image = image if image.mode == wanted else image.convert(wanted)
    except Exception as error:  # whatever a decoder of damaged bytes raises
        raise DataError(f"an image must be whole; {reason(error)}. Add the data again.") from None
    size = _resized(image.width, image.height, height, width, preprocess)
    if size != image.size:
        image = image.resize(size, Pillow.Resampling[preprocess.interpolation.name])
    left, top = round((image.width - width) / 2.0), round((image.height - height) / 2.0)
    if image.size != (width, height):
        image = image.crop((left, top, left + width, top + height))
    return np.asarray(image, np.uint8).reshape(height, width, channels)


def _eight_bits(image: "Image") -> "Image":
    """Images of 16 bits a pixel, which Pillow would clip, from 0 to 255."""
    if not image.mode.startswith("I"):
        return image
    import numpy as np
    from PIL import Image as Pillow

    return Pillow.fromarray((np.asarray(image).clip(0, 65535) >> 8).astype(np.uint8))


def _resized(width: int, height: int, to_height: int, to_width: int, preprocess: Preprocess) -> tuple[int, int]:
    """Width and height after resizing; raises DataError where the crop would not fit in."""
    resize = preprocess.resize
    if isinstance(resize, tuple):
        size = resize[1], resize[0]
    elif isinstance(resize, int):
        size = _shorter(width, height, resize)
    elif to_height == to_width:
        size = _shorter(width, height, round(to_width / preprocess.share))
    else:
        # The smallest size in proportion that holds the whole crop.
        factor = max(to_width / width, to_height / height) / preprocess.share
        size = max(to_width, round(width * factor)), max(to_height, round(height * factor))
    if size[0] < to_width or size[1] < to_height:
        raise DataError(
            f"resizing must give at least the network's {to_height} x {to_width} pixels; it gives {size[1]} x "
            f"{size[0]}. Raise resize, or leave it out."
        )
    return size


def _shorter(width: int, height: int, side: int) -> tuple[int, int]:
    if width <= height:
        return side, max(1, int(side * height / width))
    return max(1, int(side * width / height)), side


def normalised(pixels: "np.ndarray", preprocess: Preprocess, layout: Layout, shape: tuple[int, ...]) -> "np.ndarray":
    """Pixels, uint8 (n, height, width, channels), as an input of that shape takes them: float32 (n, *shape)."""
    import numpy as np

    values: np.ndarray = pixels.astype(np.float32)
    if preprocess.order is Order.BGR:
        values = values[..., ::-1]
    # In place: a chunk of large images would take its memory several times over.
    values *= np.float32(preprocess.scale)
    values -= np.array(preprocess.mean, np.float32)
    values /= np.array(preprocess.std, np.float32)
    if layout is Layout.NCHW:
        values = values.transpose(0, 3, 1, 2)
    return np.ascontiguousarray(values.reshape(len(pixels), *shape))
