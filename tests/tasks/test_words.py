"""What the screen says of a task's figures comes from the task: pages and figures name none themselves."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted([*(ROOT / "pages").rglob("*.py"), *(ROOT / "compression/paretoscope/figures").rglob("*.py")])

# Words of classification, in any case. "Points" alone are also markers of a figure.
NAMES = re.compile(r"accurac|\bf1\b|mcnemar|wilson|confusion|kl divergence|\bnats\b|misclassified|guessing", re.I)

# Strings that no one reads, and what they are.
UNSEEN = {
    "confusion_view": "the key of a widget",
    "plot_confusion": "the key of a figure",
    "confusion": "the identity by which Plotly keeps a zoom",
}


def said(tree: ast.AST) -> Iterator[ast.Constant]:
    """String constants, those within f-strings too, that are no docstrings."""
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node


def own_words(text: str) -> list[str]:
    return [node.value for node in said(ast.parse(text)) if NAMES.search(node.value) and node.value not in UNSEEN]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_page_or_figure_names_a_task_s_figures_itself(path: Path) -> None:
    assert own_words(path.read_text()) == []


def test_what_is_looked_for_is_found() -> None:
    assert own_words('"""Accuracy."""\nx = f"Accuracy of {y}"') == ["Accuracy of "]
    assert own_words("st.metric('Macro F1', help='McNemar')") == ["Macro F1", "McNemar"]
    assert own_words("figures.accuracy") == []


def test_every_exception_is_still_there() -> None:
    known = {node.value for path in FILES for node in said(ast.parse(path.read_text()))}
    assert known >= UNSEEN.keys()
