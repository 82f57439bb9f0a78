import json
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from data_sources import Input, encoded, picture
from paretoscope.base.errors import CompressionError, DataError, UnknownNameError
from paretoscope.base.torchvision_import import import_torchvision
from paretoscope.data.preprocess import (
    Interpolation,
    Layout,
    Order,
    Preprocess,
    fitted,
    fitting,
    named_or_file,
    normalised,
    presets,
)
from paretoscope.data.preprocess import (
    picture as picture_of,
)
from paretoscope.data.samples import opened
from PIL import Image

MANY = Preprocess(
    resize=(40, 30),
    share=0.5,
    interpolation=Interpolation.LANCZOS,
    scale=1.0,
    mean=(1.0, 2.0, 3.0),
    std=(4.0, 5.0, 6.0),
    order=Order.BGR,
    channels=3,
    layout=Layout.NHWC,
    padding=7,
    tokenizer="a" * 64,
    standardise=True,
    column_mean=(1.5, 2.5),
    column_std=(1.0, 3.0),
)


@pytest.mark.parametrize("each", [Preprocess(), MANY, *(preset.preprocess for preset in presets)])
def test_it_survives_json(each: Preprocess) -> None:
    assert Preprocess.from_json(json.loads(json.dumps(each.to_json()))) == each


