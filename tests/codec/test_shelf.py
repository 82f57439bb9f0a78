"""Trained models are found by their baseline and recipe, and by nothing else."""

import stat
from dataclasses import replace

import pytest
from paretoscope import codec
from paretoscope.base.errors import CompressionError, RecipeError
from paretoscope.codec import shelf
from paretoscope.measure.subject import Subject
from paretoscope.methods.pipeline import with_rest
from paretoscope.recipe.recipe import Recipe
from paretoscope.service import subjects
from paretoscope.training import interrupted
from paretoscope.training.train import Trainer
from slices import sliced

RECIPE = Recipe.of(sparsity=0.5, bits=4, epochs=1)


@pytest.fixture(scope="module")
def subject() -> Subject:
    return sliced(subjects.load("lenet-300-100"), 200)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("PARETOSCOPE_STORE", str(tmp_path / "user" / "records.sqlite"))
    monkeypatch.setattr(shelf, "SHIPPED", tmp_path / "shipped")
    return tmp_path


@pytest.fixture(scope="module")
def trained(subject):
    trainer = Trainer(subject, RECIPE)
    list(trainer.run())
    return trainer.result().compressed


def test_what_was_put_is_found(folder, subject, trained):
    source = subject.statistics.digest
    assert shelf.find(source, RECIPE) is None
    path = shelf.put(trained)
    assert path.is_relative_to(folder / "user")
    assert path.read_bytes() == codec.write(trained)
    found = shelf.find(source, RECIPE)
    assert codec.write(found) == codec.write(trained)
    assert found.recipe == RECIPE


def test_another_baseline_or_recipe_is_not_found(folder, subject, trained):
    path = shelf.put(trained)
    source = subject.statistics.digest
    other = replace(RECIPE, recover=replace(RECIPE.recover, seed=1))
    assert shelf.find("0" * 64, RECIPE) is None
    assert shelf.find(source, other) is None
    assert shelf.find(source, RECIPE.untrained) is None
    # Names are short forms of digests; what a file holds decides.
    path.rename(path.with_name(f"{other.digest[:24]}-{source[:12]}.psc"))
    assert shelf.find(source, other) is None


@pytest.mark.parametrize("size", [0, 10, 1000])
def test_a_damaged_file_is_as_none(folder, subject, trained, size):
    path = shelf.put(trained)
    path.write_bytes(path.read_bytes()[:size])
    assert shelf.find(subject.statistics.digest, RECIPE) is None


@pytest.mark.slow
def test_shipped_ones_are_found_and_ones_own_go_first(folder, subject, trained):
    source = subject.statistics.digest
    assert shelf.put(trained, shelf.SHIPPED).parent == folder / "shipped"
    assert codec.write(shelf.find(source, RECIPE)) == codec.write(trained)
    own = with_rest(trained, {"fc3.bias": 2 * trained.decode("fc3.bias")})
    path = shelf.put(own)
    assert codec.write(shelf.find(source, RECIPE)) == codec.write(own) != codec.write(trained)
    path.write_bytes(b"damaged")
    assert codec.write(shelf.find(source, RECIPE)) == codec.write(trained)


def test_a_subject_compresses_by_a_trained_recipe(folder, subject, trained):
    with pytest.raises(RecipeError, match="Train it on the page Recover"):
        subject.compress(RECIPE)
    shelf.put(trained)
    assert codec.write(subject.compress(RECIPE)) == codec.write(trained)
    *_, last = subject.evaluate(RECIPE)
    assert last.record.recipe == RECIPE
    assert last.record.size.artefact == len(codec.write(trained))


def test_checkpoints_are_kept_replaced_and_dropped(folder):
    source = "a" * 64
    assert shelf.checkpoint(source, RECIPE) is None
    shelf.drop_checkpoint(source, RECIPE)
    for data in (b"first", b"second"):
        shelf.keep_checkpoint(source, RECIPE, data)
        assert shelf.checkpoint(source, RECIPE) == data
    assert shelf.checkpoint("b" * 64, RECIPE) is None
    assert shelf.checkpoint(source, RECIPE.untrained) is None
    # A checkpoint is no trained model.
    assert shelf.find(source, RECIPE) is None
    shelf.drop_checkpoint(source, RECIPE)
    assert shelf.checkpoint(source, RECIPE) is None


def test_a_folder_that_cannot_be_made(folder, trained):
    (folder / "user").write_bytes(b"in the way")
    for keep in (lambda: shelf.put(trained), lambda: shelf.keep_checkpoint("a" * 64, RECIPE, b"")):
        with pytest.raises(CompressionError, match="must be a folder that can be made"):
            keep()


def test_one_under_another_name_is_found(folder, subject, trained):
    """A recipe's digest changes where a later version writes it otherwise; the training is not lost."""
    path = shelf.put(trained)
    path.rename(path.with_name(f"{'0' * 24}-{trained.source[:12]}.psc"))
    assert codec.write(shelf.find(subject.statistics.digest, RECIPE)) == codec.write(trained)
    assert shelf.left_out() == ()


def test_a_recipe_that_says_more_than_is_known_is_not_taken_for_the_one_that_is_asked(folder, subject, trained):
    description = {**RECIPE.to_dict(), "later": True}
    shelf.put(replace(trained, description=description))
    assert shelf.find(subject.statistics.digest, RECIPE) is None
    assert shelf.left_out() == ()


def test_what_cannot_be_opened_is_told_of_and_stays(folder, subject, trained):
    assert shelf.left_out() == ()
    good = shelf.put(trained)
    assert shelf.left_out() == ()
    data, kept = good.read_bytes(), []
    for place, changed in enumerate((data[:8] + b"\x01\0" + data[10:], data[:8] + b"\x63\0" + data[10:], data[:50])):
        path = good.with_name(f"{place:024x}-{trained.source[:12]}.psc")
        path.write_bytes(changed)
        kept.append(path)
        told = shelf.left_out()
        assert len(told) == 1 and told[0].startswith(f"{place + 1} trained model")
        assert "has format 1, of an earlier version of this program" in told[0]
    assert shelf.find(subject.statistics.digest, RECIPE) is not None
    assert all(path.exists() for path in kept)
    kept[0].unlink()
    assert "newer version of this program" in shelf.left_out()[0]


def test_trained_models_and_checkpoints_are_their_owners_alone(folder, trained):
    (folder / "user" / "recovered").mkdir(parents=True)
    (folder / "user" / "recovered").chmod(0o755)
    path = shelf.put(trained)
    shelf.keep_checkpoint(trained.source, RECIPE, b"checkpoint")
    for file in (path, shelf.checkpoint_path(trained.source, RECIPE)):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    # Those that ship are for all.
    assert stat.S_IMODE(shelf.put(trained, folder / "shipped").stat().st_mode) & 0o044


def test_a_checkpoint_that_cannot_be_gone_on_from_is_kept_and_told_of(folder, trained):
    shelf.keep_checkpoint(trained.source, RECIPE, b"of another time")
    assert interrupted.unreadable()[0].startswith("1 checkpoint of interrupted trainings in")
    shelf.set_checkpoint_aside(trained.source, RECIPE)
    assert shelf.checkpoint(trained.source, RECIPE) is None and interrupted.unreadable() == ()
    (told,) = shelf.left_out()
    assert told.startswith("1 interrupted training in") and "began anew" in told
    (aside,) = shelf.folder_of_own().glob("*.unreadable")
    assert aside.read_bytes() == b"of another time"
    # Training ended, or was to begin anew.
    shelf.drop_checkpoint(trained.source, RECIPE)
    assert shelf.left_out() == () and not aside.exists()
