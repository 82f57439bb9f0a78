"""Networks of users through the workbench: added, looked at, read in another way; what fails leaves nothing."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import own_files
import pytest
from paretoscope.base.errors import CompressionError
from paretoscope.base.progress import SILENT, Calling
from paretoscope.data import library as data_library
from paretoscope.measure import judged, subject
from paretoscope.networks import library
from paretoscope.networks.sources import find
from paretoscope.recipe.recipe import Recipe
from paretoscope.service import roster
from paretoscope.service.additions import Addition, library_mb
from paretoscope.service.limits import LimitError, Limits
from paretoscope.service.preview import Look, Preview
from paretoscope.service.requests import Request
from paretoscope.service.study import StudyKind
from paretoscope.service.timing import Timing
from paretoscope.service.workbench import Workbench


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workbench]:
    monkeypatch.setenv("PARETOSCOPE_LIBRARY", str(tmp_path / "library"))
    bench = Workbench()
    yield bench
    bench.close()


def run(bench: Workbench, kind: StudyKind, *arguments: object):
    """As another process would: from what the request says of itself."""
    return Request.from_json(Request(kind, arguments).to_json()).run(bench, SILENT)


@pytest.mark.slow
def test_pictures_are_seen_as_they_are_fed_and_the_best_preset_is_found_and_taken(
    bench: Workbench, tmp_path: Path
) -> None:
    program, pictures = own_files.write_pictures(tmp_path)
    assert run(bench, StudyKind.ADD, Addition("halves", str(program), title="Halves", data=str(pictures))) == "halves"
    row = next(each for each in roster.roster() if each.own)
    assert (row.name, row.title, row.task, row.data, row.parameters) == (
        "halves",
        "Halves",
        "Classification",
        "halves",
        88,
    )

    found = run(bench, StudyKind.PREVIEW, "halves")
    shown, sample = found.inputs[0], found.samples[0]
    assert (len(found.samples), shown.look, shown.shape) == (8, Look.PICTURE, (1, 8, 8))
    assert 0 <= shown.low < shown.high <= 1 and sample.seen[0].picture.shape == (8, 8)
    assert sample.seen[0].picture.dtype == np.uint8 and sample.label in ("0", "1")
    assert found.worth.n == 100 and found.worth.value == 0.5 and found.worth.chance
    assert all(each.right is (each.answers[0].startswith(f"{each.label}:")) for each in found.samples)

    ranked = run(bench, StudyKind.RANK, "halves")
    assert {each.preset.name for each in ranked} == set(found.presets) and ranked[0].value == 1.0
    assert ranked[0].preset.name in ("symmetric", "efficientnet-lite")
    before = find("halves")
    run(bench, StudyKind.TAKE, "halves", ranked[0].preset.name)
    assert find("halves") is not before and find("halves").title == "Halves"
    assert run(bench, StudyKind.PREVIEW, "halves").worth.value == 1.0


@pytest.mark.slow
def test_samples_are_shown_before_the_network_is_open_and_a_figure_before_it_is_judged(
    bench: Workbench, tmp_path: Path
) -> None:
    program, pictures = own_files.write_pictures(tmp_path)
    run(bench, StudyKind.ADD, Addition("halves", str(program), data=str(pictures)))
    told: list[Preview] = []

    def tell(done: float | None, label: str | None, partial: Preview | None) -> None:
        told.extend([partial] * (partial is not None))
        assert not bench.loaded("halves")

    found = Request(StudyKind.PREVIEW, ("halves",)).run(bench, Calling(tell))
    first, answered = told
    assert [each.samples[0].answers == () for each in told] == [True, False]
    assert first.facts is answered.facts is None and found.facts is not None
    assert first.worth is None and (answered.worth.n, answered.worth.samples) == (8, 100)
    assert answered.worth.value == sum(each.right for each in answered.samples) / 8
    # What is shown first is what stays.
    assert [each.answers for each in answered.samples] == [each.answers for each in found.samples]
    assert all(
        (one.seen[0].picture == two.seen[0].picture).all()
        for one, two in zip(first.samples, found.samples, strict=True)
    )
    assert found.worth.n == found.worth.samples == 100


@pytest.mark.slow
def test_two_visitors_who_give_one_name_at_once_are_two(bench: Workbench, tmp_path: Path) -> None:
    program, pictures = own_files.write_pictures(tmp_path)
    other = own_files.write_program(tmp_path / "sensor.pt2", "sensor")
    jobs = [
        bench.ask(StudyKind.ADD, Addition("mine", str(program), data=str(pictures))),
        bench.ask(StudyKind.ADD, Addition("mine", str(other))),
    ]
    assert all(job.wait(60) for job in jobs)
    assert jobs[0].result == "mine" and jobs[1].result is None and "name must be free; mine" in jobs[1].error
    assert find("mine").inputs[0].shape == (1, 8, 8) and data_library.names() == ("mine",)


@pytest.mark.slow
def test_a_network_is_called_by_its_name_and_not_its_file(bench: Workbench, tmp_path: Path) -> None:
    program = own_files.write_program(tmp_path / "model.pt2", "sensor")
    for name in ("one", "two"):
        run(bench, StudyKind.ADD, Addition(name, str(program)))
    assert [each.title for each in roster.roster() if each.own] == ["one", "two"]


@pytest.mark.slow
def test_a_baseline_goes_on_to_all_samples(bench: Workbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judged, "CHUNK_BYTES", 1 << 11)
    monkeypatch.setattr(subject, "quick_samples", lambda seconds, n: 10)
    program, pictures = own_files.write_pictures(tmp_path)
    run(bench, StudyKind.ADD, Addition("halves", str(program), data=str(pictures)))
    assert run(bench, StudyKind.PREVIEW, "halves").worth.n == 10
    told = []

    class Told:
        def report(self, done=None, total=1.0, *, label=None, partial=None, left=None) -> None:
            told.append((done, label, partial and partial.n))

    found = Request(StudyKind.BASELINE, ("halves",)).run(bench, Told())
    assert found.n == 100 and found.value == 0.5
    counts = [done for done, _, _ in told[1:]]
    assert counts == sorted(counts) and counts[-1] == 100 and len(counts) > 2
    assert all(n == done and label == f"{done} of 100" for done, label, n in told[1:])
    assert run(bench, StudyKind.PREVIEW, "halves").worth.n == 100


@pytest.mark.slow
def test_what_does_not_fit_is_told_and_leaves_nothing(bench: Workbench, tmp_path: Path) -> None:
    program = own_files.write_program(tmp_path / "sensor.pt2", "sensor")
    other = own_files.write_arrays(tmp_path / "text.npz", "text")
    with pytest.raises(CompressionError):
        run(bench, StudyKind.ADD, Addition("sensor", str(program), data=str(other)))
    assert library.names() == () and data_library.names() == ()


def test_uploaded_samples_are_told_by_the_name_of_their_file(bench: Workbench, tmp_path: Path) -> None:
    program = own_files.write_program(tmp_path / "regression.pt2", "regression")
    arrays = own_files.write_arrays(tmp_path / "numbers.npz", "regression")
    wish = Addition("numbers", str(program), data=str(arrays), uploaded=True, data_uploaded=True)
    run(bench, StudyKind.ADD, wish)
    kept = data_library.find("numbers")
    assert kept.source == kept.samples.source == "numbers.npz"
    assert all(str(tmp_path) not in each.read_text() for each in (tmp_path / "library").rglob("*.json"))
    arrays.write_bytes(arrays.read_bytes()[:300])
    for asked, told in ((wish, "numbers.npz"), (replace(wish, data_uploaded=False), str(arrays))):
        with pytest.raises(CompressionError, match=rf"hold arrays alone; {told} does not"):
            run(bench, StudyKind.ADD, replace(asked, name="other"))


def test_labels_that_do_not_fit_are_told_and_agreement_is_taken_by_wish_alone(bench: Workbench, tmp_path: Path) -> None:
    program, pictures = own_files.write_pictures(tmp_path)
    with np.load(pictures) as arrays:
        np.savez(tmp_path / "shifted.npz", x=arrays["x"], y=arrays["y"] + 1)
    wish = Addition("halves", str(program), data=str(tmp_path / "shifted.npz"))
    with pytest.raises(CompressionError, match=r"from 0 to 1, .* go from 1 to 2\. Subtract 1 from each"):
        run(bench, StudyKind.ADD, wish)
    assert library.names() == () and data_library.names() == ()
    run(bench, StudyKind.ADD, replace(wish, task="agreement"))
    assert library.get("halves").network.task == "agreement"


def test_the_code_of_a_visitor_is_never_run(bench: Workbench, tmp_path: Path) -> None:
    with pytest.raises(CompressionError, match="code"):
        run(bench, StudyKind.ADD, Addition("evil", "os:getcwd"))


def test_without_samples_inputs_are_drawn_and_nothing_is_said_of_right_answers(
    bench: Workbench, tmp_path: Path
) -> None:
    program = own_files.write_program(tmp_path / "regression.pt2", "regression")
    run(bench, StudyKind.ADD, Addition("numbers", str(program), uploaded=True))
    assert library.get("numbers").source == program.name
    found = run(bench, StudyKind.PREVIEW, "numbers")
    assert found.drawn and found.worth is None and found.presets == ()
    assert found.inputs[0].look is Look.NUMBERS and len(found.samples[0].seen[0].values) == 10
    assert found.samples[0].right is None and len(found.samples[0].answers) == 1


@pytest.mark.slow
def test_a_name_that_stands_for_another_network_is_opened_anew(bench: Workbench, tmp_path: Path) -> None:
    for name in ("regression", "bare"):
        own_files.write_program(tmp_path / f"{name}.pt2", name)
    run(bench, StudyKind.ADD, Addition("mine", str(tmp_path / "regression.pt2")))
    first = bench.subject("mine")
    bench.find("mine", Recipe())
    bench.refresh("mine")
    assert bench.subject("mine") is first
    # By another process: this one is not told.
    other = Workbench()
    run(other, StudyKind.ADD, Addition("mine", str(tmp_path / "bare.pt2"), replace=True))
    other.close()
    bench.refresh("mine")
    assert bench.subject("mine") is not first and bench.subject("mine").network.inputs[0].shape == (20,)
    assert bench.records("mine", Timing()) == []


def test_a_full_library_takes_no_more(bench: Workbench, tmp_path: Path) -> None:
    assert library_mb() == 0
    folder = tmp_path / "library"
    folder.mkdir()
    (folder / "large").write_bytes(bytes(1_100_000))
    assert library_mb() == 1.1
    limited = Workbench(limits=Limits(library=1))
    with pytest.raises(LimitError, match=r"megabytes of the library must be at most 1 on this server; got 1\.1"):
        limited.ask(StudyKind.ADD, Addition("mine", "mine.pt2"))
    limited.close()


@pytest.mark.slow
def test_signals_and_several_inputs_are_seen(bench: Workbench, tmp_path: Path) -> None:
    for name in ("sensor", "two", "text"):
        program = own_files.write_program(tmp_path / f"{name}.pt2", name)
        arrays = own_files.write_arrays(tmp_path / f"{name}.npz", name, labelled=name != "two")
        run(bench, StudyKind.ADD, Addition(name, str(program), data=str(arrays)))
    sensor, two, text = (run(bench, StudyKind.PREVIEW, name) for name in ("sensor", "two", "text"))
    assert sensor.samples[0].seen[0].curves.shape == (6, 32)
    assert [each.look for each in two.inputs] == [Look.NUMBERS, Look.PICTURE] and two.worth is None
    assert text.inputs[0].look is Look.TOKENS and text.worth.value == pytest.approx(0.9, abs=0.02)
