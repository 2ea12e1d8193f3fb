"""torchmetrics inside our monitor, and our metrics where torchmetrics' are expected."""

import copy
import math
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torchmetrics
from registry import CASES, MetricCase
from torch import Tensor
from torchmetrics import classification as tm

import ptmetrics as pm
from ptmetrics.errors import ConfigError, DependencyError, StateError


def batches(count: int = 3, rows: int = 40, classes: int = 4) -> list[tuple[Tensor, Tensor]]:
    g = torch.Generator().manual_seed(0)
    return [
        (torch.randn(rows, classes, generator=g), torch.randint(0, classes, (rows,), generator=g))
        for _ in range(count)
    ]


def collection() -> torchmetrics.MetricCollection:
    how: dict[str, Any] = {"num_classes": 4, "average": "macro"}
    return torchmetrics.MetricCollection(
        {
            "f1": tm.MulticlassF1Score(**how),
            "recall": tm.MulticlassRecall(**how),
            "auroc": tm.MulticlassAUROC(4),  # keeps all predictions, in lists
            "ece": tm.MulticlassCalibrationError(4),
            "each": tm.MulticlassRecall(4, average="none"),
            "matrix": tm.MulticlassConfusionMatrix(4),
        }
    )


def fed(metric: Any, data: list[tuple[Tensor, Tensor]]) -> Any:
    for batch in data:
        metric.update(*batch)
    return metric


# Theirs as ours.


def test_a_collection_gives_a_score_an_entry_equal_to_torchmetrics_own() -> None:
    expected = fed(collection(), batches()).compute()
    got = fed(pm.from_torchmetrics(collection()), batches()).compute()
    assert set(got) == {"f1", "recall", "auroc", "ece", *(f"each/{i}" for i in range(4))}
    for name in ("f1", "recall", "auroc", "ece"):
        assert got[name].value == float(expected[name])
        assert got[name].method == "none"
        assert got[name].n == 120
        assert math.isnan(got[name].low)
    assert [got[f"each/{i}"].value for i in range(4)] == expected["each"].tolist()
    assert [name for name, score in got.items() if not score.higher_is_better] == ["ece"]
    assert any("matrix is no score but a tensor of shape (4, 4)" in note for note in got.notes)
    assert "gives no interval" in str(got)


def test_the_users_metric_stays_as_it_is() -> None:
    mine = tm.MulticlassAccuracy(4)
    fed(pm.from_torchmetrics(mine), batches())
    assert mine.update_count == 0


def test_before_the_first_batch_every_score_is_nan_and_says_so() -> None:
    got = pm.from_torchmetrics(tm.MulticlassAUROC(4)).compute()
    assert got["MulticlassAUROC"].reason == "no samples were counted"


@pytest.mark.parametrize(
    "make", [collection, lambda: tm.MulticlassAccuracy(4)], ids=["collection", "metric"]
)
def test_a_stored_half_goes_on_as_if_nothing_had_happened(make: Any, tmp_path: Path) -> None:
    whole = fed(pm.from_torchmetrics(make()), batches())
    half = fed(pm.from_torchmetrics(make()), batches()[:1])
    torch.save(half.state_dict(), tmp_path / "state.pt")
    fed(half, batches()[1:])  # what was stored does not change any more
    resumed = whole.fresh()
    resumed.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert resumed.updates == 1
    fed(resumed, batches()[1:])
    assert repr(resumed.compute().to_dict()) == repr(whole.compute().to_dict())
    resumed.reset()
    assert resumed.updates == resumed.compute().n == 0


def test_parts_merge_into_the_whole() -> None:
    whole = fed(pm.from_torchmetrics(collection()), batches())
    parts = [fed(whole.fresh(), [batch]) for batch in batches()]
    merged = whole.fresh().merge_state(parts)
    assert merged.updates == 3
    for name, score in whole.compute().items():
        assert merged.compute()[name].value == pytest.approx(score.value, rel=1e-6)


def test_states_of_another_metric_are_refused() -> None:
    one = pm.from_torchmetrics(tm.MulticlassConfusionMatrix(4))
    with pytest.raises(
        StateError, match=r"expected the states of .*, got others. Load the state of the same"
    ):
        one.load_state_dict(pm.MulticlassMetrics(4).state_dict())
    with pytest.raises(
        StateError, match=r"state_dict: expected the configuration .* Build both metrics with"
    ):
        one.load_state_dict(pm.from_torchmetrics(tm.MulticlassConfusionMatrix(5)).state_dict())
    with pytest.raises(StateError, match="merge_state: expected the configuration"):
        one.merge_state([pm.from_torchmetrics(tm.MulticlassConfusionMatrix(5))])


