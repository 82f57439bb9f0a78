"""How one field of raw samples is brought to one input of a network: pixels, tokens, columns, or as it is."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from paretoscope.base.batch import InputLike
from paretoscope.base.errors import DataError
from paretoscope.data import tokens
from paretoscope.data.preprocess import Layout, Preprocess, fitted, is_picture, normalised, picture
from paretoscope.data.samples import Field, Kind, Samples

if TYPE_CHECKING:
    import numpy as np

# Samples of a column that are summed at once; chosen by hand; no benchmark.
_ROWS = 4096
INTEGERS = ("int64", "int32", "int16", "int8", "uint8", "bool")


class Feed(Protocol):
    """One field for one input. slow: whether `compact` is worth to be kept. said: what the digest must know of it."""

    @property
    def slow(self) -> bool: ...

    @property
    def said(self) -> Any: ...

    def compact(self, samples: Samples, indices: "np.ndarray") -> "np.ndarray":
        """The samples, decoded and brought to their size, in as few bytes as that takes."""
        ...

    def finish(self, compact: "np.ndarray") -> "np.ndarray":
        """What the network takes: (n, *shape) of the input's type."""
        ...


@dataclass(frozen=True, slots=True)
class Pictures:
    """Images, or arrays of 8-bit pixels: decoded, resized, then normalised."""

    input: InputLike
    field: Field
    preprocess: Preprocess
    slow: bool = True
    said: str = "pixels"

    def compact(self, samples: Samples, indices: "np.ndarray") -> "np.ndarray":
        import numpy as np
        from PIL import Image

        channels, height, width, _ = picture(self.input, self.preprocess)
        made = np.empty((len(indices), height, width, channels), np.uint8)
        raw = samples.field(self.field, indices)
        for place, each in enumerate(raw):
            image = Image.fromarray(_pixels(each, self.field)) if isinstance(each, np.ndarray) else each
            made[place] = fitted(image, channels, height, width, self.preprocess)
        return made

    def finish(self, compact: "np.ndarray") -> "np.ndarray":
        layout: Layout = picture(self.input, self.preprocess)[3]
        values = normalised(compact, self.preprocess, layout, self.input.shape)
        return values.astype(self.input.dtype, copy=False)


@dataclass(frozen=True, slots=True)
class Values:
    """Arrays of the input's own shape: their type alone is changed, and columns standardised where that is asked for.

    mean, std: of each column, () for neither.
    """

    input: InputLike
    field: Field
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    slow: bool = False

    @property
    def said(self) -> Any:
        return [list(self.mean), list(self.std)]

    def compact(self, samples: Samples, indices: "np.ndarray") -> "np.ndarray":
        import numpy as np

        found = samples.field(self.field, indices)
        assert isinstance(found, np.ndarray)  # fields of arrays alone are read by it
        return found

    def finish(self, compact: "np.ndarray") -> "np.ndarray":
        import numpy as np

        values = compact
        if self.mean:
            values = (values.astype(np.float64) - np.array(self.mean)) / np.array(self.std)
        with np.errstate(over="ignore"):
            made = np.ascontiguousarray(values.reshape(len(values), *self.input.shape), self.input.dtype)
        if made.dtype.kind == "f" and not bool(np.isfinite(made).all()):
            raise DataError(
                f"every number must be finite in {self.input.dtype}; {self.field.name} has some that are not. Fill or "
                "drop those samples."
            )
        if made.dtype.kind in "iu" and not np.array_equal(made.reshape(values.shape), values):
            raise DataError(
                f"every number must fit into {self.input.dtype}; {self.field.name} has {values.min()} to "
                f"{values.max()}. Change those samples."
            )
        return made


@dataclass(frozen=True, slots=True)
class Tokens:
    """Texts as numbers of tokens."""

    input: InputLike
    field: Field
    preprocess: Preprocess
    slow: bool = True
    said: str = "tokens"

    def compact(self, samples: Samples, indices: "np.ndarray") -> "np.ndarray":
        texts = [str(each) for each in samples.field(self.field, indices)]
        return tokens.numbered(texts, self.input.shape[0], self.preprocess.padding, self.preprocess.tokenizer)

    def finish(self, compact: "np.ndarray") -> "np.ndarray":
        return compact.astype(self.input.dtype)


