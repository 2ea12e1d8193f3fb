"""Examples do what they claim: the drop-in is four lines and changes nothing else; the others end as they say."""

import ast
import json
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import ptmetrics as pm
from ptmetrics.record.history import read_history

EXAMPLES = Path(__file__).parents[1] / "examples"
DROP_IN = EXAMPLES / "drop_in.py"


def trained(script: str, folder: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> str:
    """Run a script for two epochs; the sum over its weights, exactly."""
    assert "range(8)" in script
    path = folder / "script.py"
    path.write_text(script.replace("range(8)", "range(2)"))
    monkeypatch.setattr(sys, "argv", [str(path), *arguments])
    with torch.random.fork_rng(devices=[]):
        left = runpy.run_path(str(path), run_name="__main__")
    weights = [parameter.detach().double() for parameter in left["model"].parameters()]
    return float(sum(weight.abs().sum() for weight in weights)).hex()


@pytest.mark.fault(34)
def test_the_drop_in_is_four_lines_and_leaves_the_weights_bit_for_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = DROP_IN.read_text().splitlines(keepends=True)
    added = [line for line in lines if line.rstrip().endswith("# +")]
    assert len(added) == 4
    assert not any("monitor" in line or "pm." in line for line in lines if line not in added)
    plain = "".join(line for line in lines if line not in added)
    with_us = trained("".join(lines), tmp_path, monkeypatch, str(tmp_path / "run"))
    assert with_us == trained(plain, tmp_path, monkeypatch)
    assert len(read_history(tmp_path / "run")["val/accuracy"]) == 2


def run_example(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Run a script as `python examples/NAME.py FOLDER`; what it leaves."""
    path = EXAMPLES / f"{name}.py"
    monkeypatch.setattr(sys, "argv", [str(path), str(folder)])
    with torch.random.fork_rng(devices=[]):
        left = runpy.run_path(str(path), run_name="__main__")
    assert (folder / "report.html").exists()
    return left


def codes(verdict: pm.Verdict) -> set[str]:
    return {finding.code for finding in verdict.findings}


@pytest.mark.slow
def test_medicine_keeps_its_recall_at_the_advised_threshold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    left = run_example("medical_recall", tmp_path, monkeypatch)
    assert left["advice"].certified
    assert left["advice"].probability < 0.5
    assert left["verdict"].profile == "recall-first"
    assert left["verdict"].status == "ready"
    assert left["last"].scores["test/recall"].low >= 0.9
    assert "ready (profile recall-first)" in capsys.readouterr().out


@pytest.mark.slow
def test_the_accuracy_paradox_is_found_and_mended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = run_example("fraud_imbalanced", tmp_path, monkeypatch)
    quick = left["quick"].scores
    assert quick["val/accuracy"] > 0.97
    assert quick["val/recall"].high < 0.5
    assert left["paradox"].status == "not ready"
    assert {"accuracy-paradox", "low-recall"} <= codes(left["paradox"])
    assert not {"accuracy-paradox", "low-recall", "no-skill"} & codes(left["verdict"])
    assert left["verdict"].status in {"ready", "undetermined"}
    assert left["final"].scores["test/recall"].low > quick["val/recall"].high


@pytest.mark.slow
def test_precision_first_is_met_at_the_advised_threshold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = run_example("spam_precision", tmp_path, monkeypatch)
    assert left["advice"].certified
    assert left["verdict"].profile == "precision-first"
    scores = left["last"].scores
    assert scores["test/precision"].low >= 0.9
    assert scores["test/precision"] > left["monitor"].scores["val/precision"]
    assert "low-precision" not in codes(left["verdict"])


@pytest.mark.slow
def test_regression_beats_the_mean_and_leaves_its_r2_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = run_example("regression", tmp_path, monkeypatch)
    states = {criterion.name: criterion.state for criterion in left["verdict"].criteria}
    assert states["r2 above predicting the mean"] == "met"
    assert states["r2"] == "undetermined"
    assert left["verdict"].status == "undetermined"
    assert left["scores"]["val/mae"].high < left["of_mean"]["val/mae"].low


@pytest.mark.slow
def test_planted_copies_make_a_run_invalid_and_without_them_it_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = run_example("leakage", tmp_path, monkeypatch)
    assert left["audit"].exact == [(1300 + row, row) for row in range(20)]
    planted = {(1300 + row, row) for row in range(20, 40)}
    assert len(planted & set(left["audit"].near)) >= 12
    assert left["spoilt"].status == "invalid"
    assert {"leakage-exact", "leakage-near"} <= codes(left["spoilt"])
    assert left["check"].found["val"].exact == []
    assert not {"leakage-exact", "leakage-near"} & codes(left["verdict"])
    assert left["verdict"].status == "ready"


@pytest.mark.slow
def test_a_language_model_is_judged_by_its_perplexity(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = run_example("causal_lm", tmp_path, monkeypatch)
    perplexity = left["monitor"].scores["val/perplexity"]
    assert 1 < perplexity.high < 20
    assert perplexity.n == len(left["val_loader"].dataset) * (left["LENGTH"] - 1)
    assert left["verdict"].profile == "custom"
    assert left["verdict"].status == "ready"
    assert any("intervals are by" in note for note in left["verdict"].notes)
    assert "high-perplexity" not in codes(left["verdict"])


@pytest.mark.slow
def test_segmentation_is_judged_by_overlap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left = run_example("segmentation", tmp_path, monkeypatch)
    scores = left["monitor"].scores
    assert scores["val/mean_iou"].low > 0.5
    assert scores["val/dice/image"].n == 150
    assert left["verdict"].status == "ready"


def test_the_notebook_holds_no_output_and_its_cells_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notebook = json.loads((EXAMPLES / "notebook.ipynb").read_text(encoding="utf-8"))
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "__main__"}
    shown = []
    with torch.random.fork_rng(devices=[]):
        for cell in cells:
            tree = ast.parse("".join(cell["source"]))
            last = tree.body[-1]
            if isinstance(last, ast.Expr):
                tree.body.pop()
                exec(compile(tree, "notebook", "exec"), names)
                shown.append(eval(compile(ast.Expression(last.value), "notebook", "eval"), names))
            else:
                exec(compile(tree, "notebook", "exec"), names)
    kinds = [type(value).__name__ for value in shown[:4]]
    assert kinds == ["Monitor", "Scores", "Verdict", "Comparison"]
    assert all("<" in value._repr_html_() for value in shown[:4])
    assert shown[4].exists()


def test_every_example_stands_in_their_readme() -> None:
    text = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    for path in [*EXAMPLES.glob("*.py"), *EXAMPLES.glob("*.ipynb")]:
        assert f"]({path.name})" in text, path.name


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("name", "library"), [("lightning", "lightning"), ("huggingface", "transformers")]
)
def test_an_example_of_a_trainer_ends_with_its_verdict(
    name: str,
    library: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip(library)
    script = DROP_IN.with_name(f"{name}_example.py")
    monkeypatch.setattr(sys, "argv", [str(script), str(tmp_path / "run")])
    monkeypatch.chdir(tmp_path)
    with torch.random.fork_rng(devices=[]):
        runpy.run_path(str(script), run_name="__main__")
    assert "(profile balanced)" in capsys.readouterr().out
    assert read_history(tmp_path / "run")["val/accuracy"][-1] > 0.8
