"""Shared by the tests of the command line: each network is opened once for all commands of a process."""

import functools

import pytest
from paretoscope.service import subjects

# Its data are read, and the baseline is run over the test split, by the first command that asks for it. That commands
# start from nothing is shown by those that run as processes of their own.
_load = functools.cache(subjects.load)


@pytest.fixture(autouse=True)
def opened_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subjects, "load", _load)
