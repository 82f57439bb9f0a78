import numpy as np
import pytest
from paretoscope.figures import confusion
from paretoscope.figures.theme import DARK, LIGHT
from paretoscope.tasks.classification import WORDS
from sklearn.metrics import confusion_matrix, recall_score


@pytest.fixture(scope="module")
def predictions():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, 500)
    return labels, np.where(rng.random(500) < 0.8, labels, rng.integers(0, 10, 500)), rng.integers(0, 10, 500)


def test_counts_and_recall_agree_with_scikit_learn(predictions):
    labels, predicted, baseline = predictions
    data = confusion.gather(labels, predicted, baseline, words=WORDS.errors)
    assert (data.counts == confusion_matrix(labels, predicted)).all()
    assert (data.baseline == confusion_matrix(labels, baseline)).all()
    assert data.recall == pytest.approx(recall_score(labels, predicted, average=None))
    assert data.baseline_recall == pytest.approx(recall_score(labels, baseline, average=None))


def test_the_order_of_the_samples_does_not_matter(predictions):
    order = np.random.default_rng(1).permutation(500)
    one = confusion.gather(*predictions, words=WORDS.errors)
    other = confusion.gather(*(array[order] for array in predictions), words=WORDS.errors)
    assert (one.counts == other.counts).all()


def test_classes_that_data_do_not_name_are_numbers():
    data = confusion.gather(
        np.array([0, 1]), np.array([3, 1]), np.array([0, 4]), classes=("cat", "dog"), words=WORDS.errors
    )
    assert data.classes == ("cat", "dog", "2", "3", "4")
    named = confusion.gather(np.array([0]), np.array([2]), classes=("1", "2"), words=WORDS.errors)
    assert named.classes == ("1", "2", "class 2")
    assert data.counts[0, 3] == data.counts[1, 1] == data.baseline[1, 4] == 1 and data.counts.sum() == 2


def test_names_of_classes_are_text(validated):
    data = confusion.gather(
        np.array([0, 1]), np.array([1, 1]), np.array([0, 1]), classes=("<b>x</b>", "&lt;"), words=WORDS.errors
    )
    shown = ["&lt;b&gt;x&lt;/b&gt;", "&amp;lt;"]
    assert list(validated(confusion.draw(data)).data[0].x) == shown
    assert {*validated(confusion.draw_recall(data)).data[-1].y} == {*shown}


def test_a_class_without_samples_has_no_recall(validated):
    data = confusion.gather(np.array([0, 0, 2]), np.array([0, 1, 2]), classes=("cat", "dog", "fox"), words=WORDS.errors)
    assert data.counts.tolist() == [[1, 1, 0], [0, 0, 0], [0, 0, 1]]
    assert np.isnan(data.recall[1])
    figure = validated(confusion.draw_recall(data))
    assert figure.data[0].x == (50, None, 100)
    validated(confusion.draw(data))


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize("view", ["model", "baseline"])
def test_every_cell_is_on_exactly_one_scale(view, theme, predictions, validated):
    data = confusion.gather(*predictions, words=WORDS.errors)
    hits, mistakes = validated(confusion.draw(data, theme, view=view)).data
    one, other = np.array(hits.z, dtype=float), np.array(mistakes.z, dtype=float)
    assert (np.isnan(one) == ~np.eye(10, dtype=bool)).all()
    assert (np.isnan(other) == np.eye(10, dtype=bool)).all()
    assert (np.nansum([one, other], axis=0) == (data.counts if view == "model" else data.baseline)).all()
    # One scale for both views, or flipping between them would lie.
    assert mistakes.zmax == max(
        data.counts[~np.eye(10, dtype=bool)].max(), data.baseline[~np.eye(10, dtype=bool)].max()
    )


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_change_is_positive_where_it_got_better(theme, validated):
    labels = np.array([0, 0, 1, 1])
    data = confusion.gather(labels, np.array([0, 1, 1, 1]), np.array([0, 0, 0, 1]), words=WORDS.errors)
    (layer,) = validated(confusion.draw(data, theme, view="change")).data
    assert np.array(layer.text).tolist() == [["-1", "+1"], ["-1", "+1"]]
    assert np.array(layer.z).tolist() == [[-1, -1], [1, 1]]
    assert -layer.zmin == layer.zmax == confusion.ALARMING


