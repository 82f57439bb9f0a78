"""Tables in CSV or Parquet: columns of numbers as one field, one column as the target; or one column of texts."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from paretoscope.base.errors import DataError
from paretoscope.base.text import listed, nearest, reason, shown
from paretoscope.data.origin import Options
from paretoscope.data.samples import Kind
from paretoscope.data.writer import Writer

if TYPE_CHECKING:
    import numpy as np
    from pandas import DataFrame

# Rows that are read at once; chosen by hand; no benchmark.
ROWS = 10_000
COMMAS, TABS, PARQUET = (".csv", ".csv.gz"), (".tsv", ".tsv.gz"), (".parquet", ".pq")
FIELD, TEXTS = "x", "text"


class Table:
    name = "table"
    title = "Table (.csv, .tsv, .parquet)"
    summary = (
        "Columns of numbers become one float32 field x, in their order; the target's column becomes the labels: whole "
        "numbers as they are, texts numbered in alphabetical order. Other columns of texts are refused: drop them."
    )
    reference = "RFC 4180 through pandas; Apache Parquet through pyarrow"
    code = False
    place = 1
    options: ClassVar[Mapping[str, str]] = {
        "target": "the column of the labels",
        "drop": "columns to leave out, with commas between",
        "text": "a column of texts, which is then the only field",
        "classes": "a file of class names in the network's order",
    }

    def takes(self, text: str) -> bool:
        return text.lower().endswith((*COMMAS, *TABS, *PARQUET))

    def convert(self, text: str, into: Writer, options: Options) -> None:
        import numpy as np

        targets: list[np.ndarray] = []
        with _readable(text), _tables(Path(text)) as tables:
            first = next(tables, None)
            if first is None or not len(first):
                raise DataError(f"a table must have a row of names and rows of samples; {text} has none. Look at it.")
            columns = _columns(first, text, options)
            frames = _all(first, tables, options.target, targets)
            if column := options.given.get("text"):
                into.encoded(TEXTS, Kind.TEXT, _texts(frames, column))
                rest = [each for each in columns if each != column]
                if rest:
                    into.notes.append(f"Beside the texts, these columns are left out: {listed(rest)}.")
            else:
                into.array(FIELD, np.dtype(np.float32), (len(columns),), _numbers(frames, columns), tuple(columns))
        if options.target is None:
            into.notes.append("No target was named: all columns are inputs, and there are no labels.")
            return
        texts = any(each.dtype.kind == "U" for each in targets)
        into.named_labels(np.concatenate([each.astype(str) if texts else each for each in targets]), options.classes)


ORIGIN = Table()


@contextmanager
def _readable(text: str) -> Iterator[None]:
    """Context: what pandas and pyarrow raise of damaged files, as DataError."""
    try:
        yield
    # ParserError, EmptyDataError and errors of Arrow are among them.
    except (ValueError, EOFError, KeyError, NotImplementedError, OverflowError) as error:
        raise DataError(
            f"a table must be whole, in UTF-8; {text} cannot be read ({reason(error)}). Save it again."
        ) from None


@contextmanager
def _tables(path: Path) -> "Iterator[Iterator[DataFrame]]":
    """Context: a table in parts of at most ROWS rows."""
    lower = path.name.lower()
    # An open file: of a path, pandas and pyarrow would fetch addresses too.
    with path.open("rb") as file:
        if lower.endswith(PARQUET):
            from pyarrow import parquet

            yield (batch.to_pandas() for batch in parquet.ParquetFile(file).iter_batches(ROWS))
            return
        import pandas

        packed = "gzip" if lower.endswith(".gz") else None
        separator = "\t" if lower.endswith(TABS) else ","
        yield iter(pandas.read_csv(file, sep=separator, chunksize=ROWS, compression=packed, encoding="utf-8"))


def _columns(first: "DataFrame", text: str, options: Options) -> list[str]:
    """Names of the columns that are inputs."""
    names = [str(each) for each in first.columns]
    if all(_is_number(each) for each in names):
        raise DataError(f"a table must begin with a line of names; {text} begins with numbers. Write names above.")
    dropped = options.several("drop")
    wanted = [each for each in (*dropped, options.target, options.given.get("text")) if each]
    if unknown := [each for each in wanted if each not in names]:
        raise DataError(
            f"a column must be in the table; {shown(unknown[0])} is not among {listed(names, 20)}."
            + (nearest(unknown[0], names) or " Choose one of them.")
        )
    columns = [each for each in names if each not in dropped and each != options.target]
    if not columns:
        raise DataError(f"a table must have a column beside the target; {text} has none. Drop fewer.")
    return columns


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _all(
    first: "DataFrame", rest: "Iterator[DataFrame]", target: str | None, targets: "list[np.ndarray]"
) -> "Iterator[tuple[int, DataFrame]]":
    """The number of each part's first row, and the part; fills the list of targets."""
    row = 0
    for frame in chain([first], rest):
        yield row, _targeted(frame, row, target, targets)
        row += len(frame)


def _targeted(frame: "DataFrame", row: int, target: str | None, targets: "list[np.ndarray]") -> "DataFrame":
    if target is not None:
        column = frame[target]
        if column.isna().any():
            place = row + int(column.isna().to_numpy().argmax()) + 1
            raise DataError(f"every row must have a label; {shown(target)} of row {place} has none. Fill or drop it.")
        values = column.to_numpy()
        targets.append(values if values.dtype.kind in "iubf" else values.astype(str))
    return frame


def _numbers(frames: "Iterator[tuple[int, DataFrame]]", columns: list[str]) -> "Iterator[np.ndarray]":
    """float32 (rows, columns); raises DataError for texts and for what is not finite."""
    import numpy as np

    for row, frame in frames:
        part = frame[columns]
        if texts := [name for name in columns if part[name].dtype.kind not in "iufb"]:
            raise DataError(
                f"columns must hold numbers; {listed(map(shown, texts))} {'does' if len(texts) == 1 else 'do'} not, in "
                f"rows {row + 1} to {row + len(frame)}. Name a target by #target=COLUMN, leave columns out by "
                "#drop=COLUMN,COLUMN, or take one as texts by #text=COLUMN."
            )
        with np.errstate(over="ignore"):
            values: np.ndarray = part.to_numpy(dtype=np.float64).astype(np.float32)
        bad = ~np.isfinite(values)
        if bad.any():
            line, column = np.argwhere(bad)[0]
            raise DataError(
                f"every number must be finite in float32; {shown(columns[column])} of row {row + line + 1} is "
                f"{part.iloc[line, column]}, and {int(bad.sum())} in these {len(part):,} rows are not. Fill or drop "
                "those rows."
            )
        yield values


def _texts(frames: "Iterator[tuple[int, DataFrame]]", column: str) -> Iterator[bytes]:
    for row, frame in frames:
        for place, each in enumerate(frame[column].tolist()):
            if not isinstance(each, str):
                raise DataError(
                    f"a column of texts must hold a text in each row; {shown(column)} of row {row + place + 1} is "
                    f"{shown(each)}. Fill or drop it."
                )
            yield each.encode()
