"""The benchmark works on tiny sizes, says who is missing, and notices a peer whose numbers are not ours."""

import json
from types import SimpleNamespace

import pytest
import torch
from sklearn.metrics import average_precision_score, roc_auc_score

from ptmetrics import MulticlassMetrics
from ptmetrics.bench import metrics, peers
from ptmetrics.bench.peers import Side, installed, ours
from ptmetrics.bench.ranking import exactly
from ptmetrics.bench.timing import operations, race
from ptmetrics.bench.updates import beside

BATCH = torch.eye(3), torch.tensor([0, 1, 1])


@pytest.fixture(autouse=True)
def _few_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    # The other three take seconds to import; the real run is `make bench-metrics`.
    monkeypatch.setattr(peers, "PEERS", {"scikit-learn": "sklearn.metrics", "torcheval": "no.such.module"})
    monkeypatch.setattr(metrics, "PEERS", peers.PEERS)


def test_a_quick_run_measures_every_part_and_names_the_peer_that_is_missing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert metrics.main(["--quick", "--json", "--threads", "1", "--scores", "2000"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["threads"], result["not_installed"]) == (1, ["torcheval"])
    assert {row["section"].split(",")[0] for row in result["updates"]} == {
        "multiclass", "confusion", "binary", "multilabel", "regression",
    }  # fmt: skip
    assert all(row["microseconds"][0] > 0 and row["operations"] > 0 for row in result["updates"])
    mine, sklearn = result["curves"]
    assert (mine["side"], sklearn["side"]) == ("ptmetrics", "scikit-learn")
    assert all(error <= bound for error, bound in zip(mine["error"], mine["bound"], strict=True))
    assert max(sklearn["error"]) < 1e-12
    first, second = (row["state_bytes"]["ptmetrics"] for row in result["state_bytes"])
    assert first == second


def test_the_printed_table_says_threads_ratios_and_what_is_missing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert metrics.main(["--quick", "--scores", "500"]) == 0
    text = capsys.readouterr().out
    for words in (
        "not installed: torcheval",
        "threads",
        "x1.00",
        "operations",
        "certified",
        "bytes of state",
    ):
        assert words in text


def test_a_peer_whose_number_is_another_is_told() -> None:
    wrong = Side(
        "peer", lambda preds, target: None, lambda: {"accuracy": 0.5, "confusion": [[0]], "other": 1.0}
    )
    sides = [ours("ptmetrics", MulticlassMetrics(3)), wrong]
    mine, peer = beside("section", sides, BATCH, BATCH, rounds=1)
    assert mine.differs == {}
    assert set(peer.differs) == {"accuracy", "confusion"}
    assert peer.differs["accuracy"] == (pytest.approx(2 / 3), 0.5)
    assert peer.compared == ("accuracy", "confusion")
    assert "DIFFERS: accuracy, confusion" in metrics._agreement(peer)


def test_only_peers_that_can_be_imported_take_part() -> None:
    modules, missing = installed(("scikit-learn", "torcheval"))
    assert (list(modules), missing) == (["scikit-learn"], ["torcheval"])


def test_a_peer_computes_the_scores_that_we_have_too_and_no_other() -> None:
    made: list[str] = []

    def metric(name: str) -> type:
        return lambda *args, **kwargs: made.append(name) or SimpleNamespace(update=lambda *batch: None)  # type: ignore

    names = ("Accuracy", "Precision", "Recall", "ConfusionMatrix", "TopKCategoricalAccuracy")
    ignite = SimpleNamespace(**{name: metric(name) for name in names})
    (side,) = peers.sides({"pytorch-ignite": ignite}, "multiclass", 3, ["accuracy", "recall/macro", "nll"])
    assert side.name == "pytorch-ignite"
    assert made == ["Accuracy", "Recall"]


def test_sides_take_turns_and_each_is_timed_once_a_round() -> None:
    calls: list[str] = []
    times = race(
        {name: lambda name=name: calls.append(name) for name in "ab"}, rounds=2, least_s=0, count=False
    )
    assert calls[4:] == ["a", "b", "b", "a"]
    assert all(t.low_us <= t.median_us <= t.high_us and t.operations is None for t in times.values())


def test_views_are_no_operations() -> None:
    x = torch.zeros(2, 3)
    assert operations(lambda: x.mT.contiguous().add_(1).unsqueeze(0)) == 2
    assert operations(lambda: x.mT[1:].expand(2, 2, 2)) == 0


def test_the_exact_values_are_those_of_scikit_learn_with_ties() -> None:
    g = torch.Generator().manual_seed(0)
    preds, target = torch.randint(20, (500,), generator=g).float(), torch.randint(2, (500,), generator=g)
    expected = roc_auc_score(target, preds), average_precision_score(target, preds)
    assert exactly(preds, target) == pytest.approx(expected, rel=1e-13)
