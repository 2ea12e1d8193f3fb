"""Two ranks under Lightning count each sample once, though its samplers repeat one."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("lightning")

SCRIPT = """
import json, sys
import lightning, torch
from plain_loop import loader
from test_lightning import Module, Parts, callback

class Tell(lightning.Callback):
    def teardown(self, trainer, module, stage):
        monitor = watched.monitor
        scores = monitor.scores
        found = {
            "rows": {name: scores[name].n for name in scores if name.endswith("/accuracy")},
            "faults": [repr(fault) for fault in monitor.faults.all()],
            "notes": [note["message"] for note in monitor.history.notes],
        }
        with open(f"{sys.argv[1]}/rank{trainer.global_rank}.json", "w") as file:
            json.dump(found, file)

class OwnAnswers(Parts):
    def training_step(self, batch, number):
        logits = self(batch[0])
        return {"loss": torch.nn.functional.cross_entropy(logits, batch[1]), "logits": logits}

    def validation_step(self, batch, number, dataloader_idx=0):
        self(batch[0])

KINDS = {"one part": Module, "parts": Parts, "answers of the steps": OwnAnswers}
watched = callback()
lightning.Trainer(
    accelerator="cpu", devices=2, strategy="ddp_fork", max_epochs=2, logger=False,
    enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    callbacks=[watched, Tell()], val_check_interval=1,
).fit(KINDS[sys.argv[2]](), loader(61, 1), [loader(31, 2), loader(23, 3)])
"""


def told(folder: Path, kind: str) -> list[dict[str, Any]]:
    """What both ranks have counted and noted with a module of this kind."""
    here = Path(__file__).parent
    start = f"import sys; sys.path[:0] = [{str(here)!r}, {str(here.parents[1])!r}]\n"
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", start + SCRIPT, str(folder), kind],
        check=True,
        timeout=120,
        capture_output=True,
    )
    return [json.loads((folder / f"rank{rank}.json").read_text()) for rank in (0, 1)]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["one part", "parts", "answers of the steps"])
def test_rows_that_a_sampler_repeats_for_another_rank_are_left_out(
    kind: str, tmp_path: Path
) -> None:
    first, second = told(tmp_path, kind)
    assert first == second
    assert first["rows"] == {"train/accuracy": 61, "val/accuracy": 31, "val_1/accuracy": 23}
    assert first["faults"] == first["notes"] == []
