"""`python -m paretoscope recover`: real, short trainings; what it keeps, says, and goes on with."""

import functools
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import Result
from paretoscope import codec
from paretoscope.cli.main import app
from paretoscope.codec import shelf
from paretoscope.measure.subject import Subject
from paretoscope.recipe.recipe import Recipe
from paretoscope.service import subjects
from typer.testing import CliRunner

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
NAME = "lenet-300-100"
START = ["--sparsity", 0.92, "--bits", 4]
TRAINING = ["--epochs", 2, "--ramp", 0.5, "--distill", 0.5]
RECIPE = Recipe.of(sparsity=0.92, bits=4, epochs=2, ramp=0.5, distill=0.5)


@pytest.fixture(scope="module")
def subject() -> Subject:
    return subjects.load(NAME)


@pytest.fixture(autouse=True)
def own_store(subject, tmp_path, monkeypatch) -> Path:
    load = subjects.load
    monkeypatch.setattr(subjects, "load", lambda name: subject if name == NAME else load(name))
    monkeypatch.setenv("PARETOSCOPE_STORE", str(tmp_path / "records.sqlite"))
    return tmp_path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [*map(str, arguments)], prog_name="python -m paretoscope")


def figures(*arguments: object) -> dict:
    result = run("recover", NAME, *arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_it_wins_back_accuracy_and_the_other_commands_find_the_result(own_store) -> None:
    out = own_store / "trained.psc"
    data = figures(*START, *TRAINING, "--out", out)
    before, after, worth = data["before"], data["after"], data["worth"]
    assert after["accuracy"] > before["accuracy"] + 0.1
    assert Recipe.from_dict(after["recipe"]) == RECIPE and Recipe.from_dict(before["recipe"]) == RECIPE.untrained
    assert worth["points"] == pytest.approx(100 * (after["accuracy"] - before["accuracy"]))
    assert worth["minutes_per_point"] == pytest.approx(worth["minutes"] / worth["points"])
    assert [epoch["number"] for epoch in data["epochs"]] == [0, 1, 2] and data["best"] in (0, 2)
    assert len(out.read_bytes()) == after["size"]["artefact"]
    assert codec.read(out.read_bytes()).recipe == RECIPE

    evaluated = run("evaluate", NAME, *START, *TRAINING, "--runtime", "none", "--json")
    assert json.loads(evaluated.stdout)["digests"] == after["digests"]
    assert run("compress", NAME, *START, *TRAINING, "--out", own_store / "again.psc").exit_code == 0
    assert (own_store / "again.psc").read_bytes() == out.read_bytes()
    artefact = run("evaluate", out, "--runtime", "none", "--json")
    assert json.loads(artefact.stdout)["accuracy"] == after["accuracy"]


def test_it_says_every_epoch_on_standard_error_and_the_price_on_standard_output() -> None:
    result = run("recover", NAME, *START, *TRAINING)
    assert result.exit_code == 0
    lines = result.stderr.splitlines()
    assert [line.split(",")[0] for line in lines] == ["epoch 0/2", "epoch 1/2", "epoch 2/2"]
    assert "loss " not in lines[0] and "loss " in lines[1] and " left" in lines[1] and " left" not in lines[2]
    assert all("validation " in line and " bytes" in line for line in lines)
    assert result.stdout.startswith("Won back ") and " a point" in result.stdout
    assert [line.split()[0] for line in result.stdout.splitlines()[2:5]] == ["baseline", "before", "after"]


def test_what_was_trained_is_not_trained_again_unless_asked_for(subject) -> None:
    first = figures(*START, *TRAINING)
    second = figures(*START, *TRAINING)
    assert second == first
    # Whatever lies in the way of training anew is dropped: a checkpoint that claims to be at its end.
    shelf.keep_checkpoint(subject.statistics.digest, RECIPE, b"no checkpoint")
    third = figures(*START, *TRAINING, "--again")
    assert third["epochs"] != first["epochs"]  # other seconds
    assert third["after"] == first["after"] and shelf.checkpoint(subject.statistics.digest, RECIPE) is None


def test_a_budget_keeps_the_best_so_far_and_the_next_call_goes_on() -> None:
    many = ["--epochs", 400, "--distill", 0.5]
    data = figures(*START, *many, "--minutes", 0.005)
    last = data["epochs"][-1]["number"]
    assert 0 < last < 400 and Recipe.from_dict(data["after"]["recipe"]).recover.stopped == last
    result = run("recover", NAME, *START, *many, "--minutes", 0.005)
    assert result.exit_code == 0
    lines = result.stderr.splitlines()
    assert lines[0] == f"Going on after epoch {last}, where this training was interrupted."
    assert lines[1].startswith(f"epoch {last + 1}/400")


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        ((NAME, *START), "recover must be told how long; the recipe has no epochs"),
        ((NAME, *START, "--epochs", 0), "recover must be told how long; the recipe has no epochs"),
        ((NAME, *START, "--epochs", -1), "epochs must be 0 or more; got -1"),
        ((NAME, *START, *TRAINING, "--minutes", 0), "--minutes must be above 0; got 0"),
        ((NAME, *START, *TRAINING, "--minutes", "nan"), "--minutes must be above 0; got nan"),
        ((NAME, *START, *TRAINING, "--blocks", 2), "only a network of residual blocks has blocks to drop"),
        (("nothing", *START, *TRAINING), "a model must be registered; got 'nothing'"),
    ],
)
def test_errors_are_one_line(arguments, rule) -> None:
    result = run("recover", *arguments)
    assert result.exit_code == 1 and result.stdout == ""
    assert rule in result.stderr
    assert result.stderr.startswith("Error: ") and result.stderr.count("\n") == 1


def start(folder: Path) -> subprocess.Popen:
    command = [
        sys.executable,
        "-m",
        "paretoscope",
        "recover",
        NAME,
        *START,
        "--epochs",
        400,
        "--distill",
        0.5,
        "--json",
    ]
    environment = {**os.environ, "PARETOSCOPE_STORE": str(folder / "records.sqlite")}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    # Whoever runs the tests in the background may have Control-C ignored, and what they start too.
    heard = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    return subprocess.Popen([*map(str, command)], cwd=ROOT, env=environment, preexec_fn=heard, **pipes)


def lines_until(process: subprocess.Popen, start: str) -> list[str]:
    lines = []
    for line in process.stderr:
        lines.append(line)
        if line.startswith(start):
            return lines
    raise AssertionError("".join(lines))


def test_a_killed_training_goes_on_and_control_c_keeps_the_best(own_store) -> None:
    process = start(own_store)
    lines_until(process, "epoch 2/")
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL

    process = start(own_store)
    first, *_ = lines_until(process, "epoch 5/")
    assert first.startswith("Going on after epoch ")
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert "Ending; the best epoch so far is kept." in errors and "Traceback" not in errors
    data = json.loads(output)
    numbers = [epoch["number"] for epoch in data["epochs"]]
    assert numbers == list(range(len(numbers))) and numbers[-1] >= 5
    assert Recipe.from_dict(data["after"]["recipe"]).recover.stopped == numbers[-1]