def test_every_setting_is_in_the_json_that_differs() -> None:
    assert set(MANY.to_json()) == {each.name for each in fields(Preprocess)}
    assert Preprocess().to_json() == {}


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ([], "object of settings"),
        ({"resise": 3}, "Did you mean resize"),
        ({"resize": 0}, "resize"),
        ({"resize": True}, "resize"),
        ({"resize": [1, 2, 3]}, "resize"),
        ({"resize": "big"}, "resize"),
        ({"share": 0}, "share"),
        ({"share": "1"}, "share"),
        ({"scale": float("nan")}, "scale"),
        ({"scale": 0}, "scale"),
        ({"mean": [1, 2]}, "mean"),
        ({"mean": "0.5"}, "mean"),
        ({"std": [0.0]}, "std"),
        ({"std": []}, "std"),
        ({"channels": 4}, "channels"),
        ({"order": "grb"}, "order"),
        ({"order": []}, "order"),
        ({"layout": "nhcw"}, "layout"),
        ({"interpolation": 2}, "interpolation"),
        ({"padding": -1}, "padding"),
        ({"tokenizer": "../x"}, "tokenizer"),
        ({"tokenizer": 3}, "tokenizer"),
        ({"standardise": 1}, "standardise"),
        ({"column_mean": [1]}, "a number for each column"),
        ({"column_mean": [1], "column_std": [0]}, "column_std"),
    ],
)
def test_bad_settings_are_refused(found: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Preprocess.from_json(found)


def test_a_file_may_start_from_a_preset(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    path.write_text('{"preset": "imagenet", "order": "bgr"}')
    made = named_or_file(str(path))
    assert made.order is Order.BGR and made.mean == presets.get("imagenet").preprocess.mean
    for content in ("", "{", "[]", '{"preset": "none"}', "[" * 100_000):
        path.write_text(content)
        with pytest.raises(CompressionError):
            Preprocess.from_file(path)


def test_presets_are_had_by_name() -> None:
    assert named_or_file("plain") == Preprocess()
    with pytest.raises(UnknownNameError, match="imagenet"):
        named_or_file("nonsense")


def test_presets_say_what_they_are() -> None:
    for preset in presets:
        assert preset.title and preset.summary and preset.reference and preset.channels


@pytest.mark.parametrize(
    ("shape", "names"),
    [
        ((3, 224, 224), {"imagenet", "symmetric", "efficientnet-lite", "plain"}),
        ((224, 224, 3), {"imagenet", "symmetric", "efficientnet-lite", "plain"}),
        ((1, 28, 28), {"symmetric", "efficientnet-lite", "plain", "mnist"}),
        ((10,), set()),
        ((6, 32, 9), set()),
    ],
)
def test_the_presets_that_fit_an_input(shape: tuple[int, ...], names: set[str]) -> None:
    assert {preset.name for preset in fitting(Input("x", shape))} == names


@pytest.mark.parametrize(("name", "low", "high"), [("plain", 0, 1), ("symmetric", -1, 1)])
def test_black_and_white_by_preset(name: str, low: float, high: float) -> None:
    pixels = np.array([0, 255], np.uint8).reshape(1, 1, 2, 1)
    found = normalised(pixels, presets.get(name).preprocess, Layout.NCHW, (1, 1, 2))
    np.testing.assert_allclose(found.ravel(), [low, high], atol=1e-6)


def test_efficientnet_lite_is_exact() -> None:
    pixels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    found = normalised(pixels, presets.get("efficientnet-lite").preprocess, Layout.NCHW, (1, 16, 16))
    np.testing.assert_array_equal(found.ravel(), (np.arange(256, dtype=np.float32) - 127) / 128)


def test_orders_and_layouts() -> None:
    pixels = np.arange(2 * 4 * 5 * 3, dtype=np.uint8).reshape(2, 4, 5, 3)
    plain = Preprocess(scale=1.0)
    last = normalised(pixels, plain, Layout.NHWC, (4, 5, 3))
    first = normalised(pixels, plain, Layout.NCHW, (3, 4, 5))
    turned = normalised(pixels, Preprocess(scale=1.0, order=Order.BGR, mean=(1.0, 2.0, 3.0)), Layout.NHWC, (4, 5, 3))
    np.testing.assert_array_equal(last, pixels)
    np.testing.assert_array_equal(first.transpose(0, 2, 3, 1), pixels)
    # Mean and standard deviation are of the channels as the network has them.
    np.testing.assert_array_equal(turned, pixels[..., ::-1] - np.array([1, 2, 3], np.float32))


SIZES = [(500, 333), (333, 500), (31, 64), (224, 224), (257, 256), (40, 400)]


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ["imagenet", "efficientnet-lite", "plain"])
def test_pixels_are_those_of_torchvision(size: tuple[int, int], name: str) -> None:
    """The slower twin: torchvision's transforms on the same Pillow image."""
    import_torchvision()
    from torchvision import transforms

    preprocess = presets.get(name).preprocess
    image = picture(3, *size)
    side = 64 if name == "plain" else round(64 / 0.875)
    twin = transforms.Compose(
        [
            transforms.Resize(side, transforms.InterpolationMode[preprocess.interpolation.name]),
            transforms.CenterCrop(64),
            transforms.PILToTensor(),
        ]
    )
    found = fitted(image, 3, 64, 64, preprocess)
    np.testing.assert_array_equal(found.transpose(2, 0, 1), twin(image).numpy())


def test_a_size_that_is_given_is_taken() -> None:
    image = picture(1, 90, 60)
    stretched = fitted(image, 3, 32, 32, Preprocess(resize=(32, 32)))
    np.testing.assert_array_equal(stretched, np.asarray(image.resize((32, 32), Image.Resampling.BILINEAR)))
    shorter = fitted(image, 3, 32, 32, Preprocess(resize=60))
    np.testing.assert_array_equal(shorter, np.asarray(image)[14:46, 29:61])
    with pytest.raises(DataError, match="at least the network's 32 x 32 pixels; it gives 20 x 30"):
        fitted(image, 3, 32, 32, Preprocess(resize=20))


@pytest.mark.parametrize("size", SIZES)
def test_inputs_that_are_no_squares_are_filled(size: tuple[int, int]) -> None:
    for height, width in ((20, 50), (50, 20)):
        assert fitted(picture(2, *size), 3, height, width, Preprocess(share=0.9)).shape == (height, width, 3)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16", "I", "F"])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_kind_of_image_becomes_gray_or_colour(mode: str, channels: int) -> None:
    made = Image.new("L", (9, 8), 255 if mode == "1" else 200)
    if mode == "I;16":
        image = Image.fromarray(np.full((8, 9), 200 << 8, np.uint16))
    elif mode == "I":
        image = Image.fromarray(np.full((8, 9), 200 << 8, np.int32))
    else:
        image = made.convert(mode)
    found = fitted(image, channels, 8, 9, Preprocess())
    assert found.shape == (8, 9, channels) and found.dtype == np.uint8
    expected = 255 if mode == "1" else 200
    assert abs(int(found.max()) - expected) <= 2 and abs(int(found.min()) - expected) <= 2


@pytest.mark.parametrize("form", ["PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF"])
def test_every_format_is_read(form: str) -> None:
    assert fitted(opened(encoded(picture(1), form)), 3, 14, 20, Preprocess()).shape == (14, 20, 3)


@pytest.mark.parametrize(
    ("shape", "settings", "message"),
    [
        ((10,), {}, "images need an input"),
        ((4, 8, 8), {}, "images need an input"),
        ((1, 8, 8), {"mean": [1, 2, 3]}, "a number for each channel, 1"),
        ((3, 8, 8), {"channels": 1}, "channels"),
        ((3, 8, 8), {"layout": "nhwc"}, "channels"),
    ],
)
def test_inputs_that_settings_do_not_fit(shape: tuple[int, ...], settings: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        picture_of(Input("x", shape), Preprocess.from_json(settings))


def test_the_preset_from_minus_one_to_one_scales_alone() -> None:
    settings = presets.get("symmetric").preprocess
    assert settings.share == presets.get("plain").preprocess.share == 1.0
    assert (settings.mean, settings.std) == ((0.5,), (0.5,))
