"""Tables of the pages in docs/ are what the benchmarks kept, and every benchmark that is named is there."""

import argparse
import importlib
import json
import pkgutil
import re
import sys
from pathlib import Path

import pytest

import benchmarks
from benchmarks import measured

ROOT = Path(__file__).parents[2]
BENCHMARKS = {module.name for module in pkgutil.iter_modules(benchmarks.__path__)}
SECTIONS = {path.stem for path in measured.KEPT.glob("*.json")}
NAMED = re.compile(r"\bbenchmarks[./](\w+)")
# They stand for any.
NOT_NAMES = {"NAME", "SECTION"}


@pytest.mark.parametrize("path", measured.PAGES, ids=lambda path: path.stem)
def test_the_page_is_what_its_rows_give(path):
    page = path.read_text()
    assert measured.rendered(page, measured.KEPT) == page, (
        "run python -m benchmarks.measured; tables are not written by hand"
    )


def test_all_rows_that_are_kept_stand_on_one_page():
    found = [name for path in measured.PAGES for name in measured.sections(path.read_text())]
    assert sorted(found) == sorted(SECTIONS)


def test_a_changed_figure_is_noticed():
    page = measured.PAGES[0].read_text()
    cell = next(re.finditer(r"^\|.*\d", page, re.MULTILINE))[0]
    assert measured.rendered(page.replace(cell, cell + "1", 1), measured.KEPT) == page


def test_every_benchmark_has_a_section_or_a_reason():
    owners = {section.partition("-")[0] for section in SECTIONS}
    assert owners | measured.WITHOUT_SECTION.keys() == BENCHMARKS
    assert not owners & measured.WITHOUT_SECTION.keys()


@pytest.mark.parametrize("section", sorted(SECTIONS))
def test_a_section_tells_where_its_figures_come_from(section):
    document = json.loads((measured.KEPT / f"{section}.json").read_text())
    assert document["command"].startswith("python -m benchmarks.")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", document["date"])
    assert re.match(r"[0-9a-f]{7}", document["commit"])
    assert document["machine"]["processor"] and document["machine"]["cores"] >= 1
    for table in document["tables"]:
        assert table["rows"]
        assert {len(row) for row in table["rows"]} == {len(table["columns"])}


def test_every_benchmark_that_is_named_is_there():
    texts = [ROOT / "Makefile", ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")]
    for folder in ("compression", "benchmarks", "pages", "tests"):
        texts += [*(ROOT / folder).rglob("*.py"), *(ROOT / folder).rglob("*.md")]
    texts = [path for path in texts if path.exists() and path != Path(__file__)]
    named = {(name, str(path.relative_to(ROOT))) for path in texts for name in NAMED.findall(path.read_text())}
    assert {name for name, _ in named} & BENCHMARKS
    assert sorted(each for each in named if each[0].partition("-")[0] not in BENCHMARKS | NOT_NAMES) == []


@pytest.mark.parametrize("name", sorted({section.partition("-")[0] for section in SECTIONS}))
def test_a_benchmark_offers_to_write(name, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit) as ended:
        importlib.import_module(f"benchmarks.{name}").main()
    assert ended.value.code == 0
    assert "--write" in capsys.readouterr().out


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A page with one section, of which nothing is kept yet."""
    page = tmp_path / "measured.md"
    page.write_text("# Head\n\n<!-- benchmarks.one -->\nold\n<!-- end -->\n\nTail.\n")
    monkeypatch.setattr(measured, "ROOT", tmp_path)
    monkeypatch.setattr(measured, "PAGES", (page,))
    monkeypatch.setattr(measured, "KEPT", tmp_path / "measured")
    monkeypatch.setattr(sys, "argv", ["/somewhere/one.py", "--write", "--models", "a"])
    return page


def options(write=True):
    return argparse.Namespace(write=write, commit="1234567", load=0.5)


def table():
    columns = measured.columns("model", ("accuracy", measured.PERCENT), ("speed-up", measured.INTERVAL))
    made = measured.Table(columns, "A title")
    made.add("a", 99.5, (1.0, 0.9, 1.1))
    made.add("b", None, "none")
    return made


def test_write_replaces_the_section_alone(place, capsys):
    made = table()
    printed = capsys.readouterr().out
    measured.keep("one", [made], options())
    page = place.read_text()
    assert printed in page
    assert "| a | 99.50 % | 1.00 [0.90, 1.10] |\n| b | | none |" in page
    assert page.startswith("# Head\n\n<!-- benchmarks.one -->\nA title\n\n| model |")
    assert page.endswith("<!-- end -->\n\nTail.\n")
    assert "`python -m benchmarks.one --models a`, " in page
    assert "old" not in page and "/somewhere" not in page
    assert measured.rendered(page, measured.KEPT) == page


def test_without_write_nothing_is_kept(place):
    before = place.read_text()
    measured.keep("one", [table()], options(write=False))
    assert place.read_text() == before
    assert not measured.KEPT.exists()


def test_a_section_that_the_page_lacks_is_told(place):
    with pytest.raises(SystemExit, match=r"has a section .*<!-- benchmarks.other -->"):
        measured.keep("other", [table()], options())


def test_a_section_without_rows_is_told(place):
    with pytest.raises(SystemExit, match="one"):
        measured.rendered(place.read_text(), measured.KEPT)


def test_a_row_is_a_line_of_the_file(place):
    measured.keep("one", [table()], options())
    text = (measured.KEPT / "one.json").read_text()
    assert '["a", 99.5, [1.0, 0.9, 1.1]]' in text
    assert json.loads(text)["tables"][0]["rows"] == [["a", 99.5, [1.0, 0.9, 1.1]], ["b", None, "none"]]
