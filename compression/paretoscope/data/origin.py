"""What a source of data is: it takes a text that names data, and writes their samples into the library."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from paretoscope.base.errors import DataError
from paretoscope.base.progress import SILENT, Progress
from paretoscope.base.text import nearest, shown
from paretoscope.data.writer import Writer

# Most bytes of a file that names classes; chosen by hand; no benchmark.
MOST_NAMES_BYTES = 4 << 20


class DataOrigin(Protocol):
    """A source of data: a file of `paretoscope.data.sources` that declares one as `ORIGIN`.

    options: what may stand behind the # of a text that it takes, with a line on each. code: whether it runs code of the
    user, which the command line alone allows. place: of two that take a text, the one with the lower number gets it.
    """

    @property
    def name(self) -> str: ...

    @property
    def title(self) -> str: ...

    @property
    def summary(self) -> str: ...

    @property
    def reference(self) -> str: ...

    @property
    def options(self) -> Mapping[str, str]: ...

    @property
    def code(self) -> bool: ...

    @property
    def place(self) -> int: ...

    def takes(self, text: str) -> bool:
        """Whether a text, without its options, names data of this source; nothing is opened."""
        ...

    def convert(self, text: str, into: Writer, options: "Options") -> None:
        """Write the samples; raises DataError or OSError."""
        ...


@dataclass(frozen=True, slots=True)
class Options:
    """How data are read. given: by name, as in `DataOrigin.options`."""

    given: Mapping[str, str] = field(default_factory=dict)
    code: bool = False
    progress: Progress = SILENT

    @classmethod
    def of(cls, origin: DataOrigin, given: Mapping[str, str], *, code: bool, progress: Progress) -> "Options":
        """Raises DataError for an option that the source does not have."""
        for name in given:
            if name not in origin.options:
                known = ", ".join(origin.options)
                raise DataError(
                    f"an option must be one of the source's; {origin.title} has no {shown(name)}. "
                    + (f"Choose one of: {known}." if known else "Leave it out.")
                    + nearest(name, origin.options)
                )
        return cls(dict(given), code, progress)

    @property
    def target(self) -> str | None:
        return self.given.get("target")

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes in the order of the network's outputs, from the file that `classes` names."""
        path = self.given.get("classes")
        if path is None:
            return ()
        file = Path(path)
        try:
            if file.stat().st_size > MOST_NAMES_BYTES:
                raise DataError(f"a file of classes must have at most {MOST_NAMES_BYTES >> 20} MB; {path} has more.")
            names = tuple(line.strip() for line in file.read_text("utf-8").splitlines() if line.strip())
        except (OSError, UnicodeError) as error:
            raise DataError(f"classes must name a text file with a class a line; {path}: {error}. Check it.") from None
        if len(set(names)) != len(names) or not names:
            raise DataError(f"a file of classes must name each class once; {path} does not. Correct it.")
        return names

    def choice(self, name: str, values: tuple[str, ...]) -> str:
        """An option that is one of these values, the first being its default; raises DataError."""
        value = self.given.get(name, values[0])
        if value not in values:
            raise DataError(f"{name} must be one of {', '.join(values)}; got {shown(value)}. Choose one of them.")
        return value

    def several(self, name: str) -> tuple[str, ...]:
        """An option that is a list, with commas between."""
        return tuple(each.strip() for each in self.given.get(name, "").split(",") if each.strip())


def split_options(text: str) -> tuple[str, dict[str, str]]:
    """What a text names, and its options: "table.csv#target=price&drop=id". A # of a path that exists is no mark."""
    path, mark, rest = text.rpartition("#")
    if not mark or _exists(text):
        return text, {}
    options: dict[str, str] = {}
    for part in rest.split("&"):
        name, equals, value = part.partition("=")
        if not equals or not name.strip() or name.strip() in options:
            raise DataError(
                f"options must be NAME=VALUE behind a #, each once, with & between; got {shown(rest)}. Write e.g. "
                "table.csv#target=price&drop=id."
            )
        options[name.strip()] = value.strip()
    return path, options


def _exists(text: str) -> bool:
    try:
        return Path(text).exists()
    except (OSError, ValueError):
        return False