def test_no_baseline_no_view_of_it():
    data = confusion.gather(np.array([0, 1]), np.array([0, 1]), words=WORDS.errors)
    assert data.baseline_recall is None
    with pytest.raises(ValueError, match="baseline's predictions"):
        confusion.draw(data, view="change")
    assert [trace.name for trace in confusion.draw_recall(data).data] == ["This recipe"]


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_recall_of_model_and_baseline_side_by_side(theme, predictions, validated):
    data = confusion.gather(*predictions, words=WORDS.errors)
    line, hollow, filled = validated(confusion.draw_recall(data, theme)).data
    assert hollow.marker.symbol == "circle-open"
    assert filled.x == pytest.approx(100 * data.recall)
    assert hollow.x == pytest.approx(100 * data.baseline_recall)
    assert [line.x[3 * i] for i in range(10)] == pytest.approx(hollow.x)


@pytest.fixture(scope="module")
def thousand():
    """A thousand classes, each for another that is often taken for it, the more often the lower its number."""
    rng = np.random.default_rng(2)
    labels = np.repeat(np.arange(1000), 50)
    rate = 0.8 - labels / 2000
    predicted = np.where(rng.random(len(labels)) < rate, (labels + 1) % 1000, labels)
    baseline = np.where(rng.random(len(labels)) < 0.3, rng.integers(0, 1000, len(labels)), labels)
    names = [f"<b>{place}</b> {'x' * 60}" for place in range(1000)]
    return confusion.gather(labels, predicted, baseline, words=WORDS.errors, classes=names)


@pytest.mark.parametrize("view", ["model", "baseline", "change"])
def test_of_many_classes_the_pairs_that_are_mixed_up_most_are_drawn(view, thousand, validated):
    figure = validated(confusion.draw(thousand, view=view))
    assert len(figure.to_json()) < 200_000
    _, before, now = figure.data
    weights = {"model": thousand.counts, "baseline": thousand.baseline}.get(view)
    weights = abs(thousand.counts - thousand.baseline) if weights is None else weights
    mistakes = np.sort(weights[~np.eye(1000, dtype=bool)])[::-1][: confusion.SHOWN]
    shown = {"model": now.x, "baseline": before.x, "change": np.abs(np.subtract(now.x, before.x))}[view]
    assert list(shown) == mistakes.tolist() and len(now.x) == confusion.SHOWN
    assert all("&lt;b&gt;" in name and "<b>" not in name for name in figure.layout.yaxis.ticktext)
    assert "1,000 classes" in thousand.note


def test_of_many_classes_those_that_fare_worst_are_drawn(thousand, validated):
    figure = validated(confusion.draw_recall(thousand))
    assert len(figure.to_json()) < 200_000
    _, before, now = figure.data
    lost = np.sort(thousand.recall - thousand.baseline_recall)[: confusion.SHOWN]
    assert np.subtract(now.x, before.x) / 100 == pytest.approx(lost)
    alone = confusion.gather(np.arange(50), np.arange(50) // 2 * 2, words=WORDS.errors)
    assert validated(confusion.draw_recall(alone)).data[0].x[0] == 0
    assert [*validated(confusion.draw(alone)).data[0].x] == [1] * 25


def test_many_classes_without_a_mistake_are_drawn_too(validated):
    data = confusion.gather(np.arange(50), np.arange(50), words=WORDS.errors)
    assert [*validated(confusion.draw(data)).data[0].x] == [] and data.note
    assert not confusion.gather(np.arange(10), np.arange(10), words=WORDS.errors).note
