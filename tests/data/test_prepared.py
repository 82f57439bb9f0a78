from pathlib import Path

import numpy as np
import pytest
import torch
from data_sources import Input, encoded, picture, pixels, spread, values
from memory import tracing
from paretoscope.base.batch import length, parts
from paretoscope.base.errors import DataError
from paretoscope.data import library, prepared
from paretoscope.data.data import Part
from paretoscope.data.prepared import PreparedData, prepare
from paretoscope.data.preprocess import Preprocess, presets
from paretoscope.data.samples import Samples
from paretoscope.data.split import Parts

N = 60
PHOTOS = Path(__file__).parents[3] / "shared" / "data" / "photos"


@pytest.fixture(autouse=True)
def own_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARETOSCOPE_LIBRARY", str(tmp_path / "library"))


@pytest.fixture
def read(tmp_path: Path):
    def made(name: str = "mine", **arrays: np.ndarray) -> Samples:
        np.savez(tmp_path / f"{name}.npz", **arrays)
        return library.add(name, str(tmp_path / f"{name}.npz")).samples

    return made


def whole(data: PreparedData, part: Part, size: int = 7) -> tuple[torch.Tensor, ...]:
    return tuple(torch.cat(each) for each in zip(*map(parts, data.samples(part, size)), strict=True))


def labels(data: PreparedData, part: Part) -> list[int]:
    return torch.cat(list(data.labels(part, 7))).tolist()


