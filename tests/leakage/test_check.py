"""A run with rows of validation in training: invalid, by audit or from inside; its clean twin is not."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

import ptmetrics as pm
from ptmetrics.errors import ConfigError
from ptmetrics.leakage import hashes
from ptmetrics.leakage.callback import _add_batch
from ptmetrics.leakage.rules import LEAKAGE_PAGES
from ptmetrics.leakage.samples import Fingerprints
from ptmetrics.record.journal import Journal
from ptmetrics.record.reader import read_run
from ptmetrics.testing import Guard, fake_cuda
from ptmetrics.verdict.judge import evidence_of

CODES = set(LEAKAGE_PAGES)
TRAIN, VAL, CLASSES, FEATURES = 400, 200, 4, 16


def blobs(seed: int = 0, wrong: float = 0.3) -> tuple[TensorDataset, TensorDataset]:
    """Classes that overlap, with labels of which some are wrong: what was trained on shows."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(TRAIN + VAL) % CLASSES
    x = torch.randn(TRAIN + VAL, FEATURES, generator=generator)
    x[torch.arange(len(y)), y] += 1.5
    noisy = torch.rand(len(y), generator=generator) < wrong
    y = torch.where(noisy, torch.randint(CLASSES, (len(y),), generator=generator), y)
    return TensorDataset(x[:TRAIN], y[:TRAIN]), TensorDataset(x[TRAIN:], y[TRAIN:])


def leaky(share: float, noise: float = 0.0) -> tuple[TensorDataset, TensorDataset, list[int]]:
    """Copies of some rows of validation stand at the end of training, thrice."""
    train, val = blobs()
    x, y = val.tensors
    rows = torch.randperm(VAL, generator=torch.Generator().manual_seed(5))[: int(share * VAL)]
    copies = x[rows] + noise * torch.randn(len(rows), FEATURES)
    made = TensorDataset(
        torch.cat([train.tensors[0], copies]), torch.cat([train.tensors[1], y[rows]])
    )
    return made, val, sorted(rows.tolist())


class Augmented(Dataset[Any]):
    def __init__(self, data: TensorDataset) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> Any:
        x, y = self.data[index]
        return x + 0.1 * torch.randn(FEATURES), y


def fit(
    train: Dataset[Any],
    val: Dataset[Any],
    callback: pm.Callback,
    run: Path | None,
    *,
    epochs: int = 3,
    hooks: bool = False,
    shuffle_val: bool = False,
) -> pm.Monitor:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(FEATURES, 256), nn.ReLU(), nn.Linear(256, CLASSES))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    batches = DataLoader(train, 50, shuffle=True)
    monitor = pm.Monitor(
        pm.MulticlassMetrics(CLASSES), run, [callback], on_fault="raise", progress=False
    )
    val_batches = DataLoader(val, 64, shuffle=shuffle_val)
    with monitor.attach(model, criterion=criterion, optimizer=optimizer):
        for _ in range(epochs):
            model.train()
            for x, y in batches if hooks else monitor.train(batches):
                optimizer.zero_grad()
                criterion(model(x), y).backward()
                optimizer.step()
            model.eval()
            with torch.no_grad():
                for x, y in val_batches if hooks else monitor.validate(val_batches):
                    criterion(model(x), y)
            monitor.end_epoch()
    monitor.close()
    return monitor


def leaks(source: Any, **options: Any) -> dict[str, pm.Finding]:
    verdict = pm.judge(source, **options)
    return {item.code: item for item in verdict.findings if item.code in CODES}


def notes(source: Any) -> str:
    return "\n".join(pm.judge(source).notes)