def feed_of(input: InputLike, field: Field, preprocess: Preprocess, train: Samples, indices: "np.ndarray") -> Feed:
    """How a field is brought to an input. train, indices: of what is computed. Raises DataError where it does not fit.

    Images and arrays of 8-bit pixels for a float input of images are preprocessed as images. Any other array must have
    the input's shape: floats go to floats of any width and whole numbers to floats by their value, without scaling.
    """
    if field.kind is Kind.TEXT:
        if len(input.shape) != 1 or not input.dtype.startswith("int"):
            raise _unfit(input, field, "texts need an input of whole numbers of one axis, tokens")
        if preprocess.tokenizer:
            tokens.tokenizer(preprocess.tokenizer)
        return Tokens(input, field, preprocess)
    if field.kind is Kind.IMAGE or (
        field.dtype == "uint8" and input.dtype.startswith("float") and is_picture(input) and _is_pixels(field)
    ):
        picture(input, preprocess)
        if not input.dtype.startswith("float"):
            raise _unfit(input, field, "images need an input of floats")
        return Pictures(input, field, preprocess)
    if _size(field.shape) != _size(input.shape) or (len(field.shape) > 1 and field.shape != input.shape):
        raise _unfit(input, field, "an array must have the input's shape")
    if field.dtype.startswith("float") and not input.dtype.startswith("float"):
        raise _unfit(input, field, "an input of whole numbers needs whole numbers")
    if is_picture(input) and preprocess != _without_columns(preprocess):
        raise DataError(
            f"preprocessing of images needs pixels from 0 to 255; {field.told()} is fed as it is. Leave preprocessing "
            "away, or store the pixels as uint8."
        )
    return Values(input, field, *_columns(field, preprocess, train, indices))


def _without_columns(preprocess: Preprocess) -> Preprocess:
    """Preprocessing that does nothing to images."""
    return Preprocess(
        standardise=preprocess.standardise, column_mean=preprocess.column_mean, column_std=preprocess.column_std
    )


def _columns(
    field: Field, preprocess: Preprocess, train: Samples, indices: "np.ndarray"
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each column, given or of the train part; neither where it was not asked for.

    A column that is constant keeps standard deviation 1. Two passes: the second sums squares about the mean.
    """
    import numpy as np

    if preprocess.column_mean:
        if field.shape != (len(preprocess.column_mean),):
            raise DataError(
                f"column_mean and column_std must have a number for each column; {field.name} has shape {field.shape}, "
                f"they have {len(preprocess.column_mean)}. Correct them."
            )
        return preprocess.column_mean, preprocess.column_std
    if not preprocess.standardise:
        return (), ()
    if len(field.shape) != 1:
        raise DataError(
            f"standardise is for tables, samples of one axis; {field.name} has {field.shape}. Leave it out."
        )
    ordered = np.sort(indices)
    chunks = [ordered[start : start + _ROWS] for start in range(0, len(ordered), _ROWS)]

    def rows(chunk: "np.ndarray") -> "np.ndarray":
        return np.asarray(train.field(field, chunk)).astype(np.float64)

    mean = sum(rows(chunk).sum(axis=0) for chunk in chunks) / len(ordered)
    variance = sum(((rows(chunk) - mean) ** 2).sum(axis=0) for chunk in chunks) / len(ordered)
    std = np.sqrt(variance)
    # Rounding alone moves a constant column about its mean.
    std[std <= 1e-12 * np.abs(mean)] = 1.0
    std[std == 0] = 1.0
    return tuple(map(float, mean)), tuple(map(float, std))


def _is_pixels(field: Field) -> bool:
    shape = field.shape
    return len(shape) == 2 or (len(shape) == 3 and (shape[0] in (1, 3) or shape[2] in (1, 3)))


def _pixels(values: "np.ndarray", field: Field) -> "np.ndarray":
    """An array of pixels as Pillow takes it: (height, width) or (height, width, 3)."""
    if values.ndim == 2:
        return values
    # Channels first, as PyTorch has them, where both ends could be channels.
    last = values if field.shape[0] not in (1, 3) else values.transpose(1, 2, 0)
    import numpy as np

    return np.ascontiguousarray(last[..., 0] if last.shape[2] == 1 else last)


def _size(shape: tuple[int, ...]) -> int:
    whole = 1
    for each in shape:
        whole *= each
    return whole


def _unfit(input: InputLike, field: Field, rule: str) -> DataError:
    return DataError(
        f"{rule}; the network's {input.name} is {input.dtype} {input.shape}, the data have {field.told()}. Give other "
        "data, or convert these."
    )
