"""Lines that a script needs: four in a plain loop, one callback in Lightning and in the Trainer."""

from pathlib import Path

import pytest
import torch

import ptmetrics as pm

ROOM = Path(pm.__file__).parent / "integrations"

PLAIN = """
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
import ptmetrics as pm  # +

x = torch.randn(60, 4)
train = DataLoader(TensorDataset(x, (x[:, 0] > 0).long()), batch_size=16)
model = nn.Linear(4, 2)
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
monitor = pm.Monitor(pm.MulticlassMetrics(2), run="run")  # +
monitor.attach(model, criterion=criterion, optimizer=optimizer)  # +
for epoch in range(2):
    model.train()
    for x, y in train:
        optimizer.zero_grad()
        criterion(model(x), y).backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        for x, y in train:
            criterion(model(x), y)
    monitor.end_epoch()  # +
"""
LIGHTNING = """
import lightning as L
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
import ptmetrics as pm  # import
from ptmetrics.integrations.lightning import MonitorCallback  # import

class Module(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.model = nn.Linear(4, 2)
        self.loss = nn.CrossEntropyLoss()

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = self.loss(self.model(x), y)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        x, y = batch
        self.log("val_loss", self.loss(self.model(x), y))

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=1e-2)

x = torch.randn(60, 4)
train = DataLoader(TensorDataset(x, (x[:, 0] > 0).long()), batch_size=16)
trainer = L.Trainer(
    max_epochs=2,
    accelerator="cpu",
    logger=False,
    enable_checkpointing=False,
    enable_progress_bar=False,
    callbacks=[
        MonitorCallback(pm.MulticlassMetrics(2), run="run"),  # +
    ],
)
trainer.fit(Module(), train, train)
"""
TRANSFORMERS = """
import torch
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments
import ptmetrics as pm  # import
from ptmetrics.integrations.transformers import MonitorCallback  # import

ids = torch.randint(0, 20, (40, 6))
data = [{"input_ids": row, "labels": row[0] % 2} for row in ids]
small = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32)
model = BertForSequenceClassification(BertConfig(vocab_size=20, **small))
arguments = TrainingArguments(
    "trainer", num_train_epochs=2, eval_strategy="epoch", save_strategy="no", report_to=[],
    use_cpu=True, disable_tqdm=True,
)
trainer = Trainer(
    model,
    arguments,
    train_dataset=data,
    eval_dataset=data,
    callbacks=[
        MonitorCallback(pm.MulticlassMetrics(2), run="run"),  # +
    ],
)
trainer.train()
"""
SCRIPTS = {
    "plain": (PLAIN, 4, "torch"),
    "lightning": (LIGHTNING, 1, "lightning"),
    "transformers": (TRANSFORMERS, 1, "transformers"),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", SCRIPTS)
@pytest.mark.slow
def test_a_script_takes_so_many_lines_and_no_other(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script, most, library = SCRIPTS[name]
    pytest.importorskip(library)
    lines = script.splitlines()
    added = [line for line in lines if line.endswith("  # +")]
    assert len(added) <= most
    words = ("pm.", "ptmetrics", "monitor", "MonitorCallback")
    others = [line for line in lines if not line.endswith(("  # +", "  # import"))]
    assert not [line for line in others if any(word in line for word in words)]
    monkeypatch.chdir(tmp_path)
    with torch.random.fork_rng(devices=[]):
        exec(compile(script, f"{name}.py", "exec"), {"__name__": "script"})
        exec(compile("\n".join(others), f"{name} alone", "exec"), {"__name__": "script"})
    history = pm.read_history("run")
    assert len(history["train/accuracy"]) == 2
    assert len(history["val/accuracy"]) == 2


def test_an_integration_is_a_thin_table_of_events() -> None:
    libraries = ("accelerate", "ignite", "lightning", "transformers", "trainer", "handed")
    files = [path for path in ROOM.glob("*.py") if path.stem.startswith(libraries)]
    assert len(files) == 10
    lengths = {path.name: len(path.read_text(encoding="utf-8").splitlines()) for path in files}
    assert {name: lines for name, lines in lengths.items() if lines > 80} == {}
