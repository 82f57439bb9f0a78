"""Tables of the pages in docs/: printed by the benchmarks, kept as JSON, written into their sections.

    python -m benchmarks.measured           render all sections anew from docs/measured/*.json

A benchmark prints its tables; with --write it also keeps them in docs/measured/SECTION.json, with the command, the
date, the machine and the version, and replaces what stands between `<!-- benchmarks.SECTION -->` and `<!-- end -->` in
docs/measured.md or docs/networks.md. A section is named after its benchmark, `coding`, or after a part of it,
`coding-speed`. Text outside the sections is written by hand and should hold no measured figure.
"""

import argparse
import datetime
import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from paretoscope import __version__

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "docs" / "measured.md", ROOT / "docs" / "networks.md")
KEPT = ROOT / "docs" / "measured"
SECTION = re.compile(r"<!-- benchmarks\.(?P<name>[a-z_-]+) -->\n(?P<body>.*?)<!-- end -->", re.DOTALL)
# Modules here that fill no section of docs/measured.md, and why.
WITHOUT_SECTION = {
    "browser": "benchmarks.live drives it",
    "measured": "it renders the sections of the others",
    "fuzz_doors": "it finds faults of the doors, not figures",
    "fuzz_data": "benchmarks.fuzz_doors runs it",
    "studies": "what it measures ships in assets/studies, and is shown by the dashboard",
    "nncodec_worker": "benchmarks.coding runs it, in an environment of its own",
}
INTERVAL = "{:.2f} [{:.2f}, {:.2f}]"
PERCENT = "{:.2f} %"
# A number, text, nothing, or several numbers that one form writes together.
Cell = float | str | None | Sequence[float]


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table. form: how `str.format` writes its numbers; text is written as it is."""

    title: str
    form: str = "{}"

    def text(self, cell: Cell) -> str:
        """A cell as it is printed; nothing for None."""
        if cell is None:
            return ""
        if isinstance(cell, str):
            return cell
        return self.form.format(*cell) if isinstance(cell, Sequence) else self.form.format(cell)


@dataclass(slots=True)
class Table:
    """Rows under columns. title: what is said above it, "" for nothing."""

    columns: Sequence[Column]
    title: str = ""
    rows: list[Sequence[Cell]] = field(default_factory=list)

    def add(self, *cells: Cell) -> None:
        """Keep a row, and print it at once, the first under the head of the table."""
        first = not self.rows
        self.rows.append(cells)
        lines = self.lines()
        print("\n".join(lines if first else lines[-1:]), flush=True)

    def lines(self) -> list[str]:
        """The table in Markdown."""
        head = [_line(column.title for column in self.columns), _line("---" for _ in self.columns)]
        rows = [_line(column.text(cell) for column, cell in zip(self.columns, row, strict=True)) for row in self.rows]
        return [*([self.title, ""] if self.title else []), *head, *rows]


def columns(*titles: str | tuple[str, str]) -> list[Column]:
    """Columns of titles, or of titles with forms."""
    return [Column(each) if isinstance(each, str) else Column(*each) for each in titles]


def parser(description: str | None) -> argparse.ArgumentParser:
    """The options that all benchmarks have."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--write", action="store_true", help="replace this benchmark's sections of the pages in docs/")
    # Both as they are before the benchmark's own work, during which the code may change.
    made.set_defaults(commit=_commit(), load=round(os.getloadavg()[0], 1))
    return made


def keep(section: str, tables: Sequence[Table], options: argparse.Namespace, note: str = "") -> None:
    """With --write: keep the tables as JSON and render the page anew. note: a sentence that stands under them."""
    if not options.write:
        return
    page = next((each for each in PAGES if f"<!-- benchmarks.{section} -->" in each.read_text()), None)
    if page is None:
        raise SystemExit(
            f"none of {', '.join(each.name for each in PAGES)} has a section for it. Add the lines "
            f"<!-- benchmarks.{section} --> and <!-- end --> to one."
        )
    KEPT.mkdir(exist_ok=True)
    document = {**_provenance(options), "note": note, "tables": [_as_json(table) for table in tables]}
    (KEPT / f"{section}.json").write_text(to_json(document))
    page.write_text(rendered(page.read_text(), KEPT))
    print(f"Written: the section {section} of {page.relative_to(ROOT)}")


def rendered(page: str, kept: Path) -> str:
    """The page with all its sections as the JSON files have them; raises SystemExit where one is missing."""
    files = {path.stem: path for path in kept.glob("*.json")}
    if odd := sorted(set(sections(page)) - files.keys()):
        raise SystemExit(f"each section of a page must have its file in docs/measured/; {odd} have none.")
    return SECTION.sub(lambda found: _section(found["name"], json.loads(files[found["name"]].read_text())), page)


def sections(page: str) -> list[str]:
    """The names of a page's sections."""
    return [found["name"] for found in SECTION.finditer(page)]


def to_json(document: dict[str, Any]) -> str:
    """JSON with a line a row, so that what a run has changed can be read."""
    text = json.dumps(document, ensure_ascii=False, indent=1)
    # Rows and columns of tables stand four deep; what is within them goes on their line.
    text = re.sub(r"(?<=[\[{])\n {5,}|\n {4,}(?=[\]}])", "", text)
    return re.sub(r"\n {5,}", " ", text) + "\n"


def _section(name: str, document: dict[str, Any]) -> str:
    machine = document["machine"]
    said = [
        f"`{document['command']}`",
        document["date"],
        *([f"version {document['version']}"] if document["version"] else []),
        f"commit {document['commit']}",
        f"{machine['processor']}, {machine['cores']} cores",
        *([f"load {machine['load']:.1f} at the start"] if machine.get("load") is not None else []),
    ]
    note = f" {document['note']}" if document.get("note") else ""
    tables = ["\n".join(_from_json(each).lines()) for each in document["tables"]]
    body = "\n\n".join([*tables, f"{', '.join(said)}.{note}"])
    return f"<!-- benchmarks.{name} -->\n{body}\n<!-- end -->"


def _line(cells: Any) -> str:
    return f"| {' | '.join(cells)} |".replace("  ", " ")


def _as_json(table: Table) -> dict[str, Any]:
    named = [{"title": column.title, "form": column.form} for column in table.columns]
    return {"title": table.title, "columns": named, "rows": [list(row) for row in table.rows]}


def _from_json(kept: dict[str, Any]) -> Table:
    return Table([Column(each["title"], each["form"]) for each in kept["columns"]], kept["title"], kept["rows"])


def _provenance(options: argparse.Namespace) -> dict[str, Any]:
    """How the figures came about: the command, the day, the version and the machine, by its processor alone."""
    from paretoscope.measure.machine import processor_name

    module = Path(sys.argv[0]).stem
    arguments = [each for each in sys.argv[1:] if each != "--write"]
    return {
        "command": " ".join(["python", "-m", f"benchmarks.{module}", *arguments]),
        "date": datetime.date.today().isoformat(),
        "version": __version__,
        "commit": options.commit,
        "machine": {"processor": processor_name(), "cores": os.cpu_count(), "load": options.load},
    }


def _commit() -> str:
    """The commit that is checked out, and whether anything that is measured differs from it."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--", "compression", "benchmarks", "assets", "pages")
        return git("rev-parse", "--short=7", "HEAD") + (" with changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    for page in PAGES:
        page.write_text(rendered(page.read_text(), KEPT))


if __name__ == "__main__":
    main()
