"""Text files: a sample a line, with a label before or behind a tab where an option says so."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar

from paretoscope.base.errors import DataError
from paretoscope.data.origin import Options
from paretoscope.data.samples import Kind
from paretoscope.data.writer import Writer

# Most bytes of a line; chosen by hand; no benchmark.
LONGEST = 1 << 20
FIELD = "text"


class Text:
    name = "text"
    title = "Text file (.txt)"
    summary = "A sample a line, in UTF-8; empty lines are left out. Its tokens are bytes, or a tokenizer.json's."
    reference = "The Unicode Standard, UTF-8"
    code = False
    place = 1
    options: ClassVar[Mapping[str, str]] = {
        "label": "none (default), or first or last: which side of a line's tab is its label",
        "classes": "a file of class names in the network's order",
    }

    def takes(self, text: str) -> bool:
        return text.lower().endswith(".txt")

    def convert(self, text: str, into: Writer, options: Options) -> None:
        import numpy as np

        side = options.choice("label", ("none", "first", "last"))
        labels: list[str] = []
        into.encoded(FIELD, Kind.TEXT, _lines(Path(text), side, labels))
        if side == "none":
            return
        into.named_labels(np.array(labels), options.classes)


ORIGIN = Text()


def _lines(path: Path, side: str, labels: list[str]) -> Iterator[bytes]:
    """The texts; fills the list of labels."""
    with path.open("rb") as file:
        number = 0
        while line := file.readline(LONGEST + 1):
            number += 1
            line = line.rstrip(b"\r\n")
            if len(line) > LONGEST:
                raise DataError(
                    f"a line must have at most {LONGEST >> 20} MB; line {number} of {path} has more. Divide it."
                )
            if not line.strip():
                continue
            try:
                content = line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError:
                raise DataError(f"a text file must be in UTF-8; line {number} of {path} is not. Convert it.") from None
            if side != "none":
                before, tab, behind = content.partition("\t") if side == "first" else content.rpartition("\t")
                if not tab:
                    raise DataError(
                        f"every line must have a tab beside its label; line {number} of {path} has none. Add it, or "
                        "leave #label= out."
                    )
                label, content = (before, behind) if side == "first" else (behind, before)
                labels.append(label.strip())
            yield content.encode()
