"""The README's worked example runs as it stands, and prints what the README says."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"
MOST_BYTES = 8 * 1024


@pytest.mark.slow
def test_the_example_prints_what_stands_below_it(tmp_path: Path) -> None:
    ((code, printed),) = re.findall(
        r"```python\n(.*?)```\n\nprints\n\n```text\n(.*?)```", README.read_text(), re.DOTALL
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == printed
    assert sorted(path.name for path in tmp_path.iterdir()) == ["simple-cnn.onnx", "simple-cnn.psc"]


def test_it_can_be_read_in_one_go_and_its_links_lead_somewhere() -> None:
    assert len(README.read_bytes()) <= MOST_BYTES
    links = re.findall(r"\]\(([^)#:]+)\)", README.read_text())
    assert {"docs/recipes.md", "docs/extending.md"} <= set(links)
    assert not [link for link in links if not (README.parent / link).exists()]
