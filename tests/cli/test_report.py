"""The command that writes a report measures what is asked for and is not known yet."""

from pathlib import Path

import pytest
from paretoscope.cli.main import app
from paretoscope.recipe.command import evaluating
from paretoscope.recipe.presets import presets
from typer.testing import CliRunner

NAME = "lenet-300-100"


def run(*arguments: object):
    return CliRunner().invoke(app, [str(each) for each in arguments], prog_name="python -m paretoscope")


@pytest.mark.slow
def test_a_report_of_a_preset_beside_another(tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    result = run("report", NAME, "--preset", "tiny", "--beside", "int8", "--most-kb", 50, "-o", out)
    text = out.read_text()
    assert result.exit_code == 0 and f"{len(text.encode()):,} bytes" in result.stdout
    assert "At most 50 KB?" in text and "B int8 after A Tiny" in text
    assert all(evaluating(NAME, presets.get(name).recipe) in text for name in ("tiny", "int8"))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--beside", "no-such.json"], "no-such.json must be a readable file"),
        (["--most-kb", "-1"], "a limit on size must be above 0"),
        (["--runtime", "abacus"], "abacus"),
    ],
)
def test_what_cannot_be_had_is_refused_before_anything_is_measured(options, told: str, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    result = run("report", NAME, "--bits", 8, "-o", out, *options)
    assert result.exit_code == 1 and told in result.stderr and not out.exists()