def test_five_percent_exact_copies_make_a_run_invalid_with_pairs_and_a_clean_score(
    tmp_path: Path,
) -> None:
    train, val, rows = leaky(0.05)
    audit = pm.audit(train, val, progress=False)
    assert audit.leaked == rows
    monitor = fit(train, val, pm.LeakageCheck(audit), tmp_path / "run", epochs=25)
    assert pm.judge(tmp_path / "run").status == "invalid"
    found = leaks(tmp_path / "run")
    assert set(found) == {"leakage-exact"}
    finding = found["leakage-exact"]
    assert finding.severity == "invalid"
    assert finding.evidence["rows"] == len(rows)
    assert finding.evidence["pairs"] == [list(pair) for pair in audit.exact[:5]]
    assert f"train {audit.exact[0][0]} = val {audit.exact[0][1]}" in finding.message
    assert "as its first epoch served them" not in finding.message
    # The clean score is that of the other rows, by the samples themselves.
    samples = evidence_of(tmp_path / "run").samples().rows
    others = np.setdiff1d(np.arange(VAL), rows)
    right = samples["predicted"] == samples["target"]
    accuracy = finding.evidence["without"]["accuracy"]
    assert accuracy["value"] == pytest.approx(right.mean())
    assert accuracy["clean"]["value"] == pytest.approx(right[others].mean())
    assert accuracy["difference"]["value"] == pytest.approx(right.mean() - right[others].mean())
    assert accuracy["difference"]["low"] <= accuracy["difference"]["value"]
    assert f"accuracy is {right[others].mean():.4f}" in finding.message
    losses = samples["loss"]
    loss = finding.evidence["without"]["loss"]
    assert loss["clean"]["value"] == pytest.approx(losses[others].mean(), rel=1e-3)
    assert "leakage-exact" not in leaks(tmp_path / "run", ignore=["leakage-exact"])
    assert monitor.history["val/accuracy"]


def test_ten_percent_near_copies_make_a_run_invalid(tmp_path: Path) -> None:
    train, val, rows = leaky(0.1, noise=0.02)
    audit = pm.audit(train, val, progress=False)
    fit(train, val, pm.LeakageCheck(audit), tmp_path / "run")
    assert pm.judge(tmp_path / "run").status == "invalid"
    finding = leaks(tmp_path / "run")["leakage-near"]
    assert finding.severity == "invalid"
    assert {row for _, row in audit.near} >= set(rows[:10])
    assert "accuracy" in finding.evidence["without"]