def test_parts_share_nothing_and_miss_nothing(read) -> None:
    x = np.arange(N, dtype=np.float32).reshape(N, 1)
    data = prepare(read(x=x, y=np.arange(N) % 3), [Input("x", (1,))])
    train, test = (whole(data, part)[0].ravel().tolist() for part in (Part.TRAIN, Part.TEST))
    assert sorted(train + test) == x.ravel().tolist() and len(train) == len(test) == N // 2
    assert data.length(Part.TRAIN) == len(train) and not set(train) & set(test)
    calibration = data.calibration.ravel().tolist()
    assert set(calibration) <= set(train) and len(calibration) == N // 2
    # Each sample has its own label, in either part.
    for part, found in ((Part.TRAIN, train), (Part.TEST, test)):
        assert labels(data, part) == [int(each) % 3 for each in found]
        assert np.bincount(labels(data, part)).tolist() == [N // 6] * 3


def test_parts_are_drawn_by_the_content(read) -> None:
    x = np.arange(N, dtype=np.float32).reshape(N, 1)
    first, again = (prepare(read(name, x=x), [Input("x", (1,))]) for name in ("a", "b"))
    assert first.digest == again.digest
    assert torch.equal(whole(first, Part.TEST)[0], whole(again, Part.TEST)[0])
    other = prepare(read("c", x=x + 100), [Input("x", (1,))])
    assert not torch.equal(whole(first, Part.TEST)[0] + 100, whole(other, Part.TEST)[0])


@pytest.mark.parametrize("share", [0.01, 0.2, 0.9, 0.999])
def test_no_part_is_empty(read, share: float) -> None:
    data = prepare(read(x=np.ones((10, 2)), y=np.arange(10) % 2), [Input("x", (2,))], parts=Parts(share=share))
    assert data.length(Part.TRAIN) >= 1 and data.length(Part.TEST) >= 1
    assert data.length(Part.TRAIN) + data.length(Part.TEST) == 10 and length(data.calibration) >= 1


def test_a_second_set_is_trained_on_as_a_whole(read) -> None:
    test = read("test", x=np.arange(10.0).reshape(10, 1), y=np.arange(10) % 2)
    train = read("train", x=np.arange(100.0, 130).reshape(30, 1), y=np.arange(30) % 2)
    data = prepare(test, [Input("x", (1,))], parts=Parts(train=train, calibration=8))
    assert sorted(whole(data, Part.TEST)[0].ravel().tolist()) == list(range(10))
    assert sorted(whole(data, Part.TRAIN)[0].ravel().tolist()) == list(range(100, 130))
    assert length(data.calibration) == 8 and float(data.calibration.min()) >= 100
    with pytest.raises(DataError, match="same content"):
        prepare(test, [Input("x", (1,))], parts=Parts(train=test))
    with pytest.raises(DataError, match="both sets must be labelled"):
        prepare(test, [Input("x", (1,))], parts=Parts(train=read("bare", x=np.ones((3, 1)))))


def test_a_split_of_the_source_is_kept() -> None:
    data = prepare(library.ensure("digits").samples, [Input("images", (1, 8, 8))], outputs=[(10,)])
    assert (data.length(Part.TRAIN), data.length(Part.TEST), length(data.calibration)) == (1000, 797, 128)
    assert data.labelled and not data.drawn and data.classes == tuple("0123456789")
    assert data.split.train.max() < 1000 <= data.split.test.min()


def test_the_first_samples_are_a_draw_of_all() -> None:
    """A set sorted by its classes: the first figure must not be of one class."""
    data = prepare(library.ensure("digits").samples, [Input("images", (1, 8, 8))])
    first = next(iter(data.labels(Part.TEST, 100)))
    assert len(first.unique()) == 10


@pytest.mark.parametrize("size", [1, 7, 32, 100, 1000])
def test_chunks_are_what_the_whole_is(tmp_path: Path, size: int) -> None:
    spread(tmp_path / "set", {f"{place}.png": encoded(picture(place)) for place in range(75)})
    samples = library.add("mine", str(tmp_path / "set")).samples
    data, other = (prepare(samples, [Input("x", (3, 12, 12))], presets.get("imagenet").preprocess) for _ in range(2))
    chunks = list(data.samples(Part.TEST, size))
    assert [len(each) for each in chunks[:-1]] == [size] * (len(chunks) - 1) and len(chunks[-1]) <= size
    assert torch.equal(torch.cat(chunks), whole(other, Part.TEST, 13)[0])
    # Again, from what was kept.
    assert torch.equal(torch.cat(list(data.samples(Part.TEST, size))), torch.cat(chunks))


def test_images_are_what_preprocessing_makes_of_each(tmp_path: Path) -> None:
    spread(tmp_path / "set", {f"{place}.png": encoded(picture(place, 10, 10)) for place in range(8)})
    samples = library.add("mine", str(tmp_path / "set")).samples
    settings = Preprocess(mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))
    data = prepare(samples, [Input("x", (3, 10, 10))], settings)
    for index, found in zip(data.split.test, whole(data, Part.TEST)[0], strict=True):
        pixels = np.asarray(picture(int(index), 10, 10)) / 255
        wanted = (pixels - [0.1, 0.2, 0.3]) / [0.5, 0.6, 0.7]
        np.testing.assert_allclose(found.permute(1, 2, 0).numpy(), wanted, atol=1e-6)
    raw, indices = data.raw(Part.TEST, [1, 2])
    assert indices.tolist() == data.split.test[1:3].tolist() and len(raw["images"]) == 2


@pytest.mark.parametrize(
    ("array", "shape"),
    [((6, 5), (1, 6, 5)), ((6, 5), (6, 5)), ((6, 5, 1), (6, 5, 1)), ((1, 6, 5), (1, 6, 5)), ((6, 5, 3), (3, 6, 5))],
)
def test_arrays_of_pixels_are_images(read, array: tuple[int, ...], shape: tuple[int, ...]) -> None:
    found = np.random.default_rng(0).integers(0, 256, (10, *array), np.uint8)
    data = prepare(read(x=found), [Input("x", shape)], Preprocess(scale=1.0))
    wanted = found[data.split.test].reshape(-1, 6, 5, array[2] if array[-1] == 3 else 1)
    got = whole(data, Part.TEST)[0].numpy()
    got = got.transpose(0, 2, 3, 1) if shape[0] in (1, 3) else got.reshape(len(got), 6, 5, 1)
    np.testing.assert_array_equal(got, wanted)


