"""The drop-in example: four lines more than the plain script, and nothing else changes."""

import runpy
import sys
from pathlib import Path

import pytest
import torch

from ptmetrics.record.history import read_history

DROP_IN = Path(__file__).parents[1] / "examples" / "drop_in.py"


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