def test_an_audit_that_several_runs_share_is_told_once_and_noted_in_each(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train, val, _ = leaky(0.1)
    audit = pm.audit(train, val, near=False, progress=False)
    other = pm.audit(train, val, near=False, progress=False)
    for name, one in (("a", audit), ("b", audit), ("c", other)):
        monitor = pm.Monitor(
            pm.MulticlassMetrics(2, inputs="labels"), tmp_path / name, [pm.LeakageCheck(one)]
        )
        with monitor:
            monitor.update(torch.tensor([0, 1]), torch.tensor([0, 1]), split="val")
            monitor.end_epoch()
        assert [n["code"] for n in read_run(tmp_path / name).notes].count("leakage-audit") == 1
    assert [r.message.startswith("leakage: val") for r in caplog.records].count(True) == 2


WAYS = {"loaders": {}, "hooks": {"hooks": True}, "memory": {"run": None}}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", ["exact", "near"])
def test_the_callback_finds_copies_from_inside_the_run(way: str, kind: str, tmp_path: Path) -> None:
    train, val, rows = leaky(0.1, noise=0.02 * (kind == "near"))
    options: dict[str, Any] = {"run": tmp_path / "run", **WAYS[way]}
    check = pm.LeakageCheck()
    monitor = fit(train, val, check, **options)
    assert pm.judge(monitor).status == "invalid"
    finding = leaks(monitor)[f"leakage-{kind}"]
    assert finding.evidence["rows"] == pytest.approx(len(rows), abs=1)
    assert ("without" in finding.evidence) == (way != "memory")
    assert check.found["val"].places.startswith("of training, as served")
    assert "numbered as its first epoch served them" in finding.message
    assert check.seconds > 0


@pytest.mark.parametrize("way", WAYS)
def test_a_clean_run_has_no_finding_and_was_checked(
    way: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options: dict[str, Any] = {"run": tmp_path / "run", **WAYS[way]}
    train, val = blobs()
    monitor = fit(train, val, pm.LeakageCheck(), **options)
    assert leaks(monitor) == {}
    assert "NOT CHECKED" not in notes(monitor)
    assert "leakage" not in caplog.text, "nothing is said where nothing was found"


def test_an_augmented_training_set_is_not_checked_and_says_so(tmp_path: Path) -> None:
    train, val, _ = leaky(0.05)
    fit(Augmented(train), val, pm.LeakageCheck(near=False), tmp_path / "run")
    assert leaks(tmp_path / "run") == {}
    assert "leakage-exact: NOT CHECKED, augmented" in notes(tmp_path / "run")


def test_a_view_without_augmentation_is_checked(tmp_path: Path) -> None:
    train, val, rows = leaky(0.05)
    check = pm.LeakageCheck(train_view=train)
    fit(Augmented(train), val, check, tmp_path / "run", epochs=1)
    assert check.found["val"].exact == pm.audit(train, val, progress=False).exact
    assert leaks(tmp_path / "run")["leakage-exact"].evidence["rows"] == len(rows)


def test_a_view_that_is_augmented_itself_is_no_view(tmp_path: Path) -> None:
    train, val, _ = leaky(0.05)
    fit(train, val, pm.LeakageCheck(train_view=Augmented(train)), tmp_path / "run", epochs=1)
    assert leaks(tmp_path / "run") == {}
    assert "NOT CHECKED, augmented: train_view changes" in notes(tmp_path / "run")


def test_one_epoch_does_not_show_whether_training_is_augmented(tmp_path: Path) -> None:
    train, val = blobs()
    fit(train, val, pm.LeakageCheck(), tmp_path / "clean", epochs=1)
    assert "served no rows twice" in notes(tmp_path / "clean")
    train, val, rows = leaky(0.05)
    fit(train, val, pm.LeakageCheck(), tmp_path / "leaky", epochs=1)
    assert leaks(tmp_path / "leaky")["leakage-exact"].evidence["rows"] == len(rows)


def by_steps(train: Dataset[Any], val: Dataset[Any], every: int) -> tuple[pm.Monitor, pm.Audit]:
    """A loop of 40 steps of 40 rows that asks for a validation every so many steps."""
    check = pm.LeakageCheck()
    monitor = pm.Monitor(
        pm.MulticlassMetrics(CLASSES), callbacks=[check], on_fault="raise", progress=False
    )
    torch.manual_seed(0)
    model = nn.Linear(FEATURES, CLASSES)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    criterion = nn.CrossEntropyLoss()
    batches = DataLoader(train, 40, shuffle=True)
    with monitor.attach(model, criterion=criterion, optimizer=optimizer):
        served = (batch for _ in range(10) for batch in batches)
        for _, (x, y) in zip(range(40), served, strict=False):
            criterion(model.train()(x), y).backward()
            optimizer.step()
            if monitor.every(steps=every):
                with torch.no_grad():
                    for x, y in DataLoader(val, 64):
                        criterion(model.eval()(x), y)
    monitor.close()
    return monitor, check.found["val"]


@pytest.mark.parametrize("every", [5, 10, 13])
def test_a_loop_by_steps_is_looked_at_until_training_comes_again(every: int) -> None:
    """Epochs of so many steps serve other rows each, which once was taken for augmentation."""
    train, val, rows = leaky(0.05)
    assert by_steps(train, val, every)[1].leaked == rows
    monitor, found = by_steps(*blobs(), every)
    assert leaks(monitor) == {}
    assert not {"exact", "near"} & found.not_checked.keys()
    monitor, found = by_steps(Augmented(train), val, every)
    assert leaks(monitor) == {}
    assert "served no rows twice" in found.not_checked["exact"]


def test_a_loop_that_shows_no_inputs_is_not_checked() -> None:
    monitor = pm.Monitor(pm.MulticlassMetrics(2), callbacks=[pm.LeakageCheck()], progress=False)
    for split in ("train", "val"):
        monitor.update(torch.eye(2), torch.tensor([0, 1]), split=split)
    monitor.end_epoch()
    monitor.close()
    assert "NOT CHECKED, the loop shows no inputs" in notes(monitor)


def test_a_validation_in_another_order_is_told_without_a_clean_score(tmp_path: Path) -> None:
    train, val, rows = leaky(0.05)
    audit = pm.audit(train, val, progress=False)
    fit(train, val, pm.LeakageCheck(audit), tmp_path / "run", shuffle_val=True)
    finding = leaks(tmp_path / "run")["leakage-exact"]
    assert finding.severity == "invalid"
    assert "came in another order" in finding.message
    assert "without" not in finding.evidence
    assert len(rows) == finding.evidence["rows"]


def test_repeats_and_conflicts_within_validation_are_findings(tmp_path: Path) -> None:
    train, val = blobs()
    x, y = (each.clone() for each in val.tensors)
    x[:10] = x[50:60]
    y[0] = (y[50] + 1) % CLASSES
    y[1:10] = y[51:60]
    twice = TensorDataset(x, y)
    fit(train, twice, pm.LeakageCheck(), tmp_path / "run")
    found = leaks(tmp_path / "run")
    assert set(found) == {"val-duplicates", "label-conflict"}
    assert found["val-duplicates"].severity == "warning"
    assert found["label-conflict"].evidence["rows"] == 1
    assert "val 0 = val 50" in found["label-conflict"].message


def test_one_leaked_row_of_many_is_a_warning(tmp_path: Path) -> None:
    train, val, _ = leaky(0.005)
    fit(train, val, pm.LeakageCheck(), tmp_path / "run")
    assert leaks(tmp_path / "run")["leakage-exact"].severity == "warning"


def test_several_validations_of_the_first_epoch_are_compared_by_their_last(tmp_path: Path) -> None:
    train, val, rows = leaky(0.1)
    check = pm.LeakageCheck()
    monitor = pm.Monitor(
        pm.MulticlassMetrics(CLASSES), tmp_path / "run", [check], on_fault="raise", progress=False
    )
    model = nn.Linear(FEATURES, CLASSES)
    with monitor.attach(model):
        for x, _ in monitor.train(DataLoader(train, 64)):
            model.train()(x)
        for _ in range(2):
            for x, _ in monitor.validate(DataLoader(val, 64)):
                model.eval()(x)
        monitor.end_epoch()
    assert check.found["val"].leaked == rows


def test_arguments_that_exclude_each_other_are_refused() -> None:
    train, val = blobs()
    audit = pm.audit(train, val, progress=False)
    with pytest.raises(ConfigError, match="audit, train_view: expected one of them, got both"):
        pm.LeakageCheck(audit, train_view=train)


def test_the_users_random_numbers_and_weights_are_untouched() -> None:
    train, val = blobs()

    def after(callback: pm.Callback) -> list[Any]:
        monitor = fit(train, val, callback, None)
        assert monitor.model is not None
        return [monitor.model.state_dict(), torch.get_rng_state()]

    (plain, state), (checked, state_too) = after(pm.Callback()), after(pm.LeakageCheck())
    assert torch.equal(state, state_too)
    assert all(torch.equal(plain[name], checked[name]) for name in plain)


@pytest.mark.parametrize(
    "change",
    [
        {"leaked": [-1]}, {"leaked": "all"}, {"parts": {"exact": {"rows": 5, "of": 2}}},
        {"parts": {"exact": {"rows": 1}}}, {"parts": 3}, {"targets": 7}, {"split": None}, {"refused": [1]},
    ],
)  # fmt: skip
def test_a_forged_note_is_a_contradiction_and_no_crash(
    change: dict[str, Any], tmp_path: Path
) -> None:
    train, val, _ = leaky(0.05)
    note = pm.audit(train, val, progress=False).to_record()
    (tmp_path / "run").mkdir()
    journal = Journal(tmp_path / "run")
    journal.append("header", {})
    journal.append("note", {"code": "leakage-audit", "message": "m", **note, **change})
    journal.append("epoch", {"epoch": 0, "scores": {}})
    journal.close()
    codes = {finding.code for finding in pm.judge(tmp_path / "run").findings}
    assert "rule-failed" not in codes
    assert codes & {"contradiction", "damaged-record"}


def test_hashing_on_a_device_waits_for_nothing_once_a_shape_was_seen() -> None:
    def batch(rows: int) -> Any:
        return torch.zeros(rows, 3, 16, 16, device="cuda"), torch.zeros(rows, device="cuda")

    kept = Fingerprints("val")
    with fake_cuda():
        _add_batch(kept, batch(8))
        with Guard() as guard:
            _add_batch(kept, batch(8))
            _add_batch(kept, batch(3))
    for cache in (hashes._factors, hashes._salt):
        cache.cache_clear()
    assert kept.rows == 19
    assert len(guard.names) > 0
