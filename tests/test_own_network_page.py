"""docs/own-network.md works as it stands: its blocks run one after the other in an empty folder.

Its commands run in this process: that they start from nothing is shown by other tests (`cli/test_main.py`).
"""

import re
import shlex
from pathlib import Path

import pytest
from paretoscope.cli.main import app
from typer.testing import CliRunner

PAGE = Path(__file__).parents[1] / "docs" / "own-network.md"
BLOCKS = re.findall(r"^```(python|sh)\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
PROGRAM = ["python", "-m", "paretoscope"]


def command(line: str) -> str:
    """What a line of a shell prints: one of our commands, or `echo 'TEXT' > FILE`; the test fails where it does."""
    words = shlex.split(line)
    if words[0] == "echo":
        _, text, mark, file = words
        assert mark == ">", line
        Path(file).write_text(f"{text}\n")
        return ""
    assert words[:3] == PROGRAM, line
    done = CliRunner().invoke(app, words[3:])
    assert done.exit_code == 0, f"{line}\n{done.output}\n{done.exception!r}"
    return done.stdout


@pytest.mark.slow
def test_every_block_runs_in_its_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PARETOSCOPE_LIBRARY", str(tmp_path / "library"))
    names: dict[str, object] = {}
    printed = []
    for kind, text in BLOCKS:
        if kind == "python":
            exec(compile(text, str(PAGE), "exec"), names)  # our own page's code
            printed.append(capsys.readouterr().out)
        else:
            printed.append("".join(map(command, text.splitlines())))
    assert len(printed) == 7
    question = r"accuracy ([0-9.]+) % \[[0-9., ]+\] on all 899 test samples: is that what you expect\?"
    figure = re.search(question, printed[1])
    assert figure is not None and float(figure[1]) > 90
    assert re.search(r"^[0-9,]+ bytes, accuracy 0\.9\d+$", printed[2], re.MULTILINE)
    assert {"mine.pt2", "digits.npz", "mine.psc", "mine.json", "library"} <= {each.name for each in tmp_path.iterdir()}


def test_its_links_lead_somewhere_and_all_presets_are_told() -> None:
    from paretoscope.data.preprocess import presets

    text = PAGE.read_text()
    assert all((PAGE.parent / link).exists() for link in re.findall(r"\]\(([^)#:]+)\)", text))
    assert all(f"`{name}`" in text for name in presets.names())
