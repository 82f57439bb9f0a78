"""Whatever remembers the results of a function, in the package and in the pages, has a bound that is written down."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
REMEMBERING = {"cache": None, "lru_cache": "maxsize", "cache_resource": "max_entries", "cache_data": "max_entries"}


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call | None, ast.FunctionDef | None]]:
    """Each use of something that remembers: its name, its settings, and the function that it decorates, if any."""
    decorated: set[int] = set()
    for node in ast.walk(tree):
        for each in node.decorator_list if isinstance(node, ast.FunctionDef) else ():
            call = each if isinstance(each, ast.Call) else None
            named = call.func if call is not None else each
            decorated.add(id(named))
            yield _name(named), call, node if isinstance(node, ast.FunctionDef) else None
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and id(node.func) not in decorated:
            yield _name(node.func), node, None


def _name(node: ast.AST) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def unbounded(source: str) -> list[str]:
    """The functions that remember without a stated bound, though they have arguments to tell results apart."""
    found = []
    for name, call, function in calls(ast.parse(source)):
        if name not in REMEMBERING or (call is None and function is None):
            continue
        if function is not None and not ast.unparse(function.args):
            continue  # one result
        given = {each.arg: each.value for each in call.keywords} if call is not None else {}
        bound = given.get(REMEMBERING[name])
        if bound is None or (isinstance(bound, ast.Constant) and bound.value is None):
            found.append(f"{name} of {function.name if function is not None else 'a call'}")
    return found


@pytest.mark.slow
def test_every_function_that_remembers_has_a_bound() -> None:
    found = {
        str(path.relative_to(ROOT)): missing
        for folder in ("compression", "pages")
        for path in sorted((ROOT / folder).rglob("*.py"))
        if (missing := unbounded(path.read_text()))
    }
    assert not found


@pytest.mark.parametrize(
    ("source", "fine"),
    [
        ("@lru_cache(maxsize=8)\ndef f(x): ...", True),
        ("@st.cache_resource(max_entries=32)\ndef f(x): ...", True),
        ("@cache\ndef f(): ...", True),
        ("@lru_cache\ndef f(x): ...", False),
        ("@lru_cache(maxsize=None)\ndef f(x): ...", False),
        ("@functools.cache\ndef f(x): ...", False),
        ("@st.cache_resource(show_spinner=False)\ndef f(x): ...", False),
        ("self.codes = lru_cache()(self._codes)", False),
        ("self.codes = lru_cache(maxsize=16)(self._codes)", True),
    ],
)
def test_a_missing_bound_is_seen(source: str, fine: bool) -> None:
    assert bool(unbounded(source)) is not fine