def test_several_inputs_get_their_fields_by_name(read) -> None:
    left, right = values(20, 8), pixels(20)
    samples = read(left=left, right=right, spare=left, y=np.arange(20) % 2)
    data = prepare(samples, [Input("right", (1, 6, 5)), Input("left", (8,))], Preprocess(scale=1.0))
    found = whole(data, Part.TEST)
    np.testing.assert_array_equal(found[0][:, 0].numpy(), right[data.split.test])
    np.testing.assert_array_equal(found[1].numpy(), left[data.split.test])
    assert "spare" in data.notes[0] and isinstance(data.calibration, tuple)
    with pytest.raises(DataError, match=r"middle is missing\. There is left: float32 \(8,\); right"):
        prepare(samples, [Input("middle", (8,)), Input("left", (8,))])


@pytest.mark.parametrize(
    ("array", "dtype", "wanted"),
    [
        (np.float64, "float32", torch.float32),
        (np.float16, "float32", torch.float32),
        (np.int64, "float32", torch.float32),
        (np.int32, "int64", torch.int64),
        (np.uint8, "int64", torch.int64),
        (np.float32, "float64", torch.float64),
    ],
)
def test_types_are_brought_to_the_inputs(read, array: type, dtype: str, wanted: torch.dtype) -> None:
    """Whole numbers keep their value for an input of floats: they are not scaled."""
    x = np.arange(40).reshape(10, 4).astype(array)
    data = prepare(read(x=x), [Input("x", (4,), dtype)])
    (found,) = whole(data, Part.TEST)
    assert found.dtype == wanted
    np.testing.assert_array_equal(found.numpy(), x[data.split.test])


@pytest.mark.parametrize(
    ("x", "input", "message"),
    [
        (np.ones((9, 4)), Input("x", (5,)), r"float32 \(5,\), the data have x: float64 \(4,\)"),
        (np.ones((9, 4, 2)), Input("x", (2, 4)), "the input's shape"),
        (np.ones((9, 4)), Input("x", (4,), "int64"), "whole numbers"),
        (np.full((9, 4), np.nan), Input("x", (4,)), "finite"),
        (np.full((9, 4), 1e300), Input("x", (4,)), "finite"),
        (np.full((9, 4), 300), Input("x", (4,), "uint8"), "fit into uint8"),
    ],
)
def test_what_does_not_fit_is_refused(read, x: np.ndarray, input: Input, message: str) -> None:
    with pytest.raises(DataError, match=message):
        list(prepare(read(x=x), [input]).samples(Part.TEST))


def test_settings_of_images_are_not_ignored_for_floats(read) -> None:
    samples = read(x=values(9, 3, 8, 8))
    with pytest.raises(DataError, match="pixels from 0 to 255"):
        prepare(samples, [Input("x", (3, 8, 8))], presets.get("imagenet").preprocess)
    prepare(samples, [Input("x", (3, 8, 8))])


@pytest.mark.parametrize(
    ("y", "outputs", "labelled"),
    [
        ((), [(4,)], True),
        ((), [(1,)], False),
        ((), [(4,), (4,)], False),
        ((6,), [(6, 4)], True),
        ((5, 6), [(4, 5, 6)], True),
        ((5, 6), [(4,)], False),
        ((), [], True),
    ],
)
def test_labels_need_outputs_that_are_classes(read, y: tuple[int, ...], outputs, labelled: bool) -> None:
    samples = read(x=np.ones((12, 2)), y=np.arange(12 * int(np.prod(y))).reshape(12, *y) % 4)
    data = prepare(samples, [Input("x", (2,))], outputs=outputs)
    assert data.labelled is labelled and bool(list(data.labels(Part.TEST))) is labelled
    assert labelled or "not used" in data.notes[-1]


def test_labels_beyond_the_outputs_are_refused(read) -> None:
    samples = read(x=np.ones((12, 2)), y=np.arange(12) % 5)
    with pytest.raises(DataError, match="number of outputs, 4; the largest is 4"):
        prepare(samples, [Input("x", (2,))], outputs=[(4,)])


