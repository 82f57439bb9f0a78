"""No text from outside reaches a call that renders markdown without `plain.escape`: read from the pages' sources.

Text from outside is what a caught error says, what the session keeps of one, and what names of these fields hold:
`OUTSIDE`. A name that is made of such a text is one itself, within its function.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted([ROOT / "app.py", *(ROOT / "pages").rglob("*.py")])

RENDERS = {
    *("error", "warning", "info", "success", "caption", "markdown", "toast", "badge", "write", "header", "subheader"),
    *("title", "expander", "status", "popover", "spinner", "progress", "metric", "tabs", "radio", "checkbox", "toggle"),
    *("button", "download_button", "link_button", "page_link", "form_submit_button", "number_input", "text_input"),
    *(
        "selectbox",
        "multiselect",
        "slider",
        "select_slider",
        "segmented_control",
        "pills",
        "file_uploader",
        "text_area",
    ),
    *("feedback", "chat_message", "dialog", "data_editor", "html"),
}
# Arguments that are shown as they are, or not shown.
NOT_RENDERED = {
    "key",
    "icon",
    "args",
    "kwargs",
    "on_click",
    "on_change",
    "format_func",
    "options",
    "value",
    "data",
    "type",
    "index",
    "disabled",
}
# Their options are shown as text; those of sliders and segmented controls are markdown.
OPTIONS = {"selectbox", "multiselect"}
# What errors, jobs, stores, records, artefacts, recipes, links and a login say.
OUTSIDE = {
    *("error", "problem", "problems", "reason", "label", "partial", "store_error", "refused", "left_by", "failed"),
    *("awaited", "notes", "headline", "advice", "caveat", "layers", "folder"),
    *("describe", "told_wait", "trouble", "store_notes", "_short", "get_all", "user", "layer"),
}
# Functions that escape what they are given.
ESCAPE = {"escape", "_lines"}
# Functions of these pages and of the library that give numbers or our own words, whatever they are given.
OWN = {
    "int",
    "legend",
    "_own",
    "format_bytes",
    "format_percent",
    "format_points",
    "format_ms",
    "len",
    "smaller",
    "duration",
    "isinstance",
    "sum",
}
# Rows of the schema, by the names that pages give them: their labels are our own words.
SETTINGS = {"setting.label", "integer.label"}
# Reads of the session that give what a message says: those of keys that end so.
KEPT = ("error", "refused", "told", "problem", "left_out")


class Walker(ast.NodeVisitor):
    """Collects the calls of one function that show a text from outside as markdown."""

    def __init__(self) -> None:
        self.outside: set[str] = set()
        self.found: list[str] = []

    def tainted(self, node: ast.AST | None) -> bool:
        """Whether a value holds text from outside that is not escaped."""
        match node:
            case None | ast.Constant() | ast.Lambda() | ast.Compare():
                return False
            case ast.Name():
                return node.id in self.outside
            case ast.Attribute():
                if ast.unparse(node) in SETTINGS:
                    return False
                return node.attr in OUTSIDE or self.tainted(node.value)
            case ast.IfExp():
                return self.tainted(node.body) or self.tainted(node.orelse)
            case ast.UnaryOp(op=ast.Not()):
                return False
            case ast.ListComp() | ast.GeneratorExp() | ast.SetComp():
                return self.tainted(node.elt)
            case ast.NamedExpr():
                return self.tainted(node.value)
            case ast.Call():
                return self._called(node)
        return any(self.tainted(child) for child in ast.iter_child_nodes(node))

    def _called(self, node: ast.Call) -> bool:
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name in ESCAPE | OWN or (name == "map" and "escape" in ast.unparse(node.args[0])):
            return False
        if name in ("get", "pop") and "session_state" in ast.unparse(node.func):
            return any(isinstance(a, ast.Constant) and str(a.value).endswith(KEPT) for a in node.args)
        if name in OUTSIDE or ast.unparse(node.func) in ("state.told", "naming.called"):
            return True
        given = [*node.args, *(each.value for each in node.keywords)]
        receiver = [node.func.value] if isinstance(node.func, ast.Attribute) else []
        return any(map(self.tainted, [*given, *receiver]))

    def _bind(self, target: ast.AST, value: ast.AST) -> None:
        if self.tainted(value):
            self.outside |= {each.id for each in ast.walk(target) if isinstance(each, ast.Name)}

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        self.outside |= {node.name} - {None}
        self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> None:
        for target in node.targets:
            self._bind(target, node.value)
        self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self._bind(node.target, node.value)
        self.generic_visit(node)

    def visit_NamedExpr(self, node: ast.NamedExpr) -> None:
        self._bind(node.target, node.value)
        self.generic_visit(node)

    def visit_For(self, node: ast.For) -> None:
        self._bind(node.target, node.iter)
        self.generic_visit(node)

    def visit_comprehension(self, node: ast.comprehension) -> None:
        self._bind(node.target, node.iter)
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        # Comprehensions bind their names after they are used.
        for inner in ast.walk(node):
            if isinstance(inner, ast.comprehension):
                self._bind(inner.target, inner.iter)
        name = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        if name in RENDERS and not ast.unparse(node.func).startswith(("logging", "codec")):
            given = list(node.args[:1] if name in OPTIONS else node.args)
            given += [each.value for each in node.keywords if each.arg not in NOT_RENDERED]
            self.found += [f"line {each.lineno}: {ast.unparse(each)}" for each in given if self.tainted(each)]
        self.generic_visit(node)


# Who writes HTML: a file and a style of ours, and a table whose cells are escaped as HTML one by one.
HTML = ("app.py", "pages/components/compare_sheet.py", "pages/components/present.py")


def unescaped(source: str) -> Iterator[str]:
    """The arguments of a page's source that show text from outside as markdown."""
    tree = ast.parse(source)
    functions = [each for each in ast.walk(tree) if isinstance(each, ast.FunctionDef)]
    inner = {id(each) for function in functions for each in ast.walk(function)} - {id(each) for each in functions}
    for scope in [tree, *(each for each in functions if id(each) not in inner)]:
        walker = Walker()
        body = [each for each in scope.body if not (scope is tree and isinstance(each, ast.FunctionDef | ast.ClassDef))]
        for _ in range(2):  # a name may be bound below where it is used, in a loop
            walker.found.clear()
            for each in body:
                walker.visit(each)
        yield from walker.found