def test_a_monitor_takes_them_with_faults_contained_and_early_stopping(tmp_path: Path) -> None:
    stopping = pm.EarlyStopping("val/f1", patience=3)
    metrics = pm.from_torchmetrics(collection())
    with pm.Monitor(metrics, run=tmp_path / "run", callbacks=[stopping], progress=False) as monitor:
        for preds, target in batches():
            monitor.update(preds, target, loss=1.0, split="val")
        monitor.update(
            torch.zeros(3, 4), torch.tensor([0, 1, 9]), split="val"
        )  # torchmetrics raises
        scores = monitor.end_epoch()
    expected = fed(collection(), batches()).compute()
    assert scores["val/f1"].value == float(expected["f1"])
    assert pm.read_history(tmp_path / "run")["val/f1"] == [float(expected["f1"])]
    assert len(monitor.faults) == 1


def test_texts_go_through_a_monitor_as_lists(tmp_path: Path) -> None:
    preds = ["the cat is on the mat", "a dog is in the garden", "no", "yes"]
    target = ["a cat is on the mat", "a dog was in the garden", "no", "no"]
    expected = torchmetrics.text.CharErrorRate()
    theirs = pm.from_torchmetrics(torchmetrics.text.CharErrorRate())
    monitor = pm.Monitor(theirs, run=tmp_path / "run", on_fault="raise")
    for rows in (slice(0, 3), slice(3, 4)):
        expected.update(preds[rows], target[rows])
        monitor.update(preds[rows], target[rows], loss=0.5, split="val")
    scores = monitor.end_epoch()
    assert scores["val/CharErrorRate"].value == float(expected.compute())
    assert scores["val/CharErrorRate"].n == 4
    assert scores["val/loss"].n == 4
    monitor.close()
    assert pm.read_history(tmp_path / "run")[-1]["counts/val_samples"] == 4


def test_a_bare_metric_of_torchmetrics_is_told_the_way_in() -> None:
    with pytest.raises(
        ConfigError, match=r"got MulticlassAccuracy. Pass pm.from_torchmetrics\(metric\)."
    ):
        pm.Monitor(tm.MulticlassAccuracy(4))  # type: ignore[arg-type]
    with pytest.raises(
        ConfigError, match=r"metric: expected a torchmetrics.Metric or MetricCollection, got int"
    ):
        pm.from_torchmetrics(3)
    with pytest.raises(
        ConfigError, match=r"sample_weight: expected None beside metrics of torchmetrics"
    ):
        pm.from_torchmetrics(tm.MulticlassAccuracy(4)).update(*batches()[0], torch.ones(40))


# Ours as theirs.


@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
@pytest.mark.slow
def test_ours_counts_computes_and_merges_ranks_as_before(case: MetricCase, weighted: bool) -> None:
    data = [case.batch(30, seed, weighted) for seed in range(3)]
    expected = case.counted(data).compute()
    ranks = [pm.to_torchmetrics(case.make(), weighted=weighted) for _ in data]
    for rank, batch in zip(ranks, data, strict=True):
        batch.feed(rank)
    gathered = [
        copy.deepcopy(rank.metric_state) for rank in ranks
    ]  # all ranks' states, as all_gather gives them
    first = ranks[0]

    def gather(tensor: Tensor, group: Any = None) -> list[Tensor]:
        (name,) = [name for name, value in first.metric_state.items() if value is tensor]
        return [state[name] for state in gathered]

    first.dist_sync_fn, first.distributed_available_fn = gather, lambda: True
    got = first.compute()
    assert set(got) == set(expected)
    for name, score in expected.items():
        assert float(got[name]) == pytest.approx(score.value, rel=1e-9, abs=1e-12, nan_ok=True)
        assert got[name].dtype == torch.float64
    first.distributed_available_fn, first._computed = (
        lambda: False,
        None,
    )  # each rank keeps its own counts
    alone = case.counted(data[:1]).compute()
    for name, score in first.compute().items():
        assert float(score) == pytest.approx(alone[name].value, rel=1e-12, nan_ok=True)


