"""Two ranks under Lightning count each sample once, though its samplers repeat one."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("lightning")

SCRIPT = """
import json, sys
import lightning
from plain_loop import loader
from test_lightning import Module, callback

watched = callback()

class Tell(lightning.Callback):
    def teardown(self, trainer, module, stage):
        scores = watched.monitor.scores
        found = [scores["train/accuracy"].n, scores["val/accuracy"].n]
        with open(f"{sys.argv[1]}/rank{trainer.global_rank}.json", "w") as file:
            json.dump([found, [repr(fault) for fault in watched.monitor.faults.all()]], file)

lightning.Trainer(
    accelerator="cpu", devices=2, strategy="ddp_fork", max_epochs=1, logger=False,
    enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    callbacks=[watched, Tell()],
).fit(Module(), loader(61, 1), loader(31, 2))
"""


@pytest.mark.slow
def test_rows_that_a_sampler_repeats_for_another_rank_are_left_out(tmp_path: Path) -> None:
    here = Path(__file__).parent
    start = f"import sys; sys.path[:0] = [{str(here)!r}, {str(here.parents[1])!r}]\n"
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", start + SCRIPT, str(tmp_path)],
        check=True,
        timeout=120,
        capture_output=True,
    )
    told = [json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in (0, 1)]
    assert told == [[[61, 31], []], [[61, 31], []]]
