"""`ptmetrics bench` works on tiny sizes, says who is missing, and whose numbers are not ours."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from sklearn.metrics import average_precision_score, roc_auc_score

from ptmetrics import MulticlassMetrics
from ptmetrics.bench import peers
from ptmetrics.bench.curves import exact_curves
from ptmetrics.bench.machine import processor
from ptmetrics.bench.peers import Competitor, installed, our_side, peer_sides, plain_pytorch
from ptmetrics.bench.report import update_text
from ptmetrics.bench.timing import operations, paired, quartiles, race
from ptmetrics.bench.updates import class_batch, equal_scores, side_by_side
from ptmetrics.cli import main

BATCH = torch.eye(3), torch.tensor([0, 1, 1])


@pytest.fixture(autouse=True)
def _few_peers(monkeypatch: pytest.MonkeyPatch) -> None:
    # The others take seconds to import; the real run is `make bench`.
    monkeypatch.setattr(
        peers, "PEERS", {"scikit-learn": "sklearn.metrics", "torcheval": "no.such.module"}
    )


@pytest.mark.slow
def test_a_quick_run_measures_every_part_and_writes_the_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", "--quick", "--json", "--threads", "1", "--out", str(tmp_path)]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["setting"]["not_installed"] == ["torcheval"]
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
    assert {(row["phase"], row["side"]) for row in result["loops"]} == {
        (phase, side) for phase in ("train", "val") for side in ("bare loop", "ptmetrics")
    }
    page = (tmp_path / "BENCHMARKS.md").read_text()
    assert all(f"| {bar['what']} |" in page for bar in result["bars"])
    assert "## On a GPU\n\nNot measured: no CUDA device." in page


def test_a_peer_whose_number_is_another_is_told() -> None:
    wrong = Competitor(
        "peer",
        lambda preds, target: None,
        lambda: {"accuracy": 0.5, "confusion": [[0]], "other": 1.0},
    )
    sides = [our_side("ptmetrics", MulticlassMetrics(3)), wrong]
    mine, peer = side_by_side("section", sides, BATCH, BATCH, rounds=1)
    assert mine.differs == {}
    assert set(peer.differs) == {"accuracy", "confusion"}
    assert peer.differs["accuracy"] == (pytest.approx(2 / 3), 0.5)
    assert peer.compared == ("accuracy", "confusion")
    assert "DIFFERS: accuracy, confusion" in "\n".join(update_text([mine, peer]))


class Wrong:
    """A metric of a peer that is always wrong."""

    def __init__(self, *arguments: object, **options: object) -> None: ...

    def update(self, *batch: torch.Tensor) -> None: ...

    def compute(self) -> torch.Tensor:
        return torch.tensor(-1.0)

    def state_dict(self) -> dict[str, torch.Tensor]:
        return {}


@pytest.mark.parametrize("part", ["--metrics", "--device=cuda"])
def test_a_run_in_which_numbers_differ_exits_1(
    part: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = ModuleType("wrong")
    wrong.__getattr__ = lambda name: Wrong  # type: ignore[method-assign]
    monkeypatch.setitem(sys.modules, "wrong", wrong)
    monkeypatch.setattr(peers, "PEERS", {"torcheval": "wrong"})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(["bench", "--quick", part]) == 1
    assert "DIFFERS: accuracy" in capsys.readouterr().out


def test_only_peers_that_can_be_imported_take_part() -> None:
    modules, missing = installed()
    assert (list(modules), missing) == (["scikit-learn"], ["torcheval"])


def test_a_peer_computes_the_scores_that_we_have_too_and_no_other() -> None:
    made: list[str] = []
    given: list[tuple[object, ...]] = []

    def maker(name: str) -> Callable[..., SimpleNamespace]:
        def make(*arguments: object, **options: object) -> SimpleNamespace:
            made.append(name)
            return SimpleNamespace(
                update=lambda *batch: given.append(batch), compute=lambda: torch.tensor(0.5)
            )

        return make

    names = ("Accuracy", "Precision", "Recall", "ConfusionMatrix", "TopKCategoricalAccuracy")
    ignite = SimpleNamespace(**{name: maker(name) for name in names})
    modules = {"pytorch-ignite": ignite}
    (side,) = peer_sides(modules, "multiclass", 3, ["accuracy", "recall/macro", "nll"])
    assert side.name == "pytorch-ignite"
    assert made == ["Accuracy", "Recall"]
    side.update(*BATCH)
    assert given == [(BATCH,), (BATCH,)], "ignite takes a batch as one pair"
    assert side.scores() == {"accuracy": 0.5, "recall/macro": 0.5}
    assert peer_sides(modules, "multiclass", 3, ["accuracy"], "cuda") == []


def test_what_is_written_by_hand_has_our_numbers() -> None:
    metrics, batch = MulticlassMetrics(7, topk=(1, 5)), class_batch(50, 7)
    mine, by_hand = (
        our_side("ptmetrics", metrics),
        plain_pytorch(7, ["accuracy", "confusion", "top5_accuracy", "nll"]),
    )
    for side in (mine, by_hand):
        side.update(*batch)
        side.update(*batch)
    theirs = by_hand.scores()
    assert set(theirs) == {"accuracy", "confusion", "top5_accuracy", "nll"}
    assert all(equal_scores(mine.scores()[name], value) for name, value in theirs.items())


def test_sides_take_turns_and_each_is_timed_once_a_round() -> None:
    calls: list[str] = []
    times = race(
        {name: lambda name=name: calls.append(name) for name in "ab"},
        rounds=2,
        least_s=0,
    )
    assert calls[4:] == ["a", "b", "b", "a"]
    assert all(t.microseconds[1] <= t.microseconds[0] <= t.microseconds[2] for t in times.values())


def test_ratios_are_taken_round_by_round_by_the_clock_that_is_given() -> None:
    slow = iter(
        [1, 1, 1, 1, 2, 6, 30, 10]
    )  # warm-up of both; a, b; then the machine is five times slower: b, a
    times = race(
        {"a": lambda: None, "b": lambda: None},
        rounds=2,
        least_s=0,
        clock=lambda call, n: next(slow),
    )
    assert times["b"].ratio == (3.0, 3.0, 3.0)
    assert times["a"].ratio == (1.0, 1.0, 1.0)
    assert paired([2.0, 30.0], [1.0, 10.0]) == (2.5, 2.0, 3.0)


def test_quartiles_leave_a_quarter_on_either_side() -> None:
    assert quartiles([*range(12, -1, -1)]) == (6, 3, 9)
    assert quartiles([3.0]) == (3.0, 3.0, 3.0)


def test_views_are_no_operations() -> None:
    x = torch.zeros(2, 3)
    assert operations(lambda: x.mT.contiguous().add_(1).unsqueeze(0), 3) == 2
    assert operations(lambda: x.mT[1:].expand(2, 2, 2)) == 0


def test_the_exact_values_are_those_of_scikit_learn_with_ties() -> None:
    g = torch.Generator().manual_seed(0)
    preds, target = (
        torch.randint(20, (500,), generator=g).float(),
        torch.randint(2, (500,), generator=g),
    )
    expected = roc_auc_score(target, preds), average_precision_score(target, preds)
    assert exact_curves(preds, target) == pytest.approx(expected, rel=1e-13)


def test_the_processor_is_named_by_its_model_where_the_system_tells_it(tmp_path: Path) -> None:
    told = tmp_path / "cpuinfo"
    told.write_text("processor\t: 0\nmodel name\t: Some  CPU @ 2 GHz\nmodel name\t: Other\n")
    assert processor(told) == "Some CPU @ 2 GHz"
    assert processor(tmp_path / "nothing")