def test_forward_gives_the_batch_and_keeps_the_whole() -> None:
    metric = pm.to_torchmetrics(pm.MulticlassMetrics(4), "f1/macro")
    assert isinstance(metric, torchmetrics.Metric)
    whole = pm.MulticlassMetrics(4)
    for batch in batches():
        alone = pm.MulticlassMetrics(4)
        alone.update(*batch)
        whole.update(*batch)
        assert float(metric(*batch)) == alone.compute()["f1/macro"].value
    assert float(metric.compute()) == whole.compute()["f1/macro"].value
    assert metric.higher_is_better is True
    assert pm.to_torchmetrics(pm.RegressionMetrics(), "mse").higher_is_better is False
    assert pm.to_torchmetrics(pm.RegressionMetrics()).higher_is_better is None
    metric.reset()
    metric.update(*batches()[0])
    assert float(metric.compute()) == float(metric(*batches()[0]))


def test_in_a_collection_scores_of_one_count_share_it_and_others_never_do() -> None:
    both = torchmetrics.MetricCollection(
        {
            "accuracy": pm.to_torchmetrics(pm.MulticlassMetrics(4), "accuracy"),
            "mcc": pm.to_torchmetrics(pm.MulticlassMetrics(4), "mcc"),
            "kept": pm.to_torchmetrics(pm.MulticlassMetrics(4, ignore_index=0), "accuracy"),
            "theirs": tm.MulticlassAccuracy(4, average="micro"),
        }
    )
    data = [(p, t.clamp(min=1)) for p, t in batches()[:1]] + batches()[
        1:
    ]  # at first nothing is ignored
    got = fed(both, data).compute()
    groups = sorted(sorted(group) for group in both.compute_groups.values())
    assert ["accuracy", "mcc"] in groups
    assert ["kept"] in groups
    assert float(got["accuracy"]) == pytest.approx(float(got["theirs"]), rel=1e-6)
    expected = fed(pm.MulticlassMetrics(4, ignore_index=0), data).compute()
    assert float(got["kept"]) == expected["accuracy"].value != float(got["accuracy"])


def test_counts_survive_bfloat16_pickle_and_a_checkpoint() -> None:
    metric = fed(
        pm.to_torchmetrics(pm.RegressionMetrics(), "r2"), [(torch.rand(9), torch.rand(9))] * 2
    )
    value = float(metric.compute())
    model = torch.nn.ModuleDict({"metric": metric, "layer": torch.nn.Linear(2, 2)}).to(
        torch.bfloat16
    )
    metric._computed = None
    assert float(model["metric"].compute()) == value
    assert float(pickle.loads(pickle.dumps(metric)).compute()) == value
    metric.persistent(True)
    other = pm.to_torchmetrics(pm.RegressionMetrics(), "r2")
    other.persistent(True)
    other.load_state_dict(metric.state_dict())
    other._update_count = 1
    assert float(other.compute()) == value


def test_what_ours_cannot_be_is_said() -> None:
    with pytest.raises(
        ConfigError, match=r"score: expected one of accuracy, .*, got 'acc'. Pass the name of"
    ):
        pm.to_torchmetrics(pm.MulticlassMetrics(4), "acc")
    with pytest.raises(
        ConfigError, match="metrics: expected metrics of ptmetrics, got MulticlassAccuracy"
    ):
        pm.to_torchmetrics(tm.MulticlassAccuracy(4))  # type: ignore[arg-type]
    metric = pm.to_torchmetrics(pm.MulticlassMetrics(4), "accuracy")
    with pytest.raises(
        ConfigError, match=r"got weights without it. Pass to_torchmetrics\(metrics, score, wei"
    ):
        metric.update(*batches()[0], torch.ones(40))


def test_without_torchmetrics_there_is_the_line_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "ptmetrics.integrations.as_torchmetrics", None)
    with pytest.raises(
        DependencyError, match=r"torchmetrics: expected an installed .* Run pip install torchm"
    ):
        pm.to_torchmetrics(pm.MulticlassMetrics(4), "accuracy")


@pytest.mark.slow
def test_torchmetrics_is_not_imported_unless_asked_for() -> None:
    code = "import sys, ptmetrics as pm; pm.from_torchmetrics; pm.Monitor; print('torchmetrics' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"
