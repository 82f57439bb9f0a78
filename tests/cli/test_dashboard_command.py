"""`paretoscope run`: which process takes its place."""

import os
import sys

import pytest
from paretoscope.base.places import ROOT
from paretoscope.cli.main import app
from typer.testing import CliRunner

SERVER = [sys.executable, "-P", "-m", "streamlit", "run", str(ROOT / "app.py")]


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        ([], SERVER),
        (["--port", "1"], [*SERVER, "--server.port", "1"]),
        (["--port", "65535"], [*SERVER, "--server.port", "65535"]),
    ],
)
def test_streamlit_takes_its_place(monkeypatch: pytest.MonkeyPatch, arguments: list[str], command: list[str]) -> None:
    started = []
    monkeypatch.setattr(os, "execv", lambda *call: started.append(call))
    assert CliRunner().invoke(app, ["run", *arguments]).exit_code == 0
    assert started == [(sys.executable, command)]
    assert (ROOT / "app.py").is_file() and (ROOT / ".streamlit" / "config.toml").is_file()


@pytest.mark.parametrize("port", ["0", "65536", "none"])
def test_what_is_no_port_is_refused(monkeypatch: pytest.MonkeyPatch, port: str) -> None:
    monkeypatch.setattr(os, "execv", lambda *call: pytest.fail(f"started {call}"))
    result = CliRunner().invoke(app, ["run", "--port", port])
    assert result.exit_code == 2 and "--port" in result.stderr