def test_columns_are_standardised_by_the_train_part(read) -> None:
    x = np.random.default_rng(0).normal(3, 5, (N, 3)) * [1, 100, 0] + [0, 0, 7]
    samples = read(x=x)
    data = prepare(samples, [Input("x", (3,))], Preprocess(standardise=True))
    (train,) = whole(data, Part.TRAIN)
    np.testing.assert_allclose(train[:, :2].mean(0).numpy(), 0, atol=1e-6)
    np.testing.assert_allclose(train[:, :2].std(0, correction=0).numpy(), 1, atol=1e-6)
    assert not train[:, 2].any()
    (test,) = whole(data, Part.TEST)
    fit = x[data.split.train]
    np.testing.assert_allclose(
        test[:, :2].numpy(), ((x[data.split.test] - fit.mean(0)) / fit.std(0).clip(1e-9))[:, :2], rtol=1e-5
    )
    given = Preprocess(column_mean=(1.0, 2.0, 3.0), column_std=(2.0, 2.0, 2.0))
    (found,) = whole(prepare(samples, [Input("x", (3,))], given), Part.TEST)
    np.testing.assert_allclose(found.numpy(), (x[data.split.test] - [1, 2, 3]) / 2, rtol=1e-5)
    with pytest.raises(DataError, match="a number for each column"):
        prepare(samples, [Input("x", (3,))], Preprocess(column_mean=(1.0,), column_std=(1.0,)))


def test_the_digest_tells_what_the_network_is_fed_with(tmp_path: Path, read) -> None:
    spread(tmp_path / "set", {f"{place}.png": encoded(picture(place)) for place in range(8)})
    samples = library.add("mine", str(tmp_path / "set")).samples
    input, train = Input("x", (3, 12, 12)), read("train", images=np.zeros((3, 12, 12, 3), np.uint8))
    datas = [
        prepare(samples, [input]),
        prepare(samples, [input], Preprocess(mean=(0.5,))),
        prepare(samples, [Input("x", (3, 10, 12))]),
        prepare(samples, [Input("x", (12, 12, 3))]),
        prepare(samples, [input], parts=Parts(share=0.25)),
        prepare(samples, [input], parts=Parts(train=train)),
    ]
    assert len({each.digest for each in datas}) == len(datas)
    assert prepare(samples, [input], Preprocess()).digest == datas[0].digest
    assert all(len(each.digest) == 64 for each in datas)


@pytest.mark.slow
def test_a_large_set_is_read_within_its_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound of PreparedData, with numbers for a test: a chunk, twice for joining, and what is kept."""
    monkeypatch.setattr(prepared, "KEPT_BYTES", 4 << 20)
    blob = encoded(picture(0, 64, 64), "JPEG")
    spread(tmp_path / "set", {f"{place}.jpg": blob + bytes([place % 256, place // 256]) for place in range(1200)})
    samples = library.add("mine", str(tmp_path / "set")).samples
    data = prepare(samples, [Input("x", (3, 128, 128))], presets.get("imagenet").preprocess)
    chunk = 32 * 3 * 128 * 128 * 4
    with tracing() as peak:
        n = sum(length(each) for each in data.samples(Part.TEST, 32))
        assert n == 600 and n * 3 * 128 * 128 * 4 > 100 << 20
        assert peak() < (4 << 20) + 4 * chunk
    assert 0 < data._kept_bytes <= 4 << 20


@pytest.mark.slow
@pytest.mark.skipif(not PHOTOS.is_dir(), reason="the photos are not on this machine")
def test_photos_by_their_folders() -> None:
    samples = library.add("photos", str(PHOTOS)).samples
    assert len(samples) == 500 and len(samples.classes) == 999 and samples.classes[2] == "0002_great_white_shark"
    data = prepare(samples, [Input("x", (3, 64, 64))], presets.get("imagenet").preprocess, outputs=[(1000,)])
    chunk = next(iter(data.samples(Part.TEST, 40)))
    assert chunk.shape == (40, 3, 64, 64) and 0.5 < float(chunk.std()) < 2 and abs(float(chunk.mean())) < 0.5