@pytest.mark.parametrize("path", SOURCES, ids=[str(path.relative_to(ROOT)) for path in SOURCES])
def test_text_from_outside_is_escaped(path: Path) -> None:
    source = path.read_text()
    assert list(unescaped(source)) == []
    for never in ("unsafe_allow_html", "LinkColumn", "ImageColumn", ".iframe("):
        assert never not in source
    assert "st.html(" not in source or str(path.relative_to(ROOT)) in HTML


@pytest.mark.parametrize(
    "source",
    [
        "try:\n    f()\nexcept E as error:\n    st.error(str(error))",
        "try:\n    f()\nexcept E as error:\n    problem = f'no: {error}'\nst.error(problem)",
        "def f():\n    if problem := st.session_state.get('own_error'):\n        st.error(problem)",
        "def f(job):\n    st.caption(f'{job.label}, 5 %')",
        "def f(job):\n    text = job.label\n    text += '!'\n    bar.progress(0.5, text=text)",
        "def f(work):\n    for message in work.failed:\n        st.error(message)",
        "def f(found):\n    st.markdown('\\n'.join(f'- {note}' for note in found.notes))",
        "def f(layer):\n    st.button(f'Look at {_short(layer)}', key='x')",
        "def f(recipe):\n    st.button('Go', help=recipe.describe())",
        "def f(job):\n    st.error(plain.escape(job.label) + job.error)",
    ],
)
def test_the_walk_finds_what_is_not_escaped(source: str) -> None:
    assert len(list(unescaped(source))) == 1


@pytest.mark.parametrize(
    "source",
    [
        "try:\n    f()\nexcept E as error:\n    st.error(plain.escape(error))",
        "def f(job):\n    st.caption(f'{plain.escape(job.label)}, {len(job.label)}')",
        "def f(found):\n    st.markdown('\\n'.join(f'- {plain.escape(note)}' for note in found.notes))",
        "def f(work):\n    st.markdown('Not measured' if work.failed else 'Measuring')",
    ],
)
def test_the_walk_leaves_what_is_escaped(source: str) -> None:
    assert list(unescaped(source)) == []
