"""Plots of results: axes in, axes out, with the numbers of the results in them."""

import sys
import warnings

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from recorded_runs import write_run

import ptmetrics as pm
from ptmetrics.errors import ConfigError, DependencyError
from ptmetrics.show.charts import MOST_CELLS, Curve, draw_confusion, draw_lines


def binary_scores(rows: int = 300) -> pm.Scores:
    torch.manual_seed(0)
    target = torch.randint(0, 2, (rows,))
    metrics = pm.BinaryMetrics(curves="exact")
    metrics.update(torch.randn(rows) + target, target)
    return metrics.compute()


def multilabel_scores() -> pm.Scores:
    torch.manual_seed(0)
    target = torch.randint(0, 2, (200, 3))
    metrics = pm.MultilabelMetrics(3, label_names=["sea", "tree", "car"], curves="exact")
    metrics.update(torch.randn(200, 3) + target, target)
    return metrics.compute()


@pytest.fixture
def ax():
    return Figure().add_subplot()


def points(ax, label: str | None = None) -> np.ndarray:
    """What the longest line, or the one of a label, is drawn through."""
    lines = [line for line in ax.get_lines() if label in (None, line.get_label())]
    return max((line.get_xydata() for line in lines), key=len)


PLOTS = ["plot_confusion", "plot_roc", "plot_precision_recall", "plot_calibration"]


@pytest.mark.parametrize("name", PLOTS)
def test_a_plot_of_scores_returns_the_axes_that_it_was_given(name: str, ax) -> None:
    assert getattr(binary_scores(), name)(ax) is ax
    assert ax.get_xlabel()
    assert ax.get_ylabel()


@pytest.mark.parametrize("name", PLOTS)
def test_without_axes_new_ones_are_made(name: str) -> None:
    pyplot = pytest.importorskip("matplotlib.pyplot")
    pyplot.switch_backend("agg")
    one = getattr(binary_scores(), name)()
    other = getattr(binary_scores(), name)()
    assert one is not other
    pyplot.close("all")


def test_the_curves_are_those_of_the_scores(ax) -> None:
    scores = binary_scores()
    fpr, tpr, _ = scores.roc_curve()
    assert np.array_equal(points(scores.plot_roc(ax)), np.stack([fpr, tpr], 1))
    ax.clear()
    precision, recall, _ = scores.pr_curve()
    drawn = points(scores.plot_precision_recall(ax))
    assert np.array_equal(drawn, np.stack([recall, precision], 1), equal_nan=True)


def test_each_label_has_its_curve_and_one_can_be_asked_for(ax) -> None:
    scores = multilabel_scores()
    scores.plot_roc(ax)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["sea", "tree", "car"]
    fpr, tpr, _ = scores.roc_curve("tree")
    assert np.array_equal(points(ax, "tree"), np.stack([fpr, tpr], 1))
    ax.clear()
    assert len(scores.plot_roc(ax, "tree").get_lines()) == 2, "the curve and the diagonal"
    with pytest.raises(ConfigError, match="label"):
        scores.plot_roc(ax, "bus")


def test_the_calibration_is_that_of_the_bins(ax) -> None:
    scores = binary_scores()
    bins = scores.reliability[scores.reliability["weight"] > 0]
    drawn = points(scores.plot_calibration(ax))
    assert np.array_equal(drawn, np.stack([bins["confidence"], bins["accuracy"]], 1))


def test_the_counts_of_a_confusion_matrix_stand_in_its_cells(ax) -> None:
    scores = binary_scores()
    scores.plot_confusion(ax)
    written = {text.get_position(): text.get_text() for text in ax.texts}
    for actual, row in enumerate(scores.confusion.tolist()):
        for predicted, count in enumerate(row):
            assert written[predicted, actual] == str(count)


