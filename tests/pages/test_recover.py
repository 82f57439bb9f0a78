"""The Recover page without a browser, on real trainings of a small network: settings, start, pause, cancel, resume."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from paretoscope.codec import shelf
from paretoscope.recipe.recipe import Recipe, Recover
from paretoscope.service.limits import Limits
from paretoscope.service.parties import Party, asking
from paretoscope.service.presets import best_known
from paretoscope.service.study import StudyKind
from paretoscope.training.train import Trainer
from streamlit.testing.v1 import AppTest

from pages.components import controls, plain, state, students, trainings

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
MODEL = "lenet-300-100"
SHORT = {"epochs": 2, "distill": 0.5, "ramp": 0.5}
LONG = {"epochs": 500, "distill": 0.5}
PATIENCE_S = 60.0


@pytest.fixture(autouse=True)
def nothing_left_running() -> Iterator[None]:
    yield
    for found in (*trainings.trainings().values(), *students.shrinkings().values()):
        found.job.cancel()
        assert found.job.wait(PATIENCE_S)
    trainings.trainings().clear()
    students.shrinkings().clear()


def open_page(recipe: Recipe, page_file: str = "pages/recover.py") -> AppTest:
    page = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)
    page.query_params.update({"model": MODEL, **recipe.to_query()})
    page.switch_page(page_file).run()
    assert not page.exception
    return page


def asked(recipe: Recipe, **training) -> AppTest:
    """The page with these settings for the training of a recipe that has none."""
    page = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)
    page.query_params.update({"model": MODEL, **recipe.to_query()})
    page.session_state["training"] = Recover(**training), None
    page.switch_page("pages/recover.py").run()
    assert not page.exception
    return page


def until(page: AppTest, holds: Callable[[AppTest], bool], seconds: float = PATIENCE_S) -> AppTest:
    """Run the page again, as the polling fragment does in a browser, until it shows something."""
    deadline = time.monotonic() + seconds
    while not holds(page):
        assert time.monotonic() < deadline, texts(page)
        time.sleep(0.05)
        page.run()
        assert not page.exception
    return page


def texts(page: AppTest) -> str:
    return "\n".join(element.value for element in (*page.markdown, *page.caption))


def has_button(page: AppTest, key: str) -> bool:
    return any(button.key == key for button in page.button)


def press(page: AppTest, key: str) -> AppTest:
    page.button(key=key).click().run()
    assert not page.exception
    return page


def settings_of(page: AppTest) -> Recover:
    return page.session_state.training[0]


def job_of(recipe: Recipe):
    return trainings.trainings()[MODEL, recipe].job


def figures(page: AppTest) -> list[str]:
    return [
        element.proto.json
        for element in page.get("bidi_component")
        if element.proto.component_name == "figure" and element.proto.json
    ]


def rows(page: AppTest) -> list[dict]:
    return page.dataframe[0].value.to_dict("records")


def trained(recipe: Recipe) -> AppTest:
    """The page once a recipe has been trained on it, shortly."""
    page = asked(recipe, **SHORT)
    if not has_button(page, "load_trained"):
        press(page, "train")
    return until(page, lambda page: has_button(page, "load_trained"))


def test_before_training_the_page_says_what_there_is_to_win_back() -> None:
    page = open_page(Recipe.of(sparsity=0.91, bits=4))
    until(page, lambda page: "Not trained yet: without training" in texts(page))
    assert page.button(key="train").label == "Start" and not page.button(key="train").disabled
    assert [row[""] for row in rows(page)] == ["Baseline", "Without training"]
    assert not page.warning and not page.error and not figures(page)


def test_a_training_ends_in_figures_a_price_and_a_result_that_can_be_loaded() -> None:
    start = Recipe.of(sparsity=0.92, bits=4)
    page = trained(start)
    recipe = Recipe.of(**{**start.settings(), **SHORT})
    bench = state.workbench()
    kept = bench.known(StudyKind.RECOVER, MODEL, recipe)
    before, after = bench.find(MODEL, start).record, bench.find(MODEL, kept.recipe).record
    won = 100 * (after.figures.accuracy - before.figures.accuracy)
    assert won > 10 and f"Won back {won:.2f} of " in texts(page)
    assert f"Epoch {kept.best} of 2 was the best" in texts(page)
    assert len(figures(page)) == 3
    assert page.button(key="train").disabled
    table = {row[""]: row for row in rows(page)}
    assert list(table) == ["Baseline", "Without training", "Trained"]
    assert table["Trained"]["Accuracy"] == f"{100 * after.figures.accuracy:.2f} %"
    for name, record in (("Without training", before), ("Trained", after)):
        assert table[name]["Against the baseline"].startswith("no ") == (not record.figures.distinguishable)
    press(page, "load_trained")
    assert page.session_state.view.recipe == kept.recipe == recipe
    assert page.query_params["epochs"] in ("2", ["2"])
    assert not has_button(page, "load_trained") and len(figures(page)) == 3


def test_the_link_of_a_trained_recipe_shows_its_curves_and_explore_draws_it_with_an_arrow() -> None:
    start = Recipe.of(sparsity=0.92, bits=4)
    trained(start)
    recipe = Recipe.of(**{**start.settings(), **SHORT})
    page = open_page(recipe)
    assert len(figures(page)) == 3 and "Won back" in texts(page) and not has_button(page, "load_trained")
    assert settings_of(page) == recipe.recover
    explore = open_page(recipe, "pages/explore.py")
    until(explore, lambda page: page.metric and not any("…" in each.value for each in page.metric))
    # The explorer's scene leads from a recipe of its board to the same one with training.
    board = state.workbench().board(MODEL)
    assert not explore.error and board.place(recipe.digest) in board.trained()
    assert board.place(recipe.untrained.digest) is not None
    for tab, page_file in (("Sweeps", "explore"), ("Waterfall", "layers")):
        page = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)
        page.query_params.update({"model": MODEL, **recipe.to_query()})
        page.session_state["tab" if page_file == "explore" else "layers_tab"] = tab
        page.switch_page(f"pages/{page_file}.py").run()
        assert not page.exception and "without its training" in texts(page)


MOVES = [
    ("selectbox", "source", "labels", {"distill": 0.0}, {}),
    ("selectbox", "source", "teacher", {"distill": 1.0}, {}),
    ("selectbox", "source", "both", {"distill": 0.5}, {"distill": 0.0}),
    ("selectbox", "pace", "one-shot", {"ramp": 0.0}, {}),
    ("selectbox", "pace", "gradual", {"ramp": 0.5}, {"ramp": 0.0}),
    ("number_input", "epochs", 7, {"epochs": 7}, {}),
    ("number_input", "learning_rate", 0.01, {"learning_rate": 0.01}, {}),
    ("selectbox", "schedule", "constant", {"schedule": "constant"}, {}),
    ("number_input", "mix", 0.25, {"distill": 0.25}, {}),
    ("selectbox", "teacher", "lenet-5", {"teacher": "lenet-5"}, {}),
    ("number_input", "temperature", 2.0, {"temperature": 2.0}, {}),
    ("number_input", "ramp", 0.75, {"ramp": 0.75}, {}),
    ("number_input", "average", 0.9, {"average": 0.9}, {}),
    ("number_input", "patience", 3, {"patience": 3}, {}),
    ("number_input", "minibatch", 20, {"minibatch": 20}, {}),
    ("number_input", "seed", 5, {"seed": 5}, {}),
    ("toggle", "augment", False, {"augment": False}, {}),
]


@pytest.mark.parametrize(("kind", "name", "value", "changes", "beside"), MOVES, ids=[move[1] for move in MOVES])
def test_every_control_moves_its_own_setting(kind, name, value, changes, beside) -> None:
    page = asked(Recipe.of(sparsity=0.91, bits=4), **{**SHORT, **beside})
    before = settings_of(page)
    getattr(page, kind)(key=f"training_{name}").set_value(value).run()
    assert not page.exception and not page.warning
    assert settings_of(page) == replace(before, **changes) != before
    # Its own widget shows it, and another run changes nothing.
    assert getattr(page.run(), kind)(key=f"training_{name}").value == value
    assert settings_of(page) == replace(before, **changes)


def test_a_teacher_of_other_images_is_shown_and_told_when_training_starts() -> None:
    page = open_page(Recipe.of(sparsity=0.91, bits=4, **SHORT, teacher="resnet-20"))
    assert not page.exception and page.selectbox(key="training_teacher").value == "resnet-20"
    page.button(key="train").click().run()
    until(page, lambda page: len(page.error) > 0)
    assert "teacher must be another model for the inputs of lenet-300-100: lenet-5" in page.error[0].value


def test_a_teacher_stays_behind_with_the_model_that_had_it() -> None:
    page = asked(Recipe.of(sparsity=0.91, bits=4), **SHORT)
    page.selectbox(key="training_teacher").set_value("lenet-5").run()
    page.query_params.clear()
    page.query_params.update({"model": "simple-cnn", **Recipe.of(sparsity=0.91, bits=4).to_query()})
    page.run()
    assert not page.exception
    assert settings_of(page) == Recover(**SHORT)


def test_a_model_gets_back_the_settings_that_it_had() -> None:
    page = asked(Recipe.of(sparsity=0.91, bits=4), **SHORT)
    page.selectbox(key="training_teacher").set_value("lenet-5").run()
    page.selectbox(key=controls.CONTROLS + "model").set_value("simple-cnn").run()
    # The recipe that it opens on says how it was trained.
    assert not page.exception and settings_of(page) == best_known("simple-cnn").recipe.recover
    page.selectbox(key=controls.CONTROLS + "model").set_value(MODEL).run()
    assert not page.exception
    assert settings_of(page) == Recover(**SHORT, teacher="lenet-5")
    assert page.number_input(key="training_epochs").value == SHORT["epochs"]


def test_settings_outlive_a_visit_to_another_page() -> None:
    page = asked(Recipe.of(sparsity=0.91, bits=4), **SHORT)
    page.number_input(key="training_seed").set_value(5).run()
    page.number_input(key="training_minutes").set_value(2.5).run()
    page.switch_page("pages/methods.py").run()
    page.switch_page("pages/recover.py").run()
    assert not page.exception
    assert page.session_state.training == (Recover(**SHORT, seed=5), 2.5)
    assert page.number_input(key="training_seed").value == 5 and page.number_input(key="training_minutes").value == 2.5
    page.number_input(key="training_minutes").set_value(None).run()
    assert page.session_state.training[1] is None


@pytest.mark.parametrize(
    ("name", "value"),
    [("learning_rate", 0.0), ("epochs", 0), ("mix", 1.5), ("temperature", 0.0), ("ramp", 1.0), ("minutes", -1.0)],
)
def test_a_value_that_no_recipe_allows_is_not_taken(name: str, value: float) -> None:
    page = asked(Recipe.of(sparsity=0.91, bits=4), **SHORT)
    page.number_input(key=f"training_{name}").set_value(value).run()
    assert not page.exception
    # The widget falls back to what it allows; nothing else changes.
    taken = page.number_input(key=f"training_{name}").value
    assert taken != value
    if name != "minutes":
        setting = {"mix": "distill"}.get(name, name)
        assert settings_of(page) == replace(Recover(**SHORT), **{setting: taken})


@pytest.mark.parametrize(
    ("query", "rule"),
    [
        ({"epochs": "-1"}, "epochs must be 0 or more; got -1"),
        ({"epochs": "3", "distill": "2"}, "distill must be in [0, 1]; got 2"),
        ({"epochs": "3", "stopped": "4"}, "stopped must be an epoch of the 3; got 4"),
        ({"epochs": "3", "schedule": "steps"}, "schedule must be 'cosine' or 'constant'"),
        ({"epochs": "many"}, "epochs in a link must be a number"),
    ],
)
def test_a_link_that_breaks_a_rule_is_told_and_the_page_works(query: dict[str, str], rule: str) -> None:
    page = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)
    page.query_params.update({"model": MODEL, **query})
    page.switch_page("pages/recover.py").run()
    assert not page.exception and plain.escape(rule) in page.warning[0].value
    assert not page.button(key="train").disabled


def test_numbers_of_a_link_beyond_the_limits_of_their_controls_are_shown() -> None:
    recipe = Recipe.of(bits=4, epochs=5000, learning_rate=1e-9, distill=0.001, ramp=0.999, seed=2**60)
    page = open_page(recipe)
    assert not page.warning
    assert page.number_input(key="training_epochs").value == 5000
    assert page.number_input(key="training_learning_rate").value == 1e-9


def test_a_trained_recipe_that_is_not_here_leads_to_the_page_that_trains_it() -> None:
    recipe = Recipe.of(sparsity=0.93, bits=4, epochs=3, stopped=2, seed=3)
    for page_file in ("explore", "layers", "latency", "export"):
        page = open_page(recipe, f"pages/{page_file}.py")
        until(page, lambda page: len(page.error) > 0)
        assert "must have been trained on this machine" in page.error[0].value
        links = [element.proto.label for element in page.get("page_link")]
        assert "Train it on the page Recover" in links
    page = open_page(recipe)
    # Ended after its second epoch: repeated exactly, so that the link opens afterwards.
    assert settings_of(page) == recipe.recover
    press(page, "train")
    until(page, lambda page: not job_of_or_none(recipe) and state.available(MODEL, recipe))
    explore = open_page(recipe, "pages/explore.py")
    until(explore, lambda page: page.metric and not any("…" in each.value for each in page.metric))
    assert not explore.error


def job_of_or_none(recipe: Recipe):
    found = trainings.trainings().get((MODEL, recipe))
    return None if found is None or found.job.ended else found.job


def test_moving_a_control_of_a_training_that_was_ended_asks_for_all_its_epochs() -> None:
    page = open_page(Recipe.of(sparsity=0.93, bits=4, epochs=3, stopped=2, seed=4))
    assert settings_of(page).stopped == 2
    page.number_input(key="training_seed").set_value(5).run()
    assert settings_of(page) == Recover(epochs=3, seed=5)


def as_visitor(name: str, page: AppTest) -> AppTest:
    """The page as another visitor has it: in a test all sessions are one."""
    page.session_state["visitor"] = name
    page.run()
    assert not page.exception
    return page


def test_a_training_is_seen_by_every_session_and_belongs_to_the_visitors_who_want_it() -> None:
    start = Recipe.of(sparsity=0.94, bits=4)
    recipe = Recipe.of(**{**start.settings(), **LONG})
    page = asked(start, **LONG)
    press(page, "train")
    job = job_of(recipe)
    until(page, lambda page: len(figures(page)) == 3)
    assert page.button(key="train").disabled and "of 500" in texts(page)

    # One visitor in two tabs.
    other = asked(start, **LONG)
    assert other.button(key="train").disabled
    press(other, "pause")
    assert job.paused
    until(page.run(), lambda page: has_button(page, "go_on"))
    assert "Paused: epoch" in texts(page)

    # Another one sees it, and may not end or pause it; to want it sets it going, and to cancel lets go of that alone.
    stranger = as_visitor("b", asked(start, **LONG))
    assert not has_button(stranger, "cancel_training") and not has_button(stranger, "go_on")
    press(stranger, "want_training")
    assert not job.paused and len(job.parties) == 2
    until(page.run(), lambda page: page.button(key="pause").disabled)
    press(stranger, "cancel_training")
    assert not job.cancelling and len(job.parties) == 1 and has_button(stranger, "want_training")
    with asking(Party("c")):  # a second start by one more, with another budget
        assert state.workbench().ask(StudyKind.RECOVER, MODEL, recipe, 5.0) is job
    job.let_go(Party("c"))
    until(page.run(), lambda page: not page.button(key="pause").disabled)

    elsewhere = open_page(Recipe.of(sparsity=0.5))
    assert "Also training: " in texts(elsewhere)
    press(elsewhere, "show_0")
    assert elsewhere.session_state.view.recipe == start and settings_of(elsewhere) == recipe.recover
    until(elsewhere, lambda page: job.partial[-1].number >= 3)
    press(elsewhere, "cancel_training")
    assert job.wait(PATIENCE_S) and job.state == "cancelled"
    until(page, lambda page: has_button(page, "load_trained"))
    last = state.workbench().known(StudyKind.RECOVER, MODEL, recipe).epochs[-1].number
    assert f"Ended after {last} of 500 epochs" in texts(page)
    assert page.button(key="train").label == "Go on" and not page.button(key="train").disabled
    press(page, "load_trained")
    assert page.session_state.view.recipe.recover.stopped == last
    # The view is the result; the request is still the whole training.
    assert settings_of(page) == recipe.recover


def test_a_budget_of_minutes_ends_it_with_the_best_so_far() -> None:
    start = Recipe.of(sparsity=0.945, bits=4)
    page = asked(start, **LONG)
    page.number_input(key="training_minutes").set_value(0.01).run()
    press(page, "train")
    until(page, lambda page: has_button(page, "load_trained"))
    kept = state.workbench().known(StudyKind.RECOVER, MODEL, Recipe.of(**{**start.settings(), **LONG}))
    assert 0 < kept.epochs[-1].number < 500 and kept.recipe.recover.stopped == kept.epochs[-1].number


def interrupt(recipe: Recipe) -> str:
    """Leave what a process leaves that was killed after its first epoch; returns the digest of the baseline."""
    trainer = Trainer(state.subject(MODEL), recipe)
    epochs = trainer.run()
    next(epochs), next(epochs)
    source = trainer.subject.statistics.digest
    shelf.keep_checkpoint(source, recipe, trainer.checkpoint())
    return source


def test_an_interrupted_training_is_offered_and_goes_on() -> None:
    recipe = Recipe.of(sparsity=0.95, bits=4, epochs=2)
    interrupt(recipe)
    page = open_page(Recipe.of(sparsity=0.5))
    place = next(each for each in range(3) if "95 % sparse" in left(page)[each])
    assert "Interrupted after epoch 1 of 2" in left(page)[place]
    press(page, f"resume_{place}")
    assert page.session_state.view.recipe == recipe.untrained
    until(page, lambda page: has_button(page, "load_trained"))
    assert [each.number for each in state.workbench().known(StudyKind.RECOVER, MODEL, recipe).epochs] == [0, 1, 2]
    assert not any("95 % sparse" in each for each in left(page))


def left(page: AppTest) -> list[str]:
    return [each.value for each in page.markdown if "Interrupted after" in each.value]


def test_an_interrupted_training_goes_on_by_its_own_settings_and_can_be_forgotten() -> None:
    recipe = Recipe.of(sparsity=0.955, bits=4, epochs=3)
    source = interrupt(recipe)
    page = open_page(recipe)
    assert page.button(key="train").label == "Go on" and "can go on from its last epoch" in texts(page)
    page = open_page(Recipe.of(sparsity=0.5))
    place = next(each for each, text in enumerate(left(page)) if "95.5 % sparse" in text)
    press(page, f"forget_{place}")
    assert shelf.checkpoint(source, recipe) is None
    assert not any("95.5 % sparse" in each for each in left(page))


def test_what_training_refuses_is_told() -> None:
    page = asked(Recipe.of(sparsity=0.9, nodes=0.2, importance="bn"), **SHORT)
    until(page, lambda page: len(page.error) > 0)
    assert "importance 'bn' needs a batch normalisation" in page.error[0].value
    press(page, "train")
    until(page, lambda page: not page.button(key="train").disabled)
    assert any("importance 'bn' needs" in each.value for each in page.error)


def test_smaller_students_are_listed_with_what_they_hold_and_the_last_that_holds_is_loaded() -> None:
    page = asked(Recipe.of(bits=8), epochs=1)
    page.number_input(key="student_epochs").set_value(1).run()
    page.number_input(key="student_points").set_value(30.0).run()
    press(page, "shrink")
    assert page.button(key="shrink").disabled or students.pace(request_of(page)) is None
    until(page, lambda page: not page.button(key="shrink").disabled and len(page.dataframe) == 2)
    steps = page.dataframe[1].value.to_dict("records")
    assert [row["Nodes removed"] for row in steps][:2] == ["25 %", "37.5 %"]
    assert all(row["Requirement"] == "✓ holds" for row in steps[:-1])
    held = [row for row in steps if row["Requirement"] == "✓ holds"]
    press(page, "load_student")
    recipe = page.session_state.view.recipe
    assert f"{100 * recipe.simplify.nodes:.4g} %" == held[-1]["Nodes removed"] and recipe.recover.epochs == 1


def request_of(page: AppTest) -> trainings.Request:
    view = page.session_state.view
    return trainings.Request(view.model, replace(view.recipe.untrained, recover=settings_of(page)), None)


def test_a_network_without_blocks_says_so_when_its_depth_is_to_shrink() -> None:
    page = asked(Recipe.of(bits=8), epochs=1)
    page.selectbox(key="student_axis").set_value("depth").run()
    press(page, "shrink")
    until(page, lambda page: len(page.error) > 0)
    assert "depth must have a residual block left to drop" in page.error[0].value


def test_a_trained_model_without_its_epochs_is_shown_and_can_be_trained_again(monkeypatch, tmp_path) -> None:
    recipe = Recipe.of(sparsity=0.89, bits=5, **SHORT)
    bench = state.workbench()
    made = replace(bench.compressed(MODEL, recipe.untrained), recipe=recipe)
    monkeypatch.setattr(shelf, "SHIPPED", tmp_path)
    shelf.put(made, folder=tmp_path)
    page = until(open_page(recipe), lambda page: "Trained: " in texts(page))
    assert "Not trained yet" not in texts(page) and not has_button(page, "load_trained")
    assert page.button(key="train").label == "Train again" and not page.button(key="train").disabled
    (table,) = page.dataframe
    assert list(table.value[""]) == ["Baseline", "Without training", "Trained"]
    assert trainings.known(trainings.Request(MODEL, recipe, None)).recovery is None
    # Loading it is offered where the view is another.
    page = until(asked(recipe.untrained, **SHORT), lambda page: "Trained: " in texts(page))
    assert press(page, "load_trained").session_state.view.recipe == recipe
    press(page, "train")
    until(page, lambda page: page.button(key="train").label == "Trained")
    assert bench.known(StudyKind.RECOVER, MODEL, recipe).recipe == recipe


def test_a_training_above_the_limits_is_refused_with_a_remedy_that_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state.workbench(), "limits", Limits(epochs=2))
    start = Recipe.of(sparsity=0.91, bits=4)
    page = asked(start, epochs=3)
    press(page, "train")
    (told,) = [error.value for error in page.error]
    assert told == (
        "Not started: the epochs of a training must be at most 2 on this server; got 3. "
        "Train fewer, or on your own machine."
    )
    page.number_input(key="training_epochs").set_value(1).run()
    press(page, "train")
    assert not page.error
    assert job_of(Recipe.of(**{**start.settings(), "epochs": 1})).wait(PATIENCE_S)


def test_a_training_that_was_left_says_so_and_can_be_gone_on_with(monkeypatch: pytest.MonkeyPatch) -> None:
    start = Recipe.of(sparsity=0.92, bits=4)
    recipe = Recipe.of(**{**start.settings(), **LONG})
    page = asked(start, **LONG)
    press(page, "train")
    job = job_of(recipe)
    until(page, lambda page: len(job.partial or ()) > 2)
    there = [False]
    monkeypatch.setattr(job._scheduler, "present", lambda visitor: there[0])
    monkeypatch.setattr(job, "_patience", 0.01)
    assert job.wait(PATIENCE_S) and job.state == "cancelled"
    done = job.partial[-1].number
    until(page.run(), lambda page: page.button(key="train").label == "Go on")
    assert [info.value for info in page.info] == [
        "The training was ended, and can be gone on with: nobody who wanted it was here for 0.01 s."
    ]
    there[0] = True
    press(page, "train")
    job = job_of(recipe)
    until(page, lambda page: len(job.partial or ()) > done + 2)
    assert [epoch.number for epoch in job.partial] == list(range(job.partial[-1].number + 1))
    press(page, "cancel_training")
    assert job.wait(PATIENCE_S)
