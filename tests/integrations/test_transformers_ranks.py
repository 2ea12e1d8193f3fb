"""Two processes under Hugging Face's Trainer count what one does, each row once, and its loss."""

import os
import sys
from pathlib import Path
from typing import Any

import pytest

import ptmetrics as pm

pytest.importorskip("transformers")
pytest.importorskip("accelerate")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

sys.path.append(str(Path(__file__).parents[1] / "distributed"))

from gloo_ranks import run_ranks  # noqa: E402 — of a folder beside this one
from test_transformers import (  # noqa: E402 — needs transformers
    bert,
    callback,
    matrix,
    of_items,
    samples,
    trainer,
)

CASES: dict[str, tuple[int, dict[str, Any]]] = {
    "plain": (48, {}),
    "accumulated": (48, {"gradient_accumulation_steps": 2}),
    "filled up": (41, {"num_train_epochs": 1, "eval_strategy": "steps", "eval_steps": 2}),
}


def trained(rank: int, ranks: int, folder: str) -> dict[str, dict[str, Any]]:
    """What is counted in each case with so many processes, which share batches of 16 rows."""
    for name, value in (("RANK", rank), ("LOCAL_RANK", rank), ("WORLD_SIZE", ranks)):
        os.environ[name] = str(value)  # as their launcher does
    os.environ.update(LOCAL_WORLD_SIZE=str(ranks), MASTER_ADDR="localhost", MASTER_PORT="1")
    return {case: counted(ranks, Path(folder) / f"{case}{ranks}", *CASES[case]) for case in CASES}


def counted(ranks: int, folder: Path, rows: int, options: dict[str, Any]) -> dict[str, Any]:
    watched = callback(folder / "run")
    model = bert(initializer_range=0.3)  # whose answers differ
    beside = {
        "train_dataset": samples(rows, 1),
        "eval_dataset": samples(31, 2),
        "compute_loss_func": of_items,
        "per_device_train_batch_size": 16 // ranks,
        **options,
    }
    trainer(folder, watched, model=model, **beside).train()
    monitor = watched.monitor
    monitor.close()
    return {
        "matrices": {name: s.confusion.tolist() for name, s in monitor.scores.splits.items()},
        "losses": {name: monitor.history[name] for name in ("train/loss", "train/nll", "val/nll")},
        "answers": matrix(model, samples(31, 2)),
        "notes": [note["code"] for note in monitor.history.notes],
        "faults": [repr(fault) for fault in monitor.faults.all()],
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ranks")


@pytest.fixture(scope="module")
def both(folder: Path) -> dict[str, dict[str, Any]]:
    first, second = run_ranks(trained, 2, folder / "two", 2, str(folder))
    assert first == second
    return first


def test_two_processes_count_what_one_does(both: dict[str, dict[str, Any]], folder: Path) -> None:
    (alone,) = run_ranks(trained, 1, folder / "one", 1, str(folder))
    for case in ("plain", "accumulated"):
        found = both[case]
        assert found["faults"] == found["notes"] == []
        assert found["matrices"] == alone[case]["matrices"]
        assert found["matrices"]["val"] == found["answers"]
        losses = found["losses"]
        for name, values in losses.items():
            assert values == pytest.approx(alone[case]["losses"][name], rel=1e-4), name
        assert losses["train/loss"] == pytest.approx(losses["train/nll"], rel=1e-5)
        recorded = pm.read_history(folder / f"{case}2" / "run")  # by rank 0
        assert recorded["train/loss"] == losses["train/loss"]


def test_rows_that_fill_up_the_last_batch_of_a_process_are_left_out(
    both: dict[str, dict[str, Any]], folder: Path
) -> None:
    found = both["filled up"]
    assert found["faults"] == found["notes"] == []
    assert found["matrices"]["val"] == found["answers"]
    recorded = pm.read_history(folder / "filled up2" / "run")
    epochs = recorded.run().epochs
    assert [each["counts"]["train_samples_cumulative"] for each in epochs] == [32, 41]