def test_no_mistake_among_many_classes_disappears(ax) -> None:
    classes = 1000
    matrix = np.diag(np.full(classes, 50))
    matrix[700, 3] = 1
    draw_confusion(ax, matrix, list(map(str, range(classes))))
    picture = ax.get_images()[0].get_array()
    assert len(picture) <= MOST_CELLS
    off = picture[700 // 4, 3 // 4]
    assert off[3] > 0
    assert off[0] > off[2], "a mistake is red"
    assert (picture[..., 3] > 0).sum() == len(picture) + 1


def test_what_cannot_be_plotted_says_what_is_missing(ax) -> None:
    metrics = pm.BinaryMetrics(inputs="labels")
    metrics.update(torch.tensor([0, 1]), torch.tensor([0, 1]))
    scores = metrics.compute()
    with pytest.raises(ConfigError, match="calibration: expected a metric that keeps confidences"):
        scores.plot_calibration(ax)
    with pytest.raises(ConfigError, match="curves: expected a metric that keeps scores"):
        scores.plot_roc(ax)
    with pytest.raises(ConfigError, match="confusion: expected one matrix"):
        multilabel_scores().plot_confusion(ax)


def test_a_plot_without_matplotlib_says_how_to_install_it(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(DependencyError, match=r"Run pip install 'ptmetrics\[report\]'"):
        binary_scores().plot_roc()


def test_a_history_is_drawn_by_name_and_else_its_losses(tmp_path, ax) -> None:
    history = pm.read_history(write_run(tmp_path / "run"))
    assert history.plot(ax=ax) is ax
    assert {line.get_label() for line in ax.get_lines()} == {"train/loss", "val/loss"}
    ax.clear()
    drawn = points(history.plot("val/accuracy", ax=ax))
    assert drawn.tolist() == [[1, 0.6], [2, 0.8], [3, 0.95], [4, 0.96]]
    both = history.plot("val/accuracy", "train/accuracy", ax=ax)
    assert both.get_ylabel() == "accuracy"
    assert both.lines[-1].get_linestyle() == "--", "training, as in the report"
    with pytest.raises(KeyError, match="history: expected the name of a score"):
        history.plot("val/acuracy", ax=ax)


def test_a_comparison_is_drawn_along_the_time_of_training(tmp_path, ax) -> None:
    first = write_run(tmp_path / "first")
    second = write_run(tmp_path / "second", (0.5, 0.7, 0.8, 0.91), step_s=2.0)
    comparison = pm.compare(first, second, target="val/accuracy>=0.9", hold=1)
    assert comparison.plot(ax, ["tuned", "scratch"]) is ax
    history = pm.read_history(second)
    drawn = points(ax, "scratch")
    assert np.array_equal(drawn[:, 0], history["time/train_cumulative_s"])
    assert np.array_equal(drawn[:, 1], history["val/accuracy"])
    assert points(ax, "target 0.9")[0, 1] == 0.9


def test_a_band_leaves_the_lines_apart(ax) -> None:
    loss = Curve("train", [1, 2], [2.0, 0.5], low=[-9.0, 0.4], high=[13.0, 0.6])
    low, high = draw_lines(ax, [loss], "epoch", "loss").get_ylim()
    assert -0.1 <= low < 0, "a loss is never less than 0"
    assert high == 3.5


def test_without_bands_the_axes_stay_as_they_are(ax) -> None:
    binary_scores().plot_precision_recall(ax)
    assert ax.get_ylim() == (-0.01, 1.01)


def test_a_narrow_band_and_a_target_are_seen_as_a_whole(ax) -> None:
    score = Curve("val", [1, 2], [0.6, 0.8], low=[0.5, 0.7], high=[0.7, 0.9])
    low, high = draw_lines(ax, [score], "epoch", "score", level=(0.95, "target")).get_ylim()
    assert low < 0.5
    assert high > 0.95


def test_counts_are_grouped_by_thousands(ax) -> None:
    draw_confusion(ax, [[12_345, 0], [2.5, 7]], ["a", "b"])
    assert [text.get_text() for text in ax.texts] == ["12,345", "2.5", "7"]


def test_no_name_is_taken_for_a_formula(ax) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        draw_lines(ax, [Curve(r"$\frac{", [0, 1], [0, 1]), Curve("b", [0], [1])], "$x", "$y$")
        ax.figure.canvas.draw()
        draw_confusion(ax, [[1, 0], [0, 1]], [r"$\nothing$", "$$"])
        ax.figure.canvas.draw()


@pytest.mark.parametrize("high", [1.0, 2e9, 3e-7])
def test_the_power_of_ten_of_an_axis_stands_at_its_ticks_and_not_in_the_legend(high: float) -> None:
    ax = Figure().add_subplot()
    heights = np.array([0.1, 0.5, 1.0]) * high
    lines = [Curve("val", [1, 2, 3], heights), Curve("train", [1, 2, 3], heights / 2)]
    draw_lines(ax, lines, "epoch", "loss")
    ticks = [label.get_text() for label in ax.get_yticklabels()]
    assert any("e" in tick for tick in ticks) == (high != 1.0)
