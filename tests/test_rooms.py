"""The house: imports run one way between the rooms, and there are no circles of modules."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

SOURCES = Path(__file__).parents[1] / "compression"
# Each room may import from those before it.
ROOMS = (
    *("base", "recipe", "data", "graph", "networks", "tasks", "model", "runtimes", "methods", "codec", "measure"),
    *("search", "training", "export", "figures", "service", "reports", "cli"),
)
# No room of one of these groups may know another of it.
ABREAST = ({"networks", "tasks"}, {"search", "training", "export"}, {"figures", "service"})


def imports(path: Path, modules: set[str]) -> set[str]:
    """Modules of ours that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("paretoscope"):
            for each in node.names:
                whole = f"{node.module}.{each.name}"
                found.add(whole if whole in modules else node.module)
        elif isinstance(node, ast.Import):
            found |= {each.name for each in node.names if each.name.startswith("paretoscope")}
    return found


def graph() -> dict[str, set[str]]:
    files = {}
    for path in SOURCES.rglob("*.py"):
        name = ".".join(path.relative_to(SOURCES).with_suffix("").parts)
        files[name.removesuffix(".__init__")] = path
    return {name: imports(path, set(files)) for name, path in files.items()}


def room(module: str) -> str | None:
    return module.split(".")[1] if "." in module else None


def upward(modules: dict[str, set[str]]) -> list[str]:
    found = []
    for name, others in modules.items():
        for other in others:
            here, there = room(name), room(other)
            if not {here, there} <= set(ROOMS) or here == there:
                continue
            if ROOMS.index(there) > ROOMS.index(here) or any({here, there} <= rooms for rooms in ABREAST):
                found.append(f"{name} imports {other}")
    return sorted(found)


def test_every_folder_is_a_room():
    folders = {path.name for path in (SOURCES / "paretoscope").iterdir() if (path / "__init__.py").exists()}
    assert folders == set(ROOMS)
    assert not (SOURCES / "__init__.py").exists()


@pytest.mark.slow
def test_no_import_runs_upwards():
    assert upward(graph()) == []
    assert upward({"paretoscope.base.files": {"paretoscope.codec"}}) == [
        "paretoscope.base.files imports paretoscope.codec"
    ]
    assert upward({"paretoscope.search.allot": {"paretoscope.export"}})


@pytest.mark.slow
def test_only_the_command_line_and_the_package_know_the_public_api():
    users = {name for name, others in graph().items() if "paretoscope.api" in others}
    assert {each for each in users if room(each) != "cli"} == {"paretoscope"}


@pytest.mark.slow
def test_there_are_no_circles():
    TopologicalSorter(graph()).prepare()
    with pytest.raises(CycleError):
        TopologicalSorter({"a": {"b"}, "b": {"a"}}).prepare()


@pytest.mark.slow
def test_the_package_does_not_know_the_screen():
    for path in SOURCES.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [each.name for each in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not [each for each in names if each.split(".")[0] in ("streamlit", "pages")], path


def arrows() -> set[tuple[str, str]]:
    """Which room knows which, but for what follows from the others."""
    known: dict[str, set[str]] = {each: set() for each in ROOMS}
    for name, others in graph().items():
        for other in others:
            here, there = room(name), room(other)
            if here in known and there in known and here != there:
                known[here].add(there)
    reach: dict[str, set[str]] = {}
    for each in ROOMS:
        reach[each] = known[each] | {further for there in known[each] for further in reach[there]}
    return {
        (here, there)
        for here, others in known.items()
        for there in others
        if not any(there in reach[between] for between in others)
    }


@pytest.mark.slow
def test_the_picture_of_the_rooms_shows_what_imports_what():
    page = (SOURCES.parent / "docs/architecture.md").read_text()
    picture = page.partition("```mermaid\n")[2].partition("```")[0]
    drawn = {tuple(line.split(" --> ")) for line in map(str.strip, picture.splitlines()) if " --> " in line}
    within = {(here, there) for here, there in drawn if {here, there} <= set(ROOMS)}
    assert within == arrows()
    assert drawn - within == {("pages", "figures"), ("pages", "service")}
