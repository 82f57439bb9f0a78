"""docs/own-network.md works as it stands: its blocks run one after the other in an empty folder."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[1] / "docs" / "own-network.md"
BLOCKS = re.findall(r"^```(python|sh)\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)


def run(kind: str, text: str, folder: Path) -> str:
    """What a block prints; the test fails where it does."""
    environment = {**os.environ, "PARETOSCOPE_LIBRARY": str(folder / "library"), "PYTHON": sys.executable}
    if kind == "python":
        command = [sys.executable, "-c", text]
    else:
        command = ["sh", "-ec", 'python() { "$PYTHON" "$@"; }\n' + text]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_block_runs_in_its_order(tmp_path: Path) -> None:
    printed = [run(kind, text, tmp_path) for kind, text in BLOCKS]
    assert len(printed) == 6
    figure = re.search(r"accuracy ([0-9.]+) % on 899 test samples: is that what you expect\?", printed[1])
    assert figure is not None and float(figure[1]) > 90
    assert {"mine.pt2", "digits.npz", "mine.psc", "mine.json", "library"} <= {each.name for each in tmp_path.iterdir()}


def test_its_links_lead_somewhere_and_all_presets_are_told() -> None:
    from paretoscope.data.preprocess import presets

    text = PAGE.read_text()
    assert all((PAGE.parent / link).exists() for link in re.findall(r"\]\(([^)#:]+)\)", text))
    assert all(f"`{name}`" in text for name in presets.names())
